"""`blankcheck doctor`: what a network is and wants, said on the terminal, and the audit to run."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from rich.markup import escape

from blankcheck.classifiers import ARCHITECTURES, UnitClassifier, load_model
from blankcheck.classifiers.hubs import is_hub_name
from blankcheck.classifiers.loading import parse_normalize
from blankcheck.classifiers.wrapper import Normalisation, fingerprint
from blankcheck.cli.commands.shared import claim_of
from blankcheck.cli.settings import DoctorSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data, load_data
from blankcheck.diagnosing import (
    GOOD,
    NOTE,
    PROBLEM,
    Diagnosis,
    Facts,
    Finding,
    alike,
    diagnose,
    spelled,
)
from blankcheck.errors import ArgumentError
from blankcheck.parallel.devices import choose_threads, resolve

RESULT = "doctor.json"
STYLES = {PROBLEM: "bold red", NOTE: "yellow", GOOD: "green"}
MARKS = {PROBLEM: "✗", NOTE: "•", GOOD: "✓"}
PLAIN_MARKS = {PROBLEM: "x", NOTE: "-", GOOD: "+"}
UNBROKEN = "\u00a0"
WIDEST, ROOMY, COLUMN = 100, 80, 24
UNLIKELY: Normalisation = ((0.123,), (0.77,))
"""A normalisation that no network carries."""


def doctor_command(settings: DoctorSettings, terminal: Terminal) -> int:
    """Examine a network; 0 whatever is found."""
    if settings.model in ARCHITECTURES and settings.weights is None:
        raise ArgumentError(
            f"model {settings.model!r} is untrained; give its --weights (blankcheck train makes them)"
        )
    claim = claim_of(settings, "doctor") if settings.out is not None or settings.overwrite else None
    device, data = resolve(settings.device), load_data(settings.data, settings.data_dir)
    choose_threads(data.shape)
    classifier = _load(settings, data, parse_normalize(settings.normalize)).to(device)
    with claim.opened() if claim is not None else nullcontext() as run:
        if run is not None:
            run.begin("doctor", settings.as_config(), device)
        found = _examined(classifier, data, settings, terminal)
        record = as_record(found, settings) | {"fingerprint": fingerprint(classifier)}
        path = str(run.write_json(RESULT, record)) if run is not None else None
    if terminal.as_json:
        terminal.result("", [], None, record)
        return 0
    _show(found, settings, terminal)
    if path is not None:
        terminal.out.file.write(f"{path}\n")
    return 0


def _load(settings: DoctorSettings, data: Data, normalize: Normalisation | None) -> UnitClassifier:
    return load_model(
        settings.model, settings.weights, data, normalize, unsafe_pickle=settings.unsafe_pickle
    )


def _examined(
    classifier: UnitClassifier, data: Data, settings: DoctorSettings, terminal: Terminal
) -> Diagnosis:
    fixed = _carries(classifier, settings, data)
    before = parse_normalize(settings.normalize)
    with terminal.progress() as bar:
        found = diagnose(
            classifier, data, images=settings.images, seed=settings.seed, fixed=fixed, note=bar
        )
        if (
            not fixed
            and not alike(found.normalize, before)
            and not _takes(settings, data, found.normalize)
        ):
            found = diagnose(
                classifier, data, images=settings.images, seed=settings.seed, fixed=True, note=bar
            )
    return found


def _carries(classifier: UnitClassifier, settings: DoctorSettings, data: Data) -> bool:
    """Whether the network's normalisation is its own, so that the option cannot change it."""
    asked = parse_normalize(settings.normalize)
    if asked is not None:
        return not alike(asked, _inside(classifier))
    return (
        classifier.normalised
        and not is_hub_name(settings.model)
        and not _takes(settings, data, UNLIKELY)
    )


def _takes(settings: DoctorSettings, data: Data, normalize: Normalisation | None) -> bool:
    """Whether the network, loaded with this option as an audit would load it, has this
    normalisation."""
    try:
        return alike(_inside(_load(settings, data, normalize)), normalize)
    except ArgumentError:  # the weights hold another one
        return False


def _inside(classifier: UnitClassifier) -> Normalisation:
    return tuple(classifier.mean.flatten().tolist()), tuple(classifier.std.flatten().tolist())


def as_record(found: Diagnosis, settings: DoctorSettings) -> dict[str, Any]:
    """The whole result as plain values: what `--json` prints and `doctor.json` holds, schema 1."""
    return {
        "schema": 1,
        "model": settings.model,
        "weights": settings.weights,
        "data": settings.data,
        "problems": len(found.problems),
        "plausible": found.plausible,
        "facts": asdict(found.facts),
        "findings": [asdict(f) for f in found.findings],
        "forms": list(found.forms),
        "normalize": spelled(found.normalize),
        "lines": list(found.lines),
        "command": audit_line(found, settings),
    }


