"""What a run folder holds, read and checked once, so that whoever shows it can rely on every value.

Nothing here builds a model, loads a data set or runs what the folder names: all of it is data.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from blankcheck.errors import RunFolderError
from blankcheck.judging import Verdict
from blankcheck.judging.evidence import Attempt
from blankcheck.runs.blend_record import Blends, read_blends
from blankcheck.runs.schema import (
    ATTEMPT,
    COUNT,
    EPOCH,
    LATER,
    REAL,
    ROUND,
    SEARCH,
    SET,
    TEXT,
    TRAINED,
    VERDICT,
    VIOLATED,
    Form,
    check,
    check_attempt,
    check_real,
    check_round,
    check_search,
    check_set,
    check_verdict,
    short,
)
from blankcheck.runs.folder import MARK, RunFolder
from blankcheck.runs.witnesses import Stored, unpack

SCHEMA = 1


@dataclass(frozen=True)
class Witness:
    """One witness of the file. image: (c, h, w) in [0, 1]. nearest: the real image beside it, where
    the file has one.

    extra: found by a control, outside the fixed allocation of attempts. survives_8bit: None where
    the file does not say.
    """

    image: Tensor
    nearest: Tensor | None
    target: int
    confidence: float
    lit: int
    ood_p: float
    process: str
    extra: bool
    survives_8bit: bool | None = None


@dataclass(frozen=True)
class RunContents:
    """The checked contents of a run folder. verdict: None before an audit; then there are no
    attempts or witnesses.

    features: of one image, None before an audit. channels: likewise. kept: index of the round whose
    network was kept.
    trained: the record of a plain training, where there was one. sets: how often sets of images
    fooled the network after a round of hardening. reals: how the networks of the rounds do on real
    images. searches: how searches of them went. Older folders have none of these three. blends:
    what `blankcheck blend` found, where it was run.
    """

    run: RunFolder
    command: str
    config: dict[str, Any]
    environment: dict[str, Any]
    verdict: dict[str, Any] | None
    attempts: tuple[Attempt, ...]
    witnesses: tuple[Witness, ...]
    features: int | None
    channels: int | None
    rounds: tuple[dict[str, Any], ...]
    kept: int | None
    epochs: tuple[dict[str, Any], ...]
    trained: dict[str, Any] | None
    sets: tuple[dict[str, Any], ...] = ()
    reals: tuple[dict[str, Any], ...] = ()
    searches: tuple[dict[str, Any], ...] = ()
    blends: Blends | None = None

    def class_name(self, target: int) -> str:
        """The name of a target class, its number where it has none; what cannot be printed becomes
        a blank."""
        names = self.verdict["classes"] if self.verdict else []
        name = names[target] if 0 <= target < len(names) else str(target)
        return "".join(letter if letter.isprintable() else " " for letter in name)


def read_run(run: RunFolder, blends: bool = True) -> RunContents:
    """Everything a run folder holds. RunFolderError when a file is missing, broken or not what it
    should be.

    blends: False for who is about to write them again, so that broken ones are no obstacle.
    """
    environment = run.read_json(MARK)
    check(environment, {}, str(run / MARK))
    verdict = read_verdict(run)
    attempts: tuple[Attempt, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    shape: tuple[int, ...] | None = None
    if verdict is not None:
        attempts = _all_attempts(run, verdict["attempts"])
        witnesses, shape = _witnesses(run, verdict)
    hardening = (
        run.read_json("hardening.json") if run.has("hardening.json") else {"kept_round": None}
    )
    check(hardening, {"kept_round": (int, type(None))}, str(run / "hardening.json"))
    metrics = _metrics(run)
    trained = _records(metrics, "train", TRAINED)
    return RunContents(
        run=run,
        command=str(environment.get("command", "audit")),
        config=run.read_config(),
        environment=environment,
        verdict=verdict,
        attempts=attempts,
        witnesses=witnesses,
        features=math.prod(shape) if shape else None,
        channels=shape[0] if shape else None,
        rounds=_records(metrics, "round", ROUND, check_round),
        kept=hardening["kept_round"],
        epochs=_records(metrics, "epoch", EPOCH),
        trained=trained[-1] if trained else None,
        sets=_records(metrics, "set", SET, check_set),
        reals=_records(metrics, "real", REAL, check_real),
        searches=_records(metrics, "search", SEARCH, check_search),
        blends=read_blends(run) if blends else None,
    )


def read_verdict(run: RunFolder) -> dict[str, Any] | None:
    """`verdict.json`, of the right form; None where there is none. Raises RunFolderError."""
    path = run / "verdict.json"
    if not run.has(path.name):
        return None
    verdict: dict[str, Any] = run.read_json("verdict.json")
    check(verdict, {"schema": COUNT}, str(path))
    if verdict["schema"] != SCHEMA:
        raise RunFolderError(
            f"{path} has schema {verdict['schema']}, this version reads schema {SCHEMA}"
        )
    check(verdict, VERDICT, str(path))
    for key, form in LATER.items():
        if verdict.get(key) is not None:
            check(verdict[key], form, f"{path}: {key}")
    check_verdict(verdict, str(path))
    for key, row in verdict["targets"].items():
        if "violated" in row:
            check(row["violated"], VIOLATED, f"{path}: targets: {key}: violated")
    if verdict["verdict"] not in list(Verdict):
        raise RunFolderError(
            f"{path}: verdict must be one of {', '.join(Verdict)}, got {short(verdict['verdict'])}"
        )
    for key in (*verdict["targets"], *verdict["sparse_confident"]["at_most"]):
        if not key.isdecimal():
            raise RunFolderError(
                f"{path}: a target class or number of lit features must be a number, got {short(key)}"
            )
    return verdict


def read_attempts(run: RunFolder) -> tuple[tuple[Attempt, ...], list[dict[str, Any]]]:
    """The attempts, and the records they were read from, which say more of each.

    Raises RunFolderError.
    """
    path, names = run / "attempts.jsonl", [f.name for f in fields(Attempt)]
    if not run.has(path.name):
        raise RunFolderError(f"run folder {run.path} has no attempts.jsonl")
    records = run.read_lines("attempts.jsonl")
    for number, record in enumerate(records, 1):
        check(record, ATTEMPT, f"{path} line {number}")
        check_attempt(record, f"{path} line {number}")
    return tuple(
        Attempt(**{name: record[name] for name in names if name in record}) for record in records
    ), records


def _all_attempts(run: RunFolder, expected: int) -> tuple[Attempt, ...]:
    attempts, _ = read_attempts(run)
    if len(attempts) != expected:
        raise RunFolderError(
            f"{run / 'attempts.jsonl'} holds {len(attempts)} attempts, verdict.json speaks of {expected}"
        )
    return attempts


def _witnesses(
    run: RunFolder, verdict: dict[str, Any]
) -> tuple[tuple[Witness, ...], tuple[int, ...]]:
    """The witnesses and the shape of an image, which the file tells even when it holds none."""
    path = run / "witnesses.safetensors"
    stored = unpack(run.read_bytes(path.name), str(path))
    return tuple(_rows(stored, str(path))), tuple(stored.tensors["images"].shape[1:])


def _rows(stored: Stored, where: str) -> list[Witness]:
    tensors, n = stored.tensors, len(stored)
    nearest, process = tensors.get("nearest"), tensors.get("process")
    names = process_names(stored, where)
    index = [-1] * n if process is None else process.tolist()
    extra = tensors.get("extra")
    eight = tensors.get("survives_8bit")
    return [
        Witness(
            image=tensors["images"][i],
            nearest=None if nearest is None else nearest[i],
            target=int(tensors["targets"][i]),
            confidence=float(tensors["confidence"][i]),
            lit=int(tensors["lit"][i]),
            ood_p=float(tensors["ood_p"][i]),
            process=names[index[i]] if 0 <= index[i] < len(names) else "",
            extra=extra is not None and bool(extra[i]),
            survives_8bit=None if eight is None else bool(eight[i]),
        )
        for i in range(n)
    ]


def process_names(stored: Stored, where: str) -> list[str]:
    """The names that the column `process` points into. Raises RunFolderError."""
    try:
        names = json.loads(stored.metadata.get("processes", "[]"))
    except ValueError as error:
        raise RunFolderError(f"{where} names its processes in broken JSON") from error
    check(names, [TEXT], f"{where}: processes")
    return list(names)


def _metrics(run: RunFolder) -> list[tuple[str, dict[str, Any]]]:
    """The records of `metrics.jsonl`, each with where it stands."""
    path = run / "metrics.jsonl"
    records = [
        (f"{path} line {number}", record)
        for number, record in enumerate(run.read_lines(path.name), 1)
    ]
    for where, record in records:
        check(record, {}, where)
    return records


def _records(
    metrics: Sequence[tuple[str, dict[str, Any]]],
    kind: str,
    form: Form,
    more: Callable[[dict[str, Any], str], None] = lambda record, where: None,
) -> tuple[dict[str, Any], ...]:
    """The records of one kind. more: checks of what a form cannot say."""
    found = [(where, record) for where, record in metrics if record.get("kind") == kind]
    for where, record in found:
        check(record, form, where)
        more(record, where)
    return tuple(record for _, record in found)
