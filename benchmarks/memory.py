"""Peak memory. Of a search beside that of the network: a network that needs next to none, 100
images at once. Of an audit: an 18-layer residual network with 1000 outputs, real images beyond
memory, 100 attempts.

python benchmarks/memory.py search 1,112,112 30 python benchmarks/memory.py audit 3,224,224 4
--width 16 python benchmarks/memory.py audit 3,224,224 4 --no-training        # the network stands
in for its own twin
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from itertools import pairwise

import torch
from torch import Tensor, nn

import blankcheck as bc
from blankcheck.auditing import Twin
from blankcheck.auditing.portfolio import PRESETS, Preset
from blankcheck.types import images_at_once

OUTPUTS, CLASSES = 1000, 100
"""Of the network, and of the data: one attempt for each class."""
TRAIN, REST = 1_000_000, 400


class Mean(nn.Module):
    """Means of ten mixtures of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(10, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.mix).mean(dim=(2, 3)) * 50


class Block(nn.Module):
    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.way = (
            nn.Conv2d(inside, outside, 1, stride)
            if stride > 1 or inside != outside
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.way(x))


class Residual(nn.Module):
    """As deep as ResNet-18 (He et al. 2016) and, with 64 channels, as wide. The last layer calls an
    image by the class whose real image has the nearest features."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        wide = [width, width, 2 * width, 4 * width, 8 * width]
        stages = [
            nn.Sequential(Block(a, b, 1 + (i > 0)), Block(b, b, 1))
            for i, (a, b) in enumerate(pairwise(wide))
        ]
        self.features = nn.Sequential(
            nn.Conv2d(channels, width, 7, 2, 3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.MaxPool2d(3, 2, 1),
            *stages,
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.BatchNorm1d(8 * width),
        )
        self.last = nn.Linear(8 * width, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.features(x))

    @torch.no_grad()
    def learn(self, images: Tensor) -> None:
        """images: (CLASSES, c, h, w), one of each class."""
        self.train()
        self.features(images[:32])
        self.eval()
        means = torch.cat(
            [self.features(piece) for piece in images.split(images_at_once(images.shape[1:]))]
        )
        self.last.weight.zero_()
        self.last.weight[: len(means)] = means
        self.last.bias.fill_(-1e4)
        self.last.bias[: len(means)] = -means.square().sum(dim=1) / 2


def blocks(shape: tuple[int, int, int]) -> bc.Data:
    """A million images that are made when they are asked for: coarse blocks in the colours of the
    class, and noise."""
    c, h, w = shape
    colours = torch.rand(CLASSES, c, 7, 7, generator=torch.Generator().manual_seed(0))

    def read(positions: Tensor) -> Tensor:
        noise = torch.stack(
            [
                torch.rand(shape, generator=torch.Generator().manual_seed(i))
                for i in positions.tolist()
            ]
        )
        return 0.8 * nn.functional.interpolate(colours[positions % CLASSES], (h, w)) + 0.2 * noise

    def part(first: int, n: int) -> bc.Split:
        positions = torch.arange(first, first + n)
        return bc.Split(bc.LazyImages(read, shape, positions), positions % CLASSES)

    names = tuple(str(k) for k in range(CLASSES))
    return bc.Data("blocks", names, part(0, TRAIN), part(TRAIN, REST), part(TRAIN + REST, REST))


def peak() -> float:
    """GiB, of the process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def search(shape: tuple[int, int, int], steps: int) -> None:
    network = Mean(shape[0])
    network(torch.rand(4, *shape))
    before = peak()
    bc.fool(network, range(10), 10, shape=shape, steps=steps, until="sparsest")
    more = (peak() - before) * 2**30
    print(
        f"{shape}, {steps} steps: {more / 2**20:.0f} MiB, {more / (100 * math.prod(shape)):.0f} "
        "bytes per feature and image"
    )


def audit(shape: tuple[int, int, int], steps: int, width: int, training: bool) -> None:
    began, data = time.monotonic(), blocks(shape)
    network = Residual(shape[0], width)
    network.learn(data.train.images[:CLASSES])

    def note(stage: str, done: int, of: int, words: str) -> None:
        print(
            f"{time.monotonic() - began:6.0f} s, peak {peak():.2f} GiB: {stage} {done}/{of} "
            f"{words}",
            flush=True,
        )

    PRESETS["smoke"] = Preset(attempts=CLASSES, per_target=1, steps=steps)
    twin = None if training else lambda: Twin(network, "logits", "the network itself")
    made = bc.audit(network, data, preset="smoke", note=note, twin=twin)
    parameters = sum(p.numel() for p in network.parameters())
    print(
        f"{shape}, {parameters:,} parameters, {made.json['attempts']} attempts of {steps} steps: "
        f"{made.verdict}, peak "
        f"{peak():.2f} GiB, {time.monotonic() - began:.0f} s, {torch.get_num_threads()} threads"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["search", "audit"])
    parser.add_argument("shape", type=lambda text: tuple(int(v) for v in text.split(",")))
    parser.add_argument("steps", type=int)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--no-training", dest="training", action="store_false")
    asked = parser.parse_args()
    if asked.what == "search":
        search(asked.shape, asked.steps)
    else:
        audit(asked.shape, asked.steps, asked.width, asked.training)


if __name__ == "__main__":
    main()
