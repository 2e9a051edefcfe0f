"""Which figures a report shows."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from blankcheck.figures import style
from blankcheck.figures.drawing import Drawn, drawn
from blankcheck.report.charts.audit import draw_audits
from blankcheck.report.charts.blend import draw_blends
from blankcheck.report.charts.certificate import draw_certificate
from blankcheck.report.charts.forgetting import draw_forgetting
from blankcheck.report.charts.images import draw_misses, draw_witnesses
from blankcheck.report.charts.rounds import draw_rounds
from blankcheck.report.evidence import misses
from blankcheck.runs.contents import RunContents


def draw(runs: Sequence[tuple[str, RunContents]]) -> dict[str, Drawn]:
    """The figures of one run, or of a run before and one after, by name.

    Args:
        runs: Each with its name, `Before` and `After`, or empty.
    """
    with style.plain_style():
        return {figure.name: figure for figure in _figures(runs)}


def _figures(runs: Sequence[tuple[str, RunContents]]) -> list[Drawn]:
    audits = [(name, run, run.verdict) for name, run in runs if run.verdict is not None]
    _, last = runs[-1]
    made = [draw_audits(audits)] if audits else []
    if last.rounds:
        made += draw_rounds(last)
    made += draw_forgetting(last)
    if last.blends is not None:
        made.append(draw_blends(last.blends))
    made += draw_certificate(last)
    if last.epochs:
        made.append(_draw_training(last))
    for name, run in runs:
        suffix = "-before" * (name == "Before")
        if run.witnesses:
            made.append(draw_witnesses(f"witnesses{suffix}", run))
        if missed := misses(run):
            made.append(draw_misses(f"misses{suffix}", run, missed))
    return made


def _draw_training(run: RunContents) -> Drawn:
    """Mean training loss of each epoch of a plain training."""
    figure, axes = style.panel("Loss, epoch by epoch")
    at, losses = [e["epoch"] + 1 for e in run.epochs], [e["real_loss"] for e in run.epochs]
    look: style.Look = {"marker": "o", "markersize": 3.5, "color": style.FIRST}
    axes.plot(at, losses, label="on training images", **look)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    style.label(figure, axes, "epoch", "loss (nats)")
    words = f"{len(losses)} epochs, from {losses[0]:.3f} to {losses[-1]:.3f}"
    return drawn("training", figure, alt=f"Training loss over {words}.")
