"""What the layers of a network compute: linear maps, and functions of single values.

Maps go forwards, transposed, and with positive coefficients. Tensors have the rows first: (rows,
*shape of one image's values). `terms` is how many products are added up for one value, at most,
which rounding errors grow with.

Curves are functions that never fall, such as sigmoid or a comparison, and lie between two lines.
Where a function is convex it lies below its chord and above its tangents, where it is concave the
other way round. Of one that is first convex and then concave, the line from above starts at the
left end and touches the concave part, or is the chord where that comes first (CROWN, Zhang et al.
2018, arXiv:1811.00866, section 3.2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input

HALVINGS = 40
"""Of the interval in which a tangent is looked for."""
NARROW = 1e-7
"""Against its ends: an interval in which no slope is computed."""

Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Weighted:
    """A map with coefficients of its own."""

    weight: Tensor

    def absolute(self) -> Self:
        """With the absolute values of all coefficients."""
        return replace(self, weight=self.weight.abs())

    def filled(self, value: Tensor) -> Self:
        """With this coefficient everywhere."""
        return replace(self, weight=value.expand_as(self.weight))


@dataclass(frozen=True)
class Dense(Weighted):
    """x @ weight, weight (before, after)."""

    @property
    def terms(self) -> int:
        """Products in a value."""
        return len(self.weight)

    def __call__(self, x: Tensor) -> Tensor:
        """Forwards."""
        return x @ self.weight

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """(rows, after) -> (rows, before)."""
        return a @ self.weight.T


@dataclass(frozen=True)
class Scaling(Weighted):
    """Every value times a weight that broadcasts to (1, *shape)."""

    terms: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """Forwards."""
        return x * self.weight

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """The same as forwards."""
        return a * self.weight


@dataclass(frozen=True)
class Convolution(Weighted):
    """A two-dimensional convolution with zero padding."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def terms(self) -> int:
        """Products in a value."""
        return self.weight[0].numel()

    def __call__(self, x: Tensor) -> Tensor:
        """Forwards."""
        return F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)

    def patches(self, x: Tensor) -> Tensor:
        """What each window sees of one image: (1, *before) -> (windows, values of a filter)."""
        return F.unfold(x, self.weight.shape[2:], self.dilation, self.padding, self.stride)[0].T

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """(rows, *after) -> (rows, *shape)."""
        options = self.stride, self.padding, self.dilation
        if self.groups > 1:
            size, weight = (len(a), *shape), self.weight
            # torch has no types for this function
            before: Tensor = conv2d_input(size, weight, a, *options, self.groups)  # type: ignore
            return before
        # four times as fast as conv_transpose of many rows in float32; matmul would copy twice
        weight = self.weight.flatten(1).T.expand(len(a), -1, -1)
        pieces = torch.bmm(weight, a.flatten(2))
        stride, padding, dilation = options
        size, window = tuple(shape[1:]), self.weight.shape[2:]
        return F.fold(pieces, size, window, dilation, padding, stride)


@dataclass(frozen=True)
class Fixed:
    """A linear function without parameters and without negative coefficients, such as pooling.

    in_order: the values only get another shape.
    """

    function: Callable[[Tensor], Tensor]
    terms: int
    in_order: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Forwards."""
        return self.function(x)

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """(rows, *after) -> (rows, *shape)."""
        back = torch.func.vjp(self.function, a.new_zeros((len(a), *shape)))[1]
        before: Tensor = back(a)[0]
        return before

    def absolute(self) -> Self:
        """The same map."""
        return self


Map = Dense | Convolution | Scaling | Fixed
"""A linear map without its constant part."""


def reshaping(after: Sequence[int]) -> Fixed:
    """The same values in the same order, as (rows, *after)."""
    return Fixed(lambda x: x.reshape(len(x), *after), 0, in_order=True)


def choosing(index: Tensor) -> Fixed:
    """Values at positions (*after) among the flat values before, some of them more than once."""
    return Fixed(lambda x: x.flatten(1).index_select(1, index.flatten()).view(-1, *index.shape), 0)


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


@dataclass(frozen=True, eq=False)
class Jump:
    """A comparison with 0, as a number: 0 below, 1 above. at_zero: whether it is 1 there."""

    at_zero: bool

    def value(self, x: Tensor) -> Tensor:
        """What it gives."""
        return ((x >= 0) if self.at_zero else (x > 0)).to(x.dtype)

    def above(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """(slope, shift) of a line that is nowhere below it between low and high: from the left end
        to (0, 1), or 1 where that leaves less between."""
        open_, ones = self._open(low, high), self.value(low)
        rises = open_ & (high < -low)
        slope = torch.where(rises, 1 / torch.where(rises, -low, 1.0), 0.0)
        return slope, torch.where(open_, 1.0, ones)

    def below(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The same from below: from (0, 0) to the right end, or 0."""
        open_, ones = self._open(low, high), self.value(low)
        rises = open_ & (high > -low)
        slope = torch.where(rises, 1 / torch.where(rises, high, 1.0), 0.0)
        return slope, torch.where(open_, 0.0, ones)

    def _open(self, low: Tensor, high: Tensor) -> Tensor:
        return self.value(low) < self.value(high)


def _sigmoid_slope(x: Tensor) -> Tensor:
    return x.sigmoid() * (-x).sigmoid()


def _normal_slope(x: Tensor) -> Tensor:
    return (-x.square() / 2).exp() / math.sqrt(2 * math.pi)


def _elu_slope(alpha: float, x: Tensor) -> Tensor:
    return torch.where(x > 0, 1.0, alpha * x.clamp(max=0).exp())


SIGMOID = Curve(torch.sigmoid, _sigmoid_slope, 0.0, 0.25)
TANH = Curve(torch.tanh, lambda x: 1 - x.tanh().square(), 0.0, 1.0)
NORMAL = Curve(lambda x: (1 + torch.erf(x / math.sqrt(2))) / 2, _normal_slope, 0.0, 0.4)
"""The distribution function of the standard normal, with which GELU multiplies."""


def elu(alpha: float) -> Curve:
    """max(0, x) + alpha (exp(min(0, x)) - 1), for alpha > 0: convex up to 1, and with more only
    where it is below 0."""
    bend = torch.inf if alpha <= 1 else 0.0
    return Curve(partial(F.elu, alpha=alpha), partial(_elu_slope, alpha), bend, max(1.0, alpha))


def softplus(beta: float) -> Curve:
    """log(1 + exp(beta x)) / beta, for beta > 0: convex."""
    return Curve(
        lambda x: torch.logaddexp(beta * x, torch.zeros_like(x)) / beta,
        lambda x: torch.sigmoid(beta * x),
        torch.inf,
        1.0,
    )


def celu(alpha: float) -> Curve:
    """max(0, x) + min(0, alpha (exp(x / alpha) - 1)), for alpha > 0: convex."""
    return Curve(
        partial(F.celu, alpha=alpha), lambda x: (x.clamp(max=0) / alpha).exp(), torch.inf, 1.0
    )
