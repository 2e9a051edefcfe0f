"""Run a portfolio: for each attempt the processes try in a fixed order until one is good enough."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blankcheck.auditing.portfolio import POLISH_BACKWARD, Process
from blankcheck.fooling import NEED_REAL, STARTS, Goal, Problem, polish, random_mask, search
from blankcheck.fooling.starts import Real, Start
from blankcheck.types import Accept, Classifier, Conditions, Fooling, Outcome, Rows

CHUNK = 100
"""Attempts live in fixed chunks by global index: random numbers and batches belong to a chunk, not to a run."""


@dataclass(frozen=True)
class Tried(Rows):
    """The best of each attempt. process: (n,) index of the process that found it, -1 before any. ran: (n, p) bool, the
    processes that were run for it."""

    best: Fooling
    process: Tensor
    ran: Tensor

    def rows(self, index: Tensor) -> Tried:
        """The same for the given attempts."""
        return Tried(self.best.rows(index), self.process[index], self.ran[index])


@dataclass(frozen=True)
class Job:
    """What all attempts of a run share.

    enough: an attempt ends once its goal is met with at most this many lit features, or once `more` further processes have
    tried to make a sparser image. mask: (n, 1 or c, h, w) bool for all
    attempts, or a kind of random mask, or None; it is laid over each process's own. starts: the kinds of start by name,
    `STARTS` if None; images (n, c, h, w) are taken as they are.
    """

    classifier: Classifier
    form: str
    shape: tuple[int, int, int]
    conditions: Conditions
    processes: tuple[Process, ...]
    enough: int
    more: int = 2
    real: Real | None = None
    accept: Accept | None = None
    starts: Mapping[str, Start | Tensor] | None = None
    mask: Tensor | str | None = None
    seed: int = 0
    device: torch.device | str = "cpu"


Progress = Callable[[int, int, Tried], None]


def run_attempts(job: Job, targets: Sequence[int], progress: Progress | None = None) -> Tried:
    """One attempt per entry of `targets`, chunk by chunk. `progress(done, all, last chunk)` is called after each."""
    wanted = torch.tensor(list(targets), dtype=torch.int64)
    parts = []
    for first in range(0, len(wanted), CHUNK):
        part = _run_chunk(job, wanted[first : first + CHUNK], first)
        parts.append(part)
        if progress is not None:
            progress(min(first + CHUNK, len(wanted)), len(wanted), part)
    return Tried(
        Fooling.cat([p.best for p in parts]), torch.cat([p.process for p in parts]), torch.cat([p.ran for p in parts])
    )


def seeded(*parts: object) -> torch.Generator:
    """A generator whose stream is fixed by the parts, and unrelated for other parts."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _run_chunk(job: Job, targets: Tensor, first: int) -> Tried:
    n = len(targets)
    tried: Tried | None = None
    tries_after = torch.zeros(n, dtype=torch.int64)
    for index, process in enumerate(job.processes):
        if process.start in NEED_REAL and job.real is None:
            continue
        generator = seeded(job.seed, first // CHUNK, index, process.name)
        # made for the whole chunk, so that an attempt's start does not depend on which others still run
        source = (job.starts or STARTS)[process.start]
        start = source[first : first + n] if isinstance(source, Tensor) else source(targets, job.shape, generator, job.real)
        mask = _mask(job, process, n, first, generator)
        rows = _unfinished(tried, tries_after, job)
        if len(rows) == 0:
            break
        found = _run_process(
            job, process, targets[rows], start[rows], None if mask is None else mask[rows].expand(-1, *job.shape)
        )
        if tried is not None:
            tries_after[rows] += tried.best.met[rows]
        tried = _merge(tried, found, rows, index, job)
    assert tried is not None, "a portfolio has a process that needs no real images"
    return tried


def _mask(job: Job, process: Process, n: int, first: int, generator: torch.Generator) -> Tensor | None:
    own = random_mask("pixels", n, job.shape, process.mask_keep, generator) if process.mask_keep else None
    if job.mask is None:
        return own
    if isinstance(job.mask, str):
        asked = random_mask(job.mask, n, job.shape, (0.3, 0.8), seeded(job.seed, first // CHUNK, "mask"))
    else:
        asked = job.mask[first : first + n] if len(job.mask) > 1 else job.mask.expand(n, -1, -1, -1)
    return asked if own is None else own & asked


def _unfinished(tried: Tried | None, tries_after: Tensor, job: Job) -> Tensor:
    if tried is None:
        return torch.arange(len(tries_after))
    done = tried.best.met & ((tried.best.lit <= job.enough) | (tries_after >= job.more))
    return (~done).nonzero().squeeze(1)


def _run_process(job: Job, process: Process, targets: Tensor, start: Tensor, mask: Tensor | None) -> Fooling:
    want = job.conditions
    stop_at_once = job.enough >= want.max_lit
    goal = Goal(want.confidence, want.max_lit, "met" if stop_at_once else process.until, job.accept)
    # an image from a gradient rule is sparse only after polishing: it must not be let go before
    reach = replace(goal, max_lit=start[0].numel(), accept=None) if process.until == "met" and not stop_at_once else goal
    device = job.device
    problem = Problem(job.classifier, job.form, targets.to(device), None if mask is None else mask.to(device))
    steps = process.steps if stop_at_once else max(1, process.steps - POLISH_BACKWARD)
    found = search(problem, start.to(device), process.solver(steps, want.max_lit), reach, steps)
    if not stop_at_once:
        found = polish(problem, rejudged(found, goal), goal, 2 * process.steps, min(POLISH_BACKWARD, process.steps))
    return Fooling(**{name: getattr(found, name).cpu() for name in found.__dataclass_fields__})


def rejudged(found: Fooling, goal: Goal) -> Fooling:
    """The same images with their outcome under another goal."""
    met = (found.confidence >= goal.wanted) & (found.lit <= goal.max_lit)
    if goal.accept is not None and bool(met.any()):
        met[met.clone()] = goal.accept(found.images[met])
    lost = torch.where(found.outcome == Outcome.NOT_FINITE, int(Outcome.NOT_FINITE), int(Outcome.OUT_OF_STEPS))
    return replace(found, outcome=torch.where(met, int(Outcome.MET), lost))


def _rank(found: Fooling, want: Conditions) -> Tensor:
    """0 not confident, 1 confident, 2 also sparse, 3 all that was wanted."""
    rank = (found.confidence >= want.confidence).long()
    rank += (rank > 0) & (found.lit <= want.max_lit)
    return torch.where(found.met, 3, rank)


def _better(new: Fooling, old: Fooling, want: Conditions) -> Tensor:
    new_rank, old_rank = _rank(new, want), _rank(old, want)
    within_rank = torch.where(new_rank > 0, new.lit < old.lit, new.confidence > old.confidence)
    return (new_rank > old_rank) | ((new_rank == old_rank) & within_rank)


def _merge(tried: Tried | None, found: Fooling, rows: Tensor, index: int, job: Job) -> Tried:
    if tried is None:
        n = len(found)
        ran = torch.zeros(n, len(job.processes), dtype=torch.bool)
        ran[:, index] = True
        return Tried(found, torch.full((n,), index), ran)
    before = tried.best.rows(rows)
    better = _better(found, before, job.conditions)
    wide = better[:, None, None, None]
    best = replace(
        before,
        images=torch.where(wide, found.images, before.images),
        confidence=torch.where(better, found.confidence, before.confidence),
        lit=torch.where(better, found.lit, before.lit),
        steps=before.steps + found.steps,
        forwards=before.forwards + found.forwards,
        outcome=torch.where(better, found.outcome, before.outcome),
        fewest=torch.minimum(before.fewest, found.fewest),
    )
    ran, process = tried.ran.clone(), tried.process.clone()
    ran[rows, index] = True
    process[rows] = torch.where(better, index, process[rows])
    joined = {name: getattr(tried.best, name).clone() for name in best.__dataclass_fields__}
    for name, whole in joined.items():
        whole[rows] = getattr(best, name)
    return Tried(Fooling(**joined), process, ran)
