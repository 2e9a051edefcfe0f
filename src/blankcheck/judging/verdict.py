"""Findings -> verdict, and the plain dictionary that becomes `verdict.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Any

from blankcheck.judging.checks import FAILED, PASSED, Finding
from blankcheck.judging.evidence import Attempt, Evidence
from blankcheck.judging.metrics import lit_thresholds, median, share_at_most, upper_bound_95


class Verdict(StrEnum):
    """What an audit says."""

    FOOLED = "FOOLED"
    """At least one witness meets all three conditions, scored again from its file."""
    RESISTED = "RESISTED"
    """None was found by a search that was shown to be strong. Speaks of this generator only."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """None was found, but the search was not shown to be strong, or the classifier is sure of nothing."""
    CERTIFIED = "CERTIFIED"
    """A proof shows that there is none."""


def judge(evidence: Evidence, findings: Sequence[Finding]) -> Verdict:
    """FOOLED with any witness; else RESISTED when every mandatory check passed and no other failed."""
    if any(a.fooled for a in (*evidence.attempts, *evidence.extra)):
        return Verdict.FOOLED
    shown = all(f.status == PASSED if f.mandatory else f.status != FAILED for f in findings)
    return Verdict.RESISTED if shown and evidence.attempts else Verdict.INCONCLUSIVE


def _rate(attempts: Sequence[Attempt]) -> dict[str, Any]:
    lit = [a.lit for a in attempts if a.fooled]
    n = len(attempts)
    return {
        "attempts": n,
        "fooled": len(lit),
        "rate": len(lit) / n if n else None,
        "rate_upper_95": upper_bound_95(len(lit), n),
        "median_lit": median(lit),
        "min_lit": min(lit, default=None),
    }


def verdict_json(evidence: Evidence, findings: Sequence[Finding], verdict: Verdict) -> dict[str, Any]:
    """The contents of `verdict.json`, schema 1. A median of nothing is null; counts in `violated` may overlap."""
    attempts, want = evidence.attempts, evidence.conditions
    fewest = [a.fewest for a in attempts]
    sparse_confident = [k for k in fewest if k is not None and k <= want.max_lit]
    failed = [a for a in attempts if not a.fooled]
    return {
        "schema": 1,
        "verdict": str(verdict),
        "conditions": asdict(want),
        **_rate(attempts),
        "real_accuracy": evidence.real.accuracy,
        "real_confident": evidence.real.confident,
        "real_taken_for_fake": evidence.real.taken_for_fake,
        "real_renormalised_confident": evidence.real.renormalised_confident,
        "sparse_confident": {
            "fooled": len(sparse_confident),
            "median_lit": median(sparse_confident),
            "min_lit": min(sparse_confident, default=None),
            "at_most": {str(k): share_at_most(fewest, k) for k in lit_thresholds(want.max_lit)},
        },
        "targets": {str(t): _rate([a for a in attempts if a.target == t]) for t in sorted({a.target for a in attempts})},
        "classes": list(evidence.classes),
        "violated": {
            "sparse": sum(a.lit > want.max_lit for a in failed),
            "confident": sum(a.confidence < want.confidence for a in failed),
            "out_of_distribution": sum(a.ood_p > want.ood_level for a in failed),
        },
        "processes": {
            name: {
                "attempts": tried,
                "fooled": len(lit := [a.lit for a in attempts if a.fooled and a.process == name]),
                "median_lit": median(lit),
            }
            for name, tried in evidence.tried_by.items()
        },
        "extra": {"fooled": len(evidence.extra), "min_lit": min((a.lit for a in evidence.extra), default=None)},
        "checks": [asdict(f) for f in findings],
        "certificate": None,
        "cost": asdict(evidence.cost),
        "notes": evidence.notes,
    }
