"""The pages of a sweep: `sweep.html`, one file that needs nothing else, and `sweep.md`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from blankcheck.cli.settings import HardenSettings
from blankcheck.report.page import write_report
from blankcheck.report.rendering import html_templates, markdown_templates
from blankcheck.runs.folder import RunFolder
from blankcheck.sweep import choosing
from blankcheck.sweep.figures import MOST_OPTIONS, draw, kind, params_said, said, wide
from blankcheck.sweep.records import KILLED, Found, Record
from blankcheck.sweep.space import Choices, Range, Space
from blankcheck.text import percent

REPORT = "report.html"
MOST_ROWS = 500
"""Of the table of all trials; sweep.json has every one."""
MOST_REPORTS = 12
"""Points of the front whose own report is drawn, which takes seconds each; `blankcheck report`
draws any other."""


def write_pages(found: Found, space: Space, names: Record, out: RunFolder) -> Path:
    """Draw `sweep.html`, `sweep.md` and `figures/` into the folder of the sweep, and return the
    path of the page."""
    values = {**_values(found, space, names), "reports": _reports(found, out)}
    for name, drawn in values["figures"].items():
        out.write(f"figures/{name}.svg", drawn.svg)
    out.write("sweep.md", markdown_templates().get_template("sweep.md.j2").render(values))
    return out.write("sweep.html", html_templates().get_template("sweep.html.j2").render(values))


def _reports(found: Found, out: RunFolder) -> list[int]:
    """Trials with a report of their own in this folder: after this, those of the front that ran
    here."""
    wanted = sorted(found.front, key=lambda p: -p.score)[:MOST_REPORTS]
    for name in (found.record_of(p.number)["run"] for p in wanted):
        if out.has(f"{name}/hardening.json") and not out.has(f"{name}/{REPORT}"):
            write_report(RunFolder.open(out / name))
    return [t["number"] for t in found.trials if out.has(f"{t['run']}/{REPORT}")]


def _values(found: Found, space: Space, names: Record) -> dict[str, Any]:
    on_front = [found.record_of(p.number) for p in found.front]
    best = found.record_of(found.best.number) if found.best else None
    rows = [(t, _state(found, t)) for t in found.trials]
    return {
        "found": found,
        "best": best,
        "front": on_front,
        "names": names,
        "base": space.base,
        "counts": found.counts,
        "headline": headline(best),
        "means": means(found),
        "warnings": warnings(found),
        "rule": choosing.RULE,
        "rows": rows[:MOST_ROWS],
        "more_rows": len(rows) - MOST_ROWS,
        "params": params_said,
        "audited": any(t["audit"] for t in found.trials),
        "searched": [(name, _said_values(values)) for name, values in space.search.items()],
        "configuration": _configuration(best, space) if best else "",
        "method": method(found),
        "most_options": MOST_OPTIONS,
        "figures": draw(found, space.search),
        "wide": wide(space.search),
    }


def _configuration(best: Record, space: Space) -> str:
    """What is not as harden would have it anyway, and what was searched, as YAML."""
    settings, plainly = (
        space.settings(best["params"], best["seed"]).as_config(),
        HardenSettings().as_config(),
    )
    shown = {
        name: value
        for name, value in settings.items()
        if name in space.search or value != plainly[name]
    }
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)


def headline(best: Record | None) -> str:
    """What the best trial reached."""
    if best is None:
        return "No trial has finished yet"
    return (
        f"Best: {percent(best['accuracy'])} of validation images right, "
        f"{best['fooled']} of {best['attempts']} attempts fooled"
    )


def means(found: Found) -> str:
    """How far the sweep is."""
    c = found.counts
    parts = [f"{c.complete} of {c.wanted} trials finished"]
    parts += [f"{c.pruned} pruned"] if c.pruned else []
    parts += [f"{c.failed} failed"] if c.failed else []
    parts += [f"{c.running} running"] if c.running else []
    points = len(found.front)
    return f"{', '.join(parts)}. {points} {'point stands' if points == 1 else 'points stand'} on the front."


def warnings(found: Found) -> list[str]:
    """What a reader should know before believing the front."""
    if not found.timid:
        return []
    return [
        f"Every network was right and confident on fewer than {found.min_confident:.0%} of validation images. A timid "
        "network resists everything and helps nobody: an audit of one of these can only be FOOLED or INCONCLUSIVE."
    ]


def method(found: Found) -> list[str]:
    """How trials were measured, chosen and ended."""
    return [
        "Both aims are measured on the network that hardening keeps: accuracy on all validation images, and the share of "
        "fresh attempts that end with a fooling image by the out-of-distribution test of hardening. The attempts are the "
        "same for every trial. No test image plays a part, so an audit of the best network is still a first look.",
        f"Only networks that are right and confident on at least {found.min_confident:.0%} of validation images may stand "
        "on the front, unless there is none.",
        "The best of many measured values is too good by chance. The share that fools the best trial, measured again by an "
        "audit, is likely to be somewhat higher.",
        f"A trial is pruned after half of its training where {choosing.PEERS} trials have finished and its validation "
        f"accuracy is more than {choosing.FAR_BELOW:.0%} below their median at the same share of training, or where at "
        f"least {choosing.DOMINATORS} of them were then more accurate by {choosing.BETTER_ACCURACY:.0%} and fooled less "
        f"often by {choosing.BETTER_RATE:.0%}.",
        "A trial whose worker was killed is tried again with the same parameters and the same seed "
        f"({found_killed(found)} here).",
        "Parameters are proposed by Optuna's multi-objective tree-structured Parzen estimator, the first ten at random.",
    ]


def found_killed(found: Found) -> int:
    """Trials that were interrupted and queued again."""
    return sum(t["state"] == KILLED for t in found.trials)


def _state(found: Found, record: Record) -> str:
    if record["state"] != "finished":
        return str(record["state"])
    return {"best": "best", "front": "on the front", "timid": "too timid"}.get(
        kind(found, record), "finished"
    )


def _said_values(values: Choices | Range) -> str:
    if isinstance(values, Choices):
        return ", ".join(said(v) for v in values.values)
    scale = ", on a logarithmic scale" if values.log else ""
    return f"{said(values.low)} to {said(values.high)}{', whole numbers' if values.whole else ''}{scale}"
