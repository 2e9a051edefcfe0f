"""One run of a comparison: its name, and the numbers that are compared, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from blankcheck.auditing.gather import ALARMS_AMONG
from blankcheck.compare.statistics import wilson
from blankcheck.errors import RunFolderError
from blankcheck.judging.metrics import median
from blankcheck.runs.contents import RunContents
from blankcheck.text import one_line, short

RATE, LIT, ACCURACY, CONFIDENT = "rate", "lit", "accuracy", "confident"
MEASURES = (RATE, LIT, ACCURACY, CONFIDENT)
MOST_LIT = 2**31
MOST_NAME = 60
"""Letters of a run's name."""


@dataclass(frozen=True)
class Side:
    """One run as comparisons see it. fooled, lit: of each attempt; lit None where it was not
    fooled.

    test_images: how many real test images there were, or as many as the folder vouches for
    (`at_least`); None when it does not say.
    """

    name: str
    contents: RunContents
    fooled: tuple[bool, ...]
    lit: tuple[int | None, ...]
    test_images: int | None
    at_least: bool

    @property
    def verdict(self) -> dict[str, Any]:
        """What `verdict.json` holds."""
        return self.contents.verdict or {}

    @property
    def place(self) -> str:
        """The folder, as a page can show it."""
        return one_line(str(self.contents.run.path))

    @property
    def attempts(self) -> int:
        """Attempts of the fixed allocation."""
        return len(self.fooled)

    @property
    def rate(self) -> float | None:
        """Share of the attempts that fooled; None of nothing."""
        return sum(self.fooled) / self.attempts if self.attempts else None

    @property
    def interval(self) -> tuple[float, float]:
        """The two-sided 95 % interval of the rate."""
        return wilson(sum(self.fooled), self.attempts)

    @property
    def median_lit(self) -> float | None:
        """Median lit features of the fooling images."""
        return median(k for k in self.lit if k is not None)

    def value(self, measure: str) -> float | None:
        """The value of one of `MEASURES`."""
        if measure == ACCURACY:
            return float(self.verdict["real_accuracy"])
        if measure == CONFIDENT:
            return float(self.verdict["real_confident"])
        return self.rate if measure == RATE else self.median_lit

    def of_class(self, target: int) -> tuple[bool, ...]:
        """`fooled` of the attempts at one target class."""
        return tuple(
            f
            for f, a in zip(self.fooled, self.contents.attempts, strict=True)
            if a.target == target
        )


def side_of(name: str, contents: RunContents) -> Side:
    """What a comparison needs of a run.

    RunFolderError when it has no audit, or numbers that no audit has.
    """
    verdict, path = contents.verdict, contents.run / "verdict.json"
    if verdict is None:
        raise RunFolderError(
            f"run folder {contents.run.path} has no verdict.json to compare: blankcheck audit makes one"
        )
    for key in ("real_accuracy", "real_confident", "rate_upper_95"):
        if not 0 <= verdict[key] <= 1:
            raise RunFolderError(
                f"{path}: {key} must be between 0 and 1, got {short(verdict[key])}"
            )
    for number, attempt in enumerate(contents.attempts, 1):
        if not 0 <= attempt.lit < MOST_LIT:
            where = contents.run / "attempts.jsonl"
            raise RunFolderError(
                f"{where} line {number}: lit must be between 0 and {MOST_LIT}, got {short(attempt.lit)}"
            )
    images = (verdict.get("out_of_distribution_test") or {}).get("real_images")
    if images is not None and not 0 <= images <= ALARMS_AMONG:
        raise RunFolderError(
            f"{path}: real_images must be between 0 and {ALARMS_AMONG}, got {short(images)}"
        )
    fooled = tuple(a.fooled for a in contents.attempts)
    lit = tuple(a.lit if a.fooled else None for a in contents.attempts)
    return Side(name, contents, fooled, lit, images or None, images == ALARMS_AMONG)


def names_of(paths: Sequence[str]) -> list[str]:
    """A short name for each path: its last parts, as many as tell it from the others, in one line
    that can be shown."""
    parts = [PurePath(path).parts or (path,) for path in paths]
    names = []
    for own in parts:
        others = [p for p in parts if p != own]
        depth = next(
            (d for d in range(1, len(own)) if all(p[-d:] != own[-d:] for p in others)), len(own)
        )
        names.append(one_line("/".join(own[-depth:]), MOST_NAME))
    return names
