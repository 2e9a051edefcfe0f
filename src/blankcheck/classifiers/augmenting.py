"""Random shifts and mirrored images in training, as in He et al. 2016, section 4.2."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MOST = 4
"""Pixels by which an image is shifted at most, up or down and to either side."""


def random_moves(n: int, generator: torch.Generator) -> Tensor:
    """(n, 3) int64: rows and columns each image is shifted by, 0..2 x `MOST`, and 1 where it is
    mirrored. Drawn for all at once, so that it is moved alike whichever process trains on it."""
    shifts = torch.randint(0, 2 * MOST + 1, (n, 2), generator=generator)
    return torch.cat([shifts, torch.randint(0, 2, (n, 1), generator=generator)], dim=1)


def moved(images: Tensor, moves: Tensor) -> Tensor:
    """Images (n, c, h, w) shifted, by less where they have fewer than five rows or columns, with
    what comes in mirrored at the border; moves: (n, 3) of `random_moves`, on their device."""
    n, c, h, w = images.shape
    most_down, most_across = min(MOST, h - 1), min(MOST, w - 1)
    wide = F.pad(images, (most_across, most_across, most_down, most_down), mode="reflect")
    down, across = moves[:, 0].clamp(max=2 * most_down), moves[:, 1].clamp(max=2 * most_across)
    column = torch.arange(w, device=images.device).expand(n, -1)
    column = torch.where(moves[:, 2, None] == 1, w - 1 - column, column) + across[:, None]
    row = torch.arange(h, device=images.device) + down[:, None]
    each = torch.arange(n, device=images.device)[:, None, None, None]
    channel = torch.arange(c, device=images.device)[:, None, None]
    return wide[each, channel, row[:, None, :, None], column[:, None, None, :]]
