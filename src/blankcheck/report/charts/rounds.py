"""The rounds of a hardening: how often images fool the network, real images, sparsity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, nan
from statistics import fmean
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from blankcheck.figures import style
from blankcheck.figures.drawing import Drawn, drawn, log_counts
from blankcheck.judging.check_rules import POSITIVE, TWIN_CONFIDENT, least_confident
from blankcheck.judging.metrics import upper_bound_95
from blankcheck.runs.contents import RunContents
from blankcheck.text import one_line, percent

DOTS: style.Look = {"marker": "o", "markersize": 3.5}
BLUE: style.Look = {"color": style.FIRST, **DOTS}
ORANGE: style.Look = {"color": style.SECOND, **DOTS}
SHADE: style.Look = {"alpha": 0.16, "linewidth": 0}
ROUND, SHARE = "network after round", "share of validation images"
LIT_FEATURES = "lit features (count, log scale)"
Records = Sequence[Mapping[str, Any]]
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
REAL = (
    "A network that is sure of nothing is fooled by nothing and helps nobody: resistance counts "
    "only while both lines stay up."
)
LIT = (
    "Higher is better: lit features of the images that the fresh search made confident, fooling or "
    "not. Above the limit they are no fooling images."
)


class Line(NamedTuple):
    """A line over the rounds: its words, a number for each round (NaN for none), and its look."""

    words: str
    values: list[float]
    look: style.Look


def draw_rounds(contents: RunContents) -> list[Drawn]:
    """Success, real images, sparsity and, where it was measured, calibration."""
    made = [_draw_success(contents), _draw_real(contents), _draw_lit(contents)]
    return [*made, *_draw_calibration(contents)]


def _draw_real(contents: RunContents) -> Drawn:
    right = [r["validation_accuracy"] for r in contents.rounds]
    sure = [r["validation_confident"] for r in contents.rounds]
    look = BLUE | {"linestyle": "--"}
    lines = [Line("right", right, BLUE), Line("right and confident", sure, look)]
    needed = confidence_needed(contents.verdict)
    limit = None
    if needed is not None:
        limit = (needed, f"RESISTED needs {percent(needed)} confident", style.SECOND)
    figure, axes = _over_rounds(contents, "Real images, meanwhile", lines, SHARE, limit, 0.0)
    # from 0 on a point or two would not be seen, and on a finer scale noise would look large
    least = min([*right, *sure] if needed is None else [*right, *sure, needed])
    axes.set_ylim(min(0.8, least - 0.03), 1.01)
    return drawn("real", figure, REAL)


def confidence_needed(verdict: Mapping[str, Any] | None) -> float | None:
    """The share of real images of which the audit asks the network to be right and sure: it hangs
    on its plain twin's; None where the audit does not say that."""
    controls = (verdict or {}).get("controls") or {}
    twin = controls.get(POSITIVE, {}).get(TWIN_CONFIDENT)
    return least_confident(twin) if twin is not None and 0 <= twin <= 1 else None


def _draw_lit(contents: RunContents) -> Drawn:
    low, middle, high, fewest = lit_features(contents.rounds, contents.searches)
    most = contents.config.get("max_lit")
    if contents.verdict:
        most = contents.verdict["conditions"]["max_lit"]
    known = [n for n in (*low, *high, *fewest) if isfinite(n)]
    limit = None
    if isinstance(most, int) and most > 0:
        known.append(float(most))
        limit = (most, f"limit {most:,}", style.MUTED)
    lines = [
        Line("median of attempts", middle, {"color": style.FIRST, "linestyle": "--"}),
        Line("fewest of all", fewest, ORANGE | {"linewidth": 2}),
    ]
    title = "How many lit features it takes to make it sure"
    figure, axes = _over_rounds(contents, title, lines, LIT_FEATURES, limit)
    words = SHADE | {"label": "middle 80% of attempts"}
    axes.fill_between(_numbers(contents), low, high, color=style.FIRST, **words)
    style.label(figure, axes, ROUND, LIT_FEATURES)
    least, end = 0.8 * max(1, min(known, default=1)), 1.25 * max(known, default=2)
    log_counts(axes.yaxis, least, end)
    axes.set_ylim(least, end)
    return drawn("sparsity", figure, LIT)