def audit_line(found: Diagnosis, settings: DoctorSettings) -> str | None:
    """The audit to run, quoted for a shell; None where the network answers nothing an audit could
    be about."""
    if not found.plausible:
        return None
    given: list[tuple[str, str | None]] = [
        ("--data", settings.data),
        ("--data-dir", settings.data_dir),
        ("--model", settings.model),
        ("--weights", settings.weights),
        ("--normalize", _normalize_option(found, settings)),
        ("--device", settings.device if settings.device != "auto" else None),
        ("--seed", str(settings.seed) if settings.seed else None),
    ]
    words = ["blankcheck", "audit"]
    for name, value in given:
        if value is not None:
            words += [f"{name}={quoted(value)}"] if value.startswith("-") else [name, quoted(value)]
    return " ".join([*words, *(["--unsafe-pickle"] if settings.unsafe_pickle else [])])


def _normalize_option(found: Diagnosis, settings: DoctorSettings) -> str | None:
    asked = parse_normalize(settings.normalize)
    if asked is not None and alike(asked, found.normalize):
        return settings.normalize
    if found.carried:
        return None
    if found.normalize is None:
        return "0/1" if is_hub_name(settings.model) else None
    return spelled(found.normalize)


def quoted(text: str) -> str:
    """A word for a shell; one that a terminal would not show as it is in the quotes that spell such
    letters out."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(_spelled_out(letter) for letter in text) + "'"


def _spelled_out(letter: str) -> str:
    if letter.isprintable():
        return f"\\{letter}" if letter in "\\'" else letter
    return "".join(f"\\x{byte:02x}" for byte in letter.encode(errors="surrogateescape"))


def _show(found: Diagnosis, settings: DoctorSettings, terminal: Terminal) -> None:
    """Facts, then findings, problems first, then the audit to run."""
    out, width = terminal.out, min(WIDEST, terminal.out.width)
    marks = MARKS if (out.encoding or "").lower().startswith("utf") else PLAIN_MARKS
    count = len(found.problems)
    word, style = ("PROBLEMS", "bold red") if count else ("HEALTHY", "bold green")
    said = f"{count} problem{'' if count == 1 else 's'}" if count else "no problem"
    out.print(
        f"[{style}]{word}[/]  {said} found with {_safe(settings.model)} on {_safe(settings.data)}"
    )
    if not terminal.quiet:
        for name, text in fact_lines(found.facts):
            out.print("\n".join(_block(f"  [dim]{name:<9}[/]", 11, text, width)))
    shown = [f for f in found.findings if f.status == PROBLEM or not terminal.quiet]
    if shown:
        out.print("")
    for finding in shown:
        out.print("\n".join(_finding_lines(finding, marks[finding.status], width)))
    out.print("")
    command = audit_line(found, settings)
    if command is None:
        out.print(
            "\n".join(
                textwrap.wrap(
                    "No audit yet: nothing that was tried makes it answer as a trained network does.",
                    width,
                )
            )
        )
        return
    out.print(
        "Audit it with" if not found.lines else "With these lines in the factory, audit it with"
    )
    out.file.write(f"{command}\n")
    out.file.flush()


def _finding_lines(finding: Finding, mark: str, width: int) -> Iterator[str]:
    column = COLUMN if width >= ROOMY else len(finding.code) + 4
    indent = COLUMN if width >= ROOMY else 4
    head = f"[{STYLES[finding.status]}]{mark} {finding.code}[/]" + " " * (
        column - 2 - len(finding.code)
    )
    yield from _block(head, column, finding.finding, width, indent)
    if finding.what_to_do:
        yield from (
            f"[bold]{line}[/]" for line in _block(" " * indent, indent, finding.what_to_do, width)
        )
    if finding.line:
        yield f"    [cyan]{_safe(finding.line)}[/]"


def _block(head: str, taken: int, text: str, width: int, indent: int | None = None) -> list[str]:
    """Text beside a head that takes so many columns, its further lines indented.

    Options and numbers stay whole.
    """
    behind = " " * (taken if indent is None else indent)
    kept = _plain(text).replace(" %", f"{UNBROKEN}%")
    lines = textwrap.wrap(
        kept,
        width,
        initial_indent=" " * taken,
        subsequent_indent=behind,
        break_long_words=False,
        break_on_hyphens=False,
    )
    lines = [escape(line.replace(UNBROKEN, " ")) for line in lines]
    return [head + lines[0][taken:], *lines[1:]] if lines else [head]


def _plain(text: str) -> str:
    """Without letters that a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _safe(text: str) -> str:
    return escape(_plain(text))


def fact_lines(facts: Facts) -> Iterator[tuple[str, str]]:
    """The header: what the network is."""
    size = "x".join(map(str, facts.shape))
    low, high = facts.value_range
    yield "images", f"{size}, values from {low:.2g} to {high:.2g}, {facts.classes} classes"
    if facts.outputs is not None:
        yield "outputs", f"{facts.outputs}" + (f" {facts.output_form}" if facts.output_form else "")
    yield (
        "network",
        f"{facts.parameters:,} parameters ({_bytes(facts.parameter_bytes)}) on {facts.device}",
    )
    if facts.forward_ms is not None:
        slope = (
            f", {facts.gradient_ms:.2g} ms with gradient" if facts.gradient_ms is not None else ""
        )
        kept = (
            f", {_bytes(facts.activation_bytes)} of activations"
            if facts.activation_bytes is not None
            else ""
        )
        yield "a pass", f"{facts.forward_ms:.2g} ms an image{slope}{kept}"


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
