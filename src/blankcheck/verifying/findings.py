"""What `verify` found out: what does not hold, what could not be looked at, and facts to print."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from blankcheck.judging.recheck import MISSING, WRONG, Difference
from blankcheck.text import one_line

MOST_SAID = 5
"""Failures on the terminal; the others are counted."""
ANEW = "derived anew it is"


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
