"""The certificate of a run folder: what it says is compared, and then proved again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from blankcheck.api.certify import RECORD
from blankcheck.certifying import Certificate, Gated, confirm
from blankcheck.certifying.certificate import levels_again
from blankcheck.certifying.record import CERTIFIED, GATE_CERTIFIED
from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.errors import ArgumentError, ModelError, RunFolderError
from blankcheck.judging.recheck import differences
from blankcheck.runs.folder import CONFIG, MARK, RunFolder
from blankcheck.runs.schema import CERTIFICATE, check
from blankcheck.verifying.findings import Findings, value
from blankcheck.verifying.folder import Folder

MOST_LEVELS = 1000
CLOSE = 1e-3
"""How much lower than proved again a bound of a probability may be said to be: optimising differs
between machines."""


def read_certificate(
    found: Findings, run: RunFolder, verdict: Mapping[str, Any]
) -> Certificate | None:
    """The certificate of the folder, None where there is none or what it says makes no sense."""
    said = verdict.get("certificate")
    if not run.has(RECORD):
        if said is not None:
            found.fail(RECORD, "is missing, and verdict.json speaks of it")
        return None
    if said is None:
        found.fail(RECORD, "is there, and verdict.json does not speak of it")
    record = run.read_json(RECORD)
    try:
        check(record, CERTIFICATE, RECORD)
    except RunFolderError as error:
        found.fails(str(error))
        return None
    classes = len(verdict["classes"])
    rows = record["levels"]
    if any(
        len(each) != classes
        for each in (record["k"], *(row[name] for row in rows for name in ("log_odds", "slack")))
    ):
        found.fail(RECORD, f"must have one entry for each of {classes} classes")
        return None
    try:
        certificate = Certificate.from_json(record)
        again = certificate.as_json()
    except (ArgumentError, ArithmeticError, ValueError) as error:
        found.fail(RECORD, str(error))
        return None
    found.differ(RECORD, differences(record, again))
    return certificate


COMMANDS = ("audit", "harden", "certify", "gate")
"""Those that give a verdict."""


def check_command(found: Findings, command: str, certificate: Certificate | None) -> None:
    """The command of the run goes with its certificate."""
    if command not in COMMANDS:
        found.fail(MARK, f"command is {value(command)}, which gives no verdict")
    if command in ("certify", "gate") and certificate is None:
        found.fail(RECORD, f"a run of {command} ends with a certificate")
    if command == "gate" and certificate is not None and certificate.means != GATE_CERTIFIED:
        found.fail(
            RECORD, f"means is {value(certificate.means)}, a run of gate ends with {GATE_CERTIFIED}"
        )


def check_certificate(
    found: Findings,
    certificate: Certificate,
    classifier: UnitClassifier,
    folder: Folder,
    shape: Sequence[int],
    outputs: int,
) -> bool:
    """Whether all that the certificate says holds. shape: (c, h, w) of images. outputs: of the
    network."""
    before, config = len(found.failures), folder.config
    means = GATE_CERTIFIED if isinstance(classifier.network, Gated) else CERTIFIED
    asked = {
        "shape": (tuple(certificate.shape), tuple(shape)),
        "outputs": (certificate.outputs, outputs),
        "confidence": (certificate.confidence, folder.verdict["conditions"]["confidence"]),
        "fingerprint": (certificate.fingerprint, fingerprint(classifier)),
        "means": (certificate.means, means),
        "unit": (certificate.unit, config.get("unit", "features")),
    }
    for name, (said, true) in asked.items():
        if said != true:
            found.fail(RECORD, f"{name} is {value(said)}, the run's is {value(true)}")
    steps = certificate.settings["slope_steps"]
    if steps != config.get("slope_steps", steps):
        found.fail(RECORD, f"slope_steps is {steps}, {CONFIG} says {value(config['slope_steps'])}")
    if len(certificate.levels) > MOST_LEVELS:
        found.fail(RECORD, f"levels must be at most {MOST_LEVELS}")
    # nothing is proved of a shape, or at a number of steps, that only the file names
    if len(found.failures) > before:
        return False
    _prove(found, certificate, classifier)
    return len(found.failures) == before


def _prove(found: Findings, certificate: Certificate, classifier: UnitClassifier) -> None:
    try:
        holds = confirm(certificate, classifier)
        again = levels_again(certificate, classifier)
    except (ArgumentError, ModelError) as error:
        found.fail(RECORD, f"cannot be proved again: {error}")
        return
    failed = [str(target) for target, good in enumerate(holds) if not good]
    if failed:
        found.fail(RECORD, f"does not hold for classes {', '.join(failed)}")
        return
    for said, level in zip(certificate.levels, again, strict=True):
        for target, (a, b) in enumerate(zip(said.log_odds, level.log_odds, strict=True)):
            if not probability(a) >= probability(b) - CLOSE:
                found.fail(
                    RECORD,
                    f"class {target} is said to stay below {probability(a):.4f} at k = {said.k}, proved "
                    f"again is {probability(b):.4f}",
                )
                return
    claimed = sum(k is not None for k in certificate.k)
    of = "all" if claimed == len(holds) else f"{claimed} of"
    found.facts.append(f"certificate: proved again for {of} {len(holds)} classes")


def probability(log_odds: float) -> float:
    """From log-odds to a probability, without overflow."""
    return (
        1 / (1 + math.exp(-log_odds))
        if log_odds > 0
        else math.exp(log_odds) / (1 + math.exp(log_odds))
    )
