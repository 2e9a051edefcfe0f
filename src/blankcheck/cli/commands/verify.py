"""`blankcheck verify`: a run folder, derived anew and compared.

What a file says is never what is checked.
"""

from __future__ import annotations

from blankcheck.api.audit import WITNESSES
from blankcheck.api.certify import proof_of
from blankcheck.auditing import ood_test
from blankcheck.certifying import Certificate
from blankcheck.classifiers import UnitClassifier
from blankcheck.cli.settings import VerifySettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data
from blankcheck.errors import ArgumentError, DataError, ModelError, RunFolderError
from blankcheck.judging import FIRST, SECOND, Verdict
from blankcheck.judging.evidence import Attempt
from blankcheck.runs.contents import process_names
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.witnesses import LATER, METADATA
from blankcheck.types import Conditions
from blankcheck.verifying.certificate import check_certificate, check_command, read_certificate
from blankcheck.verifying.findings import Findings
from blankcheck.verifying.folder import ATTEMPTS, VERDICT, Folder, read_folder
from blankcheck.verifying.record import (
    check_allocation,
    check_conditions,
    check_real,
    check_test,
    derive,
    fit_judges,
)
from blankcheck.verifying.subject import check_data, check_network, check_program, model_again
from blankcheck.verifying.witnesses import (
    Judges,
    check_attempts,
    check_nearest,
    check_rows,
    check_scores,
)

NOT_CONFIRMED, IN_PART = 12, 13
WORDS = {0: "CONFIRMED", NOT_CONFIRMED: "NOT CONFIRMED", IN_PART: "CONFIRMED IN PART"}
MOST_FAILURES = 100
"""In the JSON record; the others are counted."""


def verify_command(settings: VerifySettings, terminal: Terminal) -> int:
    """Derive a run folder anew. 0 where everything is confirmed, 12 where something is not, 13
    where what is at hand confirms a part.

    Raises RunFolderError for what is no run folder with a verdict, and ArgumentError, DataError or
    ModelError where the network or the data that were named cannot be had.
    """
    run, found = RunFolder.open(settings.run), Findings(record={"certificate": None})
    folder = read_folder(found, run)
    if folder is not None:
        _look(found, settings, folder)
        found.record |= {
            "verdict": folder.verdict["verdict"],
            "conditions": folder.verdict["conditions"],
        }
    code = NOT_CONFIRMED if found.failures else IN_PART if found.lacking else 0
    found.record |= {
        "failed": len(found.failures),
        "failures": found.failures[:MOST_FAILURES],
        "not_confirmed": found.lacking[:MOST_FAILURES],
    }
    said, facts = found.said(), found.facts
    lines = [*said, *facts] if found.failures else [*facts[:1], *said, *facts[1:]]
    terminal.result(WORDS[code], lines, None, found.record)
    return code


def _look(found: Findings, settings: VerifySettings, folder: Folder) -> None:
    """Everything, one after the other; what does not hold is collected."""
    run, verdict = folder.run, folder.verdict
    data = check_data(found, settings, folder)
    shape = data.shape if data is not None else folder.shape
    check_conditions(found, folder, shape)
    try:
        want = Conditions(**verdict["conditions"])
    except ArgumentError as error:
        found.fail(VERDICT, f"conditions: {error}")
        return
    found.facts.append(
        f"conditions: confidence >= {want.confidence:g}, at most {want.max_lit} lit features, out of "
        f"distribution at {want.ood_level:g}"
    )
    classifier = _classifier(found, settings, folder, data)
    certificate = read_certificate(found, run, verdict)
    check_command(found, folder.command, certificate)
    extra: tuple[Attempt, ...] = ()
    if classifier is not None and shape is not None:
        try:
            form, outputs = check_network(found, settings, folder, classifier, data, shape)
            extra = _witnesses(found, folder, classifier, data, form, want)
            if data is not None:
                check_real(found, verdict, classifier, data, form, want.confidence)
            check_program(found, run, classifier, data)
            if certificate is not None:
                good = check_certificate(found, certificate, classifier, folder, shape, outputs)
                found.record["certificate"] = good
        except (ModelError, RunFolderError) as error:
            found.fails(str(error))
    if run.has(ATTEMPTS):
        _verdict(found, folder, extra, want, certificate)


def _classifier(
    found: Findings, settings: VerifySettings, folder: Folder, data: Data | None
) -> UnitClassifier | None:
    """The network; None, and a failure, where it is the folder's own and cannot be built."""
    try:
        return model_again(settings, folder.config, folder.run, data)
    except RunFolderError as error:
        found.fails(str(error))
    except ModelError as error:
        if settings.model is not None or settings.weights is not None:
            raise
        found.fails(str(error))
    return None


def _witnesses(
    found: Findings,
    folder: Folder,
    classifier: UnitClassifier,
    data: Data | None,
    form: str,
    want: Conditions,
) -> tuple[Attempt, ...]:
    """Everything the witness file says; hands back the witnesses outside the fixed allocation."""
    stored = folder.stored
    if stored is None:
        return ()
    missing = [name for name in METADATA if name not in stored.metadata]
    if missing:
        found.lack(WITNESSES, f"metadata does not say {', '.join(missing)}")
    for name in LATER:
        if name not in stored.tensors:
            found.lack(WITNESSES, f"{name} is missing")
    judges = Judges() if data is None else _judges(found, folder, data, want.ood_level)
    if judges.first is not None and data is not None:
        check_test(found, folder.verdict, judges.first, data)
    check_scores(found, stored, classifier, form, want, judges)
    if data is not None:
        check_nearest(found, stored, data)
    check_attempts(found, folder.attempts, judges)
    seed = folder.config.get("seed")
    return check_rows(
        found, stored, folder.attempts, process_names(stored, WITNESSES), judges, seed
    )


def _judges(found: Findings, folder: Folder, data: Data, level: float) -> Judges:
    families = {"first": FIRST, "second": SECOND}
    try:
        return fit_judges(found, folder, lambda family: ood_test(data, level, families[family]))
    except DataError as error:
        found.fail(VERDICT, f"conditions.ood_level: {error}")
        return Judges()


def _verdict(
    found: Findings,
    folder: Folder,
    extra: tuple[Attempt, ...],
    want: Conditions,
    certificate: Certificate | None,
) -> None:
    check_allocation(found, folder, want)
    word = derive(
        found, folder, extra, want, None if certificate is None else proof_of(certificate)
    )
    if found.failures:
        return
    found.facts.append(
        f"verdict: {word}, derived anew from {len(folder.attempts)} attempts, {len(extra)} witnesses outside "
        f"them and {len(folder.verdict['checks'])} checks"
    )
    if word in (Verdict.RESISTED, Verdict.INCONCLUSIVE):
        found.facts.append(
            "what was not found rests on the recorded attempts and controls, and can only be repeated by "
            "running the audit again"
        )
