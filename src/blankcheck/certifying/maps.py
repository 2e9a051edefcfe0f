"""The linear maps a network is made of: forwards, transposed, and with every coefficient made
positive.

Each is a value with three methods. Tensors have the rows first: (rows, *shape of one image's
values).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional as F


class Map(Protocol):
    """A linear map without its constant part."""

    @property
    def terms(self) -> int:
        """How many products are added up for one value, at most: what rounding errors hang on."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """(rows, *shape before) -> (rows, *shape after)."""
        ...

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """(rows, *shape after) -> (rows, *shape before), where `shape` is the shape before."""
        ...

    def absolute(self) -> Self:
        """The map with the absolute values of all coefficients."""
        ...


@dataclass(frozen=True)
class _Weighted:
    """What the maps with coefficients of their own have in common."""

    weight: Tensor

    def absolute(self) -> Self:
        """With positive coefficients."""
        return replace(self, weight=self.weight.abs())

    def filled(self, value: Tensor) -> Self:
        """With this coefficient everywhere."""
        return replace(self, weight=value.expand_as(self.weight))


@dataclass(frozen=True)
class Dense(_Weighted):
    """x @ weight, weight (before, after)."""

    @property
    def terms(self) -> int:
        """Products in a value."""
        return len(self.weight)

    def __call__(self, x: Tensor) -> Tensor:
        """Forwards."""
        return x @ self.weight

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """Backwards."""
        return a @ self.weight.T


@dataclass(frozen=True)
class Convolution(_Weighted):
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
        """What each window sees of one image's values, (1, *before) -> (windows, values of a
        filter)."""
        windows = F.unfold(x, self.weight.shape[2:], self.dilation, self.padding, self.stride)
        return windows[0].T

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """Backwards."""
        if self.groups == 1:
            # four times as fast as a transposed convolution of many rows in float32; bmm, because
            # matmul would copy twice
            weight = self.weight.flatten(1).T.expand(len(a), -1, -1)
            pieces = torch.bmm(weight, a.flatten(2))
            return F.fold(
                pieces,
                tuple(shape[1:]),
                self.weight.shape[2:],
                self.dilation,
                self.padding,
                self.stride,
            )
        sizes = zip(
            shape[1:],
            a.shape[2:],
            self.stride,
            self.padding,
            self.dilation,
            self.weight.shape[2:],
            strict=True,
        )
        # rows and columns at the far edge that no window reaches
        missed = [
            size - ((out - 1) * s - 2 * p + d * (k - 1) + 1) for size, out, s, p, d, k in sizes
        ]
        # a transposed convolution adds fewer than `stride` of them itself
        own = [min(m, s - 1) for m, s in zip(missed, self.stride, strict=True)]
        b = F.conv_transpose2d(
            a, self.weight, None, self.stride, self.padding, own, self.groups, self.dilation
        )
        return b if own == missed else F.pad(b, (0, missed[1] - own[1], 0, missed[0] - own[0]))


@dataclass(frozen=True)
class Scaling(_Weighted):
    """Every value times a weight that broadcasts to (1, *shape)."""

    terms: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        """Forwards."""
        return x * self.weight

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """Backwards."""
        return a * self.weight


Weighted = Dense | Convolution | Scaling
"""The maps with coefficients of their own."""


@dataclass(frozen=True)
class Averaging:
    """A linear function without parameters and with no negative coefficient: pooling, padding,
    permuting, choosing."""

    function: Callable[[Tensor], Tensor]
    terms: int

    def __call__(self, x: Tensor) -> Tensor:
        """Forwards."""
        return self.function(x)

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """Backwards."""
        back = torch.func.vjp(self.function, a.new_zeros((len(a), *shape)))[1]
        before: Tensor = back(a)[0]
        return before

    def absolute(self) -> Self:
        """With positive coefficients."""
        return self


@dataclass(frozen=True)
class Reshaping:
    """The same values in the same order, as (rows, *after)."""

    after: tuple[int, ...]
    terms: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        """Forwards."""
        return x.reshape(len(x), *self.after)

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """Backwards."""
        return a.reshape(len(a), *shape)

    def absolute(self) -> Self:
        """With positive coefficients."""
        return self


@dataclass(frozen=True)
class Choosing:
    """Values picked by position, some of them more than once: index (*after) into the flat values
    before."""

    index: Tensor
    terms: int = 0

    def __call__(self, x: Tensor) -> Tensor:
        """Forwards."""
        return x.flatten(1)[:, self.index.flatten()].reshape(len(x), *self.index.shape)

    def transposed(self, a: Tensor, shape: Sequence[int]) -> Tensor:
        """Backwards."""
        flat = a.new_zeros(len(a), int(torch.Size(shape).numel()))
        return flat.index_add(1, self.index.flatten(), a.flatten(1)).reshape(len(a), *shape)

    def absolute(self) -> Self:
        """With positive coefficients."""
        return self
