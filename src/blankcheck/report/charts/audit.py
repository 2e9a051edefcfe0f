"""Figures of an audit: how sparse, how sure, and which classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from blankcheck.figures import style
from blankcheck.figures.drawing import Drawn, describe, drawn, lit_steps, log_counts
from blankcheck.judging.metrics import share_at_most
from blankcheck.report.wording import most_fooled
from blankcheck.runs.contents import RunContents
from blankcheck.text import one_line

MOST_BARS = 30
LIT = (
    "A curve that rises far to the left means that very few lit features are enough. Dashed: "
    "images the classifier was sure of, whether or not they look like real data."
)
TWIN = (
    " The plain twin is a network of the same kind, known to be foolable, on which the same search "
    "ends with its first fooling image."
)
SURE = (
    "One count per attempt. A search stops soon after it reaches the confidence asked for, so "
    "fooling images sit just above the line."
)
Confidences = tuple[str, list[float], list[float]]
Audits = Sequence[tuple[str, RunContents, dict[str, Any]]]
"""Name, contents and verdict of each audit that is shown."""


class LitCounts(NamedTuple):
    """Lit features of the attempts of one run; None for an attempt without such an image: of the
    fooling image, of any confident image, and of the fooling image by target class."""

    name: str
    fooling: Sequence[int | None]
    confident: Sequence[int | None]
    classes: Sequence[Sequence[int | None]] = ()


def draw_audits(audits: Audits) -> list[Drawn]:
    """The figures of one audit, or of an audit before and one after."""
    _, last, verdict = audits[-1]
    made = [_draw_lit(audits), _draw_confidence(audits)]
    return [*made, _draw_classes(last)] if verdict["targets"] else made


def _draw_lit(audits: Audits) -> Drawn:
    max_lit = max(verdict["conditions"]["max_lit"] for _, _, verdict in audits)
    runs = [_lit_counts(name, contents, len(audits) == 1) for name, contents, _ in audits]
    twin: list[int | None] = []
    for found in (verdict.get("twin") for _, _, verdict in audits):
        if found:
            twin = [*found["lit"], *[None] * (found["attempts"] - found["fooled"])]
    levels = sorted({max(1, max_lit // part) for part in (30, 9, 3, 1)})
    named = {f"{run.name}:" * bool(run.name): run.fooling for run in runs}
    named |= {"Plain twin:": twin} if twin else {}
    lines = {
        name: ", ".join(f"{share_at_most(lit, k):.0%} with at most {k}" for k in levels)
        for name, lit in named.items()
    }
    alt = describe("Share of attempts with a fooling image, by its number of lit features", lines)
    return drawn("lit-curve", lit_curve(runs, max_lit, twin), LIT + TWIN * bool(twin), alt)


def _lit_counts(name: str, contents: RunContents, by_class: bool) -> LitCounts:
    of_class: dict[int, list[int | None]] = {}
    for a in contents.attempts:
        of_class.setdefault(a.target, []).append(a.lit if a.fooled else None)
    every = [lit for lits in of_class.values() for lit in lits]
    classes = list(of_class.values()) if by_class and len(of_class) > 1 else []
    return LitCounts(name, every, [a.fewest for a in contents.attempts], classes)


def lit_curve(runs: Sequence[LitCounts], max_lit: int, twin: Sequence[int | None] = ()) -> Figure:
    """Share of attempts with a fooling image of at most k lit features, runs over each other.

    Args:
        runs: One or two.
        max_lit: Most that a fooling image may have.
        twin: Lit features of the attempts of the same search on a plain twin.
    """
    figure, axes = style.panel("How few lit features are enough", 4.2)
    counts = [c for run in runs for c in (*run.fooling, *run.confident)] + list(twin)
    end = max(2, round(1.1 * max((c for c in counts if c is not None), default=1)), max_lit)

    def step(counts: Sequence[int | None], **look: Any) -> None:
        axes.step(*lit_steps(counts, end), where="post", **look)

    colours = (style.FIRST,) if len(runs) == 1 else (style.SECOND, style.FIRST)
    for index, (run, colour) in enumerate(zip(runs, colours, strict=True)):
        for of_class in run.classes:
            step(of_class, color=style.QUIET, linewidth=0.8, zorder=1)
        name, wide = run.name or "this network", 2.6 + 0.8 * (len(runs) - 1 - index)
        step(run.fooling, color=colour, linewidth=wide, zorder=3 + index, label=f"{name}: fooling")
        thin = {"linewidth": 1.6, "dashes": (1.2, 1.2) if index else (3, 1.6), "zorder": 5}
        other = colour if len(runs) > 1 else style.SECOND
        step(run.confident, color=other, label=f"{name}: real-looking or not", **thin)
        if run.classes:
            axes.plot([], [], color=style.QUIET, label="its single classes: fooling")
    if twin:
        look = {"color": style.THIRD, "dashes": (6, 1.5, 1.2, 1.5), "zorder": 6}
        step(twin, linewidth=2, label="plain twin: fooling", **look)
    style.mark(axes, max_lit, f"limit {max_lit}")
    log_counts(axes.xaxis, 1, end)
    axes.set(xlim=(1, end), ylim=(-0.02, 1.02))
    style.in_percent(axes.yaxis)
    across, up = "lit features k (count, log scale)", "share of attempts with at most k lit"
    style.label(figure, axes, across, up)
    return figure


def _draw_confidence(audits: Audits) -> Drawn:
    asked, runs, lines = audits[-1][2]["conditions"]["confidence"], [], {}
    for name, contents, _ in audits:
        every = [(a.confidence, a.fooled) for a in contents.attempts]
        fooled, failed = ([c for c, kind in every if kind is which] for which in (True, False))
        runs.append((name, fooled, failed))
        sure = sum(c >= asked for c, _ in every)
        lines[f"{name}:" * bool(name)] = f"{sure} of {len(every)} attempts reach {asked:g}"
    alt = describe("How sure the classifier was of the best image of each attempt", lines)
    return drawn("confidence", confidence_histogram(runs, asked), SURE, alt)


def confidence_histogram(runs: Sequence[Confidences], threshold: float) -> Figure:
    """How sure the classifier was of the best image of each attempt: one panel a run.

    Args:
        runs: A name, confidences of attempts that fooled, and of those that did not.
        threshold: The confidence asked for.
    """
    figure = style.blank(style.HEIGHT if len(runs) == 1 else 2.9 * len(runs))
    panels = figure.subplots(len(runs), 1, sharex=True, squeeze=False)[:, 0]
    for (name, fooled, failed), axes in zip(runs, panels, strict=True):
        title = "how sure of its best images"
        style.dress(axes, f"{name}: {title}" if len(runs) > 1 else title.capitalize())
        words = [f"fooled ({len(fooled)})", f"not fooled ({len(failed)})"]
        look: style.Look = {"color": [style.SECOND, style.MUTED], "label": words, "stacked": True}
        axes.hist([fooled, failed], bins=np.linspace(0, 1, 41).tolist(), **look)
        line: style.Look = {"color": style.INK, "linewidth": 1.2, "linestyle": "--"}
        axes.axvline(threshold, label=f"asked: {threshold:g}", **line)
        axes.set_xlim(0, 1)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        across = "confidence (probability of the target class)" if axes is panels[-1] else ""
        style.label(figure, axes, across, "attempts", 3)
    return figure


def _draw_classes(contents: RunContents) -> Drawn:
    rows = most_fooled(contents, MOST_BARS)
    names = [contents.class_name(target) for target, _ in rows]
    rates, bounds = [r["rate"] or 0.0 for _, r in rows], [r["rate_upper_95"] for _, r in rows]
    what = f"Share of attempts fooled for each of {len(rows)} target classes"
    alt = describe(what, {"least": f"{min(rates):.0%}", "most": f"{max(rates):.0%}"})
    return drawn("per-class", per_class_bars(names, rates, bounds), alt=alt)


def per_class_bars(names: Sequence[str], rates: Sequence[float], bounds: Sequence[float]) -> Figure:
    """Rate per target class, and a line up to its one-sided 95% upper bound."""
    height = 1.9 + 0.27 * max(2, len(names))
    figure, axes = style.panel("Attempts fooled, by target class", height)
    at, bound = range(len(names)), "up to the 95% upper bound"
    axes.barh(at, rates, color=style.SECOND, height=0.55, label="rate")
    axes.hlines(at, rates, bounds, color=style.INK, linewidth=1.2, label=bound)
    axes.plot(bounds, at, "|", color=style.INK, markersize=7)
    style.name_rows(axes, [one_line(name, 22) for name in names])
    axes.set_xlim(0, 1.01)
    style.in_percent(axes.xaxis)
    style.label(figure, axes, "share of attempts", "")
    return figure
