"""The forgetting matrix: who still falls for the images of which round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from blankcheck.figures import style
from blankcheck.figures.drawing import Drawn, describe, drawn
from blankcheck.runs.contents import RunContents
from blankcheck.text import percent

MOST_NUMBERED, MOST_TICKS = 12, 15
"""Rounds up to which the cells hold numbers, and that are named at the axes."""
MOST_IN_WORDS = 12
"""Cells that are said one by one."""
CAPTION = (
    "Read a column downwards: the images of one round, shown to every later network. A column that "
    "turns orange again means that they were forgotten; grey down to the last row means that none "
    "were."
)


class Forgetting(NamedTuple):
    """Indices of the rounds, and [r][i] the share of the training images of round rounds[i] that
    fool the network after round rounds[r]; None where nothing was measured."""

    rounds: list[int]
    shares: list[list[float | None]]


def draw_forgetting(contents: RunContents) -> list[Drawn]:
    """The matrix of a run, where it showed training images to its networks."""
    matrix = forgetting(contents.sets)
    if matrix is None:
        return []
    return [drawn("forgetting", forgetting_matrix(matrix, contents.kept), CAPTION, words(matrix))]


def forgetting(sets: Sequence[Mapping[str, Any]]) -> Forgetting | None:
    """The matrix of a run's `set` records; None where no training set was shown to a network."""
    shown = [s for s in sets if s["what"] == "trained" and s["images"]]
    pairs = {(s["round"], s["set_round"]): s["fooled"] for s in shown}
    found = {(r, i): share for (r, i), share in pairs.items() if i <= r}
    rounds = sorted({index for pair in found for index in pair})
    shares = [[found.get((r, i)) for i in rounds] for r in rounds]
    return Forgetting(rounds, shares) if rounds else None


def forgetting_matrix(matrix: Forgetting, kept: int | None) -> Figure:
    """A row for each network, a column for each training set. Orange covers grey by the share."""
    n = len(matrix.rounds)
    title = "Forgotten? Old training images, later networks"
    figure, axes = style.panel(title, min(5.2, 2.4 + 0.3 * n))
    shares = np.ma.masked_invalid(np.array(matrix.shares, dtype=float))
    edges: style.Look = {"edgecolors": style.PAPER, "linewidth": 1.5 if n <= 30 else 0.2}
    axes.pcolormesh(shares, cmap=ListedColormap([style.GRID]), **edges)
    edges["alpha"] = shares.filled(0)
    axes.pcolormesh(shares, cmap=ListedColormap([style.SECOND]), **edges)
    for (row, column), share in np.ndenumerate(shares.filled(np.nan)):
        if n <= MOST_NUMBERED and np.isfinite(share):
            # black reads on orange, whichever the page
            colour = style.INK if share < 0.5 else "#000000"
            look: style.Look = {"ha": "center", "va": "center", "fontsize": 9, "color": colour}
            axes.text(column + 0.5, row + 0.5, _points(share), **look)
    axes.grid(visible=False)
    axes.invert_yaxis()
    axes.spines["bottom"].set_visible(False)
    _name_rounds(axes, matrix.rounds, kept)
    for colour, alpha, said in (
        (style.GRID, 1.0, "none fools it"),
        (style.SECOND, 0.5, "half of them do"),
        (style.SECOND, 1.0, "all do"),
    ):
        axes.plot([], [], "s", color=colour, alpha=alpha, markersize=9, label=said)
    style.label(figure, axes, "images trained on in round", "network after round", 3)
    return figure


def _name_rounds(axes: Axes, rounds: Sequence[int], kept: int | None) -> None:
    """Numbers of rounds at both axes, every few of many; the kept network has its row named."""
    every = -(-len(rounds) // MOST_TICKS)
    shown = range(0, len(rounds), every)
    axes.set_xticks([k + 0.5 for k in shown], [str(rounds[k] + 1) for k in shown])
    best = [rounds.index(kept)] if kept in rounds else []
    rows = [k for k in shown if not best or abs(k - best[0]) >= every] + best
    names = [f"kept → {rounds[k] + 1}" if k in best else str(rounds[k] + 1) for k in rows]
    axes.set_yticks([k + 0.5 for k in rows], names)


def _points(share: float) -> str:
    """Whole percentage points; almost none is not called none, nor almost all all."""
    if 0 < share < 0.01:
        return "<1"
    return ">99" if 0.99 < share < 1 else f"{100 * share:.0f}"


def words(matrix: Forgetting) -> str:
    """The worst cell in words, and all that the last network says."""
    cells = [
        (share, r + 1, i + 1)
        for r, row in zip(matrix.rounds, matrix.shares, strict=True)
        for i, share in zip(matrix.rounds, row, strict=True)
        if share is not None
    ]
    worst, network, images = max(cells)
    end = matrix.rounds[-1] + 1
    last = {i: share for share, r, i in cells if r == end}
    said = ", ".join(f"{percent(share)} of round {i}'s" for i, share in last.items())
    if len(last) > MOST_IN_WORDS:
        low, high = percent(min(last.values())), percent(max(last.values()))
        said = f"between {low} and {high} of each round's, mean {percent(fmean(last.values()))}"
    most = f"{percent(worst)} of round {images}'s images fool the network after round {network}"
    what = "Share of the images trained on in each round that still fool the networks after it"
    last_network = f"The last network, after round {end},"
    return describe(what, {"Worst:": most, last_network: f"is fooled by {said}"})
