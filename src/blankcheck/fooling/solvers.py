"""Step rules that follow the gradient. A rule holds settings; what changes is a small state.

`init` makes the state for start images (n, c, h, w); `step` moves the images along what was seen of
them. A rule keeps images in [0, 1]; masks are applied by the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from blankcheck.fooling.problem import Measurement
from blankcheck.fooling.tensor_ops import largest, movable, plus
from blankcheck.types import Rows


@dataclass(frozen=True)
class StepContext:
    """What a rule may know of the loop besides its images.

    Args:
        target_log_odds: from which an image counts as confident.
        progress: share of the budget already used, in [0, 1).
        forwards: forward passes each image has left.
        score: log-odds (k, n) of trial images (k, n, c, h, w), k passes; what it shows is found.
    """

    target_log_odds: float
    progress: float
    forwards: int
    score: Callable[[Tensor], Tensor]

    def cosine(self) -> float:
        """From 1 to 0 over the budget, as half a cosine."""
        return 0.5 * (1 + math.cos(math.pi * self.progress))


@dataclass(frozen=True)
class State(Rows):
    """What a rule remembers: `step` counts from 0; the tensors mean what the rule says."""

    step: int
    first: Tensor
    second: Tensor
    weight: Tensor


Moved = tuple[Tensor, State]
"""The next images, and the next state."""
S = TypeVar("S", bound=Rows)


class Rule(Protocol[S]):
    """One rule to go from images to better images."""

    gradient: ClassVar[bool]
    """Whether it needs the gradient; where not, no backward pass is made."""
    trials: ClassVar[bool]
    """Whether it scores trial images, so that forward passes may run out before backward ones."""

    def init(self, images: Tensor, keys: Tensor) -> S:
        """The state before the first step. keys: (n,) int64, for `counter_rng.uniform`."""

    def step(
        self, state: S, images: Tensor, seen: Measurement, look: StepContext
    ) -> tuple[Tensor, S]:
        """Next images and state."""


Solver = Rule[Any]


class Descent:
    """Common to the rules of this module: they follow the gradient and try nothing beside it."""

    gradient: ClassVar[bool] = True
    trials: ClassVar[bool] = False


def _unused(images: Tensor) -> Tensor:
    """A place-holder, batch first, for a field of the state that a rule does not need."""
    return images.new_zeros(len(images))


def per_image(values: Tensor) -> Tensor:
    """(n,) -> (n, 1, 1, 1)."""
    return values[:, None, None, None]


def steepest(gradient: Tensor) -> Tensor:
    """Largest absolute entry of each image's gradient, (n, c, h, w) -> (n,), never 0."""
    return gradient.flatten(1).abs().amax(dim=1).clamp_min(1e-30)


@dataclass(frozen=True)
class ProjectedAdam(Descent):
    """Projected Adam on cross-entropy + weight x mean pixel value, the classic recipe.

    In [0, 1] the L1 norm is linear, so its gradient holds at black pixels too and the clamp leaves
    exact zeros. Adam: Kingma and Ba 2015 (arXiv:1412.6980), algorithm 1.

    Args:
        weight: nats of cross-entropy that one unit of mean pixel value is worth.
        step_size: in pixel values.
        beta1, beta2: decay of the moments.
        weight_at: (step, factor): from that step on the weight is multiplied.
        step_at: (step, factor): from that step on the step size is multiplied.
        anneal: the step size falls to 0 as half a cosine over the budget.
    """

    weight: float = 1.0
    step_size: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.999
    weight_at: tuple[int, float] | None = None
    step_at: tuple[int, float] | None = None
    anneal: bool = False

    def init(self, images: Tensor, keys: Tensor) -> State:
        """Moments start at zero."""
        return State(0, torch.zeros_like(images), torch.zeros_like(images), _unused(images))

    def step(self, state: State, images: Tensor, seen: Measurement, look: StepContext) -> Moved:
        """One projected Adam step.

        The cross-entropy's gradient is -(1 - p) times that of the log-odds.
        """
        weight = _stepped(self.weight, self.weight_at, state.step)
        size = _stepped(self.step_size, self.step_at, state.step)
        size *= look.cosine() if self.anneal else 1
        gradient = (seen.gradient * per_image(seen.confidence - 1)).add_(weight / images[0].numel())
        change, after = adam(gradient, state, self.beta1, self.beta2, state.weight)
        return images.sub(change, alpha=size).clamp_(0, 1), after


