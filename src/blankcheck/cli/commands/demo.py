"""`blankcheck demo`: the whole story in a minute or two."""

from __future__ import annotations

from dataclasses import fields

from blankcheck.api.audit import MODEL
from blankcheck.cli.commands.audit import audit_command, found_by
from blankcheck.cli.commands.harden import harden_command
from blankcheck.cli.commands.shared import begin, claim_of
from blankcheck.cli.commands.train import train_command
from blankcheck.cli.settings import AuditSettings, DemoSettings, HardenSettings, TrainSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.parallel.devices import resolve
from blankcheck.report.page import write_report
from blankcheck.runs.folder import INNER, RunFolder
from blankcheck.trackers import check_trackers


def demo_command(settings: DemoSettings, terminal: Terminal) -> int:
    """Train, audit, harden and audit again; one report of both."""
    check_trackers(settings.tracker)
    terminal.settle()  # the commands inside speak for themselves
    # what was in the folders inside is gone with the earlier demo
    common = {f.name: getattr(settings, f.name) for f in fields(settings)} | {"overwrite": True}
    quiet = Terminal(terminal.quiet, as_json=False)
    quiet.out = terminal.err if terminal.as_json else terminal.out
    with claim_of(settings, "demo").opened() as run:
        begin(run, "demo", settings, resolve(settings.device))
        first, second, third = (common | {"out": str(run.below(n))} for n in INNER["demo"])
        quiet.note("1/3 train a network plainly")
        train_command(TrainSettings(**first), quiet)
        quiet.note("2/3 audit it")
        audit_command(AuditSettings(**second, weights=str(run / "plain" / MODEL)), quiet)
        quiet.note("3/3 harden a network of the same kind, and audit it")
        harden_command(HardenSettings(**third), quiet)
        report = str(write_report(run))
        folders = (RunFolder.open(each["out"]) for each in (second, third))
        plain, hardened = (each.read_json("verdict.json") for each in folders)
        record = {"plain": plain, "hardened": hardened}
        said = [f"{name}: {v['verdict']}, {found_by(v)}" for name, v in record.items()]
        terminal.result("DONE", ["both in one report", *said], report, record | {"report": report})
    return 0
