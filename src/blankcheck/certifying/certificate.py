"""How many lit features are provably too few: for each class the largest k, as numbers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from blankcheck.certifying import record
from blankcheck.certifying.agreement import answers_of, check_agreement, run_layers, trial_images
from blankcheck.certifying.bounds import bound_layers
from blankcheck.certifying.gate import as_log_odds, check_gate, gate_bounds, gate_of
from blankcheck.certifying.hull import Sparse
from blankcheck.certifying.layers import uncertifiable
from blankcheck.certifying.log_odds import limit, log_odds_bounds, rounding_slack
from blankcheck.certifying.record import Certificate, Level
from blankcheck.certifying.trace import Network, read_network
from blankcheck.classifiers.wrapper import device_of, fingerprint, left_as_found
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.outputs import output_form

Watch = Callable[[int, int], None]
"""Told of each k that was looked at, and for how many classes it was proved."""


def certify(
    classifier: nn.Module,
    shape: Sequence[int],
    classes: int,
    confidence: float = 0.9,
    unit: str = "features",
    *,
    slope_steps: int = record.SLOPE_STEPS,
    most: int | None = None,
    watch: Watch = lambda k, proved: None,
) -> Certificate:
    """Prove for each real class how many lit features are too few for `confidence`.

    What holds for k lit features holds for fewer, so k is found by doubling and halving; a k at
    which no proof succeeds says nothing about any image.

    Args:
        classifier: from images (n, c, h, w) in [0, 1] to outputs (n, m), m >= classes, made of what
            `read_network` understands; taken in evaluation mode and left as it was.
        shape: (c, h, w).
        classes: how many of the outputs are real classes: the first ones.
        confidence: in (0, 1).
        unit: `features`, or `pixels` for positions with any channel lit.
        slope_steps: of optimising the relaxation, where it does not succeed without.
        most: the largest k to look at; default all features.
        watch: told how far the proof is.

    Raises:
        ArgumentError: with one line.
        ModelError: with one line, also for a network that answers otherwise than its operations.
    """
    if not 0 < confidence < 1:
        raise ArgumentError(f"confidence must lie in (0, 1), got {confidence:g}")
    if unit not in record.UNITS:
        raise ArgumentError(f"unit must be features or pixels, got {unit!r}")
    record.check_steps(slope_steps)
    began = time.monotonic()
    prover = Prover(classifier, shape, classes, confidence, unit, slope_steps, watch)
    most = prover.everything if most is None else min(most, prover.everything)
    with left_as_found(classifier):
        k = tuple(largest_k(partial(prover.holds, target), most) for target in range(classes))
    proved = confidence, unit, prover.shape, prover.outputs, k, prover.levels()
    settings = {"slope_steps": slope_steps, "precision": "float64"}
    made = fingerprint(classifier), settings, time.monotonic() - began, prover.means
    return Certificate(*proved, *made)


def confirm(certificate: Certificate, classifier: nn.Module) -> tuple[bool, ...]:
    """For each class whether its k is proved again; True where nothing was claimed.

    Raises ArgumentError or ModelError with one line for a network of another kind.
    """
    prover = _prover_again(certificate, classifier)
    with left_as_found(classifier):
        for target, k in enumerate(certificate.k):
            if k is not None:
                # what holds at the level where it was proved holds for all below
                above = [level for level in certificate.levels if level.k >= k]
                proved = [e.k for e in above if e.log_odds[target] < prover.limit]
                prover.level(min(proved, default=k))
        return tuple(k is None or prover.holds(t, k) for t, k in enumerate(certificate.k))


def levels_again(certificate: Certificate, classifier: nn.Module) -> tuple[Level, ...]:
    """What is proved of this network at every k that the certificate looked at.

    Raises as `confirm` does.
    """
    prover = _prover_again(certificate, classifier)
    with left_as_found(classifier):
        return tuple(prover.level(level.k) for level in certificate.levels)


def _prover_again(made: Certificate, classifier: nn.Module) -> Prover:
    steps = made.settings["slope_steps"]
    prover = Prover(classifier, made.shape, len(made.k), made.confidence, made.unit, steps)
    if (prover.outputs, prover.means) != (made.outputs, made.means):
        raise ModelError(f"model is not of the kind that was {made.means}")
    return prover


class Prover:
    """Bounds of a classifier, or of the gate around it, at any k, each computed once.

    Arguments and errors are those of `certify`. Checks that the classifier answers as its layers.
    """

    def __init__(
        self,
        classifier: nn.Module,
        shape: Sequence[int],
        classes: int,
        confidence: float,
        unit: str,
        slope_steps: int,
        watch: Watch = lambda k, proved: None,
    ) -> None:
        gate = gate_of(classifier)
        network = read_network(classifier if gate is None else gate[1], shape)
        with torch.no_grad():
            self._layers = network.layers()
        self._like = torch.zeros((), dtype=torch.float64, device=device_of(classifier))
        images = trial_images(network.shape, network.dtype)
        logits, error = run_layers(self._layers, images.to(self._like))
        if gate is None:
            self.outputs, self.means = network.outputs, record.CERTIFIED
            _check_network(classifier, network, images, logits, error)
        else:
            if network.outputs != classes or network.form != "logits":
                raise _too_few("gate", network.outputs, classes)
            self.means = record.GATE_CERTIFIED
            self.outputs = check_gate(classifier, gate[0], images, logits, error, confidence)
        if not 1 <= classes <= self.outputs:
            raise _too_few("model", self.outputs, classes)
        self.shape, self.limit = network.shape, limit(confidence, self.outputs)
        c, h, w = network.shape
        self.everything = h * w if unit == "pixels" else c * h * w
        self._classes, self._unit, self._watch = classes, unit, watch
        self._slope_steps = slope_steps
        self._known: dict[int, Level] = {}

    def level(self, k: int) -> Level:
        """What can be proved at k."""
        if k not in self._known:
            bounds, slack = self._bounds(Sparse(k, self._unit))
            self._known[k] = Level(k, _floats(bounds), _floats(slack))
            self._watch(k, int((bounds < self.limit).sum()))
        return self._known[k]

    def _bounds(self, images: Sparse) -> tuple[Tensor, Tensor]:
        """(classes,) upper bounds of the log-odds, rounding included, and the part for rounding."""
        if self.means == record.GATE_CERTIFIED:
            above, slack = gate_bounds(self._layers, images, self._like)
            return as_log_odds(above + slack, self.outputs), slack
        made = bound_layers(self._layers, images, self._like)
        slack = rounding_slack(made, self._classes)
        enough = self.limit - float(slack.max())
        return log_odds_bounds(made, self._classes, self._slope_steps, enough) + slack, slack

    def holds(self, target: int, k: int) -> bool:
        """Whether a level at k or above proves that the class stays below the confidence."""
        above = [level for level in self._known.values() if level.k >= k]
        proved = any(level.log_odds[target] < self.limit for level in above)
        return proved or self.level(k).log_odds[target] < self.limit

    def levels(self) -> tuple[Level, ...]:
        """All that was looked at, in order."""
        return tuple(self._known[k] for k in sorted(self._known))


def _too_few(what: str, outputs: int, classes: int) -> ModelError:
    return ModelError(f"{what} has {outputs} outputs, must have one for each of {classes} classes")


def _check_network(
    classifier: nn.Module, network: Network, images: Tensor, logits: Tensor, error: Tensor
) -> None:
    answers, off = answers_of(network.form, logits, error)
    check_agreement(classifier, images, lambda rows, _: (answers[rows], off[rows]), network.form)
    # outputs that sum to 1 are taken for probabilities; nothing is proved without a softmax
    with left_as_found(classifier):
        seen = output_form(classifier, images.to(logits.device))
    if "probabilities" in (seen, network.form):
        check_form(seen, network.form)


def check_form(seen: str, read: str) -> None:
    """ModelError where outputs are of another form than the operations of their network end in."""
    if seen != read:
        raise uncertifiable(f"gives {seen} where its operations end in {read}")


def largest_k(holds: Callable[[int], bool], most: int) -> int | None:
    """The largest k up to `most` that holds, by doubling and then halving.

    Where proofs do not fail in order, some such k.
    """
    if not holds(0):
        return None
    good, bad = 0, 1
    while bad <= most and holds(bad):
        good, bad = bad, min(2 * bad, most) if bad < most else most + 1
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good


def _floats(values: Tensor) -> tuple[float, ...]:
    """Finite ones; what is no number says as little as what is infinite."""
    return tuple(float(v) for v in values.detach().nan_to_num(nan=record.NO_BOUND))
