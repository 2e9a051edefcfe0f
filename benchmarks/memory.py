"""Peak memory of a search beside that of the network: a network that needs next to none, 100 images at once.

python benchmarks/memory.py 1,112,112 30
"""

from __future__ import annotations

import resource
import sys

import torch
from torch import Tensor, nn

import blankcheck as bc


class Mean(nn.Module):
    """Means of ten mixtures of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(10, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.mix).mean(dim=(2, 3)) * 50


def main() -> None:
    c, h, w = (int(v) for v in sys.argv[1].split(","))
    steps = int(sys.argv[2])
    network = Mean(c)
    network(torch.rand(4, c, h, w))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bc.fool(network, range(10), 10, shape=(c, h, w), steps=steps, until="sparsest")
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(
        f"({c}, {h}, {w}), {steps} steps: {more / 2**20:.0f} MiB, {more / (100 * c * h * w):.0f} bytes per feature and image"
    )


if __name__ == "__main__":
    main()
