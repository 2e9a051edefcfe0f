"""Numbers that a network computes from its weights, and by how much they depend on rounding.

They are computed as the network computes them, in the types of its own tensors. An operation that
float32 rounds in one way only, number by number, gives the same everywhere; sums do not, since
threads and devices add in other orders. So whatever comes after a sum is computed a second time in
float64, with each sum moved by as much as rounding can, and the difference of the two widens the
rounding of the layer. What jumps behind a sum, as comparing does, differs much.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from blankcheck.certifying.functions import Weighted
from blankcheck.certifying.layers import Doubt, Layer, short, uncertifiable
from blankcheck.certifying.rounding import UNIT, gamma
from blankcheck.errors import ModelError
from blankcheck.text import one_line

MOST_DOUBT = 1e-3
"""Difference, against the largest number of a layer, beyond which its weights hang on rounding."""
SPREAD, LAST_PLACES = 8, 8
"""How much farther off other orders may be than what was seen, and by how many units at least."""
MOVED_BY = gamma(16)
"""By how much a sum is moved, against the absolute sum; libraries add in blocks and pairs."""
_SUMS = "sum mean mm addmm bmm baddbmm mv addmv dot linear matmul convolution"
SUMS = frozenset(_SUMS.split())
"""Operations that are linear in each of their tensors."""
_ROUNDED_ONCE = (
    "add sub rsub mul div neg abs sign sgn round floor ceil trunc clamp clamp_min clamp_max "
    "hardtanh relu sqrt reciprocal maximum minimum amax amin max min argmax argmin where eq ne lt "
    "le gt ge logical_and logical_or logical_not logical_xor bitwise_and bitwise_or bitwise_not "
    "bitwise_xor"
)
_MOVED = (
    "view _unsafe_view reshape permute transpose t expand squeeze unsqueeze slice select cat stack "
    "index index_select gather flip roll repeat clone alias detach _to_copy full full_like zeros "
    "zeros_like ones ones_like arange eye scalar_tensor tril triu diagonal constant_pad_nd topk "
    "sort copy slice_scatter select_scatter scatter lift_fresh_copy _local_scalar_dense "
    "_assert_tensor_metadata"
)
SAME_EVERYWHERE = frozenset(f"{_ROUNDED_ONCE} {_MOVED}".split())
"""Operations that give the same in float32 wherever they run."""


def check_operation(node: fx.Node) -> None:
    """ModelError for what may answer otherwise each time, or is not one of PyTorch's."""
    target: Any = node.target
    if target is operator.getitem:
        return
    if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
        raise uncertifiable(f"uses {one_line(target, 60)}")
    name = _operation(node)
    if torch.Tag.nondeterministic_seeded in target.tags:
        raise uncertifiable(f"answers at random: it uses the operation {name}")
    if "empty" in name:
        raise uncertifiable(f"uses memory that nobody wrote, by the operation {name}")
    if target.namespace not in ("aten", "prims"):
        raise uncertifiable(f"uses the operation {target.namespace}.{name}")


def _operation(node: fx.Node) -> str:
    """Its name without the overload."""
    return short(node.target).split(".")[0]


def rounded_nodes(graph: fx.Graph, images: fx.Node) -> frozenset[fx.Node]:
    """Of values that do not depend on the images, those that other devices may round otherwise."""
    seen, found = {images}, set[fx.Node]()
    for node in graph.nodes:
        if not seen.isdisjoint(node.all_input_nodes):
            seen.add(node)
        elif node.op == "call_function" and not (
            found.isdisjoint(node.all_input_nodes) and _operation(node) in SAME_EVERYWHERE
        ):
            found.add(node)
    return frozenset(found)


def computed(node: fx.Node, args: Sequence[Any], kwargs: dict[str, Any], moved: float = 0.0) -> Any:
    """The value of an operation that does not depend on the image.

    In its tensors' types or, where `moved`, in float64 with sums moved by so much of rounding.
    """
    assert callable(node.target)
    if not moved:
        return node.target(*args, **kwargs)
    narrow = (torch.float32, torch.float16, torch.bfloat16)
    if _operation(node) != "_to_copy" and kwargs.get("dtype") in narrow:
        kwargs = kwargs | {"dtype": torch.float64}
    args, kwargs = as_type(tuple(args), torch.float64), as_type(kwargs, torch.float64)
    value = as_type(node.target(*args, **kwargs), torch.float64)
    if _operation(node) in SAME_EVERYWHERE or (isinstance(value, Tensor) and not _real(value)):
        return value
    if _operation(node) not in SUMS:
        return _each(value, lambda t: t * (1 + moved * MOVED_BY) if _real(t) else t)
    return value + moved * MOVED_BY * node.target(*_each(args, torch.abs), **kwargs)


def _real(tensor: Tensor) -> bool:
    return tensor.is_floating_point()


def _each(values: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same with every tensor changed, also inside lists, tuples and dicts."""
    return fx.node.map_aggregate(values, lambda v: change(v) if isinstance(v, Tensor) else v)


def as_type(values: Any, dtype: torch.dtype) -> Any:
    """The same with floating-point tensors in this type, complex ones in its complex type."""

    def turned(tensor: Tensor) -> Tensor:
        if tensor.is_complex():
            return tensor.to(dtype.to_complex())
        return tensor.to(dtype) if _real(tensor) else tensor

    return _each(values, turned)


def doubted(layers: Sequence[Layer], others: Sequence[Sequence[Layer]]) -> list[Layer]:
    """Layers with how far their numbers can be off; ModelError if `others` are another network."""
    if any([a.signs for a in layers] != [b.signs for b in other] for other in others):
        raise _hanging()
    return [_doubted(layer, again) for layer, *again in zip(layers, *others, strict=True)]


def _doubted(layer: Layer, others: Sequence[Layer]) -> Layer:
    pairs = []
    if isinstance(layer.map, Weighted):
        weights = [other.map.weight for other in others if isinstance(other.map, Weighted)]
        pairs.append((layer.map.weight, weights))
    if layer.bias is not None:
        pairs.append((layer.bias, [other.bias for other in others if other.bias is not None]))
    if all(torch.equal(a, b) for a, seen in pairs for b in seen):
        return layer
    if layer.doubt is not None:
        raise _hanging()
    size = torch.stack([a.abs().amax() for a, _ in pairs]).amax()
    map = bias = None
    for a, seen in pairs:
        apart = torch.stack([(a - b).abs().amax() for b in seen]).amax()
        # written so that a number that is none is refused
        if not bool(apart <= MOST_DOUBT * size):
            raise _hanging()
        off = SPREAD * apart + LAST_PLACES * UNIT * a.abs().amax()
        if a is layer.bias:
            bias = off.expand_as(a)
        elif isinstance(layer.map, Weighted):
            map = layer.map.filled(off)
    return replace(layer, doubt=Doubt(map, bias))


def _hanging() -> ModelError:
    return uncertifiable("has weights that forward computes and that depend on rounding")
