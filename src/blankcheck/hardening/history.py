"""What a hardening remembers of its rounds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from blankcheck.hardening.selection import harmonic

Record = dict[str, Any]


@dataclass(frozen=True)
class Round:
    """What a round ended with. All shares in [0, 1], on validation images and on fresh attempts.

    fresh_confident: share of fresh attempts with a confident image of at most `max_lit` lit
    features; fresh_rate: those the gate calls out of distribution too, fresh_upper_95 its upper
    bound. trained_share: share of the searched images that were trained on. fooling_confidence:
    mean probability of their targets. harmonic: the score of this network on all sets so far. kept:
    whether it became the one to keep. penalty: mean of what was added to the loss for what
    is not proved, and proved: lit features proved too few for every class; None where no proof is
    asked for. seconds: of training and of looking; images: real and fooling ones trained on.
    """

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
    training_seconds: float = field(compare=False)
    looking_seconds: float = field(compare=False)

    def metrics(self) -> Record:
        """The record for `metrics.jsonl`."""
        speed = self.images / self.training_seconds if self.training_seconds else None
        return {"kind": "round", **asdict(self), "images_per_second": speed}


@dataclass
class Kept:
    """The best network so far: its parameters and buffers, the share of real images that it has
    right (`real`), and is sure of as well (`confident`), and its accuracy on every set so far.
    proved: lit features proved too few of it, where a proof is asked for; asked: how much of that
    proof its training had asked for, in [0, 1]."""

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
