"""The schema of a run folder: what is written satisfies it, and what does not is one clear line."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest
import torch
from helpers import attempt, evidence

from blankcheck.errors import RunFolderError
from blankcheck.judging import judge, run_checks, verdict_json
from blankcheck.judging.evidence import OnTwin, Proof
from blankcheck.runs.contents import read_run
from blankcheck.runs.folder import MARK, RunFolder
from blankcheck.runs.metrics import KINDS
from blankcheck.runs.schema import AttemptLine, Environment, checked, checked_version
from blankcheck.runs.schema import VerdictFile as Verdict

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def verdict() -> dict:
    """With every part that a verdict may have."""
    proof = Proof((3, None), (0.5, None), 0.9, "features", "certified", "0123", 1.0)
    made = evidence(
        [attempt(True, 9, 0.95, 0.001), attempt(target=1)],
        extra=(attempt(True, 12, 0.99, 0.001),),
        rivals={"pgd": (10, 4, 5)},
        twin=OnTwin("a twin", 40, tuple(range(1, 41))),
        notes={"output_form": "logits"},
        proof=proof,
    )
    findings = run_checks(made)
    said = verdict_json(made, findings, judge(made, findings))
    return json.loads(json.dumps(said))


def unordered(value):
    """A schema without the order of its alternatives, which versions of msgspec choose."""
    if isinstance(value, dict):
        return {key: unordered(each) for key, each in value.items()}
    if isinstance(value, list):
        return sorted(map(unordered, value), key=json.dumps)
    return value


def test_the_documented_schema_is_that_of_the_code():
    said, made = (DOCS / "schema.json").read_text(), runpy.run_path(str(DOCS / "schema.py"))
    assert unordered(json.loads(said)) == unordered(json.loads(made["schema"]()))


def test_what_is_written_satisfies_it_and_lists_no_key_in_vain(verdict):
    assert checked_version(verdict, Verdict, "v").certificate is not None
    assert set(Verdict.__struct_fields__) == set(verdict)
    more = verdict | {"a key of a later version": [1]}
    assert checked_version(more, Verdict, "v").attempts == 2


def test_older_folders_lack_what_came_later(verdict):
    later = "lit_curve second_opinion rivals twin eight_bit out_of_distribution_test controls"
    old = {k: v for k, v in verdict.items() if k not in (*later.split(), "certificate", "notes")}
    del old["real_renormalised_confident"], old["targets"]["0"]["violated"]
    old["checks"] = [{k: v for k, v in c.items() if k != "code"} for c in old["checks"]]
    assert checked_version(old, Verdict, "v").twin is None
    line = {"target": 0, "fooled": True, "process": "x", "lit": 1, "confidence": 1, "ood_p": 0}
    assert checked(line | {"fewest": None}, AttemptLine, "a").confidence == 1.0
    assert checked({}, Environment, "e").command is None


BAD = {
    "schema 2": (dict(schema=2, verdict=7), "v has schema 2, this version reads schema 1"),
    "no schema": (dict(schema="1"), "v: schema must be int, got str"),
    "a bool": (dict(min_lit=True), "v: min_lit must be int | null, got bool"),
    "a real count": (dict(attempts=1.0), "v: attempts must be int, got float"),
    "65 bits": (dict(attempts=2**63), "v: attempts must be int <= 9223372036854775807"),
    "below 0": (dict(fooled=-1), "v: fooled must be int >= 0"),
    "above 1": (dict(real_accuracy=1.5), "v: real_accuracy must be float <= 1.0"),
    "NaN": (dict(rate=float("nan")), "v: rate must be float >= 0.0"),
    "a word": (dict(verdict="\x1b[2JFINE"), r"v: verdict has an invalid value '\x1b[2JFINE'"),
    "a list": (dict(targets=[]), "v: targets must be an object, got array"),
    "a class": (dict(targets={"9" * 5000: {}}), "v: a key of targets must be str matching"),
    "a control": (dict(controls={"x": {"found": 1.5, "tries": 2}}), "v controls: x: found must"),
    "classes": (dict(classes=["a"]), "v certificate must have one entry for each class"),
    "a twin": (dict(twin={"what": "x"}), "v: twin lacks 'attempts'"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_is_one_line_that_names_the_key(name, verdict):
    changed, words = BAD[name]
    with pytest.raises(RunFolderError) as caught:
        checked_version(verdict | changed, Verdict, "v")
    assert str(caught.value).startswith(words) and "\n" not in str(caught.value)


def test_metrics_are_checked_by_kind_and_the_command_line_may_stand_in_the_folder(tmp_path):
    run = RunFolder.create(tmp_path / "x")
    run.begin("train", {}, torch.device("cpu"), ["blankcheck", "train"])
    assert run.read_json(MARK)["command_line"] == ["blankcheck", "train"]
    epoch = {"kind": "epoch", "epoch": 0, "real_loss": 1}
    run.write_lines("metrics.jsonl", [epoch, {"kind": "of another version"}, {"kind": ["epoch"]}])
    assert read_run(run).epochs == (epoch,)
    for kind in KINDS:
        run.write_lines("metrics.jsonl", [epoch, {"kind": kind}])
        with pytest.raises(RunFolderError, match=r"metrics\.jsonl line 2 lacks"):
            read_run(run)
    sets = {"kind": "set", "what": "trained", "round": 1, "images": 0, "fooled": None}
    for wrong, words in ((sets, "lacks 'set_round'"), (sets | {"images": 3}, "fooled must be")):
        run.write_lines("metrics.jsonl", [wrong])
        with pytest.raises(RunFolderError, match=words):
            read_run(run)
