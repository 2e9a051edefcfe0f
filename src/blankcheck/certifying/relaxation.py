"""Linear bounds of a layer over the image, by lines around what is not linear.

Each ReLU that may be on or off is enclosed by two lines: from above the chord, from below a line of
slope alpha in [0, 1] through the origin; other functions by those of `functions`; a product of two
layers by mixtures of the planes of McCormick (1976, Mathematical Programming 10:147). Put into each
other from a layer back to the image, such lines give a linear bound of that layer (CROWN, Zhang et
al. 2018, arXiv:1811.00866), whose largest value over the sparse images is known exactly (`hull`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.certifying import hull
from blankcheck.certifying.hull import Hull, Sparse
from blankcheck.certifying.layers import Layer

Alpha = Mapping[int, Tensor]
"""By the position of a ReLU the slopes of its lines from below, of a product the share of the first
of its two planes, in [0, 1], (1 or rows, *shape)."""

Slopes = Mapping[tuple[int, int], Alpha]
"""By the position of a layer that is relaxed, and 1 for its bound from above, -1 from below."""


@dataclass(frozen=True)
class Bounded:
    """A network with bounds over `images`.

    low, high: (1, *shape) of each layer. error: how far float32 can be from the exact value, or
    None. What a comparison gives in float32 counts as exact. All three are infinite from the first
    layer on whose numbers float32 might not hold. slopes: what layers before the last one are
    relaxed with. refined: the positions of those that hang on them, with how many of their values
    do.
    """

    layers: tuple[Layer, ...]
    images: Sparse
    hulls: dict[int, Hull]
    low: list[Tensor]
    high: list[Tensor]
    error: list[Tensor] | None
    slopes: Slopes
    refined: dict[int, int]

    @property
    def channels(self) -> int:
        """Of an image."""
        return self.layers[0].shape[0]

    @property
    def lost(self) -> bool:
        """Whether nothing is known of the outputs."""
        return self.error is not None and not bool(self.error[-1].isfinite().all())


@dataclass(frozen=True)
class Line:
    """A linear function of layers of single features. Coefficients and constant: (rows, ...)."""

    coefficients: dict[int, Tensor]
    constant: Tensor

    def reversed(self) -> Line:
        """Its negative."""
        return Line({at: -a for at, a in self.coefficients.items()}, -self.constant)


def backward_bound(
    made: Bounded, at: int, rows: Tensor, alpha: Alpha | None = None
) -> tuple[Line, bool]:
    """A line nowhere below rows (n, *shape) times layer `at`, and whether a ReLU is on its way."""
    pending = {at: rows}
    found: dict[int, Tensor] = {}
    constant, relaxed = rows.new_zeros(len(rows)), False
    for i in range(at, -1, -1):
        a = pending.pop(i, None)
        if a is None:
            continue
        if i in made.hulls:
            found[i] = a
            continue
        layer = made.layers[i]
        relaxed = relaxed or layer.relaxed
        parts, more = _THROUGH.get(layer.kind, _through_linear)(made, i, a, alpha)
        constant = constant + more
        for j, part in parts:
            pending[j] = pending[j] + part if j in pending else part
    return Line(found, constant), relaxed


Through = tuple[list[tuple[int, Tensor]], Tensor]
"""Coefficients of each input of a layer, by position, and a constant (rows,)."""


def _whole(a: Tensor) -> Tensor:
    return a.flatten(1).sum(dim=1)


def _through_linear(made: Bounded, at: int, a: Tensor, alpha: Alpha | None) -> Through:
    layer, none = made.layers[at], a.new_zeros(len(a))
    if layer.kind == "sum":
        return [(j, sign * a) for j, sign in zip(layer.inputs, layer.signs, strict=True)], none
    (j,), constant = layer.inputs, none if layer.bias is None else _whole(a * layer.bias)
    assert layer.map is not None
    return [(j, layer.map.transposed(a, made.layers[j].shape))], constant


def _through_relu(made: Bounded, at: int, a: Tensor, alpha: Alpha | None) -> Through:
    """The chord where a > 0, else the lower line."""
    (before,) = made.layers[at].inputs
    low, high = made.low[before], made.high[before]
    unstable = (low < 0) & (high > 0)
    on = (low >= 0).to(a.dtype)
    # where a ReLU is surely on or off the width of the interval plays no part, and may be 0
    chord = torch.where(unstable, high / torch.where(unstable, high - low, 1.0), on)
    rise = torch.where(unstable, -low * chord, 0.0)
    slope = (high > -low).to(a.dtype) if alpha is None else alpha[at]
    below = torch.where(unstable, slope, on)
    up = a.clamp(min=0)
    return [(before, up * chord + (a - up) * below)], _whole(up * rise)


def _through_curve(made: Bounded, at: int, a: Tensor, alpha: Alpha | None) -> Through:
    """alpha: plays no part."""
    layer = made.layers[at]
    (before,) = layer.inputs
    assert layer.curve is not None
    ends, up = (made.low[before], made.high[before]), a.clamp(min=0)
    (slope, shift), (low_slope, low_shift) = layer.curve.above(*ends), layer.curve.below(*ends)
    if layer.jumps and made.error is not None:
        # float32 decides, and what it compares is so far from the exact value
        off = made.error[before]
        shift, low_shift = shift + slope * off, low_shift - low_slope * off
    constant = _whole(up * shift + (a - up) * low_shift)
    return [(before, up * slope + (a - up) * low_slope)], constant


def _through_product(made: Bounded, at: int, a: Tensor, alpha: Alpha | None) -> Through:
    """Of x y the planes x' y + x y' - x' y', where x' and y' are the ends of the intervals, one of
    each above, both of the same side below."""
    x, y = made.layers[at].inputs
    (x_low, x_high), (y_low, y_high) = ((made.low[i], made.high[i]) for i in (x, y))
    share = 0.5 if alpha is None else alpha[at]
    of_x = share * y_low + (1 - share) * y_high
    above, below = share * x_high + (1 - share) * x_low, share * x_low + (1 - share) * x_high
    up = a.clamp(min=0)
    down = a - up
    over = share * x_high * y_low + (1 - share) * x_low * y_high
    under = share * x_low * y_low + (1 - share) * x_high * y_high
    return [(x, a * of_x), (y, up * above + down * below)], -_whole(up * over + down * under)


_THROUGH = {"relu": _through_relu, "curve": _through_curve, "product": _through_product}


def concretize(made: Bounded, line: Line) -> Tensor:
    """The largest value of a line over all sparse images, exactly, (rows,)."""
    parts, dark = [], line.constant
    for at, a in line.coefficients.items():
        values = made.hulls[at]
        parts.append(hull.gains(a, values.low, values.high).flatten(1))
        dark = dark + (a * values.dark).flatten(1).sum(dim=1)
    if not parts:
        return dark
    return dark + hull.largest_gain(torch.stack(parts).sum(dim=0), made.images, made.channels)
