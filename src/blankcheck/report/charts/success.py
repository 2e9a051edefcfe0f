"""How often images fool the network after each round of a hardening."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, nan
from statistics import fmean
from typing import Any

from blankcheck.figures import style
from blankcheck.figures.drawing import Drawn, drawn
from blankcheck.judging.metrics import upper_bound_95
from blankcheck.report.charts.rounds import BLUE, ORANGE, ROUND, SHADE, Line, Records, numbers, plot
from blankcheck.runs.contents import RunContents
from blankcheck.text import one_line

MOST_LINES = 4
"""Processes with a line of their own; of more, their mean is drawn."""
COLOURS = (style.THIRD, style.FOURTH, style.SIXTH, style.FIFTH, style.MUTED, style.QUIET)
Found = dict[int, list[float]]
"""Shares by the round of the network that was asked."""
SUCCESS = (
    "Lower is better: each point is the network as it was after a round, and the shade reaches up "
    "to what the fresh attempts cannot rule out."
)
TWIN = (
    " A twin is a plainly trained network of the same kind: images made on it were never shown in "
    "training."
)


def draw_success(contents: RunContents) -> Drawn:
    """The figure of the fresh attempts, and below it, where there are any, of other images."""
    fresh, others = success(contents.rounds, contents.sets)
    figure = style.blank(6.4 if others else 4.0)
    figure.set_layout_engine("constrained", hspace=0.06)  # between a legend and the next title
    panels = figure.subplots(2 if others else 1, 1, sharex=True, squeeze=False)[:, 0]
    at = numbers(contents)
    panels[0].fill_between(at, fresh[0].values, fresh[1].values, color=style.SECOND, **SHADE)
    for axes, title, lines, what in (
        (panels[0], "Can a new search still fool it?", fresh, "share of attempts"),
        (panels[-1], "Can images made for other networks?", others, "share of images"),
    ):
        if lines:
            style.dress(axes, title)
            plot(axes, contents, lines)
            axes.set_ylim(-0.03, 1.03)
            axes.tick_params(labelbottom=True)
            style.in_percent(axes.yaxis)
            style.label(figure, axes, ROUND, what)
    return drawn("success", figure, SUCCESS + TWIN * bool(contents.sets))


def success(rounds: Records, sets: Records) -> tuple[list[Line], list[Line]]:
    """How often images fool the network after each round.

    Returns:
        Lines of the fresh attempts: fooled, its one-sided 95% upper bound, sparse and confident.
        And lines of images that were made for other networks: found by fresh attempts on earlier
        ones, or made on the plain twin.
    """
    past: Found = {}
    twins: dict[str, Found] = {}
    for s in sets:
        kind, _, process = s["what"].partition(":")
        if s["what"] == "fresh" and s["images"] and s["set_round"] < s["round"]:
            past.setdefault(s["round"], []).append(s["fooled"])
        elif kind == "twin" and s["images"]:
            twins.setdefault(process, {}).setdefault(s["round"], []).append(s["fooled"])
    sure = [r["fresh_confident"] for r in rounds]
    fresh = [
        Line("fooled", [r["fresh_rate"] for r in rounds], ORANGE | {"linewidth": 2.4}),
        Line("its 95% upper bound", [_upper(r) for r in rounds], ORANGE | {"linewidth": 0.8}),
        Line("sparse and sure, real-looking or not", sure, BLUE | {"linestyle": "--"}),
    ]
    others = []
    named = [("earlier networks, mean", past), *_twin_lines(twins)]
    for (words, found), colour, mark in zip(named, COLOURS, "osvD^P", strict=False):
        shares = [fmean(found[r["index"]]) if r["index"] in found else nan for r in rounds]
        look = {"color": colour, "marker": mark, "linewidth": 1.2, "markersize": 4}
        others.append(Line(words, shares, look))
    return fresh, [line for line in others if any(map(isfinite, line.values))]


def _upper(made: Mapping[str, Any]) -> float:
    """Older folders do not hold the bound."""
    bound, tries = made.get("fresh_upper_95"), made["fresh_attempts"]
    return upper_bound_95(round(made["fresh_rate"] * tries), tries) if bound is None else bound


def _twin_lines(twins: Mapping[str, Found]) -> list[tuple[str, Found]]:
    """The run's own search on the twin first, then the other processes, or their mean."""
    own = [("twin, same search", found) for process, found in twins.items() if not process]
    others = {process: found for process, found in twins.items() if process}
    if len(others) <= MOST_LINES:
        return own + [(f"twin, {one_line(name, 18)}", found) for name, found in others.items()]
    mean: Found = {}
    for found in others.values():
        for index, shares in found.items():
            mean.setdefault(index, []).append(fmean(shares))
    return [*own, (f"twin, mean of {len(others)} others", mean)]
