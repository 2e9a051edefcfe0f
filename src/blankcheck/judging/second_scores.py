"""A second family of scores of how far an image is from real data, built on other ideas.

`SECOND` looks at frequencies, patches, profiles, adjacent values, moments and lone pixels. Nothing
is trained against it, so it tells whether a hardened network has learnt about images that are not
real or about the scores of `FIRST`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.judging.scores import Score, Values, ink, mahalanobis, unfitted

PATCH = 5
MAX_PATCHES = 100_000
LEVELS = (0.0, 1 / 8, 3 / 8, 5 / 8, 7 / 8)
RARE = 1e-3
CONTRASTS = (0.0, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)


def spectrum(images: Tensor) -> Tensor:
    """Log mean power in rings of equal frequency (Field 1987), (n, c, h, w) -> (n, rings)."""
    h, w = images.shape[2:]
    power: Tensor = torch.fft.rfft2(images, norm="ortho").abs().square().mean(dim=1)
    radius = (torch.fft.fftfreq(h)[:, None].square() + torch.fft.rfftfreq(w).square()).sqrt()
    rings = min(12, 1 + min(h, w) // 2)
    number = (radius * 2 * (rings - 1)).round().long().clamp_max(rings - 1)
    ring = F.one_hot(number.flatten(), rings).float()
    return (power.flatten(1) @ (ring / ring.sum(dim=0).clamp_min(1)) + 1e-4).log()


def profiles(images: Tensor) -> Tensor:
    """Mean of each row and each column, at most 16 of each, (n, c, h, w) -> (n, rows + columns)."""
    grey = images.mean(dim=1)
    rows = F.adaptive_avg_pool2d(grey, (min(grey.shape[1], 16), 1))
    columns = F.adaptive_avg_pool2d(grey, (1, min(grey.shape[2], 16)))
    return torch.cat([rows.flatten(1), columns.flatten(1)], dim=1)


def nearness(values: Tensor, knots: Sequence[float]) -> list[Tensor]:
    """How much each value belongs to each knot: all at the knot, none at the next, linear.

    The parts of a value sum to 1; beyond the last knot all belongs to that. A value that moves a
    little moves these a little, as a histogram with borders does not.
    """
    share = [((values - low) / (high - low)).clamp(0, 1) for low, high in pairwise(knots)]
    whole = torch.ones_like(values)
    falling = [*(1 - s for s in share), whole]
    return [up * down for up, down in zip([whole, *share], falling, strict=True)]


def pairs(images: Tensor) -> Tensor:
    """Square roots of the shares of adjacent values near each pair of five levels, order ignored,
    (n, c, h, w) -> (n, 15): a grey-level co-occurrence (Haralick et al. 1973)."""
    level = torch.stack(nearness(images, LEVELS), dim=1)
    down = torch.bmm(level[..., 1:, :].flatten(2), level[..., :-1, :].flatten(2).mT)
    right = torch.bmm(level[..., 1:].flatten(2), level[..., :-1].flatten(2).mT)
    square = (down + right) / (down + right).sum(dim=(1, 2), keepdim=True)
    row, column = torch.triu_indices(len(LEVELS), len(LEVELS))
    return _root((square + square.mT)[:, row, column])


def contrasts(images: Tensor) -> Tensor:
    """As `pairs`, of sizes of adjacent differences near seven knots, (n, c, h, w) -> (n, 7)."""
    apart = torch.cat([images.diff(dim=dim).abs().flatten(1) for dim in (2, 3)], dim=1)
    return _root(torch.stack([part.mean(dim=1) for part in nearness(apart, CONTRASTS)], dim=1))


def _root(shares: Tensor) -> Tensor:
    """Square roots spread small shares as much as large ones; not infinitely steep at 0."""
    return (shares + RARE).sqrt()


def moments(images: Tensor) -> Tensor:
    """Centre, spread, slant and peakedness of the ink, (n, c, h, w) -> (n, 7).

    Black counts as a dot in the middle.
    """
    grey = images.mean(dim=1)
    weight = grey / grey.sum(dim=(1, 2), keepdim=True).clamp_min(1e-6)
    y = torch.linspace(-1, 1, grey.shape[1])[:, None]
    x = torch.linspace(-1, 1, grey.shape[2])[None, :]
    cy, cx = (weight * y).sum(dim=(1, 2)), (weight * x).sum(dim=(1, 2))
    dy, dx = y - cy[:, None, None], x - cx[:, None, None]
    squares = dy.square(), dx.square(), dy * dx, (dy.square() + dx.square()).square()
    yy, xx, yx, far = ((weight * each).sum(dim=(1, 2)) for each in squares)
    spread = yy.sqrt(), xx.sqrt(), yx, far.sqrt()
    return torch.stack([cy, cx, *spread, grey.mean(dim=(1, 2)).sqrt()], dim=1)


def patches(real: Tensor) -> Values:
    """Energy of small patches outside the main components of real patches, relative to all of it.

    Components of the second moment, so that black patches stay at the origin.
    """
    c, h, w = real.shape[1:]
    side, stride = min(PATCH, h, w), max(1, min(h, w) // 28)
    places = ((h - side) // stride + 1) * ((w - side) // stride + 1)
    some = real[: max(1, MAX_PATCHES // places)]
    found = F.unfold(some, side, stride=stride).transpose(1, 2).flatten(0, 1).double()
    vectors = torch.linalg.eigh(found.T @ found).eigenvectors
    k = max(1, round(0.3 * c * side * side))
    # orthonormal, so that their responses are the coordinates of every patch at once
    kernels = vectors[:, -k:].T.reshape(k, c, side, side).float()

    def values(images: Tensor) -> Tensor:
        inside = F.conv2d(images, kernels).square().sum(dim=(1, 2, 3))
        everywhere = torch.ones(1, images.shape[1], side, side)
        energy = F.conv2d(images.square(), everywhere).sum(dim=(1, 2, 3))
        return ((energy - inside).clamp_min(0) / energy.clamp_min(1e-3))[:, None]

    return values


@unfitted("lone bright", "lone dark")
def lone(images: Tensor) -> Tensor:
    """How far pixels rise above, or fall below, all four neighbours, (n, c, h, w) -> (n, 2)."""
    around = F.pad(images, (1, 1, 1, 1))
    above, below = around[:, :, :-2, 1:-1], around[:, :, 2:, 1:-1]
    four = torch.stack([above, below, around[:, :, 1:-1, :-2], around[:, :, 1:-1, 2:]])
    outside = (images - four.amax(dim=0)).clamp_min(0), (four.amin(dim=0) - images).clamp_min(0)
    return torch.stack([each.sum(dim=(1, 2, 3)) for each in outside], dim=1) / ink(images)[:, None]


SECOND: tuple[Score, ...] = (
    Score(("spectrum",), mahalanobis(spectrum)),
    Score(("patches",), patches),
    Score(("profiles",), mahalanobis(profiles)),
    Score(("level pairs",), mahalanobis(pairs)),
    Score(("contrasts",), mahalanobis(contrasts)),
    Score(("moments",), mahalanobis(moments)),
    lone,
)
