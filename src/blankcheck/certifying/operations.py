"""How each operation of an exported network is written down as layers.

Names of operations and of their arguments are those of ATen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.certifying.functions import Convolution, Dense, Fixed, Scaling, reshaping
from blankcheck.certifying.layers import Call, Doubt
from blankcheck.certifying.pointwise import OF_TRUTHS, POINTWISE
from blankcheck.certifying.rounding import LARGEST, TINY

SMALL = 2.0**-100
"""A product below this may be rounded as one that float32 can hardly hold."""
BATCH_NORM_TERMS = 12
"""Roundings in (x - mean) / deviation, also as scale x + shift with computed scale and shift."""


def _dense(call: Call, x: str, weight: str, bias: str = "") -> int:
    """x, weight, bias: names of the arguments."""
    at, matrix, shift = call.image(x), call[weight], call.given.get(bias)
    if any(call.given.get(name, 1) != 1 for name in ("alpha", "beta")):
        raise call.refused("with factors")
    if len(call.layers.shape(at)) != 1 or not isinstance(matrix, Tensor):
        raise call.refused("of this form")
    map = Dense(matrix.T if weight == "weight" else matrix)
    return call.layers.linear(at, map, call.after, None if shift is None else call.constant(shift))


def _convolution(call: Call) -> int:
    x, weight, bias = call.image("input"), call["weight"], call["bias"]
    if call["transposed"] or weight.ndim != 4:
        raise call.refused("other than in two dimensions")
    stride, padding, dilation = (_pair(call[n]) for n in ("stride", "padding", "dilation"))
    map = Convolution(weight, stride, padding, dilation, call["groups"])
    return call.layers.linear(x, map, call.after, None if bias is None else bias.view(1, -1, 1, 1))


def _batch_norm(call: Call) -> int:
    x, weight, bias, mean = call.image("input"), call["weight"], call["bias"], call["running_mean"]
    variance, eps, exact = call["running_var"], call["eps"], call.one.dtype == torch.float64
    if eps < 0 or bool((variance < 0).any()):
        # with a sum that cancels, what float32 makes of it is anybody's guess
        raise call.refused("with a variance or eps below 0")
    deviation = (variance + eps).sqrt()
    numbers = [mean, 1 / deviation, 1 / deviation**2]
    numbers += [] if weight is None else [weight, weight / deviation]
    numbers += [] if bias is None else [bias]
    if exact and not all(bool((n.abs() <= LARGEST).all()) for n in numbers):
        raise call.refused("with numbers beyond what float32 can hold")

    def wide(tensor: Tensor) -> Tensor:
        return tensor.view(1, -1, *[1] * (len(call.after) - 1))

    factor = wide(1 / deviation)
    shift = -wide(mean) * factor
    at = call.layers.linear(x, Scaling(factor, BATCH_NORM_TERMS), call.after, shift)
    if weight is None:
        return at
    doubt = None
    if exact and bool((((weight / deviation).abs() < SMALL) & (weight != 0)).any()):
        # float32 multiplies the factors first, and may lose what is below its smallest number
        lost = wide(TINY * mean.abs()).expand(1, *call.after)
        doubt = Doubt(Scaling(wide(TINY * deviation)), lost)
    return call.layers.scaled(at, wide(weight), None if bias is None else wide(bias), doubt)


def _fixed(call: Call, terms: int, bias: Tensor | None = None, **changed: Any) -> int:
    """The operation itself, which is linear and has no negative coefficient."""
    options = {k: v for k, v in call.given.items() if k not in ("self", "dtype")} | changed
    map = Fixed(partial(call.target, **options), terms)
    return call.layers.linear(call.image(), map, call.after, bias)


def _average_pool(call: Call) -> int:
    if (call.given.get("divisor_override") or 1) < 0:
        raise call.refused("with a negative divisor")
    # an adaptive one may look at everything
    window = _pair(call.given.get("kernel_size", call.before[-2:]))
    return _fixed(call, math.prod(window) + 1)


def _sum(call: Call, more: int) -> int:
    """more: roundings beside those of adding up."""
    return _fixed(call, math.prod(call.before[d - 1] for d in call.dims()) + more)


def _max_pool(call: Call) -> int:
    kernel, padding, dilation = (_pair(call[n]) for n in ("kernel_size", "padding", "dilation"))
    stride = _pair(call["stride"] or kernel)
    (c, h, w), (_, *after) = call.before, call.after
    sizes = zip((h, w), after, kernel, stride, padding, dilation, strict=True)
    rows, columns = (_windows(*along) for along in sizes)
    if rows is None or columns is None:
        raise call.refused("with a window that lies outside")
    flat = (rows[:, None, :, None] * w + columns[None, :, None, :]).flatten(0, 1)[:, None]
    windows = flat + torch.arange(c).view(1, -1, 1, 1) * h * w
    return call.layers.largest(call.image(), windows.to(call.one.device))


def _windows(size: int, out: int, k: int, s: int, p: int, d: int) -> Tensor | None:
    """For each of `out` windows along one axis the positions of its k members, (k, out). A place
    outside becomes one inside, which changes no maximum; None for windows without such."""
    places = torch.arange(out)[None, :] * s - p + torch.arange(k)[:, None] * d
    inside = (places >= 0) & (places < size)
    if not bool(inside.any(dim=0).all()):
        return None
    return torch.where(inside, places, places.gather(0, inside.int().argmax(dim=0, keepdim=True)))


def _pad(call: Call) -> int:
    widths, value = list(call["pad"]), float(call["value"])
    if len(widths) > 2 * len(call.before):
        raise call.mixed()
    bias = F.pad(call.one.new_zeros(1, *call.before), widths, value=value) if value else None
    return _fixed(call, 0, bias, value=0)


def _permute(call: Call) -> int:
    if call["dims"][0] % (len(call.after) + 1) != 0:
        raise call.mixed()
    return _fixed(call, 0)


def _reshape(call: Call) -> int:
    if math.prod(call.before) != math.prod(call.after):
        raise call.mixed()
    return call.layers.linear(call.image(), reshaping(call.after), call.after)


def _squeeze(call: Call) -> int:
    call.dims()  # the axis of a batch of one image would go, too
    return _reshape(call)


def _pair(value: Sequence[int] | int) -> tuple[int, int]:
    """A size given once or for both directions."""
    sizes = [value] if isinstance(value, int) else list(value)
    return sizes[0], sizes[-1]


_LINEAR: dict[str, Callable[[Call], int]] = {
    "addmm.default": partial(_dense, x="mat1", weight="mat2", bias="self"),
    "mm.default": partial(_dense, x="self", weight="mat2"),
    "linear.default": partial(_dense, x="input", weight="weight", bias="bias"),
    "convolution.default": _convolution,
    "_native_batch_norm_legit_no_training.default": _batch_norm,
    "max_pool2d_with_indices.default": _max_pool,
    "avg_pool2d.default": _average_pool,
    "_adaptive_avg_pool2d.default adaptive_avg_pool2d.default": lambda call: _fixed(
        call, math.prod(call.before[-2:]) + 1
    ),
    "mean.dim": partial(_sum, more=1),
    "sum.dim_IntList": partial(_sum, more=0),
    "constant_pad_nd.default": _pad,
}
_RESHAPING: dict[str, Callable[[Call], int]] = {
    "permute.default": _permute,
    "view.default _unsafe_view.default reshape.default unsqueeze.default": _reshape,
    "squeeze.dims squeeze.dim": _squeeze,
    "clone.default alias.default detach.default": Call.image,
}


def _by_name(written: dict[str, Callable[[Call], int]]) -> dict[str, Callable[[Call], int]]:
    return {name: write for names, write in written.items() for name in names.split()}


OPERATIONS = _by_name(_LINEAR | _RESHAPING | POINTWISE | OF_TRUTHS)
"""Every operation that can be certified, by its name in ATen."""
TRUTHS = frozenset(_by_name(_RESHAPING | OF_TRUTHS))
"""Those that may give truth values, which layers hold as 1 and 0."""
