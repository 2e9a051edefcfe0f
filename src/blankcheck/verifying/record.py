"""What the files of a run folder say, derived anew from each other and from the data and the
network at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from blankcheck.api.audit import WITNESSES, audit_records
from blankcheck.auditing import PRESETS
from blankcheck.auditing.gather import ALARMS_AMONG
from blankcheck.classifiers import UnitClassifier, evaluate
from blankcheck.data import Data
from blankcheck.judging import OODTest, Verdict, judge, run_checks, verdict_json
from blankcheck.judging.evidence import Attempt, Proof
from blankcheck.judging.recheck import (
    REAL,
    check_differences,
    differences,
    evidence_again,
    figure_differences,
    inconsistent,
    text_differences,
)
from blankcheck.runs.folder import CONFIG, RunFolder
from blankcheck.runs.schema import ATTEMPT_LATER
from blankcheck.types import Conditions, default_max_lit
from blankcheck.verifying.findings import Findings, value
from blankcheck.verifying.folder import ATTEMPTS, VERDICT, Folder
from blankcheck.verifying.witnesses import Judges

METRICS = "metrics.jsonl"
CLOSE = 1e-3
"""Largest difference of a share of real images that is measured again."""
FEW_ALARMS = 0.002
"""Of real test images: how many more or fewer may be called out of distribution, by rounding; at
least one."""


def check_conditions(found: Findings, folder: Folder, shape: Sequence[int] | None) -> None:
    """`verdict.json`, `config.yaml` and the witness file must speak of the same conditions. shape:
    (c, h, w) of images."""
    want, stored, config = folder.verdict["conditions"], folder.stored, folder.config
    if want["unit"] != "features":
        found.fail(VERDICT, f"conditions.unit is {value(want['unit'])}, which no audit has")
    if stored is not None and "conditions" in stored.metadata:
        for one in differences(stored.said("conditions"), want, "conditions"):
            found.fail(
                VERDICT, f"{one.field} is {value(one.derived)}, {WITNESSES} says {value(one.said)}"
            )
    for name in ("confidence", "max_lit", "ood_level"):
        if name not in config:
            found.lack(CONFIG, f"{name} is missing")
        elif (asked := _asked(config, name, shape)) is not None and any(
            differences(asked, want[name])
        ):
            found.fail(
                VERDICT, f"conditions.{name} is {value(want[name])}, {CONFIG} says {value(asked)}"
            )


def _asked(config: Mapping[str, Any], name: str, shape: Sequence[int] | None) -> Any:
    """What the settings come to; None where that cannot be told."""
    if name != "max_lit" or config[name] is not None:
        return config[name]
    if "k" in config:  # a gate is asked for as many lit features as it is proved shut for
        return config["k"]
    return None if shape is None else default_max_lit(shape)


def check_allocation(found: Findings, folder: Folder, want: Conditions) -> None:
    """Every class has as many attempts as the preset gives it, and each attempt says which
    conditions it violates."""
    attempts, classes = folder.attempts, len(folder.verdict["classes"])
    counts = [0] * classes
    for i, attempt in enumerate(attempts):
        if attempt.target >= classes:
            found.fail(
                ATTEMPTS, f"attempt {i}: target {attempt.target} is none of {classes} classes"
            )
            return
        counts[attempt.target] += 1
    preset = folder.config.get("preset", folder.config.get("audit_preset"))
    known = PRESETS.get(preset) if isinstance(preset, str) else None
    if preset is None:
        found.lack(CONFIG, "preset is missing")
    elif known is None:
        found.fail(CONFIG, f"preset is {value(preset)}")
    wanted = max(counts, default=0) if known is None else known.for_targets(max(1, classes))
    wrong = [target for target, count in enumerate(counts) if count != wanted]
    if wrong:
        found.fail(
            ATTEMPTS,
            f"class {wrong[0]} has {counts[wrong[0]]} attempts, by the fixed allocation it has {wanted}",
        )
    if any(a.target > b.target for a, b in pairwise(attempts)):
        found.fail(ATTEMPTS, "attempts are not in the order of their targets")
    for i, (attempt, record) in enumerate(zip(attempts, folder.records, strict=True)):
        violated = attempt.violates(want)
        if record.get("violated", violated) != violated:
            found.fail(
                ATTEMPTS,
                f"attempt {i}: violated is {value(record['violated'])}, by its numbers it is {violated}",
            )
        if attempt.fooled and violated:
            found.fail(
                ATTEMPTS, f"attempt {i}: is called fooled and violates {', '.join(violated)}"
            )
    missing = sorted(
        {name for record in folder.records for name in ATTEMPT_LATER if name not in record}
    )
    if missing:
        found.lack(ATTEMPTS, f"{', '.join(missing)} missing")


def derive(
    found: Findings, folder: Folder, extra: Sequence[Attempt], want: Conditions, proof: Proof | None
) -> str:
    """Judge again, and compare every figure of `verdict.json` and `metrics.jsonl`.

    Hands back the word that was derived.
    """
    verdict = folder.verdict
    evidence = evidence_again(verdict, want, folder.attempts, extra, proof)
    findings = run_checks(evidence)
    if verdict.get("controls") is None:
        found.lack(VERDICT, "controls is missing: whether the checks passed cannot be derived")
        said = {one.get("code"): one["status"] for one in verdict["checks"]}
        findings = tuple(replace(f, status=said.get(f.code, f.status)) for f in findings)
    try:
        word = str(judge(evidence, findings))
    except RuntimeError as error:  # certificate and search contradict each other
        found.fail(VERDICT, str(error))
        return ""
    again = verdict_json(evidence, findings, Verdict(word))
    found.differ(VERDICT, figure_differences(verdict, again, extra))
    found.differ(VERDICT, check_differences(verdict["checks"], findings))
    for one in text_differences(verdict["checks"], findings):
        found.unknown(
            VERDICT, f"{one.field} is {value(one.said)}, this version says {value(one.derived)}"
        )
    if verdict.get("controls") is not None:
        for sentence in inconsistent(verdict, evidence, findings):
            found.fail(VERDICT, sentence)
    _metrics(found, folder.run, again)
    return word


def _metrics(found: Findings, run: RunFolder, again: dict[str, Any]) -> None:
    """The records of the audit in `metrics.jsonl` repeat the verdict's figures."""
    said = [
        r
        for r in run.read_lines(METRICS)
        if isinstance(r, dict) and str(r.get("kind", "")).startswith("audit")
    ]
    if not said:
        found.not_at_hand(f"{METRICS}: has no record of the audit")
        return
    wanted = audit_records(again)
    if len(said) != len(wanted):
        found.fail(
            METRICS, f"has {len(said)} records of the audit, derived anew there are {len(wanted)}"
        )
    for one, other in zip(said, wanted, strict=False):
        which = f"target {one['target']}: " if "target" in one else ""
        for each in differences(one, other):
            found.fail(
                METRICS,
                f"{which}{each.field} is {value(each.said)}, derived anew it is {value(each.derived)}",
            )


