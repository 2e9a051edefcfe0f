"""Bars, frames, stripes, rings and the like, which no search of hardening comes by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.classifiers import UnitClassifier, probabilities
from blankcheck.classifiers.wrapper import left_as_found
from blankcheck.fooling import Structures

DRAWN = 4096
"""Per round, beside those that are enumerated."""
HELD = 40_000_000
"""Images x features, at most."""
SUREST, OF = 16, 8
"""For each batch the network is trained on so many, the surest of so many times as many."""
NEAREST = 100
"""Of each class, among which searches start."""


@dataclass
class Structured:
    """Those of a round that are far enough from real images to be trained on.

    Args:
        images: (n, c, h, w); n may be 0.
        nearest: (m, k) positions of the images that gave each class most probability when the
            round began.
    """

    images: Tensor
    nearest: Tensor

    @classmethod
    def none(cls, shape: tuple[int, int, int]) -> Structured:
        """No images."""
        return cls(torch.zeros(0, *shape), torch.zeros(0, 0, dtype=torch.int64))

    @classmethod
    def drawn(
        cls,
        pool: Structures,
        counts: Callable[[Tensor], Tensor],
        network: UnitClassifier,
        classes: int,
        draws: torch.Generator,
    ) -> Structured:
        """Those of a pool that count, or of a random part of it where it is too large."""
        most = max(OF * SUREST, HELD // pool.shape[1:].numel())
        images = pool[torch.randperm(len(pool), generator=draws)[:most]]
        images = images[counts(images)]
        if len(images) == 0:
            return cls.none(pool.of)
        p = _probabilities(network, images, classes)
        return cls(images, p.topk(min(NEAREST, len(images)), dim=0).indices.T)

    def surest(
        self, n: int, network: UnitClassifier, classes: int, draws: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Of some at random the `n` that the network is surest of, and the classes it says."""
        if n == 0 or len(self.images) == 0:
            return self.images[:0], torch.zeros(0, dtype=torch.int64)
        some = self.images[torch.randint(len(self.images), (OF * n,), generator=draws)]
        p = _probabilities(network, some, classes)
        surest = p.amax(dim=1).topk(n).indices
        return some[surest], p[surest].argmax(dim=1)

    def starts(self, targets: Tensor, draws: torch.Generator) -> Tensor:
        """For each target (n,) one of the images nearest to it; black where there are none."""
        if len(self.images) == 0:
            return torch.zeros(len(targets), *self.images.shape[1:])
        which = torch.randint(self.nearest.shape[1], (len(targets),), generator=draws)
        return self.images[self.nearest[targets, which]]


def _probabilities(network: UnitClassifier, images: Tensor, classes: int) -> Tensor:
    with left_as_found(network), torch.no_grad():
        return probabilities(network, images)[:, :classes]
