"""`blankcheck audit`: search, judge, and say the verdict."""

from __future__ import annotations

import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from blankcheck.api.audit import Audit, audit
from blankcheck.auditing import check_fits, level_of, preset_named
from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.cli.commands import shared
from blankcheck.cli.commands.shared import Work
from blankcheck.cli.options import command_line
from blankcheck.cli.settings import AuditSettings, DoctorSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data
from blankcheck.data.split import fingerprint as fingerprint_of
from blankcheck.judging import Verdict
from blankcheck.judging.check_rules import FAILED
from blankcheck.judging.checks import FALSE_ALARMS
from blankcheck.report.certificate_wording import lines_of
from blankcheck.report.wording import against, black, different
from blankcheck.runs.folder import MARK, RunFolder
from blankcheck.runs.state import Kept, forget_pieces
from blankcheck.trackers import check_trackers
from blankcheck.types import default_max_lit

PLAUSIBLE = 0.8
"""Accuracy below which an audit asks whether the network sees its input as it was trained."""
SAMPLED = 200
"""Images of each part of the data by which an audit that goes on knows them again."""
EXIT = {"RESISTED": 0, "CERTIFIED": 0, "FOOLED": 10, "INCONCLUSIVE": 11}


def audit_command(settings: AuditSettings, terminal: Terminal) -> int:
    """Audit; the exit code says the verdict."""
    check_trackers(settings.tracker)
    place = shared.place_of(settings, "audit")
    _, data, classifier = shared.load_both(settings)
    shared.check(settings, data)
    form = check_fits(classifier, data)
    with shared.working(settings, place, data, terminal) as work:
        shared.warn_untrained(settings, classifier, data, form, terminal)
        announce_audit(settings, data, terminal)
        made = audited(classifier.to(work.team.device), data, settings, work)
        if work.team.leads:
            conclude(made, work, settings)
    return work.team.code(EXIT[str(made.verdict)])


def announce_audit(settings: AuditSettings, data: Data, terminal: Terminal) -> None:
    """How hard an audit looks, and for what."""
    preset, classes = preset_named(settings.preset), len(data.targets)
    attempts, features = preset.for_targets(classes) * classes, data.train.images[0].numel()
    lit = settings.max_lit if settings.max_lit is not None else default_max_lit(data.shape)
    fooling = f"confidence >= {settings.confidence:g}, at most {lit} lit of {features} features"
    searched = f"audit {settings.preset}: {attempts} attempts of at most {preset.steps} steps"
    level = level_of(data, settings.ood_level)
    vacuous = "; with so many allowed, every image is sparse" if lit >= features else ""
    terminal.note(f"{searched}; fooling: {fooling}, p <= {level:g}{vacuous}")


def audited(classifier: UnitClassifier, data: Data, settings: AuditSettings, work: Work) -> Audit:
    """The audit that was asked for, with its progress on the terminal. What it finishes is kept in
    the run folder until the whole of it stands there."""
    # of all images the digest may take minutes
    some = [split.sample(SAMPLED, 0) for split in (data.train, data.validation, data.test)]
    of = f"{fingerprint(classifier)} {fingerprint_of(some)}"
    kept = Kept(work.team.peers.spread, _keeping(work), of)
    if kept.pieces:
        work.terminal.note(f"resuming with {len(kept.pieces)} finished pieces of the audit")
    with work.terminal.progress() as bar:
        search = shared.search_of(settings)
        made = audit(classifier, data, settings.preset, note=bar, spread=kept, **search)
    cost = made.evidence.cost
    evidence = replace(made.evidence, cost=replace(cost, seconds=cost.seconds + kept.seconds))
    return replace(made, gathered=replace(made.gathered, evidence=evidence))


def _keeping(work: Work) -> RunFolder:
    """The run folder, of all processes that can write into it; of others the one of their own."""
    run = RunFolder(Path(work.team.peers.broadcast_object(str(work.run.path.resolve()))))
    return run if run.has(MARK) else work.run


