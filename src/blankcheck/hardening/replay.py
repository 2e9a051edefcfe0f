"""The images being searched while the network trains: each goes on from where it was, and is replaced when old."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.fooling import STARTS, AdaptiveWeight, Look, Problem
from blankcheck.fooling.arithmetic import largest
from blankcheck.fooling.solvers import State
from blankcheck.fooling.starts import Real
from blankcheck.types import stored

MIX = {
    "near-black": 0.15,
    "sparse-noise": 0.2,
    "noise": 0.15,
    "real-target": 0.2,
    "masked-real": 0.15,
    "real-other": 0.15,
}
"""Shares of the kinds of start. One kind hardens against one kind only: from uniform noise alone the network learns to
go flat on noise and stays open everywhere else."""


CAPPED = 0.5


def keep_largest(images: Tensor, keep: Tensor) -> Tensor:
    """Black out all but the `keep` (n,) largest features of each image (n, c, h, w); ties at the border all stay."""
    return images * largest(images.flatten(1), keep, ties=True).view_as(images)


@dataclass
class Replay:
    """images, targets and the step rule's momentum and weight of every image in the buffer, batch first. cap: most lit
    features, reached half-way through an image's life. age: visits so far. life: visits after which it is replaced."""

    images: Tensor
    targets: Tensor
    momentum: Tensor
    weight: Tensor
    cap: Tensor
    age: Tensor
    life: Tensor
    cursor: int = 0

    @classmethod
    def fill(cls, size: int, classes: int, shape: tuple[int, int, int], real: Real, life: int,
             generator: torch.Generator) -> Replay:  # fmt: skip
        """A buffer of `size` fresh images; lives are staggered so that replacements spread over time."""
        blank, whole = torch.zeros(size, *shape), torch.zeros(size, dtype=torch.int64)
        buffer = cls(blank, whole, blank.clone(), torch.zeros(size), whole.clone(), whole.clone(), whole.clone())
        buffer.refresh(torch.arange(size), classes, real, life, generator)
        buffer.age = torch.randint(0, life, (size,), generator=generator)
        return buffer

    def refresh(self, rows: Tensor, classes: int, real: Real, life: int, generator: torch.Generator) -> None:
        """Fresh starts of mixed kinds and random targets for these rows."""
        n = len(rows)
        if n == 0:
            return
        self.targets[rows] = torch.randint(0, classes, (n,), generator=generator)
        kind = torch.multinomial(torch.tensor(list(MIX.values())), n, replacement=True, generator=generator)
        shape = tuple(self.images.shape[1:])
        for index, name in enumerate(MIX):
            chosen = rows[kind == index]
            if len(chosen):
                c, h, w = shape
                self.images[chosen] = STARTS[name](self.targets[chosen], (c, h, w), generator, real)
        self.momentum[rows] = 0
        # Half of the images are shrunk towards few lit features, by a weight drawn log-uniformly; the other half keeps
        # its largest features only, as many as a cap drawn log-uniformly says: the two find different images.
        features = self.images[0].numel()
        capped = torch.rand(n, generator=generator) < CAPPED
        weight = torch.exp(torch.empty(n).uniform_(-5.3, -1.2, generator=generator))
        cap = features ** torch.empty(n).uniform_(0.25, 1, generator=generator)
        self.weight[rows] = torch.where(capped, 0, weight)
        self.cap[rows] = torch.where(capped, cap.long(), features)
        self.life[rows] = torch.randint(max(1, life // 2), life + 1, (n,), generator=generator)
        self.age[rows] = 0

    def next_rows(self, n: int) -> Tensor:
        """The next `n` rows in turn."""
        rows = (torch.arange(n) + self.cursor) % len(self.images)
        self.cursor = int((self.cursor + n) % len(self.images))
        return rows

    def search(self, rows: Tensor, problem: Problem, solver: AdaptiveWeight, needed: float, steps: int) -> Tensor:
        """Move these images `steps` steps against the current network; returns them in stored form."""
        device = problem.targets.device
        images = self.images[rows].to(device)
        state = State(0, self.momentum[rows].to(device), images.new_zeros(len(rows)), self.weight[rows].to(device))
        features = self.images[0].numel()
        left = 1 - 2 * self.age[rows].float() / self.life[rows]
        keep = torch.where(left > 0, self.cap[rows] + (features - self.cap[rows]) * left, self.cap[rows]).long()
        look = Look(needed, 0.0, 0, problem.score_trials)
        for _ in range(steps):
            images, state = solver.step(state, images, problem.measure(stored(images)), look)
            images = keep_largest(images, keep.to(device))
        self.images[rows], self.momentum[rows], self.weight[rows] = images.cpu(), state.first.cpu(), state.weight.cpu()
        self.age[rows] += 1
        return stored(images)

    def expired(self, rows: Tensor) -> Tensor:
        """Those of the rows that have lived long enough."""
        return rows[self.age[rows] >= self.life[rows]]

    def state(self) -> dict[str, Tensor]:
        """Everything, as tensors."""
        return {
            "images": self.images, "targets": self.targets, "momentum": self.momentum, "weight": self.weight,
            "cap": self.cap, "age": self.age, "life": self.life, "cursor": torch.tensor(self.cursor),
        }  # fmt: skip

    @classmethod
    def of(cls, state: dict[str, Tensor]) -> Replay:
        """The buffer that `state` was taken from."""
        copied = {name: tensor.clone() for name, tensor in state.items()}
        cursor = int(copied.pop("cursor"))
        return cls(cursor=cursor, **{name: copied[name] for name in copied})
