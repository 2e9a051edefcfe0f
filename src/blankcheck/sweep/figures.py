"""The pictures of a sweep: records in, figures out.

Colours are those of Okabe and Ito (2008); kinds of trials also differ in shape, so that a grey
print still reads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from blankcheck.figures.drawing import Drawn, drawn
from blankcheck.figures.style import FIRST, INK, MUTED, SECOND, WIDTH, blank, dress
from blankcheck.sweep.records import Found, Record
from blankcheck.sweep.space import Choices, Range
from blankcheck.text import one_line, percent

MOST_OPTIONS = 6
"""Panels of the second picture."""
MOST_NAMED = 12
"""Points of the front with their numbers beside them."""
LABEL = 14
MARKS = {"front": "o", "behind": "o", "timid": "s", "pruned": "x", "best": "D"}


def draw(found: Found, search: Mapping[str, Choices | Range]) -> dict[str, Drawn]:
    """The pictures of the page by name."""
    made = {
        "sweep-front": drawn(
            "sweep-front", front_picture(found, wide(search)), alt=_front_words(found)
        )
    }
    if finished(found):
        names = list(search)[:MOST_OPTIONS]
        made["sweep-options"] = drawn(
            "sweep-options",
            option_dots(found, {n: search[n] for n in names}),
            alt=_option_words(names),
        )
    return made


def wide(search: Mapping[str, Choices | Range]) -> bool:
    """Whether the pictures need the whole width of the page."""
    return len(search) > 2


def finished(found: Found) -> list[Record]:
    """The trials that have both values."""
    return [t for t in found.trials if t["state"] == "finished"]


def kind(found: Found, record: Record) -> str:
    """What a point of the picture stands for."""
    if found.best is not None and record["number"] == found.best.number:
        return "best"
    if record["front"]:
        return "front"
    return "behind" if found.timid or record["confident"] >= found.min_confident else "timid"


def front_picture(found: Found, wide: bool = False) -> Figure:
    """Every trial by the share of attempts that fool it and its accuracy, with the front as a line."""
    figure = blank(4.4, 1.6 * WIDTH if wide else WIDTH)
    axes = figure.subplots()
    dress(axes, "Accuracy and resistance")
    names = {
        "behind": "behind the front",
        "timid": "too timid",
        "pruned": "pruned, where it was ended",
        "front": "front",
        "best": "best",
    }
    for which, name in names.items():
        points = _places(found, which)
        if points:
            axes.scatter(*zip(*points, strict=True), **_look(which), label=name, clip_on=False)
    if found.front:
        axes.plot(
            [p.rate for p in found.front],
            [p.accuracy for p in found.front],
            color=SECOND,
            linewidth=1.5,
            drawstyle="steps-post",
            zorder=2,
        )
    places: dict[tuple[float, float], list[str]] = {}
    for point in found.front[:MOST_NAMED]:
        places.setdefault((point.rate, point.accuracy), []).append(f"#{point.number}")
    for place, numbers in places.items():
        axes.annotate(
            " ".join(numbers),
            place,
            (9, 5),
            textcoords="offset points",
            fontsize=9,
            color=INK,
            fontweight="bold",
            zorder=6,
        )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    axes.margins(0.07)
    axes.set_xlabel("attempts that fool (less is better)", color=MUTED, fontsize=10)
    axes.set_ylabel("validation images right (more is better)", color=MUTED, fontsize=10)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="best")
    return figure


def _places(found: Found, which: str) -> list[tuple[float, float]]:
    if which == "pruned":
        last = [t["rounds"][-1] for t in found.trials if t["state"] == "pruned" and t["rounds"]]
        return [(seen["rate"], seen["accuracy"]) for seen in last]
    return [(t["rate"], t["accuracy"]) for t in finished(found) if kind(found, t) == which]


def _look(which: str) -> dict[str, Any]:
    colour = {"front": SECOND, "best": SECOND, "behind": FIRST}.get(which, MUTED)
    hollow = {"facecolors": "none", "edgecolors": colour} if which == "timid" else {"color": colour}
    return {
        **hollow,
        "marker": MARKS[which],
        "s": 90 if which == "best" else 42,
        "zorder": 5 if which == "best" else 4,
    }


def option_dots(found: Found, search: Mapping[str, Choices | Range]) -> Figure:
    """For each option two panels, one above the other: accuracy and the share that fools, by the
    value of the option."""
    width = max(WIDTH, min(2 * WIDTH, 2.2 * len(search)))
    figure = blank(5.0, width)
    grid = figure.subplots(2, len(search), squeeze=False, sharey="row")
    for column, (name, values) in enumerate(search.items()):
        for row, aim in enumerate(("accuracy", "rate")):
            axes = grid[row][column]
            dress(axes, one_line(name, 24) if row == 0 else "")
            _dots(axes, found, name, values, aim)
            axes.yaxis.set_major_formatter(PercentFormatter(1))
    for row, words in enumerate(("right", "fooled")):
        grid[row][0].set_ylabel(words, color=MUTED, fontsize=10)
    return figure


def _dots(axes: Axes, found: Found, name: str, values: Choices | Range, aim: str) -> None:
    for record in finished(found):
        value = record["params"].get(name)
        at = (
            values.values.index(value)
            if isinstance(values, Choices) and value in values.values
            else value
        )
        if isinstance(at, int | float):
            axes.scatter([at], [record[aim]], **_look(kind(found, record)), clip_on=False)
    if isinstance(values, Choices):
        axes.set_xticks(
            range(len(values.values)),
            [one_line(said(v), LABEL) for v in values.values],
            parse_math=False,
        )
        axes.set_xlim(-0.5, len(values.values) - 0.5)
        if sum(len(said(v)) for v in values.values) > LABEL:
            axes.tick_params(axis="x", labelrotation=20)
    else:
        _scale(axes, values)


def _scale(axes: Axes, values: Range) -> None:
    """The whole range that was searched, with a number at both ends and in the middle."""
    low, high = values.low, values.high
    if values.log:
        axes.set_xscale("log")
        axes.minorticks_off()
        pad = (high / low) ** 0.06
        axes.set_xlim(low / pad, high * pad)
    else:
        axes.set_xlim(low - 0.06 * (high - low), high + 0.06 * (high - low))
    middle = math.sqrt(low * high) if values.log else (low + high) / 2
    ticks = [low, round(middle) if values.whole else middle, high]
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])


def said(value: Any) -> str:
    """A value of an option as people write it."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def params_said(params: Mapping[str, Any]) -> str:
    """All parameters of a trial in one line."""
    return ", ".join(f"{name} {said(value)}" for name, value in params.items())


def _front_words(found: Found) -> str:
    points = [
        f"trial {p.number} {percent(p.accuracy)} right and {percent(p.rate)} fooled"
        for p in found.front
    ]
    on_it = "; ".join(points) or "none"
    return f"Accuracy on validation images against the share of attempts that fool. On the front: {on_it}."


def _option_words(names: Sequence[str]) -> str:
    return f"Accuracy and share of attempts that fool of every finished trial, by the value of {', '.join(names)}."
