"""Which round's network to keep, and when to end."""

from __future__ import annotations

from collections.abc import Sequence

TOLERANCE = 0.1
"""Scores closer than this are equal: fifty fresh attempts estimate a rate no better (two standard
errors at 10 %)."""
SURER = 0.005
"""Difference between shares of real images that are right and confident that is worth noticing."""


def harmonic(real: float, adversarial: Sequence[float]) -> float:
    """H of 2/H = 1/A_real + mean over sets of 1/A_adv: high only when every accuracy is; 0 when one
    is. The accuracy on real images alone where there is no adversarial set."""
    if min([real, *adversarial]) <= 0:
        return 0.0
    if not adversarial:
        return real
    return 2 / (1 / real + sum(1 / a for a in adversarial) / len(adversarial))


def takes_over(new: float, kept: float, surer: float, proved: int = 0) -> bool:
    """Whether a network of a later round with score `new` replaces the kept one, both scored on the
    same sets. surer: by how much its share of real images that are right and confident is larger.
    proved: by how much the number of lit features is larger that are proved too few of it; a proof
    that was asked for comes first.

    Among equals the one that trained longer is kept. Being timid is not being robust, and in the
    middle of a learning-rate schedule networks are timid, which the score takes for robust: a
    network that is clearly surer of real images needs only half the score, and one that is clearly
    less sure never takes over.
    """
    if proved != 0:
        return proved > 0
    if surer < -2 * SURER:
        return False
    return new >= (kept / 2 if surer > SURER else kept - TOLERANCE)


def plateau(scores: Sequence[float], patience: int | None) -> bool:
    """Whether the last `patience` rounds brought no score better than the best before them."""
    if patience is None or len(scores) <= patience:
        return False
    return max(scores[-patience:]) <= max(scores[:-patience])