def lit_features(rounds: Records, searches: Records) -> list[list[float]]:
    """Lit features of the images that a fresh search made confident, NaN for none: quantiles 0.1,
    0.5 and 0.9 of the best image of each confident attempt, and the fewest of any."""
    found = {s["round"]: s.get("lit") or {} for s in searches if s["what"] == "fresh"}
    each = [found.get(r["index"], {}) for r in rounds]
    quantiles = [[float(lit.get(q, nan)) for lit in each] for q in ("q10", "q50", "q90")]
    fewest = [nan if r["fresh_fewest"] is None else float(r["fresh_fewest"]) for r in rounds]
    return [*quantiles, fewest]


def _draw_calibration(contents: RunContents) -> list[Drawn]:
    lines = calibration(contents.rounds, contents.reals)
    if not lines:
        return []
    title = "Calibration, and real images taken for fake"
    figure, axes = _over_rounds(contents, title, lines, SHARE)
    most = max(share for line in lines for share in line.values if isfinite(share))
    axes.set_ylim(0, max(0.05, 1.15 * most))
    return [drawn("calibration", figure)]


def calibration(rounds: Records, reals: Records) -> list[Line]:
    """Calibration error and share taken for fake of validation images, where it was measured."""
    of = {r["round"]: r for r in reals if r["split"] == "validation"}
    measured = {
        "calibration_error": ("expected calibration error", BLUE),
        "taken_for_fake": ("real images taken for fake", ORANGE),
    }
    lines = []
    for key, (words, look) in measured.items():
        shares = [of.get(r["index"], {}).get(key) for r in rounds]
        if any(share is not None for share in shares):
            lines.append(Line(words, [nan if s is None else float(s) for s in shares], look))
    return lines


def _over_rounds(
    contents: RunContents,
    title: str,
    lines: Sequence[Line],
    what: str,
    limit: tuple[float, str, str] | None = None,
    kept_at: float = 1.0,
) -> tuple[Figure, Axes]:
    """A figure of lines over the rounds. limit: a number, its words and its colour."""
    figure, axes = style.panel(title)
    _plot(axes, contents, lines, kept_at)
    if limit is not None:
        value, words, colour = limit
        axes.axhline(value, color=colour, label=words, linewidth=1, linestyle=style.DOTTED)
    if what == SHARE:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        style.in_percent(axes.yaxis)
    style.label(figure, axes, ROUND, what)
    return figure, axes


def _plot(axes: Axes, contents: RunContents, lines: Sequence[Line], kept_at: float = 1.0) -> None:
    """Lines over whole rounds, and a mark at the kept one, whose word is to hide no line."""
    at = _numbers(contents)
    for line in lines:
        axes.plot(at, line.values, label=line.words, **line.look)
    margin = min(0.5, 0.05 * (at[-1] - at[0])) or 0.5
    axes.set_xlim(at[0] - margin, at[-1] + margin)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if contents.kept is not None and contents.kept + 1 in at:
        style.mark(axes, contents.kept + 1, "kept", kept_at)


def _numbers(contents: RunContents) -> list[int]:
    return [r["index"] + 1 for r in contents.rounds]


def _draw_success(contents: RunContents) -> Drawn:
    """The fresh attempts, and below them, where there are any, other images."""
    fresh, others = success(contents.rounds, contents.sets)
    figure = style.blank(6.4 if others else 4.0)
    figure.set_layout_engine("constrained", hspace=0.06)  # between a legend and the next title
    panels = figure.subplots(2 if others else 1, 1, sharex=True, squeeze=False)[:, 0]
    at = _numbers(contents)
    panels[0].fill_between(at, fresh[0].values, fresh[1].values, color=style.SECOND, **SHADE)
    shown = {"Can a new search still fool it?": (fresh, "share of attempts")}
    if others:
        shown["Can images made for other networks?"] = (others, "share of images")
    for axes, (title, (lines, what)) in zip(panels, shown.items(), strict=True):
        style.dress(axes, title)
        _plot(axes, contents, lines)
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
