"""The records of `metrics.jsonl` as named numbers over steps: pure arithmetic on plain values.

A name is a path: the record's kind, what it speaks of, and the field, as in
`set/trained/3/class/7/fooled`. The same names go to every tracker, so they are made of what the
strictest of them takes.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_PART, MOST_NAME = 60, 200
"""Letters of a part, and of a whole name. MLflow takes 250."""
AXES = (("epoch", "epoch"), ("round", "round"), ("index", "round"))
"""Fields that say where on an axis a record stands, and that axis; the first one a record has
counts."""
PLACES = frozenset(
    {"kind", "what", "split", "target", "set_round", "batch", *(name for name, _ in AXES)}
)
"""Fields that are part of the name or the step, so that they are no numbers of their own."""


@dataclass(frozen=True)
class Row:
    """The numbers of one record. series: what its names begin with; a series has one row a step, in
    rising order.

    axis: what the step counts: `batch`, `epoch` or `round`, each from 0, or `record`, where nothing
    does.
    """

    series: str
    axis: str
    step: int
    values: dict[str, float]

    @property
    def key(self) -> str:
        """The name that is written last: a tracker that holds it at this step holds the row."""
        return next(reversed(self.values))


def rows(records: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Every number of every record, in their order.

    True counts as 1, False as 0; what is null or text has no number.
    """
    earlier: Counter[str] = Counter()
    made = []
    for record in records:
        parts, (axis, step) = _series(record), _place(record)
        series = name_of(parts)
        if step is None:
            step = earlier[series]
        earlier[series] += 1
        # a batch is counted through all rounds, so that its round is not told by the step
        skipped = PLACES - {"round"} if axis == "batch" else PLACES
        fields = {key: value for key, value in record.items() if key not in skipped}
        values = {name_of([*parts, *path]): number for path, number in _numbers(fields, ())}
        if values:
            made.append(Row(series, axis, step, values))
    return made


def _series(record: Mapping[str, Any]) -> list[str]:
    """`audit-target` of target 3 is audit, target, 3; a set `twin:saliency` is set, twin, saliency."""
    what, split, of = str(record.get("what", "")), record.get("split"), record.get("set_round")
    parts = [
        *str(record.get("kind", "record")).split("-"),
        *(part for part in what.split(":") if part),
    ]
    if split is not None:
        parts.append(str(split))
    if of is not None and not what.startswith(
        "own:"
    ):  # those are shown in the round they are of, and in no other
        parts.append(str(of))
    return [*parts, str(record["target"])] if "target" in record else parts


def _place(record: Mapping[str, Any]) -> tuple[str, int | None]:
    """Axis and step; a step of None is the number of earlier records of the series."""
    if "batch" in record:
        return "batch", None
    for name, axis in AXES:
        if isinstance(record.get(name), int):
            return axis, record[name]
    return "record", None


def _numbers(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    if isinstance(value, bool | int | float):
        yield path, float(value)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _numbers(part, (*path, "class" if key == "per_class" else str(key)))
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _numbers(part, (*path, str(index)))


def name_of(parts: Sequence[str]) -> str:
    """A name of parts that every tracker takes: letters, digits and `_-.` between slashes, at most
    `MOST_NAME` letters.

    A part with other characters, or too long a one, ends with a hash of what it was, so that
    different ones stay apart; blanks and round brackets alone become `-`.
    """
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