def conclude(made: Audit, work: Work, settings: AuditSettings) -> None:
    """Write an audit into the run folder, and say what it found. settings: of this network."""
    work.terminal.working("writing the report")
    made.write_into(work.run)
    forget_pieces(work.run)
    lines = summary(made.json) + ([] if made.json["certificate"] is None else lines_of(made.json))
    if made.json["real_accuracy"] < PLAUSIBLE:
        names = {f.name for f in fields(DoctorSettings)} & {f.name for f in fields(settings)}
        same = {name: getattr(settings, name) for name in names - {"out"}}
        doctor = shlex.join(command_line("doctor", DoctorSettings(**same)))
        lines.append(f"is the network known to be right so rarely? If not: {doctor}")
    shared.say(made, lines, work.run, work.terminal)


def summary(verdict: dict[str, Any]) -> list[str]:
    """The lines of a result block."""
    v, want, cost = verdict, verdict["conditions"], verdict["cost"]
    least = f"confidence >= {want['confidence']:g}, at most {want['max_lit']} lit features"
    sparse, other = v["sparse_confident"]["fooled"], v["second_opinion"]["fooled"]
    scores = f"fooled by a second opinion on shape: {other}"
    odd = f"ending with an image that is odd in any way: {v['odd_in_any_way']['fooled']}"
    test = v["out_of_distribution_test"]
    right = f"{v['real_accuracy']:.2%} right, {v['real_confident']:.2%} right and confident"
    passes = f"{cost['backward']} backward and {cost['forward']} forward passes"
    twin = f"(and {cost['twin_seconds']:.1f} s to train the twin)"
    lines = [
        f"{found_by(v)}{f'; {dark}' if (dark := black(v)) else ''}",
        f"conditions: {least}, out of distribution at {want['ood_level']:g}",
        f"level {want['ood_level']:g}: {test['level_why']}",
        f"sparse and confident, out of distribution or not: {sparse}; {scores}; {odd}",
        f"real test images: {right}",
        f"cost: {passes}, {cost['seconds']:.1f} s {twin}",
    ]
    if v["extra"]["fooled"] and v["fooled"]:
        lines.append(f"found by the checks, outside the rate: {v['extra']['fooled']}")
    return lines + on_checks(verdict)


def found_by(v: dict[str, Any]) -> str:
    """What was found and by whom, so that nothing in it contradicts FOOLED: of the attempts, and
    where none of these found any, of the checks that look harder."""
    bound, extra = f"95 % bound {v['rate_upper_95']:.1%}", v["extra"]["fooled"]
    if v["fooled"]:
        equal, median = different(v)
        lit = f"{f' by {equal}' if equal else ''}, median {median} lit (fewest {v['min_lit']})"
        return f"{v['fooled']} of {v['attempts']} attempts fooled ({bound}){lit}"
    if not extra:
        return f"0 of {v['attempts']} attempts fooled ({bound})"
    images = f"{extra} fooling image{'' if extra == 1 else 's'}, fewest {v['extra']['min_lit']} lit"
    return f"by the checks that look harder: {images}; by none of the {v['attempts']} attempts"


def on_checks(verdict: dict[str, Any]) -> list[str]:
    """A witness is a witness, whatever the checks say; where none was found they decide."""
    if verdict["verdict"] != Verdict.FOOLED:
        return [f"{c['code']} {c['status']}: {c['finding']}" for c in against(verdict)]
    failed = [c for c in verdict["checks"] if c["status"] == FAILED]
    lines = [f"{c['code']} failed: {c['finding']}" for c in failed if c["code"] == FALSE_ALARMS]
    if others := len(failed) - len(lines):
        only = "which matters only where nothing is found"
        checks = "1 check" if others == 1 else f"{others} checks"
        lines.append(f"{checks} of the search failed, {only}")
    return lines
