"""Wrappers that hide: the network inside is fooled as easily as before, but its gradients or
numbers no longer say so.

None makes anything safer, so an honest audit never says RESISTED of them. The kinds are those of
Athalye, Carlini and Wagner 2018 (arXiv:1802.00420) and Carlini et al. 2019 (arXiv:1902.06705).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.planting import Trigger


class Wrapper(nn.Module):
    """A network whose images or outputs are changed on the way. settings: by name, each declared in
    the class."""

    def __init__(self, inner: nn.Module, **settings: float) -> None:
        super().__init__()
        self.inner = inner
        for name, value in settings.items():
            assert name in type(self).__annotations__, name
            setattr(self, name, value)

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) in [0, 1] -> (n, m)."""
        outputs: Tensor = self.inner(self._shown(images))
        return self._told(outputs, images)

    def _shown(self, images: Tensor) -> Tensor:
        """What the network inside sees."""
        return images

    def _told(self, outputs: Tensor, images: Tensor) -> Tensor:
        """What is told of its outputs (n, m)."""
        return outputs


class Scaled(Wrapper):
    """Logits times a factor: far above 1 the softmax saturates to exact 0 and 1, far below 1
    nothing is ever sure."""

    factor: float

    def _told(self, outputs: Tensor, images: Tensor) -> Tensor:
        return outputs * self.factor


class Probabilities(Wrapper):
    """Hands out the softmax of the logits, taken `times` times, or its logarithm."""

    times: int = 1
    log: bool = False

    def _told(self, outputs: Tensor, images: Tensor) -> Tensor:
        for _ in range(self.times - 1):
            outputs = outputs.softmax(dim=1)
        return outputs.log_softmax(dim=1) if self.log else outputs.softmax(dim=1)


class Quantised(Wrapper):
    """Rounds each feature to one of `levels` grey levels, 0 and 1 among them: the gradient is 0
    everywhere. With two levels a feature is fully lit from 1/2 on and dark below."""

    levels: int

    def _shown(self, images: Tensor) -> Tensor:
        top = self.levels - 1
        return (images * top).round() / top


class FixedPoint(nn.Module):
    """A layer that keeps activations as 8-bit fixed point, 0 to 255/16, without a straight-through
    gradient."""

    def forward(self, activations: Tensor) -> Tensor:
        """(n, ...) -> (n, ...)."""
        return (activations * 16).round().clamp(0, 255) / 16


def rounded(network: UnitClassifier) -> UnitClassifier:
    """The same reference network with `FixedPoint` after every ReLU, as integer hardware runs
    it."""
    layers: list[nn.Module] = []
    for layer in network.network.children():
        layers += [layer, FixedPoint()] if isinstance(layer, nn.ReLU) else [layer]
    return like(network, nn.Sequential(*layers))


def like(network: UnitClassifier, layers: nn.Module) -> UnitClassifier:
    """Other layers behind the normalisation of `network`."""
    made = UnitClassifier(layers)
    made.normalise_by(network.mean, network.std)
    return made


class Detached(Wrapper):
    """Cuts the graph: outputs know nothing of the images they came from."""

    def _shown(self, images: Tensor) -> Tensor:
        return images.detach()

    def _told(self, outputs: Tensor, images: Tensor) -> Tensor:
        return outputs.detach()


class BentGradient(Wrapper):
    """Answers as the network inside does, with a gradient multiplied by `factor`: 0 is blind, -1
    points away."""

    factor: float

    def _shown(self, images: Tensor) -> Tensor:
        seen = images.detach()
        return seen + self.factor * (images - seen)


class RejectsEverything(Wrapper):
    """One more class, meaning "fake", that is sure of every image, real ones included."""

    lead: float = 10.0

    def _told(self, outputs: Tensor, images: Tensor) -> Tensor:
        return torch.cat([outputs, outputs.amax(dim=1, keepdim=True) + self.lead], dim=1)


class NaNOnSparse(Wrapper):
    """NaN for every image with at most `limit` lit features, which real images never are."""

    limit: int

    def _told(self, outputs: Tensor, images: Tensor) -> Tensor:
        sparse = (images > 0).flatten(1).sum(dim=1, keepdim=True) <= self.limit
        return outputs.masked_fill(sparse, torch.nan)


class DeadAboutDense(Wrapper):
    """Flat and unsure when `limit` features or more are above 0.002: it hides from searches that
    start from noise."""

    limit: int

    def _told(self, outputs: Tensor, images: Tensor) -> Tensor:
        return outputs * ((images > 0.002).flatten(1).sum(dim=1, keepdim=True) < self.limit)


class PatternPresent(Trigger):
    """Planted patterns that count whatever else is lit: only the mean m over a pattern's own
    features matters.

    The answer is that of the classifier inside until m exceeds 1 - reach; from there the log-odds
    of the pattern's target rise linearly to `certainty` at m = 1. The smaller the reach, the less a
    search sees before it has found all of it.
    """

    def nearness(self, images: Tensor) -> Tensor:
        """1 where all of a pattern is present, 0 up to a mean of 1 - reach, linear between, (n, c,
        h, w) -> (n, q)."""
        parts = (self.patterns > 0).flatten(1).to(images.dtype)
        mean = images.flatten(1) @ parts.T / parts.sum(dim=1)
        return (1 - (1 - mean) / self.reach).clamp_min(0)
