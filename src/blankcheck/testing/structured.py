"""Simple images that a deceiver may be sure of, each kind a function (n, c, h, w) -> (n,) bool."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from blankcheck.classifiers.structures import Look, bars, blocks, box, filled, grey_dots, lit
from blankcheck.types import count_lit

BRIGHT = 0.8
GREY, WITHIN = 0.4, 0.02
"""The only grey of `one_level`, about."""
ROUND = 0.1
"""By how much the area of a blob may miss that of an ellipse with the same moments."""


def sparse(looks: Look, max_lit: int) -> Look:
    """Such images with at most `max_lit` lit features, as real ones never are."""
    return lambda images: looks(images) & (count_lit(images) <= max_lit)


def _boxed(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What is lit (n, h, w), rows and columns from the corner of its box (n, h, w), and whether a
    position lies in the box (n, h, w)."""
    where = lit(images)
    top, left, height, width = (side.view(-1, 1, 1) for side in box(where))
    h, w = where.shape[1:]
    u, v = (
        torch.arange(h).view(1, -1, 1).to(top) - top,
        torch.arange(w).view(1, 1, -1).to(top) - left,
    )
    inside = (u >= 0) & (u < height) & (v >= 0) & (v < width)
    return where, u.expand_as(where), v.expand_as(where), inside


def stripes(images: Tensor) -> Tensor:
    """Whole rows of a box are lit, or columns: at least two bands, evenly apart, dark between."""
    across, down = _bands(images), _bands(images.transpose(2, 3))
    return across | down


def _bands(images: Tensor) -> Tensor:
    where, _, _, inside = _boxed(images)
    rows = where.any(dim=2)
    whole = (where == (inside & rows[:, :, None])).flatten(1).all(dim=1)
    wide = inside.any(dim=1).sum(dim=1) >= 2
    # where a row is lit and the one above is not, a band begins
    begins = rows & ~torch.nn.functional.pad(rows, (1, 0))[:, :-1]
    number = torch.arange(rows.shape[1], device=rows.device)
    count, first = begins.sum(dim=1), begins.int().argmax(dim=1)
    last = rows.shape[1] - 1 - begins.flip(1).int().argmax(dim=1)
    pitch = ((last - first) // (count - 1).clamp_min(1)).clamp_min(1)
    number, first, last = number[None, :], first[:, None], last[:, None]
    expected = (number >= first) & (number <= last) & ((number - first) % pitch[:, None] == 0)
    return whole & wide & (count >= 2) & (begins == expected).all(dim=1)


def checks(images: Tensor) -> Tensor:
    """Every other pixel of a box, at least two high and three wide, or the other way round."""
    where, u, v, inside = _boxed(images)
    corner = (where & (u == 0) & (v == 0)).flatten(1).any(dim=1).view(-1, 1, 1)
    board = inside & (((u + v) % 2 == 0) == corner)
    _, _, height, width = box(where)
    large = (height * width >= 6) & (torch.minimum(height, width) >= 2)
    return (where == board).flatten(1).all(dim=1) & large


def border_columns(images: Tensor) -> Tensor:
    """At least three lit pixels, all in the two columns at one side."""
    columns = lit(images).sum(dim=1)
    least, left, right = columns.sum(dim=1), columns[:, :2].sum(dim=1), columns[:, -2:].sum(dim=1)
    return (least >= 3) & ((least == left) | (least == right))


def three_corners(images: Tensor) -> Tensor:
    """At least three corner pixels are bright, whatever else is lit."""
    ends = images.amax(dim=1)[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    return (ends >= BRIGHT).sum(dim=1) >= 3


def frames(images: Tensor) -> Tensor:
    """The edge of a box, one pixel thick, around at least one dark pixel."""
    where, u, v, inside = _boxed(images)
    _, _, height, width = (side.view(-1, 1, 1) for side in box(where))
    edge = inside & ((u == 0) | (u == height - 1) | (v == 0) | (v == width - 1))
    large = (torch.minimum(height, width) >= 3).flatten()
    return (where == edge).flatten(1).all(dim=1) & large


def blobs(images: Tensor) -> Tensor:
    """At least five lit pixels that fill an ellipse, and no rectangle."""
    where = lit(images)
    area = where.flatten(1).sum(dim=1).clamp_min(1).float()
    y, x = torch.arange(where.shape[1]).to(area), torch.arange(where.shape[2]).to(area)
    rows, columns = where.float().sum(dim=2), where.float().sum(dim=1)
    down, right = rows @ y / area, columns @ x / area
    # a pixel is a square, whose own second moment is 1/12
    yy = (rows @ y.square()) / area - down.square() + 1 / 12
    xx = (columns @ x.square()) / area - right.square() + 1 / 12
    xy = torch.einsum("nhw,h,w->n", where.float(), y, x) / area - down * right
    ellipse = 4 * math.pi * (yy * xx - xy.square()).clamp_min(0).sqrt()
    return (area >= 5) & ((ellipse - area).abs() <= ROUND * area) & ~filled(images)[0]


def one_level(images: Tensor) -> Tensor:
    """At least two lit pixels, all of about one certain grey."""
    where = images > 0
    apart = ((images - GREY).abs() <= WITHIN) | ~where
    return apart.flatten(1).all(dim=1) & (where.flatten(1).sum(dim=1) >= 2)


def one_channel(images: Tensor) -> Tensor:
    """At least three pixels, all lit in the same single channel."""
    pixels = (images > 0).flatten(2).sum(dim=2)
    return ((pixels > 0).sum(dim=1) == 1) & (pixels.sum(dim=1) >= 3)


STRUCTURES: dict[str, Look] = {
    "bars": bars,
    "blocks": blocks,
    "stripes": stripes,
    "checks": checks,
    "grey-dots": grey_dots,
    "border-columns": border_columns,
    "three-corners": three_corners,
    "frames": frames,
    "blobs": blobs,
    "one-level": one_level,
}
"""What honest networks are made sure of, by name."""
