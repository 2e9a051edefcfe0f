"""Scores of whether an image is odd in any way: its ink, its pixels, its roughness, its colours.

They decide nothing. A thin "1", a dim "4" and a jagged "7" are odd, and mean what they say; how
many attempts end with an image that is odd in any way is reported beside the rate.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.judging.scores import Score, components, neighbours, unfitted, unit

FAINT = 1 / 16
"""A value from which a feature counts as lit, and in proportion below."""
SIDE = 64
"""Rows and columns that components and neighbours look at, at most."""


@unfitted("few lit", "many lit", "little ink")
def amounts(images: Tensor) -> Tensor:
    """How much is lit: (n, c, h, w) -> (n, 3). Values count in proportion up to `FAINT`.

    No score jumps at a value: where one did, real images that are a little darker than others would
    all be called out of distribution at once.
    """
    flat = images.flatten(1)
    lit = (flat / FAINT).clamp(max=1).sum(dim=1)
    return torch.stack([-lit, lit, -flat.sum(dim=1)], dim=1)


@unfitted("broken lines", "jagged")
def roughness(images: Tensor) -> Tensor:
    """Total variation by ink, root energy of the Laplacian by norm, (n, c, h, w) -> (n, 2)."""
    down, right = images.diff(dim=2), images.diff(dim=3)
    variation = down.abs().sum(dim=(1, 2, 3)) + right.abs().sum(dim=(1, 2, 3))
    # no step across the border
    laplacian = F.pad(down, (0, 0, 1, 1)).diff(dim=2) + F.pad(right, (1, 1)).diff(dim=3)
    energy = laplacian.flatten(1).norm(dim=1)
    return torch.stack([variation / ink(images), energy / _norm(images)], dim=1)


@unfitted("colourful")
def colour(images: Tensor) -> Tensor:
    """Largest less smallest channel by ink, (n, c, h, w) -> (n, 1); (n, 0) of grey images."""
    if images.shape[1] == 1:
        return images.new_zeros(len(images), 0)
    return ((images.amax(dim=1) - images.amin(dim=1)).sum(dim=(1, 2)) / ink(images))[:, None]


def reduced(images: Tensor) -> Tensor:
    """Means over rectangles: at most `SIDE` rows and columns, (n, c, h, w) -> (n, c, h', w'). With
    all features of a large image covariances cost too much and say little."""
    h, w = images.shape[2:]
    area = (-(-h // SIDE), -(-w // SIDE))
    if area == (1, 1):
        return images
    return F.avg_pool2d(images, area, ceil_mode=True, count_include_pad=False)


def pixels(images: Tensor) -> Tensor:
    """`reduced` images divided by their norm, (n, c, h, w) -> (n, d)."""
    return unit(reduced(images).flatten(1))


def ink(images: Tensor) -> Tensor:
    """Sum of the values of each image, not quite 0 for black ones, (n, c, h, w) -> (n,)."""
    return images.sum(dim=(1, 2, 3)).clamp_min(1e-3)


def _norm(images: Tensor) -> Tensor:
    norm: Tensor = images.flatten(1).norm(dim=1)
    return norm.clamp_min(1e-3)


ODD: tuple[Score, ...] = (
    amounts,
    Score(("unlike components", "rare components"), components(pixels)),
    Score(("far neighbours",), neighbours(pixels)),
    roughness,
    colour,
)
