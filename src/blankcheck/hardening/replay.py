"""The images being searched while the network trains, each going on until it is replaced."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from blankcheck.classifiers.wrapper import left_as_found
from blankcheck.fooling import STARTS, Problem, SigmaZero, StepContext, TabuSearch
from blankcheck.fooling.solvers import ProximalMomentum, Solver, State
from blankcheck.fooling.tabu import TabuState
from blankcheck.fooling.tensor_ops import largest
from blankcheck.hardening.context import SourceContext
from blankcheck.parallel.peers import Peers
from blankcheck.types import NEVER, stored

MIX = {
    "real-target": 0.35,
    "masked-real": 0.15,
    "real-other": 0.15,
    "erased": 0.1,
    "sparse-noise": 0.1,
    "noise": 0.1,
    "near-black": 0.05,
}
"""Shares of the kinds of start. One kind hardens against one kind only: from uniform noise alone
the network learns to go flat on noise and stays open everywhere else."""
STRUCTURED = "structured"
EXCHANGED_MIX = {
    "real-target": 0.3,
    STRUCTURED: 0.15,
    "erased": 0.15,
    "crossed": 0.1,
    "window": 0.1,
    "masked-real": 0.1,
    "black": 0.1,
}
"""The same for images searched by exchanging features, which makes little of noise. What a network
stays sure of longest are fragments: strokes of which a part is missing, moved, or of another image;
and bars, squares and rings."""
SPREAD = 4
"""Lives are drawn log-uniformly, from so many times shorter than usual to so many times longer."""
SHRUNK, CAPPED, EXCHANGED = 0, 1, 2
"""How an image is searched: shrunk by a weight, cut to its largest features, or by exchanging."""
SHARES = (0.35, 0.1, 0.55)
"""Of the buffer. Exchanging finds most of what audits find on networks that are hardened a little;
with less shrinking than this, audits find what shrinking finds."""


def keep_largest(images: Tensor, keep: Tensor) -> Tensor:
    """Only the `keep` (n,) largest features of each image (n, c, h, w), and ties with the last."""
    return images * largest(images.flatten(1), keep, ties=True).view_as(images)


@dataclass
class _Move:
    """What one rule does to the images at `part`, `rows` of the buffer. keep: most lit features of
    each; None where the rule keeps to as few as it can."""

    rows: Tensor
    part: Tensor
    rule: Solver
    state: Any
    look: StepContext
    keep: Tensor | None


@dataclass
class Replay:
    """The buffer, batch first: images, their targets, and the step rule's momentum and weight.

    Args:
        way: how each is searched.
        cap: most lit features, reached half-way through an image's life.
        age: visits so far.
        life: visits after which an image is replaced.
        fewest, filling, block: where the walk of each exchanged image is (`TabuState`), (n,).
        no_add, no_remove, learnt: the same for each feature, (n, d); steps left until it may move.
        cursor: the row whose turn is next.
    """

    images: Tensor
    targets: Tensor
    momentum: Tensor
    weight: Tensor
    way: Tensor
    cap: Tensor
    age: Tensor
    life: Tensor
    fewest: Tensor
    filling: Tensor
    block: Tensor
    no_add: Tensor
    no_remove: Tensor
    learnt: Tensor
    cursor: int = 0

    @classmethod
    def fill(cls, size: int, context: SourceContext) -> Replay:
        """A buffer of `size` fresh images, with staggered ages to spread replacements over time."""
        blank, whole = torch.zeros(size, *context.shape), torch.zeros(size, dtype=torch.int64)
        way, cap, age, life, fewest, block = (whole.clone() for _ in range(6))
        free = torch.zeros(size, blank[0].numel(), dtype=torch.int16)
        walk = fewest, whole == 0, block, free, free.clone(), free.float()
        buffer = cls(blank, whole, blank.clone(), torch.zeros(size), way, cap, age, life, *walk)
        buffer.refresh(torch.arange(size), context)
        buffer.age = torch.randint(0, context.plan.life, (size,), generator=context.generator)
        return buffer

    def refresh(self, rows: Tensor, context: SourceContext) -> None:
        """Fresh starts of mixed kinds and random targets for these rows."""
        n, draws, usual = len(rows), context.generator, context.plan.life
        if n == 0:
            return
        drawn = torch.randint(0, len(context.targets), (n,), generator=draws)
        self.targets[rows] = context.targets[drawn]
        way = torch.multinomial(torch.tensor(SHARES), n, replacement=True, generator=draws)
        self._start(rows[way == EXCHANGED], EXCHANGED_MIX, context)
        self._start(rows[way != EXCHANGED], MIX, context)
        # weights and caps are drawn log-uniformly
        features = self.images[0].numel()
        weight = torch.exp(torch.empty(n).uniform_(-5.3, -1.2, generator=draws))
        cap = features ** torch.empty(n).uniform_(0.25, 1, generator=draws)
        self.way[rows] = way
        self.weight[rows] = torch.where(way == SHRUNK, context.anneal * weight, 0)
        self.cap[rows] = torch.where(way == CAPPED, cap.long(), features)
        self.momentum[rows] = 0
        self.fewest[rows], self.filling[rows], self.block[rows] = NEVER, True, 1
        for feature in (self.no_add, self.no_remove, self.learnt):
            feature[rows] = 0
        spread = torch.empty(n).uniform_(-math.log(SPREAD), math.log(SPREAD), generator=draws)
        self.life[rows] = (usual * spread.exp()).ceil().long()
        self.age[rows] = 0

    def _start(self, rows: Tensor, mix: dict[str, float], context: SourceContext) -> None:
        if len(rows) == 0:
            return
        shares, draws = torch.tensor(list(mix.values())), context.generator
        kind = torch.multinomial(shares, len(rows), replacement=True, generator=draws)
        for index, name in enumerate(mix):
            chosen = rows[kind == index]
            targets = self.targets[chosen]
            if name == STRUCTURED:
                self.images[chosen] = context.structures.starts(targets, draws)
            elif len(chosen):
                self.images[chosen] = STARTS[name](targets, context.shape, draws, context.real)

    def next_rows(self, n: int) -> Tensor:
        """The next `n` rows in turn."""
        rows = (torch.arange(n) + self.cursor) % len(self.images)
        self.cursor = int((self.cursor + n) % len(self.images))
        return rows

    def search(self, rows: Tensor, context: SourceContext) -> Tensor:
        """Move these images some steps against the network; returns them in stored form."""
        problem, steps = context.problem(self.targets[rows]), context.plan.inner_steps
        images = self.images[rows].to(context.device)
        with left_as_found(context.classifier):
            moves = self._moves(rows, problem, context)
            for _ in range(steps):
                # one measurement of all images, whatever rule moves them
                seen = problem.measure(stored(images))
                for move in moves:
                    mine = move.part
                    begin, own = images[mine], seen.rows(mine)
                    moved, move.state = move.rule.step(move.state, begin, own, move.look)
                    images[mine] = moved if move.keep is None else keep_largest(moved, move.keep)
        self.images[rows] = images.cpu()
        for move in moves:
            if move.keep is not None:
                self.momentum[move.rows] = move.state.first.cpu()
                self.weight[move.rows] = move.state.weight.cpu()
            elif isinstance(move.state, TabuState):
                self._keep_walk(move.rows, move.state)
        self.age[rows] += 1
        context.passes += len(rows) * steps
        return stored(images)

    def _moves(self, rows: Tensor, problem: Problem, context: SourceContext) -> list[_Move]:
        """The rules that move these rows, each with the positions of its own."""
        exchanged = self.way[rows] == EXCHANGED
        # whole features on even visits, brightness on odd ones
        whole = exchanged & (self.age[rows] % 2 == 0)
        rules: tuple[tuple[Tensor, Solver], ...] = (
            (whole, TabuSearch(tried=((0, 1),))),
            (exchanged & ~whole, SigmaZero(step_size=0.1)),
            (~exchanged, ProximalMomentum()),
        )
        moves, device = [], context.device
        for mine, rule in rules:
            part = mine.nonzero().squeeze(1)
            if len(part) == 0:
                continue
            own, part, steps = rows[part], part.to(device), context.plan.inner_steps
            look = StepContext(context.needed, 0.0, steps, problem.rows(part).score_trials)
            if isinstance(rule, ProximalMomentum):
                none, weight = torch.zeros(len(own), device=device), self.weight[own].to(device)
                state = State(0, self.momentum[own].to(device), none, weight)
                moves.append(_Move(own, part, rule, state, look, self._allowed(own).to(device)))
            else:
                keys = (own + len(self.images) * self.age[own]).to(device)
                begun = rule.init(self.images[own].to(device), keys)
                begun = self._walk(own, begun) if isinstance(begun, TabuState) else begun
                moves.append(_Move(own, part, rule, begun, look, None))
        return moves

    def _walk(self, rows: Tensor, begun: TabuState) -> TabuState:
        """The walk of each image where it was left: begun anew at each visit, it would find no
        sparser images than a few steps do, and audits would."""
        device = begun.keys.device
        fewest, filling, block, learnt = (
            each[rows].to(device) for each in (self.fewest, self.filling, self.block, self.learnt)
        )
        no_add, no_remove = (left[rows].int().to(device) for left in (self.no_add, self.no_remove))
        seen = fewest, filling, block
        return TabuState(begun.step, begun.keys, *seen, no_add, no_remove, learnt)

    def _keep_walk(self, rows: Tensor, walk: TabuState) -> None:
        self.fewest[rows], self.filling[rows] = walk.fewest.cpu(), walk.filling.cpu()
        self.block[rows], self.learnt[rows] = walk.block.cpu(), walk.gain_correction.cpu()
        self.no_add[rows] = (walk.no_add_until - walk.step).clamp_min(0).short().cpu()
        self.no_remove[rows] = (walk.no_remove_until - walk.step).clamp_min(0).short().cpu()

    def _allowed(self, rows: Tensor) -> Tensor:
        """How many features may be lit: all at first, falling to the cap half-way through life."""
        left = 1 - 2 * self.age[rows].float() / self.life[rows]
        cap, features = self.cap[rows], self.images[0].numel()
        return torch.where(left > 0, cap + (features - cap) * left, cap).long()

    def expired(self, rows: Tensor) -> Tensor:
        """Those of the rows that have lived long enough."""
        return rows[self.age[rows] >= self.life[rows]]

    def state(self) -> dict[str, Tensor]:
        """Everything, as tensors."""
        return vars(self) | {"cursor": torch.tensor(self.cursor)}

    @classmethod
    def of(cls, state: dict[str, Tensor]) -> Replay:
        """The buffer that `state` was taken from."""
        copied: dict[str, Any] = {name: tensor.clone() for name, tensor in state.items()}
        return cls(**(copied | {"cursor": int(state["cursor"])}))

    @classmethod
    def reshard(cls, buffers: list[Replay], peers: Peers) -> Replay:
        """A process's part of several buffers in a row, each from the image whose turn it is."""
        part: dict[str, Any] = {}
        for name in (f.name for f in fields(cls) if f.name != "cursor"):
            whole = torch.cat([getattr(b, name).roll(-b.cursor, 0) for b in buffers])
            part[name] = whole[peers.rank :: peers.size].clone()
        return cls(**part)
