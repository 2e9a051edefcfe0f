"""One run of a comparison: its name, and the numbers that are compared, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from blankcheck.auditing.gather import ALARMS_AMONG
from blankcheck.comparing.statistics import wilson
from blankcheck.errors import RunFolderError
from blankcheck.judging.metrics import median
from blankcheck.runs.contents import RunContents
from blankcheck.text import one_line, short

MOST_NAME = 60


@dataclass(frozen=True)
class Run:
    """One run as comparisons see it. fooled, lit: of each attempt; lit None where it did not fool.
    asked: the settings that make an audit's numbers answers to one question. record: what
    `compare.json` says of it. `test_images` is `ALARMS_AMONG` for as many and more, and None when
    the folder does not say."""

    name: str
    contents: RunContents
    fooled: tuple[bool, ...]
    lit: tuple[int | None, ...]
    asked: dict[str, Any]
    record: dict[str, Any]

    def of_class(self, target: int) -> tuple[bool, ...]:
        """`fooled` of the attempts at one target class."""
        pairs = zip(self.fooled, self.contents.attempts, strict=True)
        return tuple(fooled for fooled, attempt in pairs if attempt.target == target)


def run_of(name: str, contents: RunContents) -> Run:
    """What a comparison needs of a run folder. RunFolderError where it has no audit."""
    verdict, path = contents.verdict, contents.run / "verdict.json"
    if verdict is None:
        none = f"run folder {contents.run.path} has no verdict.json to compare"
        raise RunFolderError(f"{none}: blankcheck audit makes one")
    images = (verdict.get("out_of_distribution_test") or {}).get("real_images") or None
    if images is not None and not 0 <= images <= ALARMS_AMONG:
        wanted = f"real_images must be between 0 and {ALARMS_AMONG}"
        raise RunFolderError(f"{path}: {wanted}, got {short(images)}")
    fooled = tuple(a.fooled for a in contents.attempts)
    lit = tuple(a.lit if a.fooled else None for a in contents.attempts)
    known = [k for k in lit if k is not None]
    low, high = wilson(sum(fooled), len(fooled))
    record = {
        "name": name,
        "run": str(contents.run.path),
        "verdict": verdict["verdict"],
        "attempts": len(fooled),
        "fooled": sum(fooled),
        "rate": sum(fooled) / len(fooled) if fooled else None,
        "rate_low_95": low,
        "rate_high_95": high,
        "median_lit": median(known),
        "min_lit": min(known, default=None),
        "real_accuracy": float(verdict["real_accuracy"]),
        "real_confident": float(verdict["real_confident"]),
        "test_images": images,
        "conditions": verdict["conditions"],
    }
    config, conditions = contents.config, verdict["conditions"]
    asked = {key: conditions[key] for key in ("confidence", "max_lit", "ood_level", "unit")}
    asked["data"] = config.get("data"), verdict["classes"], contents.features
    asked["preset"] = config.get("preset")
    return Run(name, contents, fooled, lit, asked, record)


def names_of(paths: Sequence[str]) -> list[str]:
    """A short name for each path: its last parts, as many as tell it from the others."""
    parts = [PurePath(path).parts or (path,) for path in paths]
    names = []
    for own in parts:
        others = [p for p in parts if p != own]
        depths = (d for d in range(1, len(own)) if all(p[-d:] != own[-d:] for p in others))
        names.append(one_line("/".join(own[-next(depths, len(own)) :]), MOST_NAME))
    return names
