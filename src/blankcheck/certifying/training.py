"""Training with the bound: the certificate itself becomes part of the loss.

The clean loss plus weight times a penalty on each class's proved log-odds over all images with at
most k lit features; k and weight grow from little to what is asked. The log-odds are penalised and
not the probability, whose gradient vanishes where a class is far too sure, which at first it always
is. One bound a step covers every sparse image (compare interval bound propagation, Gowal et al.
2018, arXiv:1810.12715, and GOOD, Bitterwolf et al. 2020, arXiv:2007.08473).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blankcheck.certifying.bounds import bound_layers
from blankcheck.certifying.certificate import limit
from blankcheck.certifying.hull import Sparse
from blankcheck.certifying.log_odds import log_odds_bounds
from blankcheck.certifying.reading import read_network
from blankcheck.classifiers.wrapper import device_of
from blankcheck.errors import ArgumentError


@dataclass(frozen=True)
class Ramp:
    """What is to be proved, and how fast training comes to it.

    k, confidence: of the certificate. weight: of the penalty against the clean loss, at the end.
    begin, end: shares of the training between which k and weight grow linearly. margin: log-odds by
    which bounds are pushed below what is needed.
    """

    k: int
    confidence: float = 0.9
    weight: float = 1.0
    begin: float = 0.0
    end: float = 0.6
    margin: float = 0.1

    def __post_init__(self) -> None:
        if self.k < 1 or self.weight <= 0 or not 0 <= self.begin < self.end <= 1:
            raise ArgumentError(
                "a ramp needs k >= 1, weight > 0, 0 <= begin < end <= 1, "
                f"got {self.k}, {self.weight:g}, {self.begin:g}, {self.end:g}"
            )

    def height(self, progress: float) -> float:
        """From 0 to 1, for a progress of the training in [0, 1]."""
        return min(1.0, max(0.0, (progress - self.begin) / (self.end - self.begin)))

    def k_at(self, progress: float) -> int:
        """The k of the penalty; at least 1."""
        return max(1, math.ceil(self.k * self.height(progress)))


class Penalty:
    """The penalty of a network. It is read once; its weights are taken as they are at each call."""

    def __init__(self, module: nn.Module, shape: Sequence[int], classes: int, ramp: Ramp) -> None:
        self._network, self._classes, self.ramp = read_network(module, shape), classes, ramp
        self._goal = limit(ramp.confidence, self._network.outputs) - ramp.margin
        self._like = torch.zeros((), device=device_of(module))

    def __call__(self, progress: float) -> Tensor:
        """The term to add to the clean loss, a scalar; 0 before the ramp begins."""
        height = self.ramp.height(progress)
        if height == 0:
            return self._like
        images = Sparse(self.ramp.k_at(progress))
        made = bound_layers(self._network.layers(torch.float32), images, self._like, rounding=False)
        bounds = log_odds_bounds(made, self._classes)
        return self.ramp.weight * height * F.relu(bounds - self._goal).mean()
