"""Scores of how far an image is from real data. Larger is further; only their order among images matters.

Two families: `FIRST` looks at amounts of ink, main components, neighbours, roughness and colour; audits and hardening use
it. `SECOND` looks at frequencies, patches, profiles, adjacent values, moments and lone pixels. Nothing is trained against
it, so it tells whether a hardened network has learnt about images that are not real or about the scores of `FIRST`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Values = Callable[[Tensor], Tensor]
"""From images (n, c, h, w) in [0, 1] to scores (n, s), larger = further from real data, row by row, without NaN."""

NEIGHBOURS = 5
COMPONENTS = 50
PATCH = 5
MAX_PATCHES = 100_000
LEVELS = (1 / 512, 1 / 4, 1 / 2, 3 / 4)
CONTRASTS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)


@dataclass(frozen=True)
class Score:
    """One or more scores that are fitted together. names: one for each column of what `fit` returns.

    fit: from real images (n, c, h, w) in [0, 1] to the fitted `Values`. Those may have no columns at all for images they
    say nothing about, such as colours of grey images.
    """

    names: tuple[str, ...]
    fit: Callable[[Tensor], Values]


def unfitted(*names: str) -> Callable[[Values], Score]:
    """A score that needs no real images."""
    return lambda values: Score(names, lambda _real: values)


@unfitted("few lit", "many lit", "little ink", "few bright")
def amounts(images: Tensor) -> Tensor:
    """How much is lit: (n, c, h, w) -> (n, 4)."""
    flat = images.flatten(1)
    lit = (flat > 0).sum(dim=1).float()
    return torch.stack([-lit, lit, -flat.sum(dim=1), -(flat > 0.5).sum(dim=1).float()], dim=1)


@unfitted("broken lines", "jagged")
def roughness(images: Tensor) -> Tensor:
    """Total variation relative to the ink, and root energy of the Laplacian relative to the norm, (n, c, h, w) -> (n, 2)."""
    down, right = images.diff(dim=2), images.diff(dim=3)
    variation = down.abs().sum(dim=(1, 2, 3)) + right.abs().sum(dim=(1, 2, 3))
    # no step across the border
    laplacian = F.pad(down, (0, 0, 1, 1)).diff(dim=2) + F.pad(right, (1, 1)).diff(dim=3)
    return torch.stack([variation / _ink(images), laplacian.flatten(1).norm(dim=1) / _norm(images)], dim=1)


@unfitted("colourful")
def colour(images: Tensor) -> Tensor:
    """Largest less smallest channel relative to the ink, (n, c, h, w) -> (n, 1); (n, 0) of grey images."""
    if images.shape[1] == 1:
        return images.new_zeros(len(images), 0)
    return ((images.amax(dim=1) - images.amin(dim=1)).sum(dim=(1, 2)) / _ink(images))[:, None]


@dataclass(frozen=True)
class Components:
    """Unlike the main components of real images (residual relative to the norm), and rare along them (Mahalanobis).

    mean: (d,). components: (d, k). variances: (k,).
    """

    mean: Tensor
    components: Tensor
    variances: Tensor

    @classmethod
    def fit(cls, real: Tensor) -> Components:
        """Principal components; exact where the covariance is small enough, else a randomised solver with a fixed seed."""
        from sklearn.decomposition import PCA

        flat = real.flatten(1)
        n, d = flat.shape
        k = max(1, min(COMPONENTS, n // 4, d - 1))
        pca = PCA(k, svd_solver="covariance_eigh" if d <= 1100 else "randomized", random_state=0).fit(flat.numpy())
        components = torch.tensor(pca.components_.T.copy(), dtype=torch.float32)
        variances = torch.tensor(pca.explained_variance_, dtype=torch.float32).clamp_min(1e-8)
        return cls(torch.tensor(pca.mean_, dtype=torch.float32), components, variances)

    def __call__(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, 2)."""
        flat = images.flatten(1)
        centred = flat - self.mean
        inside = centred @ self.components
        residual = (centred.square().sum(dim=1) - inside.square().sum(dim=1)).clamp_min(0).sqrt()
        return torch.stack([residual / _norm(images), (inside.square() / self.variances).sum(dim=1)], dim=1)


