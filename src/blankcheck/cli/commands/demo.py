"""`blankcheck demo`: the whole story in a minute or two."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from blankcheck.api.audit import MODEL
from blankcheck.cli.commands.audit import audit_command
from blankcheck.cli.commands.harden import harden_command
from blankcheck.cli.commands.shared import begin, claim_of
from blankcheck.cli.commands.train import train_command
from blankcheck.cli.settings import AuditSettings, DemoSettings, HardenSettings, TrainSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.parallel.devices import resolve
from blankcheck.report.page import write_report
from blankcheck.runs.claims import held
from blankcheck.runs.folder import INNER, RunFolder
from blankcheck.trackers import check_trackers


def demo_command(settings: DemoSettings, terminal: Terminal) -> int:
    """Train, audit, harden and audit again; one report of both."""
    check_trackers(settings.tracker)
    with claim_of(settings, "demo").opened() as run:
        begin(run, "demo", settings, resolve(settings.device))
        for name in INNER["demo"]:
            run.below(name)
        _demo(settings, run.path, terminal)
    return 0


def _demo(settings: DemoSettings, out: Path, terminal: Terminal) -> None:
    # what was in the folders inside is gone with the earlier demo
    shared = {f.name: getattr(settings, f.name) for f in fields(settings)} | {"overwrite": True}
    del shared["out"]
    quiet = Terminal(terminal.quiet, as_json=False)
    if terminal.as_json:
        quiet.out = terminal.err
    quiet.note("1/3 train a network plainly")
    train_command(TrainSettings(**shared, out=str(out / "plain")), quiet)
    quiet.note("2/3 audit it")
    weights = str(out / "plain" / MODEL)
    audit_command(AuditSettings(**shared, out=str(out / "audit"), weights=weights), quiet)
    quiet.note("3/3 harden a network of the same kind, and audit it")
    harden_command(HardenSettings(**shared, out=str(out / "hardened")), quiet)
    before, after = RunFolder.open(out / "audit"), RunFolder.open(out / "hardened")
    with held(after):
        report = str(write_report(after, before))
    plain, hardened = (run.read_json("verdict.json") for run in (before, after))
    line = (
        f"plain: {plain['verdict']}, {plain['rate']:.1%} of attempts; "
        f"hardened: {hardened['verdict']}, {hardened['rate']:.1%} of attempts"
    )
    record = {"plain": plain, "hardened": hardened, "report": report}
    terminal.result("DONE", [line], report, record)
