"""What a run folder holds, read and checked once, so that whoever shows it can rely on every value.

Nothing here builds a model, loads a data set or runs what the folder names: all of it is data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import msgspec
from torch import Tensor

from blankcheck.errors import ArgumentError, RunFolderError
from blankcheck.judging.evidence import Attempt
from blankcheck.runs import schema
from blankcheck.runs.blend_record import Blends, read_blends
from blankcheck.runs.folder import ATTEMPTS, HARDENING, MARK, MISSES, VERDICT, WITNESSES, RunFolder
from blankcheck.runs.metrics import Records, read_metrics
from blankcheck.runs.misses import unpack_misses
from blankcheck.runs.schema import checked, checked_version
from blankcheck.runs.witnesses import Stored, unpack
from blankcheck.text import one_line
from blankcheck.types import Conditions


@dataclass(frozen=True)
class Witness:
    """One witness of the file: its image (c, h, w) in [0, 1], the `nearest` real one where the file
    has one, and what the file says of it. extra: found by a control, outside the fixed allocation
    of attempts. survives_8bit: None where the file does not say."""

    image: Tensor
    nearest: Tensor | None
    target: int
    confidence: float
    lit: int
    ood_p: float
    process: str
    extra: bool
    survives_8bit: bool | None


@dataclass(frozen=True)
class Miss:
    """The best image (c, h, w) of a class that no fixed attempt fooled, the `nearest` real one, and
    the attempt that has its numbers."""

    image: Tensor
    nearest: Tensor
    attempt: Attempt


@dataclass(frozen=True)
class RunContents:
    """The checked contents of a run folder.

    Args:
        verdict: None before an audit, as `conditions` are; then there are no attempts, witnesses or
            misses.
        misses: of each class that no fixed attempt fooled. Older folders have none.
        features: of one image, None before an audit; `channels` likewise.
        rounds: of hardening; `kept` is the index of the one whose network was kept.
        trained: the record of a plain training, where there was one.
        sets: how often sets of images fooled the network after a round of hardening.
        reals: how the networks of the rounds do on real images.
        searches: how searches of them went. Older folders have none of these three.
        fingerprints: of the `weights` and the `data` that were audited, as far as the folder says.
        blends: what `blankcheck blend` found, where it was run.
    """

    run: RunFolder
    command: str
    config: dict[str, Any]
    environment: dict[str, Any]
    verdict: dict[str, Any] | None
    conditions: Conditions | None
    attempts: tuple[Attempt, ...]
    witnesses: tuple[Witness, ...]
    misses: tuple[Miss, ...]
    features: int | None
    channels: int | None
    kept: int | None
    trained: dict[str, Any] | None
    rounds: Records
    epochs: Records
    sets: Records
    reals: Records
    searches: Records
    fingerprints: dict[str, str]
    blends: Blends | None

    def class_name(self, target: int) -> str:
        """The name of a target class in one line, its number where it has none."""
        names = self.verdict["classes"] if self.verdict else []
        return one_line(names[target], 1000) if 0 <= target < len(names) else str(target)


def read_run(run: RunFolder, blends: bool = True) -> RunContents:
    """Everything a run folder holds. Raises RunFolderError where a file is missing, broken or not
    what it should be. blends: False for who is about to write them again, so that broken ones are
    no obstacle."""
    environment = run.read_json(MARK)
    said = checked(environment, schema.Environment, str(run / MARK))
    verdict, kept = read_verdict(run), None
    conditions = None if verdict is None else _conditions(run, verdict)
    attempts: tuple[Attempt, ...] = ()
    witnesses: tuple[Witness, ...] = ()
    misses: tuple[Miss, ...] = ()
    sizes: tuple[int | None, int | None] = (None, None)
    fingerprints: dict[str, str] = {}
    if verdict is not None:
        attempts, _ = read_attempts(run)
        if len(attempts) != verdict["attempts"]:
            words = f"{len(attempts)} attempts, verdict.json speaks of {verdict['attempts']}"
            raise RunFolderError(f"{run / ATTEMPTS} holds {words}")
        stored = unpack(run.read_bytes(WITNESSES), str(run / WITNESSES))
        witnesses = tuple(_witness(stored, row) for row in range(len(stored)))
        misses = _misses(run, attempts, stored)
        sizes = (math.prod(stored.shape), stored.shape[0])
        names = {"weights": "fingerprint", "data": "data_fingerprint"}
        said_by = stored.metadata
        fingerprints = {n: one_line(said_by[key], 16) for n, key in names.items() if key in said_by}
    if run.has(HARDENING):
        kept = checked(run.read_json(HARDENING), schema.Hardening, str(run / HARDENING)).kept_round
    read = read_metrics(run)
    began = (run, said.command or "audit", run.read_config(), environment)
    trained = read["train"][-1] if read["train"] else None
    kinds = (read["round"], read["epoch"], read["set"], read["real"], read["search"])
    blended = read_blends(run) if blends else None
    return RunContents(
        *(*began, verdict, conditions, attempts, witnesses, misses, *sizes),
        *(kept, trained, *kinds, fingerprints, blended),
    )


def read_verdict(run: RunFolder) -> dict[str, Any] | None:
    """`verdict.json`, of the right form; None where there is none."""
    if not run.has(VERDICT):
        return None
    verdict: dict[str, Any] = run.read_json(VERDICT)
    checked_version(verdict, schema.VerdictFile, str(run / VERDICT))
    return verdict


def _conditions(run: RunFolder, verdict: dict[str, Any]) -> Conditions:
    try:
        return Conditions(*(verdict["conditions"][f.name] for f in fields(Conditions)))
    except ArgumentError as error:
        raise RunFolderError(f"{run / VERDICT}: conditions: {error}") from error


def read_attempts(run: RunFolder) -> tuple[tuple[Attempt, ...], list[dict[str, Any]]]:
    """The attempts, and the records they were read from, which say more of each."""
    if not run.has(ATTEMPTS):
        raise RunFolderError(f"run folder {run.path} has no {ATTEMPTS}")
    records = run.read_lines(ATTEMPTS)
    for number, record in enumerate(records, 1):
        checked(record, schema.AttemptLine, f"{run / ATTEMPTS} line {number}")
    return msgspec.convert(records, tuple[Attempt, ...]), records


def _witness(stored: Stored, row: int) -> Witness:
    t = {name: tensor[row] for name, tensor in stored.tensors.items()}
    measured = (int(t["targets"]), float(t["confidence"]), int(t["lit"]), float(t["ood_p"]))
    survives = bool(t["survives_8bit"]) if "survives_8bit" in t else None
    found_by = (stored.process(row), bool(t.get("extra", False)))
    return Witness(t["images"], t.get("nearest"), *measured, *found_by, survives)


def _misses(run: RunFolder, attempts: tuple[Attempt, ...], stored: Stored) -> tuple[Miss, ...]:
    if not run.has(MISSES):
        return ()
    found = unpack_misses(run.read_bytes(MISSES), str(run / MISSES), attempts, stored.shape)
    rows = zip(found.images, found.nearest, found.attempt.tolist(), strict=True)
    return tuple(Miss(image, nearest, attempts[i]) for image, nearest, i in rows)
