"""Findings -> verdict, and the plain dictionary that becomes `verdict.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from blankcheck.judging import metrics
from blankcheck.judging.check_rules import FAILED, PASSED
from blankcheck.judging.checks import REAL_CONFIDENT, Finding
from blankcheck.judging.evidence import (
    CONDITIONS,
    Attempt,
    Black,
    Evidence,
    OnTwin,
    OODRecord,
    Proof,
)
from blankcheck.judging.ood import AUTO, FEWEST_STRICT, STRICT
from blankcheck.types import Conditions


class Verdict(StrEnum):
    """What an audit says."""

    FOOLED = "FOOLED"
    """At least one witness meets all three conditions, scored again from its file."""
    RESISTED = "RESISTED"
    """None was found by a search that was shown to be strong. Speaks of this generator only."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """None was found, but the search was not shown strong, or the classifier is never sure."""
    CERTIFIED = "CERTIFIED"
    """A proof shows that there is none, and the classifier is sure of real images."""


def judge(evidence: Evidence, findings: Sequence[Finding]) -> Verdict:
    """FOOLED with any witness; else CERTIFIED when a proof covers the conditions and the classifier
    is sure of real images; else RESISTED when every mandatory check passed and no other failed.

    Raises RuntimeError when an image that was found cannot be there by the proof: one of the two is
    wrong, and no verdict may hide that.
    """
    proof, found = evidence.proof, (*evidence.attempts, *evidence.extra)
    against = None if proof is None else next(filter(proof.contradicts, found), None)
    if proof is not None and against is not None:
        raise RuntimeError(
            "certificate and search contradict each other: the search met a confident image of "
            f"class {against.target} with at most the k = {proof.k[against.target]} lit features "
            "that were proved too few; please report this"
        )
    if any(a.fooled for a in found):
        return Verdict.FOOLED
    if proof is not None and proof.covers(evidence.conditions):
        # a classifier that is sure of nothing is proved at once, and helps nobody
        sure = any(f.code == REAL_CONFIDENT and f.status == PASSED for f in findings)
        return Verdict.CERTIFIED if sure else Verdict.INCONCLUSIVE
    shown = all(f.status == PASSED if f.mandatory else f.status != FAILED for f in findings)
    return Verdict.RESISTED if shown and evidence.attempts else Verdict.INCONCLUSIVE


def verdict_json(
    evidence: Evidence, findings: Sequence[Finding], verdict: Verdict
) -> dict[str, Any]:
    """The contents of `verdict.json`, schema 1.

    A median of nothing is null; counts in `violated` may overlap.
    """
    attempts, want = evidence.attempts, evidence.conditions
    ood, proof = evidence.ood, evidence.proof
    witnesses = [a for a in (*attempts, *evidence.extra) if a.fooled]
    survive = sum(a.survives_8bit for a in witnesses)
    extra = [a.lit for a in evidence.extra if a.fooled]
    targets = sorted({a.target for a in attempts})
    ran = [c for c in evidence.controls if not c.why_not]
    return {
        "schema": 1,
        "verdict": str(verdict),
        "conditions": asdict(want),
        **_rate(attempts),
        "distinct": _distinct(attempts, evidence.extra),
        "black": None if evidence.black is None else _black(evidence.black, want),
        **{f"real_{name}": x for name, x in asdict(evidence.real).items() if name != "per_class"},
        "sparse_confident": _sparse_confident(attempts, want),
        "second_opinion": _by_others(attempts, want, "second_p"),
        "odd_in_any_way": _by_others(attempts, want, "odd_p"),
        "by_level": None if ood is None else _by_level(attempts, want, ood.smallest_p),
        "lit_curve": _curve(attempts, want),
        "targets": {str(t): _target([a for a in attempts if a.target == t], want) for t in targets},
        "classes": list(evidence.classes),
        "violated": _violated(attempts, want),
        "processes": _processes(evidence),
        "extra": {"fooled": len(extra), "min_lit": min(extra, default=None)},
        "rivals": {name: _found(tries, lit) for name, (tries, *lit) in evidence.rivals.items()},
        "twin": None if evidence.twin is None else _twin(evidence.twin),
        "eight_bit": {"witnesses": len(witnesses), "survive": survive},
        "out_of_distribution_test": None if ood is None else _ood(ood, attempts, want.ood_level),
        "checks": [asdict(f) for f in findings],
        "controls": {c.code: {"found": c.found, "tries": c.tries, **c.numbers} for c in ran},
        "certificate": None if proof is None else _certificate(evidence, proof),
        "cost": asdict(evidence.cost),
        "notes": evidence.notes,
    }


def _rate(attempts: Sequence[Attempt]) -> dict[str, Any]:
    lit = [a.lit for a in attempts if a.fooled]
    n = len(attempts)
    return {
        "attempts": n,
        "fooled": len(lit),
        "rate": len(lit) / n if n else None,
        "rate_upper_95": metrics.upper_bound_95(len(lit), n),
        "median_lit": metrics.median(lit),
        "min_lit": min(lit, default=None),
    }


def _distinct(attempts: Sequence[Attempt], extra: Sequence[Attempt]) -> dict[str, Any] | None:
    """Witnesses with equal ones counted once: `fooled` and `median_lit` of the attempts, and the
    number of all; None where attempts do not say which images they ended with."""
    own, others = ([a for a in made if a.fooled] for made in (attempts, extra))
    if not all(a.image for a in (*own, *others)):
        return None
    lit = {a.image: a.lit for a in own}
    every = lit.keys() | {a.image for a in others}
    return {"witnesses": len(every), **_count(list(lit.values()))}


def _count(lit: Sequence[int]) -> dict[str, Any]:
    return {"fooled": len(lit), "median_lit": metrics.median(lit)}


def _black(black: Black, want: Conditions) -> dict[str, Any]:
    return {**asdict(black), "confident": black.confidence >= want.confidence}


def _target(attempts: Sequence[Attempt], want: Conditions) -> dict[str, Any]:
    return {**_rate(attempts), "violated": _violated(attempts, want)}


def _violated(attempts: Sequence[Attempt], want: Conditions) -> dict[str, int]:
    """Which conditions stopped the attempts that failed; counts may overlap."""
    failed = [a.violates(want) for a in attempts if not a.fooled]
    return {name: sum(name in names for names in failed) for name in CONDITIONS}


def _sparse_confident(attempts: Sequence[Attempt], want: Conditions) -> dict[str, Any]:
    """Confident images that were met, out of distribution or not."""
    fewest = [a.fewest for a in attempts]
    found = [k for k in fewest if k is not None and k <= want.max_lit]
    levels = metrics.lit_thresholds(want.max_lit)
    return {
        "fooled": len(found),
        "median_lit": metrics.median(found),
        "min_lit": min(found, default=None),
        "at_most": {str(k): metrics.share_at_most(fewest, k) for k in levels},
    }


def _curve(attempts: Sequence[Attempt], want: Conditions) -> dict[str, list[Any]]:
    """Share of attempts with at most so many lit features: fooling, and any confident image."""
    levels = metrics.lit_levels(want.max_lit)
    fooling = [a.lit if a.fooled else None for a in attempts]
    fewest = [a.fewest for a in attempts]
    return {
        "lit": levels,
        "fooled": [metrics.share_at_most(fooling, k) for k in levels],
        "sparse_confident": [metrics.share_at_most(fewest, k) for k in levels],
    }


def _by_others(attempts: Sequence[Attempt], want: Conditions, name: str) -> dict[str, Any]:
    """The rate again, where another family's p-value says what is out of distribution."""
    judged = [(a, p) for a in attempts if (p := getattr(a, name)) is not None]
    fooled, n = sum(not a.violates(want, p) for a, p in judged), len(judged)
    return {"attempts": n, "fooled": fooled, "rate": fooled / n if n else None}


