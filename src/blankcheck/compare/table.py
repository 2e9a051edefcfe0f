"""The runs as a table of plain text, as wide as the terminal allows; what does not fit is left out,
then stacked."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from blankcheck.compare.pairs import Comparison
from blankcheck.compare.run import ACCURACY, CONFIDENT, Side
from blankcheck.compare.wording import against
from blankcheck.text import NOTHING, number, percent

LEFT = ("run", "verdict", "against")
DROPPED = ("fewest", "confident", "right", "against", "verdict")
"""Columns that go first where a terminal is narrow."""
NAME = 28
"""Most columns of a name; the pages show it whole."""
NARROWEST, SHORTEST = 16, 4


def table(made: Comparison, width: int) -> list[str]:
    """Lines of at most `width` columns, one row a run."""
    columns = {
        key: [key if key != "against" else f"against {made.reference.name}"]
        for key in _cells(made, made.sides[0])
    }
    for side in made.sides:
        for key, cell in _cells(made, side).items():
            columns[key].append(cell)
    for dropped in ("", *DROPPED):
        columns.pop(dropped, None)
        lines = _lines(columns)
        if max(cell_len(line) for line in lines) <= width:
            return lines
    over = max(map(cell_len, lines)) - width
    widest = max(map(cell_len, columns["run"])) - over
    columns["run"] = [_cut(name, max(SHORTEST, widest)) for name in columns["run"]]
    return [_cut(line, max(width, NARROWEST)) for line in _lines(columns)]


def _cells(made: Comparison, side: Side) -> dict[str, str]:
    least = min((k for k in side.lit if k is not None), default=None)
    shown = {
        "run": _cut(side.name, NAME),
        "verdict": side.verdict["verdict"],
        "fooled": percent(side.rate),
        "lit": number(side.median_lit),
        "fewest": number(least),
        "right": percent(side.value(ACCURACY)),
        "confident": percent(side.value(CONFIDENT)),
        "against": against(made, side),
    }
    return {key: "-" if cell == NOTHING else cell for key, cell in shown.items()}


def _lines(columns: dict[str, list[str]]) -> list[str]:
    widths = {key: max(map(cell_len, cells)) for key, cells in columns.items()}
    rows = zip(*columns.values(), strict=True)
    return [
        "  ".join(
            _padded(cell, widths[key], key in LEFT) for key, cell in zip(columns, row, strict=True)
        ).rstrip()
        for row in rows
    ]


def _padded(cell: str, width: int, left: bool) -> str:
    return set_cell_size(cell, width) if left else " " * (width - cell_len(cell)) + cell


def _cut(text: str, width: int) -> str:
    return text if cell_len(text) <= width else set_cell_size(text, width - 1).rstrip() + "…"


def wrapped(lines: Sequence[str], width: int) -> list[str]:
    """Sentences broken at blanks, what follows a first line set in by two."""
    return [
        part
        for line in lines
        for part in textwrap.wrap(line, max(width, NARROWEST), subsequent_indent="  ")
    ]
