"""Which round's network to keep."""

from __future__ import annotations

from collections.abc import Sequence


def harmonic(real: float, adversarial: float) -> float:
    """2 / (1/A_real + 1/A_adv): high only when both accuracies are; 0 when either is."""
    return 0.0 if min(real, adversarial) <= 0 else 2 / (1 / real + 1 / adversarial)


TOLERANCE = 0.1
"""Scores closer than this are equal: fifty fresh attempts estimate a rate no better (two standard errors at 10 %)."""


def best_round(scores: Sequence[float]) -> int:
    """The index of the latest score that is as good as the best: among equals, who trained longest."""
    best = max(scores)
    return max(i for i, score in enumerate(scores) if score >= best - TOLERANCE)
