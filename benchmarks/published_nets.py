"""Architectures of published networks, written from their definitions; weights are named in
published.yaml. A library."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def two_convolutions(channels: int, side: int) -> nn.Module:
    """The small convolutional networks of Wong and Kolter (2018, arXiv:1711.00851)."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (side // 4) ** 2, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def small_grey() -> nn.Module:
    """For images 1x28x28 in [0, 1]."""
    return two_convolutions(1, 28)


def small_colour() -> nn.Module:
    """For images 3x32x32, normalised."""
    return two_convolutions(3, 32)


class Block(nn.Module):
    """Two convolutions and a shortcut without parameters (He et al. 2016, arXiv:1512.03385, option
    A)."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.added = stride, width - before

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        short = x[:, :, :: self.stride, :: self.stride]
        return F.relu(y + F.pad(short, (0, 0, 0, 0, self.added // 2, self.added // 2)))


class ResNet(nn.Module):
    """For CIFAR-10, with 6 n + 2 layers."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths = (16, 16), (16, 32), (32, 64)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(
                Block(before, width, 1 if before == width else 2),
                *(Block(width, width, 1) for _ in range(n - 1)),
            )
            for before, width in widths
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(torch.mean(x, dim=(2, 3)))


def resnet20() -> nn.Module:
    """ResNet-20."""
    return ResNet(3)


def resnet32() -> nn.Module:
    """ResNet-32."""
    return ResNet(5)


def resnet44() -> nn.Module:
    """ResNet-44."""
    return ResNet(7)


def resnet56() -> nn.Module:
    """ResNet-56."""
    return ResNet(9)
