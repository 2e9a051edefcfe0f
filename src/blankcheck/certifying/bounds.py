"""Bounds of every layer over all sparse images, by intervals and by backward linear relaxation.

Each ReLU that may be on or off is enclosed by two lines: from above the chord, from below a line of
slope 0 to 1 through the origin. Put into each other from a layer back to the image, such lines give
a linear bound of that layer (CROWN, Zhang et al. 2018, arXiv:1811.00866), whose largest value over
the sparse images is known exactly (`hull`). Intervals tighten it further.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.certifying.hull import Hull, Sparse, gains, hulls, largest_gain
from blankcheck.certifying.layers import Layer
from blankcheck.certifying.maps import Convolution, Dense
from blankcheck.certifying.rounding import TINY, slack

NUMBERS_AT_ONCE = 8_000_000
"""Of coefficients that are held at once: 64 MB in float64."""
MOST_ROWS = 6000
"""Values of a layer behind others that are bounded by relaxation; where more may be on or off,
intervals have to do."""


Slopes = Mapping[int, Tensor]
"""By the position of a ReLU the slopes of its line from below, each in [0, 1], (1 or rows, *shape).
"""


@dataclass(frozen=True)
class Bounded:
    """A network with bounds. low, high: (1, *shape) of each layer, over all of `images`. error: how
    far float32 can be from the exact value there; None where nobody asked. From the first layer on
    whose numbers float32 might not hold, all three are infinite."""

    layers: tuple[Layer, ...]
    images: Sparse
    hulls: dict[int, Hull]
    low: list[Tensor]
    high: list[Tensor]
    error: list[Tensor] | None

    @property
    def channels(self) -> int:
        """Of an image."""
        return self.layers[0].shape[0]

    @property
    def lost(self) -> bool:
        """Whether nothing is known of the outputs."""
        return self.error is not None and not bool(self.error[-1].isfinite().all())

    def unstable(self, relu: int) -> Tensor:
        """Which values of a ReLU may be on or off, (1, *shape)."""
        (before,) = self.layers[relu].inputs
        return (self.low[before] < 0) & (self.high[before] > 0)


def bound_layers(
    layers: Sequence[Layer], images: Sparse, like: Tensor, rounding: bool = True
) -> Bounded:
    """Bounds of every layer. like: a tensor of the type to compute with, that of the layers'
    weights.

    rounding: also cover the network computed in float32: every bound is widened by the error of its
    layer, which is many orders of magnitude more than these bounds themselves can be off in
    float64. Where float32 might overflow anywhere, nothing is known of the outputs, since a ReLU or
    a clamp behind it would only hide that.
    """
    made = Bounded(tuple(layers), images, hulls(layers, like), [], [], [] if rounding else None)
    asked = {layer.inputs[0] for layer in layers if layer.kind == "relu"}
    with_relu_below: set[int] = set()
    for at, layer in enumerate(layers):
        if at not in made.hulls and (
            layer.kind == "relu" or any(i in with_relu_below for i in layer.inputs)
        ):
            with_relu_below.add(at)
        low, high = _interval(made, at)
        ends = _first(made, layer)
        if ends is not None:
            low, high = ends
        elif at in asked and at not in made.hulls:
            low, high = _refined(made, at, low, high, MOST_ROWS if at in with_relu_below else None)
        if made.error is not None:
            error = _error(made, at)
            made.error.append(error)
            low, high = low - error, high + error
            # a number that is none is neither above nor below anything, and would pass for a ReLU
            # that is off
            if not bool((low + high + error).isfinite().all()):
                made.error.pop()
                return _lost(made, at)
        made.low.append(low)
        made.high.append(high)
    return made


def _error(made: Bounded, at: int) -> Tensor:
    assert made.error is not None
    if made.layers[at].kind == "input":
        return torch.full_like(made.hulls[at].dark, TINY)
    return slack(made.layers[at], made.error, made.low, made.high)


def _lost(made: Bounded, at: int) -> Bounded:
    """Nothing is known from this layer on."""
    assert made.error is not None
    for layer in made.layers[at:]:
        far = made.low[0].new_full((1, *layer.shape), torch.inf)
        made.low.append(-far)
        made.high.append(far)
        made.error.append(far)
    return made


def _interval(made: Bounded, at: int) -> tuple[Tensor, Tensor]:
    """What follows for one layer from the bounds of its inputs."""
    layer = made.layers[at]
    if at in made.hulls:
        hull, lit = made.hulls[at], float(made.images.k > 0)
        return hull.dark + lit * hull.low, hull.dark + lit * hull.high
    lows, highs = [made.low[i] for i in layer.inputs], [made.high[i] for i in layer.inputs]
    if layer.kind == "relu":
        return lows[0].clamp(min=0), highs[0].clamp(min=0)
    if layer.kind == "sum":
        if layer.maximum is not None:
            a, b = layer.maximum
            return torch.maximum(made.low[a], made.low[b]), torch.maximum(
                made.high[a], made.high[b]
            )
        ends = [
            (s * low, s * high) if s >= 0 else (s * high, s * low)
            for s, low, high in zip(layer.signs, lows, highs, strict=True)
        ]
        return torch.stack([low for low, _ in ends]).sum(dim=0), torch.stack(
            [high for _, high in ends]
        ).sum(dim=0)
    assert layer.map is not None
    middle, half = (
        layer.map((lows[0] + highs[0]) / 2),
        layer.map.absolute()((highs[0] - lows[0]) / 2),
    )
    middle = middle if layer.bias is None else middle + layer.bias
    return middle - half, middle + half


def _first(made: Bounded, layer: Layer) -> tuple[Tensor, Tensor] | None:
    """The exact ends of a layer whose values are linear in a few single features each; None for
    other layers."""
    hull = made.hulls.get(layer.inputs[0]) if layer.kind == "linear" else None
    if hull is None or not isinstance(layer.map, Dense | Convolution):
        return None
    if isinstance(layer.map, Dense):
        weight, low, high = layer.map.weight.T, hull.low, hull.high
    elif layer.map.groups == 1:
        weight = layer.map.weight.flatten(1)
        low, high = (layer.map.patches(end) for end in (hull.low, hull.high))
    else:
        return None
    dark = layer.map(hull.dark) if layer.bias is None else layer.map(hull.dark) + layer.bias
    k, unit = made.images.k, made.images.unit
    if (
        unit == "pixels"
        and hull.dark.shape[1] != made.channels
        and isinstance(layer.map, Convolution)
    ):
        # windows of a rearranged image do not say which of their values share a pixel, but k pixels
        # light no more than these
        k, unit = k * made.channels, "features"
    up: list[Tensor] = []
    down: list[Tensor] = []
    for rows in torch.split(weight, max(1, NUMBERS_AT_ONCE // low.numel())):
        for ends, sign in ((up, 1.0), (down, -1.0)):
            a = sign * rows[:, None]
            ends.append(largest_gain(gains(a, low, high).flatten(0, 1), k, unit, made.channels))
    return dark - torch.cat(down).view_as(dark), dark + torch.cat(up).view_as(dark)


def _refined(
    made: Bounded, at: int, low: Tensor, high: Tensor, most: int | None
) -> tuple[Tensor, Tensor]:
    """The interval of a layer, tightened by relaxation wherever it does not say already whether a
    ReLU is on."""
    asked = ((low < 0) & (high > 0)).flatten().nonzero().squeeze(1)
    if len(asked) == 0 or (most is not None and len(asked) > most):
        return low, high
    flat_low, flat_high = low.flatten(), high.flatten()
    for places in torch.split(asked, _rows_at_once(made.layers)):
        above, below = _both_ends(made, at, places)
        flat_high = flat_high.index_put((places,), torch.minimum(flat_high[places], above))
        flat_low = flat_low.index_put((places,), torch.maximum(flat_low[places], below))
    return flat_low.view_as(low), flat_high.view_as(high)


def _rows_at_once(layers: Sequence[Layer]) -> int:
    return max(1, NUMBERS_AT_ONCE // max(int(torch.Size(layer.shape).numel()) for layer in layers))


def _both_ends(made: Bounded, at: int, places: Tensor) -> tuple[Tensor, Tensor]:
    """Largest and smallest value of some values of a layer, each (places,)."""
    layer, shift = made.layers[at], torch.zeros((), dtype=made.low[0].dtype, device=places.device)
    if isinstance(layer.map, Dense):
        # the rows of the matrix are known, without a product with ones and zeros
        rows, (at,) = layer.map.weight.T[places], layer.inputs
        shift = shift if layer.bias is None else layer.bias[0, places]
    else:
        rows = torch.zeros(
            len(places),
            int(torch.Size(layer.shape).numel()),
            dtype=shift.dtype,
            device=places.device,
        )
        rows[torch.arange(len(places)), places] = 1
        rows = rows.view(-1, *layer.shape)
    above, relaxed = line(made, at, rows)
    below = line(made, at, -rows)[0] if relaxed else above.reversed()
    return shift + largest(made, above), shift - largest(made, below)


@dataclass(frozen=True)
class Line:
    """A linear function of layers that look at single features: coefficients by layer, (rows,
    *shape), constant (rows,)."""

    coefficients: dict[int, Tensor]
    constant: Tensor

    def reversed(self) -> Line:
        """Its negative."""
        return Line({at: -a for at, a in self.coefficients.items()}, -self.constant)


def line(made: Bounded, at: int, rows: Tensor, slopes: Slopes | None = None) -> tuple[Line, bool]:
    """A linear function nowhere below rows (n, *shape) times the layer at `at`, and whether a ReLU
    lies on its way."""
    waiting = {at: rows}
    found: dict[int, Tensor] = {}
    constant, relaxed = rows.new_zeros(len(rows)), False
    for i in range(at, -1, -1):
        a = waiting.pop(i, None)
        if a is None:
            continue
        if i in made.hulls:
            found[i] = a
            continue
        layer = made.layers[i]
        if layer.kind == "relu":
            relaxed = True
            a, more = _through_relu(made, i, a, slopes)
            constant = constant + more
        elif layer.bias is not None:
            constant = constant + (a * layer.bias).flatten(1).sum(dim=1)
        for j, part in _before(made, layer, a):
            waiting[j] = waiting[j] + part if j in waiting else part
    return Line(found, constant), relaxed


def _before(made: Bounded, layer: Layer, a: Tensor) -> Iterator[tuple[int, Tensor]]:
    if layer.kind == "sum":
        yield from ((j, sign * a) for j, sign in zip(layer.inputs, layer.signs, strict=True))
    else:
        (j,) = layer.inputs
        yield j, a if layer.map is None else layer.map.transposed(a, made.layers[j].shape)


def _through_relu(
    made: Bounded, relu: int, a: Tensor, slopes: Slopes | None
) -> tuple[Tensor, Tensor]:
    """Coefficients of the values before a ReLU, and a constant (rows,): the chord where a is
    positive, the line from below where it is negative."""
    (before,) = made.layers[relu].inputs
    low, high = made.low[before], made.high[before]
    unstable = made.unstable(relu)
    on = (low >= 0).to(a.dtype)
    # where a ReLU is surely on or off the width of the interval plays no part, and may be 0
    chord = torch.where(unstable, high / torch.where(unstable, high - low, 1.0), on)
    rise = torch.where(unstable, -low * chord, 0.0)
    flat = (high > -low).to(a.dtype) if slopes is None else slopes[relu]
    below = torch.where(unstable, flat, on)
    positive = a.clamp(min=0)
    return positive * chord + (a - positive) * below, (positive * rise).flatten(1).sum(dim=1)


def largest(made: Bounded, of: Line) -> Tensor:
    """The largest value of a line over all sparse images, exactly, (rows,)."""
    parts, dark = [], of.constant
    for at, a in of.coefficients.items():
        hull = made.hulls[at]
        parts.append(hull.gains(a))
        dark = dark + (a * hull.dark).flatten(1).sum(dim=1)
    if not parts:
        return dark
    return dark + largest_gain(
        torch.stack(parts).sum(dim=0), made.images.k, made.images.unit, made.channels
    )


def upper_bound(made: Bounded, rows: Tensor, slopes: Slopes | None = None) -> Tensor:
    """An upper bound (n,) of rows (n, outputs) times the outputs, over all sparse images; infinite
    where none is known."""
    if made.lost:
        return rows.new_full((len(rows),), torch.inf)
    last = len(made.layers) - 1
    positive = rows.clamp(min=0)
    by_interval = (positive * made.high[last] + (rows - positive) * made.low[last]).sum(dim=1)
    return torch.minimum(by_interval, largest(made, line(made, last, rows, slopes)[0]))
