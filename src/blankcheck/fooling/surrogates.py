"""Step rules that minimise a stand-in for the number of lit features: sigma-zero and FMN.

Both were published for leaving the class of a given image; here they go from any start, measured
from black, to a target class with the confidence asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.fooling.problem import Measurement
from blankcheck.fooling.solvers import Descent, Moved, State, StepContext, adam, per_image, steepest
from blankcheck.fooling.tensor_ops import above, largest, plus


@dataclass(frozen=True)
class SigmaZero(Descent):
    """Descend the missing log-odds plus a smooth count of lit features; cut at a threshold.

    Cina et al. 2025 (arXiv:2402.01879, algorithm 1): the count is the mean of x^2 / (x^2 + sigma),
    the gradient is scaled by its largest entry, Adam steps, step size decayed as half a cosine to a
    tenth, threshold raised by `threshold_step` times the step size while the image is confident,
    else lowered. Log-odds replace the published difference of logits.
    """

    step_size: float = 1.0
    sigma: float = 1e-3
    threshold: float = 0.3
    threshold_step: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999

    def init(self, images: Tensor, keys: Tensor) -> State:
        """Moments zero; one threshold for all."""
        threshold = images.new_full((len(images),), self.threshold)
        return State(0, torch.zeros_like(images), torch.zeros_like(images), threshold)

    def step(self, state: State, images: Tensor, seen: Measurement, look: StepContext) -> Moved:
        """One step, one cut."""
        confident = seen.log_odds >= look.target_log_odds
        count = images / images.square().add_(self.sigma).square_()
        count.mul_(2 * self.sigma / images[0].numel())
        gradient = plus(count, seen.gradient, confident.to(images.dtype) - 1)
        gradient.div_(per_image(steepest(gradient)))
        size = self.step_size * (0.1 + 0.9 * look.cosine())
        threshold = state.weight + self.threshold_step * size * torch.where(confident, 1.0, -1.0)
        threshold = threshold.clamp(0, 1)
        change, after = adam(gradient, state, self.beta1, self.beta2, threshold)
        moved = images.sub(change, alpha=size).clamp_(0, 1)
        return moved.mul_(above(moved, threshold)), after


@dataclass(frozen=True)
class FastMinimumNorm(Descent):
    """Keep at most eps lit features, and move eps to where the image is just confident.

    Pintor et al. 2021 (arXiv:2102.12827, algorithm 1), targeted, L0: eps grows while the image is
    not confident, and falls below the fewest lit features of a confident image otherwise, by a
    share gamma that decays as half a cosine; the image follows the gradient and keeps eps features.
    """

    step_size: float = 1.0
    gamma: float = 0.05
    last_gamma: float = 1e-3

    def init(self, images: Tensor, keys: Tensor) -> State:
        """eps (`second`) as many as are lit, at least 1; the fewest so far (`weight`) unknown."""
        eps = images.flatten(1).count_nonzero(dim=1).clamp_min(1).to(images.dtype)
        return State(0, torch.zeros_like(eps), eps, torch.full_like(eps, torch.inf))

    def step(self, state: State, images: Tensor, seen: Measurement, look: StepContext) -> Moved:
        """One change of eps, one step, one cut."""
        gamma = self.last_gamma + (self.gamma - self.last_gamma) * look.cosine()
        size = self.step_size * (0.01 + 0.99 * look.cosine())
        confident, lit = seen.log_odds >= look.target_log_odds, seen.lit.to(images.dtype)
        eps, fewest = state.second, torch.where(confident, lit, torch.inf).minimum(state.weight)
        fewer = torch.minimum((eps * (1 - gamma)).floor(), eps - 1).minimum(fewest)
        more = torch.maximum((eps * (1 + gamma)).ceil(), eps + 1)
        # once an image was confident there is no use in more lit features than it had
        eps = torch.where(confident, fewer, more.minimum(fewest)).clamp(1, images[0].numel())
        norm = seen.gradient.flatten(1).norm(dim=1).clamp_min(1e-30)
        moved = plus(images, seen.gradient, size / norm).clamp_(0, 1)
        # features at exactly 1 tie: the one with the steepest gradient stays
        key = plus(moved, seen.gradient, 1e-3 / steepest(seen.gradient))
        cut = moved * largest(key.flatten(1), eps.long()).view_as(moved)
        return cut, State(state.step + 1, state.first, eps, fewest)
