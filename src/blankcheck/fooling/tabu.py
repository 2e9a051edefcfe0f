"""Tabu search over sets of lit features: the sparsest images in the fewest passes.

Looking for the fewest features that make a network sure is a search over subsets. The gradient of
the log-odds ranks the moves, a few forward passes try the best-ranked ones, the best of these is
made whether it improves the image or not, and a feature just moved is tabu for a few steps, so that
the walk does not undo itself (Glover 1989, "Tabu search, part I", ORSA Journal on Computing 1:190).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from blankcheck.fooling.counter_rng import uniform
from blankcheck.fooling.problem import Measurement
from blankcheck.fooling.solvers import StepContext
from blankcheck.types import LIT_THRESHOLD, NEVER, Rows

FEWEST_RANKED, RANKED_SHARE = 8, 64
"""Features looked at from either end of the ranking: the most for which torch's topk sorts
partially (a 64th of them), or eight. No trial adds or removes more at once."""
SWAPS = ((0, 0), (0, 1), (1, 0), (0, 2), (2, 0), (1, 1), (0, 3), (3, 0))
"""Which swaps are tried: (rank of the feature to remove, rank of the feature to add)."""
TABU_LOSS = 1e9
"""Makes a tabu feature come last in the order of removal: it is had if nothing else is left."""


@dataclass(frozen=True)
class TabuState(Rows):
    """Where the walk of each image is.

    Per image, (n,): its key, the fewest lit features of a confident image so far, whether it is
    still being filled for the first time, how many features the next removal takes at once. Per
    feature, (n, d): the step from which it may be added, or removed, again; by how much adding it
    did better than its gradient said.
    """

    step: int
    keys: Tensor
    fewest: Tensor
    filling: Tensor
    block: Tensor
    no_add_until: Tensor
    no_remove_until: Tensor
    gain_correction: Tensor


@dataclass(frozen=True)
class _Ranking:
    """Features of each image by what moving them seems worth, all (n, r). dark, lit: positions to
    add and to remove; gain, loss: of log-odds. slope: the gradient at the dark ones. value: of the
    lit ones; share: that times the gradient."""

    dark: Tensor
    lit: Tensor
    gain: Tensor
    loss: Tensor
    slope: Tensor
    value: Tensor
    share: Tensor


@dataclass(frozen=True)
class TabuSearch:
    """Add what gains most until the image is confident; then, for ever, one feature fewer.

    A confident image loses its least useful features, several at once while that succeeds. An image
    with one feature fewer than the sparsest confident one so far that is not confident swaps a lit
    feature for a dark one; with still fewer it gets one more.

    Args:
        tried: (step, trials): from that step on so many moves are scored. The default spends, with
            its gradients, about the three forward passes per step that a search allows.
        tenure: most steps for which a feature just moved is tabu; each time drawn from 1 up.
        damp: share of the first-order gain counted on to decide how many features to add.
        rate: share of what a trial showed beyond its gradient that is learnt at once, for the
            ranking. Without it (0) the images of MNIST's cnn have 8.82 instead of 8.42 lit features
            after 100 steps (`benchmarks/search.py`).
        decay: share of what was learnt that is lost at every step: the image moves on.
    """

    tried: tuple[tuple[int, int], ...] = ((0, 1), (3, 2), (28, 4))
    tenure: int = 3
    damp: float = 1.0
    rate: float = 0.5
    decay: float = 0.1
    gradient: ClassVar[bool] = True
    trials: ClassVar[bool] = True

    def init(self, images: Tensor, keys: Tensor) -> TabuState:
        """Nothing tabu, nothing learnt."""
        n, d = len(images), images[0].numel()
        none = torch.zeros(n, dtype=torch.int64, device=images.device)
        free = torch.zeros(n, d, dtype=torch.int32, device=images.device)
        learnt = images.new_zeros(n, d)
        return TabuState(0, keys, none + NEVER, none == 0, none + 1, free, free.clone(), learnt)

    def step(
        self, state: TabuState, images: Tensor, seen: Measurement, look: StepContext
    ) -> tuple[Tensor, TabuState]:
        """One move of each image."""
        scheduled = next(many for since, many in reversed(self.tried) if state.step >= since)
        trials = min(scheduled, look.forwards)
        if trials < 1:
            return images, state
        flat = images.flatten(1) * (images.flatten(1) >= LIT_THRESHOLD)
        sure, filling = seen.log_odds >= look.target_log_odds, state.filling
        # a first success: what filling added at once may well be a few features too many
        block = torch.where(filling & sure, (seen.lit // 6).clamp_min(1), state.block)
        filling = filling & ~sure
        fewest = torch.where(sure, torch.minimum(seen.lit, state.fewest), state.fewest)
        adds = ~sure & (filling | (seen.lit < fewest - 1))
        swaps, ranking = ~sure & ~adds, _rank(state, flat, seen)
        several = self._enough(ranking, seen, look.target_log_odds)
        most = block if trials == 1 else (2 * block).clamp_min(2)
        most = torch.minimum(most, (seen.lit - 1).clamp_min(1))
        rank, moves = torch.arange(ranking.dark.shape[1], device=flat.device), []
        for trial in range(trials):
            added, removed = swap(trial, rank, swaps)
            added = added | add(trial, rank, adds, several, filling)
            removed = removed | remove(trial, rank, sure, most, trials)
            moves.append((added & (ranking.gain > 0), removed & ranking.loss.isfinite()))
        added, removed = (torch.stack(each) for each in zip(*moves, strict=True))
        tried = _moved(flat, ranking, added, removed)
        counts = seen.lit + added.sum(dim=2) - removed.sum(dim=2)
        odds = look.score(tried.view(trials, *images.shape))
        confident, row = odds >= look.target_log_odds, torch.arange(len(flat), device=flat.device)
        pick, went = _choose(odds, confident, filling, sure), sure & confident[_block_trial(trials)]
        moved, added, removed = tried[pick, row], added[pick, row], removed[pick, row]
        if trials == 1:
            # nothing smaller was tried: where the block is too large, the image stays and it
            # shrinks
            stays = (sure & ~went & (block > 1))[:, None]
            moved, removed = torch.where(stays, flat, moved), removed & ~stays
        fewest = torch.minimum(fewest, torch.where(confident, counts, NEVER).amin(dim=0))
        block = torch.where(went, 2 * block, (block // 2).clamp_min(1))
        learnt = self._learnt(state, ranking, odds - seen.log_odds, swaps)
        walk = (
            fewest,
            filling,
            block,
            *self._tabu(state, ranking, added, removed, filling),
            learnt,
        )
        return moved.view_as(images), TabuState(state.step + 1, state.keys, *walk)

    def _tabu(
        self, state: TabuState, ranking: _Ranking, added: Tensor, removed: Tensor, filling: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(n, d) the steps from which each feature may be added, and removed, again, after the
        moves (n, r) that were made."""
        until = state.step + 1 + (uniform(state.keys, state.step, 1) * self.tenure).int()
        no_add, no_remove = state.no_add_until, state.no_remove_until
        dark = torch.where(removed, until, no_add.gather(1, ranking.lit))
        lit = torch.where(added & ~filling[:, None], until, no_remove.gather(1, ranking.dark))
        return no_add.scatter(1, ranking.lit, dark), no_remove.scatter(1, ranking.dark, lit)

    def _enough(self, ranking: _Ranking, seen: Measurement, target_log_odds: float) -> Tensor:
        """(n,) how many of the best features seem enough; at most half as many as are lit."""
        lacking = (target_log_odds - seen.log_odds)[:, None]
        gained = self.damp * ranking.gain.clamp_min(0).cumsum(dim=1)
        enough = (gained < lacking).sum(dim=1) + 1
        return torch.minimum(enough, (seen.lit // 2).clamp_min(2))

    def _learnt(self, state: TabuState, ranking: _Ranking, gained: Tensor, swaps: Tensor) -> Tensor:
        """(n, d) gains beyond the gradient's promise, learnt by swaps. gained: (k, n) log-odds."""
        learnt = (1 - self.decay) * state.gain_correction
        for trial, by_trial in enumerate(gained):
            out_rank, in_rank = SWAPS[trial % len(SWAPS)]
            promised = (ranking.slope[:, in_rank] - ranking.share[:, out_rank])[:, None]
            # log-odds of minus infinity (NaN outputs) teach nothing
            beyond = torch.nan_to_num(by_trial[:, None] - promised, neginf=0.0)
            new = ranking.dark[:, in_rank, None]
            change = self.rate * (beyond - learnt.gather(1, new)) * swaps[:, None]
            learnt = learnt.scatter_add(1, new, change)
        return learnt


def add(trial: int, rank: Tensor, adds: Tensor, several: Tensor, filling: Tensor) -> Tensor:
    """(n, r) ranks that a trial adds to images that get more (n,): the next best in each trial; in
    an image being filled (n,) the best `several` (n,), then twice as many, and so on."""
    first = rank < (trial + 1) * several[:, None]
    return adds[:, None] & torch.where(filling[:, None], first, rank == trial)


def remove(trial: int, rank: Tensor, removes: Tensor, most: Tensor, trials: int) -> Tensor:
    """(n, r) ranks a trial removes from images (n,): in one the best `most` (n,), else one each."""
    block = trial == _block_trial(trials)
    return removes[:, None] & (rank < most[:, None] if block else rank == max(0, trial - 1))


def swap(trial: int, rank: Tensor, swaps: Tensor) -> tuple[Tensor, Tensor]:
    """(n, r) each: which rank a trial adds, and which it removes, of images that swap (n,)."""
    out_rank, in_rank = SWAPS[trial % len(SWAPS)]
    return swaps[:, None] & (rank == in_rank), swaps[:, None] & (rank == out_rank)


def _block_trial(trials: int) -> int:
    """The trial that removes several features at once: the second, or the only one."""
    return min(1, trials - 1)


def _rank(state: TabuState, flat: Tensor, seen: Measurement) -> _Ranking:
    gradient, dark = seen.gradient.flatten(1), flat == 0
    free = (state.no_add_until <= state.step) & (gradient != 0)
    gain = torch.where(dark & free, gradient + state.gain_correction, -torch.inf)
    tabu = (state.no_remove_until > state.step) * TABU_LOSS
    loss = torch.where(dark, torch.inf, gradient * flat + tabu)
    width = min(max(FEWEST_RANKED, flat.shape[1] // RANKED_SHARE), flat.shape[1])
    best, least = gain.topk(width, dim=1), loss.topk(width, dim=1, largest=False)
    value, slope = flat.gather(1, least.indices), gradient.gather(1, best.indices)
    share = gradient.gather(1, least.indices) * value
    order = (best.indices, least.indices, best.values, least.values)
    return _Ranking(*order, slope, value, share)


def _moved(flat: Tensor, ranking: _Ranking, added: Tensor, removed: Tensor) -> Tensor:
    """The images (k, n, d) after moves (k, n, r). Sums: a position may fill up both rankings."""
    tried = flat.expand(len(added), -1, -1).clone()
    tried.scatter_add_(2, ranking.dark.expand_as(added), added.to(flat.dtype))
    tried.scatter_add_(2, ranking.lit.expand_as(removed), -(removed * ranking.value))
    return tried


def _choose(odds: Tensor, confident: Tensor, filling: Tensor, removing: Tensor) -> Tensor:
    """Which trial each image follows, (k, n) -> (n,): while being filled the first that is
    confident; while features are removed the block where it may go; else the highest log-odds."""
    first = confident.int().argmax(dim=0)
    best = torch.where(filling & confident.any(dim=0), first, odds.argmax(dim=0))
    block = _block_trial(len(odds))
    return torch.where(removing & confident[block], block, best)
