"""The pages of a comparison, `compare.html`, one file that needs nothing else, and `compare.md` for
pull requests, and their figure: how few lit features are enough to fool each run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from blankcheck.auditing.gather import ALARMS_AMONG
from blankcheck.comparing import wording
from blankcheck.comparing.pairs import MEASURES, Comparison
from blankcheck.comparing.run import Run
from blankcheck.figures.drawing import drawn, lit_steps, log_counts
from blankcheck.figures.style import MUTED, SERIES, label, panel, plain_style
from blankcheck.report.rendering import html_templates, markdown_templates
from blankcheck.report.wording import unit
from blankcheck.runs.folder import RunFolder
from blankcheck.text import one_line

MOST_CURVES = 8
DASHES = ("-", "--", ":", "-.")
"""Lines differ in dash and width, too, so that a grey print still reads."""


def write_pages(made: Comparison, out: RunFolder) -> Path:
    """Write `compare.html`, `compare.md` and `figures/` into a folder, and return the path of the
    page."""
    units = {unit(run.contents) for run in made.runs}
    lit = units.pop() if len(units) == 1 else "features"
    curves = [made.reference, *(run for run in made.runs if run is not made.reference)]
    caption = f"A curve that rises far to the left means that very few lit {lit} are enough; "
    caption += "one that stays flat at 0% means that none were found."
    if len(curves) > MOST_CURVES:
        caption += f" {made.reference.name} and the first {MOST_CURVES - 1} other runs."
    limit = max(int(run.record["conditions"]["max_lit"]) for run in made.runs)
    with plain_style():
        figure = drawn("compare-lit", lit_curves(curves[:MOST_CURVES], limit, lit), caption)
    labels = {what: words[0] for what, words in MEASURES.items()}
    values = {"made": made, "unit": lit, "figure": figure, "words": wording, "labels": labels}
    out.write(f"figures/{figure.name}.svg", figure.svg)
    for templates, name in ((markdown_templates, "compare.md"), (html_templates, "compare.html")):
        template = templates("blankcheck.comparing").get_template(f"{name}.j2")
        page = out.write(name, template.render(values, most_images=ALARMS_AMONG))
    return page


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
