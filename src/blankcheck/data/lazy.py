"""Images that are read when they are asked for, so that a set may be larger than memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from blankcheck.errors import DataError
from blankcheck.types import images_at_once
from blankcheck.users import calling

IN_MEMORY = 2**30
"""Bytes of a data set's images, as float32, above which they are read when they are asked for."""


@dataclass(frozen=True)
class LazyImages:
    """Images (n, c, h, w) float32 in [0, 1]; any index (tensor, slice, integer) gives a tensor.

    Args:
        read: from positions (k,) int64 in the source to its images there, (k, c, h, w).
        size: (c, h, w).
        positions: which of the source's images these are, in this order, (n,) int64.
        source: what error messages call it.
    """

    read: Callable[[Tensor], Tensor]
    size: tuple[int, int, int]
    positions: Tensor
    source: str = "lazy images"

    @property
    def shape(self) -> torch.Size:
        """(n, c, h, w)."""
        return torch.Size((len(self.positions), *self.size))

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: Tensor | slice | int, /) -> Tensor:
        if isinstance(index, int):
            return self._images(self.positions[[index]])[0]
        return self._images(self.positions[index])

    def take(self, index: Tensor) -> LazyImages:
        """Some of the images, which are not read yet."""
        return replace(self, positions=self.positions[index])

    def changed(
        self, change: Callable[[Tensor], Tensor], size: tuple[int, int, int] | None = None
    ) -> LazyImages:
        """The same images after `change`, from (k, c, h, w) in [0, 1] to as many in [0, 1].

        size: (c, h, w) after it, where that is another one.
        """
        return replace(self, read=lambda at: change(self.read(at)), size=size or self.size)

    def _images(self, positions: Tensor) -> Tensor:
        images = torch.empty(len(positions), *self.size)
        # a piece at a time: on its way from bytes an image takes several times its room
        for at in torch.split(torch.arange(len(positions)), images_at_once(self.size)):
            if len(at):
                images[at] = self._piece(positions[at])
        return images

    def _piece(self, positions: Tensor) -> Tensor:
        with calling(f"data {self.source!r}: reading images raised", DataError):
            images = self.read(positions)
        wanted, got = (len(positions), *self.size), tuple(images.shape)
        if got != wanted:
            raise DataError(f"data {self.source!r}: {wanted} images were to be read, got {got}")
        check_range(f"data {self.source!r}: float images", images)
        return images


def check_range(what: str, images: Tensor) -> None:
    """DataError unless all values lie in [0, 1]."""
    low, high = float(images.min()), float(images.max())
    if low >= 0 and high <= 1:  # neither holds of NaN
        return
    short = [f"{value:.3g}" for value in (low, high)]
    hidden = float(short[0]) >= 0 >= float(short[1]) - 1  # a hair more than 1 looks like 1
    said = [str(np.float32(value)) for value in (low, high)] if hidden else short
    advice = "; divide them by 255, or give bytes" if like_bytes(images) else ""
    raise DataError(f"{what} must lie in [0, 1], got [{', '.join(said)}]{advice}")


def like_bytes(images: Tensor) -> bool:
    """Whether floats look like bytes that nobody divided by 255."""
    return float(images.min()) >= 0 and 100 < float(images.max()) <= 255


def bytes_of(shape: Sequence[int]) -> int:
    """What images of this shape (n, c, h, w) take in memory as float32."""
    return 4 * math.prod(shape)
