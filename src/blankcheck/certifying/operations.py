"""How each operation of an exported network is written down as layers.

The names are those of ATen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.certifying.calls import At, Call, pair
from blankcheck.certifying.layers import Doubt
from blankcheck.certifying.maps import Averaging, Convolution, Dense, Reshaping, Scaling
from blankcheck.certifying.rounding import LARGEST, TINY

SMALL = 2.0**-100
"""A product below this may be rounded as one that float32 can hardly hold."""
BATCH_NORM_TERMS = 12
"""Roundings in (x - mean) / deviation, also as scale x + shift, the computation of scale and shift
included."""


def _dense(call: Call, x: int, weight: Tensor, bias: Tensor | None) -> int:
    if len(call.layers.shape(x)) != 1 or not isinstance(weight, Tensor):
        raise call.refused("of this form")
    return call.layers.linear(
        x, Dense(weight), call.after, None if bias is None else call.constant(bias)
    )


def _addmm(call: Call) -> int:
    if call.kwargs.get("beta", 1) != 1 or call.kwargs.get("alpha", 1) != 1:
        raise call.refused("with factors")
    return _dense(call, call.image(1), call.args[2], call.args[0])


def _mm(call: Call) -> int:
    return _dense(call, call.image(0), call.args[1], None)


def _linear(call: Call) -> int:
    return _dense(call, call.image(0), call.args[1].T, call.arg(2))


def _convolution(call: Call) -> int:
    x, (weight, bias, stride, padding, dilation, turned, _, groups) = call.image(), call.args[1:9]
    if turned or weight.ndim != 4:
        raise call.refused("other than in two dimensions")
    map = Convolution(weight, pair(stride), pair(padding), pair(dilation), groups)
    return call.layers.linear(x, map, call.after, None if bias is None else bias.view(1, -1, 1, 1))


def _batch_norm(call: Call) -> int:
    x, (weight, bias, mean, variance, _, eps) = call.image(), call.args[1:7]
    if eps < 0 or bool((variance < 0).any()):
        # with a sum that cancels, what float32 makes of it is anybody's guess
        raise call.refused("with a variance or eps below 0")
    deviation = (variance + eps).sqrt()
    numbers = [mean, 1 / deviation, 1 / deviation**2, *(t for t in (weight, bias) if t is not None)]
    if weight is not None:
        numbers.append(weight / deviation)
    if call.one.dtype == torch.float64 and not all(
        bool((n.abs() <= LARGEST).all()) for n in numbers
    ):
        raise call.refused("with numbers beyond what float32 can hold")
    wide = (1, -1, *[1] * (len(call.after) - 1))
    factor = (1 / deviation).view(wide)
    at = call.layers.scaled(x, factor, -mean.view(wide) * factor, BATCH_NORM_TERMS)
    if weight is None:
        return at
    doubt = None
    if call.one.dtype == torch.float64 and bool(
        (((weight / deviation).abs() < SMALL) & (weight != 0)).any()
    ):
        # float32 multiplies the two factors first, and may lose of the product what is below its
        # smallest number
        doubt = Doubt(
            Scaling(TINY * deviation.view(wide)),
            (TINY * mean.abs()).view(wide).expand(1, *call.after),
        )
    return call.layers.scaled(
        at, weight.view(wide), None if bias is None else bias.view(wide), doubt=doubt
    )


def _combined(call: Call, sign: float) -> int:
    """x + y, or x - y, of two layers, of a layer and a constant, or the other way round."""
    a, b = call.args[0], call.args[1]
    if call.kwargs.get("alpha", call.arg(2, 1)) != 1:
        raise call.refused("with a factor")
    if isinstance(a, At) and isinstance(b, At):
        if call.layers.shape(a.position) != call.layers.shape(b.position):
            raise call.refused("of layers of different shapes")
        return call.layers.sum((a.position, b.position), (1.0, sign))
    if isinstance(a, At):
        return _scaled(call, a.position, call.one, sign * call.constant(b))
    return _scaled(call, b.position, sign * call.one, call.constant(a))


def _scaled(call: Call, x: int, factor: Tensor, shift: Tensor | None = None) -> int:
    if call.layers.shape(x) != call.after:
        raise call.refused("with a constant that makes the layer larger")
    return call.layers.scaled(x, factor, shift)


def _product(call: Call) -> int:
    side = 0 if isinstance(call.args[0], At) else 1
    return _scaled(call, call.image(side), call.constant(call.args[1 - side]))


def _quotient(call: Call) -> int:
    return _scaled(call, call.image(), 1 / call.constant(call.args[1]))


def _leaky(call: Call) -> int:
    return call.layers.leaky(call.image(), float(call.arg(1, 0.01)))


def _clamp(call: Call, low: Any, high: Any) -> int:
    low, high = (
        low if low is not None else call.kwargs.get("min"),
        high if high is not None else call.kwargs.get("max"),
    )
    for end in (low, high):
        if end is not None and (not isinstance(end, int | float) or math.isnan(end)):
            raise call.refused("with ends that are no numbers")
    low, high = None if low == -math.inf else low, None if high == math.inf else high
    return call.layers.clamped(call.image(), low, high, call.one)


def _extreme(call: Call, sign: float) -> int:
    """The larger of two layers or of a layer and a constant (sign 1), or the smaller one (sign -1)."""
    a, b = call.args
    one = sign * call.one
    turned = [_scaled(call, each.position, one) for each in (a, b) if isinstance(each, At)]
    if len(turned) == 2:
        return call.layers.scaled(call.layers.larger(*turned), one)
    c = call.constant(b if isinstance(a, At) else a)
    above = call.layers.relu(_scaled(call, turned[0], one.abs(), -sign * c))
    return call.layers.scaled(above, one, c)


def _averaged(call: Call, function: Callable[[Tensor], Tensor], terms: int) -> int:
    return call.layers.linear(call.image(), Averaging(function, terms), call.after)


def _average_pool(call: Call) -> int:
    kernel = pair(call.args[1])
    stride = pair(call.arg(2) or kernel)
    rest = (call.arg(3, (0, 0)), call.arg(4, False), call.arg(5, True), call.arg(6))
    if (rest[-1] or 1) < 0:
        raise call.refused("with a negative divisor")
    pool = partial(_pooled, kernel=kernel, stride=stride, rest=rest)
    return _averaged(call, pool, math.prod(kernel) + 1)


def _pooled(
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    rest: tuple[Any, bool, bool, int | None],
) -> Tensor:
    return F.avg_pool2d(x, kernel, stride, pair(rest[0]), *rest[1:])


def _adaptive_average(call: Call) -> int:
    return _averaged(
        call,
        partial(F.adaptive_avg_pool2d, output_size=call.args[1]),
        math.prod(call.before[-2:]) + 1,
    )


def _mean(call: Call) -> int:
    dims, keep = call.dims(1), bool(call.arg(2, False))
    return _averaged(
        call, lambda x: x.mean(dims, keep), math.prod(call.before[d - 1] for d in dims) + 1
    )


def _total(call: Call) -> int:
    dims, keep = call.dims(1), bool(call.arg(2, False))
    return _averaged(call, lambda x: x.sum(dims, keep), math.prod(call.before[d - 1] for d in dims))


def _max_pool(call: Call) -> int:
    x, kernel = call.image(), pair(call.args[1])
    stride, padding = pair(call.arg(2) or kernel), pair(call.arg(3, (0, 0)))
    windows = _windows(call.before, call.after, kernel, stride, padding, pair(call.arg(4, (1, 1))))
    if windows is None:
        raise call.refused("with a window that lies outside")
    return call.layers.largest(x, windows.to(call.one.device))


def _windows(
    before: tuple[int, ...],
    after: tuple[int, ...],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> Tensor | None:
    """(members of a window, *after): positions in the flat values. A place outside the image is
    replaced by a member of the same window that lies inside, which changes no maximum; None where a
    window has no such member."""
    axes = []
    for size, out, k, s, p, d in zip(
        before[1:], after[1:], kernel, stride, padding, dilation, strict=True
    ):
        places = torch.arange(out)[None, :] * s - p + torch.arange(k)[:, None] * d
        inside = (places >= 0) & (places < size)
        if not bool(inside.any(dim=0).all()):
            return None
        # a window is a product of rows and columns: what lies inside along each of them lies inside
        some = places.gather(0, inside.int().argmax(dim=0, keepdim=True))
        axes.append(torch.where(inside, places, some))
    rows, columns = axes
    flat = rows[:, None, :, None] * before[2] + columns[None, :, None, :]
    flat = flat.reshape(-1, 1, after[1], after[2])
    return flat + torch.arange(before[0]).view(1, -1, 1, 1) * before[1] * before[2]


def _pad(call: Call) -> int:
    widths, value = list(call.args[1]), float(call.arg(2, 0.0))
    if len(widths) > 2 * len(call.before):
        raise call.mixed()
    bias = F.pad(call.one.new_zeros(1, *call.before), widths, value=value) if value else None
    return call.layers.linear(
        call.image(), Averaging(partial(F.pad, pad=widths), 0), call.after, bias
    )


def _permute(call: Call) -> int:
    order = [d % (len(call.after) + 1) for d in call.args[1]]
    if order[0] != 0:
        raise call.mixed()
    return _averaged(call, lambda x: x.permute(order), 0)


def _reshape(call: Call) -> int:
    if math.prod(call.before) != math.prod(call.after):
        raise call.mixed()
    return call.layers.linear(call.image(), Reshaping(call.after), call.after)


def _squeeze(call: Call) -> int:
    call.dims(1)  # the axis of a batch of one image would go, too
    return _reshape(call)


def _cast(call: Call) -> int:
    """Between float32 and float64, which are the only types that come here: at most one rounding."""
    return _scaled(call, call.image(), call.one)


def _same(call: Call) -> int:
    return call.image()


def _negative(call: Call) -> int:
    return _scaled(call, call.image(), -call.one)


OPERATIONS: dict[str, Callable[[Call], int]] = {
    "aten.addmm.default": _addmm,
    "aten.mm.default": _mm,
    "aten.linear.default": _linear,
    "aten.convolution.default": _convolution,
    "aten._native_batch_norm_legit_no_training.default": _batch_norm,
    "aten.add.Tensor": partial(_combined, sign=1.0),
    "aten.sub.Tensor": partial(_combined, sign=-1.0),
    "aten.add.Scalar": partial(_combined, sign=1.0),
    "aten.sub.Scalar": partial(_combined, sign=-1.0),
    "aten.mul.Tensor": _product,
    "aten.mul.Scalar": _product,
    "aten.div.Tensor": _quotient,
    "aten.div.Scalar": _quotient,
    "aten.neg.default": _negative,
    "aten.relu.default": lambda call: call.layers.relu(call.image()),
    "aten.leaky_relu.default": _leaky,
    "aten.clamp.default": lambda call: _clamp(call, call.arg(1), call.arg(2)),
    "aten.clamp_min.default": lambda call: _clamp(call, call.args[1], None),
    "aten.clamp_max.default": lambda call: _clamp(call, None, call.args[1]),
    "aten.hardtanh.default": lambda call: _clamp(call, call.arg(1, -1.0), call.arg(2, 1.0)),
    "aten.maximum.default": partial(_extreme, sign=1.0),
    "aten.minimum.default": partial(_extreme, sign=-1.0),
    "aten.max_pool2d_with_indices.default": _max_pool,
    "aten.avg_pool2d.default": _average_pool,
    "aten._adaptive_avg_pool2d.default": _adaptive_average,
    "aten.adaptive_avg_pool2d.default": _adaptive_average,
    "aten.mean.dim": _mean,
    "aten.sum.dim_IntList": _total,
    "aten.constant_pad_nd.default": _pad,
    "aten.permute.default": _permute,
    "aten.view.default": _reshape,
    "aten._unsafe_view.default": _reshape,
    "aten.reshape.default": _reshape,
    "aten.squeeze.dims": _squeeze,
    "aten.squeeze.dim": _squeeze,
    "aten.unsqueeze.default": _reshape,
    "aten._to_copy.default": _cast,
    "aten.clone.default": _same,
    "aten.alias.default": _same,
    "aten.detach.default": _same,
}
"""Every operation that can be certified."""