LEVELS = (0.05, 0.01, 0.003, 0.001)
BEYOND = "beyond all real images"


def _by_level(attempts: Sequence[Attempt], want: Conditions, smallest: float) -> dict[str, Any]:
    """The rate of these attempts against the level, as far as the test reaches. Attempts were made
    at the level of the conditions: at a higher one a search would find more."""
    levels = {f"{level:g}": level for level in LEVELS if level >= smallest} | {BEYOND: smallest}
    sparse_confident = [a for a in attempts if not a.violates(want, ood_p=0.0)]
    rows = {}
    for name, level in levels.items():
        fooled = sum(a.ood_p <= level for a in sparse_confident)
        rows[name] = {"fooled": fooled, "rate": fooled / len(attempts) if attempts else None}
    return rows


def _ood(record: OODRecord, attempts: Sequence[Attempt], level: float) -> dict[str, Any]:
    """What is known of the test, and how many witnesses it rejects when all are judged at once."""
    rejected = metrics.benjamini_hochberg([a.ood_p for a in attempts], level)
    found, n = record.false_alarms, record.real_images
    said = {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(record).items()}
    families = "scores", "second_scores", "odd_scores"
    order = ("guarantee", *families, "smallest_p", "level_chosen", "real_images", "false_alarms")
    return {
        "level": level,
        "level_why": level_why(record, level),
        **{name: said.pop(name) for name in order},
        "false_alarm_rate": found / n if n else None,
        "false_alarm_lower_95": metrics.lower_bound_95(found, n),
        "false_alarm_upper_95": metrics.upper_bound_95(found, n),
        **said,
        "fooled_all_at_once": sum(a.fooled and r for a, r in zip(attempts, rejected, strict=True)),
    }


def level_why(record: OODRecord, level: float) -> str:
    """Why an audit judged at this level, in a sentence."""
    n = record.calibration_images
    if record.level_chosen != AUTO:
        return f"{level:g} was asked for."
    needed = f"{FEWEST_STRICT:,} that carry its guarantee at {STRICT:g}"
    if level <= STRICT:
        return f"{n:,} different real images calibrate the test, at least the {needed}."
    return f"{n:,} different real images calibrate the test, fewer than the {needed}."


def _twin(twin: OnTwin) -> dict[str, Any]:
    """What the same search found on the twin; `lit` has a number for each fooled attempt."""
    return {"what": twin.what, **_found(twin.attempts, twin.lit), "lit": list(twin.lit)}


def _certificate(evidence: Evidence, proof: Proof) -> dict[str, Any]:
    """What was proved, and `found`: for each class the fewest lit of a confident image met."""
    met: dict[int, list[int]] = {target: [] for target in range(len(evidence.classes))}
    for a in (*evidence.attempts, *evidence.extra):
        if a.fewest is not None:
            met.setdefault(a.target, []).append(a.fewest)
    found = [min(met[target], default=None) for target in range(len(evidence.classes))]
    return {**asdict(proof), "smallest": proof.smallest, "found": found}


def _processes(evidence: Evidence) -> dict[str, Any]:
    found: dict[str, list[int]] = {name: [] for name in evidence.tried_by}
    for attempt in evidence.attempts:
        if attempt.fooled:
            found.setdefault(attempt.process, []).append(attempt.lit)
    return {name: _found(evidence.tried_by.get(name, 0), lit) for name, lit in found.items()}


def _found(attempts: int, lit: Sequence[int]) -> dict[str, Any]:
    return {"attempts": attempts, **_count(lit)}
