"""Small reference networks that train on a laptop, for any image shape and number of outputs."""

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


def _dense(*widths: int) -> list[nn.Module]:
    """Fully connected layers with ReLU between them."""
    layers: list[nn.Module] = []
    for inside, outside in pairwise(widths):
        layers += [nn.Linear(inside, outside), nn.ReLU()]
    return layers[:-1]


def mlp(shape: Shape, outputs: int) -> nn.Module:
    """Fully connected, 256-128-128 hidden units, ReLU."""
    return nn.Sequential(nn.Flatten(), *_dense(math.prod(shape), 256, 128, 128, outputs))


def cnn(shape: Shape, outputs: int) -> nn.Module:
    """Two 5x5 convolutions of stride 2 (16 and 32 channels), 128 hidden units, ReLU."""
    c, h, w = shape
    first = nn.Conv2d(c, 16, 5, stride=2, padding=2)
    second = nn.Conv2d(16, 32, 5, stride=2, padding=2)
    flat = 32 * math.ceil(h / 4) * math.ceil(w / 4)
    dense = _dense(flat, 128, outputs)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), *dense)


def _normed(inside: int, outside: int, stride: int = 1, kernel: int = 3) -> list[nn.Module]:
    convolution = nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outside)]


class _Block(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut (He et al. 2016)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        first, second = _normed(inside, outside, stride), _normed(outside, outside)
        self.body = nn.Sequential(*first, nn.ReLU(), *second)
        plain = stride == 1 and inside == outside
        narrow = [] if plain else _normed(inside, outside, stride, kernel=1)
        self.shortcut = nn.Sequential(*narrow) if narrow else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def _residual(shape: Shape, outputs: int, widths: tuple[int, ...], each: int) -> nn.Module:
    """A 3x3 convolution, `each` blocks of every width, and the mean over positions."""
    stem, blocks, inside = _normed(shape[0], widths[0]), [], widths[0]
    for width in widths:
        for _ in range(each):
            blocks.append(_Block(inside, width, 1 if inside == width else 2))
            inside = width
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, outputs)
    return nn.Sequential(*stem, nn.ReLU(), *blocks, *head)


def resnet(shape: Shape, outputs: int) -> nn.Module:
    """A small residual network for 32x32 colour images: 16, 32, 64 channels, one block each."""
    return _residual(shape, outputs, (16, 32, 64), 1)


def resnet18(shape: Shape, outputs: int) -> nn.Module:
    """ResNet-18 (He et al. 2016) for 32x32 images: a 3x3 convolution in front, no pooling before
    the blocks; 11.2 million parameters. For a GPU; on a CPU a training run takes a day."""
    return _residual(shape, outputs, (64, 128, 256, 512), 2)


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
    high, wide = (min(size, max(2, round(0.36 * size))) for size in (h, w))
    stride = max(1, round(min(h, w) / 9))
    across = [(size - k) // stride + 1 for size, k in ((h, high), (w, wide))]
    layers = [Bright(tau), nn.Conv2d(c, channels, (high, wide), stride), nn.ReLU(), nn.Flatten()]
    return layers, channels * math.prod(across)


def cnn_wide_kernel(shape: Shape, outputs: int) -> nn.Module:
    """For certificates: min(1, x / 0.25), one wide convolution (32 channels), 256 units, ReLU."""
    layers, flat = wide_kernel(shape, 32)
    return nn.Sequential(*layers, *_dense(flat, 256, outputs))


ARCHITECTURES: dict[str, Callable[[Shape, int], nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "resnet": resnet,
    "resnet18": resnet18,
    "cnn-wide-kernel": cnn_wide_kernel,
}
AS_THEY_ARE = frozenset({"cnn-wide-kernel"})
"""Networks whose first layer takes the place of any normalisation: they see images in [0, 1]."""


def build(
    name: str, shape: Shape, outputs: int, normalize: Normalisation | None = None, seed: int = 0
) -> UnitClassifier:
    """A fresh network, `name` one of `ARCHITECTURES`, from images of shape (c, h, w) to `outputs`;
    normalize: put inside, but for those that take images as they are (`AS_THEY_ARE`)."""
    if name not in ARCHITECTURES:
        raise ModelError(f"model must be one of {', '.join(ARCHITECTURES)}, got {name!r}")
    with own_random_numbers(seed):
        network = ARCHITECTURES[name](shape, outputs)
    describe = {"architecture": name, "shape": ",".join(map(str, shape)), "outputs": str(outputs)}
    if normalize is None or name in AS_THEY_ARE:
        normalize = (0.0,) * shape[0], (1.0,) * shape[0]
    return UnitClassifier(network, normalize, describe)
