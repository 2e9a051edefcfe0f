"""Scores of how far an image is from real data: larger is further, and only their order matters.

`FIRST` looks at ink, main components, neighbours, roughness and colour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.types import Images, in_pieces

Values = Callable[[Tensor], Tensor]
"""From images (n, c, h, w) in [0, 1] to scores (n, s), larger = further, row by row, no NaN."""

NEIGHBOURS = 5
COMPONENTS = 50
FAINT = 1 / 16
"""A value from which a feature counts as lit, and in proportion below."""
SIDE = 64
"""Rows and columns that components and neighbours look at, at most."""


@dataclass(frozen=True)
class Score:
    """One or more scores that are fitted together.

    Args:
        names: one for each column of what `fit` returns.
        fit: from real images (n, c, h, w) in [0, 1] to the fitted `Values`. Those may have no
            columns at all for images they say nothing about, such as colours of grey images.
    """

    names: tuple[str, ...]
    fit: Callable[[Tensor], Values]


def unfitted(*names: str) -> Callable[[Values], Score]:
    """A score that needs no real images."""
    return lambda values: Score(names, lambda _real: values)


@unfitted("few lit", "many lit", "little ink")
def amounts(images: Tensor) -> Tensor:
    """How much is lit: (n, c, h, w) -> (n, 3). Values count in proportion up to `FAINT`.

    No score jumps at a value: where one did, real images that are a little darker than others would
    all be called out of distribution at once.
    """
    flat = images.flatten(1)
    lit = (flat / FAINT).clamp(max=1).sum(dim=1)
    return torch.stack([-lit, lit, -flat.sum(dim=1)], dim=1)


@unfitted("broken lines", "jagged")
def roughness(images: Tensor) -> Tensor:
    """Total variation by ink, root energy of the Laplacian by norm, (n, c, h, w) -> (n, 2)."""
    down, right = images.diff(dim=2), images.diff(dim=3)
    variation = down.abs().sum(dim=(1, 2, 3)) + right.abs().sum(dim=(1, 2, 3))
    # no step across the border
    laplacian = F.pad(down, (0, 0, 1, 1)).diff(dim=2) + F.pad(right, (1, 1)).diff(dim=3)
    energy = laplacian.flatten(1).norm(dim=1)
    return torch.stack([variation / ink(images), energy / _norm(images)], dim=1)


@unfitted("colourful")
def colour(images: Tensor) -> Tensor:
    """Largest less smallest channel by ink, (n, c, h, w) -> (n, 1); (n, 0) of grey images."""
    if images.shape[1] == 1:
        return images.new_zeros(len(images), 0)
    return ((images.amax(dim=1) - images.amin(dim=1)).sum(dim=(1, 2)) / ink(images))[:, None]


def reduced(images: Tensor) -> Tensor:
    """Means over rectangles: at most `SIDE` rows and columns, (n, c, h, w) -> (n, c, h', w'). With
    all features of a large image covariances cost too much and say little."""
    h, w = images.shape[2:]
    area = (-(-h // SIDE), -(-w // SIDE))
    if area == (1, 1):
        return images
    return F.avg_pool2d(images, area, ceil_mode=True, count_include_pad=False)


def components(real: Tensor) -> Values:
    """How unlike the main components of real images (residual relative to the norm), and how rare
    along them (Mahalanobis), of `reduced` images.

    Exact where the covariance is small enough, else by a randomised solver with a fixed seed.
    """
    from sklearn.decomposition import PCA

    flat = reduced(real).flatten(1)
    n, d = flat.shape
    solver = "covariance_eigh" if d <= 1100 else "randomized"
    pca = PCA(max(1, min(COMPONENTS, n // 4, d - 1)), svd_solver=solver, random_state=0)
    pca.fit(flat.numpy())
    mean = torch.tensor(pca.mean_, dtype=torch.float32)
    directions = torch.tensor(pca.components_.T.copy(), dtype=torch.float32)
    variances = torch.tensor(pca.explained_variance_, dtype=torch.float32).clamp_min(1e-8)

    def values(images: Tensor) -> Tensor:
        images = reduced(images)
        centred = images.flatten(1) - mean
        inside = centred @ directions
        residual = (centred.square().sum(dim=1) - inside.square().sum(dim=1)).clamp_min(0).sqrt()
        rare = (inside.square() / variances).sum(dim=1)
        return torch.stack([residual / _norm(images), rare], dim=1)

    return values


class Neighbours:
    """Mean cosine distance to the nearest real images, of `reduced` images."""

    def __init__(self, real: Tensor) -> None:
        self.real = _unit(reduced(real).flatten(1))

    def __call__(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, 1)."""
        cosine = _unit(reduced(images).flatten(1)) @ self.real.T
        nearest = cosine.topk(min(NEIGHBOURS, cosine.shape[1]), dim=1).values
        return 1 - nearest.mean(dim=1, keepdim=True)


def mahalanobis(features: Values) -> Callable[[Tensor], Values]:
    """A fit: the squared Mahalanobis distance of features (n, p) from those of real images."""

    def fit(real: Tensor) -> Values:
        found = in_parts(features, real).double()
        mean = found.mean(dim=0)
        covariance = (found - mean).T @ (found - mean) / max(1, len(found) - 1)
        variance = covariance.diagonal()
        # few images leave directions without variance, which must not decide alone
        shrunk = 0.98 * covariance + torch.diag(0.02 * variance + 1e-3 * variance.mean() + 1e-9)
        eigenvalues, vectors = torch.linalg.eigh(shrunk)
        whiten, centre = (vectors / eigenvalues.sqrt()).float(), mean.float()
        return lambda images: (
            ((features(images) - centre) @ whiten).square().sum(dim=1, keepdim=True)
        )

    return fit


def features(network: Values, name: str = "features") -> Score:
    """How unusual a network's outputs are, by Mahalanobis distance from those on real images (Lee
    et al. 2018, arXiv:1807.03888, without classes).

    Args:
        network: from images (n, c, h, w) to (n, m), on the CPU; a twin, say, and never the audited
            network, against which the images were made.
        name: of the score.
    """

    @torch.no_grad()
    def outputs(images: Tensor) -> Tensor:
        return network(images).float()

    return Score((name,), mahalanobis(outputs))


def ink(images: Tensor) -> Tensor:
    """Sum of the values of each image, not quite 0 for black ones, (n, c, h, w) -> (n,)."""
    return images.sum(dim=(1, 2, 3)).clamp_min(1e-3)


def _norm(images: Tensor) -> Tensor:
    norm: Tensor = images.flatten(1).norm(dim=1)
    return norm.clamp_min(1e-3)


def _unit(flat: Tensor) -> Tensor:
    norm: Tensor = flat.norm(dim=1, keepdim=True)
    return flat / norm.clamp_min(1e-6)


def in_parts(
    values: Values, images: Images, index: Tensor | None = None, numbers: int = 3_000_000
) -> Tensor:
    """`values` of images, a few at a time to save memory. index: positions (k,), all if None."""
    size = max(1, min(1000, numbers // images.shape[1:].numel()))
    if index is None:
        parts = in_pieces(images, size)
    else:
        parts = (images[part] for part in torch.split(index, size))
    return torch.cat([values(part.detach().cpu().float()) for part in parts])


FIRST: tuple[Score, ...] = (
    amounts,
    Score(("unlike components", "rare components"), components),
    Score(("far neighbours",), Neighbours),
    roughness,
    colour,
)
