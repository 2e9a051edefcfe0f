"""Random masks: which positions, or features, of each image may be lit. True = may be lit."""

from __future__ import annotations

import torch
from torch import Tensor

from blankcheck.errors import ArgumentError

Keep = float | tuple[float, float]
"""The share of positions kept, in (0, 1], or the range it is drawn from for each image."""
FEATURES = ":features"
SHAPES = ("pixels", "blocks", "half-planes")
KINDS = (*SHAPES, *(shape + FEATURES for shape in SHAPES))
"""With the suffix every channel has its own mask: features are covered, not positions."""


def random_mask(
    kind: str, n: int, shape: tuple[int, int, int], keep: Keep, generator: torch.Generator
) -> Tensor:
    """A random mask for each of `n` images of `shape` (c, h, w).

    Args:
        kind: one of `KINDS`: `pixels` keeps each position on its own; `blocks` keeps squares of a
            quarter of the side; `half-planes` keeps one side of a random line.
        n: number of images.
        shape: (c, h, w).
        keep: share of the positions kept, in (0, 1], or its range.
        generator: of the random numbers.

    Returns:
        bool, (n, 1, h, w), or (n, c, h, w) for features.
    """
    if kind not in KINDS:
        raise ArgumentError(f"mask must be one of {', '.join(KINDS)}, got {kind!r}")
    if kind.endswith(FEATURES):
        one = kind.removesuffix(FEATURES)
        return random_mask(one, n * shape[0], (1, *shape[1:]), keep, generator).view(n, *shape)
    low, high = keep if isinstance(keep, tuple) else (keep, keep)
    if not 0 < low <= high <= 1:
        raise ArgumentError(f"keep must lie in (0, 1], got {keep!r}")
    share = low + (high - low) * torch.rand(n, 1, generator=generator)
    h, w = shape[1:]
    if kind == "pixels":
        order = torch.rand(n, h * w, generator=generator)
    elif kind == "blocks":
        side = max(1, min(h, w) // 4)
        coarse = torch.rand(n, -(-h // side), -(-w // side), generator=generator)
        fine = coarse.repeat_interleave(side, 1).repeat_interleave(side, 2)
        order = fine[:, :h, :w].flatten(1)
    else:
        angle = 2 * torch.pi * torch.rand(n, 1, 1, generator=generator)
        y, x = (torch.arange(side) - (side - 1) / 2 for side in (h, w))
        order = (angle.cos() * x + angle.sin() * y[:, None]).flatten(1)
    # the border is the share-quantile, so that each image keeps just its share (up to ties)
    rank = (share * (order.shape[1] - 1)).round().long()
    border = order.sort(dim=1).values.gather(1, rank)
    return (order <= border).view(n, 1, h, w)
