"""The images being searched while the network trains: each goes on from where it was, and is
replaced when old."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from blankcheck.fooling import (
    STARTS,
    Problem,
    ProximalMomentum,
    SigmaZero,
    Solver,
    StepContext,
    TabuSearch,
)
from blankcheck.fooling.solvers import State
from blankcheck.fooling.starts import Real
from blankcheck.fooling.tensor_ops import largest
from blankcheck.parallel.peers import Peers
from blankcheck.types import stored

MIX = {
    "near-black": 0.15,
    "sparse-noise": 0.2,
    "noise": 0.15,
    "real-target": 0.2,
    "masked-real": 0.15,
    "real-other": 0.15,
}
"""Shares of the kinds of start. One kind hardens against one kind only: from uniform noise alone
the network learns to go flat on noise and stays open everywhere else."""


EXCHANGED_MIX = {"real-target": 0.6, "masked-real": 0.2, "black": 0.2}
"""The same for images searched by exchanging features, which makes little of noise."""
SHRUNK, CAPPED, EXCHANGED = 0, 1, 2
"""How an image of the buffer is searched: shrunk by a weight, cut to its largest features, or by
exchanging features."""
SHARES = (0.35, 0.35, 0.3)
"""Of the buffer. Each finds what the others do not: what exchanging leaves of a real image has half
the lit features of what shrinking leaves of it."""


def keep_largest(images: Tensor, keep: Tensor) -> Tensor:
    """Black out all but the `keep` (n,) largest features of each image (n, c, h, w); ties at the
    border all stay."""
    return images * largest(images.flatten(1), keep, ties=True).view_as(images)


@dataclass
class _Move:
    """part: positions of the rows that `rule` moves. keep: most lit features of each; None where
    the rule has no memory."""

    part: Tensor
    rule: Solver
    state: Any
    look: StepContext
    keep: Tensor | None


@dataclass
class Replay:
    """images, targets and the step rule's momentum and weight of every image in the buffer, batch
    first. way: how it is searched. cap: most lit features, reached half-way through an image's
    life. age: visits so far. life: visits after which it is replaced."""

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
    def fill(
        cls,
        size: int,
        classes: int,
        shape: tuple[int, int, int],
        real: Real,
        life: int,
        generator: torch.Generator,
        anneal: float = 1.0,
    ) -> Replay:
        """A buffer of `size` fresh images; lives are staggered so that replacements spread over
        time. anneal: see `refresh`."""
        blank, whole = torch.zeros(size, *shape), torch.zeros(size, dtype=torch.int64)
        way, cap, age, lives = (whole.clone() for _ in range(4))
        buffer = cls(blank, whole, blank.clone(), torch.zeros(size), way, cap, age, lives)
        buffer.refresh(torch.arange(size), classes, real, life, generator, anneal)
        buffer.age = torch.randint(0, life, (size,), generator=generator)
        return buffer

    def refresh(
        self,
        rows: Tensor,
        classes: int,
        real: Real,
        life: int,
        generator: torch.Generator,
        anneal: float = 1.0,
    ) -> None:
        """Fresh starts of mixed kinds and random targets for these rows. anneal: factor of the
        penalty weights."""
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

    def _start(
        self, rows: Tensor, mix: dict[str, float], real: Real, generator: torch.Generator
    ) -> None:
        if len(rows) == 0:
            return
        kind = torch.multinomial(
            torch.tensor(list(mix.values())), len(rows), replacement=True, generator=generator
        )
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
        device = problem.targets.device
        images, moves = self.images[rows].to(device), self._moves(rows, problem, needed, steps)
        for _ in range(steps):
            # one measurement of all images, whatever rule moves them
            seen = problem.measure(stored(images))
            for move in moves:
                part = move.part
                moved, move.state = move.rule.step(
                    move.state, images[part], seen.rows(part), move.look
                )
                images[part] = moved if move.keep is None else keep_largest(moved, move.keep)
        self.images[rows] = images.cpu()
        for move in moves:
            if move.keep is not None:
                self.momentum[rows[move.part.cpu()]] = move.state.first.cpu()
                self.weight[rows[move.part.cpu()]] = move.state.weight.cpu()
        self.age[rows] += 1
        return stored(images)

    def _moves(self, rows: Tensor, problem: Problem, needed: float, steps: int) -> list[_Move]:
        """The rules that move these rows, each with the positions of its own."""
        by_exchange = self.way[rows] == EXCHANGED
        # whole features on even visits, their brightness on odd ones; neither rule remembers
        # anything from visit to visit
        whole = by_exchange & (self.age[rows] % 2 == 0)
        rules: tuple[tuple[Tensor, Solver], ...] = (
            (whole, TabuSearch(tried=((0, 1),))),
            (by_exchange & ~whole, SigmaZero(step_size=0.1)),
            (~by_exchange, ProximalMomentum()),
        )
        return [
            self._move(rule, rows, mine, problem, needed, steps)
            for mine, rule in rules
            if bool(mine.any())
        ]

    def _move(
        self, rule: Solver, rows: Tensor, mine: Tensor, problem: Problem, needed: float, steps: int
    ) -> _Move:
        device, part = problem.targets.device, mine.nonzero().squeeze(1)
        rows = rows[part]
        look = StepContext(needed, 0.0, steps, problem.rows(part.to(device)).score_trials)
        if not isinstance(rule, ProximalMomentum):
            keys = (rows + len(self.images) * self.age[rows]).to(device)
            return _Move(
                part.to(device), rule, rule.init(self.images[rows].to(device), keys), look, None
            )
        none = torch.zeros(len(rows), device=device)
        state = State(0, self.momentum[rows].to(device), none, self.weight[rows].to(device))
        return _Move(part.to(device), rule, state, look, self._allowed(rows).to(device))

    def _allowed(self, rows: Tensor) -> Tensor:
        """How many features may be lit at their age: all at first, falling to the cap half-way
        through a life."""
        features, left = self.images[0].numel(), 1 - 2 * self.age[rows].float() / self.life[rows]
        return torch.where(
            left > 0, self.cap[rows] + (features - self.cap[rows]) * left, self.cap[rows]
        ).long()

    def expired(self, rows: Tensor) -> Tensor:
        """Those of the rows that have lived long enough."""
        return rows[self.age[rows] >= self.life[rows]]

    def state(self) -> dict[str, Tensor]:
        """Everything, as tensors."""
        return {
            "images": self.images,
            "targets": self.targets,
            "momentum": self.momentum,
            "weight": self.weight,
            "way": self.way,
            "cap": self.cap,
            "age": self.age,
            "life": self.life,
            "cursor": torch.tensor(self.cursor),
        }

    @classmethod
    def of(cls, state: dict[str, Tensor]) -> Replay:
        """The buffer that `state` was taken from."""
        copied = {name: tensor.clone() for name, tensor in state.items()}
        cursor = int(copied.pop("cursor"))
        return cls(cursor=cursor, **{name: copied[name] for name in copied})

    @classmethod
    def dealt(cls, buffers: list[Replay], peers: Peers) -> Replay:
        """A process's part of several buffers laid one after the other, each from the image whose
        turn it is."""
        names = [f.name for f in fields(cls) if f.name != "cursor"]
        whole = {
            name: torch.cat([getattr(b, name).roll(-b.cursor, 0) for b in buffers])
            for name in names
        }
        part = {name: tensor[peers.rank :: peers.size] for name, tensor in whole.items()}
        return cls.of({**part, "cursor": torch.tensor(0)})
