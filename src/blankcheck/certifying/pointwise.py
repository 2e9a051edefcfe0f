"""How operations on single values are written down as layers: functions, sums, comparisons.

Names of operations and of their arguments are those of ATen. What is true is 1, what is false 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from blankcheck.certifying.functions import NORMAL, SIGMOID, TANH, Jump, celu, elu, softplus
from blankcheck.certifying.layers import At, Call

PLAIN_SOFTPLUS, MILD = 20, 0.01
"""Least threshold, and least beta, of a softplus that rounding hides the threshold of."""


def _combined(call: Call, sign: float) -> int:
    if call["alpha"] != 1:
        raise call.refused("with a factor")
    return _added(call, call["self"], call["other"], sign)


def _added(call: Call, a: Any, b: Any, sign: float) -> int:
    """a + b, or a - b, of two layers, of a layer and a constant, or the other way round."""
    if isinstance(a, At) and isinstance(b, At):
        return call.layers.sum(_both(call, a, b), (1.0, sign))
    if isinstance(a, At):
        return _scaled(call, a.position, call.one, sign * call.constant(b))
    return _scaled(call, b.position, sign * call.one, call.constant(a))


def _both(call: Call, a: At, b: At) -> tuple[int, int]:
    if not call.layers.shape(a.position) == call.layers.shape(b.position) == call.after:
        raise call.refused("of layers of different shapes")
    return a.position, b.position


def _scaled(call: Call, x: int, factor: Tensor, shift: Tensor | None = None) -> int:
    if call.layers.shape(x) != call.after:
        raise call.refused("with a constant that makes the layer larger")
    return call.layers.scaled(x, factor, shift)


def _product(call: Call) -> int:
    a, b = call["self"], call["other"]
    if isinstance(a, At) and isinstance(b, At):
        return call.layers.product(*_both(call, a, b))
    x, other = ("self", "other") if isinstance(a, At) else ("other", "self")
    return _scaled(call, call.image(x), call.constant(call[other]))


def _power(call: Call) -> int:
    if call["exponent"] != 2:
        raise call.refused("with an exponent other than 2")
    return call.layers.product(call.image(), call.image())


def _quotient(call: Call) -> int:
    return _scaled(call, call.image(), 1 / call.constant(call["other"]))


def _leaky(call: Call) -> int:
    """max(0, x) + slope min(0, x), as slope x + (1 - slope) max(0, x)."""
    x, slope = call.image(), float(call["negative_slope"])
    return call.layers.sum((x, call.layers.relu(x)), (slope, 1 - slope))


def _prelu(call: Call) -> int:
    """max(0, x) + w min(0, x), as w x + (1 - w) max(0, x)."""
    x, weight = call.image(), call.constant(call["weight"])
    ends = _scaled(call, x, weight), _scaled(call, call.layers.relu(x), 1 - weight)
    return call.layers.sum(ends, (1.0, 1.0))


def _elu(call: Call) -> int:
    alpha, scale = float(call["alpha"]), call.given.get("scale", 1)
    if not 0 < alpha < math.inf or call.given.get("input_scale", 1) != 1:
        raise call.refused("of this form")
    at = call.layers.curved(call.image(), elu(alpha))
    return at if scale == 1 else call.layers.scaled(at, call.one * scale)


def _celu(call: Call) -> int:
    alpha = float(call["alpha"])
    if not 0 < alpha < math.inf:
        raise call.refused("of this form")
    return call.layers.curved(call.image(), celu(alpha))


def _softplus(call: Call) -> int:
    beta = float(call["beta"])
    # beyond the threshold x itself is taken, which is off by exp(-threshold) / beta at most
    if not MILD <= beta < math.inf or call["threshold"] < PLAIN_SOFTPLUS:
        raise call.refused("of this form")
    return call.layers.curved(call.image(), softplus(beta))


def _log_sigmoid(call: Call) -> int:
    one, layers = call.one, call.layers
    return layers.scaled(layers.curved(layers.scaled(call.image(), -one), softplus(1.0)), -one)


def _mish(call: Call) -> int:
    x, layers = call.image(), call.layers
    return layers.product(x, layers.curved(layers.curved(x, softplus(1.0)), TANH))


def _gelu(call: Call) -> int:
    if call["approximate"] != "none":
        raise call.refused("by an approximation")
    return call.layers.product(call.image(), call.layers.curved(call.image(), NORMAL))


def _absolute(call: Call) -> int:
    x, layers = call.image(), call.layers
    return layers.sum((layers.relu(x), layers.relu(layers.scaled(x, -call.one))), (1.0, 1.0))


def _compared(call: Call, at_zero: bool, turned: bool = False) -> int:
    """Whether self > other, as 1 or 0. at_zero: also where both are equal; turned: the opposite."""
    a, b = call["self"], call["other"]
    plain = isinstance(a, At) and isinstance(b, int | float) and b == 0
    at = call.layers.curved(a.position if plain else _added(call, a, b, -1.0), Jump(at_zero))
    return _scaled(call, at, -call.one, call.one) if turned else at


def _sign(call: Call) -> int:
    """[x > 0] + [x >= 0] - 1."""
    x, layers = call.image(), call.layers
    both = layers.curved(x, Jump(False)), layers.curved(x, Jump(True))
    return layers.scaled(layers.sum(both, (1.0, 1.0)), call.one, -call.one)


def _not(call: Call) -> int:
    return _scaled(call, call.image(), -call.one, call.one)


def _or(call: Call) -> int:
    """a + b - a b."""
    a, b = call["self"], call["other"]
    if isinstance(a, At) and isinstance(b, At):
        both = _both(call, a, b)
        return call.layers.sum((*both, call.layers.product(*both)), (1.0, 1.0, -1.0))
    x, mask = (a, call.constant(b)) if isinstance(a, At) else (b, call.constant(a))
    return _scaled(call, x.position, 1 - mask, mask)


def _where(call: Call) -> int:
    """b + c (a - b), where the condition c is 1 or 0."""
    c, a, b = call["condition"], call["self"], call["other"]
    if not isinstance(c, At):
        return _picked(call, call.constant(c), a, b)
    if not isinstance(a, At) and not isinstance(b, At):
        low, high = call.constant(b), call.constant(a)
        return _scaled(call, c.position, high - low, low)
    apart = At(_added(call, a, b, -1.0))
    chosen = At(call.layers.product(*_both(call, c, apart)))
    return _added(call, chosen, b, 1.0)


def _picked(call: Call, mask: Tensor, a: Any, b: Any) -> int:
    """a where the mask is 1, b where it is 0; they may be layers or constants."""
    for value in (v for v in (a, b) if not isinstance(v, At)):
        if not bool(call.constant(value).isfinite().all()):
            raise call.refused("with numbers that are not finite")
    parts = [
        At(_scaled(call, value.position, share))
        if isinstance(value, At)
        else call.constant(value) * share
        for value, share in ((a, mask), (b, 1 - mask))
    ]
    return _added(call, parts[0], parts[1], 1.0)


def _clamp(call: Call, ends: Sequence[str] = ("min", "max")) -> int:
    """By max(x, c) = c + relu(x - c) and min(x, c) = c - relu(c - x)."""
    at, one = call.image(), call.one
    low, high = (call.given.get(name) for name in ends)
    for end in (low, high):
        if end is not None and (not isinstance(end, int | float) or math.isnan(end)):
            raise call.refused("with ends that are no numbers")
    if low is not None and low != -math.inf:
        above = call.layers.relu(call.layers.scaled(at, one, -one * low) if low else at)
        at = call.layers.scaled(above, one, one * low) if low else above
    if high is not None and high != math.inf:
        below = call.layers.relu(call.layers.scaled(at, -one, one * high))
        at = call.layers.scaled(below, -one, one * high)
    return at


def _extreme(call: Call, sign: float) -> int:
    """The larger (sign 1) or smaller (sign -1) of two layers or of a layer and a constant."""
    a, b = call["self"], call["other"]
    one = sign * call.one
    turned = [_scaled(call, each.position, one) for each in (a, b) if isinstance(each, At)]
    if len(turned) == 2:
        return call.layers.scaled(call.layers.larger(*turned), one)
    c = call.constant(b if isinstance(a, At) else a)
    above = call.layers.relu(_scaled(call, turned[0], one.abs(), -sign * c))
    return call.layers.scaled(above, one, c)


POINTWISE: dict[str, Callable[[Call], int]] = {
    "add.Tensor add.Scalar": partial(_combined, sign=1.0),
    "sub.Tensor sub.Scalar": partial(_combined, sign=-1.0),
    "mul.Tensor mul.Scalar": _product,
    "div.Tensor div.Scalar": _quotient,
    "neg.default": lambda call: _scaled(call, call.image(), -call.one),
    "pow.Tensor_Scalar": _power,
    "abs.default": _absolute,
    "sign.default": _sign,
    "where.self": _where,
    "relu.default": lambda call: call.layers.relu(call.image()),
    "leaky_relu.default": _leaky,
    "_prelu_kernel.default": _prelu,
    "sigmoid.default": lambda call: call.layers.curved(call.image(), SIGMOID),
    "tanh.default": lambda call: call.layers.curved(call.image(), TANH),
    "elu.default": _elu,
    "celu.default": _celu,
    "softplus.default": _softplus,
    "log_sigmoid_forward.default": _log_sigmoid,
    "mish.default": _mish,
    "gelu.default": _gelu,
    "clamp.default clamp_min.default clamp_max.default": _clamp,
    "hardtanh.default": partial(_clamp, ends=("min_val", "max_val")),
    "maximum.default": partial(_extreme, sign=1.0),
    "minimum.default": partial(_extreme, sign=-1.0),
    # between float32 and float64: at most one rounding
    "_to_copy.default": lambda call: _scaled(call, call.image(), call.one),
}
"""Those whose results are numbers, by their names."""
OF_TRUTHS: dict[str, Callable[[Call], int]] = {
    "gt.Scalar gt.Tensor": partial(_compared, at_zero=False),
    "ge.Scalar ge.Tensor": partial(_compared, at_zero=True),
    "lt.Scalar lt.Tensor": partial(_compared, at_zero=True, turned=True),
    "le.Scalar le.Tensor": partial(_compared, at_zero=False, turned=True),
    "bitwise_not.default logical_not.default": _not,
    "bitwise_and.Tensor logical_and.default": _product,
    "bitwise_or.Tensor logical_or.default": _or,
}
"""Those whose results are truth values."""
WHOLE = "elu celu _prelu_kernel softplus log_sigmoid_forward mish"
"""Functions that stay whole: taken apart they are comparisons, or what cannot be certified."""
