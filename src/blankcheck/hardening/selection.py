"""Which round's network to keep."""

from __future__ import annotations

from collections.abc import Sequence


def harmonic(real: float, adversarial: float) -> float:
    """2 / (1/A_real + 1/A_adv): high only when both accuracies are; 0 when either is."""
    return 0.0 if min(real, adversarial) <= 0 else 2 / (1 / real + 1 / adversarial)


def best_round(scores: Sequence[float]) -> int:
    """The index of the best score; among equals the latest, which has trained longest."""
    return max(range(len(scores)), key=lambda i: (scores[i], i))
