"""The pictures of a comparison: numbers in, figures out.

Colours are those of Okabe and Ito (2008); lines also differ in dash and carry their names, so that
a grey print still reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from blankcheck.figures.drawing import Drawn, drawn, lit_steps, log_counts
from blankcheck.figures.style import FIRST, INK, MUTED, SECOND, SERIES, blank, dress, panel
from blankcheck.judging.metrics import share_at_most
from blankcheck.text import one_line, percent

MOST_CURVES = 8
MOST_DOTS = 40
LABEL = 20
"""Letters of a name beside its line."""
DASHES: tuple[tuple[float, tuple[float, ...]], ...] = (
    (0, ()),
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (6, 1.5, 1.2, 1.5)),
    (0, (3, 1)),
    (0, (9, 2)),
    (0, (4, 1, 1, 1, 1, 1)),
    (0, (1, 2.5)),
)


@dataclass(frozen=True)
class Curve:
    """Lit features of the fooling images of one run; None for an attempt without one."""

    name: str
    lit: Sequence[int | None]


@dataclass(frozen=True)
class Dot:
    """Shares of one run: fooled, with its interval, and of real images right and confident.
    reference: it is the one that the others are compared with."""

    name: str
    rate: float | None
    low: float
    high: float
    confident: float
    reference: bool


def draw(curves: Sequence[Curve], dots: Sequence[Dot], max_lit: int, unit: str) -> dict[str, Drawn]:
    """The pictures of the page by name."""
    return {
        "compare-rates": drawn("compare-rates", rate_dots(dots), alt=_dot_words(dots)),
        "compare-lit": drawn(
            "compare-lit", lit_curves(curves, max_lit, unit), alt=_curve_words(curves, max_lit)
        ),
    }


def lit_curves(curves: Sequence[Curve], max_lit: int, unit: str = "pixels") -> Figure:
    """Share of attempts with a fooling image of at most k lit features, one line a run, named at
    its end."""
    figure, axes = panel("How few lit features are enough", 4.2)
    known = [k for c in curves for k in c.lit if k is not None]
    end = max(2, round(1.05 * max(known, default=1)), max_lit)
    for index, curve in enumerate(curves):
        # the first is drawn widest, so that one that runs along it leaves both to be seen
        axes.step(
            *lit_steps(curve.lit, end),
            where="post",
            color=_colour(index),
            linestyle=DASHES[index],
            linewidth=3.0 if index == 0 else 2.0,
            zorder=3 + index,
            clip_on=False,
        )
    axes.axvline(max_lit, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    log_counts(axes.xaxis, 1, end)
    axes.set_xlim(1, end)
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.set_xlabel(f"lit {unit} k (log scale); dotted: limit {max_lit}", color=MUTED, fontsize=10)
    axes.set_ylabel("share of attempts, at most k lit", color=MUTED, fontsize=10)
    _name_ends(axes, curves, end)
    return figure


def _name_ends(axes: Axes, curves: Sequence[Curve], end: int) -> None:
    """Each line's name to the right of where it ends, moved apart where lines end together."""
    ends = [share_at_most(c.lit, end) for c in curves]
    for index, (curve, at, place) in enumerate(zip(curves, ends, spread(ends, 0.075), strict=True)):
        axes.annotate(
            one_line(curve.name, LABEL),
            (1, at),
            (1.06, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=_colour(index),
            fontsize=9,
            fontweight="bold",
            va="center",
            parse_math=False,
            arrowprops={
                "arrowstyle": "-",
                "color": _colour(index),
                "linewidth": 1,
                "linestyle": DASHES[index],
                "shrinkA": 2,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Places in [0, 1] moved until neighbours are `gap` apart, in their order, none above 1 while
    there is room."""
    order = sorted(range(len(places)), key=lambda i: -places[i])
    moved, above = [0.0] * len(places), 1.0 + gap
    for index in order:
        above = moved[index] = min(places[index], above - gap)
    below = min(0.0, 1 - gap * (len(places) - 1)) - gap
    for index in reversed(order):
        below = moved[index] = max(moved[index], below + gap)
    return moved


def rate_dots(dots: Sequence[Dot]) -> Figure:
    """One row a run: the share of attempts fooled with its 95 % interval, and what is left of
    confidence on real images."""
    figure = blank(1.5 + 0.3 * max(2, len(dots)))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    dress(left, "Attempts fooled")
    dress(right, "Real: right and sure")
    at = list(range(len(dots)))
    for row, dot in zip(at, dots, strict=True):
        fill = SECOND if dot.reference else FIRST
        left.hlines(row, dot.low, dot.high, color=fill, linewidth=2)
        if dot.rate is not None:
            left.plot(
                dot.rate,
                row,
                "D" if dot.reference else "o",
                color=fill,
                markersize=8,
                clip_on=False,
                zorder=4,
            )
        right.plot(
            dot.confident,
            row,
            "D" if dot.reference else "o",
            color=fill,
            markersize=8,
            clip_on=False,
            zorder=4,
        )
    left.set_yticks(at, [one_line(d.name, LABEL) for d in dots], parse_math=False)
    left.tick_params(axis="y", labelcolor=INK)
    left.set_ylim(len(dots) - 0.4, -0.6)
    for axes in (left, right):
        axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    left.set_xlim(-0.02, 1.02)
    left.set_xticks([0, 0.25, 0.5, 0.75, 1])
    least = min((d.confident for d in dots), default=0.0)
    right.set_xlim(0.88 if least > 0.9 else 0.48 if least > 0.5 else -0.02, 1.005)
    left.set_xlabel("less is better; line: 95% interval", color=MUTED, fontsize=10)
    right.set_xlabel("more is better", color=MUTED, fontsize=10)
    return figure


def _colour(index: int) -> str:
    return SERIES[index % len(SERIES)]


def _dot_words(dots: Sequence[Dot]) -> str:
    said = [
        f"{one_line(d.name, 40)}: {percent(d.rate)} fooled (95% interval {percent(d.low)} to {percent(d.high)}), "
        f"{percent(d.confident)} right and confident"
        for d in dots
    ]
    return f"Attempts fooled and real test images right and confident. {'; '.join(said)}."


def _curve_words(curves: Sequence[Curve], max_lit: int) -> str:
    levels = sorted({max(1, max_lit // 9), max(1, max_lit // 3), max_lit})
    said = [
        f"{one_line(c.name, 40)}: "
        + ", ".join(f"{share_at_most(c.lit, k):.0%} with at most {k}" for k in levels)
        for c in curves
    ]
    return (
        f"Share of attempts with a fooling image, by its number of lit features. {'; '.join(said)}."
    )
