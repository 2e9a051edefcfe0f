"""sPGD: magnitudes and places of few lit features, each with a gradient of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.fooling.counter_rng import uniform
from blankcheck.fooling.problem import Measurement
from blankcheck.fooling.solvers import Descent, StepContext
from blankcheck.fooling.tensor_ops import largest, plus, sync_is_free
from blankcheck.types import Rows

FLAT = 1e-10
"""Norm of the places' gradient below which they stay where they are."""


@dataclass(frozen=True)
class SparsePGDState(Rows):
    """Per image, (n,): its key, how many features it may light (`budget`), for how many steps the
    same ones were chosen (`stuck`), whether it was ever confident. Per feature, (n, d): its
    brightness if it is chosen, the score by which the `budget` largest are, and those chosen, as 1
    and 0."""

    step: int
    keys: Tensor
    budget: Tensor
    stuck: Tensor
    succeeded: Tensor
    magnitude: Tensor
    score: Tensor
    chosen: Tensor


@dataclass(frozen=True)
class SparsePGD(Descent):
    """Image = magnitude x (1 for the k features of the highest score): both follow the gradient.

    Zhong et al. 2024 (arXiv:2405.05075, section 4), targeted and measured from black. Magnitudes
    move by the gradient's sign; scores by the gradient x magnitude x the sigmoid's slope at the
    score, made as long as `score_step` times the root of the number of features. Scores are drawn
    anew where the same features were chosen `patience` times and the image is not confident.

    The paper has one k and whole pixels, and stops at a success. Here features are chosen, and k
    is the image's own: it rises until the image is confident for the first time, and falls whenever
    it is. The first gradient is that of the start, which says most where a network is flat away
    from black.

    Args:
        features: k at first.
        unprojected: magnitudes of features that are not chosen move, too, by the gradient weighted
            with the sigmoid of their scores; else only those chosen move.
        step_size: of magnitudes, in pixel values.
        score_step: of scores, see above.
        patience: steps for which one choice is kept without success.
        fewer: share by which k falls at a success, at least by 1; 0 keeps k, as published.
        more: share by which k rises at a step before the first success; 0 keeps k, as published.
    """

    features: int = 100
    unprojected: bool = True
    step_size: float = 0.25
    score_step: float = 0.25
    patience: int = 3
    fewer: float = 0.1
    more: float = 0.25

    def init(self, images: Tensor, keys: Tensor) -> SparsePGDState:
        """Magnitudes of the start; where it is dark, drawn uniformly from [-1, 1] and clamped."""
        flat = images.flatten(1)
        drawn = (2 * uniform(keys, 0, flat.shape[1]) - 1).clamp_min(0)
        budget = torch.full_like(keys, min(self.features, flat.shape[1]))
        magnitude, score = torch.where(flat > 0, flat, drawn), _drawn(keys, 1, flat.shape[1])
        none, chosen = torch.zeros_like(keys), torch.zeros_like(flat)
        return SparsePGDState(0, keys, budget, none, none > 0, magnitude, score, chosen)

    def step(
        self, state: SparsePGDState, images: Tensor, seen: Measurement, look: StepContext
    ) -> tuple[Tensor, SparsePGDState]:
        """One step of magnitudes and of scores, and the choice of features."""
        magnitude, score, chosen = state.magnitude, state.score, state.chosen
        budget, stuck, succeeded = state.budget, state.stuck, state.succeeded
        confident, d = seen.log_odds >= look.target_log_odds, score.shape[1]
        succeeded = succeeded | confident
        gradient, likely = seen.gradient.flatten(1), score.sigmoid()
        pull = gradient * (likely if self.unprojected else chosen)
        slope = gradient * magnitude * (likely * (1 - likely))
        norm = slope.norm(dim=1)
        length = self.score_step * math.sqrt(d) / norm.clamp_min(FLAT)
        score = plus(score, slope, torch.where(norm < FLAT, 0, length))
        magnitude = magnitude.add(pull.sign(), alpha=self.step_size).clamp_(0, 1)
        budget = self._budget(budget, seen.lit, confident, ~succeeded).clamp(1, d)
        anew = (stuck >= self.patience) & ~confident
        if not sync_is_free(anew.device) or bool(anew.any()):
            score = torch.where(anew[:, None], _drawn(state.keys, state.step + 1, d), score)
        stuck = torch.where(anew, 0, stuck)
        now = largest(score, budget)
        stuck = torch.where((now == chosen).all(dim=1), stuck + 1, 0)
        walk = (budget, stuck, succeeded, magnitude, score, now)
        moved = (magnitude * now).view_as(images)
        return moved, SparsePGDState(state.step + 1, state.keys, *walk)

    def _budget(self, budget: Tensor, lit: Tensor, confident: Tensor, never: Tensor) -> Tensor:
        """(n,) the next k of images with so many lit features, now or never yet confident."""
        if self.more > 0:
            budget = torch.where(never, (budget * (1 + self.more)).ceil().long(), budget)
        if self.fewer > 0:
            fewer = torch.minimum((lit * (1 - self.fewer)).long(), lit - 1).minimum(budget)
            budget = torch.where(confident, fewer, budget)
        return budget


def _drawn(keys: Tensor, counter: int, size: int) -> Tensor:
    """Normal numbers (n, size)."""
    return torch.erfinv((2 * uniform(keys, counter, size) - 1).clamp(-1 + 1e-6, 1 - 1e-6)) * 2**0.5
