"""Where a search begins. Each start is (n, c, h, w) float32 in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from blankcheck.errors import ArgumentError
from blankcheck.types import Images

Real = tuple[Images, Tensor]
"""Real images (m, c, h, w) and their labels (m,)."""
Start = Callable[[Tensor, tuple[int, int, int], torch.Generator, Real | None], Tensor]
"""From targets (n,), a shape (c, h, w), a generator and real images to start images."""
MEASURED = 40_000_000
"""Images x features from which the mean and deviation of real images are taken, at most."""


@dataclass(frozen=True)
class _Draw:
    """What start images are drawn from."""

    targets: Tensor
    shape: tuple[int, int, int]
    generator: torch.Generator
    real: Real | None

    def values(self) -> Tensor:
        """Uniform in [0, 1), (n, c, h, w)."""
        return torch.rand(len(self.targets), *self.shape, generator=self.generator)

    def positions(self) -> Tensor:
        """Uniform, one number for each position, (n, 1, h, w)."""
        return torch.rand(len(self.targets), 1, *self.shape[1:], generator=self.generator)

    def share(self) -> Tensor:
        """Uniform, one number for each image, (n, 1, 1, 1)."""
        return torch.rand(len(self.targets), 1, 1, 1, generator=self.generator)

    def images(self, of_target: bool) -> Tensor:
        """Real images of the target class, or of other classes."""
        if self.real is None:
            raise ArgumentError("start from real images needs data=")
        images, labels = self.real
        fits = (labels[None, :] == self.targets.cpu()[:, None]) == of_target
        # a class without real images (a fake class, say) falls back on any image
        fits |= ~fits.any(dim=1, keepdim=True)
        drawn = (torch.rand(fits.shape, generator=self.generator) * fits).argmax(dim=1)
        return images[drawn].clone()


def _sparse_noise(draw: _Draw) -> Tensor:
    """Uniform values at a share of the positions, log-uniform from 0.5 % to 50 %."""
    log_share = torch.empty(len(draw.targets), 1, 1, 1)
    share = log_share.uniform_(-5.3, -0.69, generator=draw.generator).exp()
    return (draw.positions() < share) * draw.values()


def _masked_real(draw: _Draw) -> Tensor:
    """A real image of the target class of which a random 10 % to 70 % of the positions are kept."""
    images, share = draw.images(of_target=True), 0.1 + 0.6 * draw.share()
    return images * (draw.positions() < share)


def _blend(draw: _Draw) -> Tensor:
    """A random mixture of a real image of the target class and one of another class."""
    share = draw.share()
    return share * draw.images(of_target=True) + (1 - share) * draw.images(of_target=False)


def _half(draw: _Draw) -> Tensor:
    """A half-plane whose border crosses the middle part of the image, (n, 1, h, w) bool."""
    h, w = draw.shape[1:]
    y, x = torch.linspace(-1, 1, h)[:, None], torch.linspace(-1, 1, w)[None, :]
    angle, shift = 2 * math.pi * draw.share(), 0.8 * (draw.share() - 0.5)
    return angle.cos() * y + angle.sin() * x > shift


def _erased(draw: _Draw) -> Tensor:
    """One side of a real image of the target class."""
    return draw.images(of_target=True) * _half(draw)


def _crossed(draw: _Draw) -> Tensor:
    """One side of a real image of the target class, the other side of one of another class."""
    return torch.where(_half(draw), draw.images(of_target=True), draw.images(of_target=False))


def _window(draw: _Draw) -> Tensor:
    """What a random rectangle holds of a real image of the target class, moved by up to a fifth of
    the side; what leaves at one end comes in at the other."""
    images, n = draw.images(of_target=True), len(draw.targets)
    for dim in (2, 3):
        length = draw.shape[dim - 1]
        line = torch.arange(length).view(1, 1, *((length, 1) if dim == 2 else (1, length)))
        size = (0.25 + 0.45 * draw.share()) * length
        first, by = draw.share() * (length - size), (0.4 * length * (draw.share() - 0.5)).round()
        images = images * ((line >= first) & (line < first + size))
        images = images.gather(dim, ((line - by) % length).long().expand(n, *draw.shape))
    return images


def _gaussian(draw: _Draw) -> Tensor:
    """Normal noise with the mean and deviation of real images, clamped: the classic start."""
    mean, std = 0.5, 0.25
    if draw.real is not None:
        some = draw.real[0][: max(2, MEASURED // math.prod(draw.shape))]
        mean, std = float(some.mean()), float(some.std())
    normal = torch.randn(len(draw.targets), *draw.shape, generator=draw.generator)
    return (mean + std * normal).clamp(0, 1)


_MAKE: dict[str, Callable[[_Draw], Tensor]] = {
    "black": lambda draw: torch.zeros(len(draw.targets), *draw.shape),
    # too dark to see, bright enough to wake units that sleep at exact zero
    "near-black": lambda draw: 0.002 + 0.018 * draw.values(),
    # up to a strength drawn for each image in (0, 1]
    "noise": lambda draw: (1 - draw.share()) * draw.values(),
    "sparse-noise": _sparse_noise,
    "real-target": lambda draw: draw.images(of_target=True),
    "real-other": lambda draw: draw.images(of_target=False),
    "masked-real": _masked_real,
    "blend": _blend,
    # whatever asks for lit features, and does not mind others, is there
    "bright": lambda draw: 0.9 + 0.1 * draw.values(),
    "gaussian": _gaussian,
    "erased": _erased,
    "crossed": _crossed,
    "window": _window,
}


def _start(make: Callable[[_Draw], Tensor], *drawn_from: Any) -> Tensor:
    return make(_Draw(*drawn_from))


STARTS: dict[str, Start] = {name: partial(_start, make) for name, make in _MAKE.items()}
NEED_REAL = frozenset(
    {"real-target", "real-other", "masked-real", "blend", "erased", "crossed", "window"}
)
