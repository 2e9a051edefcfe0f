"""How pictures look: their colours, size, grid, labels and legends.

Colours are those of Okabe and Ito (2008), which people with any kind of colour vision tell apart;
lines also differ in dash and width, so that a grey print still reads.
"""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

WIDTH, HEIGHT = 5.6, 4.0
"""Inches of a picture: narrow, so that its words stay readable on a phone."""
DPI = 180


@dataclass(frozen=True)
class Theme:
    """Colours of a picture. first, second, third: those with a meaning. quiet: of lines behind
    them. grid: of the grid."""

    paper: str
    ink: str
    muted: str
    quiet: str
    grid: str
    first: str
    second: str
    third: str


LIGHT = Theme(
    "#ffffff",
    "#1c1c1a",
    muted="#6b6862",
    quiet="#b9b4aa",
    grid="#e6e2da",
    first="#0072b2",
    second="#d55e00",
    third="#009e73",
)
DARK = Theme(
    "#1c1c20",
    "#ecebe6",
    muted="#a3a097",
    quiet="#5f5f68",
    grid="#33333a",
    first="#56b4e9",
    second="#ff8f4d",
    third="#35c79a",
)


PAPER, INK, MUTED, QUIET, GRID = LIGHT.paper, LIGHT.ink, LIGHT.muted, LIGHT.quiet, LIGHT.grid
FIRST, SECOND, THIRD = LIGHT.first, LIGHT.second, LIGHT.third
MORE = {
    "fourth": ("#cc79a7", "#e29cc6"),
    "fifth": ("#8a6a00", "#f0e442"),
    "sixth": ("#5f7fd0", "#8fa8ff"),
}
"""Further colours for many lines, on light and dark screens."""
SERIES = (SECOND, FIRST, THIRD, *(light for light, _ in MORE.values()))
"""Colours of many lines, in this order."""

PAIRS = {name: (getattr(LIGHT, name), getattr(DARK, name)) for name in LIGHT.__dict__} | MORE
VARIABLES = {light: f"var(--figure-{name})" for name, (light, _) in PAIRS.items()}
"""What stands in a file for each colour."""


def _colours(which: int) -> str:
    return "".join(f"--figure-{name}:{pair[which]};" for name, pair in PAIRS.items())


CSS = (
    ".figure{font-family:system-ui,'Segoe UI',Roboto,'Liberation Sans',sans-serif}"
    f".figure{{{_colours(0)}}}"
    f"@media screen and (prefers-color-scheme:dark){{.figure{{{_colours(1)}}}}}"
    ".figure *{stroke-linejoin:round;stroke-linecap:butt}"
)
"""The rules inside every figure."""


def blank(height: float, theme: Theme = LIGHT, width: float = WIDTH) -> Figure:
    """An empty figure, sizes in inches."""
    return Figure(figsize=(width, height), dpi=DPI, facecolor=theme.paper, layout="constrained")


def panel(title: str, theme: Theme = LIGHT, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """A figure with one set of axes."""
    figure = blank(height, theme)
    axes = figure.subplots()
    dress(axes, title, theme)
    return figure, axes


def dress(axes: Axes, title: str, theme: Theme = LIGHT) -> None:
    """Title, grid and colours."""
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=theme.ink, pad=10)
    axes.set_facecolor(theme.paper)
    axes.set_axisbelow(True)
    axes.grid(color=theme.grid, linewidth=0.5)
    axes.tick_params(colors=theme.muted, labelsize=10, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.muted)


def label(
    figure: Figure, axes: Axes, x: str, y: str, theme: Theme = LIGHT, columns: int = 2
) -> None:
    """Axis labels, and a legend below the axes, where it hides nothing."""
    axes.set_xlabel(x, color=theme.muted, fontsize=10)
    axes.set_ylabel(y, color=theme.muted, fontsize=10)
    # in points below the axes: room for tick labels and the axis label, where there are any
    down = 38 if x else 6
    place = axes.transAxes + ScaledTranslation(0, -down / 72, figure.dpi_scale_trans)
    axes.legend(
        frameon=False,
        labelcolor=theme.ink,
        fontsize=9,
        ncols=columns,
        loc="upper left",
        bbox_to_anchor=(-0.02, 0),
        bbox_transform=place,
        borderaxespad=0,
        columnspacing=1.5,
        handlelength=2.2,
    )
