"""The linear maps a network is made of: forwards, transposed, and with positive coefficients.

Tensors have the rows first: (rows, *shape of one image's values). `terms` is how many products are
added up for one value, at most, which rounding errors grow with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input


@dataclass(frozen=True)
class Weighted:
    """A map with coefficients of its own."""

    weight: Tensor

    def absolute(self) -> Self:
        """With the absolute values of all coefficients."""
        return replace(self, weight=self.weight.abs())

    def filled(self, value: Tensor) -> Self:
        """With this coefficient everywhere."""
        return replace(self, weight=value.expand_as(self.weight))


@dataclass(frozen=True)
class Dense(Weighted):
    """x @ weight, weight (before, after)."""

    @property
    def terms(self) -> int:
        """Products in a value."""
        return len(self.weight)

    def __call__(self, x: Tensor) -> Tensor:
        """Forwards."""
        return x @ self.weight

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """(rows, after) -> (rows, before)."""
        return a @ self.weight.T


@dataclass(frozen=True)
class Scaling(Weighted):
    """Every value times a weight that broadcasts to (1, *shape)."""

    terms: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """Forwards."""
        return x * self.weight

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """The same as forwards."""
        return a * self.weight


@dataclass(frozen=True)
class Convolution(Weighted):
    """A two-dimensional convolution with zero padding."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int

    @property
    def terms(self) -> int:
        """Products in a value."""
        return self.weight[0].numel()

    def __call__(self, x: Tensor) -> Tensor:
        """Forwards."""
        return F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation, self.groups)

    def patches(self, x: Tensor) -> Tensor:
        """What each window sees of one image: (1, *before) -> (windows, values of a filter)."""
        return F.unfold(x, self.weight.shape[2:], self.dilation, self.padding, self.stride)[0].T

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """(rows, *after) -> (rows, *shape)."""
        options = self.stride, self.padding, self.dilation
        if self.groups > 1:
            size, weight = (len(a), *shape), self.weight
            # torch has no types for this function
            before: Tensor = conv2d_input(size, weight, a, *options, self.groups)  # type: ignore
            return before
        # four times as fast as conv_transpose of many rows in float32; matmul would copy twice
        weight = self.weight.flatten(1).T.expand(len(a), -1, -1)
        pieces = torch.bmm(weight, a.flatten(2))
        stride, padding, dilation = options
        size, window = tuple(shape[1:]), self.weight.shape[2:]
        return F.fold(pieces, size, window, dilation, padding, stride)


@dataclass(frozen=True)
class Fixed:
    """A linear function without parameters and without negative coefficients, such as pooling.

    in_order: the values only get another shape.
    """

    function: Callable[[Tensor], Tensor]
    terms: int
    in_order: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        """Forwards."""
        return self.function(x)

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """(rows, *after) -> (rows, *shape)."""
        back = torch.func.vjp(self.function, a.new_zeros((len(a), *shape)))[1]
        before: Tensor = back(a)[0]
        return before

    def absolute(self) -> Self:
        """The same map."""
        return self


Map = Dense | Convolution | Scaling | Fixed
"""A linear map without its constant part."""


def reshaping(after: Sequence[int]) -> Fixed:
    """The same values in the same order, as (rows, *after)."""
    return Fixed(lambda x: x.reshape(len(x), *after), 0, in_order=True)


def choosing(index: Tensor) -> Fixed:
    """Values at positions (*after) among the flat values before, some of them more than once."""
    return Fixed(lambda x: x.flatten(1).index_select(1, index.flatten()).view(-1, *index.shape), 0)