@dataclass(frozen=True)
class Neighbours:
    """Mean cosine distance to the nearest real images. real: (m, d), of unit length."""

    real: Tensor

    @classmethod
    def fit(cls, real: Tensor) -> Neighbours:
        """Keeps the images."""
        return cls(_unit(real.flatten(1)))

    def __call__(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, 1)."""
        cosine = _unit(images.flatten(1)) @ self.real.T
        return 1 - cosine.topk(min(NEIGHBOURS, cosine.shape[1]), dim=1).values.mean(dim=1, keepdim=True)


@dataclass(frozen=True)
class Mahalanobis:
    """Squared Mahalanobis distance of some features from those of real images. mean: (p,). whiten: (p, p)."""

    features: Values
    mean: Tensor
    whiten: Tensor

    @classmethod
    def of(cls, features: Values) -> Callable[[Tensor], Mahalanobis]:
        """A fit for `Score`."""

        def fit(real: Tensor) -> Mahalanobis:
            found = in_parts(features, real).double()
            mean = found.mean(dim=0)
            covariance = (found - mean).T @ (found - mean) / max(1, len(found) - 1)
            variance = covariance.diagonal()
            # few images leave directions without variance; a feature that never varied must not decide alone
            shrunk = 0.98 * covariance + torch.diag(0.02 * variance + 1e-3 * variance.mean() + 1e-9)
            values, vectors = torch.linalg.eigh(shrunk)
            return cls(features, mean.float(), (vectors / values.sqrt()).float())

        return fit

    def __call__(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, 1)."""
        return ((self.features(images) - self.mean) @ self.whiten).square().sum(dim=1, keepdim=True)


