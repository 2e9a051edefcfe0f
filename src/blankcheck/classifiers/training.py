"""Plain training, by AdamW with a one-cycle schedule and so many epochs, and plain evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blankcheck.classifiers.precision import Precision, check_precision
from blankcheck.classifiers.trial import check_trainable
from blankcheck.classifiers.wrapper import batch_size, left_as_found, probabilities
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.outputs import as_logits, run
from blankcheck.parallel.peers import ALONE, Peers
from blankcheck.seeds import own_random_numbers
from blankcheck.types import Classifier, in_pieces

if TYPE_CHECKING:
    from blankcheck.data import Split

MIN_STEPS = 2000
"""Optimiser steps a small data set is trained for at least; `digits` needs about 1,000."""
DEFAULT_EPOCHS = 10
"""Validation accuracy of mnist+cnn is flat from about 6 epochs on."""
MOST_SHIFT = 4
"""Pixels by which an image is shifted at most, to any side (He et al. 2016, section 4.2)."""


@dataclass(frozen=True)
class TrainingPlan:
    """How a network is trained.

    Args:
        epochs: passes over the training images.
        batch: images of an optimiser step, of all processes together.
        lr: peak learning rate of the one-cycle schedule.
        weight_decay: of AdamW.
        precision: `32`, `bf16` or `16`, of the passes of training (`classifiers.precision`).
        augment: whether images are shifted and mirrored at random, which plain training heeds.
    """

    epochs: int
    batch: int = 128
    lr: float = 2e-3
    weight_decay: float = 0.01
    # twins, which have the defaults, are cached by what a plan looks like
    precision: str = field(default="32", repr=False)
    augment: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or self.lr <= 0:
            got = f"{self.epochs}, {self.batch}, {self.lr:g}"
            raise ArgumentError(f"epochs, batch and lr must be positive, got {got}")
        check_precision(self.precision)

    @classmethod
    def default(
        cls, n: int, epochs: int | None = None, usual: int = DEFAULT_EPOCHS
    ) -> TrainingPlan:
        """The plan for `n` training images: `usual` epochs, or more until there are enough steps,
        unless it is said how many."""
        if epochs is not None:
            return cls(epochs)
        steps = max(1, math.ceil(n / cls.batch))
        return cls(max(usual, math.ceil(MIN_STEPS / steps)))

    def optimiser(
        self, network: nn.Module, n: int
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.OneCycleLR]:
        """AdamW and its schedule for `n` images an epoch."""
        decay, schedule = self.weight_decay, torch.optim.lr_scheduler.OneCycleLR
        optimiser = torch.optim.AdamW(network.parameters(), lr=self.lr, weight_decay=decay)
        steps = self.epochs * math.ceil(n / self.batch)
        return optimiser, schedule(optimiser, self.lr, total_steps=max(2, steps))


def batches(n: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Positions 0..n-1 in random order, `size` at a time."""
    yield from torch.split(torch.randperm(n, generator=generator), size)


def random_moves(n: int, generator: torch.Generator) -> Tensor:
    """(n, 3) int64: rows and columns an image is shifted by, 0..2 x `MOST_SHIFT`, and 1 where it is
    mirrored. Drawn for all at once, so that it is moved alike whichever process trains on it."""
    shifts = torch.randint(0, 2 * MOST_SHIFT + 1, (n, 2), generator=generator)
    return torch.cat([shifts, torch.randint(0, 2, (n, 1), generator=generator)], dim=1)


def moved(images: Tensor, moves: Tensor) -> Tensor:
    """Images (n, c, h, w) shifted, by less where they have fewer than five rows or columns, with
    what comes in mirrored at the border; moves: (n, 3) of `random_moves`, on their device."""
    n, c, h, w = images.shape
    most_down, most_across = min(MOST_SHIFT, h - 1), min(MOST_SHIFT, w - 1)
    wide = F.pad(images, (most_across, most_across, most_down, most_down), mode="reflect")
    down, across = moves[:, 0].clamp(max=2 * most_down), moves[:, 1].clamp(max=2 * most_across)
    column = torch.arange(w, device=images.device).expand(n, -1)
    column = torch.where(moves[:, 2, None] == 1, w - 1 - column, column) + across[:, None]
    row = torch.arange(h, device=images.device) + down[:, None]
    each = torch.arange(n, device=images.device)[:, None, None, None]
    channel = torch.arange(c, device=images.device)[:, None, None]
    return wide[each, channel, row[:, None, :, None], column[:, None, None, :]]


