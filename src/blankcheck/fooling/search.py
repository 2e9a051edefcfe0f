"""The one loop: measure, remember the best, stop image by image, step; finished images leave the batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.errors import ArgumentError
from blankcheck.fooling.problem import Problem, Seen
from blankcheck.fooling.solvers import Solver
from blankcheck.types import NEVER, Accept, Fooling, Outcome, Rows, stored

MAX_STEPS = 10_000
UNTIL = ("met", "sparsest")


@dataclass(frozen=True)
class Goal:
    """What is wanted of each image: at least `confidence` in its target, at most `max_lit` lit features, and `accept`.

    until: `met` stops an image as soon as all of it holds; `sparsest` spends the budget on fewer lit features.
    """

    confidence: float = 0.9
    max_lit: int = 300
    until: str = "met"
    accept: Accept | None = None

    def __post_init__(self) -> None:
        if self.until not in UNTIL:
            raise ArgumentError(f"until must be one of {', '.join(UNTIL)}, got {self.until!r}")

    @property
    def wanted(self) -> float:
        """The confidence asked for inside the loop: a hair more, so that scoring an image again in another batch or on
        another machine (which moves a probability by about 1e-5) does not lose it."""
        return self.confidence + 1e-3 * (1 - self.confidence)


@dataclass(frozen=True)
class _Best(Rows):
    """The best image so far. rank: 0 not confident, 1 confident, 2 also sparse, 3 also accepted."""

    images: Tensor
    confidence: Tensor
    margin: Tensor
    lit: Tensor
    rank: Tensor
    fewest: Tensor
    finite: Tensor


def search(
    problem: Problem,
    start: Tensor,
    solver: Solver,
    goal: Goal,
    steps: int,
) -> Fooling:
    """Search from `start` (n, c, h, w) in [0, 1] for at most `steps` backward passes per image.

    Every measurement is of the stored form of an image (values below 1/512 exact zeros), so the numbers handed back
    belong to the images handed back. Among the images on its path, each row returns one that meets the whole goal with
    the fewest lit features; else a confident one with the fewest; else the most confident one.
    """
    _check(problem, start, steps)
    n, targets = len(start), problem.targets
    images = _masked(start.clone(), problem)
    state, best = solver.init(images), _nothing(images)
    used = torch.zeros(n, dtype=torch.int64, device=start.device)
    live = torch.arange(n, device=start.device)
    finished: list[tuple[Tensor, _Best]] = []
    for step in range(steps):
        seen = problem.measure(shown := stored(images))
        used[live] += 1
        best = _keep_better(best, shown, seen, goal)
        running = seen.finite & ((best.rank < 3) if goal.until == "met" else torch.ones_like(seen.finite))
        if not bool(running.all()):
            finished.append((live[~running], best.rows(~running)))
            live, images, state, best = live[running], images[running], state.rows(running), best.rows(running)
            seen, problem = seen.rows(running), problem.rows(running)
            if len(live) == 0:
                break
        confident = seen.confidence >= goal.wanted
        images, state = solver.step(state, images, seen, confident, step / steps)
        images = _masked(images, problem)
    finished.append((live, best))
    return _collect(finished, targets, used)


def _check(problem: Problem, start: Tensor, steps: int) -> None:
    if not 1 <= steps <= MAX_STEPS:
        raise ArgumentError(f"steps must lie in 1..{MAX_STEPS}, got {steps}")
    if start.ndim != 4 or len(start) != len(problem.targets):
        raise ArgumentError(f"start must be ({len(problem.targets)}, c, h, w), got {tuple(start.shape)}")
    low, high = float(start.min()), float(start.max())
    if not (low >= 0 and high <= 1):
        raise ArgumentError(f"start must lie in [0, 1], got [{low:.3g}, {high:.3g}]")


def _masked(images: Tensor, problem: Problem) -> Tensor:
    return images if problem.mask is None else images * problem.mask


def _nothing(images: Tensor) -> _Best:
    zero = images.new_zeros(len(images))
    whole = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    return _Best(stored(images), zero, zero - torch.inf, whole, whole - 1, whole + NEVER, whole == 0)


def _keep_better(best: _Best, shown: Tensor, seen: Seen, goal: Goal) -> _Best:
    rank = (seen.confidence >= goal.wanted).long()
    rank = rank + (rank > 0) * (seen.lit <= goal.max_lit)
    if goal.accept is None:
        rank = torch.where(rank == 2, 3, rank)
    else:
        # asked only of images that would become the best: an acceptance test costs as much as a pass
        ask = (rank == 2) & ((best.rank < 3) | (seen.lit < best.lit))
        if bool(ask.any()):
            rank[ask] += goal.accept(shown[ask]).to(rank.dtype)
    fewer = (seen.lit < best.lit) | ((seen.lit == best.lit) & (seen.margin > best.margin))
    better = (rank > best.rank) | ((rank == best.rank) & torch.where(rank > 0, fewer, seen.margin > best.margin))
    better &= seen.finite | (rank > 0)
    wide = better[:, None, None, None]
    return _Best(
        torch.where(wide, shown, best.images),
        torch.where(better, seen.confidence, best.confidence),
        torch.where(better, seen.margin, best.margin),
        torch.where(better, seen.lit, best.lit),
        torch.where(better, rank, best.rank),
        torch.where(rank > 0, torch.minimum(seen.lit, best.fewest), best.fewest),
        seen.finite,
    )


def _collect(finished: list[tuple[Tensor, _Best]], targets: Tensor, used: Tensor) -> Fooling:
    order = torch.cat([index for index, _ in finished]).argsort()
    best = _Best.cat([part for _, part in finished]).rows(order)
    outcome = torch.where(best.rank == 3, int(Outcome.MET), int(Outcome.OUT_OF_STEPS))
    outcome = torch.where((outcome != Outcome.MET) & ~best.finite, int(Outcome.NOT_FINITE), outcome)
    return Fooling(best.images, targets, best.confidence, best.lit, used, used.clone(), outcome, best.fewest)
