"""What a hardening remembers of its rounds, which network it keeps, and when it has had enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

Record = dict[str, Any]
TOLERANCE = 0.1
"""Closer scores are equal: two standard errors of fifty fresh attempts at a rate of 10 %."""
SURER = 0.005
"""Difference between shares of real images that are right and confident that is worth noticing."""


@dataclass(frozen=True)
class Round:
    """What a round ended with; `docs/metrics.md` says what each field means. All shares lie in
    [0, 1], and those called fresh are of the attempts that ended the round."""

    index: int
    epochs: int
    real_loss: float
    fooling_loss: float
    trained_share: float
    fooling_confidence: float
    validation_accuracy: float
    validation_confident: float
    fresh_attempts: int
    fresh_rate: float
    fresh_upper_95: float
    fresh_confident: float
    fresh_fewest: int | None
    harmonic: float
    kept: bool
    penalty: float | None = field(compare=False)  # of each process, which need not round alike
    proved: int | None
    forward: int
    backward: int
    images: int
    training_seconds: float = field(default=0.0, compare=False)
    looking_seconds: float = field(default=0.0, compare=False)

    def metrics(self) -> Record:
        """The record for `metrics.jsonl`."""
        speed = self.images / self.training_seconds if self.training_seconds else None
        return {"kind": "round", **asdict(self), "images_per_second": speed}


@dataclass
class Kept:
    """The best network so far.

    Args:
        network: its parameters and buffers.
        index: of its round.
        real: share of real images that it has right.
        confident: share of those that it is right about and sure of.
        handled: its accuracy on each set of fooling images so far.
        proved: lit features proved too few of it, where a proof is asked for.
        asked: how much of that proof its training had asked for, in [0, 1].
    """

    network: dict[str, Tensor]
    index: int
    real: float
    confident: float
    handled: list[float]
    proved: int | None
    asked: float

    @property
    def score(self) -> float:
        """The harmonic mean."""
        return harmonic(self.real, self.handled)


def harmonic(real: float, adversarial: Sequence[float]) -> float:
    """H of 2/H = 1/A_real + mean over sets of 1/A_adv: 0 when one is 0; A_real without sets."""
    if min([real, *adversarial]) <= 0:
        return 0.0
    if not adversarial:
        return real
    return 2 / (1 / real + sum(1 / a for a in adversarial) / len(adversarial))


def takes_over(new: float, kept: float, surer: float, proved: int = 0) -> bool:
    """Whether the network of a later round replaces the kept one.

    Among equals the one that trained longer is kept. In the middle of a learning-rate schedule
    networks are underconfident, which the score takes for robust: a network clearly surer of real
    images needs only half the score, and one that is clearly less sure never takes over.

    Args:
        new: score of the later network.
        kept: score of the kept one, on the same sets.
        surer: how much larger its share of real images is that are right and confident.
        proved: how many more lit features are proved too few of it; a proof comes first.
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
