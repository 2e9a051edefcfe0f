"""Scores of how far an image is from real data: larger is further, and only their order matters.

What families of them are made of: `shape.py` has those that judge, `odd.py` one that only reports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.types import Images, in_pieces

Values = Callable[[Tensor], Tensor]
"""From images (n, c, h, w) in [0, 1] to scores (n, s), larger = further, row by row, no NaN."""

NEIGHBOURS = 5
BOUND_BY = 10
"""Of so many real images one is looked at where a bound will do."""
COMPONENTS = 50


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


def components(seen: Values, rare: bool = True) -> Callable[[Tensor], Values]:
    """A fit: how unlike the main components of what is seen of real images (residual), and how rare
    along them (Mahalanobis).

    Args:
        seen: from images to rows (n, d), of about unit norm.
        rare: whether the second is wanted.

    Exact where the covariance is small enough, else by a randomised solver with a fixed seed.
    """

    def fit(real: Tensor) -> Values:
        from sklearn.decomposition import PCA

        flat = in_parts(seen, real)
        n, d = flat.shape
        solver = "covariance_eigh" if d <= 1100 else "randomized"
        pca = PCA(max(1, min(COMPONENTS, n // 4, d - 1)), svd_solver=solver, random_state=0)
        pca.fit(flat.numpy())
        mean = torch.tensor(pca.mean_, dtype=torch.float32)
        directions = torch.tensor(pca.components_.T.copy(), dtype=torch.float32)
        variances = torch.tensor(pca.explained_variance_, dtype=torch.float32).clamp_min(1e-8)

        def values(images: Tensor) -> Tensor:
            centred = seen(images) - mean
            inside = centred @ directions
            # not as a difference of squares, whose last bits depend on the batch
            residual: Tensor = (centred - inside @ directions.T).norm(dim=1)
            if not rare:
                return residual[:, None]
            return torch.stack([residual, (inside.square() / variances).sum(dim=1)], dim=1)

        return values

    return fit


@dataclass(frozen=True)
class Neighbours:
    """Mean cosine distance to the nearest real images.

    Args:
        seen: from images to rows (n, d) of unit norm.
        known: the rows (m, d) of real images.
    """

    seen: Values
    known: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """(n, 1) the distances."""
        return self._distance(images, self.known)

    def bound(self, images: Tensor) -> Tensor:
        """(n, 1) what the distances do not exceed: those to the nearest of a few real images."""
        return self._distance(images, self.known[::BOUND_BY])

    def _distance(self, images: Tensor, known: Tensor) -> Tensor:
        cosine = self.seen(images) @ known.T
        nearest = cosine.topk(min(NEIGHBOURS, cosine.shape[1]), dim=1).values
        return 1 - nearest.mean(dim=1, keepdim=True)


def neighbours(seen: Values) -> Callable[[Tensor], Values]:
    """A fit of `Neighbours`. seen: from images to rows (n, d) of unit norm."""
    return lambda real: Neighbours(seen, in_parts(seen, real))


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


def unit(flat: Tensor) -> Tensor:
    """Rows (n, d) divided by their norms; rows of zeros stay."""
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
