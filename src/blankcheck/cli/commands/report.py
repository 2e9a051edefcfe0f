"""`blankcheck report`: draw the report of a run folder again."""

from __future__ import annotations

from blankcheck.cli.settings import ReportSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.report.page import write_report
from blankcheck.runs.claims import held
from blankcheck.runs.folder import RunFolder


def report_command(settings: ReportSettings, terminal: Terminal) -> int:
    """Draw `report.html` and `report.md` again from the run folder alone."""
    run = RunFolder.open(settings.run)
    before = RunFolder.open(settings.before) if settings.before is not None else None
    with held(run):
        report = str(write_report(run, before))
    terminal.result("REPORT", [""], report, {"report": report})
    return 0
