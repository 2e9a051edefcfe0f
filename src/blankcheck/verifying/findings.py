"""What `verify` found out: what does not hold, what could not be looked at, and facts to print."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from blankcheck.judging.recheck import MISSING, UNKNOWN, WRONG, Difference
from blankcheck.text import one_line

MOST_SAID = 5
"""Failures on the terminal; the others are counted."""


@dataclass
class Findings:
    """Collected along the way. failures: what does not hold. lacking: what was not at hand or is
    not in an older folder.
    current: whether the folder was written by this very version, so that nothing may lack, or be
    more, or be told otherwise.
    """

    current: bool = True
    failures: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    record: dict[str, Any] = field(default_factory=dict)

    def fail(self, where: str, words: str) -> None:
        """Something does not hold. where: the file or field."""
        self.failures.append(one_line(f"{where}: {words}", 240))

    def fails(self, sentence: str) -> None:
        """The same, where the sentence names its file."""
        self.failures.append(one_line(sentence, 240))

    def lack(self, where: str, words: str) -> None:
        """A file or field of the folder is not there: a failure where this version would have
        written it."""
        (self.failures if self.current else self.lacking).append(one_line(f"{where}: {words}", 240))

    def not_at_hand(self, words: str) -> None:
        """Something outside the folder is not there."""
        self.lacking.append(one_line(words, 240))

    def differ(self, file: str, differences: Iterable[Difference]) -> None:
        """Fields that are not as derived."""
        for one in differences:
            if one.kind == WRONG:
                self.fail(
                    file,
                    f"{one.field} is {value(one.said)}, derived anew it is {value(one.derived)}",
                )
            elif one.kind == MISSING:
                self.lack(file, f"{one.field} is missing")
            elif one.kind == UNKNOWN:
                self.unknown(file, f"{one.field} is nothing this version knows")

    def unknown(self, where: str, words: str) -> None:
        """Something that another version may have written, and this one did not."""
        (self.failures if self.current else self.lacking).append(one_line(f"{where}: {words}", 240))

    def said(self) -> list[str]:
        """The first failures, and how many more; then what could not be looked at."""
        more = len(self.failures) - MOST_SAID
        rest = [f"and {more} more"] if more > 0 else []
        few = self.lacking[:MOST_SAID]
        others = (
            [f"and {len(self.lacking) - MOST_SAID} more not confirmed"]
            if len(self.lacking) > MOST_SAID
            else []
        )
        return [
            *self.failures[:MOST_SAID],
            *rest,
            *(f"not confirmed: {each}" for each in few),
            *others,
        ]


def value(said: Any) -> str:
    """A plain value as a line shows it."""
    return (
        f"{said:.6g}"
        if isinstance(said, float)
        else one_line(repr(said) if isinstance(said, str) else said, 60)
    )
