"""What `verify` reads of a run folder, what that is checked against, and what it finds out.

What is missing is said, what cannot be read is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from blankcheck.api.reopen import form_again
from blankcheck.auditing.witnesses import Misses
from blankcheck.classifiers import UnitClassifier, probabilities
from blankcheck.classifiers.wrapper import left_as_found
from blankcheck.data import Data
from blankcheck.errors import RunFolderError
from blankcheck.judging.evidence import Attempt
from blankcheck.judging.recheck import MISSING, WRONG, Difference
from blankcheck.runs import folder as names
from blankcheck.runs.contents import read_attempts, read_verdict
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.misses import unpack_misses
from blankcheck.runs.schema import Environment, check_version, checked
from blankcheck.runs.witnesses import Stored, unpack
from blankcheck.text import one_line
from blankcheck.types import Conditions

Plain = str | int | float | bool | None
Shape = tuple[int, int, int]
MOST_SAID = 5
"""Failures on the terminal; the others are counted."""
ANEW = "derived anew it is"
CONFIRMED, NOT_CONFIRMED, IN_PART = "CONFIRMED", "NOT CONFIRMED", "CONFIRMED IN PART"


@dataclass
class Findings:
    """Collected along the way.

    Args:
        current: the folder was written by this very version, so that nothing may lack, or be more,
            or be told otherwise.
        failures: what does not hold.
        lacking: what was not at hand, or is not in an older folder.
        facts: lines to print.
        record: the same for programs.
    """

    current: bool = True
    failures: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)

    def fail(self, *words: object) -> None:
        """Something does not hold: file, field, what is wrong."""
        self.failures.append(_line(*words))

    def lack(self, *words: object) -> None:
        """Something is not there, or is told otherwise, as another version may have done: a failure
        where this version wrote the folder."""
        (self.failures if self.current else self.lacking).append(_line(*words))

    def not_at_hand(self, words: str) -> None:
        """Something outside the folder is not there."""
        self.lacking.append(_line(words))

    def wrong(self, file: str, name: str, said: Any, whose: str, true: Any) -> None:
        """What a file says under a name is not so."""
        self.fail(file, f"{name} is {value(said)}, {whose} {value(true)}")

    def compare(self, file: str, name: str, said: Any, whose: str, true: Any) -> None:
        """The same where the two are not equal."""
        if said != true:
            self.wrong(file, name, said, whose, true)

    def differ(self, file: str, differences: Iterable[Difference]) -> None:
        """Fields that are not as derived."""
        for one in differences:
            if one.kind == WRONG:
                self.wrong(file, one.field, one.said, ANEW, one.derived)
            elif one.kind == MISSING:
                self.lack(file, f"{one.field} is missing")
            else:
                self.lack(file, f"{one.field} is nothing this version knows")

    @property
    def word(self) -> str:
        """`CONFIRMED`, `NOT CONFIRMED` or, as far as what is at hand goes, `CONFIRMED IN PART`."""
        if self.failures:
            return NOT_CONFIRMED
        return IN_PART if self.lacking else CONFIRMED

    def __str__(self) -> str:
        return "\n  ".join([self.word, *self.lines()])

    def lines(self) -> list[str]:
        """For the terminal: the first failures, then what could not be looked at, and facts."""
        failed = _first(self.failures, "more")
        lacking = _first([f"not confirmed: {each}" for each in self.lacking], "more not confirmed")
        if failed:
            return [*failed, *lacking, *self.facts]
        return [*self.facts[:1], *lacking, *self.facts[1:]]


def value(said: Any) -> str:
    """A plain value as a line shows it."""
    if isinstance(said, float):
        return f"{said:.6g}"
    return one_line(repr(said) if isinstance(said, str) else said, 60)


def _line(*words: object) -> str:
    return one_line(": ".join(map(str, words)), 240)


def _first(lines: list[str], more: str) -> list[str]:
    rest = len(lines) - MOST_SAID
    return lines if rest <= 0 else [*lines[:MOST_SAID], f"and {rest} {more}"]


@dataclass(frozen=True)
class Folder:
    """What was read.

    Args:
        found: what `verify` finds out.
        around: what began the run, and on what.
        config: settings that are plain values; lists and tables decide nothing here.
        stored: None where there is no such witness file; `misses` likewise.
        attempts: empty where they are missing, and so are the `records` that they were read from.
    """

    run: RunFolder
    found: Findings
    verdict: dict[str, Any]
    config: dict[str, Plain]
    around: Environment
    stored: Stored | None
    misses: Misses | None
    attempts: tuple[Attempt, ...]
    records: list[dict[str, Any]]

    @property
    def metadata(self) -> dict[str, str]:
        """What the witness file says of itself."""
        return {} if self.stored is None else self.stored.metadata


@dataclass(frozen=True)
class Subject:
    """The network, loaded by its `name`, the data where they are at hand, (c, h, w) of images, and
    the conditions."""

    classifier: UnitClassifier
    name: str
    data: Data | None
    shape: Shape
    want: Conditions

    @cached_property
    def form(self) -> str:
        """Of the network's outputs, by looking."""
        return form_again(self.classifier, self.shape, self.data)

    @cached_property
    def outputs(self) -> int:
        """How many outputs the network has."""
        with left_as_found(self.classifier):
            return probabilities(self.classifier, torch.zeros(1, *self.shape), self.form).shape[1]


def read_folder(found: Findings, run: RunFolder) -> Folder | None:
    """The files of a folder; None where `verdict.json` or the attempts are not of the right form.

    Raises RunFolderError where it has no verdict, and for files that cannot be read at all.
    """
    check_version(run.read_json(names.VERDICT), str(run / names.VERDICT))
    around = checked(run.read_json(names.MARK), Environment, str(run / names.MARK))
    missing = [name for name in (names.CONFIG, names.WITNESSES) if not run.has(name)]
    for name in missing:
        found.fail(name, "is missing")
    config = {} if names.CONFIG in missing else run.read_config()
    stored = None if names.WITNESSES in missing else _stored(found, run)
    package = names.PACKAGES[0]
    ours = around.packages.get(package) == names.environment()["packages"][package]
    found.current = ours and (stored is None or "conditions" in stored.metadata)
    attempts: tuple[Attempt, ...] = ()
    records = run.read_lines(names.ATTEMPTS)
    try:
        verdict = read_verdict(run)
        if run.has(names.ATTEMPTS):
            attempts, records = read_attempts(run)
        else:
            found.fail(names.ATTEMPTS, "is missing")
    except RunFolderError as error:
        found.fail(error)
        return None
    assert verdict is not None, "it was just read"
    misses = None if stored is None else _misses(found, run, attempts, stored.shape)
    plain = {k: v for k, v in config.items() if v is None or isinstance(v, str | int | float)}
    return Folder(run, found, verdict, plain, around, stored, misses, attempts, records)


def _stored(found: Findings, run: RunFolder) -> Stored | None:
    try:
        return unpack(run.read_bytes(names.WITNESSES), names.WITNESSES)
    except RunFolderError as error:
        found.fail(error)
        return None


def _misses(
    found: Findings, run: RunFolder, attempts: tuple[Attempt, ...], shape: Shape
) -> Misses | None:
    if not run.has(names.MISSES):
        found.lack(names.MISSES, "is missing")
        return None
    try:
        return unpack_misses(run.read_bytes(names.MISSES), names.MISSES, attempts, shape)
    except RunFolderError as error:
        found.fail(error)
        return None
