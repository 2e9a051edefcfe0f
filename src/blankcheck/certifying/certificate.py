"""How many lit features are provably too few: for each real class the largest k that can be proved, as plain numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from blankcheck.certifying.bounds import bound_layers
from blankcheck.certifying.gate import Gated, as_log_odds, gate_bounds, most_open
from blankcheck.certifying.hull import Sparse
from blankcheck.certifying.log_odds import log_odds_bounds, rounding_slack
from blankcheck.certifying.reading import read_network
from blankcheck.certifying.rounding import of_softmax
from blankcheck.classifiers.wrapper import UnitClassifier, device_of, fingerprint, left_as_found
from blankcheck.errors import ArgumentError, ModelError

SLOPE_STEPS = 20
CERTIFIED, GATE_CERTIFIED = "certified", "gate-certified"


@dataclass(frozen=True)
class Level:
    """What is proved of all images with at most k lit features. log_odds: an upper bound for each class, rounding of float32
    included. slack: the part of it that covers rounding."""

    k: int
    log_odds: tuple[float, ...]
    slack: tuple[float, ...]


@dataclass(frozen=True)
class Certificate:
    """No image in [0, 1]^shape with at most k lit features is given the class with probability `confidence` or more.

    k: for each real class the largest number that was proved, up to all features; None where not even the black image is
    shown to be unsure. levels: every number of lit features that was looked at, in order. outputs: of the network, among all
    of which probabilities are. unit: what k counts. fingerprint: of the network. means: `certified` where the proof is one
    of the network itself, `gate-certified` where it is one of the gate around it.

    Covered: the network in evaluation mode, computed in float32 by sums of products in any order, fused or not, and images
    of float32 numbers. Not covered: reduced precision (TF32, bfloat16), convolutions by Winograd or Fourier transforms,
    underflow, and code that answers otherwise than torch.export records it.
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

    @property
    def smallest(self) -> int | None:
        """The k that holds for every class."""
        known = [k for k in self.k if k is not None]
        return min(known) if len(known) == len(self.k) else None

    def probability(self, k: int) -> tuple[float | None, ...]:
        """For each class the smallest bound of its probability that was proved for images with at most k lit features."""
        above = [level.log_odds for level in self.levels if level.k >= k]
        return tuple(1 / (1 + math.exp(-min(bounds))) if bounds else None for bounds in _columns(above, len(self.k)))

    def as_json(self) -> dict[str, Any]:
        """Plain values, for a file. `probability` are the bounds at each class's own k."""
        own = [None if k is None else self.probability(k)[t] for t, k in enumerate(self.k)]
        return {"schema": 1, **asdict(self), "smallest": self.smallest, "probability": own}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Certificate:
        """What `as_json` gave. Raises ArgumentError for anything else."""
        try:
            names = [name for name in cls.__dataclass_fields__ if name not in ("shape", "k", "levels")]
            c, h, w = record["shape"]
            levels = tuple(Level(row["k"], tuple(row["log_odds"]), tuple(row["slack"])) for row in record["levels"])
            return cls(shape=(c, h, w), k=tuple(record["k"]), levels=levels, **{name: record[name] for name in names})
        except (KeyError, TypeError, ValueError) as error:
            raise ArgumentError(f"certificate is not one that blankcheck wrote: {error}") from error


def _columns(rows: Sequence[Sequence[float]], n: int) -> list[list[float]]:
    return [[row[i] for row in rows] for i in range(n)]


Watch = Callable[[int, int], None]
"""Told of each number of lit features that was looked at, and for how many classes it was proved."""


def certify(
    classifier: nn.Module,
    shape: Sequence[int],
    classes: int,
    confidence: float = 0.9,
    unit: str = "features",
    *,
    slope_steps: int = SLOPE_STEPS,
    most: int | None = None,
    watch: Watch = lambda k, proved: None,
) -> Certificate:
    """Prove for each of the first `classes` outputs how many lit features are too few for `confidence`.

    classifier: from images (n, c, h, w) in [0, 1] to outputs (n, m), m >= classes, made of what `read_network` understands;
    it is taken in evaluation mode and left as it was. shape: (c, h, w). unit: `features`, or `pixels` for positions with any
    channel lit. slope_steps: of optimising the relaxation, where it does not succeed without. most: the largest
    k to look at; default all features.

    What holds for k lit features holds for fewer, so k is found by doubling and halving; a k at which no proof succeeds says
    nothing about any image. Raises ArgumentError or ModelError with one line.
    """
    if not 0 < confidence < 1:
        raise ArgumentError(f"confidence must lie in (0, 1), got {confidence:g}")
    began = time.monotonic()
    subject = _subject(classifier, shape, classes, confidence, slope_steps)
    if not 1 <= classes <= subject.outputs:
        raise ModelError(f"model has {subject.outputs} outputs, must have one for each of {classes} classes")
    with left_as_found(classifier):
        prove = Prover(subject, confidence, unit, watch, most)
        k = tuple(_largest(prove, t) for t in range(classes))
    return Certificate(
        confidence, unit, subject.shape, subject.outputs, k, prove.levels(), fingerprint(classifier),
        {"slope_steps": slope_steps, "precision": "float64"}, time.monotonic() - began, means=subject.means,
    )  # fmt: skip


