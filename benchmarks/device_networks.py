"""Networks of three sizes in plain torch, with random weights: speed does not hang on them.

A library.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from blankcheck.classifiers import build


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut (He et al. 2016, figure 5, right)."""

    def __init__(self, inside: int, middle: int, stride: int) -> None:
        super().__init__()
        outside = 4 * middle
        self.body = nn.Sequential(
            nn.Conv2d(inside, middle, 1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, middle, 3, stride, 1, bias=False),
            nn.BatchNorm2d(middle),
            nn.ReLU(),
            nn.Conv2d(middle, outside, 1, bias=False),
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

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.body(images) + self.shortcut(images))


def resnet50(shape: tuple[int, int, int], outputs: int = 1000) -> nn.Module:
    """ResNet-50: stages of 3, 4, 6 and 3 bottlenecks, 25.6 million parameters."""
    stem = nn.Sequential(
        nn.Conv2d(shape[0], 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    )
    inside, stages = 64, list[nn.Module]()
    for middle, depth in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for index in range(depth):
            stages.append(Bottleneck(inside, middle, 2 if index == 0 and middle > 64 else 1))
            inside = 4 * middle
    return nn.Sequential(
        stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, outputs)
    )


class Attention(nn.Module):
    """A transformer's block, norms first (Dosovitskiy et al. 2021, equations 2 and 3)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.heads, self.all, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        n, t, d = tokens.shape
        q, k, v = (
            self.all(self.before(tokens))
            .view(n, t, 3, self.heads, d // self.heads)
            .permute(2, 0, 3, 1, 4)
        )
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d)
        tokens = tokens + self.out(mixed)
        return tokens + self.mlp(self.after(tokens))


class ViT(nn.Module):
    """Patches of 16x16, a class token, learnt positions (Dosovitskiy et al.

    2021, equations 1 to 4).
    """

    def __init__(
        self, shape: tuple[int, int, int], outputs: int, width: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        c, h, w = shape
        self.patches = nn.Conv2d(c, width, 16, 16)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, 1 + (h // 16) * (w // 16), width))
        self.blocks = nn.Sequential(
            *(Attention(width, heads) for _ in range(depth)), nn.LayerNorm(width)
        )
        self.head = nn.Linear(width, outputs)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], dim=1) + self.places
        return self.head(self.blocks(tokens)[:, 0])


def vit_s(shape: tuple[int, int, int], outputs: int = 1000) -> nn.Module:
    """ViT-S/16 (width 384, 12 blocks, 6 heads; Touvron et al.

    2021, arXiv:2012.12877), 22 million parameters.
    """
    return ViT(shape, outputs, 384, 12, 6)


Shape = tuple[int, int, int]
NETWORKS: dict[str, tuple[Shape, Callable[[Shape], nn.Module]]] = {
    "cnn": ((1, 28, 28), lambda shape: build("cnn", shape, 10)),
    "resnet18": ((3, 32, 32), lambda shape: build("resnet18", shape, 10)),
    "resnet50": ((3, 224, 224), resnet50),
    "vit-s": ((3, 224, 224), vit_s),
}
"""By name: the shape of an image, and what makes the network for it."""
