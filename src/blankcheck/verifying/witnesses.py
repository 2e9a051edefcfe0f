"""The witnesses of a run folder: scored again, one by one, and held against the attempts they
belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.api.audit import WITNESSES
from blankcheck.auditing.witnesses import nearest_real
from blankcheck.classifiers import UnitClassifier
from blankcheck.data import Data
from blankcheck.judging import OODTest
from blankcheck.judging.evidence import Attempt
from blankcheck.runs.witnesses import TOLERANCE, Again, Stored, rounded_holds, score
from blankcheck.types import Conditions
from blankcheck.verifying.findings import Findings

EXACT = 1e-6
"""Largest difference of numbers that were written twice."""


@dataclass(frozen=True)
class Judges:
    """Both families' tests, fitted again on the data at hand; None where their scores are not known
    by name."""

    first: OODTest | None = None
    second: OODTest | None = None


def check_scores(
    found: Findings,
    stored: Stored,
    classifier: UnitClassifier,
    form: str,
    want: Conditions,
    judges: Judges,
) -> None:
    """Score every witness again, as it is and rounded to 8 bits."""
    judge = judges.first
    again = score(stored, classifier, form, None if judge is None else judge.p_values)
    holds = again.holds(stored, want)
    if judge is not None and again.ood_p is not None:
        holds["ood_p"] &= same_p(judge, stored.tensors["ood_p"], again.ood_p)
    _say_held(found, stored, again, holds, want)
    n, good = len(stored), int(torch.stack(list(holds.values())).all(dim=0).sum())
    held = (
        "confidence and lit features" if judge is None else "confidence, lit features and p-value"
    )
    lines = [f"{good} of {n} witnesses: {held} hold when scored again"]
    p_values = None if judge is None else judge.p_values
    tight, loose = (
        rounded_holds(stored, classifier, form, want, p_values, slack)
        for slack in (TOLERANCE, -TOLERANCE)
    )
    rounded = int(rounded_holds(stored, classifier, form, want, p_values).sum())
    lines.append(f"{rounded} of {n} still meet all conditions when rounded to 8 bits")
    said = stored.tensors.get("survives_8bit")
    if said is not None and judge is not None:
        _each(
            found,
            "survives_8bit",
            ~((said & loose) | (~said & ~tight)),
            "is not so when rounded again",
        )
    found.facts[:0] = lines
    found.record |= {
        "confirmed": good,
        "witnesses": n,
        "survive_8bit": rounded,
        "ood_recomputed": judge is not None,
    }


def _say_held(
    found: Findings, stored: Stored, again: Again, holds: dict[str, Tensor], want: Conditions
) -> None:
    asked = {
        "confidence": f"at least {want.confidence:g}",
        "lit": f"at most {want.max_lit}",
        "ood_p": f"at most {want.ood_level:g}",
    }
    for name, good in holds.items():
        values: Tensor = stored.tensors[name] if (new := getattr(again, name)) is None else new
        for row in (~good).nonzero().squeeze(1).tolist():
            found.fail(
                WITNESSES,
                f"witness {row}: {name} is {float(values[row]):.6g} when scored again, the file says "
                f"{float(stored.tensors[name][row]):.6g}, asked is {asked[name]}",
            )


def same_p(judge: OODTest, said: Tensor, again: Tensor) -> Tensor:
    """(n,) bool: the p-value is one that the test can give, and at most one rank from the one
    computed again: 32-bit arithmetic may put an image on the other side of a calibration image."""
    table = judge.table
    rank = torch.searchsorted(table, said - EXACT).clamp(max=len(table) - 1)
    other = torch.searchsorted(table, again - EXACT).clamp(max=len(table) - 1)
    return ((table[rank] - said).abs() <= EXACT) & ((rank - other).abs() <= 1)


def check_nearest(found: Findings, stored: Stored, data: Data) -> None:
    """The real images beside the witnesses are those of the data set that are closest in angle."""
    said = stored.tensors.get("nearest")
    if said is None or not len(stored):
        return
    images = stored.tensors["images"]
    again = nearest_real(images, data)
    differs = ((said - again).abs().flatten(1).amax(dim=1) > EXACT).nonzero().squeeze(1)
    for row in differs.tolist():
        # another real image may be as close, by rounding
        pair = torch.stack([said[row], again[row]])
        cosine = (pair.flatten(1) @ images[row].flatten()) / pair.flatten(1).norm(dim=1).clamp_min(
            EXACT
        )
        itself = nearest_real(said[row][None], data)[0]
        if abs(float(cosine[0] - cosine[1])) > EXACT or bool(
            ((itself - said[row]).abs() > EXACT).any()
        ):
            found.fail(WITNESSES, f"witness {row}: nearest is not the real image closest to it")


def check_rows(
    found: Findings,
    stored: Stored,
    attempts: Sequence[Attempt],
    names: Sequence[str],
    judges: Judges,
    seed: object,
) -> tuple[Attempt, ...]:
    """The fixed witnesses are one to one with the attempts that fooled. seed: of the run, where the
    settings say it. Hands back the others, as attempts."""
    t = stored.tensors
    n = len(stored)
    extra = t.get("extra", torch.zeros(n, dtype=torch.bool)).tolist()
    process = t["process"].tolist() if "process" in t else [-1] * n
    for row, i in enumerate(process):
        if i >= len(names):
            found.fail(WITNESSES, f"witness {row}: process {i} has no name")
    rows = tuple(
        _as_attempt(stored, row, names[i] if 0 <= i < len(names) else "")
        for row, i in enumerate(process)
    )
    second = None if judges.second is None else judges.second.p_values(t["images"])
    fooled = [i for i, a in enumerate(attempts) if a.fooled]
    if "attempt" not in t:  # older files are in the order of the attempts
        owners = iter(fooled)
        at = [-1 if extra[row] else next(owners, len(attempts)) for row in range(n)]
    else:
        at = t["attempt"].tolist()
    seen: dict[int, int] = {}
    for row in (row for row in range(n) if not extra[row]):
        owner = at[row]
        if owner >= len(attempts) or not attempts[owner].fooled:
            found.fail(
                WITNESSES, f"witness {row}: attempts.jsonl has no attempt {owner} that fooled"
            )
        elif owner in seen:
            found.fail(
                WITNESSES, f"witness {row}: is of attempt {owner}, as witness {seen[owner]} is"
            )
        else:
            seen[owner] = row
            _same(found, row, owner, rows[row], attempts[owner], stored)
            if isinstance(seed, int) and "seed" in t and int(t["seed"][row]) != seed:
                found.fail(
                    WITNESSES,
                    f"witness {row}: seed is {int(t['seed'][row])}, config.yaml says {seed}",
                )
            theirs = attempts[owner].second_p
            if second is not None and judges.second is not None and theirs is not None:
                good = same_p(judges.second, torch.tensor([theirs]), second[row][None])
                if not bool(good):
                    found.fail(
                        "attempts.jsonl",
                        f"attempt {owner}: second_p is {theirs:.6g}, {float(second[row]):.6g} again",
                    )
    for owner in fooled:
        if owner not in seen:
            found.fail(WITNESSES, f"attempt {owner} fooled by attempts.jsonl, but has no witness")
    _no_row_twice(found, stored, [row for row in range(n) if extra[row]])
    return tuple(a for a, more in zip(rows, extra, strict=True) if more)


def _as_attempt(stored: Stored, row: int, process: str) -> Attempt:
    t = stored.tensors
    lit = int(t["lit"][row])
    return Attempt(
        target=int(t["targets"][row]),
        fooled=True,
        process=process,
        lit=lit,
        confidence=float(t["confidence"][row]),
        ood_p=float(t["ood_p"][row]),
        fewest=lit,
        step=int(t["step"][row]) if "step" in t else 0,
        survives_8bit="survives_8bit" in t and bool(t["survives_8bit"][row]),
    )


def _same(
    found: Findings, row: int, owner: int, witness: Attempt, attempt: Attempt, stored: Stored
) -> None:
    columns = {
        "target": "targets",
        "process": "process",
        "lit": "lit",
        "confidence": "confidence",
        "ood_p": "ood_p",
        "step": "step",
        "survives_8bit": "survives_8bit",
    }
    for field, column in columns.items():
        mine, theirs = getattr(witness, field), getattr(attempt, field)
        same = abs(mine - theirs) <= EXACT if isinstance(mine, float) else mine == theirs
        if column in stored.tensors and not same:
            found.fail(
                WITNESSES,
                f"witness {row}: {field} is {mine}, attempts.jsonl says {theirs} for attempt {owner}",
            )


def _no_row_twice(found: Findings, stored: Stored, rows: Sequence[int]) -> None:
    """Two controls may find one image, but one attempt finds it once."""
    seen: dict[tuple[object, ...], int] = {}
    columns = [
        stored.tensors[name] for name in ("targets", "process", "attempt") if name in stored.tensors
    ]
    for row in rows:
        key = (
            *(int(column[row]) for column in columns),
            stored.tensors["images"][row].numpy().tobytes(),
        )
        if key in seen:
            found.fail(WITNESSES, f"witness {row}: is witness {seen[key]} once more")
        seen.setdefault(key, row)


def check_attempts(found: Findings, attempts: Sequence[Attempt], judges: Judges) -> None:
    """p-values of attempts are values that the test can give."""
    for judge, name in ((judges.first, "ood_p"), (judges.second, "second_p")):
        said = [(i, p) for i, a in enumerate(attempts) if (p := getattr(a, name)) is not None]
        if judge is None or not said:
            continue
        values = torch.tensor([p for _, p in said])
        for (i, p), good in zip(said, same_p(judge, values, values).tolist(), strict=True):
            if not good:
                found.fail(
                    "attempts.jsonl", f"attempt {i}: {name} {p:.6g} is none that the test gives"
                )


def _each(found: Findings, name: str, wrong: Tensor, words: str) -> None:
    for row in wrong.nonzero().squeeze(1).tolist():
        found.fail(WITNESSES, f"witness {row}: {name} {words}")
