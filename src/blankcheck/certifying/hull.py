"""All sparse images at once: which values a layer that looks at single features can have, and the
exact maximum over them.

The images are {x in [0, 1]^d, at most k features of which are not 0}. For a linear function a.x + c
their largest value is
c plus the sum of the k largest positive entries of a: each lit feature is worth at most max(0,
a_i), and features are lit independently. The same number is the maximum over {x in [0, 1]^d, sum of
x <= k}, the convex hull.

After a function f of single features (a normalisation, min(1, x / tau) ...) a dark feature gives
f(0) and a lit one a value between the least and the largest of f, so that a.f(x) + c is at most
a.f(0) + c plus the k largest gains.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.certifying.layers import Layer
from blankcheck.certifying.maps import Reshaping, Scaling
from blankcheck.errors import ArgumentError

UNITS = ("features", "pixels")


@dataclass(frozen=True)
class Sparse:
    """All images in [0, 1]^(c, h, w) with at most k lit features, or with lit features at at most k
    pixels."""

    k: int
    unit: str = "features"

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ArgumentError(f"unit must be features or pixels, got {self.unit!r}")
        if not isinstance(self.k, int) or self.k < 0:
            raise ArgumentError(f"k must be a whole number of at least 0, got {self.k}")


@dataclass(frozen=True)
class Hull:
    """Of a layer that looks at single features: its value (1, *shape) where it is dark, and how far
    below (`low` <= 0) and above (`high` >= 0) they can be where it is lit. Values stand in the
    order of the image's features."""

    dark: Tensor
    low: Tensor
    high: Tensor

    def gains(self, a: Tensor) -> Tensor:
        """By how much each feature can raise a.f(x) over its value for a black image, (rows,
        *shape) -> (rows, features)."""
        return gains(a, self.low, self.high).flatten(1)


def hulls(layers: Sequence[Layer], like: Tensor) -> dict[int, Hull]:
    """The hull of every layer that looks at single features. like: a tensor of the type and device
    to compute with."""
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
        return Hull(
            *(
                torch.stack([getattr(p, end) for p in signed]).sum(dim=0)
                for end in ("dark", "low", "high")
            )
        )
    (part,) = parts
    if layer.kind == "relu":
        dark = part.dark.clamp(min=0)
        return Hull(
            dark,
            (part.dark + part.low).clamp(min=0) - dark,
            (part.dark + part.high).clamp(min=0) - dark,
        )
    if isinstance(layer.map, Scaling):
        dark = layer.map(part.dark) if layer.bias is None else layer.map(part.dark) + layer.bias
        ends = layer.map(part.low), layer.map(part.high)
        return Hull(dark.expand(1, *layer.shape), torch.minimum(*ends), torch.maximum(*ends))
    if isinstance(layer.map, Reshaping):
        return Hull(*(layer.map(t) for t in (part.dark, part.low, part.high)))
    return None


def _times(part: Hull, sign: float) -> Hull:
    low, high = (part.low, part.high) if sign >= 0 else (part.high, part.low)
    return Hull(part.dark * sign, low * sign, high * sign)


def gains(a: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The larger of a * low and a * high, where low <= 0 <= high."""
    positive = a.clamp(min=0)
    up = positive * high
    # a function that grows with its feature, as most do, has nothing below its value at 0
    return up + (a - positive) * low if bool(low.any()) else up


def largest_gain(gains: Tensor, k: int, unit: str, channels: int) -> Tensor:
    """The sum of the k largest gains of features, or of the k positions whose channels gain most
    together.

    (rows, features) -> (rows,); gains are at least 0, and so a position never has a reason to light
    less than it may.
    """
    if unit == "pixels" and channels > 1:
        gains = gains.reshape(len(gains), channels, -1).sum(dim=1)
    if k >= gains.shape[1]:
        return gains.sum(dim=1)
    return gains.topk(k, dim=1, sorted=False).values.sum(dim=1)
