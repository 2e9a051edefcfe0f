"""From an `nn.Module` to layers: exported once, written down anew for every set of weights."""

from __future__ import annotations

import operator
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from blankcheck.certifying import constants
from blankcheck.certifying.layers import At, Call, Layer, Layers, short, uncertifiable
from blankcheck.certifying.operations import OPERATIONS, TRUTHS
from blankcheck.certifying.pointwise import WHOLE
from blankcheck.certifying.record import check_shape
from blankcheck.classifiers.wrapper import left_as_found
from blankcheck.errors import ModelError
from blankcheck.outputs import in_silence, run
from blankcheck.users import calling

BATCH = 37
"""Images in the exported batch: an unlikely size, so that an operation mixing images shows."""
PRECISIONS = (torch.float32, torch.float64)
SOFTMAX = {"_softmax.default": "probabilities", "_log_softmax.default": "log-probabilities"}
ONE_AT_A_TIME = threading.Lock()
"""torch.export cannot trace in two threads of a process."""


@dataclass(frozen=True)
class Network:
    """A network that can be written down as layers.

    module: where its weights are looked up at each call. dtype: of the images that it takes. form:
    what its outputs are; a softmax at the end is left away, as if it were not there.
    """

    module: nn.Module
    shape: tuple[int, int, int]
    dtype: torch.dtype
    outputs: int
    form: str
    _program: ExportedProgram
    _end: fx.Node
    _rounded: frozenset[fx.Node]

    def layers(self, dtype: torch.dtype = torch.float64) -> tuple[Layer, ...]:
        """The layers with the weights as they are now; the last one gives the logits.

        Gradients reach the weights. In float64 the layers also say how far weights that the network
        computes itself can be off. Raises ModelError with one line for what cannot be certified.
        """
        with calling("model cannot be read for certification:", ModelError):
            made = self._written(dtype)
            if self._rounded and dtype == torch.float64:
                made = constants.doubted(
                    made, [self._written(dtype, moved) for moved in (1.0, -1.0)]
                )
            return tuple(made)

    def _written(self, dtype: torch.dtype, moved: float = 0.0) -> list[Layer]:
        """moved: by how much of their rounding the sums behind computed weights are moved."""
        known: dict[str, Any] = dict(self.module.named_parameters(remove_duplicate=False))
        known |= dict(self.module.named_buffers(remove_duplicate=False))
        places = _places(self._program)
        made, values = Layers(), dict[fx.Node, Any]()
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                kind, target = places[node.name]
                if kind == InputKind.USER_INPUT:
                    values[node] = At(made.add(Layer("input", self.shape)))
                elif kind in (InputKind.PARAMETER, InputKind.BUFFER) and target in known:
                    values[node] = known[target]
                else:
                    values[node] = self._program.constants[target]
            elif node.op == "call_function":
                off = moved if node in self._rounded else 0.0
                values[node] = _write(node, values, made, dtype, off)
            if node is self._end:
                break
        last = values[self._end]
        if not isinstance(last, At):
            raise ModelError("model outputs must depend on the image to be certified")
        return made.all[: last.position + 1]


def read_network(module: nn.Module, shape: Sequence[int]) -> Network:
    """Read a classifier as it answers in evaluation mode.

    Understands linear layers, convolutions, max and average pooling, batch norm with its running
    statistics, padding, reshaping, sums and products of layers, comparisons, and the usual
    functions of single values (`operations`, `pointwise`).

    Args:
        module: from images (n, c, h, w) in [0, 1] to outputs (n, m).
        shape: (c, h, w).

    Raises:
        ModelError: with one line, for anything else.
    """
    c, h, w = check_shape(shape)
    tensors = (*module.parameters(), *module.buffers())
    like = next((t for t in tensors if t.is_floating_point()), torch.zeros(()))
    if like.dtype not in PRECISIONS:
        raise ModelError(
            f"model must compute in float32 or float64 to be certified, got {like.dtype}"
        )
    taken = _taken(module, like, (c, h, w))
    program = _exported(module, torch.zeros(BATCH, c, h, w, dtype=taken, device=like.device))
    form, end = _without_softmax(_end(program))
    made = end.meta.get("val")
    if not isinstance(made, Tensor) or made.ndim != 2 or len(made) != BATCH or made.shape[1] < 2:
        raise ModelError(
            "model outputs must be (n, classes) with at least 2 classes to be certified"
        )
    places = _places(program)
    graph = program.graph
    images = next(n for n in graph.nodes if places[n.name][0] == InputKind.USER_INPUT)
    rounded = constants.rounded_nodes(graph, images)
    outputs = int(made.shape[1])
    network = Network(module, (c, h, w), taken, outputs, form, program, end, rounded)
    with torch.no_grad():
        network.layers()  # whatever cannot be certified is found now
    return network


