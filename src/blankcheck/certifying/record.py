"""What is asked of a proof and of a gate, and a certificate as plain numbers; imports no torch."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import msgspec

from blankcheck.errors import ArgumentError
from blankcheck.text import one_line

UNITS = ("features", "pixels")
SLOPE_STEPS, MOST_STEPS = 20, 1000
"""Of optimising the relaxation where it does not succeed at once: by default, and at most."""
MOST_FEATURES = 10_000_000
"""Of an image."""
NO_BOUND = math.nextafter(math.inf, 0)
"""What stands for a bound where nothing is proved, since files hold no infinity."""
CERTIFIED, GATE_CERTIFIED = "certified", "gate-certified"
FOREIGN = "certificate is not one that blankcheck wrote"


@dataclass(frozen=True)
class GatePlan:
    """How a gate is trained.

    Args:
        steps: batches of real images, with one bound each.
        tau: value from which the gate takes a feature for fully lit.
        channels: of its convolution.
        seed: of its first weights and of the batches.
    """

    steps: int = 600
    tau: float = 0.1
    channels: int = 16
    seed: int = 0


@dataclass(frozen=True)
class Level:
    """What is proved of all images with at most k lit features.

    log_odds: an upper bound for each class, rounding of float32 included; `NO_BOUND` where nothing
    is proved. slack: the part of it that covers rounding.
    """

    k: int
    log_odds: tuple[float, ...]
    slack: tuple[float, ...]


@dataclass(frozen=True)
class Certificate:
    """No image in [0, 1]^shape with at most k lit features gets the class at `confidence` or more.

    Covered: the network in evaluation mode, computed in float32 by sums of products in any order,
    fused or not, numbers too small for float32 kept or set to 0, and images of float32 numbers. Not
    covered: reduced precision (TF32, bfloat16), convolutions by Winograd or Fourier transforms, and
    code that torch.export does not record and that answers as recorded on the images of
    `agreement`.

    k: for each real class the largest number that was proved, up to all features; None where not
    even the black image is shown to be unsure. levels: every number of lit features that was looked
    at, in order. outputs: of the network, among all of which probabilities are. unit: what k
    counts. means: `certified` where the proof is one of the network itself, `gate-certified` where
    it is one of the gate around it.

    Raises:
        ArgumentError: with one line, for numbers that no certificate can have.
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
    means: str

    def __post_init__(self) -> None:
        c, h, w = check_shape(self.shape)
        check_steps(self.settings.get("slope_steps"))
        most, classes = h * w * (1 if self.unit == "pixels" else c), len(self.k)
        counts = [k for k in (*self.k, *(level.k for level in self.levels)) if k is not None]
        rows = [row for level in self.levels for row in (level.log_odds, level.slack)]
        known = self.unit in UNITS and self.means in (CERTIFIED, GATE_CERTIFIED)
        sized = 1 <= classes <= self.outputs and 2 <= self.outputs <= MOST_FEATURES
        for right, rule in (
            (known, "unit or means is unknown"),
            (0 < self.confidence < 1, "confidence must lie in (0, 1)"),
            (math.isfinite(self.seconds), "seconds must be a number"),
            (sized, "k must have an entry for each class, and at most one for each output"),
            (all(0 <= k <= most for k in counts), f"k must lie in 0..{most}, or be null"),
            (all(a.k < b.k for a, b in pairwise(self.levels)), "levels must be in order"),
            (all(len(row) == classes for row in rows), "levels must have all classes"),
            (all(math.isfinite(x) for row in rows for x in row), "levels must be numbers"),
        ):
            if not right:
                raise ArgumentError(f"{FOREIGN}: {rule}")

    def __repr__(self) -> str:
        k, sure = self.smallest, f"gets {self.confidence:g} or more"
        every = f"with at most {k} lit {self.unit} no class {sure}"
        said = "nothing is proved of some class" if k is None else every
        return f"Certificate({self.means}: {said})"

    @property
    def smallest(self) -> int | None:
        """The k that holds for every class."""
        known = [k for k in self.k if k is not None]
        return min(known) if len(known) == len(self.k) else None

    def probability(self, k: int) -> tuple[float | None, ...]:
        """For each class the smallest bound of its probability proved at this k or above."""
        above = [level.log_odds for level in self.levels if level.k >= k]
        if not above:
            return (None,) * len(self.k)
        # beyond 700 an exponential leaves float64
        return tuple(1 / (1 + math.exp(min(-min(b), 700.0))) for b in zip(*above, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a file. `probability` are the bounds at each class's own k."""
        own = [None if k is None else self.probability(k)[t] for t, k in enumerate(self.k)]
        return {"schema": 1, **asdict(self), "smallest": self.smallest, "probability": own}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Certificate:
        """What `as_json` gave. Raises ArgumentError for anything else."""
        try:
            return msgspec.convert(record, cls)
        except (msgspec.ValidationError, ArithmeticError) as error:
            raise ArgumentError(f"{FOREIGN}: {one_line(error)}") from error


def check_steps(steps: Any) -> None:
    """Raises ArgumentError for a number of optimising steps that is not looked at."""
    if type(steps) is not int or not 0 <= steps <= MOST_STEPS:
        raise ArgumentError(f"slope_steps must lie in 0..{MOST_STEPS}, got {one_line(steps, 40)}")


def check_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """(c, h, w), or ArgumentError."""
    try:
        c, h, w = (operator.index(size) for size in shape)
    except (TypeError, ValueError):
        c = h = w = 0
    if min(c, h, w) < 1 or c * h * w > MOST_FEATURES:
        raise ArgumentError(
            f"shape must be (channels, height, width) with at most {MOST_FEATURES} features, "
            f"got {one_line(repr(shape), 60)}"
        )
    return c, h, w