def spectrum(images: Tensor) -> Tensor:
    """Log of the mean power in rings of equal frequency, (n, c, h, w) -> (n, rings) (Field 1987)."""
    h, w = images.shape[2:]
    power: Tensor = torch.fft.rfft2(images, norm="ortho").abs().square().mean(dim=1)
    radius = (torch.fft.fftfreq(h)[:, None].square() + torch.fft.rfftfreq(w).square()).sqrt()
    rings = min(12, 1 + min(h, w) // 2)
    ring = F.one_hot((radius * 2 * (rings - 1)).round().long().clamp_max(rings - 1).flatten(), rings).float()
    return (power.flatten(1) @ (ring / ring.sum(dim=0).clamp_min(1)) + 1e-4).log()


def profiles(images: Tensor) -> Tensor:
    """Mean of each row and of each column, (n, c, h, w) -> (n, rows + columns), at most 16 of each."""
    grey = images.mean(dim=1)
    rows = F.adaptive_avg_pool2d(grey, (min(grey.shape[1], 16), 1))
    columns = F.adaptive_avg_pool2d(grey, (1, min(grey.shape[2], 16)))
    return torch.cat([rows.flatten(1), columns.flatten(1)], dim=1)


def pairs(images: Tensor) -> Tensor:
    """Square roots of the shares of adjacent values in each pair of five ranges, exact black the first, order ignored,
    (n, c, h, w) -> (n, 15): a grey-level co-occurrence (Haralick et al. 1973)."""
    k = len(LEVELS) + 1
    level = torch.bucketize(images, torch.tensor(LEVELS), right=True)
    pair = torch.cat(
        [(k * level[:, :, 1:] + level[:, :, :-1]).flatten(1), (k * level[..., 1:] + level[..., :-1]).flatten(1)], dim=1
    )
    shares = torch.zeros(len(images), k * k).scatter_add_(1, pair, torch.ones(()).expand_as(pair)) / pair.shape[1]
    square = shares.view(-1, k, k)
    row, column = torch.triu_indices(k, k)
    return (square + square.mT)[:, row, column].sqrt()


def contrasts(images: Tensor) -> Tensor:
    """Square roots of the shares of differences between adjacent values in each of seven ranges, (n, c, h, w) -> (n, 7)."""
    differences = torch.cat([images.diff(dim=2).abs().flatten(1), images.diff(dim=3).abs().flatten(1)], dim=1)
    above = [(differences >= step).float().mean(dim=1) for step in (0.0, *CONTRASTS)]
    shares = torch.stack([*above, torch.zeros(len(images))], dim=1)
    return (-shares.diff(dim=1)).clamp_min(0).sqrt()


def moments(images: Tensor) -> Tensor:
    """Centre, spread, slant and peakedness of the ink, (n, c, h, w) -> (n, 7). Black counts as a dot in the middle."""
    grey = images.mean(dim=1)
    weight = grey / grey.sum(dim=(1, 2), keepdim=True).clamp_min(1e-6)
    y = torch.linspace(-1, 1, grey.shape[1])[:, None]
    x = torch.linspace(-1, 1, grey.shape[2])[None, :]
    cy, cx = (weight * y).sum(dim=(1, 2)), (weight * x).sum(dim=(1, 2))
    dy, dx = y - cy[:, None, None], x - cx[:, None, None]
    yy, xx, yx, far = (
        (weight * of).sum(dim=(1, 2)) for of in (dy.square(), dx.square(), dy * dx, (dy.square() + dx.square()).square())
    )
    return torch.stack([cy, cx, yy.sqrt(), xx.sqrt(), yx, far.sqrt(), grey.mean(dim=(1, 2)).sqrt()], dim=1)


@dataclass(frozen=True)
class Patches:
    """Energy of small patches outside the main components of real patches, relative to all of it.

    kernels: (k, c, p, p), orthonormal. Their responses are the coordinates of every patch at once.
    """

    kernels: Tensor

    @classmethod
    def fit(cls, real: Tensor) -> Patches:
        """Components of the second moment of patches, so that black ones stay at the origin."""
        c, h, w = real.shape[1:]
        side, stride = min(PATCH, h, w), max(1, min(h, w) // 28)
        places = ((h - side) // stride + 1) * ((w - side) // stride + 1)
        some = real[: max(1, MAX_PATCHES // places)]
        patches = F.unfold(some, side, stride=stride).transpose(1, 2).flatten(0, 1).double()
        vectors = torch.linalg.eigh(patches.T @ patches).eigenvectors
        k = max(1, round(0.3 * c * side * side))
        return cls(vectors[:, -k:].T.reshape(k, c, side, side).float())

    def __call__(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, 1)."""
        side = self.kernels.shape[2]
        inside = F.conv2d(images, self.kernels).square().sum(dim=(1, 2, 3))
        energy = F.conv2d(images.square(), torch.ones(1, images.shape[1], side, side)).sum(dim=(1, 2, 3))
        return ((energy - inside).clamp_min(0) / energy.clamp_min(1e-3))[:, None]


@unfitted("lone bright", "lone dark")
def lone(images: Tensor) -> Tensor:
    """How far pixels rise above, or fall below, all four neighbours, relative to the ink, (n, c, h, w) -> (n, 2)."""
    around = F.pad(images, (1, 1, 1, 1))
    four = torch.stack([around[:, :, :-2, 1:-1], around[:, :, 2:, 1:-1], around[:, :, 1:-1, :-2], around[:, :, 1:-1, 2:]])
    outside = (images - four.amax(dim=0)).clamp_min(0), (four.amin(dim=0) - images).clamp_min(0)
    return torch.stack([each.sum(dim=(1, 2, 3)) for each in outside], dim=1) / _ink(images)[:, None]


def _ink(images: Tensor) -> Tensor:
    return images.sum(dim=(1, 2, 3)).clamp_min(1e-3)


def _norm(images: Tensor) -> Tensor:
    norm: Tensor = images.flatten(1).norm(dim=1)
    return norm.clamp_min(1e-3)


def _unit(flat: Tensor) -> Tensor:
    norm: Tensor = flat.norm(dim=1, keepdim=True)
    return flat / norm.clamp_min(1e-6)


def in_parts(values: Values, images: Tensor, numbers: int = 3_000_000) -> Tensor:
    """`values` of many images, a few at a time, so that memory does not grow with their number or size."""
    size = max(1, min(1000, numbers // images.shape[1:].numel()))
    return torch.cat([values(part) for part in torch.split(images, size)])


FIRST: tuple[Score, ...] = (
    amounts,
    Score(("unlike components", "rare components"), Components.fit),
    Score(("far neighbours",), Neighbours.fit),
    roughness,
    colour,
)
SECOND: tuple[Score, ...] = (
    Score(("spectrum",), Mahalanobis.of(spectrum)),
    Score(("patches",), Patches.fit),
    Score(("profiles",), Mahalanobis.of(profiles)),
    Score(("level pairs",), Mahalanobis.of(pairs)),
    Score(("contrasts",), Mahalanobis.of(contrasts)),
    Score(("moments",), Mahalanobis.of(moments)),
    lone,
)