def _taken(module: nn.Module, like: Tensor, shape: tuple[int, int, int]) -> torch.dtype:
    """float32, as everything here hands over, or float64 where a network takes that alone."""
    two = torch.zeros(2, *shape, device=like.device)
    with calling("model cannot be run:", ModelError), left_as_found(module), torch.no_grad():
        try:
            run(module, two)
            return torch.float32
        except ModelError:
            run(module, two.to(like.dtype))
            return like.dtype


def _exported(module: nn.Module, some: Tensor) -> ExportedProgram:
    what = "model cannot be read for certification by torch.export:"
    table = torch.export.default_decompositions()
    for name in WHOLE.split():
        # torch has no types for pop
        table.pop(getattr(torch.ops.aten, name).default, None)  # type: ignore[no-untyped-call]
    with calling(what, ModelError), ONE_AT_A_TIME, in_silence(), left_as_found(module):
        # strict is what PyTorch 2.6 would be by itself, and later ones are not
        program = torch.export.export(module, (some,), strict=False)
        whole: ExportedProgram = program.run_decompositions(table)
        return whole


def _places(program: ExportedProgram) -> dict[str, tuple[InputKind, str]]:
    """Of each placeholder what it stands for, and the name of that."""
    specs = program.graph_signature.input_specs
    return {spec.arg.name: (spec.kind, spec.target or "") for spec in specs}


def _end(program: ExportedProgram) -> fx.Node:
    """The node of a program's one output; ModelError if it does more, or not always does it."""
    outputs = program.graph_signature.output_specs
    changed = [str(spec.target) for spec in outputs if spec.kind != OutputKind.USER_OUTPUT]
    if changed:
        raise uncertifiable(f"changes its own buffers or images as it answers ({changed[0]})")
    nodes: dict[str, fx.Node] = {node.name: node for node in program.graph.nodes}
    if len(outputs) != 1 or getattr(outputs[0].arg, "name", None) not in nodes:
        raise ModelError("model must have one output to be certified")
    for node in program.graph.nodes:
        if node.op not in ("placeholder", "output"):
            constants.check_operation(node)
    return nodes[outputs[0].arg.name]


def _without_softmax(end: fx.Node) -> tuple[str, fx.Node]:
    form = SOFTMAX.get(short(end.target))
    if form is None:
        return "logits", end
    inner, dim = end.args[0], end.args[1]
    assert isinstance(inner, fx.Node)
    if dim not in (1, -1):
        raise ModelError("model must end with a softmax over its classes, or none, to be certified")
    return form, inner


def _write(
    node: fx.Node, values: dict[fx.Node, Any], made: Layers, dtype: torch.dtype, moved: float
) -> Any:
    """One operation: layers where it depends on the image, a plain value where it does not."""
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: values[n])
    name, target = short(node.target), node.target
    if not any(isinstance(values[n], At) for n in node.all_input_nodes):
        return constants.computed(node, args, kwargs, moved)
    if target is operator.getitem:
        if args[1] != 0:
            raise uncertifiable("uses the positions of largest values")
        return args[0]
    if name == "_assert_tensor_metadata.default":
        return None  # says what the type of a value is, and changes nothing
    if name not in OPERATIONS:
        own = "native_batch_norm" in name
        why = ": batch norm must use its running statistics" if own else ""
        raise ModelError(f"model uses the operation {name}, which cannot be certified{why}")
    result = node.meta.get("val")
    result = result[0] if isinstance(result, tuple | list) else result
    if not isinstance(result, Tensor) or result.ndim < 2 or len(result) != BATCH:
        raise uncertifiable(f"mixes the images of a batch in the operation {name}")
    if not (result.dtype in PRECISIONS or (result.dtype == torch.bool and name in TRUTHS)):
        raise uncertifiable(f"leaves float32 for {result.dtype} in the operation {name}")
    assert isinstance(target, torch._ops.OpOverload)
    parameters = target._schema.arguments
    given = {p.name: p.default_value for p in parameters}
    given |= dict(zip(given, args, strict=False)) | kwargs
    one = torch.ones((), dtype=dtype, device=result.device)
    call = Call(made, target, constants.as_type(given, dtype), tuple(result.shape[1:]), one)
    return At(OPERATIONS[name](call))
