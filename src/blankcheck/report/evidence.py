"""What a report says of the evidence: the three conditions, what the third rests on, and the search
on trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from blankcheck.judging.check_rules import FAILED, NOT_APPLICABLE, PASSED
from blankcheck.judging.evidence import CONFIDENT, OUT_OF_DISTRIBUTION, SPARSE
from blankcheck.report.wording import unit
from blankcheck.runs.contents import RunContents
from blankcheck.text import number, one_line, percent

LACKING = {SPARSE: "too many lit", CONFIDENT: "not sure enough", OUT_OF_DISTRIBUTION: "looks real"}
CONDITIONS = {SPARSE: "Sparse", CONFIDENT: "Confident", OUT_OF_DISTRIBUTION: "Out of distribution"}


@dataclass(frozen=True)
class Count:
    """`found` of `tries`, with its words. failed: whether so few are bad news."""

    words: str
    found: int
    tries: int
    failed: bool = False

    @property
    def share(self) -> float:
        """In [0, 1], whatever a file says."""
        return min(1.0, max(0.0, self.found / self.tries)) if self.tries > 0 else 0.0


@dataclass(frozen=True)
class Condition:
    """One of the three conditions. asked: its bound. measured: what is compared with it. why: what
    that rests on."""

    name: str
    asked: str
    measured: str
    why: str
    met: Count


def conditions(contents: RunContents) -> list[Condition]:
    """The three conditions of an audit: what was asked, how many attempts met it, and why that can
    be believed."""
    verdict = contents.verdict
    if verdict is None:
        return []
    want, of = verdict["conditions"], unit(contents)
    asked = {
        SPARSE: f"at most {number(want['max_lit'])} of {number(contents.features)} {one_line(want['unit'], 80)} lit",
        CONFIDENT: f"a probability of at least {want['confidence']}",
        OUT_OF_DISTRIBUTION: f"a p-value of at most {want['ood_level']}",
    }
    measured = {
        SPARSE: f"How many {of} are not exactly black.",
        CONFIDENT: "The probability that the classifier gives the target class.",
        OUT_OF_DISTRIBUTION: "How rare such an image is among real ones.",
    }
    why = {
        SPARSE: "Counted on the image as it is stored, where values below 1/512 are exact zeros.",
        CONFIDENT: "Among all its outputs, scored again from the stored image. It is as sure, and right, on "
        f"{percent(verdict['real_confident'])} of real test images.",
        OUT_OF_DISTRIBUTION: _alarms(verdict),
    }
    met = _met(contents)
    return [
        Condition(words, asked[key], measured[key], why[key], met[key])
        for key, words in CONDITIONS.items()
    ]


def _met(contents: RunContents) -> dict[str, Count]:
    """Of the best image of every attempt, how many meet each condition."""
    want, attempts = contents.verdict["conditions"] if contents.verdict else {}, contents.attempts
    met = {
        SPARSE: sum(a.lit <= want["max_lit"] for a in attempts),
        CONFIDENT: sum(a.confidence >= want["confidence"] for a in attempts),
        OUT_OF_DISTRIBUTION: sum(a.ood_p <= want["ood_level"] for a in attempts),
    }
    return {key: Count(words, met[key], len(attempts)) for key, words in CONDITIONS.items()}


def _alarms(verdict: dict[str, Any]) -> str:
    said = "A calibrated test, fitted on real training images without this classifier."
    test = verdict.get("out_of_distribution_test")
    if not test:
        return said
    bounds = (
        f"{percent(test['false_alarm_lower_95'], 2)} to {percent(test['false_alarm_upper_95'], 2)}"
    )
    return (
        f"{said} Its false alarms: {number(test['false_alarms'])} of {number(test['real_images'])} real test images "
        f"({percent(test['false_alarm_rate'], 2)}; 95% bounds {bounds}). Guarantee: {one_line(test['guarantee'], 80)}."
    )


def trials(contents: RunContents) -> list[Count]:
    """What the same search found here and where something is known to be there: the picture of a
    verdict without a witness. Nothing for older folders."""
    verdict = contents.verdict
    controls = verdict.get("controls") if verdict else None
    if verdict is None or not controls:
        return []
    status = {c.get("code"): c["status"] for c in verdict["checks"]}
    rows = [Count("this network", verdict["fooled"], verdict["attempts"])]
    for code, words in (
        ("positive-control", "a plain twin, known to be foolable"),
        ("planted-control", "patterns hidden in a copy of this network"),
    ):
        made = controls.get(code)
        if made and made["tries"] > 0:
            rows.append(Count(words, made["found"], made["tries"], status.get(code) == FAILED))
    return rows if len(rows) > 1 else []


def stopped_by(row: dict[str, Any]) -> str:
    """Which conditions stopped the failed attempts at one class; nothing where none failed or an
    older run does not say."""
    counts = row.get("violated", {})
    return ", ".join(
        f"{words} {number(counts[name])}" for name, words in LACKING.items() if counts.get(name)
    )


def looks_real(verdict: dict[str, Any]) -> list[tuple[str, str]]:
    """How much of the rate hangs on the third condition, as (label, sentence); less for older runs."""
    test, second, eight = (
        verdict.get(k) for k in ("out_of_distribution_test", "second_opinion", "eight_bit")
    )
    sparse = verdict["sparse_confident"]
    lit = "" if sparse["median_lit"] is None else f", median {number(sparse['median_lit'])} lit"
    said = [
        (
            "Without it",
            f"{number(sparse['fooled'])} of {number(verdict['attempts'])} attempts met a sparse and confident image, whether or "
            f"not it looks real{lit}.",
        )
    ]
    if second and second["attempts"]:
        said.append(
            (
                "A second opinion",
                f"Judged by other scores, which hardening never sees, {number(second['fooled'])} of "
                f"{number(second['attempts'])} attempts are fooled ({percent(second['rate'])}).",
            )
        )
    if test and verdict["fooled"]:
        said.append(
            (
                "All attempts at once",
                f"{number(test['fooled_all_at_once'])} of {number(verdict['fooled'])} fooling images are still out of "
                "distribution when all attempts share the level (Benjamini and Hochberg).",
            )
        )
    if eight and eight["witnesses"]:
        said.append(
            (
                "As 8-bit files",
                f"{number(eight['survive'])} of {number(eight['witnesses'])} witnesses still meet all conditions when their "
                "values are rounded to 8 bits, as a PNG file does.",
            )
        )
    return said


@dataclass(frozen=True)
class Checks:
    """The checks of an audit, in groups. idle: those that do not apply, with those for the same
    reason in one row."""

    failed: list[dict[str, Any]]
    needed: list[dict[str, Any]]
    others: list[dict[str, Any]]
    idle: list[dict[str, Any]]
    summary: str


def checks(verdict: dict[str, Any]) -> Checks:
    """The checks in the order in which they matter, and how many passed in a sentence."""
    rows = [{"means": "", **c} for c in verdict["checks"]]
    passed = [c for c in rows if c["status"] == PASSED]
    needed = [c for c in rows if c["mandatory"]]
    applied = [c for c in rows if c["status"] != NOT_APPLICABLE]
    good = f"{sum(c['status'] == PASSED for c in needed)} of the {len(needed)} that RESISTED needs"
    return Checks(
        failed=[c for c in rows if c["status"] == FAILED],
        needed=[c for c in passed if c["mandatory"]],
        others=[c for c in passed if not c["mandatory"]],
        idle=_idle(rows),
        summary=f"{len(passed)} of {len(applied)} checks that apply passed, among them {good}.",
    )


def _idle(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    reasons: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["status"] == NOT_APPLICABLE:
            reasons.setdefault(row["finding"], []).append(row)
    return [
        {
            **alike[0],
            "title": " \N{MIDDLE DOT} ".join(c["title"] for c in alike),
            "means": "",
            "mandatory": any(c["mandatory"] for c in alike),
        }
        for alike in reasons.values()
    ]
