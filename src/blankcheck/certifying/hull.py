"""All sparse images at once, and the exact maximum of a linear function over them.

The images are {x in [0, 1]^d, at most k features of which are not 0}. For a linear function a.x + c
their largest value is c plus the sum of the k largest positive entries of a: each lit feature is
worth at most max(0, a_i), and features are lit independently. The same number is the maximum over
{x in [0, 1]^d, sum of x <= k}, the convex hull.

After a function f of single features (a normalisation, min(1, x / tau) ...) a dark feature gives
f(0) and a lit one a value between the least and the largest of f, so that a.f(x) + c is at most
a.f(0) + c plus the k largest gains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.certifying.functions import Convolution, Dense, Fixed, Scaling
from blankcheck.certifying.layers import Layer
from blankcheck.certifying.record import UNITS
from blankcheck.errors import ArgumentError

Ends = tuple[Tensor, Tensor]
"""From below, and from above."""
MARGIN = 1e-5
"""Against the size of a value: what the rounding of a comparison's two sides stays below."""
NUMBERS_AT_ONCE = 8_000_000
"""Of coefficients that are held at once: 64 MB in float64."""


@dataclass(frozen=True)
class Sparse:
    """All images in [0, 1]^(c, h, w) with at most k lit features, or k pixels with lit features."""

    k: int
    unit: str = "features"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ArgumentError(f"unit must be features or pixels, got {self.unit!r}")
        if not isinstance(self.k, int) or self.k < 0:
            raise ArgumentError(f"k must be a whole number of at least 0, got {self.k}")


@dataclass(frozen=True)
class Hull:
    """The values of a layer that looks at single features, in the order of the image's features.

    dark: (1, *shape), those of a black image. low, high: (1, *shape), how far below (at most 0) and
    above (at least 0) these a value can be where its feature is lit.
    """

    dark: Tensor
    low: Tensor
    high: Tensor


def hulls(layers: Sequence[Layer], like: Tensor) -> dict[int, Hull]:
    """The hull of every layer that looks at single features, by position.

    like: a tensor of the type and on the device to compute with.
    """
    found: dict[int, Hull] = {}
    for at, layer in enumerate(layers):
        made = _hull(layer, found, like)
        if made is not None:
            found[at] = made
    return found


def _hull(layer: Layer, found: Mapping[int, Hull], like: Tensor) -> Hull | None:
    if layer.kind == "input":
        zero = like.new_zeros((1, *layer.shape))
        return Hull(zero, zero, zero + 1)
    if any(at not in found for at in layer.inputs):
        return None
    parts = [found[at] for at in layer.inputs]
    if layer.kind == "sum":
        signed = [_times(part, sign) for part, sign in zip(parts, layer.signs, strict=True)]
        return Hull(*(torch.stack(ends).sum(dim=0) for ends in zip(*signed, strict=True)))
    if layer.kind == "product":
        return _product(*parts)
    dark, low, high = parts[0].dark, parts[0].low, parts[0].high
    if layer.jumps:
        return _jump(layer, parts[0])
    if layer.kind in ("relu", "curve"):
        # both never fall
        value = F.relu if layer.curve is None else layer.curve.value
        on = value(dark)
        return Hull(on, value(dark + low) - on, value(dark + high) - on)
    if isinstance(layer.map, Scaling):
        ends = layer.map(low), layer.map(high)
        whole = layer.affine(dark).expand(1, *layer.shape)
        return Hull(whole, torch.minimum(*ends), torch.maximum(*ends))
    if isinstance(layer.map, Fixed) and layer.map.in_order:
        return Hull(layer.map(dark), layer.map(low), layer.map(high))
    return None


def margin(layer: Layer, before: Hull) -> Tensor:
    """How far float32 may be off before a comparison of single features, (1, *shape): many times
    what rounding makes of a few operations. The image itself is what it is."""
    sizes = before.dark.abs() + torch.maximum(-before.low, before.high)
    return (1 + sizes) * (MARGIN if layer.inputs[0] else 0.0)


def _jump(layer: Layer, before: Hull) -> Hull | None:
    """None where rounding may decide what a dark feature gives."""
    assert layer.curve is not None
    value, near = layer.curve.value, margin(layer, before)
    if bool((value(before.dark - near) < value(before.dark + near)).any()):
        return None
    on = value(before.dark)
    low, high = before.dark + before.low - near, before.dark + before.high + near
    return Hull(on, value(low) - on, value(high) - on)


def _product(a: Hull, b: Hull) -> Hull:
    dark = a.dark * b.dark
    ends = [(a.dark + x) * (b.dark + y) for x in (a.low, a.high) for y in (b.low, b.high)]
    corners = torch.stack(ends)
    return Hull(dark, corners.amin(dim=0) - dark, corners.amax(dim=0) - dark)


def _times(part: Hull, sign: float) -> tuple[Tensor, Tensor, Tensor]:
    low, high = (part.low, part.high) if sign >= 0 else (part.high, part.low)
    return part.dark * sign, low * sign, high * sign


def gains(a: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The larger of a * low and a * high, where low <= 0 <= high."""
    positive = a.clamp(min=0)
    up = positive * high
    # a function that grows with its feature, as most do, has nothing below its value at 0
    return up + (a - positive) * low if bool(low.any()) else up


def largest_gain(gains: Tensor, images: Sparse, channels: int) -> Tensor:
    """By how much a linear function can rise above its value for a black image, (rows,).

    gains: (rows, features), at least 0. The sum of the k largest of features, or of the k pixels
    whose channels gain most together; no pixel has a reason to light less than it may.
    """
    if images.unit == "pixels" and channels > 1:
        gains = gains.reshape(len(gains), channels, -1).sum(dim=1)
    if images.k >= gains.shape[1]:
        return gains.sum(dim=1)
    return gains.topk(images.k, dim=1, sorted=False).values.sum(dim=1)


def exact_ends(layer: Layer, found: dict[int, Hull], images: Sparse, channels: int) -> Ends | None:
    """The exact ends (1, *shape) of a layer linear in a few single features each, else None."""
    hull = found.get(layer.inputs[0]) if layer.kind == "linear" else None
    if hull is None:
        return None
    low, high = hull.low, hull.high
    if isinstance(layer.map, Dense):
        weight = layer.map.weight.T
    elif isinstance(layer.map, Convolution) and layer.map.groups == 1:
        weight = layer.map.weight.flatten(1)
        low, high = layer.map.patches(low), layer.map.patches(high)
        if images.unit == "pixels" and hull.dark.shape[1] != channels:
            # windows of a rearranged image may share pixels, but k pixels light no more than these
            images = Sparse(images.k * channels)
    else:
        return None
    dark = layer.affine(hull.dark)
    up, down = list[Tensor](), list[Tensor]()
    for rows in torch.split(weight, max(1, NUMBERS_AT_ONCE // low.numel())):
        for ends, sign in ((up, 1.0), (down, -1.0)):
            each = gains(sign * rows[:, None], low, high).flatten(0, 1)
            ends.append(largest_gain(each, images, channels))
    return dark - torch.cat(down).view_as(dark), dark + torch.cat(up).view_as(dark)
