"""A verdict derived anew from a run folder, and how what the folder says differs from it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from blankcheck.judging import evidence as records
from blankcheck.judging.check_rules import FAILED
from blankcheck.judging.checks import CHECKS, Finding
from blankcheck.judging.evidence import Attempt, Control, Evidence, Proof
from blankcheck.types import Conditions

WRONG, MISSING, UNKNOWN = "wrong", "missing", "unknown"
UNSAID = "\0"
"""Stands in a derived sentence for words that the folder holds nowhere else."""
REAL = ("real_accuracy", "real_confident", "real_taken_for_fake", "real_renormalised_confident")
"""Fields of `verdict.json`, in the order of `RealData`."""
UNDERIVED = ("checks", "cost", "notes", "rivals")
"""Of `verdict.json`: compared by `check_differences`, or records that nothing else tells."""
UNSTEADY = ("repeatable", "batch-independent", "watched", "best-kept")
"""Checks that fail where one image gets several answers; fooled attempts may then be none."""
ALWAYS_RUN = frozenset((*UNSTEADY, "gradient-health", "saturation", "unbounded"))
_HARDER = "more-steps more-restarts more-starts penalty-weights tighter-limit close-calls"
RUN_WHERE_AN_ATTEMPT_FAILED = (*_HARDER.split(), "gradient-free")
FINDING_MORE = (*RUN_WHERE_AN_ATTEMPT_FAILED, "transfer", "rivals")
"""Controls whose `found` are images of the audited network that meet all conditions."""

Record = TypeVar("Record")
Plain = Mapping[str, Any]
Checks = Sequence[Plain]


@dataclass(frozen=True)
class Difference:
    """One field that is not as derived.

    kind: `wrong`, `missing` (from the folder) or `unknown` (to this version).
    """

    kind: str
    field: str
    said: Any = None
    derived: Any = None


def evidence_again(
    verdict: Mapping[str, Any],
    want: Conditions,
    attempts: Sequence[Attempt],
    extra: Sequence[Attempt],
    proof: Proof | None,
) -> Evidence:
    """The evidence behind a `verdict.json` of the right form.

    Attempts and witnesses are given, measurements taken as recorded. Others did not run.
    """
    ood, twin = verdict.get("out_of_distribution_test"), verdict.get("twin")
    black = verdict.get("black")
    recorded = verdict.get("controls") or {}
    details = {} if twin is None else {"positive-control": twin["what"]}
    controls = (_control(c.code, recorded.get(c.code), details.get(c.code, "")) for c in CHECKS)
    # what the first versions did not write
    known = {"scores": (), "smallest_p": 0.0}
    return Evidence(
        conditions=want,
        classes=tuple(verdict["classes"]),
        attempts=tuple(attempts),
        tried_by={name: row["attempts"] for name, row in verdict["processes"].items()},
        real=records.RealData(*(verdict.get(name, 0.0) for name in REAL)),
        controls=tuple(controls),
        cost=_read(records.Cost, verdict["cost"]),
        extra=tuple(extra),
        ood=None if ood is None else _read(records.OODRecord, known | dict(ood)),
        twin=None if twin is None else _read(records.OnTwin, twin),
        notes=dict(verdict.get("notes") or {}),
        proof=proof,
        black=None if black is None else _read(records.Black, black),
    )


def _read(kind: type[Record], said: Mapping[str, Any]) -> Record:
    """A record that `verdict.json` holds under the names of its fields."""
    # mypy does not know that every `Record` here is a dataclass
    own = {f.name: said[f.name] for f in fields(kind) if f.name in said}  # type: ignore[arg-type]
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in own.items()})


def _control(code: str, record: Mapping[str, Any] | None, detail: str) -> Control:
    if record is None:
        return Control(code, why_not=UNSAID)
    numbers = {k: float(v) for k, v in record.items() if k not in ("found", "tries")}
    return Control(code, record["found"], record["tries"], detail + UNSAID, numbers=numbers)


def differences(said: Any, derived: Any, field: str = "") -> Iterator[Difference]:
    """Where two plain values differ, key by key.

    Numbers may differ by one part in a million, as quantiles of a library do; a bool is no number.
    """
    if isinstance(said, Mapping) and isinstance(derived, Mapping):
        for key in dict.fromkeys((*derived, *said)):
            name = f"{field}.{key}" if field else str(key)
            if key not in said:
                yield Difference(MISSING, name, derived=derived[key])
            elif key not in derived:
                yield Difference(UNKNOWN, name, said=said[key])
            else:
                yield from differences(said[key], derived[key], name)
    elif not _same(said, derived):
        yield Difference(WRONG, field, said, derived)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return not any(True for _ in differences(a, b))
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in (a, b)):
        return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
    return type(a) is type(b) and bool(a == b)


def figure_differences(
    said: Plain, derived: Plain, extra: Sequence[Attempt]
) -> Iterator[Difference]:
    """How the figures of `verdict.json` differ; `extra`: witnesses outside the allocation."""
    said, derived = ({k: x[k] for k in x if k not in UNDERIVED} for x in (said, derived))
    proof, again = said.get("certificate"), derived.get("certificate")
    if proof is not None and again is not None and len(proof["found"]) == len(again["found"]):
        # an extra witness does not tell the fewest lit features that its attempt met on the way
        beside = {attempt.target for attempt in extra}
        pairs = enumerate(zip(proof["found"], again["found"], strict=True))
        if all(a == b or (t in beside and None not in (a, b) and a <= b) for t, (a, b) in pairs):
            derived = {**derived, "certificate": {**again, "found": proof["found"]}}
    yield from differences(said, derived)


def check_differences(said: Checks, findings: Sequence[Finding]) -> Iterator[Difference]:
    """How the `checks` of `verdict.json` differ from the findings, but for their words."""
    by_code: dict[Any, list[Plain]] = {}
    for one in said:
        by_code.setdefault(one.get("code"), []).append(one)
    for finding in findings:
        name, listed = f"checks: {finding.code}", by_code.pop(finding.code, [])
        if len(listed) != 1:
            yield Difference(WRONG if listed else MISSING, name, f"{len(listed)} findings", "one")
            continue
        for field in ("status", "mandatory"):
            there, derived = listed[0][field], getattr(finding, field)
            if there != derived:
                yield Difference(WRONG, f"{name}: {field}", there, derived)
    for code in by_code:
        yield Difference(UNKNOWN, f"checks: {code}")


def unsteady(checks: Checks) -> bool:
    """Whether by these `checks` one image got several answers."""
    return any(c.get("code") in UNSTEADY and c["status"] == FAILED for c in checks)


def text_differences(said: Checks, findings: Sequence[Finding]) -> Iterator[Difference]:
    """Checks whose words are not those of this version."""
    by_code = {one.get("code"): one for one in said}
    for finding in findings:
        one = by_code.get(finding.code, {})
        for field in ("title", "means", "what_to_do", "finding"):
            words = str(getattr(finding, field))
            pattern = ".*".join(re.escape(part) for part in words.split(UNSAID))
            if field in one and not re.fullmatch(pattern, str(one[field]), re.DOTALL):
                name, shown = f"checks: {finding.code}: {field}", words.replace(UNSAID, "...")
                yield Difference(WRONG, name, one[field], shown)


def inconsistent(verdict: Plain, evidence: Evidence, findings: Sequence[Finding]) -> Iterator[str]:
    """What cannot be so by the rules of an audit, whatever the figures say; one sentence each."""
    unsteady = any(f.code in UNSTEADY and f.status == FAILED for f in findings)
    controls = {c.code: c for c in evidence.controls if not c.why_not}
    attempts = evidence.attempts
    for name in _must_have_run(evidence, unsteady) - controls.keys():
        yield f"controls: {name} is missing, which every such audit runs"
    for code, control in controls.items():
        if not 0 <= control.found <= control.tries or control.tries < 1:
            yield f"controls: {code}: found {control.found} of {control.tries}"
    positive, twin = controls.get("positive-control"), evidence.twin
    counted = None if twin is None else (len(twin.lit), twin.attempts)
    if positive is not None and (positive.found, positive.tries) != counted:
        yield "twin is not what the positive control tells of"
    if evidence.notes.get("twin", "none") != ("none" if twin is None else twin.what):
        yield "notes.twin is not the twin of the positive control"
    if not unsteady:
        yield from _unsaid(verdict, evidence, controls)
    for name, tried in evidence.tried_by.items():
        if not sum(a.process == name for a in attempts) <= tried <= len(attempts):
            yield f"processes: {name} was run for {tried} of {len(attempts)} attempts"


def _unsaid(verdict: Plain, evidence: Evidence, controls: dict[str, Control]) -> Iterator[str]:
    """Fooling images that are not called so, or not stored."""
    stored = [attempt.process for attempt in evidence.extra]
    for i, attempt in enumerate(evidence.attempts):
        if not attempt.fooled and not attempt.violates(evidence.conditions):
            met = "meets all three conditions and is not called fooled"
            yield f"attempts.jsonl: attempt {i} {met}"
            break
    for code in FINDING_MORE:
        own = sum(process.startswith(f"{code}: ") for process in stored)
        if code in controls and own < (found := controls[code].found):
            yield f"controls: {code} found {found}, but {own} such witnesses are stored"
    for name, row in (verdict.get("rivals") or {}).items():
        own = sum(p.startswith("rivals") and p.endswith(f"/{name}") for p in stored)
        if row["fooled"] > own:
            yield f"rivals: {name} fooled {row['fooled']}, but no such witnesses are stored"


def _must_have_run(evidence: Evidence, unsteady: bool) -> frozenset[str]:
    if unsteady or all(a.fooled for a in evidence.attempts):
        return ALWAYS_RUN
    codes = ALWAYS_RUN.union(RUN_WHERE_AN_ATTEMPT_FAILED)
    fooled = {a.target for a in (*evidence.attempts, *evidence.extra) if a.fooled}
    asked = {a.target for a in evidence.attempts}  # classes without images are not
    return codes | {"planted-control"} if asked - fooled else codes
