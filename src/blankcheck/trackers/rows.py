"""The records of `metrics.jsonl` as named numbers over steps. A name is a path of the kind of the
record, what it speaks of, and the field: `set/trained/3/class/7/fooled`."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
