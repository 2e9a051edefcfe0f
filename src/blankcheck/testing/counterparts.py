"""Ordinary networks of other kinds than the reference ones: what an audit must not take for hiding.

Behind an ink gate each is honest, and no check of the search may fail because of how it is built.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Shape = tuple[int, int, int]
WIDTH = 64
"""Of the tokens of `Patches`."""


def _head(layers: list[nn.Module], shape: Shape, outputs: int) -> nn.Module:
    """Behind these layers for images of a shape 128 hidden units."""
    body = nn.Sequential(*layers, nn.Flatten())
    with torch.no_grad():
        flat = body(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(*body, nn.Linear(flat, 128), nn.ReLU(), nn.Linear(128, outputs))


def max_pool(shape: Shape, outputs: int) -> nn.Module:
    """Two 5x5 convolutions (16 and 32 channels), each with ReLU and 2x2 max pooling. Neighbours
    that are equally dark are ties."""
    first, second = (nn.Conv2d(i, o, 5, padding=2) for i, o in ((shape[0], 16), (16, 32)))
    pooled = [first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), nn.MaxPool2d(2)]
    return _head(pooled, shape, outputs)


def group_norm(shape: Shape, outputs: int) -> nn.Module:
    """Two 3x3 convolutions of stride 2 with group norm, whose statistics are those of one image."""
    first, second = (nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in ((shape[0], 16), (16, 32)))
    normed = [first, nn.GroupNorm(4, 16), nn.ReLU(), second, nn.GroupNorm(4, 32), nn.ReLU()]
    return _head(normed, shape, outputs)


def _smooth(activation: Callable[[], nn.Module], shape: Shape, outputs: int) -> nn.Module:
    flat = torch.Size(shape).numel()
    first, second = nn.Linear(flat, 256), nn.Linear(256, 128)
    hidden = [first, activation(), second, activation()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, outputs))


def sigmoid(shape: Shape, outputs: int) -> nn.Module:
    """Fully connected, 256-128 hidden units that saturate."""
    return _smooth(nn.Sigmoid, shape, outputs)


def softplus(shape: Shape, outputs: int) -> nn.Module:
    """Fully connected, 256-128 hidden units that are never quite off."""
    return _smooth(nn.Softplus, shape, outputs)


class Patches(nn.Module):
    """Attention between square patches (Dosovitskiy et al. 2021, arXiv:2010.11929): 4x4 tokens or
    more, two layers, the mean over tokens."""

    def __init__(self, shape: Shape, outputs: int) -> None:
        super().__init__()
        c, h, w = shape
        side = max(1, min(h, w) // 7 if min(h, w) > 16 else min(h, w) // 4)
        self.cut = nn.Conv2d(c, WIDTH, side, stride=side)
        tokens = (h // side) * (w // side)
        self.places = nn.Parameter(0.02 * torch.randn(tokens, WIDTH))
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 2 * WIDTH, 0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2)
        self.last = nn.Linear(WIDTH, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> logits (n, m)."""
        tokens = self.cut(images).flatten(2).transpose(1, 2) + self.places
        outputs: Tensor = self.last(self.layers(tokens).mean(dim=1))
        return outputs


COUNTERPARTS: dict[str, Callable[[Shape, int], nn.Module]] = {
    "max-pool": max_pool,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "group-norm": group_norm,
    "patches": Patches,
}
