"""What `verify` checks a run folder against: the data set and the network, loaded again."""

from __future__ import annotations

from blankcheck.api.reopen import text_of
from blankcheck.certifying import Gated
from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.data import Data
from blankcheck.data.loading import runs_code
from blankcheck.data.variants import split_variants
from blankcheck.errors import DataError
from blankcheck.runs.folder import CONFIG, VERDICT, WITNESSES, environment
from blankcheck.runs.gate_file import GATE, PROGRAM, program_bytes, read_gate, same_program
from blankcheck.runs.witnesses import data_fingerprint
from blankcheck.text import one_line
from blankcheck.verifying.findings import value
from blankcheck.verifying.folder import Folder, Subject


def check_data(folder: Folder, data: Data | None, source: str) -> Data | None:
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
        found.not_at_hand(
            "p-values were taken from the file, not checked, and no real image was looked at: "
            f"the data set {name} is not at hand; name it with --data"
        )
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


def check_network(folder: Folder, subject: Subject) -> None:
    """Whether this is the network of the run: what its files say is compared with what it does."""
    found, inner, form = folder.found, subject.classifier.network, subject.form
    mark, gated = fingerprint(subject.classifier), isinstance(inner, Gated)
    behind = f", scored behind the gate of the run folder ({GATE})" if gated else ""
    found.facts.append(
        f"network: {one_line(subject.name, 80)}, normalisation "
        f"{_normalisation(subject.classifier)}, outputs {form}, fingerprint {mark}{behind}"
    )
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


def check_program(folder: Folder, subject: Subject) -> None:
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
