"""A run folder, derived anew and compared, from the data at hand to its verdict."""

from __future__ import annotations

from dataclasses import fields

from blankcheck.api.certify import proof_of
from blankcheck.api.reopen import data_again, model_again, text_of
from blankcheck.auditing import ood_test
from blankcheck.certifying import Certificate
from blankcheck.classifiers import UnitClassifier
from blankcheck.data import Data
from blankcheck.errors import ArgumentError, DataError, ModelError, RunFolderError
from blankcheck.judging import FIRST, SECOND, Verdict
from blankcheck.judging.evidence import Attempt
from blankcheck.runs.folder import ATTEMPTS, VERDICT, WITNESSES, RunFolder
from blankcheck.runs.witnesses import LATER, METADATA
from blankcheck.types import Conditions
from blankcheck.verifying.certificate import check_certificate, check_command, read_certificate
from blankcheck.verifying.findings import Findings
from blankcheck.verifying.folder import Folder, read_folder
from blankcheck.verifying.record import (
    Judges,
    check_allocation,
    check_conditions,
    check_real,
    check_test,
    derive,
    fit_judges,
)
from blankcheck.verifying.subject import check_data, check_network, check_program
from blankcheck.verifying.witnesses import check_attempts, check_nearest, check_rows, check_scores

Shape = tuple[int, int, int]


def verify(
    run: RunFolder,
    *,
    model: str | None = None,
    weights: str | None = None,
    normalize: str | None = None,
    data: str | None = None,
    data_dir: str | None = None,
    unsafe_pickle: bool = False,
) -> Findings:
    """Derive a run folder anew. Nothing that it names is run.

    Args:
        run: the folder.
        model: a name or a factory of the network, in place of what the settings of the run name;
            likewise `weights`, `normalize`, `data` and `data_dir`.
        unsafe_pickle: load .pt files that hold more than tensors.

    Raises:
        RunFolderError: for what is no run folder with a verdict.
        ArgumentError, DataError, ModelError: where what is named here cannot be had.
    """
    found = Findings(record={"certificate": None})
    folder = read_folder(found, run)
    if folder is None:
        return found
    source, name = data or text_of(folder.config, "data"), model or text_of(folder.config, "model")
    loaded = check_data(folder, data_again(folder.config, data, data_dir), source)
    shape = folder.stored.shape if folder.stored is not None else None
    shape = loaded.shape if loaded is not None else shape
    want = _conditions(folder, shape)
    if want is None:
        return found
    classifier: UnitClassifier | None = None
    extra: tuple[Attempt, ...] = ()
    try:
        named = (model, weights, normalize, unsafe_pickle)
        classifier = model_again(run, folder.config, loaded, *named)
    except (RunFolderError, ModelError) as error:
        # the folder's own network that cannot be built is a finding, and one that was named is not
        if isinstance(error, ModelError) and (model is not None or weights is not None):
            raise
        found.fail(error)
    certificate = read_certificate(folder)
    check_command(folder, certificate)
    if classifier is not None and shape is not None:
        extra = _measured(folder, want, certificate, classifier, name, loaded, shape)
    if run.has(ATTEMPTS):
        _verdict(folder, extra, want, certificate)
    return found


def _conditions(folder: Folder, shape: Shape | None) -> Conditions | None:
    """What was asked; None where nothing can be asked for that."""
    found, said = folder.found, folder.verdict["conditions"]
    check_conditions(folder, shape)
    found.record |= {"verdict": folder.verdict["verdict"], "conditions": said}
    try:
        want = Conditions(*(said[f.name] for f in fields(Conditions)))
    except ArgumentError as error:
        found.fail(VERDICT, "conditions", error)
        return None
    found.facts.append(
        f"conditions: confidence >= {want.confidence:g}, at most {want.max_lit} lit features, "
        f"out of distribution at {want.ood_level:g}"
    )
    return want


def _measured(
    folder: Folder,
    want: Conditions,
    certificate: Certificate | None,
    classifier: UnitClassifier,
    name: str,
    data: Data | None,
    shape: Shape,
) -> tuple[Attempt, ...]:
    """All that the network is needed for; hands back the witnesses outside the allocation."""
    extra: tuple[Attempt, ...] = ()
    try:
        form, outputs = check_network(folder, classifier, name, data, shape)
        extra = _witnesses(folder, classifier, data, form, want)
        if data is not None:
            check_real(folder, classifier, data, form, want.confidence)
        check_program(folder, classifier, data)
        if certificate is not None:
            good = check_certificate(folder, certificate, classifier, shape, outputs)
            folder.found.record["certificate"] = good
    except (ModelError, RunFolderError) as error:
        folder.found.fail(error)
    return extra


def _witnesses(
    folder: Folder, classifier: UnitClassifier, data: Data | None, form: str, want: Conditions
) -> tuple[Attempt, ...]:
    """Everything the witness file says; hands back the witnesses outside the fixed allocation."""
    found, stored = folder.found, folder.stored
    if stored is None:
        return ()
    missing = [name for name in METADATA if name not in stored.metadata]
    if missing:
        found.lack(WITNESSES, f"metadata does not say {', '.join(missing)}")
    for name in LATER:
        if name not in stored.tensors:
            found.lack(WITNESSES, f"{name} is missing")
    judges = Judges()
    if data is not None:
        families = {"first": FIRST, "second": SECOND}
        try:
            judges = fit_judges(folder, lambda name: ood_test(data, want.ood_level, families[name]))
        except DataError as error:
            found.fail(VERDICT, "conditions.ood_level", error)
        if judges.first is not None:
            check_test(folder, judges.first, data)
    check_scores(folder, stored, classifier, form, want, judges.first)
    if data is not None:
        check_nearest(folder, stored, data)
    check_attempts(folder, judges)
    return check_rows(folder, stored, judges.second)


def _verdict(
    folder: Folder, extra: tuple[Attempt, ...], want: Conditions, certificate: Certificate | None
) -> None:
    check_allocation(folder, want)
    word = derive(folder, extra, want, None if certificate is None else proof_of(certificate))
    if folder.found.failures:
        return
    folder.found.facts.append(
        f"verdict: {word}, derived anew from {len(folder.attempts)} attempts, {len(extra)} "
        f"witnesses outside them and {len(folder.verdict['checks'])} checks"
    )
    if word in (Verdict.RESISTED, Verdict.INCONCLUSIVE):
        folder.found.facts.append(
            "what was not found rests on the recorded attempts and controls, and can only be "
            "repeated by running the audit again"
        )
