"""The result of an audit or of `verify` as JUnit XML, which build servers show beside tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from blankcheck.errors import ArgumentError
from blankcheck.text import one_line

FAILURE, SKIPPED = "failure", "skipped"
KINDS = {"RESISTED": None, "CERTIFIED": None, "CONFIRMED": None, "CONFIRMED IN PART": SKIPPED}
"""Of results that are no failure."""
Case = tuple[str, str | None, str]
"""Name, outcome (None where it passed) and words."""


def check_junit(file: str) -> None:
    """Raises ArgumentError where such a file cannot be, before anything long begins."""
    if not Path(file).parent.is_dir() or Path(file).is_dir():
        raise ArgumentError(f"junit must be a file in a folder that exists, got {file}")


def write_junit(file: str, verdict: str, lines: list[str], record: dict[str, Any]) -> None:
    """Write the file.

    Args:
        verdict, lines: the result as it stands on the terminal.
        record: the same for programs, as `--json` prints it.
    """
    cases = list(_cases(verdict, lines, record))
    suite = ElementTree.Element("testsuite", name="blankcheck", tests=str(len(cases)))
    for kind, plural in ((FAILURE, "failures"), (SKIPPED, "skipped")):
        suite.set(plural, str(sum(outcome == kind for _, outcome, _ in cases)))
    for name, outcome, words in cases:
        test = ElementTree.SubElement(suite, "testcase", classname="blankcheck", name=name)
        if outcome is not None:
            ElementTree.SubElement(test, outcome, message=one_line(words, 1000))
    ElementTree.indent(suite)
    ElementTree.ElementTree(suite).write(file, encoding="utf-8", xml_declaration=True)


def _cases(verdict: str, lines: list[str], record: dict[str, Any]) -> Iterator[Case]:
    """The verdict, and every class and check of an audit. The suite passes where `audit` ends with
    0: a check that failed fails its test only where it decides."""
    yield "verdict", KINDS.get(verdict, FAILURE), f"{verdict}: {'; '.join(lines[:3])}"
    for name, made in record.get("targets", {}).items():
        found = f"{made['fooled']} of {made['attempts']} attempts fooled"
        yield f"class {one_line(name)}", FAILURE if made["fooled"] else None, found
    outcomes = {"passed": None, "failed": FAILURE if verdict == "INCONCLUSIVE" else SKIPPED}
    for check in record.get("checks", []):
        words = f"{check['status']}: {check['finding']}"
        yield f"check {check['code']}", outcomes.get(check["status"], SKIPPED), words
