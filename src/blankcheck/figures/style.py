"""How figures look: their colours, size, grid, labels and legends.

Colours are those of Okabe and Ito (2008), which people with any kind of colour vision tell apart;
lines also differ in dash and width, so that a grey print still reads. A figure is drawn in the
colours of a light page; `figures.drawing.svg` lets the page choose those of a dark one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import ScaledTranslation

WIDTH, HEIGHT = 5.6, 4.0
"""Inches of a figure: narrow, so that its words stay readable on a phone."""
LIGHT = "#ffffff #1c1c1a #6b6862 #b9b4aa #e6e2da #0072b2 #d55e00 #009e73 #cc79a7 #8a6a00 #5f7fd0"
NIGHT = "#1c1c20 #ecebe6 #a3a097 #5f5f68 #33333a #56b4e9 #ff8f4d #35c79a #e29cc6 #f0e442 #8fa8ff"
PAPER, INK, MUTED, QUIET, GRID, FIRST, SECOND, THIRD, FOURTH, FIFTH, SIXTH = LIGHT.split()
DARK = dict(zip(LIGHT.split(), NIGHT.split(), strict=True))
"""What each colour becomes on a dark screen."""
SERIES = (SECOND, FIRST, THIRD, FOURTH, FIFTH, SIXTH, INK, MUTED)
"""Colours of many lines, in this order."""
DOTTED = (0, (1, 2))
Look = dict[str, Any]
"""Further arguments of a call of matplotlib."""
VARIABLES = {light: f"var(--figure-{place})" for place, light in enumerate(DARK)}


def _declared(colours: Iterable[str]) -> str:
    return "".join(f"--figure-{place}:{colour};" for place, colour in enumerate(colours))


CSS = (
    f".figure{{{_declared(DARK)}font-family:system-ui,'Segoe UI',Roboto,'Liberation Sans',"
    "sans-serif}.figure *{stroke-linejoin:round;stroke-linecap:butt}"
    f"@media screen and (prefers-color-scheme:dark){{.figure{{{_declared(DARK.values())}}}}}"
)
"""The rules inside every figure."""


@contextmanager
def plain_style() -> Iterator[None]:
    """Inside, figures look as matplotlib draws them by itself, whatever a user's module or file of
    settings says: LaTeX for all texts, a dark background, other fonts."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def blank(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, sizes in inches."""
    return Figure(figsize=(width, height), facecolor=PAPER, layout="constrained")


def panel(title: str, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """A figure with one set of axes."""
    figure = blank(height)
    axes = figure.subplots()
    dress(axes, title)
    return figure, axes


def dress(axes: Axes, title: str) -> None:
    """Title, grid and colours."""
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK, pad=10)
    axes.set_facecolor(PAPER)
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=0.5)
    axes.tick_params(colors=MUTED, labelsize=10, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(MUTED)


def label(figure: Figure, axes: Axes, x: str, y: str, columns: int = 2) -> None:
    """Axis labels, and a legend below the axes, where it hides nothing."""
    axes.set_xlabel(x, color=MUTED, fontsize=10)
    axes.set_ylabel(y, color=MUTED, fontsize=10)
    # in points below the axes: room for tick labels and the axis label, where there are any
    down = 38 if x else 6
    axes.legend(
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        ncols=columns,
        loc="upper left",
        bbox_to_anchor=(-0.02, 0),
        bbox_transform=axes.transAxes + ScaledTranslation(0, -down / 72, figure.dpi_scale_trans),
        borderaxespad=0,
        columnspacing=1.5,
        handlelength=2.2,
    )


def mark(axes: Axes, x: float, words: str, at: float = 0.5) -> None:
    """A dotted upright line with words beside it, at a height in [0, 1] of the axes."""
    axes.axvline(x, color=MUTED, linewidth=1, linestyle=DOTTED, zorder=1)
    place = {0.0: "bottom", 1.0: "top"}.get(at, "center")
    where: Look = {"xycoords": axes.get_xaxis_transform(), "textcoords": "offset points"}
    look: Look = {"rotation": 90, "ha": "right", "va": place, "fontsize": 9, "color": MUTED}
    axes.annotate(words, (x, at), (-4, 0), **where, **look)


def in_percent(axis: Axis) -> None:
    """An axis of shares."""
    axis.set_major_formatter(PercentFormatter(1, 0))


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names of bars from the top down."""
    axes.set_yticks(range(len(names)), list(names))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
