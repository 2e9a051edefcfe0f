"""Lighting, darkening and exchanging whole features: the sparsest images in the fewest passes.

Looking for the fewest features that make a network sure is a search over subsets. The gradient of
the log-odds ranks the moves, a few forward passes try the best-ranked ones, and a short memory
keeps the walk from undoing itself (tabu search, Glover 1989, ORSA J. Computing 1:190).
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
partially (a 64th of them), or eight. No trial lights or darkens more at once."""
PAIRS = ((0, 0), (0, 1), (1, 0), (0, 2), (2, 0), (1, 1), (0, 3), (3, 0))
"""Which exchanges are tried: (rank of the feature to darken, rank of the feature to light)."""


@dataclass(frozen=True)
class TabuState(Rows):
    """Where the walk of each image is. Per image, (n,): its key, the fewest lit features of a
    confident image so far, whether it is still being lit for the first time, how many features the
    last successful darkening took. Per feature, (n, d): the step from which it may be lit, or
    darkened, again; by how much lighting it did better than its gradient said."""

    step: int
    keys: Tensor
    fewest: Tensor
    lighting: Tensor
    block: Tensor
    dark_until: Tensor
    lit_until: Tensor
    gain_correction: Tensor


@dataclass(frozen=True)
class _Ranking:
    """The features of each image in the order of what moving them seems worth. on, off: (n, r)
    positions to light and to darken, best first; gain, loss: what the log-odds seem to gain and
    lose by each."""

    on: Tensor
    off: Tensor
    gain: Tensor
    loss: Tensor


