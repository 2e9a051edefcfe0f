"""What changed between two audits that are shown side by side."""

from __future__ import annotations

from typing import Any, NamedTuple

from blankcheck.report.wording import different, fewest
from blankcheck.runs.contents import RunContents
from blankcheck.text import number, percent


class Change(NamedTuple):
    """One line of a comparison; its direction is `better`, `worse` or nothing."""

    label: str
    before: str
    after: str
    change: str = ""
    direction: str = ""


def changes(before: RunContents, after: RunContents) -> list[Change]:
    """What hardening, or whatever lies between two audits, changed."""
    both = b, a = before.verdict or {}, after.verdict or {}
    was, now = met = b["sparse_confident"]["at_most"], a["sparse_confident"]["at_most"]
    sparse = {k: f"Confident with at most {k} lit" for k in now if k in was}
    fooled = [f"{number(v['fooled'])} of {number(v['attempts'])}" for v in (b, a)]
    extra = [number(v["extra"]["fooled"]) for v in (b, a)]
    median = [number(different(v)[1]) for v in (b, a)]
    least = [number(fewest(contents)) for contents in (before, after)]
    return [
        Change("Verdict", b["verdict"], a["verdict"]),
        Change("Attempts fooled", *fooled),
        _points("Rate", both, "rate", -1),
        _points("95% upper bound", both, "rate_upper_95", -1),
        *([Change("Found by checks alone", *extra)] if {*extra} != {"0"} else []),
        Change("Median lit, fooling", *median),
        Change("Fewest lit, confident", *least),
        *(_points(label, met, k, -1) for k, label in sparse.items()),
        _points("Real test images right", both, "real_accuracy", 1, 2),
        _points("Right and confident", both, "real_confident", 1, 2),
    ]


def _points(label: str, both: tuple[Any, Any], key: str, good: int, digits: int = 1) -> Change:
    """A share and its change in percentage points. good: 1 where more is better, else -1."""
    before, after = (made[key] for made in both)
    change = Change(label, percent(before, digits), percent(after, digits))
    if before is None or after is None:
        return change
    step = round(100 * (after - before), digits)
    if step == 0:
        return change._replace(change="no change")
    said = f"{step:+.{digits}f} points".replace("-", "\N{MINUS SIGN}")
    return change._replace(change=said, direction="better" if step * good > 0 else "worse")


def unlike(before: RunContents, after: RunContents) -> str:
    """A warning when two audits did not ask the same question; else nothing."""
    b, a = before.verdict or {}, after.verdict or {}
    different = [k for k, value in a["conditions"].items() if b["conditions"].get(k) != value]
    if before.config.get("data") != after.config.get("data"):
        different.append("data")
    said = f"The two audits differ in {', '.join(different)}: compare with care."
    return said if different else ""
