"""How many lit features are provably too few: for each real class the largest k that can be proved,
as plain numbers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blankcheck.certifying.agreement import answers_of, check_agreement, run_layers, trial_images
from blankcheck.certifying.bounds import bound_layers
from blankcheck.certifying.gate import (
    Gated,
    as_log_odds,
    gate_bounds,
    gate_of,
    gated_answers,
    most_open,
)
from blankcheck.certifying.hull import UNITS, Sparse
from blankcheck.certifying.layers import Layer
from blankcheck.certifying.log_odds import log_odds_bounds, rounding_slack
from blankcheck.certifying.plan import SLOPE_STEPS
from blankcheck.certifying.reading import Network, read_network
from blankcheck.certifying.record import (
    CERTIFIED,
    GATE_CERTIFIED,
    NO_BOUND,
    Certificate,
    Level,
    check_steps,
)
from blankcheck.certifying.rounding import of_softmax
from blankcheck.classifiers.wrapper import device_of, fingerprint, left_as_found
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.outputs import output_form, run

Watch = Callable[[int, int], None]
"""Told of each number of lit features that was looked at, and for how many classes it was proved.
"""


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
    """Prove for each of the first `classes` outputs how many lit features are too few for
    `confidence`.

    classifier: from images (n, c, h, w) in [0, 1] to outputs (n, m), m >= classes, made of what
    `read_network` understands; it is taken in evaluation mode and left as it was. shape: (c, h, w).
    unit: `features`, or `pixels` for positions with any channel lit. slope_steps: of optimising the
    relaxation, where it does not succeed without. most: the largest k to look at; default all
    features.

    What holds for k lit features holds for fewer, so k is found by doubling and halving; a k at
    which no proof succeeds says nothing about any image. Raises ArgumentError or ModelError with
    one line, also for a network that does not answer as its operations say (`agreement`).
    """
    if not 0 < confidence < 1:
        raise ArgumentError(f"confidence must lie in (0, 1), got {confidence:g}")
    if unit not in UNITS:
        raise ArgumentError(f"unit must be features or pixels, got {unit!r}")
    check_steps(slope_steps)
    began = time.monotonic()
    subject = _subject(classifier, shape, classes, confidence, slope_steps)
    if not 1 <= classes <= subject.outputs:
        raise ModelError(
            f"model has {subject.outputs} outputs, must have one for each of {classes} classes"
        )
    with left_as_found(classifier):
        prove = Prover(subject, confidence, unit, watch, most)
        k = tuple(_largest(prove, t) for t in range(classes))
    return Certificate(
        confidence,
        unit,
        subject.shape,
        subject.outputs,
        k,
        prove.levels(),
        fingerprint(classifier),
        {"slope_steps": slope_steps, "precision": "float64"},
        time.monotonic() - began,
        means=subject.means,
    )


def confirm(certificate: Certificate, classifier: nn.Module) -> tuple[bool, ...]:
    """For each class whether its k is proved again for this network; True where nothing was
    claimed.

    Raises ArgumentError or ModelError with one line when the network is not one the certificate can
    speak of.
    """
    prove = _prover_again(certificate, classifier)
    with left_as_found(classifier):
        # what holds at the level where it was proved holds for all below, so those are looked at
        # again
        claims = [(t, k) for t, k in enumerate(certificate.k) if k is not None]
        for at in {_proved_at(certificate, t, k, prove.limit) for t, k in claims}:
            prove.level(at)
        return tuple(k is None or prove.holds(k, t) for t, k in enumerate(certificate.k))


def levels_again(certificate: Certificate, classifier: nn.Module) -> tuple[Level, ...]:
    """What is proved of this network at every k that the certificate looked at.

    Raises as `confirm` does.
    """
    prove = _prover_again(certificate, classifier)
    with left_as_found(classifier):
        return tuple(prove.level(level.k) for level in certificate.levels)


def _prover_again(certificate: Certificate, classifier: nn.Module) -> Prover:
    classes, steps = len(certificate.k), certificate.settings["slope_steps"]
    subject = _subject(classifier, certificate.shape, classes, certificate.confidence, steps)
    if (subject.outputs, subject.means) != (
        certificate.outputs,
        certificate.means,
    ) or not 1 <= classes <= subject.outputs:
        raise ModelError(f"model is not of the kind that was {certificate.means}")
    return Prover(subject, certificate.confidence, certificate.unit, lambda k, proved: None)


def _proved_at(certificate: Certificate, target: int, k: int, least: float) -> int:
    return min(
        (
            level.k
            for level in certificate.levels
            if level.k >= k and level.log_odds[target] < least
        ),
        default=k,
    )


@dataclass(frozen=True)
class Subject:
    """What is certified. bounds: from a set of sparse images, and log-odds that are low enough, to
    bounds of the log-odds of each class from above, rounding included, and the part of them that
    covers rounding."""

    shape: tuple[int, int, int]
    outputs: int
    means: str
    bounds: Callable[[Sparse, float], tuple[Tensor, Tensor]]


def _subject(
    classifier: nn.Module, shape: Sequence[int], classes: int, confidence: float, slope_steps: int
) -> Subject:
    """The network itself, or the gate around it where there is one; checked to answer as its layers
    do."""
    found = gate_of(classifier)
    if found is not None:
        return _gate(classifier, *found, shape, classes, confidence)
    network = read_network(classifier, shape)
    layers, like = _fixed(network, classifier)
    images = trial_images(network.shape, network.dtype)
    answers, error = answers_of(network.form, *run_layers(layers, images.to(like)))
    check_agreement(classifier, images, lambda rows, _: (answers[rows], error[rows]), network.form)
    # outputs that sum to 1 are taken for probabilities, of which nothing is proved here unless a
    # softmax gives them
    with left_as_found(classifier):
        seen = output_form(classifier, images.to(like.device))
    if "probabilities" in (seen, network.form) and seen != network.form:
        raise ModelError(
            f"model gives {seen} where its operations end in {network.form}, which cannot be certified"
        )

    def bounds(images: Sparse, enough: float) -> tuple[Tensor, Tensor]:
        made = bound_layers(layers, images, like)
        slack = rounding_slack(made, classes)
        return log_odds_bounds(
            made, classes, slope_steps, enough - float(slack.max())
        ) + slack, slack

    return Subject(network.shape, network.outputs, CERTIFIED, bounds)


def _fixed(network: Network, classifier: nn.Module) -> tuple[tuple[Layer, ...], Tensor]:
    """The layers with the weights as they are, for a proof, and a tensor of their type and device."""
    with torch.no_grad():
        return network.layers(), torch.zeros((), dtype=torch.float64, device=device_of(classifier))


def _gate(
    classifier: nn.Module,
    gated: Gated,
    seeing: nn.Module,
    shape: Sequence[int],
    classes: int,
    confidence: float,
) -> Subject:
    """seeing: what the gate says of images in [0, 1]."""
    network = read_network(seeing, shape)
    if network.outputs != classes or network.form != "logits":
        raise ModelError(
            f"gate has {network.outputs} outputs, must have one for each of {classes} classes"
        )
    layers, like = _fixed(network, classifier)
    images = trial_images(network.shape, network.dtype)
    with left_as_found(classifier), torch.no_grad():
        outputs = run(classifier, images[:2].to(like.device)).shape[1]
    most_open(confidence, outputs)
    opened, error = run_layers(layers, images.to(like))

    def expected(rows: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        return gated_answers(classifier, gated, asked, opened[rows], error[rows])

    check_agreement(classifier, images, expected, "gated probabilities")

    def bounds(images: Sparse, enough: float) -> tuple[Tensor, Tensor]:
        above, slack = gate_bounds(layers, images, like)
        return as_log_odds(above + slack, outputs), slack

    return Subject(network.shape, outputs, GATE_CERTIFIED, bounds)


class Prover:
    """Bounds at any k, each computed once."""

    def __init__(
        self, subject: Subject, confidence: float, unit: str, watch: Watch, most: int | None = None
    ) -> None:
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
        """Whether any level at k or above proves that the class stays below the confidence with at
        most k lit features."""
        above = [level for level in self._known.values() if level.k >= k]
        return (
            any(level.log_odds[target] < self.limit for level in above)
            or self.level(k).log_odds[target] < self.limit
        )

    def levels(self) -> tuple[Level, ...]:
        """All that was looked at, in order."""
        return tuple(self._known[k] for k in sorted(self._known))


def limit(confidence: float, outputs: int) -> float:
    """Log-odds below which a float32 softmax gives less than `confidence`."""
    least = confidence * (1 - of_softmax(outputs))
    return math.log(least / (1 - least))


def _largest(prove: Prover, target: int) -> int | None:
    """The largest k that is proved, by doubling and then halving.

    Where proofs do not fail in order, some such k.
    """
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
    """Finite ones; what is no number says as little as what is infinite."""
    return tuple(float(v) for v in values.detach().nan_to_num(nan=NO_BOUND))
