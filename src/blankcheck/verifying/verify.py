"""A run folder, derived anew and compared, from the data at hand to its verdict."""

from __future__ import annotations

import os

from torch import nn

from blankcheck.api.certify import proof_of
from blankcheck.api.reopen import data_again, model_again, text_of
from blankcheck.arguments import plain_arguments
from blankcheck.certifying import Certificate, Gated
from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.wrapper import Normalisation, fingerprint
from blankcheck.data import Data
from blankcheck.data.loading import runs_code
from blankcheck.data.variants import split_variants
from blankcheck.errors import DataError, ModelError, RunFolderError
from blankcheck.judging.evidence import Attempt
from blankcheck.runs.folder import ATTEMPTS, CONFIG, VERDICT, WITNESSES, RunFolder, environment
from blankcheck.runs.gate_file import GATE, PROGRAM, program_bytes, read_gate, same_program
from blankcheck.runs.witnesses import LATER, METADATA, data_fingerprint
from blankcheck.text import one_line
from blankcheck.verifying import record
from blankcheck.verifying.certificate import check_certificate, check_command, read_certificate
from blankcheck.verifying.folder import Findings, Folder, Subject, read_folder, value
from blankcheck.verifying.misses import check_misses
from blankcheck.verifying.witnesses import check_attempts, check_nearest, check_rows, check_scores


@plain_arguments
def verify(
    run: RunFolder | str | os.PathLike[str],
    *,
    model: nn.Module | str | None = None,
    weights: str | None = None,
    normalize: Normalisation | str | None = None,
    data: Data | str | None = None,
    data_dir: str | None = None,
    unsafe_pickle: bool = False,
) -> Findings:
    """Derive a run folder anew: score its witnesses, judge, prove its certificate, and compare.
    Nothing that it names is run.

    Args:
        run: the folder.
        model: the network, its name or its factory, in place of what the settings of the run name.
        weights: a file of weights, likewise.
        normalize: (means, standard deviations), likewise.
        data: the data set or its name, likewise.
        data_dir: where the files of named data sets are looked for first.
        unsafe_pickle: load .pt files that hold more than tensors.

    Returns:
        What was found: its `word`, `CONFIRMED`, `NOT CONFIRMED` or `CONFIRMED IN PART`, `failures`
        and what was `lacking`.

    Raises:
        RunFolderError: for what is no run folder with a verdict.
        ArgumentError, DataError, ModelError: where what is named here cannot be had.
    """
    run = run if isinstance(run, RunFolder) else RunFolder.open(run)
    found = Findings(record={"certificate": None})
    folder = read_folder(found, run)
    if folder is None:
        return found
    source = data.source if isinstance(data, Data) else data or text_of(folder.config, "data")
    name = model or text_of(folder.config, "model")
    name = name if isinstance(name, str) else type(name).__name__
    loaded = _check_data(folder, data_again(folder.config, data, data_dir), source)
    shape = folder.stored.shape if folder.stored is not None else None
    shape = loaded.shape if loaded is not None else shape
    want = record.check_conditions(folder, shape)
    if want is None:
        return found
    classifier: UnitClassifier | None = None
    if run.has(ATTEMPTS):  # which attempts there are comes before what each of them says
        record.check_allocation(folder, want, None if loaded is None else loaded.targets)
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
        record.derive(folder, extra, want, None if certificate is None else proof_of(certificate))
    return found


def _measured(
    folder: Folder, certificate: Certificate | None, subject: Subject
) -> tuple[Attempt, ...]:
    """All that the network is needed for; hands back the witnesses outside the allocation."""
    extra: tuple[Attempt, ...] = ()
    try:
        _check_network(folder, subject)
        extra = _witnesses(folder, subject)
        if subject.data is not None:
            record.check_real(folder, subject, subject.data)
        _check_program(folder, subject)
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
    check_scores(folder, stored, subject, judges.get("ood_p"))
    if subject.data is not None:
        check_nearest(folder, stored, subject.data)
    check_attempts(folder, judges)
    check_misses(folder, subject, judges)
    return check_rows(folder, stored, judges)


