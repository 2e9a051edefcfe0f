"""`blend.json` and `blend.safetensors` of a run folder, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from blankcheck.blending.blending import KINDS
from blankcheck.errors import RunFolderError
from blankcheck.files import unpack
from blankcheck.runs.schema import BLEND, BLEND_KIND, check, short
from blankcheck.runs.folder import RunFolder

RECORD, IMAGES = "blend.json", "blend.safetensors"
SCHEMA = 1
MOST_EXAMPLES = 6


@dataclass(frozen=True)
class Blends:
    """What blending found. record: the contents of `blend.json`. real, fooling: (n, c, h, w) in [0,
    1], Q and R of each of the record's examples."""

    record: dict[str, Any]
    real: Tensor
    fooling: Tensor

    def name(self, target: int) -> str:
        """The name of a class; what cannot be printed becomes a blank."""
        names = self.record["classes"]
        name = names[target] if 0 <= target < len(names) else str(target)
        return "".join(letter if letter.isprintable() else " " for letter in name)

    def shares(self, kind: str, what: str = "taken") -> list[float | None]:
        """Share of the pairs of one kind that are `taken`, or `lost`, at each alpha; None of
        nothing."""
        found = self.record["kinds"][kind]
        return [count / found["pairs"] if found["pairs"] else None for count in found[what]]


def read_blends(run: RunFolder) -> Blends | None:
    """What a run folder holds of blending; None when nothing.

    RunFolderError when it is broken or not what it should be.
    """
    if not run.has(RECORD):
        return None
    record, where = run.read_json(RECORD), str(run / RECORD)
    check(record, {"schema": (int,)}, where)
    if record["schema"] != SCHEMA:
        raise RunFolderError(
            f"{where} has schema {short(record['schema'])}, this version reads schema {SCHEMA}"
        )
    check(record, BLEND, where)
    if set(record["kinds"]) != set(KINDS):
        raise RunFolderError(f"{where}: kinds must be {', '.join(KINDS)}")
    if not record["alphas"] or not all(0 < alpha <= 1 for alpha in record["alphas"]):
        raise RunFolderError(f"{where}: alphas must lie in (0, 1]")
    if len(record["examples"]) > MOST_EXAMPLES:
        raise RunFolderError(
            f"{where} has {len(record['examples'])} examples, at most {MOST_EXAMPLES} are shown"
        )
    for name, found in record["kinds"].items():
        _check_kind(found, record, f"{where}: kinds: {name}")
    return Blends(record, *_images(run, len(record["examples"])))


def _check_kind(found: dict[str, Any], record: dict[str, Any], where: str) -> None:
    """Every table has the size the record speaks of, and no count is more than there are pairs."""
    check(found, BLEND_KIND, where)
    alphas, rows, columns = len(record["alphas"]), len(record["rows"]), len(record["columns"])
    cells = found["cells"]
    for name in ("taken", "lost"):
        _check_counts(found[name], [found["pairs"]] * alphas, f"{where}: {name}")
    for name in ("pairs", "smallest", "any"):
        _check_shape(cells[name], rows, columns, f"{where}: {name}")
    if len(cells["taken"]) != alphas:
        raise RunFolderError(f"{where}: cells must have one table for each alpha")
    for table in cells["taken"]:
        _check_shape(table, rows, columns, f"{where}: taken")
        for counts, pairs in zip(table, cells["pairs"], strict=True):
            _check_counts(counts, pairs, f"{where}: taken")
    for value in [
        found["smallest"],
        *(v for name in ("smallest", "any") for row in cells[name] for v in row),
    ]:
        if value is not None and not 0 <= value <= 1:
            raise RunFolderError(
                f"{where}: the smallest alpha must lie in [0, 1], got {short(value)}"
            )


def _check_shape(table: Sequence[Sequence[object]], rows: int, columns: int, where: str) -> None:
    if len(table) != rows or any(len(row) != columns for row in table):
        raise RunFolderError(f"{where} must be a table of {rows} rows and {columns} columns")


def _check_counts(counts: Sequence[int], most: Sequence[int], where: str) -> None:
    if len(counts) != len(most) or any(
        not 0 <= n <= limit for n, limit in zip(counts, most, strict=True)
    ):
        raise RunFolderError(f"{where} must count pairs, one number for each")


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
