"""A proof of how many lit features are too few, what a verdict makes of it, and gates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from blankcheck.api.audit import Audit
from blankcheck.api.bars import told
from blankcheck.arguments import plain_arguments
from blankcheck.auditing import check_fits
from blankcheck.auditing.attempts import Note
from blankcheck.certifying import SLOPE_STEPS, Certificate, Gated, GatePlan, fit_gate, read_network
from blankcheck.certifying.certificate import certify as prove
from blankcheck.certifying.certificate import check_form
from blankcheck.certifying.gate import most_open
from blankcheck.certifying.record import UNITS
from blankcheck.classifiers import UnitClassifier, load_model
from blankcheck.classifiers.trial import check_classifier
from blankcheck.classifiers.wrapper import device_of, left_as_found
from blankcheck.data import Data, check_data
from blankcheck.errors import ArgumentError
from blankcheck.judging.evidence import Proof
from blankcheck.runs.gate_file import RECORD as RECORD
from blankcheck.seeds import check_seed

MOST_STEPS = 100_000
"""Of training a gate."""


@plain_arguments
def certify(
    model: nn.Module,
    data: Data,
    confidence: float = 0.9,
    *,
    unit: str = "features",
    slope_steps: int = SLOPE_STEPS,
    progress: bool | None = None,
    note: Note | None = None,
) -> Certificate:
    """Prove how many lit features are too few for a network to be sure, class by class.

    Args:
        model: from images in [0, 1] to outputs, made of operations that a proof knows.
        data: that it was made for; the proof asks only for its shape and classes.
        confidence: that no sparse image is to be given, in (0, 1).
        unit: what is counted, `features` or `pixels`.
        slope_steps: of optimising the relaxation where it does not succeed at once; 0 is fast and
            proves less.
        progress: show bars; None where a terminal or a notebook shows them.
        note: told in their place how far the proof is, as note(stage, done, all, words).

    Returns:
        The certificate; its `k` has the largest number that is proved too few for each class.

    Raises:
        ArgumentError, ModelError: with one line, also for a network that no proof can be made of.
    """
    check_classifier(model)
    check_data(data)
    classifier, classes, looked = load_model(model), len(data.classes), 0
    form = check_fits(classifier, data)
    if not isinstance(classifier.network, Gated):  # whose proof is that of the gate alone
        check_form(form, read_network(classifier, data.shape).form)
    with told(note, progress) as tell:

        def watch(k: int, proved: int) -> None:
            nonlocal looked
            looked += 1
            tell("prove", looked, looked + 1, f"k = {k}: {proved} of {classes} classes")

        asked = data.shape, classes, confidence, unit
        made = prove(classifier, *asked, slope_steps=slope_steps, watch=watch)
        tell("prove", looked, looked, f"{looked} numbers of lit features in {made.seconds:.1f} s")
    return made


@plain_arguments
def gate(
    model: nn.Module,
    data: Data,
    k: int,
    confidence: float = 0.9,
    *,
    unit: str = "features",
    steps: int = GatePlan.steps,
    seed: int = 0,
    progress: bool | None = None,
    note: Note | None = None,
) -> UnitClassifier:
    """Put a small certified gate around a network: the same answers, and no confidence in images
    with at most `k` lit features.

    Args:
        model: any network; its outputs need no proof.
        data: that it was made for.
        k: lit features, or pixels, that are to be too few for every class.
        confidence: that no image with so few is to be given, in (0, 1).
        unit: what k counts, `features` or `pixels`.
        steps: of training the gate, a batch of real images and one bound each.
        seed: of everything random.
        progress: show bars; None where a terminal or a notebook shows them.
        note: told in their place how far the training is, as note(stage, done, all, words).

    Returns:
        The network inside its gate, which `certify` and `audit` take.

    Raises:
        ArgumentError, ModelError: with one line, where no such gate can be made.
    """
    check_classifier(model)
    check_data(data)
    check_seed(seed)
    if unit not in UNITS:
        raise ArgumentError(f"unit must be features or pixels, got {unit!r}")
    classifier = load_model(model)
    form, plan = check_fits(classifier, data), GatePlan(steps=steps, seed=seed)
    train = gate_for(classifier, data, form, k, confidence, unit, plan)
    with told(note, progress) as tell:
        return train(tell)


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
