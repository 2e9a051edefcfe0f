"""Bounds of every layer over all sparse images: by intervals and, where it pays, `relaxation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from blankcheck.certifying import hull
from blankcheck.certifying.functions import Dense
from blankcheck.certifying.hull import Ends, Sparse
from blankcheck.certifying.layers import Layer
from blankcheck.certifying.relaxation import Bounded, Slopes, backward_bound, concretize
from blankcheck.certifying.rounding import TINY, slack

MOST_ROWS = 6000
"""Values behind others that are bounded by relaxation; of more, intervals have to do."""


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
    asked: dict[int, bool] = {}  # of layers that are relaxed next, whether all their values count
    for layer in made.layers:
        for i in layer.inputs if layer.relaxed else ():
            if layer.kind != "product" or not made.layers[i].relaxed:
                asked[i] = asked.get(i, False) or layer.kind != "relu"
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
            error = _error(made, at, low)
            low, high = low - error, high + error
            # NaN is neither above nor below anything, and would pass for a ReLU that is off
            if not bool((low + high + error).isfinite().all()):
                return _lost(made, at)
            made.error.append(error)
        made.low.append(low)
        made.high.append(high)
    return made


def _error(made: Bounded, at: int, like: Tensor) -> Tensor:
    """How far float32 can be off in one layer, infinite where that is not known."""
    assert made.error is not None
    layer = made.layers[at]
    if at == 0:
        return torch.full_like(like, TINY)
    if not layer.jumps:
        return slack(layer, made.error, made.low, made.high)
    (before,) = layer.inputs
    known = at not in made.hulls or before == 0
    if not known:
        margin = hull.margin(layer, made.hulls[before])
        known = bool((made.error[before] <= margin).all())
    return torch.full_like(like, 0.0 if known else torch.inf)


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
    if layer.kind == "product":
        corners = torch.stack([a * b for a in (lows[0], highs[0]) for b in (lows[1], highs[1])])
        return corners.amin(dim=0), corners.amax(dim=0)
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
