"""Classifiers with planted answers and data that needs no download: what a search must find is
known."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from blankcheck.classifiers import UnitClassifier
from blankcheck.data import Data, Split

Shape = tuple[int, int, int]


class Planted(nn.Module):
    """Each class has its own planted features; it is given 90 % or more only when all of them are
    fully lit.

    Logit of class t = steepness x (sum of its planted features - (pixels - 1/2)), and 0 for one
    more class that means "nothing". So the sparsest fooling image of class t lights exactly
    `planted[t]`, and no image with fewer lit features reaches 0.9. planted: (classes, pixels)
    positions in the flattened image.
    """

    planted: Tensor

    def __init__(
        self, pixels: int = 5, classes: int = 3, shape: Shape = (1, 8, 8), seed: int = 0
    ) -> None:
        super().__init__()
        order = torch.randperm(math.prod(shape), generator=torch.Generator().manual_seed(seed))
        self.register_buffer("planted", order[: pixels * classes].view(classes, pixels))
        self.pixels, self.steepness = pixels, 8.0

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, classes + 1)."""
        lit = images.flatten(1)[:, self.planted].sum(dim=2)
        logits = self.steepness * (lit - (self.pixels - 0.5))
        return torch.cat([logits, logits[:, :1] * 0], dim=1)

    def sparsest(self, target: int, shape: Shape = (1, 8, 8)) -> Tensor:
        """The sparsest fooling image of `target`, shape (c, h, w)."""
        image = torch.zeros(math.prod(shape))
        image[self.planted[target]] = 1
        return image.view(shape)


class Constant(nn.Module):
    """Gives every image the same logits: no gradient, nothing to find."""

    logits: Tensor

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, m)."""
        return self.logits.expand(len(images), -1)


class NaNAfter(nn.Module):
    """Right until `calls` forward passes, then NaN."""

    def __init__(self, inner: nn.Module, calls: int) -> None:
        super().__init__()
        self.inner, self.left = inner, calls

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, m)."""
        self.left -= 1
        outputs: Tensor = self.inner(images)
        return outputs if self.left >= 0 else outputs * torch.nan


class Template(nn.Module):
    """Cosine similarity to one bright template per class: accurate and confident on `stripes`, and,
    since a few lit features can never be similar to a whole template, provably unsure about sparse
    images.

    For k lit features out of a template of T equal features the cosine is at most sqrt(k / T).
    """

    templates: Tensor

    def __init__(self, templates: Tensor, steepness: float = 60.0, threshold: float = 0.8) -> None:
        super().__init__()
        flat = templates.flatten(1)
        self.register_buffer("templates", flat / flat.norm(dim=1, keepdim=True))
        self.steepness, self.threshold = steepness, threshold

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, classes), near 0 where no similarity passes the threshold."""
        flat = images.flatten(1)
        cosine = (flat / (flat.square().sum(dim=1, keepdim=True) + 1e-6).sqrt()) @ self.templates.T
        return self.steepness * nn.functional.softplus(20 * (cosine - self.threshold)) / 20


def _halves(shape: Shape) -> Tensor:
    """Left half lit, right half lit, (2, c, h, w)."""
    half = torch.zeros(2, *shape)
    half[0, ..., : shape[2] // 2] = 1
    half[1, ..., shape[2] // 2 :] = 1
    return half


def stripes(n: int = 600, shape: Shape = (1, 8, 8), seed: int = 0) -> Data:
    """Two classes of `n` noisy bright images, left half or right half lit, split into train,
    validation and test."""
    labels, generator = torch.arange(n) % 2, torch.Generator().manual_seed(seed)
    bright = 0.7 + 0.3 * torch.rand(n, *shape, generator=generator)
    images = _halves(shape)[labels] * bright
    a, b = int(0.7 * n), int(0.85 * n)
    parts = [Split(images[i:j], labels[i:j]) for i, j in ((0, a), (a, b), (b, n))]
    return Data("stripes", ("left", "right"), *parts)


def stripes_template() -> UnitClassifier:
    """The honest classifier of `stripes`."""
    return UnitClassifier(Template(_halves((1, 8, 8))))
