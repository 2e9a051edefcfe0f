"""What the files of a run folder say, derived anew from each other and from the data at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from itertools import pairwise
from math import nan
from typing import Any

from blankcheck import judging
from blankcheck.api.audit import audit_records
from blankcheck.auditing import PRESETS, level_of, ood_test
from blankcheck.auditing.gather import ALARMS_AMONG, black_of
from blankcheck.classifiers import evaluate
from blankcheck.data import Data
from blankcheck.errors import ArgumentError, DataError
from blankcheck.judging.evidence import Attempt, Proof
from blankcheck.judging.ood import AUTO
from blankcheck.judging.recheck import differences
from blankcheck.runs.folder import ATTEMPTS, CONFIG, METRICS, VERDICT, WITNESSES
from blankcheck.runs.schema import AttemptLine
from blankcheck.types import Conditions, default_max_lit
from blankcheck.verifying.folder import ANEW, Folder, Shape, Subject, value

CLOSE = 1e-3
"""Largest difference of a share of real images that is measured again."""
FEW_ALARMS = 0.002
"""Of real test images: how many more or fewer may be called out of distribution, by rounding; at
least one."""


def check_conditions(folder: Folder, shape: Shape | None) -> Conditions | None:
    """`verdict.json`, `config.yaml` and the witness file must speak of the same conditions. These,
    or None where nothing can be asked for that. shape: of images, where it is known."""
    found, want, config = folder.found, folder.verdict["conditions"], folder.config
    found.compare(VERDICT, "conditions.unit", want["unit"], "that of every audit is", "features")
    if folder.stored is not None and "conditions" in folder.metadata:
        for one in differences(folder.stored.said("conditions"), want, "conditions"):
            found.wrong(VERDICT, one.field, one.derived, f"{WITNESSES} says", one.said)
    for name in ("confidence", "max_lit", "ood_level"):
        if name not in config:
            found.lack(CONFIG, f"{name} is missing")
            continue
        asked = config[name]
        if asked == AUTO:
            continue  # what that comes to takes the data (`fit_judges`)
        if name == "max_lit" and asked is None:
            # a gate is asked for as many lit features as it is proved shut for
            asked = config.get("k", None if shape is None else default_max_lit(shape))
        if asked is not None and any(differences(asked, want[name])):
            found.wrong(VERDICT, f"conditions.{name}", want[name], f"{CONFIG} says", asked)
    found.record |= {"verdict": folder.verdict["verdict"], "conditions": want}
    try:
        conditions = Conditions(*(want[f.name] for f in fields(Conditions)))
    except ArgumentError as error:
        found.fail(VERDICT, "conditions", error)
        return None
    sure, sparse = f"confidence >= {conditions.confidence:g}", f"{conditions.max_lit} lit features"
    unusual = f"out of distribution at {conditions.ood_level:g}"
    found.facts.append(f"conditions: {sure}, at most {sparse}, {unusual}")
    return conditions


def check_allocation(folder: Folder, want: Conditions, targets: Sequence[int] | None) -> None:
    """Every class has as many attempts as the preset gives it, and each attempt says which
    conditions it violates. targets: the classes that have images; None where nobody can tell."""
    found, attempts, classes = folder.found, folder.attempts, len(folder.verdict["classes"])
    counts = [0] * classes
    for i, attempt in enumerate(attempts):
        if attempt.target >= classes:
            words = f"target {attempt.target} is none of {classes} classes"
            found.fail(ATTEMPTS, f"attempt {i}", words)
            return
        counts[attempt.target] += 1
    preset = folder.config.get("preset", folder.config.get("audit_preset"))
    known = PRESETS.get(preset) if isinstance(preset, str) else None
    if preset is None:
        found.lack(CONFIG, "preset is missing")
    elif known is None:
        found.fail(CONFIG, f"preset is {value(preset)}")
    if targets is None:
        targets = [target for target, count in enumerate(counts) if count]
        if len(targets) < classes:
            without = next(target for target, count in enumerate(counts) if not count)
            words = "has no attempts, as a class without images, which the data would show"
            found.not_at_hand(f"class {without} {words}")
    many = max(1, len(targets))
    each = max(counts, default=0) if known is None else known.for_targets(many)
    wanted = [each if target in targets else 0 for target in range(classes)]
    wrong = [target for target in range(classes) if counts[target] != wanted[target]]
    if wrong:
        has = f"class {wrong[0]} has {counts[wrong[0]]} attempts"
        found.fail(ATTEMPTS, f"{has}, by the fixed allocation it has {wanted[wrong[0]]}")
    if any(a.target > b.target for a, b in pairwise(attempts)):
        found.fail(ATTEMPTS, "attempts are not in the order of their targets")
    for i, (attempt, record) in enumerate(zip(attempts, folder.records, strict=True)):
        which, violated = f"attempt {i}: violated", attempt.violates(want)
        said = record.get("violated", violated)
        found.compare(ATTEMPTS, which, said, "by its numbers it is", violated)
        if attempt.fooled and violated:
            words = f"is called fooled and violates {', '.join(violated)}"
            found.fail(ATTEMPTS, f"attempt {i}", words)
    known_fields = set(AttemptLine.__struct_fields__)
    missing = {name for each in folder.records for name in known_fields.difference(each)}
    if missing:
        found.lack(ATTEMPTS, f"{', '.join(sorted(missing))} missing")


def derive(folder: Folder, extra: Sequence[Attempt], want: Conditions, proof: Proof | None) -> None:
    """Judge again, and compare every figure of `verdict.json` and `metrics.jsonl`. extra: witnesses
    outside the fixed allocation."""
    found, verdict = folder.found, folder.verdict
    evidence = judging.recheck.evidence_again(verdict, want, folder.attempts, extra, proof)
    findings = judging.run_checks(evidence)
    if verdict.get("controls") is None:
        found.lack(VERDICT, "controls is missing: whether the checks passed cannot be derived")
        said = {one.get("code"): one["status"] for one in verdict["checks"]}
        findings = tuple(replace(f, status=said.get(f.code, f.status)) for f in findings)
    try:
        word = judging.judge(evidence, findings)
    except RuntimeError as error:  # certificate and search contradict each other
        found.fail(VERDICT, error)
        return
    again = judging.verdict_json(evidence, findings, judging.Verdict(word))
    found.differ(VERDICT, judging.recheck.figure_differences(verdict, again, extra))
    found.differ(VERDICT, judging.recheck.check_differences(verdict["checks"], findings))
    for one in judging.recheck.text_differences(verdict["checks"], findings):
        words = f"{one.field} is {value(one.said)}, this version says {value(one.derived)}"
        found.lack(VERDICT, words)
    if verdict.get("controls") is not None:
        for sentence in judging.recheck.inconsistent(verdict, evidence, findings):
            found.fail(VERDICT, sentence)
    _check_metrics(folder, again)
    if found.failures:
        return
    tried = f"{len(folder.attempts)} attempts, {len(extra)} witnesses outside them"
    checks = f"{len(verdict['checks'])} checks"
    found.facts.append(f"verdict: {word}, derived anew from {tried} and {checks}")
    if word in (judging.Verdict.RESISTED, judging.Verdict.INCONCLUSIVE):
        rests = "what was not found rests on the recorded attempts and controls"
        found.facts.append(f"{rests}, and can only be repeated by running the audit again")


def _check_metrics(folder: Folder, again: dict[str, Any]) -> None:
    """The records of the audit in `metrics.jsonl` repeat the verdict's figures."""
    found, wanted = folder.found, audit_records(again)
    records = [r for r in folder.run.read_lines(METRICS) if isinstance(r, dict)]
    said = [r for r in records if str(r.get("kind", "")).startswith("audit")]
    if not said:
        found.not_at_hand(f"{METRICS}: has no record of the audit")
        return
    found.compare(METRICS, "the number of records of the audit", len(said), ANEW, len(wanted))
    for one, other in zip(said, wanted, strict=False):
        which = f"target {one['target']}: " if "target" in one else ""
        for each in differences(one, other):
            found.wrong(METRICS, f"{which}{each.field}", each.said, ANEW, each.derived)


