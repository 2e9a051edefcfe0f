"""What a report says of the three conditions: what stopped attempts, and what the third one rests on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blankcheck.judging.check_rules import NOT_APPLICABLE
from blankcheck.judging.evidence import CONFIDENT, OUT_OF_DISTRIBUTION, SPARSE
from blankcheck.running.report_words import number, percent, short

LACKING = {SPARSE: "too many lit", CONFIDENT: "not sure enough", OUT_OF_DISTRIBUTION: "looks real"}


def stopped_by(row: dict[str, Any]) -> str:
    """Which conditions stopped the failed attempts at one class; nothing where none failed or an older run does not say."""
    counts = row.get("violated", {})
    return ", ".join(f"{words} {number(counts[name])}" for name, words in LACKING.items() if counts.get(name))


def looks_real(verdict: dict[str, Any]) -> list[tuple[str, str]]:
    """What carries the third condition and how much of the rate hangs on it, as (label, sentence); less for older runs."""
    test, second, eight = (verdict.get(k) for k in ("out_of_distribution_test", "second_opinion", "eight_bit"))
    said = _test(test, verdict) if test else []
    if second and second["attempts"]:
        said.append((
            "Second opinion",
            f"Judged by other scores, which hardening never sees, {number(second['fooled'])} of "
            f"{number(second['attempts'])} attempts are fooled ({percent(second['rate'])}).",
        ))  # fmt: skip
    sparse = verdict["sparse_confident"]
    lit = "" if sparse["median_lit"] is None else f", median {number(sparse['median_lit'])} lit"
    said.append((
        "Without the third condition",
        f"{number(sparse['fooled'])} of {number(verdict['attempts'])} attempts met a sparse and confident image{lit}.",
    ))  # fmt: skip
    if eight and eight["witnesses"]:
        said.append((
            "As 8-bit files",
            f"{number(eight['survive'])} of {number(eight['witnesses'])} witnesses still meet all conditions when their "
            "values are rounded to 8 bits, as a PNG file does.",
        ))  # fmt: skip
    return said


def check_rows(checks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The checks as rows to show: those that do not apply last, and those that do not for the same reason in one row."""
    rows = [c for c in checks if c["status"] != NOT_APPLICABLE]
    idle: dict[str, list[str]] = {}
    for check in checks:
        if check["status"] == NOT_APPLICABLE:
            idle.setdefault(check["finding"], []).append(check["title"])
    return rows + [
        {"title": " · ".join(titles), "status": NOT_APPLICABLE, "finding": finding, "what_to_do": "", "mandatory": False}
        for finding, titles in idle.items()
    ]


def _test(test: dict[str, Any], verdict: dict[str, Any]) -> list[tuple[str, str]]:
    bounds = f"{percent(test['false_alarm_lower_95'], 2)} to {percent(test['false_alarm_upper_95'], 2)}"
    alarms = [
        (
            "False alarms",
            f"{number(test['false_alarms'])} of {number(test['real_images'])} real test images "
            f"({percent(test['false_alarm_rate'], 2)}; 95% bounds {bounds}). Guarantee: {short(test['guarantee'])}.",
        )
    ]
    at_once = [
        (
            "All attempts at once",
            f"{number(test['fooled_all_at_once'])} of {number(verdict['fooled'])} fooling images are still out of "
            "distribution when all attempts share the level (Benjamini and Hochberg).",
        )
    ]
    return alarms + (at_once if verdict["fooled"] else [])
