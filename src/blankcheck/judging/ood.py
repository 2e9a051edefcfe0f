"""An out-of-distribution test with a guaranteed false-alarm rate, fitted without the audited network.

Eight simple scores, each turned into a tail probability by its rank among real images the scores were not fitted on;
the smallest of the eight is the statistic; its rank among further real images is the p-value. That last step is split
conformal prediction (Vovk et al. 2005; Bates et al. 2023, arXiv:2104.08279, section 2): for a real image exchangeable with
the calibration images, P(p <= a) <= a whatever the scores are, without Bonferroni's loss for correlated scores.
Scores taken from the audited network would be circular: the images were optimised against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.errors import DataError

NEIGHBOURS = 5
MAX_FIT = 5000
MAX_FIT_NUMBERS = 40_000_000


@dataclass(frozen=True)
class _Scores:
    """Eight scores, larger = further from real data: few lit, many lit, little ink, few bright pixels, unlike the main
    components, far from its neighbours, broken lines, rare along the main components. components: (d, k).
    neighbours: (m, d), of unit length."""

    mean: Tensor
    components: Tensor
    variances: Tensor
    neighbours: Tensor

    @classmethod
    def fit(cls, images: Tensor, most: int) -> _Scores:
        from sklearn.decomposition import PCA

        flat = images.flatten(1)
        n = min(len(flat), most, max(50, MAX_FIT_NUMBERS // flat.shape[1]))
        flat = flat[:n]
        k = max(1, min(50, n // 4, flat.shape[1] - 1))
        # exact where the covariance is small enough, else the randomised solver with a fixed seed
        pca = PCA(k, svd_solver="covariance_eigh" if flat.shape[1] <= 1100 else "randomized", random_state=0)
        pca.fit(flat.numpy())
        components = torch.tensor(pca.components_.T.copy(), dtype=torch.float32)
        variances = torch.tensor(pca.explained_variance_, dtype=torch.float32).clamp_min(1e-8)
        return cls(torch.tensor(pca.mean_, dtype=torch.float32), components, variances, _unit(flat))

    def __call__(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, 8)."""
        flat = images.flatten(1)
        lit = (flat > 0).sum(dim=1).float()
        ink = flat.sum(dim=1)
        centred = flat - self.mean
        inside = centred @ self.components
        residual = (centred.square().sum(dim=1) - inside.square().sum(dim=1)).clamp_min(0).sqrt()
        cosine = _unit(flat) @ self.neighbours.T
        near = cosine.topk(min(NEIGHBOURS, cosine.shape[1]), dim=1).values.mean(dim=1)
        steps = (images.diff(dim=2).abs().sum(dim=(1, 2, 3))) + (images.diff(dim=3).abs().sum(dim=(1, 2, 3)))
        scores: Tensor = torch.stack(
            [
                -lit,
                lit,
                -ink,
                -(flat > 0.5).sum(dim=1).float(),
                residual / flat.norm(dim=1).clamp_min(1e-3),
                1 - near,
                steps / ink.clamp_min(1e-3),
                (inside.square() / self.variances).sum(dim=1),
            ],
            dim=1,
        )
        return scores


def _unit(flat: Tensor) -> Tensor:
    unit: Tensor = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return unit


def check_size(n: int, level: float) -> None:
    """DataError when `n` real images are too few for a p-value to reach `level`: with s of them to calibrate, the smallest
    possible p-value is 1/(s + 1)."""
    calibrating = min(n - int(0.6 * n), 2 * MAX_FIT)
    if calibrating < math.ceil(1 / level) - 1 or int(0.6 * n) - int(0.4 * n) < 10:
        needed = max(50, math.ceil((math.ceil(1 / level) - 1) / 0.4))
        raise DataError(
            f"ood_level {level:g} needs at least {needed} real images to calibrate the out-of-distribution test, got {n}; "
            "give more data or a larger ood_level"
        )


@dataclass(frozen=True)
class OODTest:
    """A fitted and calibrated test. Comes ready out of `fit`.

    ranked: (8, r) the scores of real images, sorted. spread: (8,) how fast each tail falls. calibration: (s,) the
    statistic of further real images, sorted.
    """

    scores: _Scores
    ranked: Tensor
    spread: Tensor
    calibration: Tensor
    level: float

    @classmethod
    def fit(cls, images: Tensor, level: float, seed: int = 0, most: int = MAX_FIT) -> OODTest:
        """Fit and calibrate on real images (n, c, h, w) in [0, 1]: 40 % fit the scores, 20 % rank them, 40 % calibrate; at
        most `most` images fit the scores.

        Raises DataError when there are too few images for a p-value to reach `level`: the smallest possible p-value is
        1/(calibration images + 1).
        """
        check_size(len(images), level)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        a, b = int(0.4 * len(images)), int(0.6 * len(images))
        calibrate = order[b:][: 2 * MAX_FIT]
        scores = _Scores.fit(images[order[:a]], most)
        ranked = _in_parts(scores, images[order[a:b][:MAX_FIT]]).T.sort(dim=1).values.contiguous()
        top = ranked[:, int(0.9 * ranked.shape[1]) :]
        spread = (top.mean(dim=1) - top[:, 0]).clamp_min(1e-6)
        unfinished = cls(scores, ranked, spread, torch.zeros(0), level)
        statistic = unfinished.tails(images[calibrate]).amax(dim=1)
        return cls(scores, ranked, spread, statistic.sort().values, level)

    @property
    def smallest_p(self) -> float:
        """The p-value of an image more unusual than every calibration image."""
        return 1 / (len(self.calibration) + 1)

    def tails(self, images: Tensor) -> Tensor:
        """-log tail probability under each score, (n, c, h, w) -> (n, 8). Beyond the largest ranked score an exponential
        tail goes on, so that equal ranks are told apart even when few images were ranked."""
        values = _in_parts(self.scores, images).T.contiguous()
        above = self.ranked.shape[1] - torch.searchsorted(self.ranked, values)
        beyond = ((values - self.ranked[:, -1:]) / self.spread[:, None]).clamp_min(0)
        return (-((1 + above) / (self.ranked.shape[1] + 1)).log() + beyond).T

    def p_values(self, images: Tensor) -> Tensor:
        """p-value of each image under "real data looks like this", (n, c, h, w) on any device -> (n,) on the CPU."""
        if len(images) == 0:
            return torch.zeros(0)
        statistic = self.tails(images.detach().cpu().float()).amax(dim=1)
        above = len(self.calibration) - torch.searchsorted(self.calibration, statistic)
        return (1 + above).float() / (len(self.calibration) + 1)

    def accepts(self, images: Tensor) -> Tensor:
        """True where the image is out of distribution, (n, c, h, w) -> (n,) bool on the device of the images."""
        return (self.p_values(images) <= self.level).to(images.device)


def _in_parts(scores: _Scores, images: Tensor, size: int = 1000) -> Tensor:
    return torch.cat([scores(part) for part in torch.split(images, size)])
