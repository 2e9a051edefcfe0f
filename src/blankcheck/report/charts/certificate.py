"""One figure: what is proved from below, what was found from above, and what nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from blankcheck.figures import style
from blankcheck.figures.drawing import Drawn, describe, drawn
from blankcheck.report import certificate_wording as wording
from blankcheck.runs.contents import RunContents
from blankcheck.text import one_line

MOST_CLASSES = 30
CAPTION = (
    "From the left: numbers of {} that are proved to be too few. The mark: the fewest of any "
    "confident image that the search found, whether or not it looks real. Nobody knows what lies "
    "between."
)


def draw_certificate(contents: RunContents) -> list[Drawn]:
    """`certificate`, where there is one. Of very many classes those with the smallest k."""
    proof = contents.verdict.get("certificate") if contents.verdict else None
    if proof is None:
        return []
    rows, unit = wording.rows(proof), wording.unit_of(proof, contents.channels)
    at = sorted(range(len(rows)), key=lambda t: -1 if rows[t]["k"] is None else rows[t]["k"])
    at = sorted(at[:MOST_CLASSES])
    names, shown = [one_line(contents.class_name(t), 22) for t in at], [rows[t] for t in at]
    lines = {}
    for name, row in zip(names, shown, strict=True):
        proved, found = wording.count(row["k"]), wording.count(row["found"])
        lines[f"{name}:"] = f"proved up to {proved}, found from {found} on"
    what = f"For each class, {unit} proved too few, and the fewest of any confident image found"
    figure = bars(names, shown, unit)
    return [drawn("certificate", figure, CAPTION.format(unit), describe(what, lines))]


def bars(names: Sequence[str], rows: Sequence[dict[str, Any]], unit: str) -> Figure:
    """Numbers of lit features by class: proved too few, unknown, and found to be enough."""
    title, height = "Proved and found, by class", 2.1 + 0.27 * max(2, len(names))
    figure, axes = style.panel(title, height)
    at = range(len(rows))
    proved = [-1 if row["k"] is None else row["k"] for row in rows]
    met = [(row["found"], place) for place, row in enumerate(rows) if row["found"] is not None]
    end = 1.15 * max([1, *proved, *(found for found, _ in met)]) + 1
    ends = [end if row["found"] is None else row["found"] for row in rows]
    unknown = [max(0.0, found - 1.0 - k) for found, k in zip(ends, proved, strict=True)]
    left = [k + 0.5 for k in proved]
    axes.barh(at, left, color=style.FIRST, height=0.55, label="proved too few")
    hatch: style.Look = {"hatch": "///", "edgecolor": style.QUIET, "linewidth": 0}
    axes.barh(at, unknown, left=left, color=style.GRID, height=0.55, label="unknown", **hatch)
    words = "fewest lit of a confident image found"
    axes.plot(*zip(*met, strict=True), "D", color=style.SECOND, markersize=6, label=words)
    style.name_rows(axes, names)
    axes.set_xlim(0, end)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.label(figure, axes, unit, "")
    return figure
