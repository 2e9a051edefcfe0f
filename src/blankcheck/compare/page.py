"""The pages of a comparison: `compare.html`, one file that needs nothing else, and `compare.md` for
pull requests."""

from __future__ import annotations

from pathlib import Path

from blankcheck.auditing.gather import ALARMS_AMONG
from blankcheck.compare import wording
from blankcheck.compare.figures import MOST_CURVES, draw
from blankcheck.compare.pairs import MEASURES, Comparison
from blankcheck.report.page import html_templates, markdown_templates
from blankcheck.report.wording import unit
from blankcheck.runs.folder import RunFolder


def write_pages(made: Comparison, out: RunFolder) -> Path:
    """Write `compare.html`, `compare.md` and `figures/` into a folder, and return the path of the
    page."""
    units = {unit(run.contents) for run in made.runs}
    lit = units.pop() if len(units) == 1 else "features"
    rates = {wording.tone("rate", pair.measures["rate"]) for pair in made.with_reference}
    figure = draw(made, lit)
    values = {
        "made": made,
        "unit": lit,
        "figure": figure,
        "words": wording,
        "labels": {what: words[0] for what, words in MEASURES.items()},
        "tone": rates.pop() if len(rates) == 1 else "",
        "curves": min(MOST_CURVES, len(made.runs)),
        "most_images": ALARMS_AMONG,
    }
    out.write(f"figures/{figure.name}.svg", figure.svg)
    out.write("compare.md", markdown_templates().get_template("compare.md.j2").render(values))
    page = html_templates().get_template("compare.html.j2").render(values)
    return out.write("compare.html", page)
