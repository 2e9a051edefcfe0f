"""Kinds of simple images, told by looking at what is lit: each is a function (n, c, h, w) -> (n,)
bool, without a gradient.

They are written without any thought of how such images are made, so that a search which draws bars
is not put on trial by its own idea of a bar.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from blankcheck.types import LIT_THRESHOLD

Look = Callable[[Tensor], Tensor]


def lit(images: Tensor) -> Tensor:
    """(n, h, w) bool: any channel is lit there."""
    return (images >= LIT_THRESHOLD).any(dim=1)


def box(where: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width of the smallest box around what is lit, (n, h, w) -> (n,) each;
    an empty one has sides of 0."""
    ends = []
    for lines in (where.any(dim=2), where.any(dim=1)):
        size = lines.shape[1]
        first = lines.int().argmax(dim=1)
        last = size - lines.flip(1).int().argmax(dim=1)
        ends.append((first, torch.where(lines.any(dim=1), last - first, 0)))
    (top, height), (left, width) = ends
    return top, left, height, width


def filled(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether all of the box is lit, and its shorter and longer side."""
    where = lit(images)
    _, _, height, width = box(where)
    full = where.flatten(1).sum(dim=1) == height * width
    return full & (height > 0), torch.minimum(height, width), torch.maximum(height, width)


def bars(images: Tensor) -> Tensor:
    """A row of at least three lit pixels, or a column, and nothing else."""
    full, short, long = filled(images)
    return full & (short == 1) & (long >= 3)


def blocks(images: Tensor) -> Tensor:
    """A filled rectangle, at least two pixels wide and high."""
    full, short, _ = filled(images)
    return full & (short >= 2)


def grey_dots(images: Tensor) -> Tensor:
    """At least three lit pixels, no two side by side, all of one grey."""
    where = lit(images)
    beside = (where[:, 1:] & where[:, :-1]).flatten(1).any(dim=1)
    beside |= (where[:, :, 1:] & where[:, :, :-1]).flatten(1).any(dim=1)
    return ~beside & (where.flatten(1).sum(dim=1) >= 3) & one_grey(images)


def one_grey(images: Tensor) -> Tensor:
    """All lit pixels have one value, in all of their channels."""
    where = lit(images)
    most = images.flatten(1).amax(dim=1).view(-1, 1, 1)
    same = (images.amax(dim=1) == most) & (images.amin(dim=1) == most)
    return (same | ~where).flatten(1).all(dim=1) & where.flatten(1).any(dim=1)