def check_real(
    found: Findings,
    verdict: Mapping[str, Any],
    classifier: UnitClassifier,
    data: Data,
    form: str,
    confidence: float,
) -> None:
    """How the network does on real test images, measured again."""
    real = evaluate(classifier, data.test, len(data.classes), confidence, form)
    measured = (real.accuracy, real.confident, real.taken_for_fake, real.renormalised_confident)
    for name, again in zip(REAL, measured, strict=True):
        if name in verdict and not abs(verdict[name] - again) <= CLOSE:
            found.fail(
                VERDICT, f"{name} is {value(verdict[name])}, measured again it is {value(again)}"
            )
    found.facts.append(
        f"real test images, measured again: {real.accuracy:.2%} right, {real.confident:.2%} right and confident"
    )


def fit_judges(found: Findings, folder: Folder, fit: Callable[[str], OODTest]) -> Judges:
    """The out-of-distribution tests, where the folder names the scores of this version. fit: makes
    one, of its family."""
    ood = folder.verdict.get("out_of_distribution_test")
    if ood is None:
        found.lack(
            VERDICT,
            "out_of_distribution_test is missing: p-values were taken from the file, not checked",
        )
        return Judges()
    names = ood.get("scores")
    if folder.stored is not None and folder.stored.said("ood_scores") != names:
        found.fail(WITNESSES, f"ood_scores is not what {VERDICT} says")
    first, second = fit("first"), fit("second")
    known = names == list(first.names)
    if not known:
        found.not_at_hand(
            "p-values were taken from the file, not checked: they are of other scores than this version has"
        )
    if (others := ood.get("second_scores")) != list(second.names):
        found.unknown(
            VERDICT, "out_of_distribution_test.second_scores are not those of this version"
        )
    return Judges(first if known else None, second if others == list(second.names) else None)


def check_test(found: Findings, verdict: Mapping[str, Any], test: OODTest, data: Data) -> None:
    """What `verdict.json` says of the out-of-distribution test: fitted again, and its false alarms
    counted again."""
    ood = verdict["out_of_distribution_test"]
    real = data.test.sample(ALARMS_AMONG, 0).images
    alarms = int((test.p_values(real) <= test.level).sum())
    again = {
        "guarantee": test.guarantee,
        "smallest_p": test.smallest_p,
        "real_images": len(real),
        "calibration_images": test.calibrating,
    }
    found.differ(
        VERDICT,
        differences({k: ood[k] for k in again if k in ood}, again, "out_of_distribution_test"),
    )
    if abs(ood["false_alarms"] - alarms) > max(1, FEW_ALARMS * len(real)):
        found.fail(
            VERDICT,
            f"out_of_distribution_test.false_alarms is {ood['false_alarms']}, counted again it is {alarms}",
        )
