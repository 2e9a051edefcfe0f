"""The one loop: measure, keep the best, step; finished images leave the batch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from blankcheck.errors import ArgumentError
from blankcheck.fooling.incumbent import ACCEPTED, CONFIDENT, SPARSE, Best, Candidates, Incumbent
from blankcheck.fooling.problem import Goal, Measurement, Problem
from blankcheck.fooling.solvers import Solver, StepContext
from blankcheck.fooling.tensor_ops import darkened, lit_features, turns_between_syncs
from blankcheck.types import NEVER, Fooling, Outcome

MAX_STEPS = 10_000
FORWARDS_PER_STEP = 3
"""`steps` bounds backward passes; forward passes stay within this many times that."""


@dataclass
class _Run:
    """Everything about the rows that still run. live: their positions. turn, steps, forwards:
    iterations, backward and forward passes of each so far. finished: the rows that left."""

    problem: Problem
    solver: Solver
    state: Any
    live: Tensor
    images: Tensor
    incumbent: Incumbent
    finished: list[tuple[Tensor, Best]] = field(default_factory=list)
    turn: int = 0
    steps: int = 0
    forwards: int = 0

    def measure(self) -> Measurement:
        """Measure the images in stored form, and remember what is better."""
        images, problem = darkened(self.images), self.problem
        measure = problem.measure if self.solver.gradient else problem.measure_without_gradient
        seen = measure(images)
        self.turn += 1
        self.steps += self.solver.gradient
        self.forwards += 1
        shown = Candidates(images, seen.log_odds, seen.lit, seen.finite, self.steps, self.forwards)
        self.incumbent.show(shown)
        return seen

    def stop(self, everyone: bool = False) -> None:
        """Rows that were never confident, or whose sparse images were refused, or all, are done."""
        self.incumbent.flush()
        best = self.incumbent.best
        done = best.done | (best.rank < CONFIDENT) | (best.rank == SPARSE) | everyone
        self.incumbent.finish(done, best.finite, self.steps, self.forwards)

    def leave(self) -> Tensor | None:
        """Every few turns let finished rows go; the positions that stay, None for all of them."""
        if self.turn % turns_between_syncs(self.images.device):
            return None
        self.incumbent.flush()
        best = self.incumbent.best
        gone = int(best.done.sum())
        if gone == 0:
            return None
        # one index for all tensors: selecting by booleans would make the host wait for each
        order = best.done.int().argsort(stable=True)
        stays, leaves = order[: len(order) - gone], order[len(order) - gone :]
        self.finished.append((self.live[leaves], best.rows(leaves)))
        self.live, self.images = self.live[stays], self.images[stays]
        self.state, self.problem = self.state.rows(stays), self.problem.rows(stays)
        self.incumbent.best = best.rows(stays)
        return stays

    def move(self, seen: Measurement, progress: float, forward_budget: int) -> None:
        """One step of the rule, under the mask."""
        before, target = self.forwards, self.incumbent.goal.target_log_odds
        context = StepContext(target, progress, forward_budget - before, self.score)
        self.images, self.state = self.solver.step(self.state, self.images, seen, context)
        self.images = _masked(self.images, self.problem)
        if self.forwards > before:
            self.leave()

    def score(self, trials: Tensor) -> Tensor:
        """Log-odds (k, n) of trial images (k, n, c, h, w), remembered like measured ones."""
        trials = darkened(_masked(trials, self.problem))
        odds = self.problem.score_trials(trials)
        self.forwards += len(trials)
        lit = lit_features(trials.flatten(0, 1)).view_as(odds)
        # only a row's most useful trial can become its best: the sparsest confident, or the surest
        confident = odds >= self.incumbent.goal.target_log_odds
        use = torch.where(confident, -lit.to(odds.dtype), odds.sigmoid() - NEVER)
        pick, row = use.argmax(dim=0), torch.arange(trials.shape[1], device=trials.device)
        best = trials[pick, row], odds[pick, row], lit[pick, row]
        self.incumbent.show(Candidates(*best, None, self.steps, self.forwards))
        return odds


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
    """Search from start images for images that meet a goal.

    Every measurement is of the stored form of an image (values below 1/512 exact zeros), so the
    numbers handed back belong to the images handed back. Among the images on its path, each row
    returns one that meets the whole goal with the fewest lit features; else a confident one with
    the fewest; else the most confident one.

    Args:
        problem: the classifier, a target for each image, and a mask.
        start: (n, c, h, w) in [0, 1].
        solver: the step rule.
        goal: what is wanted of each image.
        steps: most backward passes per image, 1..10,000.
        keys: (n,) int64, what the random numbers of each image hang on; its position if None.
        forwards: most forward passes per image; three times `steps` if None.
        early_stop_after: steps after which an image leaves that was never confident, or none of
            whose sparse ones was accepted.
    """
    _check(problem, start, steps)
    forward_budget = FORWARDS_PER_STEP * steps if forwards is None else forwards
    if problem.mask is not None:
        # numbers multiply faster than booleans
        problem = replace(problem, mask=problem.mask.to(start.dtype))
    images, order = _masked(start.clone(), problem), torch.arange(len(start), device=start.device)
    state = solver.init(images, order if keys is None else keys.to(start.device))
    run = _Run(problem, solver, state, order, images, Incumbent(Best.of_nothing(images), goal))
    while run.forwards < forward_budget and len(run.live):
        if solver.gradient and run.steps >= steps:
            break
        seen = run.measure()
        if early_stop_after is not None and run.turn == early_stop_after:
            run.stop()
        stays = run.leave()
        if len(run.live):
            used = run.steps / steps if solver.gradient else 0.0
            progress = max(used, run.forwards / forward_budget) if solver.trials else used
            run.move(seen if stays is None else seen.rows(stays), progress, forward_budget)
    run.stop(everyone=True)
    run.finished.append((run.live, run.incumbent.best))
    return _collect(run.finished, problem.targets)


def _check(problem: Problem, start: Tensor, steps: int) -> None:
    if not 1 <= steps <= MAX_STEPS:
        raise ArgumentError(f"steps must lie in 1..{MAX_STEPS}, got {steps}")
    n = len(problem.targets)
    if start.ndim != 4 or len(start) != n:
        raise ArgumentError(f"start must be ({n}, c, h, w), got {tuple(start.shape)}")
    low, high = float(start.min()), float(start.max())
    if not (low >= 0 and high <= 1):
        raise ArgumentError(f"start must lie in [0, 1], got [{low:.3g}, {high:.3g}]")


def _masked(images: Tensor, problem: Problem) -> Tensor:
    return images if problem.mask is None else images * problem.mask


def _collect(finished: list[tuple[Tensor, Best]], targets: Tensor) -> Fooling:
    """The rows in their first order."""
    order = torch.cat([index for index, _ in finished]).argsort()
    best = Best.cat([part for _, part in finished]).rows(order)
    failed = torch.where(best.finite, int(Outcome.OUT_OF_STEPS), int(Outcome.NOT_FINITE))
    outcome = torch.where(best.rank == ACCEPTED, int(Outcome.MET), failed)
    used, found = (best.steps, best.forwards), (best.fewest, best.found_at)
    return Fooling(best.images, targets, best.log_odds.sigmoid(), best.lit, *used, outcome, *found)
