"""The pages of a sweep: `sweep.html`, one file that needs nothing else, and `sweep.md`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blankcheck.figures.drawing import Drawn, describe, svg
from blankcheck.figures.style import INK, dress, plain_style
from blankcheck.report.page import write_report
from blankcheck.report.rendering import html_templates, markdown_templates
from blankcheck.runs.folder import RunFolder
from blankcheck.sweep.results import Record, fooled_of, point_yaml, trial_of
from blankcheck.sweep.study import Job
from blankcheck.text import one_line, percent

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

MOST_ROWS = 500
"""Of the table of all trials; sweep.json has every one."""
MOST_REPORTS = 12
"""Points of the front whose own report is drawn, which takes seconds each."""
MOST_OPTIONS = 6
"""Panels of the figures of options."""


def write_pages(found: Record, job: Job, study: Study, out: RunFolder) -> Path:
    """Draw `sweep.html`, `sweep.md` and `figures/` into the folder of the sweep, and return the
    path of the page."""
    front = [trial for trial in found["trials"] if trial["front"]]
    front.sort(key=lambda trial: found["front"].index(trial["number"]))
    for trial in sorted(front, key=lambda trial: -trial["score"])[:MOST_REPORTS]:
        run = trial["run"]
        if out.has(f"{run}/hardening.json") and not out.has(f"{run}/report.html"):
            write_report(RunFolder.open(out / run))
    best = trial_of(found, found["best"])
    values = {
        "found": found,
        "front": front,
        "best": best,
        "configuration": point_yaml(best, job) if best else "",
        "headline": headline(best),
        "figures": _figures(study, found) if front else [],
        "reports": [t["run"] for t in found["trials"] if out.has(f"{t['run']}/report.html")],
        "rows": found["trials"][:MOST_ROWS],
        "params": params_said,
        "searched": {name: said(values) for name, values in found["search"].items()},
    }
    for figure in values["figures"]:
        out.write(f"figures/{figure.name}.svg", figure.svg)
    out.write("sweep.md", markdown_templates().get_template("sweep.md.j2").render(values))
    return out.write("sweep.html", html_templates().get_template("sweep.html.j2").render(values))


def headline(best: Record | None) -> str:
    """What the best trial reached."""
    if best is None:
        return "No trial has finished yet"
    right = f"{percent(best['accuracy'])} of validation images right"
    return f"Best: {right}, {fooled_of(best)}"


def said(value: Any) -> str:
    """A value of an option, or all its values, as a sweep file writes them."""
    if isinstance(value, list):
        return ", ".join(map(said, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {said(part)}" for name, part in value.items())
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def params_said(params: Record) -> str:
    """All parameters of a trial in one line."""
    return one_line(said(params), 400)


def _figures(study: Study, found: Record) -> list[Drawn]:
    """Optuna's plots: the trials by both aims, and each aim by the value of each option."""
    import matplotlib
    from optuna.visualization import matplotlib as plots

    names = list(found["search"])[:MOST_OPTIONS]
    aims = ["validation images right", "attempts that fool"]
    points = {}
    for t in (t for t in found["trials"] if t["front"]):
        reached = f"{percent(t['accuracy'])} right and {percent(t['rate'])} fooled"
        points[f"trial {t['number']}"] = reached
    drawn = []
    matplotlib.use("agg")
    with plain_style(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of options that have had one value so far
        plots.plot_pareto_front(study, target_names=aims)
        axes = "Accuracy on validation images against attempts that fool; the front"
        words = describe(axes, points)
        caption = "Each mark is a trial. No trial is better in both aims than one of the front."
        drawn.append(_drawn("sweep-front", words, caption))
        for index, (name, aim) in enumerate(zip(("accuracy", "rate"), aims, strict=True)):
            plots.plot_slice(study, names, target=_value(index), target_name=aim)
            words = f"The share of {aim}, of every finished trial by {', '.join(names)}."
            drawn.append(_drawn(f"sweep-{name}", words, f"The share of {aim}, by each option."))
    return drawn


def _value(index: int) -> Callable[[FrozenTrial], float]:
    return lambda trial: trial.values[index]


def _drawn(name: str, alt: str, caption: str) -> Drawn:
    """The figure that Optuna has just drawn, in our colours and with its title beneath."""
    from matplotlib import pyplot

    figure = pyplot.gcf()
    figure.suptitle("")
    for axes in figure.axes:
        axes.set_title("")
        dress(axes, "")
        for label in (axes.xaxis.label, axes.yaxis.label):
            label.set(color=INK, fontsize=10)
        if axes.get_legend() is not None:
            axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    pyplot.close(figure)
    return Drawn(name, svg(figure), alt, caption)
