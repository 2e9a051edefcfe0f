"""How far a network computed in float32 can be from the one that the bounds speak of.

A sum of n products, in any order and with or without fused multiply-add, is off by at most gamma(n) times the sum of the
absolute products, gamma(n) = n u / (1 - n u) with u = 2^-24 (Higham 2002, Accuracy and Stability of Numerical Algorithms,
section 3.1). Errors of earlier layers go through the absolute values of the coefficients. A ReLU whose value is surely not
positive ends every error.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from blankcheck.certifying.layers import Layer

UNIT = 2.0**-24
"""Half the distance from 1 to the next number in float32."""
SOFTMAX_TERMS = 20
"""Roundings of a softmax beside the sum over its terms: exponentials good to a few units in the last place, one division."""


def gamma(terms: int) -> float:
    """The relative error of a sum of so many products."""
    return terms * UNIT / (1 - terms * UNIT)


def slack(layer: Layer, errors: Sequence[Tensor], sizes: Sequence[Tensor], high: Tensor) -> Tensor:
    """The error (1, *shape) of a layer. errors, sizes: of its inputs, sizes those of the exact values. high: the largest
    exact value of the layer before, for a ReLU."""
    if layer.kind == "relu":
        return torch.where(high + errors[0] > 0, errors[0], 0.0)
    if layer.kind == "sum":
        own = gamma(len(layer.signs) + 2)
        parts = zip(layer.signs, errors, sizes, strict=True)
        return torch.stack([abs(s) * (error + own * (size + error)) for s, error, size in parts]).sum(dim=0)
    assert layer.map is not None
    absolute, (error,), (size,) = layer.map.absolute(), errors, sizes
    if layer.map.terms == 0 and layer.bias is None:
        return absolute(error)
    rounded = absolute(size + error)
    for constant in (layer.bias, layer.unseen):
        rounded = rounded if constant is None else rounded + constant.abs()
    return absolute(error) + gamma(layer.map.terms + 2) * rounded


def of_softmax(outputs: int) -> float:
    """The relative error of a probability that a softmax over so many float32 logits gives."""
    return 2 * gamma(outputs + SOFTMAX_TERMS)