def _check_data(folder: Folder, data: Data | None, source: str) -> Data | None:
    """The data, loaded from `source`, where they are those of the run; None where they are others,
    or not at hand."""
    found, metadata, configured = folder.found, folder.metadata, text_of(folder.config, "data")
    found.record |= {"data": source, "data_fingerprint": None}
    then = metadata.get("data")
    # a factory may give its data any name; their fingerprint tells
    if then is not None and not runs_code(configured) and _plain(then) != _plain(configured):
        found.wrong(WITNESSES, "data", then, f"{CONFIG} says", configured)
    name = one_line(repr(source), 80)
    if data is None:
        missed = "p-values were taken from the file, not checked, and no real image was looked at"
        found.not_at_hand(f"{missed}: the data set {name} is not at hand; name it with --data")
        return None
    seen = data_fingerprint(data)
    found.record["data_fingerprint"] = seen
    found.facts.append(f"data: {one_line(source, 80)}, fingerprint {seen}")
    if list(data.classes) != folder.verdict["classes"]:
        found.fail(VERDICT, "classes are not those of the data")
    before = len(found.failures)
    said = metadata.get("data_fingerprint", seen)
    found.compare(WITNESSES, "data_fingerprint", said, f"that of {name} is", seen)
    shape = data.shape if folder.stored is None else folder.stored.shape
    if shape != data.shape:
        found.fail(WITNESSES, f"images have shape {shape}, those of the data {data.shape}")
    return data if len(found.failures) == before else None


def _plain(source: str) -> str:
    """A data set without its variants, which may be spelt in several ways."""
    try:
        return split_variants(source)[0]
    except DataError:
        return source


def _check_network(folder: Folder, subject: Subject) -> None:
    """Whether this is the network of the run: what its files say is compared with what it does."""
    found, inner, form = folder.found, subject.classifier.network, subject.form
    mark, gated = fingerprint(subject.classifier), isinstance(inner, Gated)
    behind = f", scored behind the gate of the run folder ({GATE})" if gated else ""
    scaled = f"{one_line(subject.name, 80)}, normalisation {_normalisation(subject.classifier)}"
    found.facts.append(f"network: {scaled}, outputs {form}, fingerprint {mark}{behind}")
    said = folder.metadata.get("fingerprint")
    if folder.stored is not None and said != mark:
        words = "the network is not the one that was audited: its fingerprint differs"
        found.fail(WITNESSES, f"{words}, {mark} here, {value(said)} in the file")
    noted = (folder.verdict.get("notes") or {}).get("output_form", form)
    stored = folder.metadata.get("output_form", form)
    found.compare(WITNESSES, "output_form", stored, "the network gives", form)
    found.compare(VERDICT, "output_form", noted, "the network gives", form)
    if isinstance(inner, Gated):
        its = read_gate(folder.run).form
        found.compare(GATE, "form", its, "the classifier inside gives", inner.form)
    found.record |= {"network": mark, "same_network": said == mark}
    found.record |= {"output_form": form, "gate": gated}


def _check_program(folder: Folder, subject: Subject) -> None:
    """The program beside a gate is what its network exports to. It is compared and not loaded,
    which could run code."""
    if not isinstance(subject.classifier.network, Gated):
        return
    made = folder.around.packages.get("torch"), folder.around.device
    if subject.data is None or made != (environment()["packages"]["torch"], "cpu"):
        needed = "which takes the data and the torch that exported it, on a CPU"
        folder.found.not_at_hand(f"{PROGRAM} was not looked at, {needed}")
        return
    try:
        program = program_bytes(subject.classifier, subject.data)
    except Exception:  # torch.export raises whatever it meets in the classifier
        program = None
    there = folder.run.read_bytes(PROGRAM) if folder.run.has(PROGRAM) else None
    if there is None or program is None or not same_program(there, program):
        folder.found.fail(PROGRAM, "is not the program that the network exports to")


def _normalisation(classifier: UnitClassifier) -> str:
    inner = classifier.network.inner if isinstance(classifier.network, Gated) else classifier
    if not isinstance(inner, UnitClassifier) or not inner.normalised:
        return "none"
    rows = (each.flatten().tolist() for each in (inner.mean, inner.std))
    return "/".join(",".join(f"{v:.4g}" for v in row) for row in rows)
