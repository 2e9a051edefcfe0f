"""Conformal p-values: what is guaranteed of the rank of a statistic among those of real images."""

from __future__ import annotations

import torch
from torch import Tensor

CERTAINTY = 0.95
CONDITIONAL, MARGINAL = f"calibration-conditional, {100 * CERTAINTY:.0f} %", "marginal"


def carries(calibrating: int, level: float) -> bool:
    """Whether so many different calibration images carry the conditional guarantee at a level: 299
    at 0.01, 2,995 at 0.001."""
    # the smallest p-value is the 95 % quantile of Beta(1, n)
    return bool(1 - (1 - CERTAINTY) ** (1 / max(1, calibrating)) <= level)


def conformal_p_values(n: int, level: float) -> tuple[Tensor, str]:
    """The p-value of an image whose statistic is reached by 0, 1, ..., n of n calibration images,
    (n + 1,), increasing, and what it guarantees.

    The share of real images whose statistic exceeds the r-th largest of n has the distribution
    Beta(r, n + 1 - r), or less with ties. The 95 % quantile of that is the conditional p-value of
    an image reached by r - 1. It bounds the false-alarm rate at a level fixed in advance, not at
    all at once. Where even the smallest cannot reach `level`, they are the marginal r/(n + 1).
    """
    from scipy.stats import beta

    rank = torch.arange(1, n + 2, dtype=torch.float64)
    if not carries(n, level):
        return (rank / (n + 1)).float(), MARGINAL
    reached = torch.from_numpy(beta.ppf(CERTAINTY, rank[:-1].numpy(), (n + 1 - rank[:-1]).numpy()))
    return torch.cat([reached, torch.ones(1)]).float(), CONDITIONAL
