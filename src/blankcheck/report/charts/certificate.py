"""One picture: what is proved from below, what was found from above, and what nobody knows between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from blankcheck.figures.style import Theme, label, panel
from blankcheck.report import certificate_wording as words
from blankcheck.report.charts.select_rounds import Drawn, both
from blankcheck.runs.contents import RunContents
from blankcheck.text import one_line

MOST_CLASSES = 30


def draw_certificate(contents: RunContents) -> dict[str, Drawn]:
    """`certificate`, where there is one. Of very many classes those with the smallest k."""
    proof = contents.verdict.get("certificate") if contents.verdict else None
    if proof is None:
        return {}
    order = sorted(
        range(len(proof["k"])), key=lambda t: -1 if proof["k"][t] is None else proof["k"][t]
    )[:MOST_CLASSES]
    order.sort()
    shown = {
        **proof,
        **{key: [proof[key][t] for t in order] for key in ("k", "probability", "found")},
    }
    names = [one_line(contents.class_name(t), 24) for t in order]
    return {"certificate": both(lambda theme: bars(names, shown, theme), words.alt(names, shown))}


def bars(names: Sequence[str], proof: dict[str, Any], theme: Theme) -> Figure:
    """Numbers of lit features by class: proved too few, unknown, and found to be enough."""
    figure, axes = panel("Proved and found, by class", theme, 2.1 + 0.27 * max(2, len(names)))
    at, k = np.arange(len(names)), [-1 if value is None else value for value in proof["k"]]
    known = [value for value in (*k, *(f for f in proof["found"] if f is not None)) if value > 0]
    end = 1.15 * max([*known, 1]) + 1
    found = [end if value is None else value for value in proof["found"]]
    axes.barh(
        at,
        [value + 0.5 for value in k],
        left=0,
        color=theme.first,
        height=0.55,
        label="proved too few",
    )
    axes.barh(
        at,
        [max(0.0, f - 1.0 - value) for f, value in zip(found, k, strict=True)],
        left=[value + 0.5 for value in k],
        color=theme.grid,
        edgecolor=theme.quiet,
        hatch="///",
        linewidth=0,
        height=0.55,
        label="unknown",
    )
    met = [(f, row) for f, row in zip(proof["found"], at, strict=True) if f is not None]
    axes.plot(
        [f for f, _ in met],
        [row for _, row in met],
        "D",
        color=theme.second,
        markersize=6,
        label="fewest lit of a confident image found",
    )
    axes.set_yticks(at, [one_line(name, 22) for name in names], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, end)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", visible=False)
    label(figure, axes, words.unit_of(proof), "", theme, columns=3)
    return figure
