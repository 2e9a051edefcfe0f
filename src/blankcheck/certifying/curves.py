"""Functions of single values that never fall, such as sigmoid, between two lines.

Where a function is convex it lies below its chord and above its tangents, where it is concave the
other way round. Of one that is first convex and then concave, the line from above starts at the
left end and touches the concave part, or is the chord where that comes first (CROWN, Zhang et al.
2018, arXiv:1811.00866, section 3.2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

HALVINGS = 40
"""Of the interval in which a tangent is looked for."""
NARROW = 1e-7
"""Against its ends: an interval in which no slope is computed."""

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Curve:
    """A function that never falls.

    Args:
        value: of the function.
        slope: its derivative.
        bend: convex up to there, concave from there on.
        steepest: the largest slope.
    """

    value: Function
    slope: Function
    bend: float
    steepest: float

    def above(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """(slope, shift) of a line that is nowhere below it between low and high."""
        touch, touches = self._touching(low, high)
        width = high - low
        narrow = width <= NARROW * (1 + low.abs() + high.abs())
        chord = (self.value(high) - self.value(low)) / torch.where(narrow, 1.0, width)
        chord = torch.where(narrow, 0.0, chord)
        ends = self.value(low) - chord * low, self.value(high) - chord * high
        slope, tangent = self.slope(touch), touches & ~narrow
        shift = torch.where(tangent, self.value(touch) - slope * touch, torch.maximum(*ends))
        return torch.where(tangent, slope, chord), shift

    @torch.no_grad()
    def _touching(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Where the tangent touches that is the line: in the middle of the concave part, or as far
        right as it has to, to be above the left end; and whether there is such a place."""
        left = low.clamp(min=self.bend)
        right = torch.maximum(high, left)

        def reaches(at: Tensor) -> Tensor:
            return self.value(at) + self.slope(at) * (low - at) >= self.value(low)

        middle = near = (left + right) / 2
        far = right
        for _ in range(HALVINGS):
            between = (near + far) / 2
            enough = reaches(between)
            near, far = torch.where(enough, near, between), torch.where(enough, between, far)
        touch = torch.where(reaches(middle), middle, far)
        return touch, (high > self.bend) & reaches(touch)

    def below(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """(slope, shift) of a line that is nowhere above it: that above it, seen upside down."""
        slope, shift = self._turned().above(-high, -low)
        return slope, -shift

    def _turned(self) -> Curve:
        """-f(-x), which never falls, bends in the same way, and does so at the negative place."""
        return Curve(lambda x: -self.value(-x), lambda x: self.slope(-x), -self.bend, self.steepest)


def _sigmoid_slope(x: Tensor) -> Tensor:
    return x.sigmoid() * (-x).sigmoid()


def _elu_slope(alpha: float, x: Tensor) -> Tensor:
    return torch.where(x > 0, 1.0, alpha * x.clamp(max=0).exp())


SIGMOID = Curve(torch.sigmoid, _sigmoid_slope, 0.0, 0.25)
TANH = Curve(torch.tanh, lambda x: 1 - x.tanh().square(), 0.0, 1.0)


def elu(alpha: float) -> Curve:
    """max(0, x) + alpha (exp(min(0, x)) - 1), for alpha in (0, 1], where it is convex."""
    return Curve(partial(F.elu, alpha=alpha), partial(_elu_slope, alpha), torch.inf, 1.0)
