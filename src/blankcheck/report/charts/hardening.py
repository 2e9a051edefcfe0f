"""A hardening run in pictures: numbers out of its records, and figures of them.

Pure functions, as in `pictures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from blankcheck.figures.style import LIGHT, Theme, blank, dress, label, panel
from blankcheck.judging.metrics import upper_bound_95
from blankcheck.text import one_line

TRAINED, FRESH, TWIN = "trained", "fresh", "twin"
"""What a set of images is: trained on, found by fresh attempts, or made against the plain twin."""
MOST_LINES = 4
"""Processes with a line of their own; of more, their mean is drawn."""
MOST_NUMBERED, ROOM_FOR_WORDS = 12, 5
"""Rounds up to which the cells of the matrix hold numbers, and from which on its empty half has
room for a hint."""
MOST_TICKS = 15
LINES = (
    ("#009e73", "o"),
    ("#b45f96", "s"),
    ("#4c86c6", "v"),
    ("#8c8c32", "D"),
    ("#a8703c", "^"),
    ("#7f7f86", "P"),
)
"""Colour and mark of thin lines, of middle lightness, so that both themes can use them."""

Share = float | None
"""In [0, 1], or None where it was not measured."""
Found = dict[int, list[float]]
"""Shares by the round of the network that was asked."""


@dataclass(frozen=True)
class Forgetting:
    """Who still falls for what. rounds: their indices, in order. shares[r][i]: share of the
    training images of round rounds[i] that fool the network after round rounds[r]; None above the
    diagonal and where nothing was measured."""

    rounds: list[int]
    shares: list[list[Share]]


@dataclass(frozen=True)
class Line:
    """A line over the rounds: its words, and a share for each round."""

    words: str
    shares: list[Share]


@dataclass(frozen=True)
class Success:
    """How often images fool the network after each round; every list has one entry a round.

    at: indices of the rounds. fooled: share of fresh attempts. upper: its one-sided 95 % upper
    bound. confident: share of fresh attempts that met a sparse and confident image, real-looking or
    not. others: images that were made for other
    networks: those that fresh attempts found on earlier ones, and those made on the plain twin.
    """

    at: list[int]
    fooled: list[float]
    upper: list[float]
    confident: list[float]
    others: list[Line]


def forgetting(sets: Sequence[Mapping[str, Any]]) -> Forgetting | None:
    """The forgetting matrix of a run's `set` records; None where no training set was shown to a
    network."""
    found = {
        (s["round"], s["set_round"]): s["fooled"]
        for s in sets
        if s["what"] == TRAINED and s["images"]
    }
    found = {pair: share for pair, share in found.items() if pair[1] <= pair[0]}
    rounds = sorted({index for pair in found for index in pair})
    return (
        Forgetting(rounds, [[found.get((r, i)) for i in rounds] for r in rounds])
        if rounds
        else None
    )


def success(rounds: Sequence[Mapping[str, Any]], sets: Sequence[Mapping[str, Any]]) -> Success:
    """The curves of a run's `round` and `set` records."""
    past: Found = {}
    twins: dict[str, Found] = {}
    for s in sets:
        kind, _, process = s["what"].partition(":")
        if s["what"] == FRESH and s["images"] and s["set_round"] < s["round"]:
            past.setdefault(s["round"], []).append(s["fooled"])
        elif kind == TWIN and s["images"]:
            twins.setdefault(process, {}).setdefault(s["round"], []).append(s["fooled"])
    at = [r["index"] for r in rounds]
    return Success(
        at=at,
        fooled=[r["fresh_rate"] for r in rounds],
        upper=[_upper(r) for r in rounds],
        confident=[r["fresh_confident"] for r in rounds],
        others=_lines([("earlier networks, mean", past), *_twin_lines(twins)], at),
    )


