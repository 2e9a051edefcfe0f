"""Bounds of every layer over all sparse images, by intervals and by backward linear relaxation.

Each ReLU that may be on or off is enclosed by two lines: from above the chord, from below a line of
slope alpha in [0, 1] through the origin; other functions by those of `curves`. Put into each other
from a layer back to the image, such lines give a linear bound of that layer (CROWN, Zhang et al.
2018, arXiv:1811.00866), whose largest value over the sparse images is known exactly (`hull`).
Intervals tighten it further.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blankcheck.certifying import hull
from blankcheck.certifying.hull import Ends, Hull, Sparse
from blankcheck.certifying.layers import Layer
from blankcheck.certifying.maps import Dense
from blankcheck.certifying.rounding import TINY, slack

MOST_ROWS = 6000
"""Values behind others that are bounded by relaxation; of more, intervals have to do."""

Alpha = Mapping[int, Tensor]
"""By the position of a ReLU the slopes of its lines from below, in [0, 1], (1 or rows, *shape)."""

Slopes = Mapping[tuple[int, int], Alpha]
"""By the position of a layer that is relaxed, and 1 for its bound from above, -1 from below."""


@dataclass(frozen=True)
class Bounded:
    """A network with bounds over `images`.

    low, high: (1, *shape) of each layer. error: how far float32 can be from the exact value, or
    None. All three are infinite from the first layer on whose numbers float32 might not hold.
    slopes: what layers before the last one are relaxed with. refined: the positions of those that
    hang on them, with how many of their values do.
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


def bound_layers(
    layers: Sequence[Layer], images: Sparse, like: Tensor, rounding: bool = True
) -> Bounded:
    """Bound every layer over all `images`.

    Args:
        layers: of a network.
        images: that the bounds speak of.
        like: a tensor of the type to compute with, that of the layers' weights.
        rounding: also cover the network computed in float32. Every bound is widened by the error of
            its layer, which is many orders of magnitude more than these bounds themselves can be
            off in float64. Where float32 might overflow anywhere, nothing is known of the outputs,
            since a ReLU or a clamp behind it would only hide that.
    """
    found = hull.hulls(layers, like)
    made = Bounded(tuple(layers), images, found, [], [], [] if rounding else None, {}, {})
    return _bounded(made)


def bound_again(made: Bounded, slopes: Slopes) -> Bounded:
    """The same with other slopes of the lines from below: what does not hang on them is kept."""
    first = min(made.refined)
    error = None if made.error is None else made.error[:first]
    low, high = made.low[:first], made.high[:first]
    return _bounded(replace(made, low=low, high=high, error=error, slopes=slopes, refined={}))


def _bounded(made: Bounded) -> Bounded:
    """With all layers that are not bounded yet."""
    asked = {layer.inputs[0]: layer.curve is not None for layer in made.layers if layer.relaxed}
    behind_relu: set[int] = set()
    for at, layer in enumerate(made.layers):
        relaxed = layer.relaxed or not behind_relu.isdisjoint(layer.inputs)
        if relaxed and at not in made.hulls:
            behind_relu.add(at)
        if at < len(made.low):
            continue
        exact = hull.exact_ends(layer, made.hulls, made.images, made.channels)
        low, high = _interval(made, at) if exact is None else exact
        if exact is None and at in asked and at not in made.hulls:
            open_ = low < high if asked[at] else (low < 0) & (high > 0)
            low, high = _refined(made, at, low, high, open_, at in behind_relu)
        if made.error is not None:
            before = made.error, made.low, made.high
            error = slack(layer, *before) if at else torch.full_like(low, TINY)
            low, high = low - error, high + error
            # NaN is neither above nor below anything, and would pass for a ReLU that is off
            if not bool((low + high + error).isfinite().all()):
                return _lost(made, at)
            made.error.append(error)
        made.low.append(low)
        made.high.append(high)
    return made


def _lost(made: Bounded, at: int) -> Bounded:
    """Nothing is known from this layer on."""
    assert made.error is not None
    for layer in made.layers[at:]:
        far = made.low[0].new_full((1, *layer.shape), torch.inf)
        made.low.append(-far)
        made.high.append(far)
        made.error.append(far)
    return made


def _interval(made: Bounded, at: int) -> Ends:
    """What follows for one layer from the bounds of its inputs."""
    layer = made.layers[at]
    if at in made.hulls:
        values, lit = made.hulls[at], float(made.images.k > 0)
        return values.dark + lit * values.low, values.dark + lit * values.high
    if layer.maximum is not None:
        a, b = layer.maximum
        return torch.maximum(made.low[a], made.low[b]), torch.maximum(made.high[a], made.high[b])
    lows, highs = [made.low[i] for i in layer.inputs], [made.high[i] for i in layer.inputs]
    if layer.kind == "relu":
        return lows[0].clamp(min=0), highs[0].clamp(min=0)
    if layer.curve is not None:
        return layer.curve.value(lows[0]), layer.curve.value(highs[0])
    if layer.kind == "sum":
        ends = zip(layer.signs, lows, highs, strict=True)
        signed = [(s * low, s * high) if s >= 0 else (s * high, s * low) for s, low, high in ends]
        low, high = (torch.stack(x).sum(dim=0) for x in zip(*signed, strict=True))
        return low, high
    assert layer.map is not None
    middle, half = (lows[0] + highs[0]) / 2, (highs[0] - lows[0]) / 2
    middle, half = layer.affine(middle), layer.map.absolute()(half)
    return middle - half, middle + half


