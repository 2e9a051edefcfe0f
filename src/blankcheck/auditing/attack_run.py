"""Run one attack on a batch of attempts: search and polish, as memory allows.

On a device a batch that does not fit is halved. CPU allocators do not fail early, the process is
killed; so there the size of a batch is fixed beforehand, by the shape of the images alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blankcheck.auditing.portfolio import Attack
from blankcheck.classifiers import probabilities
from blankcheck.fooling import FORWARDS_PER_STEP, Goal, Problem, polish, search
from blankcheck.fooling.starts import Real, Start
from blankcheck.outputs import in_small_passes
from blankcheck.types import (
    NEVER,
    Accept,
    Classifier,
    Conditions,
    Fooling,
    Outcome,
    Rows,
    count_lit,
)
from blankcheck.users import out_of_memory

MIN_POLISHED = {False: 10, True: 40}
"""Steps from which some of them are kept for polishing; with fewer, searching on gains more. True:
for rules that score trial images, whose forward passes are scarce, too."""
POLISH_BACKWARD = 2
POLISH_FORWARD = 0.1
"""Share of the forward passes kept for polishing."""
SEARCH_BYTES = 430
"""Of a search per feature and image, beside the network's own (`benchmarks/memory.py`)."""
SEARCH_MEMORY = 2**30
"""Bytes that the search of a batch on the CPU may take: 125 images up to 3x81x81, 16 of 3x224x224.
The layers of the network take several times as much."""


@dataclass(frozen=True)
class Job:
    """What all attempts of a run share.

    Args:
        classifier: from images (n, c, h, w) in [0, 1] to outputs (n, m).
        form: of its outputs.
        shape: of an image, (c, h, w).
        conditions: what makes a fooling image.
        attacks: tried in this order within an attempt.
        stop_at_lit: an attempt ends once its goal is met with at most this many lit features.
        more: or, but for attacks that start from its best, once so many tried to improve it.
        budget: steps of an attempt, of which `portfolio.reserve` are kept for attempts that repeat
            the image of another one; 0: repeats stay.
        real: real images and labels, for the starts that need them.
        accept: a further condition, from images to booleans.
        starts: the kinds of start by name, `STARTS` if None; images (n, c, h, w) are taken as they
            are.
        mask: (n, 1 or c, h, w) bool, or a kind of random mask; it is laid over each attack's own.
        seed: of all random numbers.
        device: where the classifier is.
    """

    classifier: Classifier
    form: str
    shape: tuple[int, int, int]
    conditions: Conditions
    attacks: tuple[Attack, ...]
    stop_at_lit: int
    more: int = 2
    budget: int = 0
    real: Real | None = None
    accept: Accept | None = None
    starts: Mapping[str, Start | Tensor] | None = None
    mask: Tensor | str | None = None
    seed: int = 0
    device: torch.device | str = "cpu"

    @property
    def ends_at_goal(self) -> bool:
        """Whether images stop at the goal, and are not polished."""
        return self.stop_at_lit >= self.conditions.max_lit


@dataclass(frozen=True)
class Batch(Rows):
    """targets (n,), start (n, c, h, w), keys (n,), mask (n, c, h, w) bool or None."""

    targets: Tensor
    start: Tensor
    keys: Tensor
    mask: Tensor | None


def rows_at_once(shape: Sequence[int], device: torch.device | str) -> int | None:
    """The most images (c, h, w) that are searched together; None for as many as there are."""
    on_cpu = torch.device(device).type == "cpu"
    return max(1, SEARCH_MEMORY // (SEARCH_BYTES * math.prod(shape))) if on_cpu else None


def run_attack(job: Job, attack: Attack, batch: Batch) -> tuple[Fooling, int]:
    """What the attack finds, on the CPU, and how often a batch was halved for want of memory."""
    n = len(batch.targets)
    most = rows_at_once(batch.start.shape[1:], job.device) or n
    return _in_parts(job, attack, batch, torch.split(torch.arange(n), most))


def _in_parts(
    job: Job, attack: Attack, batch: Batch, parts: Sequence[Tensor]
) -> tuple[Fooling, int]:
    done = [_within_memory(job, attack, batch.rows(part)) for part in parts]
    return Fooling.cat([found for found, _ in done]), sum(splits for _, splits in done)


def _within_memory(job: Job, attack: Attack, batch: Batch) -> tuple[Fooling, int]:
    n = len(batch.targets)
    try:
        return _run(job, attack, batch), 0
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error) or n == 1:
            raise
    # outside of the except block, whose error would keep the tensors of the failed try alive
    found, splits = _in_parts(job, attack, batch, torch.arange(n).tensor_split([n // 2]))
    return found, splits + 1


def _run(job: Job, attack: Attack, batch: Batch) -> Fooling:
    want, device, steps = job.conditions, job.device, attack.steps
    mask = None if batch.mask is None else batch.mask.to(device)
    problem = Problem(in_small_passes(job.classifier), job.form, batch.targets.to(device), mask)
    until = "met" if job.ends_at_goal else "sparsest"
    goal = Goal(want.confidence, want.max_lit, until, job.accept)
    solver, start = attack.solver(steps, want.max_lit), batch.start.to(device)
    kept = POLISH_BACKWARD * (not job.ends_at_goal and steps >= MIN_POLISHED[solver.trials])
    budget = FORWARDS_PER_STEP * steps
    forwards = budget - round(POLISH_FORWARD * budget) if kept else budget
    early = attack.early_stop_after and max(1, attack.early_stop_after - kept)
    found = search(problem, start, solver, goal, steps - kept, batch.keys, forwards, early)
    if kept:
        found = polish(problem, found, goal, budget - found.forwards, kept)
    return Fooling(**{name: getattr(found, name).cpu() for name in found.__dataclass_fields__})


def scored_once(job: Job, images: Tensor, targets: Tensor) -> Fooling:
    """Others' images (n, c, h, w), as if the job's search had met each in one forward pass."""
    want, lit = job.conditions, count_lit(images)
    p = probabilities(job.classifier, images, job.form).gather(1, targets[:, None]).squeeze(1)
    sure = p >= want.confidence
    good = sure & (lit <= want.max_lit)
    if job.accept is not None and bool(good.any()):
        good[good.clone()] = job.accept(images[good])
    none = torch.zeros_like(targets)
    outcome = torch.where(good, int(Outcome.MET), int(Outcome.OUT_OF_STEPS))
    fewest = torch.where(sure, lit, NEVER)
    return Fooling(images, targets, p, lit, none, none + 1, outcome, fewest, none)


def merged(whole: Fooling, rows: Tensor, found: Fooling, better: Tensor) -> Fooling:
    """The whole, with what was found for rows (m,) where that is better (m,); passes add up."""
    before = whole.rows(rows)
    part = replace(
        found.where(better, before),
        steps=before.steps + found.steps,
        forwards=before.forwards + found.forwards,
        fewest=torch.minimum(before.fewest, found.fewest),
        found_at=torch.where(better, before.steps + found.found_at, before.found_at),
    )
    order = torch.arange(len(whole))
    order[rows] = len(whole) + torch.arange(len(rows))
    return Fooling.cat([whole, part]).rows(order)