def check_real(folder: Folder, subject: Subject, data: Data) -> None:
    """How the network does on real test images, measured again."""
    asked = (len(data.classes), subject.want.confidence, subject.form)
    real = evaluate(subject.classifier, data.test, *asked)
    measured = (real.accuracy, real.confident, real.taken_for_fake, real.renormalised_confident)
    for name, again in zip(judging.recheck.REAL, measured, strict=True):
        said = folder.verdict.get(name, again)
        if not abs(said - again) <= CLOSE:
            folder.found.wrong(VERDICT, name, said, "measured again it is", again)
    black = folder.verdict.get("black")
    if black is not None and not judging.recheck.unsteady(folder.verdict["checks"]):
        dark = black_of(subject.classifier, subject.form, data)
        now = asdict(dark) if dark is not None else {"target": None, "confidence": nan}
        other = black["confident"] and black["target"] != now["target"]
        if other or not abs(black["confidence"] - now["confidence"]) <= CLOSE:
            folder.found.wrong(VERDICT, "black", black, "measured again it is", now)
    right = f"{real.accuracy:.2%} right, {real.confident:.2%} right and confident"
    folder.found.facts.append(f"real test images, measured again: {right}")


Judges = dict[str, judging.OODTest]
"""The tests, fitted again on the data at hand, by the names of their p-values; those whose scores
this version knows."""
FAMILIES = {
    "ood_p": ("scores", judging.FIRST),
    "second_p": ("second_scores", judging.SECOND),
    "odd_p": ("odd_scores", judging.ODD),
}


