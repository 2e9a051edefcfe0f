"""A hardening run round by round: real images, sparsity, losses.

Pure functions, as in `pictures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from blankcheck.figures.style import LIGHT, Theme, label, panel
from blankcheck.judging.check_rules import MIN_REAL_CONFIDENT
from blankcheck.report.charts.audit import log_counts
from blankcheck.report.charts.hardening import FRESH, mark_kept, number_rounds

VALIDATION = "validation"
Rounds = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Sparsity:
    """Lit features of the images that a fresh search made confident; every list has one entry a
    round, NaN for none.

    at: indices of the rounds. fewest: of any confident image. low, middle, high: quantiles 0.1, 0.5
    and 0.9 of the best image of each confident attempt.
    """

    at: list[int]
    fewest: list[float]
    low: list[float]
    middle: list[float]
    high: list[float]


def sparsity(rounds: Rounds, searches: Rounds) -> Sparsity:
    """How many lit features it took, from a run's `round` and `search` records."""
    spread = {s["round"]: s.get("lit") or {} for s in searches if s["what"] == FRESH}
    found = [spread.get(r["index"], {}) for r in rounds]
    low, middle, high = (
        [float(lit.get(q, np.nan)) for lit in found] for q in ("q10", "q50", "q90")
    )
    fewest = [np.nan if r["fresh_fewest"] is None else float(r["fresh_fewest"]) for r in rounds]
    return Sparsity([r["index"] for r in rounds], fewest, low, middle, high)


def calibration(rounds: Rounds, reals: Rounds) -> dict[str, list[float]]:
    """Calibration error and share taken for fake of validation images, one entry a round; only what
    was measured."""
    of = {r["round"]: r for r in reals if r["split"] == VALIDATION}
    lines = {}
    for key in ("calibration_error", "taken_for_fake"):
        shares = [of.get(r["index"], {}).get(key) for r in rounds]
        if any(share is not None for share in shares):
            lines[key] = [np.nan if share is None else float(share) for share in shares]
    return lines


def real_curves(rounds: Rounds, kept: int | None, theme: Theme = LIGHT) -> Figure:
    """Validation images that are right, and right and confident, after each round. kept: index of
    the kept round."""
    figure, axes = panel("Real images, meanwhile", theme)
    for key, words, style in (
        ("validation_accuracy", "right", "-"),
        ("validation_confident", "right and confident", "--"),
    ):
        _line(axes, rounds, [r[key] for r in rounds], style, theme.first, words)
    axes.axhline(
        MIN_REAL_CONFIDENT,
        color=theme.second,
        linewidth=1,
        linestyle=(0, (1, 2)),
        zorder=1,
        label=f"RESISTED needs {MIN_REAL_CONFIDENT:.0%} confident",
    )
    lowest = min(r[key] for r in rounds for key in ("validation_accuracy", "validation_confident"))
    # from 0 on, a point or two would not be seen; never finer than a fifth of the scale, so that
    # noise looks small
    axes.set_ylim(min(0.8, lowest - 0.03), 1.01)
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    _finish(figure, axes, rounds, kept, "share of validation images", theme, above=False)
    return figure


def sparsity_curves(
    found: Sparsity, limit: int | None, kept: int | None, theme: Theme = LIGHT
) -> Figure:
    """Lit features that fresh searches need to make the network sure. limit: most that a fooling
    image may have."""
    figure, axes = panel("How many lit features it takes to make it sure", theme)
    at = [index + 1 for index in found.at]
    axes.fill_between(
        at,
        found.low,
        found.high,
        color=theme.first,
        alpha=0.16,
        linewidth=0,
        label="middle 80% of attempts",
    )
    axes.plot(at, found.middle, "--", color=theme.first, label="median of attempts")
    axes.plot(
        at, found.fewest, "-o", color=theme.second, markersize=4, linewidth=2, label="fewest of all"
    )
    known = [
        n
        for n in (*found.fewest, *found.low, *found.high, limit)
        if n is not None and np.isfinite(n)
    ]
    if limit is not None:
        axes.axhline(
            limit, color=theme.muted, linewidth=1, linestyle=(0, (1, 2)), label=f"limit {limit:,}"
        )
    low, high = 0.8 * max(1, min(known, default=1)), 1.25 * max(known, default=2)
    log_counts(axes.yaxis, low, high)
    axes.set_ylim(low, high)
    mark_kept(axes, found.at, kept, theme)
    number_rounds(axes, found.at)
    label(figure, axes, "network after round", "lit features (count, log scale)", theme)
    return figure


def loss_curves(rounds: Rounds, kept: int | None, theme: Theme = LIGHT) -> Figure:
    """Training losses of each round."""
    figure, axes = panel("Loss", theme)
    _line(axes, rounds, [r["real_loss"] for r in rounds], "-", theme.first, "on real images")
    _line(
        axes, rounds, [r["fooling_loss"] for r in rounds], "--", theme.second, "on fooling images"
    )
    axes.set_ylim(bottom=0)
    _finish(figure, axes, rounds, kept, "loss (nats)", theme)
    return figure


def calibration_curves(
    rounds: Rounds, lines: Mapping[str, Sequence[float]], kept: int | None, theme: Theme = LIGHT
) -> Figure:
    """What `calibration` hands back, over the rounds."""
    figure, axes = panel("Calibration, and real images taken for fake", theme)
    look = {
        "calibration_error": ("-", theme.first, "expected calibration error"),
        "taken_for_fake": ("--", theme.second, "real images taken for fake"),
    }
    for key, shares in lines.items():
        _line(axes, rounds, shares, *look[key])
    axes.set_ylim(
        0,
        max(
            0.05,
            1.15
            * max((s for shares in lines.values() for s in shares if np.isfinite(s)), default=0),
        ),
    )
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    _finish(figure, axes, rounds, kept, "share of validation images", theme)
    return figure


def _line(
    axes: Axes, rounds: Rounds, values: Sequence[float], style: str, colour: str, words: str
) -> None:
    at = [r["index"] + 1 for r in rounds]
    axes.plot(at, values, style, marker="o", markersize=3.5, color=colour, label=words)


def _finish(
    figure: Figure,
    axes: Axes,
    rounds: Rounds,
    kept: int | None,
    words: str,
    theme: Theme,
    above: bool = True,
) -> None:
    at = [r["index"] for r in rounds]
    mark_kept(axes, at, kept, theme, above)
    number_rounds(axes, at)
    label(figure, axes, "network after round", words, theme)
