"""Classifiers of which it is known what a search must find, or that it can find nothing, and data
that needs no download.

The honest ones are accurate and confident on real images and provably sure of no image with at most
k lit features. The proofs are short because the classifiers are simple. An audit that calls one
FOOLED (with `max_lit` = k) is broken; one that can never call them RESISTED is useless.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from blankcheck.classifiers import UnitClassifier, probabilities
from blankcheck.data import Data, Split
from blankcheck.types import default_max_lit

CONFIDENCE, SHARE = 0.9, 0.93
"""A bound is raised as long as this share of validation images is still right with this confidence.
"""
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
    return Data("stripes", ("left", "right"), parts[0], parts[1], parts[2])


def stripes_template(shape: Shape = (1, 8, 8)) -> UnitClassifier:
    """The honest classifier of `stripes`."""
    return UnitClassifier(Template(_halves(shape)))


class InkGate(nn.Module):
    """Logits times a gate that is 0 for images whose ink, the sum of their features, is at most k.

    Proof. A feature is at most 1, so an image with at most k lit features has at most ink k. (In
    floating point too: adding j numbers of at most 1 rounds to at most j, since j is a
    floating-point number and rounding keeps order.) The gate is then exactly 0, every logit is 0,
    and each of the m >= 2 classes gets 1/m <= 1/2 < 0.9.

    The gate is 1 from ink `full` on and linear between. inner gives logits.
    """

    def __init__(self, inner: nn.Module, k: int, full: float) -> None:
        super().__init__()
        self.inner, self.k, self.full = inner, k, full

    def gate(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, 1) in [0, 1]."""
        ink = images.flatten(1).sum(dim=1, keepdim=True)
        return ((ink - self.k) / (self.full - self.k)).clamp(0, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> logits (n, m)."""
        outputs: Tensor = self.inner(images) * self.gate(images)
        return outputs


def ink_gate(plain: nn.Module, data: Data) -> InkGate:
    """The gate with the largest k, up to the data's default `max_lit`, that keeps real images right
    and confident.

    It is open from the 5 % quantile of the training images' ink on. Where the plain network itself
    has too few confident images, the gate loses none of them.
    """
    full = float(data.train.loaded().flatten(1).sum(dim=1).quantile(0.05))
    asked = min(SHARE, _confident(plain, data.validation))
    for k in range(min(default_max_lit(data.shape), int(full - 1e-3)), 1, -1):
        made = InkGate(plain, k, full)
        if _confident(made, data.validation) >= asked:
            return made
    return InkGate(plain, 1, max(full, 2.0))


class Prototypes(nn.Module):
    """Each class is as sure as its prototype nearest in angle is similar, counted only above what k
    lit features can reach.

    Proof. Let x have at most k lit features, at the places S, and let p be a prototype. By Cauchy
    and Schwarz <x, p> = <x, p_S> <= |x| |p_S|, and |p_S|^2 is at most the sum of the k largest
    squares of p. So cos(x, p) is at most b(p) = sqrt(sum of the k largest squares of p) / |p|. A
    similarity counts as steepness x cos x ramp, and the ramp is exactly 0 up to b(p) + 1e-4 (the
    1e-4 covers rounding). For x every logit is therefore 0, and each of the m >= 2 classes gets 1/m
    <= 1/2 < 0.9.

    images: (q, c, h, w), sorted by class; counts: how many belong to each class. The ramp is 1 from
    `width` above on.
    """

    prototypes: Tensor
    bounds: Tensor
    steepness, width = 300.0, 0.02

    def __init__(self, images: Tensor, counts: list[int], k: int) -> None:
        super().__init__()
        flat = images.flatten(1)
        unit = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)
        self.register_buffer("prototypes", unit)
        self.register_buffer("bounds", unit.square().topk(k, dim=1).values.sum(dim=1).sqrt() + 1e-4)
        self.counts, self.k = counts, k

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> logits (n, classes); all are 0 where no similarity counts."""
        flat = images.flatten(1)
        cosine = flat @ self.prototypes.T / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)
        counted = self.steepness * cosine * ((cosine - self.bounds) / self.width).clamp(0, 1)
        return torch.stack([part.amax(dim=1) for part in counted.split(self.counts, dim=1)], dim=1)


def prototypes(data: Data, among: int = 10_000, seed: int = 0) -> Prototypes:
    """At most `among` training images as prototypes, with the largest k that keeps real images
    right and confident.

    Tried are the data's default `max_lit`, three quarters of it, and so on.
    """
    chosen = data.train.sample(among, seed)
    chosen = chosen.take(chosen.labels.argsort(stable=True))
    counts = chosen.labels.bincount(minlength=len(data.classes)).tolist()
    k = default_max_lit(data.shape)
    while True:
        made = Prototypes(chosen.loaded(), counts, k)
        if k == 1 or _confident(made, data.validation) >= SHARE:
            return made
        k = max(1, 3 * k // 4)


def _confident(model: nn.Module, data: Split) -> float:
    top, answer = probabilities(model, data.images).max(dim=1)
    return float(((answer == data.labels) & (top >= CONFIDENCE)).float().mean())