def adam(
    gradient: Tensor, state: State, beta1: float, beta2: float, weight: Tensor
) -> tuple[Tensor, State]:
    """The change for a step size of 1, and the state after it, with this weight."""
    t = state.step + 1
    first = state.first.lerp(gradient, 1 - beta1)
    second = state.second.mul(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    scale = (second / (1 - beta2**t)).sqrt_().add_(1e-8)
    return (first / (1 - beta1**t)).div_(scale), State(t, first, second, weight)


def _stepped(value: float, at: tuple[int, float] | None, step: int) -> float:
    return value * at[1] if at is not None and step >= at[0] else value


@dataclass(frozen=True)
class ProximalMomentum(Descent):
    """Ascend the log-odds with momentum, then shrink features by an adaptive weight.

    The gradient is scaled by its largest entry, so that networks of any steepness take steps of one
    size. The weight (shrinkage per step, in units of the step size) is multiplied while the image
    is confident and divided while it is not, as the norm in DDN is (Rony et al. 2019,
    arXiv:1811.09600, algorithm 1); shrinking a feature towards 0 and stopping there is the proximal
    step of the L1 norm. The step size decays as a cosine to a tenth.
    """

    step_size: float = 0.3
    momentum: float = 0.5
    weight: float = 0.1
    change: float = 0.1

    def init(self, images: Tensor, keys: Tensor) -> State:
        """Momentum zero, one weight for all."""
        weight = images.new_full((len(images),), self.weight)
        return State(0, torch.zeros_like(images), _unused(images), weight)

    def step(self, state: State, images: Tensor, seen: Measurement, look: StepContext) -> Moved:
        """One proximal step."""
        # features that cannot move (pushed outwards at a border) must not set the scale
        gradient = movable(images, seen.gradient)
        share = (1 - self.momentum) / steepest(gradient)
        momentum = plus(self.momentum * state.first, gradient, share)
        size = self.step_size * (0.1 + 0.9 * look.cosine())
        confident = seen.log_odds >= look.target_log_odds
        push = torch.where(confident, 0.3, 1.0)
        moved = plus(images, momentum, size * push)
        moved = moved.sub_(per_image(size * state.weight)).clamp_(0, 1)
        weight = state.weight * torch.where(confident, 1 + self.change, 1 / (1 + self.change))
        return moved, State(state.step + 1, momentum, state.second, weight.clamp_max(1.0))


@dataclass(frozen=True)
class GreedyLighting(Descent):
    """Switch on the features with the largest first-order gain (gradient x room left).

    A saliency-map search (in the spirit of Papernot et al. 2016, arXiv:1511.07528) for many images
    at once: 1, 1.3, 1.69 ... features a step, the fastest way to few lit features from black. Also
    switches lit features off when that gains more.
    """

    growth: float = 1.3

    def init(self, images: Tensor, keys: Tensor) -> State:
        """Nothing to remember but the step."""
        return State(0, *[_unused(images)] * 3)

    def step(self, state: State, images: Tensor, seen: Measurement, look: StepContext) -> Moved:
        """Flip the best features; confident images stay as they are."""
        gradient, flat = seen.gradient.flatten(1), images.flatten(1)
        gain = torch.where(gradient > 0, gradient * (1 - flat), -gradient * flat)
        top = gain.topk(min(flat.shape[1], max(1, int(self.growth**state.step))), dim=1)
        flips = (top.values > 0) & (seen.log_odds < look.target_log_odds)[:, None]
        lit = (gradient.gather(1, top.indices) > 0).to(flat.dtype)
        value = torch.where(flips, lit, flat.gather(1, top.indices))
        moved = flat.scatter(1, top.indices, value).view_as(images)
        return moved, State(state.step + 1, state.first, state.second, state.weight)


@dataclass(frozen=True)
class AnnealedTopK(Descent):
    """Ascend the log-odds by Adam's steps, keep only the k largest features.

    k falls from all to `goal`, linearly over the first half of the budget. Finds what greedy
    lighting misses on adversarially trained networks. Adam gives every feature a scale of its own:
    were steps scaled by the largest entry of the gradient, one feature that is at a border already
    and cannot move would hold up all others.

    Args:
        goal: most lit features in the second half.
        step_size: in pixel values.
        beta1, beta2: decay of the moments.
    """

    goal: int = 100
    step_size: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.999

    def init(self, images: Tensor, keys: Tensor) -> State:
        """Moments start at zero."""
        return State(0, torch.zeros_like(images), torch.zeros_like(images), _unused(images))

    def step(self, state: State, images: Tensor, seen: Measurement, look: StepContext) -> Moved:
        """One ascent step and the cut to k features."""
        features = images[0].numel()
        # of one size from step to step, so that moments forget where the network was steeper
        gradient = seen.gradient / per_image(-steepest(seen.gradient))
        change, after = adam(gradient, state, self.beta1, self.beta2, state.weight)
        moved = images.sub(change, alpha=self.step_size).clamp_(0, 1)
        keep = max(1, round(self.goal + (features - self.goal) * max(0.0, 1 - 2 * look.progress)))
        if keep < features:
            # many features sit at exactly 1: among equals the one that wants to rise most stays
            key = moved.sub(change, alpha=1e-3)
            moved = moved * largest(key.flatten(1), keep).view_as(moved)
        return moved, after
