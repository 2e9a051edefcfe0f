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
"""Makes a tabu feature come last in the order of removal: it can be had when nothing else is left.
"""


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
    """The features of each image in the order of what moving them seems worth. dark, lit: (n, r)
    positions to add and to remove, best first; gain, loss: what the log-odds seem to gain and lose
    by each."""

    dark: Tensor
    lit: Tensor
    gain: Tensor
    loss: Tensor


@dataclass(frozen=True)
class _Phase:
    """(n,) bool: which move each image makes next; exactly one is True."""

    add: Tensor
    remove: Tensor
    swap: Tensor


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
        damp: share of the first-order gain that is counted on when it is decided how many features
            to add at once.
        rate: share of what a trial showed beyond its gradient that is learnt at once, for the
            ranking. Without it (0) the images of MNIST's cnn have 8.93 instead of 8.40 lit features
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
        phase, ranking = _Phase(adds, sure, ~sure & ~adds), _rank(state, flat, seen)
        several = self._enough(ranking, seen, look.target_log_odds)
        most = block if trials == 1 else (2 * block).clamp_min(2)
        most = torch.minimum(most, (seen.lit - 1).clamp_min(1))

        rank, moves = torch.arange(ranking.dark.shape[1], device=flat.device), []
        for trial in range(trials):
            added = phase.add[:, None] & add(trial, rank, several, filling)
            removed = phase.remove[:, None] & remove(trial, trials, rank, most)
            swapped_in, swapped_out = swap(trial, rank)
            added = added | (phase.swap[:, None] & swapped_in)
            removed = removed | (phase.swap[:, None] & swapped_out)
            moves.append((added & (ranking.gain > 0), removed & ranking.loss.isfinite()))
        added, removed = (torch.stack(each) for each in zip(*moves, strict=True))

        tried = _moved(flat, ranking, added, removed)
        odds = look.score(tried.view(trials, *images.shape))
        confident, in_block = odds >= look.target_log_odds, _block_trial(trials)
        moved = tried[
            _choose(odds, confident, filling, phase.remove),
            torch.arange(len(flat), device=flat.device),
        ]
        went = phase.remove & confident[in_block]
        if trials == 1:
            # nothing smaller was tried beside the block: where it is too large the image stays and
            # the block shrinks
            moved = torch.where((phase.remove & ~went & (block > 1))[:, None], flat, moved)
        counts = seen.lit + added.sum(dim=2) - removed.sum(dim=2)
        fewest = torch.minimum(fewest, torch.where(confident, counts, NEVER).amin(dim=0))
        until = state.step + 1 + (uniform(state.keys, state.step, 1) * self.tenure).int()
        now_dark, now_lit = (flat > 0) & (moved == 0), (flat == 0) & (moved > 0)
        after = TabuState(
            state.step + 1,
            state.keys,
            fewest,
            filling,
            torch.where(went, 2 * block, (block // 2).clamp_min(1)),
            torch.where(now_dark, until, state.no_add_until),
            torch.where(now_lit & ~filling[:, None], until, state.no_remove_until),
            self._learnt(state, seen, ranking, flat, odds, phase.swap),
        )
        return moved.view_as(images), after

    def _enough(self, ranking: _Ranking, seen: Measurement, target_log_odds: float) -> Tensor:
        """(n,) how many of the best features seem to make the image confident; at most half as many
        as are lit."""
        lacking = (target_log_odds - seen.log_odds)[:, None]
        gained = self.damp * ranking.gain.clamp_min(0).cumsum(dim=1)
        enough = (gained < lacking).sum(dim=1) + 1
        return torch.minimum(enough, (seen.lit // 2).clamp_min(2))

    def _learnt(
        self,
        state: TabuState,
        seen: Measurement,
        ranking: _Ranking,
        flat: Tensor,
        odds: Tensor,
        swapping: Tensor,
    ) -> Tensor:
        """(n, d) what adding a feature did beyond what its gradient promised, with what the swaps
        just tried have shown."""
        learnt, gradient = (1 - self.decay) * state.gain_correction, seen.gradient.flatten(1)
        for trial, reached in enumerate(odds):
            out_rank, in_rank = SWAPS[trial % len(SWAPS)]
            new, old = ranking.dark[:, in_rank, None], ranking.lit[:, out_rank, None]
            promised = gradient.gather(1, new) - gradient.gather(1, old) * flat.gather(1, old)
            # log-odds of minus infinity (NaN outputs) teach nothing
            beyond = torch.nan_to_num((reached - seen.log_odds)[:, None] - promised, neginf=0.0)
            change = self.rate * (beyond - learnt.gather(1, new)) * swapping[:, None]
            learnt = learnt.scatter_add(1, new, change)
        return learnt


def add(trial: int, rank: Tensor, several: Tensor, filling: Tensor) -> Tensor:
    """(n, r) which ranks a trial adds: one, the next best in each trial; while an image is being
    filled (n,) the best `several` (n,), twice as many in the second trial, and so on."""
    return torch.where(filling[:, None], rank < (trial + 1) * several[:, None], rank == trial)


def remove(trial: int, trials: int, rank: Tensor, most: Tensor) -> Tensor:
    """(n, r) which ranks a trial removes: one trial the best `most` (n,), the others one each."""
    if trial == _block_trial(trials):
        return rank < most[:, None]
    return rank == max(0, trial - 1)


def swap(trial: int, rank: Tensor) -> tuple[Tensor, Tensor]:
    """(r,) each: which rank a trial adds, and which it removes."""
    out_rank, in_rank = SWAPS[trial % len(SWAPS)]
    return rank == in_rank, rank == out_rank


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
    return _Ranking(best.indices, least.indices, best.values, least.values)


def _moved(flat: Tensor, ranking: _Ranking, added: Tensor, removed: Tensor) -> Tensor:
    """The images (k, n, d) after the moves (k, n, r).

    Sums, not assignments: a position may fill up both rankings.
    """
    value = flat.gather(1, ranking.lit)
    tried = flat.expand(len(added), -1, -1).clone()
    tried.scatter_add_(2, ranking.dark.expand_as(added), added.to(flat.dtype))
    tried.scatter_add_(2, ranking.lit.expand_as(removed), -(removed * value))
    return tried


def _choose(odds: Tensor, confident: Tensor, filling: Tensor, removing: Tensor) -> Tensor:
    """Which trial each image follows, (k, n) -> (n,): while being filled the first that is
    confident; while features are removed the block where it may go; else the highest log-odds."""
    first = confident.int().argmax(dim=0)
    best = torch.where(filling & confident.any(dim=0), first, odds.argmax(dim=0))
    block = _block_trial(len(odds))
    return torch.where(removing & confident[block], block, best)