def train_plainly(
    network: nn.Module,
    data: Split,
    plan: TrainingPlan,
    seed: int = 0,
    watch: Callable[[int, float], None] | None = None,
    form: str = "logits",
    peers: Peers = ALONE,
) -> None:
    """Train in place with cross-entropy.

    Args:
        network: ends in evaluation mode.
        data: training images.
        plan: how long and how.
        seed: of the order of images, and of what the network draws.
        watch: is told (epoch, mean loss) after each epoch.
        form: of the network's outputs.
        peers: processes that train the same network together, each its part of every batch; the
            steps are those of one process but for rounding, dropout, and batch norm on a CPU.

    Raises:
        ModelError: the loss became NaN or infinite, or there is nothing to train.
    """
    generator = torch.Generator().manual_seed(seed)
    check_trainable(network)
    device = next(network.parameters()).device
    precision = Precision(plan.precision, device)
    shared = peers.distribute(network)
    optimiser, schedule = plan.optimiser(network, len(data))
    network.train()
    with own_random_numbers(peers.own_seed(seed), [device]):  # dropout
        for epoch in range(plan.epochs):
            total = torch.zeros(())
            moves = random_moves(len(data), generator) if plan.augment else None
            for index in batches(len(data), plan.batch, generator):
                part = peers.part_of(index)
                images = data.images[part.index].to(device)
                labels = data.labels[part.index].to(device)
                if len(index) == 1 and plan.batch > 1:
                    continue  # batch norm cannot take a single image
                if moves is not None:
                    images = moved(images, moves[part.index].to(device))
                with precision.passes():
                    outputs = run(shared, images)
                loss = F.cross_entropy(as_logits(outputs, form), labels) * part.weight
                # gradients are averaged, and what counts is the sum of all losses
                precision.descend(loss * peers.size, optimiser)
                schedule.step()
                total += loss.detach().cpu() * len(index)
            mean = float(peers.all_reduce_sum(total)) / len(data)
            if not math.isfinite(mean):
                words = "training loss became NaN or infinite; try a smaller learning rate (--lr)"
                raise ModelError(words)
            if watch is not None:
                watch(epoch, mean)
    peers.sync_buffers(network)
    network.eval()


@dataclass(frozen=True)
class Accuracy:
    """How a classifier does on real images; all are shares of these, in [0, 1].

    Args:
        accuracy: right.
        confident: right, with at least the asked confidence.
        taken_for_fake: answered with an output beyond the real classes.
        mean_confidence: mean of the largest probability.
        renormalised_confident: as confident, of probabilities among the real classes.
        per_class: accuracy by true class; None where there is no image.
    """

    accuracy: float
    confident: float
    taken_for_fake: float
    mean_confidence: float
    renormalised_confident: float
    per_class: tuple[float | None, ...]


def evaluate(
    classifier: Classifier, data: Split, classes: int, confidence: float, form: str = "logits"
) -> Accuracy:
    """Accuracy and confidence on real images, one batch of them in memory at a time."""
    size = batch_size(data.images.shape[1:])
    pieces = zip(in_pieces(data.images, size), torch.split(data.labels, size), strict=True)
    with left_as_found(classifier):
        parts = [_answers(probabilities(classifier, x, form), y, classes) for x, y in pieces]
    top, answer, own = (torch.cat(column) for column in zip(*parts, strict=True))
    right = answer == data.labels
    by_class = [right[data.labels == k].float() for k in range(classes)]
    return Accuracy(
        accuracy=float(right.float().mean()),
        confident=float((right & (top >= confidence)).float().mean()),
        taken_for_fake=float((answer >= classes).float().mean()),
        mean_confidence=float(top.mean()),
        renormalised_confident=float((own >= confidence).float().mean()),
        per_class=tuple(float(each.mean()) if len(each) else None for each in by_class),
    )


def _answers(p: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Each (n,): the largest probability, whose it is, and the label's among the real classes."""
    if p.shape[1] < classes:
        raise ModelError(f"model has {p.shape[1]} outputs, data has {classes} classes")
    top, answer = p.max(dim=1)
    real = p[:, :classes]
    share = real / real.sum(dim=1, keepdim=True).clamp_min(1e-30)
    return top, answer, share.gather(1, labels[:, None]).squeeze(1)
