"""A run folder, derived anew and compared, from the data at hand to its verdict."""

from __future__ import annotations

from blankcheck.api.certify import proof_of
from blankcheck.api.reopen import data_again, model_again, text_of
from blankcheck.certifying import Certificate
from blankcheck.classifiers import UnitClassifier
from blankcheck.errors import ModelError, RunFolderError
from blankcheck.judging.evidence import Attempt
from blankcheck.runs.folder import ATTEMPTS, WITNESSES, RunFolder
from blankcheck.runs.witnesses import LATER, METADATA
from blankcheck.verifying import record
from blankcheck.verifying.certificate import check_certificate, check_command, read_certificate
from blankcheck.verifying.findings import Findings
from blankcheck.verifying.folder import Folder, Subject, read_folder
from blankcheck.verifying.subject import check_data, check_network, check_program
from blankcheck.verifying.witnesses import check_attempts, check_nearest, check_rows, check_scores


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
    want = record.check_conditions(folder, shape)
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
        extra = _measured(folder, certificate, Subject(classifier, name, loaded, shape, want))
    if run.has(ATTEMPTS):
        record.check_allocation(folder, want)
        record.derive(folder, extra, want, None if certificate is None else proof_of(certificate))
    return found


def _measured(
    folder: Folder, certificate: Certificate | None, subject: Subject
) -> tuple[Attempt, ...]:
    """All that the network is needed for; hands back the witnesses outside the allocation."""
    extra: tuple[Attempt, ...] = ()
    try:
        check_network(folder, subject)
        extra = _witnesses(folder, subject)
        if subject.data is not None:
            record.check_real(folder, subject, subject.data)
        check_program(folder, subject)
        if certificate is not None:
            good = check_certificate(folder, certificate, subject)
            folder.found.record["certificate"] = good
    except (ModelError, RunFolderError) as error:
        folder.found.fail(error)
    return extra


def _witnesses(folder: Folder, subject: Subject) -> tuple[Attempt, ...]:
    """All that the witness file says; hands back the witnesses outside the fixed allocation."""
    found, stored = folder.found, folder.stored
    if stored is None:
        return ()
    missing = [name for name in METADATA if name not in stored.metadata]
    if missing:
        found.lack(WITNESSES, f"metadata does not say {', '.join(missing)}")
    for name in LATER:
        if name not in stored.tensors:
            found.lack(WITNESSES, f"{name} is missing")
    judges = record.fit_judges(folder, subject.want, subject.data)
    check_scores(folder, stored, subject, judges.first)
    if subject.data is not None:
        check_nearest(folder, stored, subject.data)
    check_attempts(folder, judges)
    return check_rows(folder, stored, judges.second)
