"""What a sweep found, as plain values: from Optuna's trials to `sweep.json`, the points of the
front, and their settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blankcheck.judging import upper_bound_95
from blankcheck.sweep import choosing
from blankcheck.sweep.choosing import Point
from blankcheck.sweep.space import Space
from blankcheck.sweep.study import (
    FIRST,
    MOST_TRIES,
    REASON,
    RETRY_OF,
    TRY,
    Counts,
    count,
    counted,
    killed,
)
from blankcheck.sweep.workers import RESULT, folder_of, seen_of

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

STATES = {
    "COMPLETE": "finished",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "running",
    "WAITING": "waiting",
}
KILLED = "killed"
"""State of a trial whose parameters are tried again."""

Record = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """A sweep so far. trials: one record each, as in `sweep.json`. front, best: of the points that
    may stand there;
    timid: whether every one of them was below `min_confident`."""

    counts: Counts
    trials: tuple[Record, ...]
    front: tuple[Point, ...]
    best: Point | None
    timid: bool
    min_confident: float

    def record_of(self, number: int) -> Record:
        """The record of a trial."""
        return next(t for t in self.trials if t["number"] == number)


def found_of(trials: Sequence[FrozenTrial], wanted: int, min_confident: float) -> Found:
    """What the trials of a study amount to."""
    records = [_record(t) for t in trials if counted(t) or killed(t)]
    points = [
        Point(r["number"], r["accuracy"], r["rate"], r["confident"])
        for r in records
        if r["state"] == "finished"
    ]
    allowed = choosing.eligible(points, min_confident)
    line = choosing.front(allowed)
    on_it = {p.number for p in line}
    shown = tuple({**r, "front": r["number"] in on_it} for r in records)
    timid = bool(points) and all(p.confident < min_confident for p in points)
    return Found(
        count(trials, wanted),
        shown,
        tuple(line),
        choosing.best(line) if line else None,
        timid,
        min_confident,
    )


def _record(trial: FrozenTrial) -> Record:
    said, state = trial.user_attrs, STATES[trial.state.name]
    again = state == "failed" and not counted(trial)
    record: Record = {
        "number": trial.number,
        "state": KILLED if again else state,
        "params": dict(trial.params),
        "seed": said.get("seed"),
        "run": folder_of(trial.number),
        "try": said.get(TRY, 1),
        "retry_of": said.get(RETRY_OF),
        "first": said.get(FIRST),
        "reason": said.get(REASON),
        "rounds": [vars(s) for s in seen_of(trial)],
        "accuracy": None,
        "confident": None,
        "fooled": None,
        "attempts": None,
        "rate": None,
        "rate_upper_95": None,
        "score": None,
        "audit": None,
    }
    if killed(trial):
        record["reason"] = (
            "its worker was killed"
            if again
            else f"its worker was killed in each of {MOST_TRIES} tries"
        )
    if state == "finished":
        accuracy, rate = trial.values
        result = said[RESULT]
        record |= {
            **result,
            "accuracy": accuracy,
            "rate": rate,
            "score": Point(trial.number, accuracy, rate).score,
            "rate_upper_95": upper_bound_95(result["fooled"], result["attempts"]),
        }
    return record


def sweep_json(found: Found, space: Space, names: Record) -> Record:
    """The contents of `sweep.json`, schema 1. names: study and seed of the sweep. Shares are of
    validation images and of fresh attempts against the kept network; nothing is from test images
    but what stands under `audit`."""
    c = found.counts
    return {
        "schema": 1,
        **names,
        **space.identity(),
        "objectives": {"accuracy": "maximize", "rate": "minimize"},
        "min_confident": found.min_confident,
        "counts": {
            "wanted": c.wanted,
            "finished": c.complete,
            "pruned": c.pruned,
            "failed": c.failed,
            "running": c.running,
            "waiting": c.waiting,
            "killed": sum(t["state"] == KILLED for t in found.trials),
        },
        "front": [p.number for p in found.front],
        "front_is_timid": found.timid,
        "best": found.best.number if found.best else None,
        "rule": choosing.RULE,
        "trials": list(found.trials),
    }


def point_yaml(record: Record, space: Space) -> str:
    """A configuration file for `harden --config` that repeats a trial."""
    import yaml

    settings = space.settings(record["params"], record["seed"])
    right, sure = (
        f"{record['accuracy']:.2%} of validation images right",
        f"{record['confident']:.2%} right and confident",
    )
    head = (
        f"# Trial {record['number']}: {right}, {sure}, {record['fooled']} of {record['attempts']} attempts fooled.\n"
        "# Repeat it with: blankcheck harden --config THIS_FILE --out DIR\n"
    )
    return head + yaml.safe_dump(settings.as_config(), sort_keys=False, allow_unicode=True)