def _upper(made: Mapping[str, Any]) -> float:
    """Older folders do not hold the bound."""
    bound, tries = made.get("fresh_upper_95"), made["fresh_attempts"]
    return (
        float(bound)
        if bound is not None
        else upper_bound_95(round(made["fresh_rate"] * tries), tries)
    )


def _twin_lines(twins: Mapping[str, Found]) -> list[tuple[str, Found]]:
    """The searches on the twin, the run's own one first, and then the other processes, or their
    mean."""
    own = [("twin, same search", found) for process, found in twins.items() if not process]
    others = {process: found for process, found in twins.items() if process}
    if len(others) <= MOST_LINES:
        return own + [
            (f"twin, {one_line(process, 18)}", found) for process, found in others.items()
        ]
    rounds = {index for found in others.values() for index in found}
    mean = {
        index: [fmean(found[index]) for found in others.values() if index in found]
        for index in rounds
    }
    return [*own, (f"twin, mean of {len(others)} others", mean)]


def _lines(named: Sequence[tuple[str, Found]], at: Sequence[int]) -> list[Line]:
    lines = [
        Line(words, [fmean(found[r]) if r in found else None for r in at]) for words, found in named
    ]
    return [line for line in lines if any(share is not None for share in line.shares)]


def forgetting_matrix(matrix: Forgetting, kept: int | None, theme: Theme = LIGHT) -> Figure:
    """A heat map of who still falls for what: a row for each network, a column for each training
    set."""
    n = len(matrix.rounds)
    figure, axes = panel(
        "Forgotten? Old training images, later networks", theme, min(5.2, 2.2 + 0.3 * n)
    )
    shares = np.ma.masked_invalid(np.array(matrix.shares, dtype=float))
    # from almost paper to almost ink, so that more is darker on a light page and lighter on a dark
    # one
    colours = LinearSegmentedColormap.from_list("fooled", [theme.grid, theme.second, theme.ink])
    mesh = axes.pcolormesh(
        shares,
        cmap=colours,
        vmin=0,
        vmax=1,
        edgecolors=theme.paper,
        linewidth=1.5 if n <= 30 else 0.2,
    )
    if n <= MOST_NUMBERED:
        for (row, column), share in np.ndenumerate(shares.filled(np.nan)):
            if np.isfinite(share):
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    _points(share),
                    ha="center",
                    va="center",
                    fontsize=9,
                    color=_readable(colours(share)),
                )
    axes.grid(visible=False)
    axes.invert_yaxis()
    axes.spines["bottom"].set_visible(False)
    if n >= ROOM_FOR_WORDS:
        axes.text(
            0.98,
            0.97,
            "grey down to the last row:\nnothing was forgotten",
            transform=axes.transAxes,
            ha="right",
            va="top",
            fontsize=9,
            color=theme.muted,
        )
    _name_rounds(axes, matrix.rounds, kept)
    axes.set_xlabel("images trained on in round", color=theme.muted, fontsize=10)
    axes.set_ylabel("network after round", color=theme.muted, fontsize=10)
    bar = figure.colorbar(mesh, ax=axes, format=PercentFormatter(1, 0), pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=theme.muted, labelsize=9, length=0)
    bar.set_label("share that still fools it", color=theme.muted, fontsize=10)
    return figure


