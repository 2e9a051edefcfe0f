"""The pages of a comparison: `compare.html`, one file that needs nothing else, and `compare.md` for
pull requests."""

from __future__ import annotations

from pathlib import Path

from blankcheck.auditing.gather import ALARMS_AMONG
from blankcheck.compare import wording
from blankcheck.compare.figures import lit_curves
from blankcheck.compare.pairs import MEASURES, Comparison
from blankcheck.figures.drawing import drawn
from blankcheck.report.rendering import html_templates, markdown_templates
from blankcheck.report.wording import unit
from blankcheck.runs.folder import RunFolder

MOST_CURVES = 8


def write_pages(made: Comparison, out: RunFolder) -> Path:
    """Write `compare.html`, `compare.md` and `figures/` into a folder, and return the path of the
    page."""
    units = {unit(run.contents) for run in made.runs}
    lit = units.pop() if len(units) == 1 else "features"
    curves = [made.reference, *(run for run in made.runs if run is not made.reference)]
    caption = (
        f"A curve that rises far to the left means that very few lit {lit} are enough; one that "
        "stays flat at 0% means that none were found."
    )
    if len(curves) > MOST_CURVES:
        caption += f" {made.reference.name} and the first {MOST_CURVES - 1} other runs."
    limit = max(int(run.record["conditions"]["max_lit"]) for run in made.runs)
    figure = drawn("compare-lit", lit_curves(curves[:MOST_CURVES], limit, lit), caption)
    values = {
        "made": made,
        "unit": lit,
        "figure": figure,
        "words": wording,
        "labels": {what: words[0] for what, words in MEASURES.items()},
        "most_images": ALARMS_AMONG,
    }
    out.write(f"figures/{figure.name}.svg", figure.svg)
    package = "blankcheck.compare"
    markdown = markdown_templates(package).get_template("compare.md.j2").render(values)
    out.write("compare.md", markdown)
    return out.write(
        "compare.html", html_templates(package).get_template("compare.html.j2").render(values)
    )
