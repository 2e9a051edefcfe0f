"""Training on real images and fooling images side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.certifying import Penalty
from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.precision import Precision
from blankcheck.classifiers.training import batches
from blankcheck.classifiers.wrapper import device_of
from blankcheck.data import Split
from blankcheck.errors import ModelError
from blankcheck.fooling import Goal
from blankcheck.hardening.measures import answers
from blankcheck.hardening.objectives import Objective, unsure
from blankcheck.hardening.plan import HardeningPlan
from blankcheck.hardening.sources import Found, Ground, Source
from blankcheck.outputs import run
from blankcheck.parallel.batch_norm import shared_statistics
from blankcheck.parallel.peers import Peers, align, part_of, take_from_first

Watch = Callable[[int, int, str], None]
"""Called as watch(batch, batches of the round, words)."""
REAL = ("loss", "accuracy", "probability")
PROVED_EVERY = 2
"""Batches from one bound to the next: it costs ten times as much as the batch, and moves little
between two of them."""


@dataclass
class Tally:
    """Sums of some named values of images, by class, and their means batch by batch. sums: (K,
    values + 1), the last column counts images, as `counts` does by batch."""

    names: tuple[str, ...]
    sums: Tensor
    each: list[Tensor] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, names: tuple[str, ...], classes: int, device: torch.device) -> Tally:
        """Of nothing yet."""
        return cls(names, torch.zeros(classes, len(names) + 1, device=device, dtype=torch.float64))

    def add(self, values: list[Tensor], classes: Tensor) -> None:
        """One batch: a tensor (n,) for every name, and the class (n,) of each image."""
        rows = torch.stack(
            [*(v.detach().float() for v in values), torch.ones_like(classes, dtype=torch.float32)],
            dim=1,
        )
        self.sums.index_add_(0, classes, rows.double())
        self.each.append(
            rows.mean(dim=0)[:-1] if len(rows) else rows.new_full((len(self.names),), math.nan)
        )
        self.counts.append(len(rows))

    def of_all(self, peers: Peers) -> Tally:
        """The same over the images of all processes."""
        if peers.size == 1:
            return self
        counts = torch.tensor(self.counts, dtype=torch.float64)[:, None]
        means = (
            torch.stack(self.each).double().cpu() if self.each else torch.zeros(0, len(self.names))
        )
        summed = peers.total(torch.where(counts > 0, counts * means, 0.0))
        together = peers.total(counts)
        return Tally(
            self.names,
            peers.total(self.sums),
            list(summed / together),
            together.flatten().int().tolist(),
        )

    def means(self) -> dict[str, Any]:
        """Of all images, and under `per_class` of those of each class that has any."""
        sums = self.sums.cpu()
        per_class = {str(k): self._mean(row) for k, row in enumerate(sums) if row[-1] > 0}
        return {**self._mean(sums.sum(dim=0)), "per_class": per_class}

    def _mean(self, row: Tensor) -> dict[str, Any]:
        n = int(row[-1])
        values = (row[:-1] / n).tolist() if n else [None] * len(self.names)
        return {"images": n, **dict(zip(self.names, values, strict=True))}

    def by_batch(self) -> list[dict[str, float | None]]:
        """The means of every batch; None where it had no image."""
        if not self.each:
            return []
        table = torch.stack(self.each).cpu().tolist()
        return [
            {n: v if math.isfinite(v) else None for n, v in zip(self.names, row, strict=True)}
            for row in table
        ]


@dataclass
class Trained:
    """What a round of training saw. shown: images (n, c, h, w) and targets (n,) of some of the
    fooling images it trained on;
    seen: fooling images looked at. penalty: mean over the batches of the penalty on what is not
    proved; None without one."""

    real: Tally
    fooling: Tally
    shown: tuple[Tensor, Tensor]
    seen: int = 0
    penalty: float | None = None


class Learner:
    """Optimiser, learning rate and batches of a hardening. first: the parameters and buffers it
    began with. common: draws that all processes must make alike, of which `Ground.generator` has
    the others. penalty: on what is not proved, where a proof is asked for."""

    def __init__(
        self,
        classifier: UnitClassifier,
        data: Split,
        objective: Objective,
        classes: int,
        plan: HardeningPlan,
        common: torch.Generator,
        peers: Peers,
        penalty: Penalty | None = None,
    ) -> None:
        self.penalty = penalty
        self.classifier, self.data, self.objective, self.classes, self.plan = (
            classifier,
            data,
            objective,
            classes,
            plan,
        )
        self.common, self.peers = common, peers
        take_from_first((*classifier.parameters(), *classifier.buffers()), peers)
        self.first = {
            name: tensor.detach().clone() for name, tensor in classifier.state_dict().items()
        }
        self._begin(plan.epochs)

    def _begin(self, epochs: int) -> None:
        self.precision = Precision(self.plan.precision, device_of(self.classifier))
        self.optimiser, self.schedule = replace(self.plan.training, epochs=epochs).optimiser(
            self.classifier, len(self.data)
        )

    def start_again(self, epochs: int) -> None:
        """The first weights, a new optimiser, and a schedule of so many epochs."""
        self.classifier.load_state_dict(self.first)
        self._begin(epochs)

    @property
    def progress(self) -> float:
        """The share of the training that is behind, by the schedule of the learning rate, in [0,
        1]."""
        return min(1.0, self.schedule.last_epoch / self.schedule.total_steps)

    @property
    def asked(self) -> float:
        """How much of the proof that is wanted the training asks for by now, in [0, 1]; 0 where
        none is wanted."""
        return 0.0 if self.penalty is None else self.penalty.ramp.height(self.progress)

    def batches_in(self, epochs: int) -> int:
        """Batches of so many epochs."""
        return epochs * math.ceil(len(self.data) / self.plan.batch)

    def skip_to_last(self, epochs: int) -> None:
        """Go on as if only so many epochs were left: the learning rate falls to where the one-cycle
        schedule has it then."""
        self.schedule.last_epoch = max(
            self.schedule.last_epoch, self.schedule.total_steps - 1 - self.batches_in(epochs)
        )

    def train(
        self,
        epochs: int,
        source: Source | None,
        ground: Ground,
        confidence: float,
        keep: int,
        watch: Watch,
    ) -> Trained:
        """So many epochs on real images, and beside each batch the fooling images of `source`.
        keep: how many of those are kept to be shown to later networks, of all processes together.

        Raises ModelError when the loss becomes NaN or infinite, and where the networks of two
        processes differ.
        """
        device, count, peers = device_of(self.classifier), self.batches_in(epochs), self.peers
        few = 1 + keep // (count * peers.size)
        names = tuple(
            answers(
                torch.ones(1, self.objective.outputs(self.classes)),
                torch.zeros(1, dtype=torch.int64),
                self.objective,
                self.classes,
                confidence,
            )
        )
        real, fooling = (
            Tally.of(REAL, self.classes, device),
            Tally.of(("objective", *names), self.classes, device),
        )
        shown, seen, done = [], 0, 0
        penalties: list[Tensor] = []
        for _ in range(epochs):
            for index in batches(len(self.data), self.plan.batch, self.common):
                found = source.batch(ground) if source is not None else Found.nothing(ground)
                penalties += self._learn(index, found, real, fooling, confidence)
                seen += found.seen
                shown.append((found.images[:few].cpu(), found.targets[:few].cpu()))
                done += 1
                if done % 50 == 0:
                    watch(done, count, f"real loss {real.each[-1][0]:.3f}")
            align(self.classifier, peers)
        real, fooling = real.of_all(peers), fooling.of_all(peers)
        if not bool(torch.cat([real.sums.flatten(), fooling.sums.flatten()]).isfinite().all()):
            raise ModelError("hardening loss became NaN or infinite")
        seen = sum(peers.gather(seen))
        images = _some([s for each in peers.gather(shown) for s in each], keep, self.common)
        return Trained(
            real, fooling, images, seen, float(torch.stack(penalties).mean()) if penalties else None
        )

    def _learn(
        self, index: Tensor, found: Found, told_real: Tally, told_fooling: Tally, confidence: float
    ) -> list[Tensor]:
        """One step. The penalty on what is not proved, a scalar, where it was looked at."""
        device, part, peers = found.images.device, part_of(index, self.peers), self.peers
        images, labels = (
            self.data.images[part.index].to(device),
            self.data.labels[part.index].to(device),
        )
        self.classifier.train()
        if len(index) < 2 and len(index) + sum(peers.gather(len(found.images))) < 2:
            return []  # batch norm cannot take a single image
        with shared_statistics(peers), self.precision.passes():
            outputs = run(self.classifier, torch.cat([images, found.images]))
        outputs = self.precision.outputs(outputs)
        real, fooling = outputs[: len(labels)], outputs[len(labels) :]
        real_losses = F.cross_entropy(real, labels, reduction="none")
        doubts = unsure(real, labels, Goal(confidence).target_log_odds)
        losses = self.objective.loss(fooling, found.targets, self.classes)
        # divided by the full batch, so that the weight of one fooling image does not rise as they
        # become rare
        loss = (real_losses.mean() + self.plan.sureness * doubts.mean()) * part.weight
        loss = (
            loss
            + self.plan.fooling_weight * (found.weights * losses).sum() / self.plan.fooling_batch
        )
        penalties = []
        if self.penalty is not None and self.schedule.last_epoch % PROVED_EVERY == 0:
            penalties = [self.penalty(self.progress)]
            # each process has the whole of it, and gradients are added up
            loss = loss + PROVED_EVERY * penalties[0] / peers.size
        self.precision.descend(loss, self.classifier, self.optimiser, peers)
        self.schedule.step()
        with torch.no_grad():
            p = real.softmax(dim=1)
            own = p.gather(1, labels[:, None]).squeeze(1)
            mine = slice(0, 0 if part.repeated and peers.rank else None)  # what all did counts once
            told_real.add(
                [v[mine] for v in (real_losses, (p.argmax(dim=1) == labels).float(), own)],
                labels[mine],
            )
            said = answers(
                fooling.softmax(dim=1), found.targets, self.objective, self.classes, confidence
            )
            told_fooling.add([losses, *said.values()], found.targets)
        return [penalty.detach() for penalty in penalties]

    def state(self) -> dict[str, Any]:
        """Network, optimiser and learning rate; tensors and plain numbers only."""
        return {
            "classifier": self.classifier.state_dict(),
            "first": self.first,
            "optimiser": self.optimiser.state_dict(),
            "precision": self.precision.state(),
            "schedule": {
                k: v
                for k, v in self.schedule.state_dict().items()
                if isinstance(v, int | float | list)
            },
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self.classifier.load_state_dict(state["classifier"])
        self.first = state["first"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.precision.load(state["precision"])
        self.schedule.load_state_dict(state["schedule"])


def _some(
    shown: list[tuple[Tensor, Tensor]], keep: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    images, targets = (torch.cat([each[part] for each in shown]) for part in (0, 1))
    order = torch.randperm(len(targets), generator=generator)[:keep]
    return images[order], targets[order]
