"""The certificate of a run folder: what it says is compared, and then proved again."""

from __future__ import annotations

import math

from blankcheck.certifying import Certificate, Gated, confirm
from blankcheck.certifying.certificate import levels_again
from blankcheck.certifying.record import CERTIFIED, GATE_CERTIFIED
from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.errors import ArgumentError, ModelError, RunFolderError
from blankcheck.judging.recheck import differences
from blankcheck.runs.folder import CERTIFICATE, CONFIG, MARK
from blankcheck.runs.schema import checked
from blankcheck.verifying.folder import Folder, Subject, value

COMMANDS = ("audit", "harden", "certify", "gate")
"""Those that give a verdict."""
MOST_LEVELS = 1000
CLOSE = 1e-3
"""How much lower than proved again a bound of a probability may be said to be: optimising differs
between machines."""


def read_certificate(folder: Folder) -> Certificate | None:
    """The certificate of the folder, None where there is none or what it says makes no sense."""
    found, said, run = folder.found, folder.verdict.get("certificate"), folder.run
    if not run.has(CERTIFICATE):
        if said is not None:
            found.fail(CERTIFICATE, "is missing, and verdict.json speaks of it")
        return None
    if said is None:
        found.fail(CERTIFICATE, "is there, and verdict.json does not speak of it")
    record = run.read_json(CERTIFICATE)
    try:
        certificate = checked(record, Certificate, CERTIFICATE)
        again = certificate.as_json()
        if len(certificate.k) != (classes := len(folder.verdict["classes"])):
            raise ValueError(f"must have one entry for each of {classes} classes")
    except RunFolderError as error:
        found.fail(error)
    except (ArgumentError, ArithmeticError, ValueError) as error:
        found.fail(CERTIFICATE, error)
    else:
        found.differ(CERTIFICATE, differences(record, again))
        return certificate
    return None


def check_command(folder: Folder, certificate: Certificate | None) -> None:
    """The command of the run goes with its certificate."""
    found, command = folder.found, str(folder.around.command)
    if command not in COMMANDS:
        found.fail(MARK, f"command is {value(command)}, which gives no verdict")
    if command in ("certify", "gate") and certificate is None:
        found.fail(CERTIFICATE, f"a run of {command} ends with a certificate")
    if command == "gate" and certificate is not None:
        whose = "a run of gate ends with"
        found.compare(CERTIFICATE, "means", certificate.means, whose, GATE_CERTIFIED)


def check_certificate(folder: Folder, certificate: Certificate, subject: Subject) -> bool:
    """Whether all that the certificate says holds."""
    found, config, before = folder.found, folder.config, len(folder.found.failures)
    gated = isinstance(subject.classifier.network, Gated)
    for name, true in (
        ("shape", tuple(subject.shape)),
        ("outputs", subject.outputs),
        ("confidence", folder.verdict["conditions"]["confidence"]),
        ("fingerprint", fingerprint(subject.classifier)),
        ("means", GATE_CERTIFIED if gated else CERTIFIED),
        ("unit", config.get("unit", "features")),
    ):
        found.compare(CERTIFICATE, name, getattr(certificate, name), "the run's is", true)
    steps = certificate.settings["slope_steps"]
    asked = config.get("slope_steps", steps)
    found.compare(CERTIFICATE, "slope_steps", steps, f"{CONFIG} says", asked)
    if len(certificate.levels) > MOST_LEVELS:
        found.fail(CERTIFICATE, f"levels must be at most {MOST_LEVELS}")
    # nothing is proved of a shape, or at a number of steps, that only the file names
    if len(found.failures) == before:
        _prove(folder, certificate, subject.classifier)
    return len(found.failures) == before


def _prove(folder: Folder, certificate: Certificate, classifier: UnitClassifier) -> None:
    found = folder.found
    try:
        holds = confirm(certificate, classifier)
        again = levels_again(certificate, classifier)
    except (ArgumentError, ModelError) as error:
        found.fail(CERTIFICATE, f"cannot be proved again: {error}")
        return
    failed = [str(target) for target, good in enumerate(holds) if not good]
    if failed:
        found.fail(CERTIFICATE, f"does not hold for classes {', '.join(failed)}")
        return
    for said, level in zip(certificate.levels, again, strict=True):
        for target, (a, b) in enumerate(zip(said.log_odds, level.log_odds, strict=True)):
            # beyond 700 an exponential leaves float64
            claimed, proved = (1 / (1 + math.exp(min(-x, 700.0))) for x in (a, b))
            if not claimed >= proved - CLOSE:
                words = f"class {target} is said to stay below {claimed:.4f} at k = {said.k}"
                found.fail(CERTIFICATE, f"{words}, proved again is {proved:.4f}")
                return
    known = sum(k is not None for k in certificate.k)
    of = "all" if known == len(holds) else f"{known} of"
    found.facts.append(f"certificate: proved again for {of} {len(holds)} classes")
