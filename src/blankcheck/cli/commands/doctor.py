"""`blankcheck doctor`: what a network is and wants, said on the terminal, and the audit to run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

from rich.text import Text

from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.hubs import is_hub_name
from blankcheck.classifiers.loading import parse_normalize
from blankcheck.classifiers.wrapper import Normalisation, fingerprint
from blankcheck.cli.commands.shared import begin, claim_of, load, load_both, tell
from blankcheck.cli.settings import DoctorSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data
from blankcheck.diagnosing import GOOD, NOTE, PROBLEM, Diagnosis, alike, diagnose, spelled
from blankcheck.errors import ArgumentError
from blankcheck.text import one_line

RESULT = "doctor.json"
MARKS = {PROBLEM: ("✗", "x", "bold red"), NOTE: ("•", "-", "yellow"), GOOD: ("✓", "+", "green")}
"""What stands before a finding, also where the terminal has no such letter, and its colour."""
WIDEST, COLUMN, MOST_LETTERS = 100, 24, 1000
UNLIKELY: Normalisation = ((0.123,), (0.77,))  # which no network carries
NO_AUDIT = "No audit yet: nothing that was tried makes it answer as a trained network does."


def doctor_command(settings: DoctorSettings, terminal: Terminal) -> int:
    """Examine a network; 0 whatever is found, but 1 with `--strict` where a problem is."""
    claim = claim_of(settings, "doctor") if settings.out is not None or settings.overwrite else None
    device, data, classifier = load_both(settings)
    path = None
    with claim.opened() if claim is not None else nullcontext() as run:
        if run is not None:
            begin(run, "doctor", settings, device)
        tell(data, terminal)
        found = _examined(classifier, data, settings, terminal)
        record = _record(found, settings) | {"fingerprint": fingerprint(classifier)}
        if run is not None:
            path = run.write_json(RESULT, record)
    if terminal.as_json:
        terminal.result("", [], None, record)
    else:
        _show(found, record, terminal)
        terminal.out.file.write(f"{path}\n" if path is not None else "")
    return int(settings.strict and bool(found.problems))


def _examined(
    classifier: UnitClassifier, data: Data, settings: DoctorSettings, terminal: Terminal
) -> Diagnosis:
    asked = parse_normalize(settings.normalize)
    if asked is not None:
        carried = not alike(asked, _inside(classifier))
    else:
        own = classifier.normalised and not is_hub_name(settings.model)
        carried = own and not _takes(settings, data, UNLIKELY)
    images, seed = settings.images, settings.seed
    with terminal.progress() as bar:
        for fixed in (carried, True):
            found = diagnose(classifier, data, images=images, seed=seed, fixed=fixed, note=bar)
            wanted = found.normalize
            if fixed or alike(wanted, asked) or _takes(settings, data, wanted):
                break
    return found


def _takes(settings: DoctorSettings, data: Data, normalize: Normalisation | None) -> bool:
    """Whether an audit with this option would load the network with this normalisation."""
    try:
        loaded = load(replace(settings, normalize=spelled(normalize)), data)
        return alike(_inside(loaded), normalize)
    except ArgumentError:  # the weights hold another one
        return False


def _inside(classifier: UnitClassifier) -> Normalisation:
    return tuple(classifier.mean.flatten().tolist()), tuple(classifier.std.flatten().tolist())


def _record(found: Diagnosis, settings: DoctorSettings) -> dict[str, Any]:
    """The whole result as plain values: what `--json` prints and `doctor.json` holds, schema 1."""
    return {
        "schema": 1,
        **{name: getattr(settings, name) for name in ("model", "weights", "data")},
        "problems": len(found.problems),
        "plausible": found.plausible,
        "facts": asdict(found.facts),
        "findings": [asdict(f) for f in found.findings],
        "forms": list(found.forms),
        "normalize": spelled(found.normalize),
        "temperature": found.temperature,
        "lines": list(found.lines),
        "command": _audit(found, settings) if found.plausible else None,
    }


def _audit(found: Diagnosis, settings: DoctorSettings) -> str:
    """The audit to run, quoted for a shell."""
    names = ("data", "data_dir", "model", "weights")
    given = {f"--{name.replace('_', '-')}": getattr(settings, name) for name in names}
    given["--normalize"] = _normalize_option(found, settings)
    if found.temperature != 1:
        given["--temperature"] = f"{found.temperature:g}"
    given["--device"] = settings.device if settings.device != "auto" else None
    given["--seed"] = str(settings.seed) if settings.seed else None
    words = ["blankcheck audit"]
    for name, value in given.items():
        if value is not None:
            words.append(f"{name}{'=' if value.startswith('-') else ' '}{quoted(value)}")
    return " ".join([*words, *(["--unsafe-pickle"] if settings.unsafe_pickle else [])])


def _normalize_option(found: Diagnosis, settings: DoctorSettings) -> str | None:
    asked = parse_normalize(settings.normalize)
    if asked is not None and alike(asked, found.normalize):
        return settings.normalize
    default = "0/1" if is_hub_name(settings.model) else None
    wanted = default if found.normalize is None else spelled(found.normalize)
    return None if found.carried else wanted


def quoted(text: str) -> str:
    """A word for a shell; one that a terminal would not show as it is has its letters spelled."""
    if text.isprintable():
        return shlex.quote(text)
    letters = [chr(byte) for byte in text.encode(errors="surrogateescape")]
    plain = [c if c.isascii() and c.isalnum() else f"\\x{ord(c):02x}" for c in letters]
    return f"$'{''.join(plain)}'"


def _show(found: Diagnosis, record: dict[str, Any], terminal: Terminal) -> None:
    """Facts, then findings, problems first, then the audit to run."""
    terminal.settle()
    out, width = terminal.out, min(WIDEST, terminal.out.width)

    def beside(head: Text, column: int, text: Text) -> None:
        head.align("left", column)
        for line in text.wrap(out, width - column):
            line.rstrip()
            out.print(head + line)
            head = Text(" " * column)

    count, ascii_only = len(found.problems), not (out.encoding or "").lower().startswith("utf")
    word, style = ("PROBLEMS", "bold red") if count else ("HEALTHY", "bold green")
    said = f"{count or 'no'} problem{'' if count < 2 else 's'} found"
    named = f"{one_line(record['model'])} on {one_line(record['data'])}"
    out.print(Text(word, style).append(f"  {said} with {named}", "none"))
    for name, text in () if terminal.quiet else _fact_lines(found):
        beside(Text(f"  {name}", "dim"), 11, Text(text))
    findings = found.problems if terminal.quiet else found.findings
    if findings:
        out.print("")
    for finding in findings:
        *marks, style = MARKS[finding.status]
        head = Text(f"{marks[ascii_only]} {finding.code}", style)
        beside(head, COLUMN, Text(one_line(finding.finding, MOST_LETTERS)))
        if finding.what_to_do:
            beside(Text(), COLUMN, Text(finding.what_to_do, "bold"))
        if finding.line:
            out.print(Text(f"    {finding.line}", "cyan"))
    out.print("")
    if record["command"] is None:
        beside(Text(), 0, Text(NO_AUDIT))
        return
    out.print("With these lines in the factory, audit it with" if found.lines else "Audit it with")
    out.file.write(f"{record['command']}\n")
    out.file.flush()


def _fact_lines(found: Diagnosis) -> Iterator[tuple[str, str]]:
    """The header: what the network is."""
    facts = found.facts
    size, (low, high) = "x".join(map(str, facts.shape)), facts.value_range
    yield "images", f"{size}, values from {low:.2g} to {high:.2g}, {facts.classes} classes"
    if facts.outputs is not None:
        yield "outputs", f"{facts.outputs} {facts.output_form or ''}".rstrip()
    stored, kept = _bytes(facts.parameter_bytes), facts.activation_bytes
    yield "network", f"{facts.parameters:,} parameters ({stored}) on {facts.device}"
    if facts.forward_ms is not None:
        said = f"{facts.forward_ms:.2g} ms an image"
        if facts.gradient_ms is not None and kept is not None:
            said += f", {facts.gradient_ms:.2g} ms with gradient, {_bytes(kept)} of activations"
        yield "a pass", said


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
