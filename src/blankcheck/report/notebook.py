"""The first screen of a report, as HTML that stands in a notebook."""

from __future__ import annotations

from blankcheck.pictures import headed, table
from blankcheck.report import wording
from blankcheck.report.charts.select import draw
from blankcheck.report.rendering import html_figure
from blankcheck.runs.contents import read_run
from blankcheck.runs.folder import RunFolder

SHOWN = ("witnesses", "misses", "lit-curve", "success")
"""Figures, of those that the run has; the first two are rows of images."""
COLOURS = {"RESISTED": "#1e8449", "CERTIFIED": "#1e8449", "FOOLED": "#c0392b"}


def summary(run: RunFolder) -> str:
    """Verdict, key numbers, figures and a row of images of a run folder."""
    contents = read_run(run)
    word = contents.verdict["verdict"] if contents.verdict else "NOT AUDITED"
    figures = draw([("", contents)])
    numbers = table(("", "", ""), wording.key_numbers(contents))
    parts = [str(html_figure(figures[name])) for name in SHOWN if name in figures]
    colour = COLOURS.get(word, "#b9770e")
    return headed(word, wording.scope(contents).means, numbers, *parts, colour=colour)
