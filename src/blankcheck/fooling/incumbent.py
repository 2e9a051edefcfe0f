"""The best image of each row so far. Only asking for acceptance makes the host wait."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from blankcheck.fooling.problem import Goal
from blankcheck.fooling.tensor_ops import sync_is_free
from blankcheck.types import NEVER, Rows, stored

NOT_CONFIDENT, CONFIDENT, SPARSE, ACCEPTED = range(4)
"""Ranks of images; each stands for the conditions of all ranks below it, too."""


@dataclass(frozen=True)
class Best(Rows):
    """The best image of each row. rank: as above, -1 before the first image. finite: False where
    the search broke. done: rows that are finished, or broken. steps, forwards: passes used by rows
    that are done. found_at: backward passes used when the image was met."""

    images: Tensor
    log_odds: Tensor
    lit: Tensor
    rank: Tensor
    fewest: Tensor
    finite: Tensor
    done: Tensor
    steps: Tensor
    forwards: Tensor
    found_at: Tensor

    @classmethod
    def of_nothing(cls, images: Tensor) -> Best:
        """Before the first measurement of images (n, c, h, w)."""
        none = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        odds = images.new_full((len(images),), -torch.inf)
        ends = none == 0, none > 0, none, none, none
        return cls(stored(images), odds, none, none - 1, none + NEVER, *ends)


@dataclass(frozen=True)
class Candidates:
    """Stored images (n, c, h, w) scored after so many passes. finite: of measured ones."""

    images: Tensor
    log_odds: Tensor
    lit: Tensor
    finite: Tensor | None
    steps: int
    forwards: int


@dataclass
class Incumbent:
    """The best so far, the goal, and candidates not yet compared with it, in the order shown."""

    best: Best
    goal: Goal
    pending: list[Candidates] = field(default_factory=list)

    def show(self, candidates: Candidates) -> None:
        """Remember what is better. What must be accepted waits until the host looks anyway."""
        self.pending.append(candidates)
        if self.goal.accept is None or sync_is_free(candidates.images.device):
            self.flush()

    def flush(self) -> None:
        """Compare what is pending with the best; who has all that is wanted, or broke, is done."""
        for turn, (shown, rank) in enumerate(zip(self.pending, self._ranks(), strict=True)):
            if turn and self.goal.accept is not None:
                # Asked about together with earlier images: where one of those was accepted and has
                # no more lit features, nobody would have asked about this one.
                asked_in_vain = (self.best.rank == ACCEPTED) & (shown.lit >= self.best.lit)
                rank = torch.where((rank == ACCEPTED) & asked_in_vain, SPARSE, rank)
            self._compare(shown, rank)
            if self.goal.until == "met":
                done = self.best.done | (self.best.rank == ACCEPTED)
                self.finish(done, self.best.finite, shown.steps, shown.forwards)
            if shown.finite is not None:
                finite = self.best.finite & (shown.finite | self.best.done)
                self.finish(self.best.done | ~finite, finite, shown.steps, shown.forwards)
        self.pending.clear()

    def finish(self, done: Tensor, finite: Tensor, steps: int, forwards: int) -> None:
        """Rows `done` (n,) change no more; those that are new have used so many passes."""
        new = done & ~self.best.done
        if sync_is_free(new.device) and not bool(new.any()):
            return
        steps_used = torch.where(new, steps, self.best.steps)
        forwards_used = torch.where(new, forwards, self.best.forwards)
        ends = {"done": done, "finite": finite, "steps": steps_used, "forwards": forwards_used}
        self.best = replace(self.best, **ends)

    def _ranks(self) -> list[Tensor]:
        """The rank (n,) of all that is pending. Acceptance is asked once, of possible winners."""
        goal, best, ranks = self.goal, self.best, []
        for shown in self.pending:
            rank = (shown.log_odds >= goal.target_log_odds).long()
            ranks.append(rank + (rank > NOT_CONFIDENT) * (shown.lit <= goal.max_lit))
        if goal.accept is None or not ranks:
            return [torch.where(rank == SPARSE, ACCEPTED, rank) for rank in ranks]
        may_win = [(best.rank < ACCEPTED) | (shown.lit < best.lit) for shown in self.pending]
        pairs = zip(ranks, may_win, strict=True)
        asks = torch.stack([(rank == SPARSE) & may & ~best.done for rank, may in pairs])
        many = asks.sum(dim=1).tolist()
        if not any(many):
            return ranks
        rows = torch.split(asks.nonzero()[:, 1], many)
        images = [shown.images[index] for shown, index in zip(self.pending, rows, strict=True)]
        answers = torch.split(goal.accept(torch.cat(images)).to(ranks[0].dtype), many)
        asked = zip(ranks, rows, answers, strict=True)
        return [rank.index_add(0, index, answer) for rank, index, answer in asked]

    def _compare(self, shown: Candidates, rank: Tensor) -> None:
        """Keep the better one of each row, of these images of this `rank` (n,) and the best."""
        best, odds, lit = self.best, shown.log_odds, shown.lit
        surer = odds > best.log_odds
        fewer = (lit < best.lit) | ((lit == best.lit) & surer)
        within_rank = torch.where(rank > NOT_CONFIDENT, fewer, surer)
        better = (rank > best.rank) | ((rank == best.rank) & within_rank)
        better &= ~best.done & ((odds > -torch.inf) | (best.rank < 0))
        confident = (odds >= self.goal.target_log_odds) & ~best.done
        fewest = torch.where(confident, torch.minimum(lit, best.fewest), best.fewest)
        self.best = replace(best, fewest=fewest)
        if sync_is_free(better.device) and not bool(better.any()):
            return
        self.best = replace(
            self.best,
            images=torch.where(better[:, None, None, None], shown.images, best.images),
            log_odds=torch.where(better, odds, best.log_odds),
            lit=torch.where(better, lit, best.lit),
            rank=torch.where(better, rank, best.rank),
            found_at=torch.where(better, shown.steps, best.found_at),
        )
