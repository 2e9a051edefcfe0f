"""The witnesses of a run folder: measured again, one by one, and held against the attempts they
belong to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from blankcheck.auditing.witnesses import nearest_real
from blankcheck.copies import digest_of
from blankcheck.data import Data
from blankcheck.judging import OODTest
from blankcheck.judging.evidence import Attempt
from blankcheck.judging.shape import outline
from blankcheck.runs.folder import ATTEMPTS, CONFIG, WITNESSES
from blankcheck.runs.witnesses import TOLERANCE, Stored, measure
from blankcheck.verifying.folder import Folder, Subject, value
from blankcheck.verifying.record import Judges

EXACT = 1e-6
"""Largest difference of numbers that were written twice."""
FIELDS = ("target", "process", "lit", "confidence", "ood_p", "step", "survives_8bit", "image")
"""What a witness and its attempt both say."""
NOT_NEAREST = "nearest is not the real image closest to it"


def check_scores(folder: Folder, stored: Stored, subject: Subject, judge: OODTest | None) -> None:
    """Measure every witness again, as it is and rounded to 8 bits."""
    found, want, form = folder.found, subject.want, subject.form
    p_values = None if judge is None else judge.p_values
    again = measure(stored, subject.classifier, form, p_values)
    holds = again.holds(stored, want)
    if judge is not None:
        holds["ood_p"] &= same_p(judge, stored.tensors["ood_p"], again.ood_p)
    limits = (want.confidence, want.max_lit, want.ood_level)
    for (name, held), limit in zip(holds.items(), limits, strict=True):
        asked = f"asked is at {'least' if name == 'confidence' else 'most'} {value(limit)}"
        for row in rows_of(~held):
            new, old = float(getattr(again, name)[row]), float(stored.tensors[name][row])
            words = f"{name} is {new:.6g} when scored again, the file says {old:.6g}"
            _fail(folder, row, f"{words}, {asked}")
    rounded = measure(stored, subject.classifier, form, p_values, rounded=True)
    said = stored.tensors.get("survives_8bit")
    if said is not None and judge is not None:
        fits = torch.where(said, rounded.meets(want, -TOLERANCE), ~rounded.meets(want, TOLERANCE))
        for row in rows_of(~fits):
            _fail(folder, row, "survives_8bit is not so when rounded again")
    n, good = len(stored), int(torch.stack([*holds.values()]).all(dim=0).sum())
    survive = int(rounded.meets(want).sum())
    what = "confidence" + (" and lit features" if judge is None else ", lit features and p-value")
    found.facts[:0] = [
        f"{good} of {n} witnesses: {what} hold when scored again",
        f"{survive} of {n} still meet all conditions when rounded to 8 bits",
    ]
    if not n:
        found.facts[:2] = ["the folder holds no witness that could be scored again"]
    found.record |= {"confirmed": good, "witnesses": n}
    found.record |= {"survive_8bit": survive, "ood_recomputed": judge is not None}


def _fail(folder: Folder, row: int, words: str) -> None:
    folder.found.fail(WITNESSES, f"witness {row}", words)


def rows_of(which: Tensor) -> list[int]:
    """The positions where (n,) is True."""
    rows: list[int] = which.nonzero().squeeze(1).tolist()
    return rows


def same_p(judge: OODTest, said: Tensor, again: Tensor) -> Tensor:
    """(n,) bool: the p-value is one that the test can give, and the one computed again or next to
    it: 32-bit arithmetic may put an image on the other side of a real one."""
    table = judge.attainable
    rank = torch.searchsorted(table, said - EXACT).clamp(max=len(table) - 1)
    other = torch.searchsorted(table, again - EXACT).clamp(max=len(table) - 1)
    return ((table[rank] - said).abs() <= EXACT) & ((rank - other).abs() <= 1)


def check_nearest(folder: Folder, stored: Stored, data: Data) -> None:
    """The real images beside the witnesses are those of the data set of the closest shape."""
    said = stored.tensors.get("nearest")
    for row in [] if said is None else not_nearest(stored.tensors["images"], said, data):
        _fail(folder, row, NOT_NEAREST)


def not_nearest(images: Tensor, said: Tensor, data: Data) -> list[int]:
    """The rows whose real image is not the one of the closest shape."""
    rows = []
    again = nearest_real(images, data)
    for row in rows_of(_apart(said, again)):
        # another real image may be as close, by rounding
        pair = outline(torch.stack([said[row], again[row]]))
        cosine = pair @ outline(images[row][None])[0]
        as_close = abs(float(cosine[0] - cosine[1])) <= EXACT
        itself = nearest_real(said[row][None], data)
        if not as_close or bool(_apart(itself, said[row][None])):
            rows.append(row)
    return rows


def _apart(some: Tensor, others: Tensor) -> Tensor:
    return (some - others).abs().flatten(1).amax(dim=1) > EXACT


def check_rows(folder: Folder, stored: Stored, judges: Judges) -> tuple[Attempt, ...]:
    """The fixed witnesses are one to one with the attempts that fooled; hands back the others."""
    found, attempts, t, n = folder.found, folder.attempts, stored.tensors, len(stored)
    extra = t.get("extra", torch.zeros(n, dtype=torch.bool)).tolist()
    if "process" in t:
        for row in rows_of(t["process"] >= len(stored.processes)):
            _fail(folder, row, f"process {int(t['process'][row])} has no name")
    rows = [_as_attempt(stored, row) for row in range(n)]
    fooled = [i for i, a in enumerate(attempts) if a.fooled]
    # older files are in the order of the attempts
    owners = iter([*fooled, *[len(attempts)] * n])
    at = t["attempt"].tolist() if "attempt" in t else [-1 if e else next(owners) for e in extra]
    seen: dict[int, int] = {}
    for row in (row for row in range(n) if not extra[row]):
        owner = at[row]
        if owner >= len(attempts) or not attempts[owner].fooled:
            _fail(folder, row, f"{ATTEMPTS} has no attempt {owner} that fooled")
        elif owner in seen:
            _fail(folder, row, f"is of attempt {owner}, as witness {seen[owner]} is")
        else:
            seen[owner] = row
            _compare(folder, stored, row, rows[row], owner)
    for owner in fooled:
        if owner not in seen:
            found.fail(WITNESSES, f"attempt {owner} fooled by {ATTEMPTS}, but has no witness")
    for name, judge in judges.items():
        # a witness has its own p-value of the first test, which `check_scores` computes again
        if seen and name != "ood_p":
            again = judge.p_values(t["images"][[*seen.values()]])
            compare_others(folder, (name, judge), list(seen), again)
    _no_row_twice(folder, stored, [row for row in range(n) if extra[row]])
    return tuple(a for a, more in zip(rows, extra, strict=True) if more)


def _as_attempt(stored: Stored, row: int) -> Attempt:
    numbers = (item for item in stored.tensors.items() if item[1].ndim == 1)
    t: dict[str, Any] = {name: tensor[row].item() for name, tensor in numbers}
    lit, measured = t["lit"], (t["confidence"], t["ood_p"])
    later = t.get("step", 0), t.get("survives_8bit", False)
    own = digest_of(stored.tensors["images"][row])
    first = (t["targets"], True, stored.process(row), lit, *measured, lit, None, *later)
    return Attempt(*first, image=own)


def _compare(folder: Folder, stored: Stored, row: int, witness: Attempt, owner: int) -> None:
    attempt, seed = folder.attempts[owner], folder.config.get("seed")
    for field in FIELDS:
        mine, theirs = getattr(witness, field), getattr(attempt, field)
        same = abs(mine - theirs) <= EXACT if isinstance(mine, float) else mine == theirs
        recorded = field in ("target", *stored.tensors) or (field == "image" and theirs)
        if recorded and not same:
            words = f"{field} is {mine}, {ATTEMPTS} says {theirs} for attempt {owner}"
            _fail(folder, row, words)
    if isinstance(seed, int) and "seed" in stored.tensors:
        said = int(stored.tensors["seed"][row])
        folder.found.compare(WITNESSES, f"witness {row}: seed", said, f"{CONFIG} says", seed)


def compare_others(
    folder: Folder, named: tuple[str, OODTest], owners: Sequence[int], again: Tensor
) -> None:
    """p-values of attempts, by name and test, are those computed `again` of their images, (n,)."""
    name, judge = named
    said = [getattr(folder.attempts[owner], name) for owner in owners]
    known = torch.tensor([p is not None for p in said])
    values = torch.tensor([0.0 if p is None else p for p in said])
    for i in rows_of(known & ~same_p(judge, values, again)):
        words = f"{name} is {float(values[i]):.6g}, {float(again[i]):.6g} again"
        folder.found.fail(ATTEMPTS, f"attempt {owners[i]}", words)


def _no_row_twice(folder: Folder, stored: Stored, rows: Sequence[int]) -> None:
    """Two controls may find one image, but one attempt finds it once."""
    seen: dict[tuple[object, ...], int] = {}
    names = [name for name in ("targets", "process", "attempt") if name in stored.tensors]
    for row in rows:
        numbers = (int(stored.tensors[name][row]) for name in names)
        key = (*numbers, stored.tensors["images"][row].numpy().tobytes())
        if (first := seen.setdefault(key, row)) != row:
            _fail(folder, row, f"is witness {first} once more")


def check_attempts(folder: Folder, judges: Judges) -> None:
    """p-values of attempts are values that the test can give."""
    for name, judge in judges.items():
        pairs = [(i, getattr(a, name)) for i, a in enumerate(folder.attempts)]
        said = [(i, p) for i, p in pairs if p is not None]
        if not said:
            continue
        values = torch.tensor([p for _, p in said])
        for row in rows_of(~same_p(judge, values, values)):
            i, p = said[row]
            words = f"{name} {p:.6g} is none that the test gives"
            folder.found.fail(ATTEMPTS, f"attempt {i}", words)
