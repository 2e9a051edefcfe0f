"""A network as a list of linear maps, sums and ReLUs, each of which knows its inputs by their
position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from blankcheck.certifying.maps import Choosing, Map, Reshaping, Scaling


@dataclass(frozen=True, eq=False)
class Doubt:
    """By how much a layer's numbers can be off, because the network computes them itself. map: with
    how far each coefficient can be off in the place of it. bias: (1, *shape)."""

    map: Map | None
    bias: Tensor | None


@dataclass(frozen=True, eq=False)
class Layer:
    """One step. shape: of one image's values. inputs: positions of earlier layers.

    kind: `input`; `linear`, map(x) + bias with bias (1, *shape) or None; `sum`, the inputs times
    their `signs`; `relu`.
    maximum: this layer is known to be the larger of its values at these two layers. doubt: None
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


@dataclass
class Layers:
    """Layers in the order in which they are computed, while they are written down.

    Each method gives the position.
    """

    all: list[Layer] = field(default_factory=list)

    def _add(self, layer: Layer) -> int:
        self.all.append(layer)
        return len(self.all) - 1

    def shape(self, at: int) -> tuple[int, ...]:
        """Of one image's values."""
        return self.all[at].shape

    def input(self, shape: Sequence[int]) -> int:
        """The image."""
        return self._add(Layer("input", tuple(shape)))

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
        return self._add(Layer("linear", tuple(shape), (at,), map, whole, doubt=doubt))

    def scaled(
        self,
        at: int,
        factor: Tensor,
        shift: Tensor | None = None,
        terms: int = 2,
        doubt: Doubt | None = None,
    ) -> int:
        """factor x + shift, value by value."""
        return self.linear(at, Scaling(factor, terms), self.shape(at), shift, doubt)

    def sum(
        self, inputs: Sequence[int], signs: Sequence[float], maximum: tuple[int, int] | None = None
    ) -> int:
        """The inputs, all of one shape, times their signs."""
        return self._add(
            Layer("sum", self.shape(inputs[0]), tuple(inputs), signs=tuple(signs), maximum=maximum)
        )

    def relu(self, at: int) -> int:
        """max(0, x)."""
        return self._add(Layer("relu", self.shape(at), (at,)))

    def leaky(self, at: int, slope: float) -> int:
        """max(0, x) + slope min(0, x), as slope x + (1 - slope) max(0, x)."""
        return self.sum((at, self.relu(at)), (slope, 1 - slope))

    def clamped(self, at: int, low: float | None, high: float | None, like: Tensor) -> int:
        """x held between low and high, by max(x, c) = c + relu(x - c) and min(x, c) = c - relu(c -
        x)."""
        one = like.new_ones(())
        if low is not None:
            above = self.relu(self.scaled(at, one, -one * low) if low else at)
            at = self.scaled(above, one, one * low) if low else above
        if high is not None:
            at = self.scaled(self.relu(self.scaled(at, -one, one * high)), -one, one * high)
        return at

    def larger(self, a: int, b: int) -> int:
        """max(a, b) = a + relu(b - a)."""
        return self.sum((a, self.relu(self.sum((b, a), (1.0, -1.0)))), (1.0, 1.0), maximum=(a, b))

    def largest(self, at: int, windows: Tensor) -> int:
        """The largest value of each window, as a knock-out of pairs. windows (m, *after): positions
        in the flat values."""
        m, after = len(windows), tuple(windows.shape[1:])
        if m == 1:
            return self.linear(at, Choosing(windows[0]), after)
        at = self.linear(at, Choosing(windows), (m, *after))
        while m > 1:
            # of an odd number the last one meets itself
            half = (m + 1) // 2
            places = torch.arange(m * math.prod(after), device=windows.device).reshape(m, *after)
            second = torch.cat([places[half:], places[m - 1 :]]) if m % 2 else places[half:]
            first = self.linear(at, Choosing(places[:half]), (half, *after))
            at = self.larger(first, self.linear(at, Choosing(second), (half, *after)))
            m = half
        return self.linear(at, Reshaping(after), after)
