"""Small reference networks that train on a laptop, adapted to any image shape and number of
outputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from blankcheck.classifiers.wrapper import Normalisation, UnitClassifier
from blankcheck.errors import ModelError
from blankcheck.seeds import own_random_numbers

Shape = tuple[int, int, int]


def mlp(shape: Shape, outputs: int) -> nn.Module:
    """Fully connected, 256-128-128 hidden units, ReLU."""
    c, h, w = shape
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(c * h * w, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Linear(128, outputs),
    )


def cnn(shape: Shape, outputs: int) -> nn.Module:
    """Two 5x5 convolutions of stride 2 (16 and 32 channels), 128 hidden units, ReLU."""
    c, h, w = shape
    flat = 32 * _half(_half(h)) * _half(_half(w))
    return nn.Sequential(
        nn.Conv2d(c, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(flat, 128),
        nn.ReLU(),
        nn.Linear(128, outputs),
    )


def _half(size: int) -> int:
    return (size + 1) // 2


class _Block(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut (He et al. 2016)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        plain = stride == 1 and inside == outside
        self.shortcut = (
            nn.Identity()
            if plain
            else nn.Sequential(
                nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet(shape: Shape, outputs: int) -> nn.Module:
    """A small residual network for 32x32 colour images: 16, 32, 64 channels, one block each (8
    layers)."""
    return nn.Sequential(
        nn.Conv2d(shape[0], 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        _Block(16, 16, 1),
        _Block(16, 32, 2),
        _Block(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, outputs),
    )


def resnet18(shape: Shape, outputs: int) -> nn.Module:
    """ResNet-18 (He et al. 2016) in the form for 32x32 images: a 3x3 convolution in front, no
    pooling before the blocks; 64, 128, 256, 512 channels, two blocks each, 11.2 million parameters.
    For a GPU; on a CPU a training run takes a day."""
    widths = (64, 64, 128, 256, 512)
    blocks = [
        _Block(inside, outside, 1 if inside == outside else 2)
        for before, after in pairwise(widths)
        for inside, outside in ((before, after), (after, after))
    ]
    return nn.Sequential(
        nn.Conv2d(shape[0], 64, 3, 1, 1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(512, outputs),
    )


class Bright(nn.Module):
    """min(1, x / tau): as many lit features as before, and more ink for real images."""

    def __init__(self, tau: float) -> None:
        super().__init__()
        self.tau = tau

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) in [0, 1] -> the same shape in [0, 1]."""
        return (images / self.tau).clamp(max=1.0)


def wide_kernel(shape: Shape, channels: int, tau: float = 0.25) -> tuple[list[nn.Module], int]:
    """min(1, x / tau), one convolution whose window has more features than the k of a certificate,
    ReLU and flattening; and the number of its values. 10x10 with stride 3 for 28x28 images."""
    c, h, w = shape
    kernel = (_window(h), _window(w))
    stride = max(1, round(min(h, w) / 9))
    across = [(size - k) // stride + 1 for size, k in zip((h, w), kernel, strict=True)]
    layers = [Bright(tau), nn.Conv2d(c, channels, kernel, stride), nn.ReLU(), nn.Flatten()]
    return layers, channels * math.prod(across)


def _window(size: int) -> int:
    return min(size, max(2, round(0.36 * size)))


def cnn_wide_kernel(shape: Shape, outputs: int) -> nn.Module:
    """Made for certificates: min(1, x / 0.25) in place of a normalisation, one wide convolution (32
    channels), 256 hidden units, ReLU."""
    layers, flat = wide_kernel(shape, 32)
    return nn.Sequential(*layers, nn.Linear(flat, 256), nn.ReLU(), nn.Linear(256, outputs))


ARCHITECTURES: dict[str, Callable[[Shape, int], nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "resnet18": resnet18,
    "cnn-wide-kernel": cnn_wide_kernel,
}
AS_THEY_ARE = frozenset({"cnn-wide-kernel"})
"""Networks that see images in [0, 1], whatever normalisation is asked for: their first layer takes
its place."""


def build(
    name: str, shape: Shape, outputs: int, normalize: Normalisation | None = None, seed: int = 0
) -> UnitClassifier:
    """A freshly initialised reference network, `name` one of `ARCHITECTURES`, from (c, h, w) images
    to `outputs`.

    normalize: put inside, but for those that take images as they are (`AS_THEY_ARE`).
    """
    if name not in ARCHITECTURES:
        raise ModelError(f"model must be one of {', '.join(ARCHITECTURES)}, got {name!r}")
    with own_random_numbers(seed):
        network = ARCHITECTURES[name](shape, outputs)
    describe = {"architecture": name, "shape": ",".join(map(str, shape)), "outputs": str(outputs)}
    none = ((0.0,) * shape[0], (1.0,) * shape[0])
    return UnitClassifier(
        network, none if normalize is None or name in AS_THEY_ARE else normalize, describe
    )