def confirm(certificate: Certificate, classifier: nn.Module) -> tuple[bool, ...]:
    """For each class whether its k is proved again for this network; True where nothing was claimed.

    Raises ArgumentError or ModelError with one line when the network is not one the certificate can speak of.
    """
    classes, steps = len(certificate.k), certificate.settings["slope_steps"]
    subject = _subject(classifier, certificate.shape, classes, certificate.confidence, steps)
    if (subject.outputs, subject.means) != (certificate.outputs, certificate.means) or not 1 <= classes <= subject.outputs:
        raise ModelError(f"model is not of the kind that was {certificate.means}")
    if not 0 < certificate.confidence < 1:
        raise ArgumentError(f"confidence must lie in (0, 1), got {certificate.confidence:g}")
    with left_as_found(classifier):
        prove = Prover(subject, certificate.confidence, certificate.unit, lambda k, proved: None)
        # what holds at the level where it was proved holds for all below, so those are looked at again
        claims = [(t, k) for t, k in enumerate(certificate.k) if k is not None]
        for at in {_proved_at(certificate, t, k, prove.limit) for t, k in claims}:
            prove.level(at)
        return tuple(k is None or prove.holds(k, t) for t, k in enumerate(certificate.k))


def _proved_at(certificate: Certificate, target: int, k: int, least: float) -> int:
    return min((level.k for level in certificate.levels if level.k >= k and level.log_odds[target] < least), default=k)


@dataclass(frozen=True)
class Subject:
    """What is certified. bounds: from a set of sparse images, and log-odds that are low enough, to bounds of the log-odds
    of each class from above, rounding included, and the part of them that covers rounding."""

    shape: tuple[int, int, int]
    outputs: int
    means: str
    bounds: Callable[[Sparse, float], tuple[Tensor, Tensor]]


def _subject(classifier: nn.Module, shape: Sequence[int], classes: int, confidence: float, slope_steps: int) -> Subject:
    """The network itself, or the gate around it where there is one."""
    inner = classifier.network if isinstance(classifier, UnitClassifier) else classifier
    if isinstance(inner, Gated):
        return _gate(inner, shape, classes, confidence)
    network = read_network(classifier, shape)

    def bounds(images: Sparse, enough: float) -> tuple[Tensor, Tensor]:
        like = torch.zeros((), dtype=torch.float64, device=device_of(classifier))
        made = bound_layers(network.layers(), images, like)
        slack = rounding_slack(made, classes)
        return log_odds_bounds(made, classes, slope_steps, enough - float(slack.max())) + slack, slack

    return Subject(network.shape, network.outputs, CERTIFIED, bounds)


def _gate(gated: Gated, shape: Sequence[int], classes: int, confidence: float) -> Subject:
    c, h, w = (int(size) for size in shape)
    with left_as_found(gated), torch.no_grad():
        outputs = int(gated(torch.zeros(1, c, h, w, device=device_of(gated))).shape[1])
    most_open(confidence, outputs)
    network = read_network(gated.gate, (c, h, w))
    if network.outputs != classes or network.form != "logits":
        raise ModelError(f"gate has {network.outputs} outputs, must have one for each of {classes} classes")

    def bounds(images: Sparse, enough: float) -> tuple[Tensor, Tensor]:
        opened, slack = gate_bounds(network, images)
        return as_log_odds(opened + slack, outputs), slack

    return Subject((c, h, w), outputs, GATE_CERTIFIED, bounds)


class Prover:
    """Bounds at any k, each computed once."""

    def __init__(self, subject: Subject, confidence: float, unit: str, watch: Watch, most: int | None = None) -> None:
        c, h, w = subject.shape
        everything = h * w if unit == "pixels" else c * h * w
        self.most = everything if most is None else min(most, everything)
        self.limit = limit(confidence, subject.outputs)
        self._subject, self._unit, self._watch = subject, unit, watch
        self._known: dict[int, Level] = {}

    def level(self, k: int) -> Level:
        """What can be proved at k."""
        if k not in self._known:
            bounds, slack = self._subject.bounds(Sparse(k, self._unit), self.limit)
            self._known[k] = Level(k, _floats(bounds), _floats(slack))
            self._watch(k, int((bounds < self.limit).sum()))
        return self._known[k]

    def holds(self, k: int, target: int) -> bool:
        """Whether any level at k or above proves that the class stays below the confidence with at most k lit features."""
        above = [level for level in self._known.values() if level.k >= k]
        return any(level.log_odds[target] < self.limit for level in above) or self.level(k).log_odds[target] < self.limit

    def levels(self) -> tuple[Level, ...]:
        """All that was looked at, in order."""
        return tuple(self._known[k] for k in sorted(self._known))


def limit(confidence: float, outputs: int) -> float:
    """Log-odds below which a float32 softmax gives less than `confidence`."""
    least = confidence * (1 - of_softmax(outputs))
    return math.log(least / (1 - least))


def _largest(prove: Prover, target: int) -> int | None:
    """The largest k that is proved, by doubling and then halving. Where proofs do not fail in order, some such k."""
    if not prove.holds(0, target):
        return None
    good, bad = 0, 1
    while bad <= prove.most and prove.holds(bad, target):
        good, bad = bad, min(2 * bad, prove.most) if bad < prove.most else prove.most + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if prove.holds(middle, target) else (good, middle)
    return good


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(float(v) for v in values.detach())


def levels_again(certificate: Certificate, classifier: nn.Module) -> tuple[Level, ...]:
    """What is proved of this network at every k that the certificate looked at. Raises as `confirm` does."""
    classes, steps = len(certificate.k), certificate.settings["slope_steps"]
    subject = _subject(classifier, certificate.shape, classes, certificate.confidence, steps)
    with left_as_found(classifier):
        prove = Prover(subject, certificate.confidence, certificate.unit, lambda k, proved: None)
        return tuple(prove.level(level.k) for level in certificate.levels)
