"""The images being searched while the network trains: each goes on from where it was, and is replaced when old."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.fooling import STARTS, AdaptiveWeight, Exchange, Look, Problem, SigmaZero, Solver
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


EXCHANGED_MIX = {"real-target": 0.6, "masked-real": 0.2, "black": 0.2}
"""The same for images searched by exchanging features, which makes little of noise."""
SHRUNK, CAPPED, EXCHANGED = 0, 1, 2
"""How an image of the buffer is searched: shrunk by a weight, cut to its largest features, or by exchanging features."""
SHARES = (0.35, 0.35, 0.3)
"""Of the buffer. Each finds what the others do not: what exchanging leaves of a real image has half the lit features of what
shrinking leaves of it."""


def keep_largest(images: Tensor, keep: Tensor) -> Tensor:
    """Black out all but the `keep` (n,) largest features of each image (n, c, h, w); ties at the border all stay."""
    return images * largest(images.flatten(1), keep, ties=True).view_as(images)


@dataclass
class Replay:
    """images, targets and the step rule's momentum and weight of every image in the buffer, batch first. way: how it is
    searched. cap: most lit features, reached half-way through an image's life. age: visits so far. life: visits after which
    it is replaced."""

    images: Tensor
    targets: Tensor
    momentum: Tensor
    weight: Tensor
    way: Tensor
    cap: Tensor
    age: Tensor
    life: Tensor
    cursor: int = 0

    @classmethod
    def fill(cls, size: int, classes: int, shape: tuple[int, int, int], real: Real, life: int, generator: torch.Generator,
             anneal: float = 1.0) -> Replay:  # fmt: skip
        """A buffer of `size` fresh images; lives are staggered so that replacements spread over time. anneal: see
        `refresh`."""
        blank, whole = torch.zeros(size, *shape), torch.zeros(size, dtype=torch.int64)
        way, cap, age, lives = (whole.clone() for _ in range(4))
        buffer = cls(blank, whole, blank.clone(), torch.zeros(size), way, cap, age, lives)
        buffer.refresh(torch.arange(size), classes, real, life, generator, anneal)
        buffer.age = torch.randint(0, life, (size,), generator=generator)
        return buffer

    def refresh(
        self, rows: Tensor, classes: int, real: Real, life: int, generator: torch.Generator, anneal: float = 1.0
    ) -> None:
        """Fresh starts of mixed kinds and random targets for these rows. anneal: factor of the penalty weights."""
        n = len(rows)
        if n == 0:
            return
        self.targets[rows] = torch.randint(0, classes, (n,), generator=generator)
        way = torch.multinomial(torch.tensor(SHARES), n, replacement=True, generator=generator)
        for mix, chosen in ((EXCHANGED_MIX, rows[way == EXCHANGED]), (MIX, rows[way != EXCHANGED])):
            self._start(chosen, mix, real, generator)
        # weights and caps are drawn log-uniformly
        features = self.images[0].numel()
        weight = torch.exp(torch.empty(n).uniform_(-5.3, -1.2, generator=generator))
        cap = features ** torch.empty(n).uniform_(0.25, 1, generator=generator)
        self.way[rows] = way
        self.weight[rows] = torch.where(way == SHRUNK, anneal * weight, 0)
        self.cap[rows] = torch.where(way == CAPPED, cap.long(), features)
        self.momentum[rows] = 0
        self.life[rows] = torch.randint(max(1, life // 2), life + 1, (n,), generator=generator)
        self.age[rows] = 0

    def _start(self, rows: Tensor, mix: dict[str, float], real: Real, generator: torch.Generator) -> None:
        if len(rows) == 0:
            return
        kind = torch.multinomial(torch.tensor(list(mix.values())), len(rows), replacement=True, generator=generator)
        c, h, w = self.images.shape[1:]
        for index, name in enumerate(mix):
            chosen = rows[kind == index]
            if len(chosen):
                self.images[chosen] = STARTS[name](self.targets[chosen], (c, h, w), generator, real)

    def next_rows(self, n: int) -> Tensor:
        """The next `n` rows in turn."""
        rows = (torch.arange(n) + self.cursor) % len(self.images)
        self.cursor = int((self.cursor + n) % len(self.images))
        return rows

    def search(self, rows: Tensor, problem: Problem, needed: float, steps: int) -> Tensor:
        """Move these images `steps` steps against the current network; returns them in stored form."""
        by_exchange = self.way[rows] == EXCHANGED
        # whole features on even visits, their brightness on odd ones
        whole = by_exchange & (self.age[rows] % 2 == 0)
        for way, move in ((whole, self._exchange), (by_exchange & ~whole, self._dim), (~by_exchange, self._descend)):
            chosen = rows[way]
            if len(chosen):
                move(chosen, problem.rows(way.to(problem.targets.device)), needed, steps)
        self.age[rows] += 1
        return stored(self.images[rows]).to(problem.targets.device)

    def _exchange(self, rows: Tensor, problem: Problem, needed: float, steps: int) -> None:
        self._afresh(Exchange(tried=((0, 1),)), rows, problem, needed, steps)

    def _dim(self, rows: Tensor, problem: Problem, needed: float, steps: int) -> None:
        self._afresh(SigmaZero(step_size=0.1), rows, problem, needed, steps)

    def _afresh(self, rule: Solver, rows: Tensor, problem: Problem, needed: float, steps: int) -> None:
        """Steps of a rule that remembers nothing from visit to visit."""
        device = problem.targets.device
        images = self.images[rows].to(device)
        state = rule.init(images, (rows + len(self.images) * self.age[rows]).to(device))
        look = Look(needed, 0.0, steps, problem.score_trials)
        for _ in range(steps):
            images, state = rule.step(state, images, problem.measure(stored(images)), look)
        self.images[rows] = images.cpu()

    def _descend(self, rows: Tensor, problem: Problem, needed: float, steps: int) -> None:
        device, rule = problem.targets.device, AdaptiveWeight()
        images = self.images[rows].to(device)
        state = State(0, self.momentum[rows].to(device), images.new_zeros(len(rows)), self.weight[rows].to(device))
        features = self.images[0].numel()
        left = 1 - 2 * self.age[rows].float() / self.life[rows]
        keep = torch.where(left > 0, self.cap[rows] + (features - self.cap[rows]) * left, self.cap[rows]).long()
        look = Look(needed, 0.0, 0, problem.score_trials)
        for _ in range(steps):
            images, state = rule.step(state, images, problem.measure(stored(images)), look)
            images = keep_largest(images, keep.to(device))
        self.images[rows], self.momentum[rows], self.weight[rows] = images.cpu(), state.first.cpu(), state.weight.cpu()

    def expired(self, rows: Tensor) -> Tensor:
        """Those of the rows that have lived long enough."""
        return rows[self.age[rows] >= self.life[rows]]

    def state(self) -> dict[str, Tensor]:
        """Everything, as tensors."""
        return {
            "images": self.images, "targets": self.targets, "momentum": self.momentum, "weight": self.weight,
            "way": self.way, "cap": self.cap, "age": self.age, "life": self.life, "cursor": torch.tensor(self.cursor),
        }  # fmt: skip

    @classmethod
    def of(cls, state: dict[str, Tensor]) -> Replay:
        """The buffer that `state` was taken from."""
        copied = {name: tensor.clone() for name, tensor in state.items()}
        cursor = int(copied.pop("cursor"))
        return cls(cursor=cursor, **{name: copied[name] for name in copied})