def _refined(
    made: Bounded, at: int, low: Tensor, high: Tensor, open_: Tensor, behind_relu: bool
) -> Ends:
    """A layer's interval, relaxed where that is asked for (`open_`), if that is not too much."""
    asked = open_.flatten().nonzero().squeeze(1)
    if len(asked) == 0 or (behind_relu and len(asked) > MOST_ROWS):
        return low, high
    if behind_relu:
        made.refined[at] = len(asked)
    flat_low, flat_high = low.flatten(), high.flatten()
    widest = max(int(torch.Size(layer.shape).numel()) for layer in made.layers)
    for places in torch.split(asked, max(1, hull.NUMBERS_AT_ONCE // widest)):
        below, above = _relaxed_ends(made, at, places)
        flat_high = flat_high.index_put((places,), torch.minimum(flat_high[places], above))
        flat_low = flat_low.index_put((places,), torch.maximum(flat_low[places], below))
    return flat_low.view_as(low), flat_high.view_as(high)


def _relaxed_ends(made: Bounded, at: int, places: Tensor) -> Ends:
    """Bounds of some values of a layer from below and above, each (places,)."""
    layer, shift = made.layers[at], made.low[0].new_zeros(())
    over, under = made.slopes.get((at, 1)), made.slopes.get((at, -1))
    if isinstance(layer.map, Dense):
        # the rows of the matrix are known, without a product with ones and zeros
        rows, (at,) = layer.map.weight.T[places], layer.inputs
        shift = shift if layer.bias is None else layer.bias[0, places]
    else:
        rows = shift.new_zeros(len(places), int(torch.Size(layer.shape).numel()))
        rows[torch.arange(len(places)), places] = 1
        rows = rows.view(-1, *layer.shape)
    above, relaxed = backward_bound(made, at, rows, over)
    below = backward_bound(made, at, -rows, under)[0] if relaxed else above.reversed()
    return shift - concretize(made, below), shift + concretize(made, above)


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
        if layer.relaxed:
            relaxed = True
            through = _through_relu if layer.curve is None else _through_curve
            a, more = through(made, i, a, alpha)
            constant = constant + more
        elif layer.bias is not None:
            constant = constant + (a * layer.bias).flatten(1).sum(dim=1)
        for j, part in _inputs(made, layer, a):
            pending[j] = pending[j] + part if j in pending else part
    return Line(found, constant), relaxed


def _inputs(made: Bounded, layer: Layer, a: Tensor) -> Iterator[tuple[int, Tensor]]:
    if layer.kind == "sum":
        yield from ((j, sign * a) for j, sign in zip(layer.inputs, layer.signs, strict=True))
    else:
        (j,) = layer.inputs
        yield j, a if layer.map is None else layer.map.transposed(a, made.layers[j].shape)


def _through_relu(
    made: Bounded, relu: int, a: Tensor, alpha: Alpha | None
) -> tuple[Tensor, Tensor]:
    """Coefficients before a ReLU, constant (rows,): the chord where a > 0, else the lower line."""
    (before,) = made.layers[relu].inputs
    low, high = made.low[before], made.high[before]
    unstable = (low < 0) & (high > 0)
    on = (low >= 0).to(a.dtype)
    # where a ReLU is surely on or off the width of the interval plays no part, and may be 0
    chord = torch.where(unstable, high / torch.where(unstable, high - low, 1.0), on)
    rise = torch.where(unstable, -low * chord, 0.0)
    slope = (high > -low).to(a.dtype) if alpha is None else alpha[relu]
    below = torch.where(unstable, slope, on)
    up = a.clamp(min=0)
    return up * chord + (a - up) * below, (up * rise).flatten(1).sum(dim=1)


def _through_curve(made: Bounded, at: int, a: Tensor, alpha: Alpha | None) -> tuple[Tensor, Tensor]:
    """The same before a curve. alpha: plays no part."""
    layer = made.layers[at]
    (before,) = layer.inputs
    assert layer.curve is not None
    ends, up = (made.low[before], made.high[before]), a.clamp(min=0)
    (slope, shift), (low_slope, low_shift) = layer.curve.above(*ends), layer.curve.below(*ends)
    constant = (up * shift + (a - up) * low_shift).flatten(1).sum(dim=1)
    return up * slope + (a - up) * low_slope, constant


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
