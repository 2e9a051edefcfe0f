"""Run a portfolio: for each attempt the attacks try in a fixed order until one is good enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blankcheck.auditing.attack_run import Batch, Job, merged, run_attack
from blankcheck.auditing.deduplicate import deduplicated
from blankcheck.auditing.portfolio import BEST, Attack
from blankcheck.fooling import NEED_REAL, STARTS, random_mask
from blankcheck.judging.metrics import median
from blankcheck.parallel.spread import Spread, alone
from blankcheck.seeds import own_random_numbers, seed_of, seeded
from blankcheck.types import Conditions, Fooling, Rows

CHUNK = 125
"""Attempts live in fixed chunks by global index, to which random numbers and batches belong. A
`standard` audit has four. Smaller chunks cost more in all (docs/scale.md)."""
MASK_KEEP = (0.5, 1.0)
"""Range of the share of positions kept by a mask that was asked for by its kind alone."""


@dataclass(frozen=True)
class AttemptResults(Rows):
    """What a run of attempts ended with.

    Args:
        best: the best image of each attempt.
        attack: (n,) index of the attack that found it.
        ran: (n, a) bool, the attacks that were run for it.
        oom_splits: how often a batch was halved for want of memory.
    """

    best: Fooling
    attack: Tensor
    ran: Tensor
    oom_splits: int = 0

    def rows(self, index: Tensor) -> AttemptResults:
        """The same for the given attempts."""
        return replace(super().rows(index), best=self.best.rows(index))

    @classmethod
    def of(cls, best: Fooling) -> AttemptResults:
        """Images that the only attack found."""
        only = torch.ones(len(best), 1, dtype=torch.bool)
        return cls(best, torch.zeros_like(best.targets), only)


Progress = Callable[[int, int, AttemptResults | None], None]
"""Called as progress(done, all, chunk): the results of a chunk that ended, or None between two of
its attacks, where `done` counts it by the steps that lie behind."""

Note = Callable[[str, int, int, str], None]
"""Called as note(stage, done, all, words) while work goes on."""


def told_as(note: Note) -> Progress:
    """Attempts as the stage `search`: how many of those that ended fooled, and how sparsely."""
    ended, fooled, lit = 0, 0, list[int]()

    def tell(done: int, total: int, part: AttemptResults | None) -> None:
        nonlocal ended, fooled
        if part is not None:
            met = part.best.met
            ended, fooled = done, fooled + int(met.sum())
            lit.extend(part.best.lit[met].tolist())
        middle = f", median {median(lit)} lit" if lit else ""
        note("search", done, total, f"{fooled} of {ended} fooled{middle}")

    return tell


def run_attempts(
    job: Job, targets: Sequence[int], progress: Progress | None = None, spread: Spread = alone
) -> AttemptResults:
    """One attempt per entry of `targets`, chunk by chunk.

    Args:
        job: what the attempts share.
        targets: the class of each attempt.
        progress: told of each chunk, and of each attack of those of this process.
        spread: by which processes share the chunks.
    """
    asked = torch.tensor(list(targets), dtype=torch.int64)
    chunks, told, done = torch.split(asked, CHUNK), set[int](), 0

    def tell(index: int, part: AttemptResults) -> None:
        nonlocal done
        told.add(index)
        done += len(part.attack)
        if progress is not None:
            progress(done, len(asked), part)

    def partly(attempts: float) -> None:
        if progress is not None:
            progress(done + int(attempts), len(asked), None)

    def run(index: int) -> AttemptResults:
        # for networks that draw random numbers: theirs belong to the chunk, not to whoever runs it
        with own_random_numbers(seed_of(job.seed, index, "network"), [torch.device(job.device)]):
            part = _Chunk(job, chunks[index], index).run(partly)
        tell(index, part)
        return part

    parts: list[AttemptResults] = spread(len(chunks), run)
    for index, part in enumerate(parts):
        if index not in told:
            tell(index, part)
    return AttemptResults(
        Fooling.cat([p.best for p in parts]),
        torch.cat([p.attack for p in parts]),
        torch.cat([p.ran for p in parts]),
        sum(p.oom_splits for p in parts),
    )


class _Chunk:
    """The attempts of one chunk. Random numbers are drawn for all, whichever still run."""

    def __init__(self, job: Job, targets: Tensor, index: int) -> None:
        self.job, self.targets, self.index, self.n = job, targets, index, len(targets)
        # attacks that tried to make a sparser image, and attempts for which one stopped early
        self.tried_after = torch.zeros(self.n, dtype=torch.int64)
        self.stopped = torch.zeros(self.n, dtype=torch.bool)
        self.results: AttemptResults | None = None

    def run(self, partly: Callable[[float], None]) -> AttemptResults:
        """All attacks, and then, where a budget is kept for it, other images for repeats.

        partly: told after each attack which part of the chunk's attempts its steps make up."""
        steps, all_steps = 0, sum(attack.steps for attack in self.job.attacks)
        for number, attack in enumerate(self.job.attacks):
            if attack.start not in NEED_REAL or self.job.real is not None:
                self._attack(number, attack)
            steps += attack.steps
            partly(self.n * steps / (all_steps + 1))
        results = self.results
        assert results is not None, "a portfolio has an attack that needs no real images"
        if not self.job.budget:
            return results
        best, splits = deduplicated(self.job, results.best, self._mask(), self._drawing("variety"))
        return replace(results, best=best, oom_splits=results.oom_splits + splits)

    def _drawing(self, *names: object) -> torch.Generator:
        return seeded(self.job.seed, self.index, *names)

    def _attack(self, number: int, attack: Attack) -> None:
        rows = self._rows_for(attack)
        if len(rows) == 0:
            return
        generator = self._drawing(number, attack.name)
        start = self._start(attack, generator)
        mask = self._mask_of(attack, start, generator)
        keys = torch.randint(2**62, (self.n,), generator=generator)
        mask = None if mask is None else mask.expand(-1, *self.job.shape)
        batch = Batch(self.targets, start, keys, mask).rows(rows)
        found, splits = run_attack(self.job, attack, batch)
        if self.results is not None and attack.start != BEST:
            self.tried_after[rows] += self.results.best.met[rows]
        self.results = self._joined(found, rows, number, splits)
        if attack.early_stop_after is not None:
            best, want = self.results.best.rows(rows), self.job.conditions
            useless = (best.confidence < want.confidence) | (best.lit <= want.max_lit)
            self.stopped[rows] = ~best.met & useless & (found.steps <= attack.early_stop_after)

    def _rows_for(self, attack: Attack) -> Tensor:
        """The attempts this attack is run for."""
        if self.results is None:
            return torch.arange(self.n)
        best = self.results.best
        ended = best.met & (best.lit <= self.job.stop_at_lit)
        asked = ~ended & (self.stopped | (not attack.fallback))
        if attack.start == BEST:
            # steps that would go on from what was found belong to the fallbacks of who was stopped
            asked &= self.stopped == attack.fallback
            least, most = attack.lit
            asked &= best.confidence >= attack.sure * self.job.conditions.confidence
            asked &= (best.lit >= least) & (best.lit <= most)
        else:
            asked &= ~(best.met & (self.tried_after >= self.job.more))
        return asked.nonzero().squeeze(1)

    def _start(self, attack: Attack, generator: torch.Generator) -> Tensor:
        if attack.start == BEST:
            assert self.results is not None, "a portfolio does not begin with another's image"
            return self.results.best.images
        source = (self.job.starts or STARTS)[attack.start]
        if isinstance(source, Tensor):
            return source[self.index * CHUNK :][: self.n]
        return source(self.targets, self.job.shape, generator, self.job.real)

    def _mask_of(self, attack: Attack, start: Tensor, generator: torch.Generator) -> Tensor | None:
        asked = self._mask()
        # random masks that were asked for make the images differ already
        if attack.mask_keep is None or isinstance(self.job.mask, str):
            return asked
        own = random_mask(attack.mask, self.n, self.job.shape, attack.mask_keep, generator)
        own = own | (start > 0) if attack.start == BEST else own
        return own if asked is None else asked & own

    def _mask(self) -> Tensor | None:
        """The mask that was asked for."""
        mask = self.job.mask
        if isinstance(mask, str):
            return random_mask(mask, self.n, self.job.shape, MASK_KEEP, self._drawing("mask"))
        if mask is None or len(mask) == 1:
            return None if mask is None else mask.expand(self.n, -1, -1, -1)
        return mask[self.index * CHUNK :][: self.n]

    def _joined(self, found: Fooling, rows: Tensor, number: int, splits: int) -> AttemptResults:
        before = self.results
        if before is None:
            ran = torch.zeros(self.n, len(self.job.attacks), dtype=torch.bool)
            ran[:, number] = True
            return AttemptResults(found, torch.full((self.n,), number), ran, splits)
        better = _better(found, before.best.rows(rows), self.job.conditions)
        ran, attack = before.ran.clone(), before.attack.clone()
        ran[rows, number] = True
        attack[rows] = torch.where(better, number, attack[rows])
        best = merged(before.best, rows, found, better)
        return AttemptResults(best, attack, ran, before.oom_splits + splits)


def _rank(found: Fooling, want: Conditions) -> Tensor:
    """0 not confident, 1 confident, 2 also sparse, 3 all that was wanted."""
    rank = (found.confidence >= want.confidence).long()
    rank += (rank > 0) & (found.lit <= want.max_lit)
    return torch.where(found.met, 3, rank)


def _better(new: Fooling, old: Fooling, want: Conditions) -> Tensor:
    new_rank, old_rank = _rank(new, want), _rank(old, want)
    within_rank = torch.where(new_rank > 0, new.lit < old.lit, new.confidence > old.confidence)
    return (new_rank > old_rank) | ((new_rank == old_rank) & within_rank)
