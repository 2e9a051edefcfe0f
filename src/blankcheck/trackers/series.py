"""What a run folder holds, over steps: records of `metrics.jsonl` as named numbers, witnesses and
searched images as grids, which have the same names and pixels in every tracker.

A name is a path of the kind of the record, what it speaks of, and the field, such as
`set/trained/3/class/7/fooled`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.figures.drawing import pixels
from blankcheck.runs.contents import RunContents

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
COLUMNS, MOST_CLASSES = 10, 20
SMALL, LARGE = 32, 128
"""Pixels that smaller images are enlarged to, and larger ones averaged down to."""
GAP, GREY = 2, 128 / 255
"""Between images, which shows where a black one ends."""
MOST_PART, MOST_NAME = 60, 200
"""Letters of a part, and of a whole name. MLflow takes 250."""
AXES = {"epoch": "epoch", "round": "round", "index": "round"}
"""Fields that place a record on an axis, and that axis; the first one that a record has counts."""
PLACES = {"kind", "what", "split", "target", "set_round", "batch", *AXES}
"""Fields that are part of the name or the step, and so no numbers of their own."""


class Row(NamedTuple):
    """The numbers of one record by their names, which begin with the series; a series has one row
    a step. axis: what the step counts from 0: `batch`, `epoch`, `round`, or else `record`."""

    series: str
    axis: str
    step: int
    values: dict[str, float]


def rows(records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Every number of every record; true is 1, false 0, and null or text has no number."""
    earlier: Counter[str] = Counter()
    made = []
    for record in records:
        parts = _series(record)
        series = name_of(parts)
        axis, step = _place(record, earlier[series])
        earlier[series] += 1
        # a batch is counted through all rounds, so that its step does not tell the round
        places = PLACES - {"round"} if axis == "batch" else PLACES
        fields = {key: value for key, value in record.items() if key not in places}
        values = {}
        for path, value in leaves(fields).items():
            if isinstance(value, bool | int | float):
                told = ("class" if part == "per_class" else part for part in path)
                values[name_of([*parts, *told])] = float(value)
        if values:
            made.append(Row(series, axis, step, values))
    return made


def _series(record: Mapping[str, Any]) -> list[str]:
    """`audit-target` of target 3 is audit, target, 3; a set `twin:own` is set, twin, own."""
    what = str(record.get("what", ""))
    # a set of the searched network itself belongs to the round of its record, and needs no other
    more = ["split", "target"] if what.startswith("own:") else ["split", "set_round", "target"]
    said = [str(record[name]) for name in more if record.get(name) is not None]
    return [*str(record.get("kind", "record")).split("-"), *filter(None, what.split(":")), *said]


def _place(record: Mapping[str, Any], earlier: int) -> tuple[str, int]:
    """Axis and step; where nothing tells the step, the number of earlier records of the series."""
    if "batch" in record:
        return "batch", earlier
    for name, axis in AXES.items():
        if isinstance(record.get(name), int):
            return axis, record[name]
    return "record", earlier


def leaves(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """What nested mappings hold, by its path: {"a": {"b": 2}} -> {("a", "b"): 2}."""
    if not isinstance(value, Mapping):
        return {path: value}
    parts = (leaves(part, (*path, str(key))) for key, part in value.items())
    return {key: leaf for part in parts for key, leaf in part.items()}


def name_of(parts: Sequence[str]) -> str:
    """A name that every tracker takes: letters, digits and `_-.` between slashes. A part with other
    characters, or too long a one, ends with a hash of what it was, so that different ones stay
    apart; blanks and round brackets alone become `-`."""
    name = "/".join(_part(part) for part in parts)
    return name if len(name) <= MOST_NAME else f"{name[: MOST_NAME - 9]}-{_hash(name)}"


def _part(text: str) -> str:
    plain = re.sub(r"[ ()]+", "-", text).strip("-")
    cleaned = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-.")
    if cleaned == plain and 0 < len(plain) <= MOST_PART:
        return plain
    return f"{cleaned[: MOST_PART - 9]}-{_hash(text)}".lstrip("-")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:8]


class Picture(NamedTuple):
    """A grid of images, (height, width, 3) from 0 to 255, at a step of an axis as a `Row` has it.
    words: what is to be seen."""

    name: str
    axis: str
    step: int
    words: str
    pixels: Pixels


def witness_pictures(contents: RunContents) -> list[Picture]:
    """A grid for every class that has witnesses: the sparsest ones above, the real images nearest
    to them in shape beneath."""
    made = []
    for target in sorted({witness.target for witness in contents.witnesses}):
        found = [witness for witness in contents.witnesses if witness.target == target]
        shown = sorted(found, key=lambda witness: witness.lit)[:COLUMNS]
        rows = [torch.stack([witness.image for witness in shown])]
        words = f"class {target}, {contents.class_name(target)}: the sparsest witnesses"
        nearest = [witness.nearest for witness in shown if witness.nearest is not None]
        if len(nearest) == len(shown):
            rows.append(torch.stack(nearest))
            words += " (above), and the real images nearest in shape (beneath)"
        words += f"; {len(found)} in all"
        made.append(Picture(f"witnesses/class/{target}", "record", 0, words, grid(rows)))
    return made


def round_pictures(state: Mapping[str, Any]) -> list[Picture]:
    """A grid for every round of a hardening and each of its sets, a row a class: a sample of what
    it trained on, and what a fresh search then found. Sparse and strange images come first."""
    made = []
    for what, words in (("trained", "images trained on"), ("fresh", "images of fresh attempts")):
        for index, (images, targets, counts) in enumerate(state[what]):
            classes = sorted(set(targets.tolist()))[:MOST_CLASSES]
            order = counts.int().argsort(descending=True, stable=True)
            rows = [images[order[targets[order] == target][:COLUMNS]] for target in classes]
            if rows:
                said = f"{words}: a row for each target class"
                made.append(Picture(f"fooling/{what}", "round", index, said, grid(rows)))
    return made


def grid(rows: Sequence[Tensor]) -> Pixels:
    """Rows of images (n, c, h, w) in [0, 1], grey where one is shorter than the longest. Of other
    than three channels the brightest is shown."""
    columns = max(len(row) for row in rows)
    images = F.pad(_sized(torch.cat(list(rows)).float()), (0, GAP, 0, GAP), value=GREY)
    c, h, w = images.shape[1:]
    cells = images.new_full((len(rows), columns, c, h, w), GREY)
    cells[torch.tensor([[len(row) > at for at in range(columns)] for row in rows])] = images
    whole = cells.permute(2, 0, 3, 1, 4).reshape(c, len(rows) * h, columns * w)
    return pixels(F.pad(whole, (GAP, 0, GAP, 0), value=GREY))


def _sized(images: Tensor) -> Tensor:
    if images.shape[1] != 3:
        images = images.amax(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    longest = max(images.shape[2:])
    if longest > LARGE:
        return F.avg_pool2d(images, -(-longest // LARGE), ceil_mode=True)
    return F.interpolate(images, scale_factor=max(1, -(-SMALL // longest)), mode="nearest-exact")
