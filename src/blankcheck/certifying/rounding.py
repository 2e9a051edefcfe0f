"""How far a network computed in float32 can be from the one that the bounds speak of.

A sum of n products, in any order and with or without fused multiply-add, is off by at most gamma(n)
times the sum of the absolute products, gamma(n) = n u / (1 - n u) with u = 2^-24 (Higham 2002,
Accuracy and Stability of Numerical Algorithms, section 3.1), as long as nothing overflows; numbers
too small for float32, rounded or set to 0, add at most the smallest normal number each. Errors of
earlier layers go through the absolute coefficients. A ReLU that is surely off ends every error. A
comparison that rounding may turn is off by 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from blankcheck.certifying.functions import Fixed, Jump, Weighted
from blankcheck.certifying.layers import Layer

UNIT = 2.0**-24
"""Half the distance from 1 to the next number in float32."""
TINY = 2.0**-126
"""The smallest normal number of float32: what a number below it can be off, or lose."""
LARGEST = 2.0**126
"""A quarter of float32's largest number: holds every value, coefficient and partial sum, so that
differences hold too and no reciprocal behind a coefficient was flushed to 0."""
CURVE_TERMS = 32
"""Units that a sigmoid and the like can be off, against 1 and its value: libraries are good to a
few, and some compute exp(x) - 1 as it stands."""
SOFTMAX_TERMS = 20
"""Roundings of a softmax beside its sum: exponentials good to a few units, one division."""


def gamma(terms: int) -> float:
    """The relative error of a sum of so many products."""
    return terms * UNIT / (1 - terms * UNIT)


def slack(
    layer: Layer, errors: Sequence[Tensor], low: Sequence[Tensor], high: Sequence[Tensor]
) -> Tensor:
    """The float32 error (rows, *shape) of a layer behind others, infinite if it may overflow.

    errors, low, high: of all earlier layers, (rows, *shape); the last two enclose exact values.
    """
    if layer.maximum is not None:
        a, b = layer.maximum
        return torch.maximum(errors[a], errors[b])
    before = [errors[i] for i in layer.inputs]
    if layer.kind == "relu":
        return torch.where(high[layer.inputs[0]] + before[0] > 0, before[0], 0.0)
    if isinstance(layer.curve, Jump):
        (at,) = layer.inputs
        # the image itself is what it is
        off = before[0] if at else torch.zeros_like(before[0])
        return ((low[at] - off <= 0) & (high[at] + off >= 0) & (off > 0)).to(off.dtype)
    if layer.curve is not None:
        (at,) = layer.inputs
        ends = layer.curve.value(low[at] - before[0]), layer.curve.value(high[at] + before[0])
        most = torch.maximum(ends[0].abs(), ends[1].abs())
        off = layer.curve.steepest * before[0] + CURVE_TERMS * UNIT * (1 + most) + TINY
        return torch.where(most <= LARGEST, off, torch.inf)
    reached = [torch.maximum(low[i].abs(), high[i].abs()) + errors[i] for i in layer.inputs]
    if layer.kind == "linear":
        return _linear(layer, before[0], reached[0])
    if layer.kind == "product":
        whole = reached[0] * reached[1]
        passed = reached[0] * before[1] + reached[1] * before[0]
        off = passed + gamma(1) * whole + TINY
        return torch.where(whole <= LARGEST, off, torch.inf)
    sizes, terms = [abs(sign) for sign in layer.signs], len(layer.signs) + 2
    passed, whole = (
        torch.stack([size * x for size, x in zip(sizes, each, strict=True)]).sum(dim=0)
        for each in (before, reached)
    )
    off = passed + gamma(terms) * whole + 2 * terms * TINY * (1 + max(sizes))
    return torch.where(whole <= LARGEST, off, torch.inf)


def _linear(layer: Layer, error: Tensor, reached: Tensor) -> Tensor:
    """reached: the largest size that the values before can have in float32."""
    map = layer.map
    assert map is not None
    absolute = map.absolute()
    if map.terms == 0 and layer.bias is None:
        return absolute(error)
    passed, whole = absolute(error), absolute(reached)
    if layer.bias is not None:
        whole = whole + layer.bias.abs()
    if layer.doubt is not None:
        doubted = torch.zeros_like(whole) if layer.doubt.map is None else layer.doubt.map(reached)
        doubted = doubted if layer.doubt.bias is None else doubted + layer.doubt.bias
        passed, whole = passed + doubted, whole + doubted
    most = reached.flatten(1).amax(dim=1).view(-1, *[1] * (whole.ndim - 1))
    off = passed + gamma(map.terms + 2) * whole + 2 * (map.terms + 2) * TINY * (1 + most)
    # an average is a sum before it is divided
    held = map.terms * most <= LARGEST if isinstance(map, Fixed) else most <= LARGEST
    if isinstance(map, Weighted):
        held = held & (map.weight.abs().amax() <= LARGEST)
    return torch.where(held & (whole <= LARGEST), off, torch.inf)


def of_softmax(outputs: int) -> float:
    """The relative error of a probability that a softmax over so many float32 logits gives."""
    return 2 * gamma(outputs + SOFTMAX_TERMS)
