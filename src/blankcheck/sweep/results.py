"""What a sweep found, as plain values: the contents of `sweep.json`, and the files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml

from blankcheck.hardening import harmonic
from blankcheck.judging import upper_bound_95
from blankcheck.runs.folder import RunFolder
from blankcheck.sweep import study as of_study
from blankcheck.sweep.study import MOST_TRIES, REASON, RESULT, ROUNDS, Job

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

BEST, FRONT, RECORD = "best.yaml", "front", "sweep.json"
RULE = (
    "Of the points of the front, the one with the largest harmonic mean of accuracy and "
    "resistance, which is 1 minus the share of attempts that fool; among equals the more accurate, "
    "then the one that is confident of more real images."
)
STATES = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed"}
STATES |= {"RUNNING": "running", "WAITING": "waiting"}
MEASURED = "accuracy confident fooled attempts rate rate_upper_95 score audit"
Record = dict[str, Any]


def results(trials: Sequence[FrozenTrial], job: Job) -> Record:
    """The contents of `sweep.json`, schema 1.

    Shares are of validation images and of fresh attempts against the kept network; nothing is from
    test images but what stands under `audit`. The front holds what no other trial is better than:
    at least as good in both aims, and better in one.
    """
    records = [_record(trial) for trial in trials]
    finished = [record for record in records if record["state"] == "finished"]
    sure = [record for record in finished if record["confident"] >= job.options.min_confident]
    points = sure or finished  # the timid stand on the front only where there is nobody else
    front = [p for p in points if not any(_better(q, p) for q in points)]
    front.sort(key=lambda p: (p["rate"], p["number"]))
    best = max(front, key=_rank, default=None)
    for record in records:
        record["front"] = record in front
    ended = [STATES[trial.state.name] for trial in trials if of_study.counted(trial)]
    return {
        "schema": 1,
        "study": job.options.study,
        "seed": job.options.seed,
        **job.space.identity(),
        "objectives": {"accuracy": "maximize", "rate": "minimize"},
        "min_confident": job.options.min_confident,
        "counts": {
            "wanted": job.options.trials,
            **{state: ended.count(state) for state in STATES.values()},
            "killed": len(trials) - len(ended),
        },
        "front": [point["number"] for point in front],
        "front_is_timid": bool(finished) and not sure,
        "best": best["number"] if best else None,
        "rule": RULE,
        "trials": records,
    }


def _rank(point: Record) -> tuple[float, ...]:
    return point["score"], point["accuracy"], point["confident"], -point["number"]


def _better(one: Record, other: Record) -> bool:
    least = one["accuracy"] >= other["accuracy"] and one["rate"] <= other["rate"]
    return least and (one["accuracy"], one["rate"]) != (other["accuracy"], other["rate"])


def _record(trial: FrozenTrial) -> Record:
    before, state = of_study.history(trial), STATES[trial.state.name]
    lost = f"its worker was killed in each of {MOST_TRIES} tries"
    if not of_study.counted(trial):
        state, lost = "killed", "its worker was killed"
    said = trial.user_attrs
    record = {
        "number": trial.number,
        "state": state,
        "params": dict(trial.params),
        "seed": said.get("seed"),
        "run": of_study.folder_of(trial),
        "try": len(before) + 1,
        "retry_of": before[-1] if before else None,
        "first": before[0] if before else None,
        "reason": lost if of_study.killed(trial) else said.get(REASON),
        "rounds": said.get(ROUNDS, []),
        **dict.fromkeys(MEASURED.split()),
    }
    if state == "finished":
        accuracy, rate = trial.values
        result = said[RESULT]
        bound = upper_bound_95(result["fooled"], result["attempts"])
        record |= {**result, "rate": rate, "rate_upper_95": bound}
        record["score"] = harmonic(accuracy, [1 - rate])
    return record


def trial_of(found: Record, number: int | None) -> Record | None:
    """The record of a trial."""
    return next((trial for trial in found["trials"] if trial["number"] == number), None)


def write_results(found: Record, job: Job, out: RunFolder) -> None:
    """Write `sweep.json`, and a configuration for every point of the front and for the best."""
    out.write_json(RECORD, found)
    wanted = {f"{FRONT}/{number:04d}.yaml": number for number in found["front"]}
    for old in set(out.names(f"{FRONT}/*.yaml")) - wanted.keys():
        out.remove(old)
    for name, number in [*wanted.items(), (BEST, found["best"])]:
        if (trial := trial_of(found, number)) is not None:
            out.write(name, point_yaml(trial, job))


def fooled_of(trial: Record) -> str:
    """How often the network of a trial was fooled."""
    return f"{trial['fooled']} of {trial['attempts']} attempts fooled"


def point_yaml(trial: Record, job: Job) -> str:
    """A configuration file for `harden --config` that repeats a trial."""
    settings = job.space.settings(trial["params"], trial["seed"])
    right = f"{trial['accuracy']:.2%} of validation images right"
    sure = f"{trial['confident']:.2%} confident"
    head = f"# Trial {trial['number']}: {right}, {sure}, {fooled_of(trial)}."
    again = "# Repeat it with: blankcheck harden --config THIS_FILE --out DIR"
    config = yaml.safe_dump(settings.as_config(), sort_keys=False, allow_unicode=True)
    return f"{head}\n{again}\n{config}"
