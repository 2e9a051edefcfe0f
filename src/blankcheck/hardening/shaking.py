"""Real images turned, sheared, scaled and shifted a little.

Fooling images are made of the training images themselves. A network can learn to be sure of just
these and of nothing beside them, test images included; it cannot where they look different each
time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

NUMBERS = 7
"""That say how an image is shaken."""
TURN, SHEAR, SCALE, SHIFT = 0.12, 0.12, 0.08, 1 / 28
"""At most: in radians, as slope, as share of the size, as share of the side."""


def random_shakes(n: int, generator: torch.Generator) -> Tensor:
    """(n, `NUMBERS`) in [-1, 1), for all at once, so that an image is shaken alike whichever
    process trains on it."""
    return 2 * torch.rand(n, NUMBERS, generator=generator) - 1


def shaken(images: Tensor, shakes: Tensor) -> Tensor:
    """Images (n, c, h, w) in [0, 1], half of them left as they are, as resampling blurs; what comes
    in at the border repeats it. shakes: (n, `NUMBERS`) of `random_shakes`, on their device."""
    turn, shear, tall, wide, right, down, whether = shakes.unbind(1)
    cos, sin = (TURN * turn).cos(), (TURN * turn).sin()
    across = torch.stack([cos * (1 + SCALE * wide), SHEAR * shear - sin, 2 * SHIFT * right], dim=1)
    along = torch.stack([sin, cos * (1 + SCALE * tall), 2 * SHIFT * down], dim=1)
    grid = F.affine_grid(torch.stack([across, along], dim=1), list(images.shape), False)
    other = F.grid_sample(images, grid, "bilinear", "border", False).clamp(0, 1)
    return torch.where((whether < 0)[:, None, None, None], images, other)
