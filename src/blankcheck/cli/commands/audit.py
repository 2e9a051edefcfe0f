"""`blankcheck audit`: search, judge, and say the verdict."""

from __future__ import annotations

from typing import Any

from blankcheck.api.audit import Audit, audit
from blankcheck.auditing import check_fits, level_of, preset_named
from blankcheck.classifiers import UnitClassifier
from blankcheck.cli.commands import shared
from blankcheck.cli.commands.shared import Work
from blankcheck.cli.settings import AuditSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data
from blankcheck.judging import Verdict
from blankcheck.judging.check_rules import FAILED
from blankcheck.judging.checks import FALSE_ALARMS
from blankcheck.report.certificate_wording import lines_of
from blankcheck.report.wording import against, black, different
from blankcheck.trackers import check_trackers
from blankcheck.types import default_max_lit

PLAUSIBLE = 0.8
"""Accuracy below which an audit asks whether the network sees its input as it was trained."""
EXIT = {"RESISTED": 0, "CERTIFIED": 0, "FOOLED": 10, "INCONCLUSIVE": 11}


def audit_command(settings: AuditSettings, terminal: Terminal) -> int:
    """Audit; the exit code says the verdict."""
    check_trackers(settings.tracker)
    claim = shared.claim_of(settings, "audit")
    _, data, classifier = shared.load_both(settings)
    shared.check(settings, data)
    form = check_fits(classifier, data)
    with shared.working(settings, claim, data, terminal) as work:
        shared.warn_untrained(settings, classifier, data, form, terminal)
        announce_audit(settings, data, terminal)
        made = audited(classifier.to(work.team.device), data, settings, work)
        if work.team.leads:
            conclude(made, work)
    return work.team.code(EXIT[str(made.verdict)])


def announce_audit(settings: AuditSettings, data: Data, terminal: Terminal) -> None:
    """How hard an audit looks, and for what."""
    preset, classes = preset_named(settings.preset), len(data.targets)
    attempts, features = preset.for_targets(classes) * classes, data.train.images[0].numel()
    lit = settings.max_lit if settings.max_lit is not None else default_max_lit(data.shape)
    fooling = f"confidence >= {settings.confidence:g}, at most {lit} lit of {features} features"
    searched = f"audit {settings.preset}: {attempts} attempts of at most {preset.steps} steps"
    level = level_of(data, settings.ood_level)
    terminal.note(f"{searched}; fooling: {fooling}, p <= {level:g}")


def audited(classifier: UnitClassifier, data: Data, settings: AuditSettings, work: Work) -> Audit:
    """The audit that was asked for, with its progress on the terminal."""
    with work.terminal.progress() as bar:
        spread, search = work.team.peers.spread, shared.search_of(settings)
        return audit(classifier, data, settings.preset, note=bar, spread=spread, **search)


def conclude(made: Audit, work: Work) -> None:
    """Write an audit into the run folder, and say what it found."""
    made.write_into(work.run)
    proof = [] if made.json["certificate"] is None else lines_of(made.json)[:3]
    shared.say(made, [*summary(made.json), *proof], work.run, work.terminal)


def summary(verdict: dict[str, Any]) -> list[str]:
    """The lines of a result block."""
    v, want, cost = verdict, verdict["conditions"], verdict["cost"]
    equal, median = different(v)
    by = f" by {equal}" if equal else ""
    fewest = f"{by}, median {median} lit (fewest {v['min_lit']})"
    bound = f"(95 % bound {v['rate_upper_95']:.1%}){'' if v['median_lit'] is None else fewest}"
    least = f"confidence >= {want['confidence']:g}, at most {want['max_lit']} lit features"
    sparse, other = v["sparse_confident"]["fooled"], v["second_opinion"]["fooled"]
    scores = f"fooled by a second opinion on shape: {other}"
    odd = f"ending with an image that is odd in any way: {v['odd_in_any_way']['fooled']}"
    test = v["out_of_distribution_test"]
    right = f"{v['real_accuracy']:.2%} right, {v['real_confident']:.2%} right and confident"
    passes = f"{cost['backward']} backward and {cost['forward']} forward passes"
    twin = f"(and {cost['twin_seconds']:.1f} s to train the twin)"
    dark = f"{said}; " if (said := black(v)) else ""
    lines = [
        f"{dark}{v['fooled']} of {v['attempts']} attempts fooled {bound}",
        f"conditions: {least}, out of distribution at {want['ood_level']:g}",
        f"level {want['ood_level']:g}: {test['level_why']}",
        f"sparse and confident, out of distribution or not: {sparse}; {scores}; {odd}",
        f"real test images: {right}",
        f"cost: {passes}, {cost['seconds']:.1f} s {twin}",
    ]
    if v["extra"]["fooled"]:
        lines.append(f"found by the controls, outside the rate: {v['extra']['fooled']}")
    if v["real_accuracy"] < PLAUSIBLE:
        rarely = "is the network known to be right so rarely? If not, run blankcheck doctor"
        lines.append(f"{rarely}: its input may not be what it was trained on")
    return lines + _on_checks(verdict)


def _on_checks(verdict: dict[str, Any]) -> list[str]:
    """A witness is a witness, whatever the checks say; where none was found they decide."""
    if verdict["verdict"] != Verdict.FOOLED:
        return [f"{c['code']} {c['status']}: {c['finding']}" for c in against(verdict)]
    failed = [c for c in verdict["checks"] if c["status"] == FAILED]
    lines = [f"{c['code']} failed: {c['finding']}" for c in failed if c["code"] == FALSE_ALARMS]
    if others := len(failed) - len(lines):
        only = "which matters only where nothing is found"
        lines.append(f"{others} checks of the search failed, {only}")
    return lines