def fit_judges(folder: Folder, want: Conditions, data: Data | None) -> Judges:
    """The out-of-distribution tests, where the data are at hand and the folder names the scores of
    this version. What the folder says of the first one is checked."""
    found, ood = folder.found, folder.verdict.get("out_of_distribution_test")
    if data is None:
        return {}
    if ood is None:
        words = "is missing: p-values were taken from the file, not checked"
        found.lack(VERDICT, f"out_of_distribution_test {words}")
        return {}
    names = ood.get("scores")
    if folder.stored is not None and folder.stored.said("ood_scores") != names:
        found.fail(WITNESSES, f"ood_scores is not what {VERDICT} says")
    _check_level(folder, ood, want, data)
    known: Judges = {}
    for p_value, (field, scores) in FAMILIES.items():
        try:
            test = ood_test(data, want.ood_level, scores)
        except DataError as error:
            found.fail(VERDICT, "conditions.ood_level", error)
            return {}
        if ood.get(field) == list(test.names):
            known[p_value] = test
        elif field == "scores":
            other = "they are of other scores than this version has"
            found.not_at_hand(f"p-values were taken from the file, not checked: {other}")
        else:
            words = f"{field} are not those of this version"
            found.lack(VERDICT, f"out_of_distribution_test.{words}")
    if "ood_p" in known:
        _check_test(folder, ood, known["ood_p"], data)
    return known


def _check_level(folder: Folder, ood: Mapping[str, Any], want: Conditions, data: Data) -> None:
    """A level that the data chose is theirs, and was not asked for."""
    chosen, asked = ood.get("level_chosen"), folder.config.get("ood_level")
    if asked is not None and chosen is not None and (asked == AUTO) != (chosen == AUTO):
        name = "out_of_distribution_test.level_chosen"
        folder.found.wrong(VERDICT, name, chosen, f"ood_level in {CONFIG} is", asked)
    if chosen == AUTO or asked == AUTO:
        level, words = level_of(data), "the data carry"
        folder.found.compare(VERDICT, "conditions.ood_level", want.ood_level, words, level)


def _check_test(folder: Folder, ood: Mapping[str, Any], test: judging.OODTest, data: Data) -> None:
    """What the folder says of the test, and its false alarms, counted again."""
    real = data.test.sample(ALARMS_AMONG, 0).images
    alarms = int((test.p_values(real) <= test.level).sum())
    again = {"guarantee": test.guarantee, "smallest_p": test.smallest_p}
    again |= {"real_images": len(real), "calibration_images": test.calibrating}
    said, name = {k: ood[k] for k in again if k in ood}, "out_of_distribution_test"
    folder.found.differ(VERDICT, differences(said, again, name))
    if abs(ood["false_alarms"] - alarms) > max(1, FEW_ALARMS * len(real)):
        words = "counted again it is"
        folder.found.wrong(VERDICT, f"{name}.false_alarms", ood["false_alarms"], words, alarms)
