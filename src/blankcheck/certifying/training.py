"""Training with the bound: the certificate itself becomes part of the loss.

The clean loss plus weight times a penalty on each class's proved log-odds over all images with at most k lit features; k and
weight grow from little to what is asked. The log-odds are penalised and not the probability, whose gradient vanishes where a
class is far too sure, which at first it always is. One bound a step covers every sparse image (compare interval bound
propagation, Gowal et al. 2018, arXiv:1810.12715, and GOOD, Bitterwolf et al. 2020, arXiv:2007.08473).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blankcheck.certifying.bounds import bound_layers
from blankcheck.certifying.certificate import limit
from blankcheck.certifying.gate import Bright
from blankcheck.certifying.hull import Sparse
from blankcheck.certifying.log_odds import log_odds_bounds
from blankcheck.certifying.reading import read_network
from blankcheck.classifiers.wrapper import device_of
from blankcheck.data import Split
from blankcheck.errors import ArgumentError


@dataclass(frozen=True)
class Ramp:
    """What is to be proved, and how fast training comes to it.

    k, unit, confidence: of the certificate. weight: of the penalty against the clean loss, at the end. begin, end: shares of
    the training between which k and weight grow linearly. margin: log-odds by which bounds are pushed below what is needed.
    """

    k: int
    unit: str = "features"
    confidence: float = 0.9
    weight: float = 1.0
    begin: float = 0.1
    end: float = 0.7
    margin: float = 0.5

    def __post_init__(self) -> None:
        if self.k < 1 or self.weight <= 0 or not 0 <= self.begin < self.end <= 1:
            raise ArgumentError("a ramp needs k >= 1, weight > 0, 0 <= begin < end <= 1, "
                                f"got {self.k}, {self.weight:g}, {self.begin:g}, {self.end:g}")  # fmt: skip

    def height(self, progress: float) -> float:
        """From 0 to 1, for a progress of the training in [0, 1]."""
        return min(1.0, max(0.0, (progress - self.begin) / (self.end - self.begin)))

    def k_at(self, progress: float) -> int:
        """The k of the penalty; at least 1."""
        return max(1, math.ceil(self.k * self.height(progress)))


class Penalty:
    """The penalty of a network. It is read once; its weights are taken as they are at each call."""

    def __init__(self, module: nn.Module, shape: tuple[int, int, int], classes: int, ramp: Ramp) -> None:
        self._network, self._classes, self._ramp = read_network(module, shape), classes, ramp
        self._goal = limit(ramp.confidence, self._network.outputs) - ramp.margin
        self._like = torch.zeros((), device=device_of(module))

    def __call__(self, progress: float) -> Tensor:
        """The term to add to the clean loss, a scalar; 0 before the ramp begins."""
        height = self._ramp.height(progress)
        if height == 0:
            return self._like
        images = Sparse(self._ramp.k_at(progress), self._ramp.unit)
        made = bound_layers(self._network.layers(torch.float32), images, self._like, rounding=False)
        bounds = log_odds_bounds(made, self._classes)
        return self._ramp.weight * height * F.relu(bounds - self._goal).mean()


def wide_kernel(shape: tuple[int, int, int], outputs: int, tau: float = 0.25) -> nn.Sequential:
    """`cnn-wide-kernel`: min(1, x / tau), one convolution whose window has more features than k, 256 hidden units; ReLU.

    min(1, x / tau) keeps the number of lit features, and gives real images more ink against the few of a sparse one.
    """
    c, h, w = shape
    kernel = (min(h, max(2, round(0.36 * h))), min(w, max(2, round(0.36 * w))))
    stride = max(1, round(min(h, w) / 9))
    across = [(size - k) // stride + 1 for size, k in zip((h, w), kernel, strict=True)]
    return nn.Sequential(
        Bright(tau), nn.Conv2d(c, 32, kernel, stride), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * math.prod(across), 256), nn.ReLU(), nn.Linear(256, outputs),
    )  # fmt: skip


def train_certified(
    classifier: nn.Module, train: Split, shape: tuple[int, int, int], classes: int, ramp: Ramp, epochs: int, seed: int = 0,
    batch: int = 128, lr: float = 2e-3, watch: Callable[[int, float, float], None] = lambda epoch, loss, penalty: None,
) -> None:  # fmt: skip
    """Train a network so that `certify` proves `ramp.k` of it, in place; AdamW with one cycle of the learning rate.

    classifier: from images in [0, 1] to logits, made of what `read_network` understands. watch: told of each epoch its mean
    clean loss and mean penalty.
    """
    penalty = Penalty(classifier, shape, classes, ramp)
    generator = torch.Generator().manual_seed(seed)
    batches = max(1, len(train) // batch)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=lr, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=max(2, epochs * batches))
    device = device_of(classifier)
    classifier.train()
    for epoch in range(epochs):
        order, sums = torch.randperm(len(train), generator=generator), torch.zeros(2)
        for at in range(batches):
            rows = order[at * batch : (at + 1) * batch]
            clean = F.cross_entropy(classifier(train.images[rows].to(device)), train.labels[rows].to(device))
            proved = penalty((epoch + at / batches) / epochs)
            optimiser.zero_grad()
            torch.autograd.backward(clean + proved)
            nn.utils.clip_grad_norm_(classifier.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            sums += torch.stack([clean.detach(), proved.detach()]).cpu() / batches
        watch(epoch, float(sums[0]), float(sums[1]))
    classifier.eval()
