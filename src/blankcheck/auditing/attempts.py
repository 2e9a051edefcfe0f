"""Run a portfolio: for each attempt the processes try in a fixed order until one is good enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blankcheck.auditing.attack_run import Batch, SearchTask, run_attack
from blankcheck.auditing.deduplicate import varied
from blankcheck.auditing.portfolio import BEST, Attack, reserve
from blankcheck.fooling import NEED_REAL, STARTS, random_mask
from blankcheck.fooling.starts import Real, Start
from blankcheck.parallel.spread import Spread, alone
from blankcheck.seeds import own_random_numbers, seed_of, seeded
from blankcheck.types import Accept, Classifier, Conditions, Fooling, Rows

CHUNK = 125
"""Attempts live in fixed chunks by global index: random numbers and batches belong to a chunk, not
to a run. A `standard` audit has four, which two or four processes share evenly. Smaller chunks cost
more in all (docs/scale.md)."""
MASK_KEEP = (0.5, 1.0)
"""Range of the share of positions kept by a mask that was asked for by its kind alone."""


@dataclass(frozen=True)
class AttemptResults(Rows):
    """The best of each attempt. attack: (n,) index of the process that found it. ran: (n, p) bool,
    the processes that were run for it. oom_splits: how often a batch was halved for want of memory."""

    best: Fooling
    attack: Tensor
    ran: Tensor
    oom_splits: int = 0

    def rows(self, index: Tensor) -> AttemptResults:
        """The same for the given attempts."""
        return AttemptResults(
            self.best.rows(index), self.attack[index], self.ran[index], self.oom_splits
        )


@dataclass(frozen=True)
class Job:
    """What all attempts of a run share.

    stop_at_lit: an attempt ends once its goal is met with at most this many lit features, or, but for
    the processes that go on from its best image, once `more` further processes have tried to make a
    sparser one. budget: steps of an attempt, of which `portfolio.reserve` are kept for attempts that
    repeat the image of another one; 0: repeats stay. mask: (n, 1 or c, h, w) bool for all attempts,
    or a kind of random mask, or None; it is laid over each process's own. starts: the kinds of
    start by name, `STARTS` if None; images (n, c, h, w) are taken as they are.
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


Progress = Callable[[int, int, AttemptResults], None]


def run_attempts(
    job: Job, targets: Sequence[int], progress: Progress | None = None, spread: Spread = alone
) -> AttemptResults:
    """One attempt per entry of `targets`, chunk by chunk. `progress(done, all, chunk)` is called
    once for each, for those of other processes at the end. spread: by which processes share the
    chunks."""
    wanted = torch.tensor(list(targets), dtype=torch.int64)
    firsts, told, done = range(0, len(wanted), CHUNK), set[int](), 0

    def tell(index: int, part: AttemptResults) -> None:
        nonlocal done
        told.add(index)
        done += len(part.attack)
        if progress is not None:
            progress(done, len(wanted), part)

    def run(index: int) -> AttemptResults:
        first = firsts[index]
        # for networks that draw random numbers: theirs belong to the chunk, not to whoever runs it
        with own_random_numbers(seed_of(job.seed, index, "network"), [torch.device(job.device)]):
            part = _run_chunk(job, wanted[first : first + CHUNK], first)
        tell(index, part)
        return part

    parts: list[AttemptResults] = spread(len(firsts), run)
    for index, part in enumerate(parts):
        if index not in told:
            tell(index, part)
    return AttemptResults(
        Fooling.cat([p.best for p in parts]),
        torch.cat([p.attack for p in parts]),
        torch.cat([p.ran for p in parts]),
        sum(p.oom_splits for p in parts),
    )