def _name_rounds(axes: Axes, rounds: Sequence[int], kept: int | None) -> None:
    """Numbers of rounds at both axes, every few of many; the network that was kept always has its
    row named."""
    every = -(-len(rounds) // MOST_TICKS)
    shown = range(0, len(rounds), every)
    axes.set_xticks([k + 0.5 for k in shown], [str(rounds[k] + 1) for k in shown])
    best = rounds.index(kept) if kept in rounds else None
    rows = [k for k in shown if best is None or k == best or abs(k - best) >= every]
    rows += [best] if best is not None and best not in rows else []
    axes.set_yticks(
        [k + 0.5 for k in rows],
        [f"kept → {rounds[k] + 1}" if k == best else str(rounds[k] + 1) for k in rows],
    )


def _points(share: float) -> str:
    """Whole percentage points; almost none is not called none, nor almost all all."""
    if 0 < share < 0.01:
        return "<1"
    return ">99" if 0.99 < share < 1 else f"{100 * share:.0f}"


def _readable(paper: Sequence[float]) -> str:
    """Black or white, whichever is easier to read on a colour (red, green, blue in [0, 1])."""
    light = sum(
        weight * part**2.2 for weight, part in zip((0.2126, 0.7152, 0.0722), paper[:3], strict=True)
    )
    return "#000000" if light > 0.18 else "#ffffff"


def success_curves(curves: Success, kept: int | None, theme: Theme = LIGHT) -> Figure:
    """How often images fool the network after each round: those a new search makes of it (above),
    and those that were made for others (below, where there are any). kept: index of the round whose
    network was kept."""
    figure = blank(6.4 if curves.others else 4.0, theme)
    figure.set_layout_engine("constrained", hspace=0.06)  # between a legend and the next title
    panels = figure.subplots(2 if curves.others else 1, 1, sharex=True, squeeze=False)[:, 0]
    at = [index + 1 for index in curves.at]
    dress(panels[0], "Can a new search still fool it?", theme)
    panels[0].fill_between(
        at, curves.fooled, curves.upper, color=theme.second, alpha=0.16, linewidth=0
    )
    panels[0].plot(
        at, curves.fooled, "-o", color=theme.second, linewidth=2.4, markersize=4.5, label="fooled"
    )
    panels[0].plot(
        at, curves.upper, color=theme.second, marker="_", linewidth=0.8, label="its 95% upper bound"
    )
    words = "sparse and sure, real-looking or not"
    panels[0].plot(at, curves.confident, "--o", color=theme.first, markersize=3.5, label=words)
    _finish(figure, panels[0], "share of attempts", curves, kept, theme)
    if curves.others:
        dress(panels[1], "Can images made for other networks?", theme)
        for line, (colour, mark) in zip(curves.others, LINES, strict=False):
            shares = [np.nan if share is None else share for share in line.shares]
            panels[1].plot(
                at, shares, marker=mark, color=colour, linewidth=1.2, markersize=4, label=line.words
            )
        _finish(figure, panels[1], "share of images", curves, kept, theme)
    return figure


def _finish(
    figure: Figure, axes: Axes, words: str, curves: Success, kept: int | None, theme: Theme
) -> None:
    """Whole axes of shares and rounds, and a mark at the kept round."""
    mark_kept(axes, curves.at, kept, theme)
    axes.set_ylim(-0.03, 1.03)
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    number_rounds(axes, curves.at)
    axes.tick_params(labelbottom=True)
    label(figure, axes, "network after round", words, theme)
    legend = axes.get_legend()
    for text in legend.get_texts() if legend is not None else ():
        text.set_parse_math(False)  # names of processes are text, whatever they hold


def number_rounds(axes: Axes, at: Sequence[int]) -> None:
    """An axis of whole numbers from the first round to the last, one of them too."""
    margin = min(0.5, 0.05 * (at[-1] - at[0])) or 0.5
    axes.set_xlim(at[0] + 1 - margin, at[-1] + 1 + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def mark_kept(
    axes: Axes, at: Sequence[int], kept: int | None, theme: Theme, above: bool = True
) -> None:
    """Mark the round whose network was kept. above: whether the upper end of the axes is where the
    word hides no line."""
    if kept is None or kept not in at:
        return
    end, side, down = (1, "top", -3) if above else (0, "bottom", 3)
    axes.axvline(kept + 1, color=theme.muted, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
    axes.annotate(
        "kept",
        (kept + 1, end),
        (-3, down),
        xycoords=axes.get_xaxis_transform(),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va=side,
        fontsize=9,
        color=theme.muted,
    )
