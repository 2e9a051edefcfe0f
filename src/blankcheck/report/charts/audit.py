"""The figure of an audit: how few lit features are enough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from blankcheck.figures import style
from blankcheck.figures.drawing import Drawn, describe, drawn, lit_steps, log_counts
from blankcheck.judging.metrics import share_at_most
from blankcheck.runs.contents import RunContents

LIT = (
    "A curve that rises far to the left means that very few lit features are enough. Dashed: "
    "images the classifier was sure of, whether or not they look like real data."
)
TWIN = (
    " The plain twin is a network of the same kind, known to be foolable, on which the same search "
    "ends with its first fooling image."
)
Audits = Sequence[tuple[str, RunContents, dict[str, Any]]]
"""Name, contents and verdict of each audit that is shown."""


class LitCounts(NamedTuple):
    """Lit features of the attempts of one run; None for an attempt without such an image: of the
    fooling image, of any confident image, and of the fooling image by target class."""

    name: str
    fooling: Sequence[int | None]
    confident: Sequence[int | None]
    classes: Sequence[Sequence[int | None]] = ()


def draw_audits(audits: Audits) -> Drawn:
    """The figure of one audit, or of an audit before and one after."""
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
    name = "lit-curve" if len(audits) == 1 else "lit-curves"
    return drawn(name, lit_curve(runs, max_lit, twin), LIT + TWIN * bool(twin), alt)


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
