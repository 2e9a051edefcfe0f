"""Audits of the zoo: RESISTED is never said of a network that only hides, FOOLED never of an honest
one."""

from __future__ import annotations

import pytest

import blankcheck as bc
from blankcheck.testing import NAMES, Member, zoo

QUICK = ("thresholded", "random-ensemble", "planted-present-0.5", "ink-gate")
EPOCHS = 60


@pytest.fixture(scope="module")
def quick(digits) -> dict[str, Member]:
    return {m.name: m for m in zoo(digits, epochs=EPOCHS, names=QUICK)}


def judged(member: Member, preset: str) -> bc.Audit:
    audit = bc.audit(member.model, member.data, preset, max_lit=member.max_lit)
    failing = [c["code"] for c in audit.json["checks"] if c["status"] == "failed"]
    if member.kind == "deceiver":
        scope = audit.json["controls"].get("planted-control", {}).get("narrowest_reach", 2.0)
        beyond = member.reach is not None and member.reach < scope
        assert audit.verdict != "RESISTED" or beyond, member.why
        assert audit.verdict == "FOOLED" or failing or beyond
    elif member.kind == "honest":
        assert audit.verdict != "FOOLED" and not audit.json["extra"]["fooled"], member.why
    else:
        assert audit.verdict == "FOOLED" and audit.rate == 1
    return audit


@pytest.mark.parametrize(
    "name", [QUICK[0], *(pytest.param(name, marks=pytest.mark.slow) for name in QUICK[1:])]
)
def test_a_quick_audit_is_not_deceived(quick, name):
    audit = judged(quick[name], "smoke")
    codes = {c["code"] for c in audit.json["checks"] if c["status"] == "failed"}
    if quick[name].kind == "honest":
        assert audit.verdict == "RESISTED"
    if name == "thresholded":
        assert {"gradient-health", "gradient-free"} <= codes, (
            "what a hidden gradient hides is named"
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_standard_audit_is_not_deceived(digits, name):
    (member,) = zoo(digits, epochs=EPOCHS, names=(name,))
    audit = judged(member, "standard")
    if member.kind == "honest":
        assert audit.verdict == "RESISTED"
