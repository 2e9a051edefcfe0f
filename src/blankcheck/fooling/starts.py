"""Where a search begins. Each start is (n, c, h, w) float32 in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from blankcheck.errors import ArgumentError
from blankcheck.types import Images

Real = tuple[Images, Tensor]
"""Real images (m, c, h, w) and their labels (m,)."""
MEASURED = 40_000_000
"""Images x features from which the mean and deviation of real images are taken, at most."""


def black(
    targets: Tensor, shape: tuple[int, int, int], generator: torch.Generator, real: Real | None
) -> Tensor:
    """All zeros."""
    return torch.zeros(len(targets), *shape)


def near_black(
    targets: Tensor, shape: tuple[int, int, int], generator: torch.Generator, real: Real | None
) -> Tensor:
    """Every feature between 0.002 and 0.02: too dark to see, bright enough to wake units that sleep
    at exact zero."""
    return 0.002 + 0.018 * torch.rand(len(targets), *shape, generator=generator)


def noise(
    targets: Tensor, shape: tuple[int, int, int], generator: torch.Generator, real: Real | None
) -> Tensor:
    """Uniform noise up to a strength drawn for each image in (0, 1]."""
    strength = 1 - torch.rand(len(targets), 1, 1, 1, generator=generator)
    return strength * torch.rand(len(targets), *shape, generator=generator)


def sparse_noise(
    targets: Tensor, shape: tuple[int, int, int], generator: torch.Generator, real: Real | None
) -> Tensor:
    """Uniform values at a share of the positions, drawn for each image log-uniformly from 0.5 % to
    50 %."""
    n = len(targets)
    share = torch.exp(torch.empty(n, 1, 1, 1).uniform_(-5.3, -0.69, generator=generator))
    lit = torch.rand(n, 1, *shape[1:], generator=generator) < share
    return lit * torch.rand(n, *shape, generator=generator)


def real_target(
    targets: Tensor, shape: tuple[int, int, int], generator: torch.Generator, real: Real | None
) -> Tensor:
    """A real image of the target class."""
    return _real(targets, generator, real, same=True)


def real_other(
    targets: Tensor, shape: tuple[int, int, int], generator: torch.Generator, real: Real | None
) -> Tensor:
    """A real image of any other class."""
    return _real(targets, generator, real, same=False)


def masked_real(
    targets: Tensor, shape: tuple[int, int, int], generator: torch.Generator, real: Real | None
) -> Tensor:
    """A real image of the target class of which a random 10 % to 70 % of the positions are kept."""
    images = _real(targets, generator, real, same=True)
    share = 0.1 + 0.6 * torch.rand(len(targets), 1, 1, 1, generator=generator)
    return images * (torch.rand(len(targets), 1, *shape[1:], generator=generator) < share)


def blend(
    targets: Tensor, shape: tuple[int, int, int], generator: torch.Generator, real: Real | None
) -> Tensor:
    """A random mixture of a real image of the target class and one of another class."""
    share = torch.rand(len(targets), 1, 1, 1, generator=generator)
    return share * real_target(targets, shape, generator, real) + (1 - share) * real_other(
        targets, shape, generator, real
    )


def bright(
    targets: Tensor, shape: tuple[int, int, int], generator: torch.Generator, real: Real | None
) -> Tensor:
    """Every feature between 0.9 and 1: whatever asks for lit features, and does not mind others, is
    there."""
    return 0.9 + 0.1 * torch.rand(len(targets), *shape, generator=generator)


def gaussian(
    targets: Tensor, shape: tuple[int, int, int], generator: torch.Generator, real: Real | None
) -> Tensor:
    """Normal noise with the mean and deviation of real images (0.5 and 0.25 without any), clamped:
    the classic start."""
    mean, std = 0.5, 0.25
    if real is not None:
        some = real[0][: max(2, MEASURED // math.prod(shape))]
        mean, std = float(some.mean()), float(some.std())
    return (mean + std * torch.randn(len(targets), *shape, generator=generator)).clamp(0, 1)


def _real(targets: Tensor, generator: torch.Generator, real: Real | None, same: bool) -> Tensor:
    if real is None:
        raise ArgumentError("start from real images needs data=")
    images, labels = real
    fits = (labels[None, :] == targets.cpu()[:, None]) == same
    # a class without real images (a fake class, say) falls back on any image
    fits |= ~fits.any(dim=1, keepdim=True)
    drawn = (torch.rand(fits.shape, generator=generator) * fits).argmax(dim=1)
    return images[drawn].clone()


Start = Callable[[Tensor, tuple[int, int, int], torch.Generator, Real | None], Tensor]

STARTS: dict[str, Start] = {
    "black": black,
    "near-black": near_black,
    "noise": noise,
    "sparse-noise": sparse_noise,
    "real-target": real_target,
    "real-other": real_other,
    "masked-real": masked_real,
    "blend": blend,
    "bright": bright,
    "gaussian": gaussian,
}
NEED_REAL = frozenset({"real-target", "real-other", "masked-real", "blend"})
