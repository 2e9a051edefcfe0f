"""A proof of how many lit features are too few, and what a verdict makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from blankcheck.api.audit import Audit
from blankcheck.auditing.gather import Note
from blankcheck.certifying import SLOPE_STEPS, Certificate, Gated, GatePlan, certify, fit_gate
from blankcheck.certifying.gate import most_open
from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.wrapper import device_of, left_as_found
from blankcheck.data import Data
from blankcheck.errors import ArgumentError
from blankcheck.judging.evidence import Proof
from blankcheck.runs.gate_file import RECORD as RECORD

MOST_STEPS = 100_000
"""Of training a gate."""


def prove(
    classifier: UnitClassifier,
    data: Data,
    confidence: float = 0.9,
    unit: str = "features",
    slope_steps: int = SLOPE_STEPS,
    note: Note = lambda stage, done, all_, words: None,
) -> Certificate:
    """The certificate of a network for the classes of its data.

    Args:
        classifier: from images in [0, 1] to outputs.
        data: that it was made for.
        confidence: that no sparse image is to be given, in (0, 1).
        unit: what is counted, `features` or `pixels`.
        slope_steps: of optimising the relaxation.
        note: told how far the proof is, as note(stage, done, all, words).
    """
    classes, looked = len(data.classes), 0

    def watch(k: int, proved: int) -> None:
        nonlocal looked
        looked += 1
        note("prove", looked, looked + 1, f"k = {k}: {proved} of {classes} classes")

    asked = data.shape, classes, confidence, unit
    made = certify(classifier, *asked, slope_steps=slope_steps, watch=watch)
    note("prove", looked, looked, f"{looked} numbers of lit features in {made.seconds:.1f} s")
    return made


def with_proof(made: Audit, certificate: Certificate) -> Audit:
    """The same audit, judged with the certificate in hand.

    Raises RuntimeError when what was found cannot be there.
    """
    evidence = replace(made.evidence, proof=proof_of(certificate))
    judged = replace(made, gathered=replace(made.gathered, evidence=evidence))
    _ = judged.verdict  # which raises
    return judged


def proof_of(certificate: Certificate) -> Proof:
    """What a verdict needs of a certificate."""
    said = certificate.as_json()
    said["probability"] = tuple(said["probability"])
    return Proof(**{name: said[name] for name in Proof.__dataclass_fields__})


# the arguments say which classifier the gate is for, and what it is to do
def gate_for(
    classifier: UnitClassifier,
    data: Data,
    form: str,
    k: int | None,
    confidence: float,
    unit: str,
    plan: GatePlan,
) -> Callable[[Note], UnitClassifier]:
    """What trains a gate on the data and puts it around a classifier; it is told whom to tell how
    far the training is.

    Args:
        classifier: any; its outputs need no proof.
        data: that it was made for.
        form: of its outputs.
        k: lit features or pixels for which the gate is shut.
        confidence: that none of their images is to be given.
        unit: what k counts.
        plan: how the gate is trained.

    Raises:
        ArgumentError: where no such gate can be made.
    """
    c, h, w = data.shape
    most = h * w if unit == "pixels" else c * h * w
    if k is None or not 1 <= k <= most:
        raise ArgumentError(f"k must lie in 1..{most}, got {k}")
    if not 1 <= plan.steps <= MOST_STEPS:
        raise ArgumentError(f"gate_steps must lie in 1..{MOST_STEPS}, got {plan.steps}")
    with left_as_found(classifier), torch.no_grad():
        outputs = classifier(data.validation.images[:1].to(device_of(classifier))).shape[1]
    most_open(confidence, outputs)

    def train(note: Note) -> UnitClassifier:
        def watch(step: int, loss: float) -> None:
            note("gate", step, plan.steps, f"loss {loss:.3f}")

        size = data.shape, len(data.classes), outputs
        gate = fit_gate(data.train, *size, k, confidence, unit, plan, watch)
        return UnitClassifier(Gated(classifier, gate.to(device_of(classifier)), form)).eval()

    return train
