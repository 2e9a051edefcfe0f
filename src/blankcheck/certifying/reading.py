"""From an `nn.Module` to layers: the network is exported once and written down again for every set of weights."""

from __future__ import annotations

import operator
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind

from blankcheck.certifying.calls import At, Call
from blankcheck.certifying.layers import Layer, Layers
from blankcheck.certifying.operations import OPERATIONS
from blankcheck.classifiers.wrapper import left_as_found
from blankcheck.errors import ModelError
from blankcheck.outputs import run

BATCH = 2
"""Images in the exported batch. Two rather than one, so that an operation that mixes images shows."""
SOFTMAX = {"aten._softmax.default": "probabilities", "aten._log_softmax.default": "log-probabilities"}
ONE_AT_A_TIME = threading.Lock()
"""torch.export cannot trace in two threads of a process."""
OWN_STATISTICS = ("_native_batch_norm_legit.no_stats", "_native_batch_norm_legit_functional.default",
                  "_native_batch_norm_legit.default", "native_batch_norm.default")  # fmt: skip
"""Batch norms that look at the images of a batch."""


@dataclass(frozen=True)
class Network:
    """A network that can be written down as layers. form: what its outputs are; a softmax at its end is left away, since it
    changes no probability. module: where its weights are looked up whenever they are asked for."""

    module: nn.Module
    shape: tuple[int, int, int]
    outputs: int
    form: str
    _graph: fx.Graph
    _places: dict[str, tuple[InputKind, str]]
    _constants: dict[str, Any]
    _end: fx.Node

    def layers(self, dtype: torch.dtype = torch.float64) -> tuple[Layer, ...]:
        """The layers with the weights as they are now; the last one gives the logits. Gradients reach the weights."""
        known: dict[str, Tensor] = dict(self.module.named_parameters(remove_duplicate=False))
        known |= dict(self.module.named_buffers(remove_duplicate=False))
        made = Layers()
        values: dict[fx.Node, Any] = {}
        for node in self._graph.nodes:
            if node.op == "placeholder":
                values[node] = self._given(node, known, made, dtype)
            elif node.op == "call_function":
                values[node] = _write(node, values, made, dtype)
            if node is self._end:
                break
        last = values[self._end]
        return tuple(made.all[: last.position + 1])

    def _given(self, node: fx.Node, known: dict[str, Tensor], made: Layers, dtype: torch.dtype) -> Any:
        kind, target = self._places[node.name]
        if kind == InputKind.USER_INPUT:
            return At(made.input(self.shape))
        found = known[target] if target in known else self._constants[target]
        return found.to(dtype) if isinstance(found, Tensor) and found.is_floating_point() else found


def read_network(module: nn.Module, shape: Sequence[int]) -> Network:
    """A classifier from images (n, c, h, w) in [0, 1] to outputs (n, m), as it answers in evaluation mode.

    Understands linear layers, convolutions, ReLU, leaky ReLU, clamping, max and average pooling, batch norm with its running
    statistics, padding, reshaping, residual sums and constant factors. Raises ModelError with one line for anything else.
    """
    c, h, w = (int(size) for size in shape)
    like = next((t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()), torch.zeros(()))
    if like.dtype not in (torch.float32, torch.float64):
        raise ModelError(f"model must compute in float32 or float64 to be certified, got {like.dtype}")
    some = torch.zeros(BATCH, c, h, w, dtype=like.dtype, device=like.device)
    program = _exported(module, some)
    signature = program.graph_signature
    places = {spec.arg.name: (spec.kind, spec.target or "") for spec in signature.input_specs}
    if len(signature.user_outputs) != 1:
        raise ModelError("model must have one output to be certified")
    end = next(node for node in program.graph.nodes if node.name == signature.user_outputs[0])
    form, end = _without_softmax(end)
    made = end.meta.get("val")
    if not isinstance(made, Tensor) or made.ndim != 2 or made.shape[0] != BATCH or made.shape[1] < 2:
        raise ModelError("model outputs must be (n, classes) with at least 2 classes to be certified")
    network = Network(module, (c, h, w), int(made.shape[1]), form, program.graph, places, dict(program.constants), end)
    network.layers()  # whatever cannot be certified is found now
    return network


def _exported(module: nn.Module, some: Tensor) -> torch.export.ExportedProgram:
    with left_as_found(module), torch.no_grad():
        run(module, some)  # what does not run at all is said in its own words
    try:
        with ONE_AT_A_TIME, warnings.catch_warnings(), left_as_found(module):
            warnings.simplefilter("ignore")
            program: torch.export.ExportedProgram = torch.export.export(module, (some,)).run_decompositions()
            return program
    except Exception as error:  # torch.export raises whatever it meets in the module
        brief = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"model cannot be read for certification by torch.export: {brief}") from error


def _without_softmax(end: fx.Node) -> tuple[str, fx.Node]:
    form = SOFTMAX.get(str(end.target))
    if form is None:
        return "logits", end
    inner, dim = end.args[0], end.args[1]
    assert isinstance(inner, fx.Node)
    if dim not in (1, -1):
        raise ModelError("model must end with a softmax over its classes, or none, to be certified")
    return form, inner


def _write(node: fx.Node, values: dict[fx.Node, Any], made: Layers, dtype: torch.dtype) -> Any:
    """One operation: layers where it depends on the image, a plain value where it does not."""
    args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: values[n])
    name = str(node.target).removeprefix("aten.")
    if not any(isinstance(values[n], At) for n in node.all_input_nodes):
        assert callable(node.target)
        return node.target(*args, **kwargs)
    if node.target is operator.getitem:
        if args[1] != 0:
            raise ModelError("model uses the positions of largest values, which cannot be certified")
        return args[0]
    if name == "_assert_tensor_metadata.default":
        return None  # says what the type of a value is, and changes nothing
    if str(node.target) not in OPERATIONS:
        why = ": batch norm must use its running statistics" if name in OWN_STATISTICS else ""
        raise ModelError(f"model uses the operation {name}, which cannot be certified{why}")
    result = node.meta.get("val")
    result = result[0] if isinstance(result, tuple | list) else result
    if not isinstance(result, Tensor) or result.ndim < 2 or result.shape[0] != BATCH:
        raise ModelError(f"model mixes the images of a batch in the operation {name}, which cannot be certified")
    if not result.is_floating_point():
        raise ModelError(f"model leaves floating-point numbers in the operation {name}, which cannot be certified")
    return At(OPERATIONS[str(node.target)](Call(made, args, kwargs, tuple(result.shape[1:]), dtype, name)))
