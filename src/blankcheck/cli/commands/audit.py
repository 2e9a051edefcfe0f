"""`blankcheck audit`: search, judge, and say the verdict."""

from __future__ import annotations

from typing import Any

from blankcheck.api.audit import Audit, audit
from blankcheck.auditing import check_fits, preset_named
from blankcheck.classifiers import UnitClassifier
from blankcheck.cli.commands.shared import Work, check, claim_of, load, start, working
from blankcheck.cli.settings import AuditSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data
from blankcheck.judging import Verdict
from blankcheck.judging.check_rules import FAILED
from blankcheck.judging.checks import FALSE_ALARMS
from blankcheck.report.certificate_wording import lines_of
from blankcheck.report.wording import against
from blankcheck.trackers import check_trackers
from blankcheck.types import default_max_lit

PLAUSIBLE = 0.8
"""Accuracy below which an audit asks whether the network sees its input as it was trained."""
EXIT = {"RESISTED": 0, "CERTIFIED": 0, "FOOLED": 10, "INCONCLUSIVE": 11}


def audit_command(settings: AuditSettings, terminal: Terminal) -> int:
    """Audit; the exit code says the verdict."""
    check_trackers(settings.tracker)
    claim = claim_of(settings, "audit")
    device, data = start(settings)
    classifier = load(settings, data).to(device)
    check(settings, data)
    check_fits(classifier, data)
    with working(settings, claim, data, terminal) as work:
        announce_audit(settings, data, terminal)
        made = audited(classifier.to(work.team.device), data, settings, work)
        if work.team.leads:
            say(made, work)
    return work.team.code(EXIT[str(made.verdict)])


def announce_audit(settings: AuditSettings, data: Data, terminal: Terminal) -> None:
    """How hard an audit looks, and for what."""
    preset, classes = preset_named(settings.preset), len(data.classes)
    lit = settings.max_lit if settings.max_lit is not None else default_max_lit(data.shape)
    terminal.note(
        f"audit {settings.preset}: {preset.for_targets(classes) * classes} attempts of at most "
        f"{preset.steps} steps; fooling: confidence >= {settings.confidence:g}, at most {lit} lit "
        f"of {data.train.images[0].numel()} features, p <= {settings.ood_level:g}"
    )


def audited(classifier: UnitClassifier, data: Data, settings: AuditSettings, work: Work) -> Audit:
    """The audit that was asked for, with its progress on the terminal."""
    with work.terminal.progress() as bar:
        spread, search = work.team.peers.spread, settings.search()
        return audit(classifier, data, settings.preset, note=bar, spread=spread, **search)


def say(made: Audit, work: Work) -> None:
    """Write an audit into the run folder, and say what it found."""
    made.write_into(work.run)
    report = str(work.run / "report.html")
    proof = [] if made.json["certificate"] is None else lines_of(made.json)[:3]
    lines, record = [*summary(made.json), *proof], {**made.json, "report": report}
    work.terminal.result(str(made.verdict), lines, report, record)


def summary(verdict: dict[str, Any]) -> list[str]:
    """The lines of a result block."""
    v, want, cost = verdict, verdict["conditions"], verdict["cost"]
    lit = (
        "" if v["median_lit"] is None else f", median {v['median_lit']} lit (fewest {v['min_lit']})"
    )
    lines = [
        f"{v['fooled']} of {v['attempts']} attempts fooled "
        f"(95 % bound {v['rate_upper_95']:.1%}){lit}",
        f"conditions: confidence >= {want['confidence']:g}, at most {want['max_lit']} lit "
        f"features, out of distribution at {want['ood_level']:g}",
        f"sparse and confident, out of distribution or not: {v['sparse_confident']['fooled']}; "
        f"fooled where other scores say what is out of distribution: "
        f"{v['second_opinion']['fooled']}",
        f"real test images: {v['real_accuracy']:.2%} right, "
        f"{v['real_confident']:.2%} right and confident",
        f"cost: {cost['backward']} backward and {cost['forward']} forward passes, "
        f"{cost['seconds']:.1f} s (and {cost['twin_seconds']:.1f} s to train the twin)",
    ]
    if v["extra"]["fooled"]:
        lines.append(f"found by the controls, outside the rate: {v['extra']['fooled']}")
    if v["real_accuracy"] < PLAUSIBLE:
        lines.append(
            "is the network known to be right so rarely? If not, run blankcheck doctor: its input "
            "may not be what it was trained on"
        )
    return lines + _on_checks(verdict)


def _on_checks(verdict: dict[str, Any]) -> list[str]:
    """A witness is a witness, whatever the checks say; where none was found they decide."""
    if verdict["verdict"] != Verdict.FOOLED:
        return [f"{c['code']} {c['status']}: {c['finding']}" for c in against(verdict)]
    failed = [c for c in verdict["checks"] if c["status"] == FAILED]
    lines = [f"{c['code']} failed: {c['finding']}" for c in failed if c["code"] == FALSE_ALARMS]
    others = len(failed) - len(lines)
    if others:
        lines.append(
            f"{others} checks of the search failed, which matters only where nothing is found"
        )
    return lines
