"""Which round's network to keep, and when to end."""

from __future__ import annotations

from collections.abc import Sequence

TOLERANCE = 0.05
"""Scores closer than this are equal: fifty fresh attempts estimate a rate no better."""


def harmonic(real: float, adversarial: Sequence[float]) -> float:
    """H of 2/H = 1/A_real + mean over sets of 1/A_adv: high only when every accuracy is; 0 when one is. The accuracy on
    real images alone where there is no adversarial set."""
    if min([real, *adversarial]) <= 0:
        return 0.0
    if not adversarial:
        return real
    return 2 / (1 / real + sum(1 / a for a in adversarial) / len(adversarial))


def takes_over(new: float, kept: float) -> bool:
    """Whether a network of a later round with score `new` replaces the kept one, both scored on the same sets: among
    equals, the one that trained longer is kept."""
    return new >= kept - TOLERANCE


def plateau(scores: Sequence[float], patience: int | None) -> bool:
    """Whether the last `patience` rounds brought no score better than the best before them."""
    if patience is None or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])