@dataclass(frozen=True)
class TabuSearch:
    """Light what gains most until the image is confident; then, for ever, one feature fewer.

    A confident image loses its least useful features, several at once while that succeeds. An image
    with one feature
    fewer than the sparsest confident one so far that is not confident exchanges a lit feature for a
    dark one: of the moves the gradient ranks highest, a few are scored, and the best is made,
    better or not. A feature just moved may not move back for up to `tenure` steps. What a trial
    showed beyond its gradient is remembered for the ranking: `rate` of it at once, `decay` of
    what is known at every step. tried: (step, trials): from that step on so many moves are scored.
    damp: share of the first-order gain that is counted on when it is decided how many features to
    light at once.
    """

    tried: tuple[tuple[int, int], ...] = ((0, 1), (3, 2), (28, 4))
    tenure: int = 3
    damp: float = 1.0
    rate: float = 0.5
    decay: float = 0.1
    gradient: ClassVar[bool] = True
    trials: ClassVar[bool] = True

    def init(self, images: Tensor, keys: Tensor) -> TabuState:
        """Nothing forbidden, nothing learnt."""
        n, d = len(images), images[0].numel()
        whole = torch.zeros(n, dtype=torch.int64, device=images.device)
        free = torch.zeros(n, d, dtype=torch.int32, device=images.device)
        return TabuState(
            0,
            keys,
            whole + NEVER,
            whole == 0,
            whole + 1,
            free,
            free.clone(),
            images.new_zeros(n, d),
        )

    def step(
        self, state: TabuState, images: Tensor, seen: Measurement, look: StepContext
    ) -> tuple[Tensor, TabuState]:
        """One move of each image."""
        flat = images.flatten(1) * (images.flatten(1) >= LIT_THRESHOLD)
        sure, lit = seen.log_odds >= look.target_log_odds, seen.lit
        first_time = state.lighting & sure
        block = torch.where(first_time, (lit // 6).clamp_min(1), state.block)
        lighting = state.lighting & ~sure
        fewest = torch.where(sure, torch.minimum(lit, state.fewest), state.fewest)
        ranking = _rank(state, flat, seen)
        trials = min(
            next(many for since, many in reversed(self.tried) if state.step >= since), look.forwards
        )
        if trials < 1:
            return images, state
        too_many, room = ~lighting & sure, ~lighting & ~sure & (lit < fewest - 1)
        swap = ~lighting & ~sure & ~room
        on, off = self._moves(
            trials, ranking, seen, look, lit, lighting, too_many, room, swap, block
        )
        tried = _apply(flat, ranking, on, off)
        margins = look.score(tried.view(trials, *images.shape))
        made = _choose(margins, look.target_log_odds, lighting, too_many)
        moved = tried[made, torch.arange(len(flat), device=flat.device)]
        counts = lit + on.sum(dim=2) - off.sum(dim=2)
        fewest = torch.minimum(
            fewest, torch.where(margins >= look.target_log_odds, counts, NEVER).amin(dim=0)
        )
        whole_block = too_many & (margins[min(1, trials - 1)] >= look.target_log_odds)
        if trials == 1:
            # nothing smaller was tried beside the block: where it is too large the image stays and
            # the block shrinks
            moved = torch.where((too_many & ~whole_block & (block > 1))[:, None], flat, moved)
        block = torch.where(whole_block, 2 * block, (block // 2).clamp_min(1))
        tenure = 1 + (uniform(state.keys, state.step, 1) * self.tenure).int()
        until = state.step + tenure
        after = TabuState(
            state.step + 1,
            state.keys,
            fewest,
            lighting,
            block,
            torch.where((flat > 0) & (moved == 0), until, state.dark_until),
            torch.where((flat == 0) & (moved > 0) & ~lighting[:, None], until, state.lit_until),
            self._learnt(state.gain_correction, seen, ranking, flat, margins, swap),
        )
        return moved.view_as(images), after

    def _moves(
        self,
        trials: int,
        ranking: _Ranking,
        seen: Measurement,
        look: StepContext,
        lit: Tensor,
        lighting: Tensor,
        too_many: Tensor,
        room: Tensor,
        swap: Tensor,
        block: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """(k, n, r) bool each: which ranks each trial lights and darkens."""
        rank = torch.arange(ranking.on.shape[1], device=lit.device)
        wanted = (look.target_log_odds - seen.log_odds)[:, None]
        several = (self.damp * ranking.gain.clamp_min(0).cumsum(dim=1) < wanted).sum(dim=1) + 1
        several = torch.minimum(several, (lit // 2).clamp_min(2))
        whole = torch.minimum(
            block if trials == 1 else (2 * block).clamp_min(2), (lit - 1).clamp_min(1)
        )
        on, off = [], []
        for trial in range(trials):
            light, dark = PAIRS[trial % len(PAIRS)][1], PAIRS[trial % len(PAIRS)][0]
            up = lighting[:, None] & (rank < (trial + 1) * several[:, None])
            up = up | (room[:, None] & (rank == trial)) | (swap[:, None] & (rank == light))
            down = swap[:, None] & (rank == dark)
            fewer = (
                rank < whole[:, None] if trial == min(1, trials - 1) else rank == max(0, trial - 1)
            )
            on.append(up & (ranking.gain > 0))
            off.append((down | (too_many[:, None] & fewer)) & ranking.loss.isfinite())
        return torch.stack(on), torch.stack(off)

    def _learnt(
        self,
        gain_correction: Tensor,
        seen: Measurement,
        ranking: _Ranking,
        flat: Tensor,
        margins: Tensor,
        swap: Tensor,
    ) -> Tensor:
        """What lighting a feature did beyond what its gradient promised, for those just tried in an
        exchange."""
        gain_correction = (1 - self.decay) * gain_correction
        gradient = seen.gradient.flatten(1)
        for trial, margin in enumerate(margins):
            dark, light = PAIRS[trial % len(PAIRS)]
            on, off = ranking.on[:, light, None], ranking.off[:, dark, None]
            promised = gradient.gather(1, on) - gradient.gather(1, off) * flat.gather(1, off)
            # a margin of minus infinity (NaN outputs) teaches nothing
            beyond = torch.nan_to_num((margin - seen.log_odds)[:, None] - promised, neginf=0.0)
            change = self.rate * (beyond - gain_correction.gather(1, on)) * swap[:, None]
            gain_correction = gain_correction.scatter_add(1, on, change)
        return gain_correction


def _rank(state: TabuState, flat: Tensor, seen: Measurement) -> _Ranking:
    gradient, dark = seen.gradient.flatten(1), flat == 0
    free = (state.dark_until <= state.step) & (gradient != 0)
    gain = torch.where(dark & free, gradient + state.gain_correction, -torch.inf)
    # features that may not be darkened yet come last, but can be had when nothing else is left
    loss = torch.where(dark, torch.inf, gradient * flat + (state.lit_until > state.step) * 1e9)
    width = min(max(FEWEST_RANKED, flat.shape[1] // RANKED_SHARE), flat.shape[1])
    best, least = gain.topk(width, dim=1), loss.topk(width, dim=1, largest=False)
    return _Ranking(best.indices, least.indices, best.values, least.values)


def _apply(flat: Tensor, ranking: _Ranking, on: Tensor, off: Tensor) -> Tensor:
    """The images (k, n, d) after the moves.

    Sums, not assignments: a position may fill up both rankings.
    """
    dimmed = flat.gather(1, ranking.off)
    tried = flat.expand(len(on), -1, -1).clone()
    tried.scatter_add_(2, ranking.on.expand_as(on), on.to(flat.dtype))
    tried.scatter_add_(2, ranking.off.expand_as(off), -(off * dimmed))
    return tried


def _choose(margins: Tensor, needed: float, lighting: Tensor, too_many: Tensor) -> Tensor:
    """Which trial each image follows, (k, n) -> (n,): while lighting the first that is confident;
    while darkening the large block where it may go; else the highest margin."""
    best = margins.argmax(dim=0)
    sure = margins >= needed
    first = sure.int().argmax(dim=0)
    best = torch.where(lighting & sure.any(dim=0), first, best)
    block = min(1, len(margins) - 1)
    return torch.where(too_many & sure[block], block, best)