def _run_chunk(job: Job, targets: Tensor, first: int) -> AttemptResults:
    n = len(targets)
    tried: AttemptResults | None = None
    tries_after, given_up = torch.zeros(n, dtype=torch.int64), torch.zeros(n, dtype=torch.bool)
    bench = SearchTask(
        job.classifier,
        job.form,
        job.conditions,
        job.accept,
        job.stop_at_lit >= job.conditions.max_lit,
        job.device,
    )
    for index, process in enumerate(job.attacks):
        if process.start in NEED_REAL and job.real is None:
            continue
        rows = _rows_for(process, tried, tries_after, given_up, job)
        if len(rows) == 0:
            continue
        # drawn for the whole chunk, so that an attempt's start does not depend on which others
        # still run
        generator = seeded(job.seed, first // CHUNK, index, process.name)
        start = _start(job, process, tried, targets, first, generator)
        mask = _mask(job, process, start, first, generator)
        keys = torch.randint(2**62, (n,), generator=generator)
        batch = Batch(
            targets, start, keys, None if mask is None else mask.expand(-1, *job.shape)
        ).rows(rows)
        found, halved = run_attack(bench, process, batch)
        if tried is not None and process.start != BEST:
            tries_after[rows] += tried.best.met[rows]
        tried = _merge(tried, found, rows, index, halved, job)
        if process.early_stop_after is not None:
            given_up = tried.best.confidence < job.conditions.confidence
    assert tried is not None, "a portfolio has a process that needs no real images"
    if not job.budget:
        return tried
    generator = seeded(job.seed, first // CHUNK, "variety")
    best, halved = varied(
        bench, tried.best, _asked(job, n, first), reserve(job.budget), job.budget, generator
    )
    return replace(tried, best=best, oom_splits=tried.oom_splits + halved)


def _start(
    job: Job,
    process: Attack,
    tried: AttemptResults | None,
    targets: Tensor,
    first: int,
    generator: torch.Generator,
) -> Tensor:
    if process.start == BEST:
        assert tried is not None, (
            "a portfolio does not begin with a process that goes on from another's image"
        )
        return tried.best.images
    source = (job.starts or STARTS)[process.start]
    if isinstance(source, Tensor):
        return source[first : first + len(targets)]
    return source(targets, job.shape, generator, job.real)


def _rows_for(
    process: Attack, tried: AttemptResults | None, tries_after: Tensor, given_up: Tensor, job: Job
) -> Tensor:
    """The attempts this process is run for."""
    if tried is None:
        return torch.arange(len(tries_after))
    enough = tried.best.met & (tried.best.lit <= job.stop_at_lit)
    wanted = ~enough & (given_up | (not process.fallback))
    if process.start == BEST:
        wanted &= tried.best.confidence >= job.conditions.confidence
    else:
        wanted &= ~(tried.best.met & (tries_after >= job.more))
    return wanted.nonzero().squeeze(1)


def _mask(
    job: Job, process: Attack, start: Tensor, first: int, generator: torch.Generator
) -> Tensor | None:
    n = len(start)
    # random masks that were asked for make the images differ already
    wanted = process.mask_keep is not None and not isinstance(job.mask, str)
    own = (
        random_mask(process.mask, n, job.shape, process.mask_keep or 1.0, generator)
        if wanted
        else None
    )
    if own is not None and process.start == BEST:
        own = own | (start > 0)
    asked = _asked(job, n, first)
    if own is None or asked is None:
        return asked if own is None else own
    return asked & own


def _asked(job: Job, n: int, first: int) -> Tensor | None:
    """The mask that was asked for, for the `n` attempts of the chunk that begins at `first`."""
    if isinstance(job.mask, str):
        return random_mask(
            job.mask, n, job.shape, MASK_KEEP, seeded(job.seed, first // CHUNK, "mask")
        )
    if job.mask is None or len(job.mask) == 1:
        return None if job.mask is None else job.mask.expand(n, -1, -1, -1)
    return job.mask[first : first + n]


def _rank(found: Fooling, want: Conditions) -> Tensor:
    """0 not confident, 1 confident, 2 also sparse, 3 all that was wanted."""
    rank = (found.confidence >= want.confidence).long()
    rank += (rank > 0) & (found.lit <= want.max_lit)
    return torch.where(found.met, 3, rank)


def _better(new: Fooling, old: Fooling, want: Conditions) -> Tensor:
    new_rank, old_rank = _rank(new, want), _rank(old, want)
    within_rank = torch.where(new_rank > 0, new.lit < old.lit, new.confidence > old.confidence)
    return (new_rank > old_rank) | ((new_rank == old_rank) & within_rank)


def _merge(
    tried: AttemptResults | None, found: Fooling, rows: Tensor, index: int, halved: int, job: Job
) -> AttemptResults:
    if tried is None:
        n = len(found)
        ran = torch.zeros(n, len(job.attacks), dtype=torch.bool)
        ran[:, index] = True
        return AttemptResults(found, torch.full((n,), index), ran, halved)
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
        found_at=torch.where(better, before.steps + found.found_at, before.found_at),
    )
    ran, process = tried.ran.clone(), tried.attack.clone()
    ran[rows, index] = True
    process[rows] = torch.where(better, index, process[rows])
    joined = {name: getattr(tried.best, name).clone() for name in best.__dataclass_fields__}
    for name, whole in joined.items():
        whole[rows] = getattr(best, name)
    return AttemptResults(Fooling(**joined), process, ran, tried.oom_splits + halved)
