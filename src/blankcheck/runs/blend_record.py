"""`blend.json` and `blend.safetensors` of a run folder, read and checked."""
# ruff: noqa: D101

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta, Struct
from torch import Tensor

from blankcheck.blending.blending import KINDS
from blankcheck.errors import RunFolderError
from blankcheck.files import unpack
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.schema import Count, Median, Share, checked_version

RECORD, IMAGES = "blend.json", "blend.safetensors"
SCHEMA = 1
MOST_EXAMPLES = 6
Alpha = Annotated[float, Meta(gt=0, le=1)]


class Split(Struct):
    split: str
    images: Count
    confident: Count


class Used(Struct):
    stored: Count
    used: Count


class Cells(Struct):
    """For each pair of classes."""

    pairs: list[list[Count]]
    taken: list[list[list[Count]]]
    smallest: list[list[Share | None]]
    any: list[list[Share | None]]


class Kind(Struct):
    pairs: Count
    taken: list[Count]
    lost: list[Count]
    smallest: Share | None
    cells: Cells


class Example(Struct):
    row: Count
    column: Count
    alpha: float
    confidence: float


class BlendFile(Struct):
    """`blend.json`."""

    confidence: Share
    seed: int
    alphas: Annotated[list[Alpha], Meta(min_length=1)]
    per_pair: Count
    same_network: bool
    classes: list[str]
    rows: list[Count]
    columns: list[Count]
    median_lit: Median
    real: Split
    witnesses: Used
    kinds: dict[str, Kind]
    examples: Annotated[list[Example], Meta(max_length=MOST_EXAMPLES)]


@dataclass(frozen=True)
class Blends:
    """What blending found. record: the contents of `blend.json`. real, fooling: (n, c, h, w) in [0,
    1], Q and R of each of the record's examples."""

    record: dict[str, Any]
    real: Tensor
    fooling: Tensor

    def __repr__(self) -> str:
        shares = dict(zip(self.record["alphas"], self.shares("fooling"), strict=True))
        return f"Blends(taken for the fooling image's class, at each alpha: {shares})"

    def name(self, target: int) -> str:
        """The name of a class as the file says it, else its number."""
        names = self.record["classes"]
        return str(names[target] if target < len(names) else target)

    def shares(self, kind: str, what: str = "taken") -> list[float | None]:
        """Share of the pairs of one kind that are `taken`, or `lost`, at each alpha; None of
        nothing."""
        found = self.record["kinds"][kind]
        return [count / found["pairs"] if found["pairs"] else None for count in found[what]]


def read_blends(run: RunFolder) -> Blends | None:
    """What a run folder holds of blending; None when nothing, RunFolderError when it is broken."""
    if not run.has(RECORD):
        return None
    record, where = run.read_json(RECORD), str(run / RECORD)
    checked_version(record, BlendFile, where)
    if set(record["kinds"]) != set(KINDS):
        raise RunFolderError(f"{where}: kinds must be {', '.join(KINDS)}")
    for name, found in record["kinds"].items():
        _check_kind(found, record, f"{where}: kinds: {name}")
    return Blends(record, *_images(run, len(record["examples"])))


def _check_kind(found: dict[str, Any], record: dict[str, Any], where: str) -> None:
    """Every table has the size the record speaks of, and no count is more than there are pairs."""
    alphas, rows, columns = (len(record[key]) for key in ("alphas", "rows", "columns"))
    cells = found["cells"]
    if len(cells["taken"]) != alphas:
        raise RunFolderError(f"{where}: cells must have one table for each alpha")
    for table in (cells["pairs"], cells["smallest"], cells["any"], *cells["taken"]):
        if len(table) != rows or any(len(row) != columns for row in table):
            raise RunFolderError(f"{where} must be a table of {rows} rows and {columns} columns")
    too_many = (np.array(cells["taken"]) > np.array(cells["pairs"])).any()
    for name in ("taken", "lost"):
        counts = found[name]
        if len(counts) != alphas or max(counts) > found["pairs"] or (name == "taken" and too_many):
            raise RunFolderError(f"{where}: {name} must count pairs, one number for each")


def _images(run: RunFolder, examples: int) -> tuple[Tensor, Tensor]:
    path = run / IMAGES
    try:
        tensors, _ = unpack(run.read_bytes(IMAGES))
        real, fooling = tensors["real"].float(), tensors["fooling"].float()
    except (RunFolderError, ValueError, KeyError) as error:
        raise RunFolderError(f"{path} is missing or not readable, {RECORD} needs it") from error
    if real.ndim != 4 or real.shape != fooling.shape or len(real) != examples:
        raise RunFolderError(f"{path} holds tensors that do not belong together")
    if examples and not all(float(t.min()) >= 0 and float(t.max()) <= 1 for t in (real, fooling)):
        raise RunFolderError(f"{path} holds images outside [0, 1]")
    return real, fooling
