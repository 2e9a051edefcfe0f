"""The figure of a comparison: how few lit features are enough to fool each run."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from blankcheck.compare.run import Run
from blankcheck.figures.drawing import lit_steps, log_counts
from blankcheck.figures.style import MUTED, SERIES, label, panel
from blankcheck.text import one_line

DASHES = ("-", "--", ":", "-.")
"""Lines differ in dash and width, too, so that a grey print still reads."""


def lit_curves(runs: Sequence[Run], max_lit: int, unit: str) -> Figure:
    """Share of attempts with a fooling image of at most k lit features, one line a run."""
    figure, axes = panel("How few lit features are enough")
    known = [k for run in runs for k in run.lit if k is not None]
    end = max(2, round(1.05 * max(known, default=1)), max_lit)
    for index, run in enumerate(runs):
        (line,) = axes.step(*lit_steps(run.lit, end), where="post", clip_on=False)
        wide = 1.8 if index < len(DASHES) else 3.6
        line.set(color=SERIES[index % len(SERIES)], linestyle=DASHES[index % 4], linewidth=wide)
        line.set_label(one_line(run.name, 20).lstrip("_") or "run")  # matplotlib hides _names
    axes.axvline(max_lit, color=MUTED, linewidth=1, linestyle=(0, (1, 2)))
    log_counts(axes.xaxis, 1, end)
    axes.set(xlim=(1, end), ylim=(-0.02, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    label(figure, axes, f"lit {unit} k (log scale); dotted: limit {max_lit}", "share of attempts")
    return figure
