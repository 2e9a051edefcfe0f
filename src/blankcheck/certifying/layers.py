"""A network as linear maps, sums and ReLUs, each of which knows its inputs by their position."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from blankcheck.certifying.functions import Curve, Jump, Map, Scaling, choosing, reshaping
from blankcheck.errors import ModelError


@dataclass(frozen=True, eq=False)
class Doubt:
    """By how much a layer's numbers can be off, because the network computes them itself.

    map: with the error of each coefficient in its place. bias: (1, *shape).
    """

    map: Map | None
    bias: Tensor | None


@dataclass(frozen=True, eq=False)
class Layer:
    """One step of a network. shape: of one image's values. inputs: positions of earlier layers.

    kind: `input`; `linear`, map(x) + bias with bias (1, *shape) or None; `sum`, the inputs times
    their `signs`; `relu`; `curve`, another function of each value; `product` of two layers, value
    by value. maximum: two layers of whose values this one is known to be the larger. doubt: None
    where every number is known.
    """

    kind: str
    shape: tuple[int, ...]
    inputs: tuple[int, ...] = ()
    map: Map | None = None
    bias: Tensor | None = None
    signs: tuple[float, ...] = ()
    maximum: tuple[int, int] | None = None
    doubt: Doubt | None = None
    curve: Curve | Jump | None = None

    @property
    def relaxed(self) -> bool:
        """Whether it is no linear function of its inputs."""
        return self.kind in ("relu", "curve", "product")

    @property
    def jumps(self) -> bool:
        """Whether it is a comparison."""
        return isinstance(self.curve, Jump)

    def affine(self, x: Tensor) -> Tensor:
        """map(x) + bias, of a linear layer."""
        assert self.map is not None
        mapped = self.map(x)
        return mapped if self.bias is None else mapped + self.bias


@dataclass
class Layers:
    """Layers in order of computation. Each method adds some, and gives the last one's position."""

    all: list[Layer] = field(default_factory=list)

    def add(self, layer: Layer) -> int:
        """Any layer."""
        self.all.append(layer)
        return len(self.all) - 1

    def shape(self, at: int) -> tuple[int, ...]:
        """Of one image's values."""
        return self.all[at].shape

    def linear(
        self,
        at: int,
        map: Map,
        shape: Sequence[int],
        bias: Tensor | None = None,
        doubt: Doubt | None = None,
    ) -> int:
        """map(x) + bias, where the bias broadcasts to (1, *shape)."""
        whole = None if bias is None else bias.expand(1, *shape)
        return self.add(Layer("linear", tuple(shape), (at,), map, whole, doubt=doubt))

    def scaled(
        self, at: int, factor: Tensor, shift: Tensor | None = None, doubt: Doubt | None = None
    ) -> int:
        """factor x + shift, value by value."""
        return self.linear(at, Scaling(factor, 2), self.shape(at), shift, doubt)

    def sum(
        self, inputs: Sequence[int], signs: Sequence[float], maximum: tuple[int, int] | None = None
    ) -> int:
        """The inputs, all of one shape, times their signs."""
        shape = self.shape(inputs[0])
        made = Layer("sum", shape, tuple(inputs), signs=tuple(signs), maximum=maximum)
        return self.add(made)

    def relu(self, at: int) -> int:
        """max(0, x)."""
        return self.add(Layer("relu", self.shape(at), (at,)))

    def curved(self, at: int, curve: Curve | Jump) -> int:
        """The curve of each value."""
        return self.add(Layer("curve", self.shape(at), (at,), curve=curve))

    def product(self, a: int, b: int) -> int:
        """a b, value by value, of two layers of one shape."""
        return self.add(Layer("product", self.shape(a), (a, b)))

    def larger(self, a: int, b: int) -> int:
        """max(a, b) = a + relu(b - a)."""
        return self.sum((a, self.relu(self.sum((b, a), (1.0, -1.0)))), (1.0, 1.0), maximum=(a, b))

    def largest(self, at: int, windows: Tensor) -> int:
        """The largest value of each window, as a knock-out of pairs.

        windows: (m, *after), positions in the flat values.
        """
        m, after = len(windows), tuple(windows.shape[1:])
        if m == 1:
            return self.linear(at, choosing(windows[0]), after)
        at = self.linear(at, choosing(windows), (m, *after))
        while m > 1:
            # of an odd number the last one meets itself
            half = (m + 1) // 2
            places = torch.arange(m * math.prod(after), device=windows.device).reshape(m, *after)
            second = torch.cat([places[half:], places[m - 1 :]]) if m % 2 else places[half:]
            first = self.linear(at, choosing(places[:half]), (half, *after))
            at = self.larger(first, self.linear(at, choosing(second), (half, *after)))
            m = half
        return self.linear(at, reshaping(after), after)


@dataclass(frozen=True)
class At:
    """A value that depends on the image: the position of its layer."""

    position: int


@dataclass(frozen=True)
class Call:
    """One operation of an exported network, as those see it who write it down as layers.

    given: its arguments by name, defaults included; an `At` where they depend on the image. after:
    shape of its result for one image. one: the number 1, of all layers' type and device.
    """

    layers: Layers
    target: Callable[..., Tensor]
    given: dict[str, Any]
    after: tuple[int, ...]
    one: Tensor

    def __getitem__(self, name: str) -> Any:
        return self.given[name]

    def image(self, name: str = "self") -> int:
        """The layer of an argument, the only one that may depend on the image."""
        found = self.given[name]
        if not isinstance(found, At) or sum(isinstance(a, At) for a in self.given.values()) > 1:
            raise self.refused("with values that depend on the image on both sides")
        return found.position

    @property
    def before(self) -> tuple[int, ...]:
        """Shape of one image's values in `self`."""
        return self.layers.shape(self.image())

    def dims(self) -> list[int]:
        """The axes that `dim` names, all where it names none; that of the batch is refused."""
        given, ndim = self.given["dim"], len(self.before) + 1
        dims = [d % ndim for d in ([given] if isinstance(given, int) else given) or range(ndim)]
        if 0 in dims:
            raise self.mixed()
        return dims

    def constant(self, value: Any) -> Tensor:
        """A number or a tensor that broadcasts to (1, *after)."""
        tensor = torch.as_tensor(value, dtype=self.one.dtype, device=self.one.device)
        missing = len(self.after) + 1 - tensor.ndim
        if missing < 0 or (missing == 0 and len(tensor) > 1):
            raise self.refused("with a constant for each image of a batch")
        return tensor

    def mixed(self) -> ModelError:
        """One line."""
        return uncertifiable(f"mixes the images of a batch in the operation {short(self.target)}")

    def refused(self, how: str) -> ModelError:
        """One line."""
        return uncertifiable(f"uses the operation {short(self.target)} {how}")


def uncertifiable(what: str) -> ModelError:
    """One line about what a model does."""
    return ModelError(f"model {what}, which cannot be certified")


def short(target: object) -> str:
    """The name of an operation, without that of PyTorch's library."""
    return str(target).removeprefix("aten.")
