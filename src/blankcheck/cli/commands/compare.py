"""`blankcheck compare`: audited runs side by side, and which differences are beyond chance."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from blankcheck.cli.options import command_line, recorded
from blankcheck.cli.settings import CompareSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.comparing import wording
from blankcheck.comparing.folders import compare, different
from blankcheck.comparing.pairs import Comparison
from blankcheck.comparing.statistics import LEVEL
from blankcheck.runs.claims import Claim
from blankcheck.text import NOTHING, number, percent

MOST_SAID = 6
"""Pairs that are said one by one on the terminal; the pages say them all."""
COLUMNS: dict[str, tuple[str, int, Callable[[Any], str]]] = {
    "verdict": ("verdict", 50, str),
    "fooled": ("rate", 0, percent),
    "lit": ("median_lit", 0, number),
    "fewest": ("min_lit", 80, number),
    "right": ("real_accuracy", 60, percent),
    "confident": ("real_confident", 70, percent),
}
"""What of a run's record a column shows, how wide a terminal must be for it, and its form."""
SHORTEST = 4


def compare_command(settings: CompareSettings, terminal: Terminal) -> int:
    """Compare runs; writes `compare.html`, `compare.md`, `compare.json` and a figure."""
    from blankcheck.comparing.page import write_pages  # drawing takes half a second to import

    paths = different(settings.runs)
    out = Path(settings.out) if settings.out is not None else None
    claim = Claim(out, "compare", settings.overwrite, paths)
    made = compare(*paths, sort=settings.sort)
    headline, warnings = wording.headline(made), wording.warnings(made)
    reference = made.reference.record["run"]
    record = {"schema": 1, "headline": headline, "reference": reference, "level": LEVEL}
    record |= {"tests": made.tests, "warnings": warnings}
    record["runs"] = [run.record for run in made.runs]
    record["comparisons"] = [pair.record for pair in made.pairs]
    config, words = recorded(settings) | {"runs": paths}, command_line("compare", settings)
    with claim.opened() as folder:
        folder.begin("compare", config, torch.device("cpu"), words)
        if len(paths) < len(settings.runs):
            terminal.note("a folder that is named twice counts once")
        folder.write_json("compare.json", record)
        page = str(write_pages(made, folder))
    said = [wording.sentence(pair) for pair in made.pairs]
    if len(said) > MOST_SAID:
        said = [*said[:MOST_SAID], f"{len(said) - MOST_SAID} more pairs stand in compare.json"]
    shown = table(made, max(20, terminal.out.width - 2))
    lines = [headline, *warnings, *shown, *said]
    terminal.result("COMPARED", lines, page, {**record, "report": page})
    return 0


def table(made: Comparison, width: int) -> list[str]:
    """The runs as lines of at most `width` columns, one row a run; a narrow terminal shows fewer
    columns."""
    columns = {name: column for name, column in COLUMNS.items() if width >= column[1]}
    rows = [
        [form(run.record[key]).replace(NOTHING, "-") for key, _, form in columns.values()]
        for run in made.runs
    ]
    taken = sum(max(map(len, cells)) + 2 for cells in zip(columns, *rows, strict=True))
    grid = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="")
    grid.add_column("run", no_wrap=True, max_width=max(SHORTEST, width - taken))
    for name in columns:
        grid.add_column(name, justify="left" if name == "verdict" else "right", no_wrap=True)
    for run, cells in zip(made.runs, rows, strict=True):
        grid.add_row(escape(run.name), *cells)
    text = io.StringIO()
    Console(file=text, width=width, color_system=None).print(grid)
    return text.getvalue().splitlines()
