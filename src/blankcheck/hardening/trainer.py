"""Training on real images and fooling images side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.certifying import Penalty
from blankcheck.classifiers.precision import Precision
from blankcheck.classifiers.training import batches, moved, random_moves
from blankcheck.data import Split
from blankcheck.hardening.context import SourceContext
from blankcheck.hardening.measures import answers
from blankcheck.hardening.metric_sums import MetricSums, Trained
from blankcheck.hardening.objectives import confidence_margin_loss, objective_named
from blankcheck.hardening.shaking import random_shakes, shaken
from blankcheck.hardening.sources import Found, NoImages
from blankcheck.outputs import run

Watch = Callable[[int, int, str], None]
"""Called as watch(batch, batches of the round, words)."""
REAL = ("loss", "accuracy", "probability")
PROVED_EVERY = 2
"""Batches from one bound to the next, which moves little and costs ten times a batch."""
UNSURE = 0.065
"""The share of real images not surely right up to which all sureness is asked for. After 10 epochs
plain networks leave 1.7 % on MNIST and 20 % on Fashion-MNIST."""


class Trainer:
    """Optimiser, learning rate and batches of a hardening.

    Args:
        context: the network and the plan.
        data: real images to train on.
        common: draws that all processes make alike; `context.generator` makes the others.
        penalty: on what is not proved, where a proof is asked for.
    """

    def __init__(
        self, context: SourceContext, data: Split, common: torch.Generator, penalty: Penalty | None
    ) -> None:
        self.context, self.data, self.common, self.penalty = context, data, common, penalty
        self.plan, self.peers, self.classifier = context.plan, context.peers, context.classifier
        self.objective = objective_named(self.plan.objective)
        self.shared, self.sureness = self.peers.distribute(self.classifier), self.plan.sureness
        self.first = _copied(self.classifier.state_dict())
        self.average: dict[str, Tensor] | None = None
        self._begin(self.plan.epochs)

    def _begin(self, epochs: int) -> None:
        self.precision = Precision(self.plan.precision, self.context.device)
        training = replace(self.plan.training, epochs=epochs)
        self.optimiser, self.schedule = training.optimiser(self.classifier, len(self.data))

    def start_again(self, epochs: int) -> None:
        """The first weights, a new optimiser, and a schedule of so many epochs."""
        self.classifier.load_state_dict(self.first)
        self.average = None
        self._begin(epochs)

    def begin_average(self) -> None:
        """From here on, unless it has begun, keep an average of the weights, where one is wanted:
        fooling images pull them to and fro, and their middle is surer of real ones (Izmailov et
        al. 2018, arXiv:1803.05407)."""
        if self.average is None and self.plan.average:
            self.average = _copied(self.classifier.state_dict())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The classifier with its averaged weights, if there are any."""
        if self.average is None:
            yield
            return
        own = _copied(self.classifier.state_dict())
        self.classifier.load_state_dict(self.average)
        self.peers.sync_buffers(self.classifier)
        self.average = _copied(self.classifier.state_dict())
        try:
            yield
        finally:
            self.classifier.load_state_dict(own)

    @torch.no_grad()
    def _into_average(self) -> None:
        if self.average is None:
            return
        share = 1 / max(1.0, self.plan.average * self.batches_in(self.plan.epochs))
        for name, tensor in self.classifier.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, share)
            else:  # counts
                self.average[name].copy_(tensor)

    def ease(self, unsure: float) -> None:
        """Ask for less sureness where a share `unsure` of real images is not surely right after
        plain training: most of them cannot be, and insisting on them costs resistance."""
        self.sureness = self.plan.sureness * UNSURE / max(unsure, UNSURE)

    @property
    def progress(self) -> float:
        """The share of the learning rate's schedule that is behind, in [0, 1]."""
        return min(1.0, self.schedule.last_epoch / self.schedule.total_steps)

    @property
    def asked(self) -> float:
        """How much of the proof the training asks for by now, in [0, 1]; 0 where none is wanted."""
        return 0.0 if self.penalty is None else self.penalty.ramp.height(self.progress)

    def batches_in(self, epochs: int) -> int:
        """Batches of so many epochs."""
        return epochs * math.ceil(len(self.data) / self.plan.batch)

    def skip_to_last(self, epochs: int) -> None:
        """Go on as if only so many epochs were left: the learning rate falls to what it is then."""
        last = self.schedule.total_steps - 1 - self.batches_in(epochs)
        self.schedule.last_epoch = max(self.schedule.last_epoch, last)

    def train(self, epochs: int, source: NoImages, keep: int, watch: Watch) -> Trained:
        """So many epochs on real images, and beside each batch the fooling images of `source`.

        Args:
            epochs: 1 or more.
            source: of fooling images.
            keep: how many of these are kept to be shown to later networks, of all processes.
            watch: is told how far it is.

        Raises:
            ModelError: the loss became NaN or infinite.
        """
        count, device = self.batches_in(epochs), self.context.device
        few = 1 + keep // (count * self.peers.size)
        outputs, classes = self.objective.outputs(self.context.classes), self.context.classes
        names = "objective", *self._answers(torch.ones(1, outputs), torch.zeros(1).long())
        real = MetricSums.of(REAL, classes, device)
        seen, done = Trained(real, MetricSums.of(names, classes, device)), 0
        for _ in range(epochs):
            varied = self._variations()
            source.begin_epoch(self.context)
            for index in batches(len(self.data), self.plan.batch, self.common):
                found = source.batch(self.context)
                self._learn(index, varied, found, seen)
                seen.seen += found.seen
                seen.shown.append((found.images[:few].cpu(), found.targets[:few].cpu()))
                done += 1
                if done % 50 == 0:
                    watch(done, count, f"real loss {real.each[-1][0]:.3f}")
        self.peers.sync_buffers(self.classifier)
        return seen.of_all(keep, self.peers, self.common)

    def _answers(self, p: Tensor, targets: Tensor) -> dict[str, Tensor]:
        confidence = self.context.conditions.confidence
        return answers(p, targets, self.objective, self.context.classes, confidence)

    def _variations(self) -> Callable[[Tensor, Tensor], Tensor]:
        """How the real images look in this epoch: from images and their indices to images."""
        n, plan = len(self.data), self.plan
        moves = random_moves(n, self.common) if plan.augment else None
        shakes = random_shakes(n, self.common) if plan.shake else None

        def varied(images: Tensor, index: Tensor) -> Tensor:
            if moves is not None:
                images = moved(images, moves[index].to(images.device))
            return images if shakes is None else shaken(images, shakes[index].to(images.device))

        return varied

    def _learn(
        self, index: Tensor, varied: Callable[[Tensor, Tensor], Tensor], found: Found, seen: Trained
    ) -> None:
        """One step. varied: of `_variations`."""
        part, peers, plan = self.peers.part_of(index), self.peers, self.plan
        labels = self.data.labels[part.index].to(self.context.device)
        images = varied(self.data.images[part.index].to(self.context.device), part.index)
        self.classifier.train()
        if len(index) < 2 and len(index) + min(peers.all_gather(len(found.images))) < 2:
            return  # batch norm cannot take a single image
        with self.precision.passes():
            outputs = run(self.shared, torch.cat([images, found.images]))
        outputs = self.precision.outputs(outputs)
        real, fooling = outputs[: len(labels)], outputs[len(labels) :]
        real_losses = F.cross_entropy(real, labels, reduction="none")
        doubts = confidence_margin_loss(real, labels, self.context.needed)
        losses = self.objective.loss(fooling, found.targets, self.context.classes)
        # divided by the full batch: the weight of a fooling image does not rise as they become rare
        loss = (real_losses.mean() + self.sureness * doubts.mean()) * part.weight
        loss = loss + plan.fooling_weight * (found.weights * losses).sum() / plan.fooling_batch
        if self.penalty is not None and self.schedule.last_epoch % PROVED_EVERY == 0:
            penalty = self.penalty(self.progress)
            seen.penalties.append(penalty.detach())
            # each process has the whole of it, and gradients are added up
            loss = loss + PROVED_EVERY * penalty / peers.size
        # gradients are averaged over processes, and what counts is the sum of all losses
        self.precision.descend(loss * peers.size, self.optimiser)
        self.schedule.step()
        self._into_average()
        with torch.no_grad():
            p = real.softmax(dim=1)
            own, right = p.gather(1, labels[:, None]).squeeze(1), p.argmax(dim=1) == labels
            mine = slice(0, 0 if part.repeated and peers.rank else None)  # what all did counts once
            values = [v[mine] for v in (real_losses, right.float(), own)]
            seen.real.add(values, labels[mine])
            said = self._answers(fooling.softmax(dim=1), found.targets)
            seen.fooling.add([losses, *said.values()], found.targets)

    def state(self) -> dict[str, Any]:
        """Network, optimiser and learning rate; tensors and plain numbers only."""
        schedule = self.schedule.state_dict().items()
        return {
            "classifier": self.classifier.state_dict(),
            "first": self.first,
            "average": self.average,
            "sureness": self.sureness,
            "optimiser": self.optimiser.state_dict(),
            "precision": self.precision.state(),
            "schedule": {k: v for k, v in schedule if isinstance(v, int | float | list)},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self.classifier.load_state_dict(state["classifier"])
        self.first, self.sureness = state["first"], state["sureness"]
        self.average = state["average"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.precision.load(state["precision"])
        self.schedule.load_state_dict(state["schedule"])


def _copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
