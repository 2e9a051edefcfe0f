"""A certificate as plain numbers, and what no certificate can say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch

from blankcheck.certifying.hull import UNITS
from blankcheck.certifying.reading import MOST_FEATURES, check_shape
from blankcheck.errors import ArgumentError

MOST_STEPS = 1000
"""Of optimising the relaxation."""
NO_BOUND = torch.finfo(torch.float64).max
"""What stands for a bound where nothing is proved, since files hold no infinity."""
CERTIFIED, GATE_CERTIFIED = "certified", "gate-certified"


@dataclass(frozen=True)
class Level:
    """What is proved of all images with at most k lit features. log_odds: an upper bound for each
    class, rounding of float32 included, `NO_BOUND` where nothing is proved. slack: the part of it
    that covers rounding."""

    k: int
    log_odds: tuple[float, ...]
    slack: tuple[float, ...]


@dataclass(frozen=True)
class Certificate:
    """No image in [0, 1]^shape with at most k lit features is given the class with probability
    `confidence` or more.

    k: for each real class the largest number that was proved, up to all features; None where not
    even the black image is shown to be unsure. levels: every number of lit features that was looked
    at, in order. outputs: of the network, among all of which probabilities are. unit: what k
    counts. fingerprint: of the network. means: `certified` where the proof is one of the network
    itself, `gate-certified` where it is one of the gate around it.

    Covered: the network in evaluation mode, computed in float32 by sums of products in any order,
    fused or not, numbers too small for float32 kept or set to 0, and images of float32 numbers. Not
    covered: reduced precision (TF32, bfloat16), convolutions by Winograd or Fourier transforms, and
    code that torch.export does not record and that answers as recorded on the images of
    `agreement`.

    Raises ArgumentError with one line for numbers that no certificate can have.
    """

    confidence: float
    unit: str
    shape: tuple[int, int, int]
    outputs: int
    k: tuple[int | None, ...]
    levels: tuple[Level, ...]
    fingerprint: str
    settings: dict[str, Any]
    seconds: float
    means: str = CERTIFIED

    def __post_init__(self) -> None:
        wrong = _wrong(self)
        if wrong is not None:
            raise ArgumentError(f"certificate is not one that blankcheck wrote: {wrong}")

    @property
    def smallest(self) -> int | None:
        """The k that holds for every class."""
        known = [k for k in self.k if k is not None]
        return min(known) if len(known) == len(self.k) else None

    def probability(self, k: int) -> tuple[float | None, ...]:
        """For each class the smallest bound of its probability that was proved for images with at
        most k lit features."""
        above = [level.log_odds for level in self.levels if level.k >= k]
        return tuple(
            _probability(min(bounds)) if bounds else None for bounds in _columns(above, len(self.k))
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a file. `probability` are the bounds at each class's own k."""
        own = [None if k is None else self.probability(k)[t] for t, k in enumerate(self.k)]
        return {"schema": 1, **asdict(self), "smallest": self.smallest, "probability": own}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Certificate:
        """What `as_json` gave. Raises ArgumentError for anything else."""
        try:
            names = [
                name for name in cls.__dataclass_fields__ if name not in ("shape", "k", "levels")
            ]
            c, h, w = record["shape"]
            levels = tuple(
                Level(row["k"], tuple(row["log_odds"]), tuple(row["slack"]))
                for row in record["levels"]
            )
            return cls(
                shape=(c, h, w),
                k=tuple(record["k"]),
                levels=levels,
                **{name: record[name] for name in names},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            brief = " ".join(str(error).split())[:200]
            raise ArgumentError(f"certificate is not one that blankcheck wrote: {brief}") from error


def _wrong(made: Any) -> str | None:
    """What is wrong with a certificate; None where nothing is."""
    if made.unit not in UNITS or made.means not in (CERTIFIED, GATE_CERTIFIED):
        return f"unit or means is unknown, got {str(made.unit)[:40]!r} and {str(made.means)[:40]!r}"
    if not isinstance(made.fingerprint, str) or not isinstance(made.settings, Mapping):
        return "fingerprint must be a text and settings an object"
    if not _count(made.settings.get("slope_steps"), 0, MOST_STEPS):
        return f"slope_steps must lie in 0..{MOST_STEPS}"
    if not _number(made.confidence) or not 0 < made.confidence < 1 or not _number(made.seconds):
        return "confidence must lie in (0, 1) and seconds be a number"
    c, h, w = check_shape(made.shape)
    most, classes = h * w * (1 if made.unit == "pixels" else c), len(made.k)
    if not _count(made.outputs, 2, MOST_FEATURES) or not 1 <= classes <= made.outputs:
        return f"k must have an entry for each class and at most one for each output, got {classes}"
    if not all(k is None or _count(k, 0, most) for k in made.k) or not all(
        _count(row.k, 0, most) for row in made.levels
    ):
        return f"k must lie in 0..{most}, or be null"
    if any(a.k >= b.k for a, b in pairwise(made.levels)):
        return "levels must be in order, each once"
    rows = [row for level in made.levels for row in (level.log_odds, level.slack)]
    if not all(len(row) == classes and all(map(_number, row)) for row in rows):
        return "levels must have a number for each class"
    return None


def check_steps(steps: int) -> None:
    """Raises ArgumentError for a number of optimising steps that is not looked at."""
    if not _count(steps, 0, MOST_STEPS):
        raise ArgumentError(f"slope_steps must lie in 0..{MOST_STEPS}, got {steps}")


def _count(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= NO_BOUND


def _probability(log_odds: float) -> float:
    # beyond 700 an exponential leaves float64
    return 1 / (1 + math.exp(min(-log_odds, 700.0)))


def _columns(rows: Sequence[Sequence[float]], n: int) -> list[list[float]]:
    return [[row[i] for row in rows] for i in range(n)]
