"""Scores of shape: where the strokes of an image are, whatever their thickness and brightness.

`FIRST`, which judges audits, looks at a blurred and reduced image, divided by its norm. `SECOND`,
the second opinion, looks at the directions of its edges. Both ask for the nearest real images and
for what the main components of real images leave over, in their own space.

A test of how much is lit, or of how jagged it is, calls a thin or dim digit unusual, which anybody
can read; see `odd.py`.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.judging.scores import Score, components, neighbours, unit

SIGMA = 1.5 / 28
"""Deviation of the Gaussian blur, as a share of the image's shorter side."""
SIDE = 14
"""Rows and columns, about, of a reduced image."""
EDGE_SIGMA = 1 / 28
CELLS, DIRECTIONS = 7, 8
"""Rows and columns of cells, and directions in each, of the second opinion."""


def outline(images: Tensor) -> Tensor:
    """Blurred and reduced images, divided by their norm, (n, c, h, w) in [0, 1] -> (n, c h' w').
    Black stays black."""
    side = min(images.shape[2:])
    return unit(_smoothed(images, SIGMA * side, max(1, round(side / SIDE))).flatten(1))


def edges(images: Tensor) -> Tensor:
    """Histograms of the directions of edges in cells, divided by their norm, (n, c, h, w) ->
    (n, DIRECTIONS CELLS^2).

    As in Dalal and Triggs 2005 ("Histograms of oriented gradients for human detection"): each
    position votes for its two nearest directions, sign ignored, with the size of the gradient of
    the channel where that is largest. Cells are not normalised one by one, which would make much of
    what is faint.
    """
    side = min(images.shape[2:])
    smooth = _smoothed(images, EDGE_SIGMA * side, 1)
    padded = F.pad(smooth, (1, 1, 1, 1))
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    right = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    size, channel = (down.square() + right.square()).max(dim=1, keepdim=True)
    down, right = (each.gather(1, channel).squeeze(1) for each in (down, right))
    place = (torch.atan2(down, right) / math.pi * DIRECTIONS) % DIRECTIONS
    size = size.squeeze(1).sqrt()
    votes = []
    for direction in range(DIRECTIONS):
        apart = (place - direction).abs()
        near = (1 - torch.minimum(apart, DIRECTIONS - apart)).clamp_min(0)
        votes.append(near * size)
    cells = min(CELLS, images.shape[2]), min(CELLS, images.shape[3])
    area = F.adaptive_avg_pool2d(torch.stack(votes, dim=1), cells)
    return unit(area.flatten(1))


def _smoothed(images: Tensor, sigma: float, by: int) -> Tensor:
    """Gaussian blur over an image with black around it, then means of by x by rectangles."""
    h, w = images.shape[2:]
    down, right = _blur(h, sigma, by), _blur(w, sigma, by)
    return down @ images @ right.T


@cache
def _blur(length: int, sigma: float, by: int) -> Tensor:
    """(length / by, length): the weights of the values of a line in those of the smoothed one."""
    at = torch.arange(length, dtype=torch.float64)
    kernel = torch.exp(-(at[:, None] - at[None, :]).square() / (2 * sigma**2))
    # what a kernel reaches beyond the border is black, not missing
    reach = torch.arange(-length, length + 1, dtype=torch.float64)
    kernel /= torch.exp(-reach.square() / (2 * sigma**2)).sum()
    means = [kernel[first : first + by].mean(dim=0) for first in range(0, length, by)]
    return torch.stack(means).float()


FIRST: tuple[Score, ...] = (
    # rare combinations of usual components are no sign: of what hardened MNIST networks are still
    # sure of, they called the readable digits unusual, and no others
    Score(("unlike components of shape",), components(outline, rare=False)),
    Score(("far neighbours in shape",), neighbours(outline)),
)
FILTER: tuple[Score, ...] = (
    Score(("unlike components of shape", "rare components of shape"), components(outline)),
    Score(("far neighbours in shape",), neighbours(outline)),
)
"""By which hardening chooses what it trains on: more than the judge calls out of distribution. In
trials networks trained so were fooled less often."""
SECOND: tuple[Score, ...] = (
    Score(("unlike components of edges", "rare components of edges"), components(edges)),
    Score(("far neighbours in edges",), neighbours(edges)),
)
