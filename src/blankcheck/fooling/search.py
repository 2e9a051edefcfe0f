"""The one loop: measure, remember the best, stop image by image, step; finished images leave the
batch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from blankcheck.errors import ArgumentError
from blankcheck.fooling.host_sync import sync_is_free, turns_between_syncs
from blankcheck.fooling.incumbent import Best, Candidates, better_of, nothing, ranks_of, still_asked
from blankcheck.fooling.problem import Measurement, Problem
from blankcheck.fooling.solvers import Solver, StepContext
from blankcheck.fooling.tensor_ops import darkened, lit_features
from blankcheck.types import NEVER, Accept, Fooling, Outcome

MAX_STEPS = 10_000
FORWARDS_PER_STEP = 3
"""`steps` bounds an image's backward passes; its forward passes stay within this many times that.
"""
UNTIL = ("met", "sparsest")


@dataclass(frozen=True)
class Goal:
    """What is wanted of each image: at least `confidence` in its target, at most `max_lit` lit
    features, and `accept`.

    until: `met` stops an image as soon as all of it holds; `sparsest` spends the budget on fewer
    lit features.
    """

    confidence: float = 0.9
    max_lit: int = 300
    until: str = "met"
    accept: Accept | None = None

    def __post_init__(self) -> None:
        if self.until not in UNTIL:
            raise ArgumentError(f"until must be one of {', '.join(UNTIL)}, got {self.until!r}")

    @property
    def target_confidence(self) -> float:
        """The confidence asked for inside the loop: a hair more, so that scoring an image again in
        another batch or on another machine (which moves a probability by about 1e-5) does not lose
        it."""
        return self.confidence + 1e-3 * (1 - self.confidence)

    @property
    def target_log_odds(self) -> float:
        """`target_confidence` as log-odds."""
        return float(torch.tensor(self.target_confidence, dtype=torch.float64).logit())


@dataclass
class _Run:
    """A search on its way: everything about the rows that still run. turn, steps, forwards:
    iterations, backward and forward passes so far of a row that still runs. waiting: images not yet
    compared with the best, in the order in which they were shown. finished: the positions and
    images of those that left."""

    problem: Problem
    goal: Goal
    solver: Solver
    state: Any
    live: Tensor
    images: Tensor
    best: Best
    needed: float
    waiting: list[Candidates] = field(default_factory=list)
    finished: list[tuple[Tensor, Best]] = field(default_factory=list)
    turn: int = 0
    steps: int = 0
    forwards: int = 0

    def look(self) -> Measurement:
        """Measure the images in stored form, and remember what is better."""
        shown = darkened(self.images)
        seen = (
            self.problem.measure(shown)
            if self.solver.gradient
            else self.problem.measure_without_gradient(shown)
        )
        self.turn, self.steps, self.forwards = (
            self.turn + 1,
            self.steps + self.solver.gradient,
            self.forwards + 1,
        )
        self._keep(shown, seen.log_odds, seen.lit, seen.finite)
        return seen

    def give_up(self, everyone: bool = False) -> None:
        """Rows that were never confident, or all, are done."""
        self._settle()
        self._finish(
            self.best.done | (self.best.rank < 1) | everyone,
            self.best.finite,
            self.steps,
            self.forwards,
        )

    def leave(self) -> Tensor | None:
        """Every few turns, let the finished rows go; the positions of those that stay, None for all
        of them."""
        if self.turn % turns_between_syncs(self.images.device):
            return None
        self._settle()
        gone = int(self.best.done.sum())
        if gone == 0:
            return None
        # one index for all tensors: selecting by booleans would make the host wait for each
        order = self.best.done.int().argsort(stable=True)
        stays, gone_rows = order[: len(order) - gone], order[len(order) - gone :]
        self.finished.append((self.live[gone_rows], self.best.rows(gone_rows)))
        self.live, self.images, self.state = (
            self.live[stays],
            self.images[stays],
            self.state.rows(stays),
        )
        self.best, self.problem = self.best.rows(stays), self.problem.rows(stays)
        return stays

    def move(self, seen: Measurement, progress: float, room: int) -> None:
        """One step of the rule, under the mask."""
        before = self.forwards
        look = StepContext(self.needed, progress, room - self.forwards, self.score)
        self.images, self.state = self.solver.step(self.state, self.images, seen, look)
        self.images = _masked(self.images, self.problem)
        if self.forwards > before:
            self.leave()

    def score(self, trials: Tensor) -> Tensor:
        """Margins (k, n) of trial images (k, n, c, h, w), which are remembered like measured ones."""
        trials = darkened(trials if self.problem.mask is None else trials * self.problem.mask)
        margins = self.problem.score_trials(trials)
        self.forwards += len(trials)
        lit = lit_features(trials.flatten(0, 1)).view_as(margins)
        # of a row's trials only the most useful can become its best: the sparsest confident one,
        # else the most confident
        use = torch.where(margins >= self.needed, -lit.to(margins.dtype), margins.sigmoid() - NEVER)
        pick, row = use.argmax(dim=0), torch.arange(trials.shape[1], device=trials.device)
        self._keep(trials[pick, row], margins[pick, row], lit[pick, row])
        return margins

    def _keep(
        self, shown: Tensor, margin: Tensor, lit: Tensor, finite: Tensor | None = None
    ) -> None:
        """Remember these stored images where they are better than the best so far. What must be
        accepted waits for the next look, since the host has to know which images those are."""
        self.waiting.append(Candidates(shown, margin, lit, finite, self.steps, self.forwards))
        if self.goal.accept is None or turns_between_syncs(shown.device) == 1:
            self._settle()

    def _settle(self) -> None:
        """Compare what waits with the best, in its order; who has all that is wanted, or is broken,
        is done."""
        ranks = ranks_of(self.waiting, self.best, self.needed, self.goal.max_lit, self.goal.accept)
        for turn, (shown, rank) in enumerate(zip(self.waiting, ranks, strict=True)):
            if turn and self.goal.accept is not None:
                rank = still_asked(rank, shown, self.best)
            self.best = better_of(self.best, shown, rank, self.needed)
            if self.goal.until == "met":
                self._finish(
                    self.best.done | (self.best.rank == 3),
                    self.best.finite,
                    shown.steps,
                    shown.forwards,
                )
            if shown.finite is not None:
                finite = self.best.finite & (shown.finite | self.best.done)
                self._finish(self.best.done | ~finite, finite, shown.steps, shown.forwards)
        self.waiting.clear()

    def _finish(self, done: Tensor, finite: Tensor, steps: int, forwards: int) -> None:
        new = done & ~self.best.done
        if sync_is_free(self.images.device) and not bool(new.any()):
            return
        self.best = replace(
            self.best,
            done=done,
            finite=finite,
            steps=torch.where(new, steps, self.best.steps),
            forwards=torch.where(new, forwards, self.best.forwards),
        )


def search(
    problem: Problem,
    start: Tensor,
    solver: Solver,
    goal: Goal,
    steps: int,
    keys: Tensor | None = None,
    forwards: int | None = None,
    early_stop_after: int | None = None,
) -> Fooling:
    """Search from `start` (n, c, h, w) in [0, 1] for at most `steps` backward passes per image.

    Every measurement is of the stored form of an image (values below 1/512 exact zeros), so the
    numbers handed back belong to the images handed back. Among the images on its path, each row
    returns one that meets the whole goal with the fewest lit features; else a confident one with
    the fewest; else the most confident one. keys: (n,) int64, what the random numbers of each image
    hang on; its position if None. forwards: most forward passes per image, three times `steps` if
    None. early_stop_after: steps after which an image that was never confident leaves.
    """
    _check(problem, start, steps)
    n, device = len(start), start.device
    room = FORWARDS_PER_STEP * steps if forwards is None else forwards
    if problem.mask is not None:
        # numbers multiply faster than booleans
        problem = replace(problem, mask=problem.mask.to(start.dtype))
    images = _masked(start.clone(), problem)
    order = torch.arange(n, device=device)
    state = solver.init(images, order if keys is None else keys.to(device))
    run = _Run(problem, goal, solver, state, order, images, nothing(images), goal.target_log_odds)
    while run.forwards < room and (run.steps < steps or not solver.gradient) and len(run.live):
        seen = run.look()
        if early_stop_after is not None and run.turn == early_stop_after:
            run.give_up()
        stays = run.leave()
        if len(run.live):
            used = run.steps / steps if solver.gradient else 0.0
            progress = max(used, run.forwards / room) if solver.trials else used
            run.move(seen if stays is None else seen.rows(stays), progress, room)
    run.give_up(everyone=True)
    run.finished.append((run.live, run.best))
    return _collect(run, problem.targets)


def _check(problem: Problem, start: Tensor, steps: int) -> None:
    if not 1 <= steps <= MAX_STEPS:
        raise ArgumentError(f"steps must lie in 1..{MAX_STEPS}, got {steps}")
    if start.ndim != 4 or len(start) != len(problem.targets):
        raise ArgumentError(
            f"start must be ({len(problem.targets)}, c, h, w), got {tuple(start.shape)}"
        )
    low, high = float(start.min()), float(start.max())
    if not (low >= 0 and high <= 1):
        raise ArgumentError(f"start must lie in [0, 1], got [{low:.3g}, {high:.3g}]")


def _masked(images: Tensor, problem: Problem) -> Tensor:
    return images if problem.mask is None else images * problem.mask


def _collect(run: _Run, targets: Tensor) -> Fooling:
    order = torch.cat([index for index, _ in run.finished]).argsort()
    best = Best.cat([part for _, part in run.finished]).rows(order)
    outcome = torch.where(best.rank == 3, int(Outcome.MET), int(Outcome.OUT_OF_STEPS))
    outcome = torch.where((outcome != Outcome.MET) & ~best.finite, int(Outcome.NOT_FINITE), outcome)
    return Fooling(
        best.images,
        targets,
        best.log_odds.sigmoid(),
        best.lit,
        best.steps,
        best.forwards,
        outcome,
        best.fewest,
        best.found_at,
    )
