"""Verify derives a run folder anew: whatever is changed in one is noticed, and what is whole is
confirmed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from helpers import SURE, TRUSTED
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

import blankcheck as bc
from blankcheck.api import audit, reopen
from blankcheck.auditing import Twin, ood_test
from blankcheck.auditing.controls import stronger_search
from blankcheck.auditing.portfolio import PRESETS, Preset
from blankcheck.certifying import Gated, gate_network
from blankcheck.certifying.certificate import certify, levels_again
from blankcheck.classifiers import UnitClassifier, probabilities
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.cli.main import main
from blankcheck.data import Split
from blankcheck.errors import RunFolderError
from blankcheck.judging.recheck import differences
from blankcheck.judging.verdict import level_why
from blankcheck.runs import witnesses
from blankcheck.runs.gate_file import GATE, gate_bytes
from blankcheck.runs.witnesses import data_fingerprint, unpack
from blankcheck.verifying import certificate as proof
from blankcheck.verifying import record as judging_again

NETS = """
import torch
from torch import nn

def linear(scale):
    torch.manual_seed(0)
    layer = nn.Linear(64, 10)
    with torch.no_grad():
        layer.weight.mul_(scale)
        layer.bias.zero_()
    return nn.Sequential(nn.Flatten(), layer)

def make(): return linear(8.0)
def other(): return linear(8.5)
"""


def once(function, key):
    """The same function, which works once for all calls with one key."""
    known = {}

    def call(*given):
        said = key(*given)
        known[said] = known[said] if said in known else function(*given)
        return known[said]

    return call


@pytest.fixture(scope="module", autouse=True)
def quick(plain):
    """Small audits, of which verify knows the size. What takes long and does not matter here is
    done once: loading data, fitting tests, proving, training twins."""
    twin = Twin(plain, "logits", "a plain twin")
    loaded = once(lambda source, folder: bc.load_data(source), lambda *given: given)
    fitted = once(ood_test, lambda data, level, family: (data.fingerprint, level, family))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "get_twins", lambda *given: iter([twin]))
        patch.setitem(PRESETS, "smoke", Preset(attempts=20, per_target=2, steps=30))
        patch.setattr(stronger_search, "MAX_STEPS", 30)  # a twin that resists is not asked longer
        patch.setattr(reopen, "load_data", loaded)
        patch.setattr(judging_again, "ood_test", fitted)
        for name in ("confirm", "levels_again"):
            proved = once(getattr(proof, name), lambda made, net: (repr(made), fingerprint(net)))
            patch.setattr(proof, name, proved)
        yield


@pytest.fixture(scope="module")
def nets(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("nets") / "nets.py"
    path.write_text(NETS + SURE)
    return path


@pytest.fixture(scope="module")
def audited(weights, tmp_path_factory) -> Path:
    """FOOLED, in every attempt."""
    out = tmp_path_factory.mktemp("runs") / "audit"
    assert main(f"audit --weights {weights} --preset smoke --out {out} --quiet".split()) == 10
    return out


@pytest.fixture(scope="module")
def certified(nets, tmp_path_factory) -> Path:
    """Nothing found, and something proved."""
    out = tmp_path_factory.mktemp("runs") / "cert"
    given = f"--data digits+lift=0.5 --model {nets}:sure --audit-preset smoke --max-lit 3 --quiet"
    assert main(f"certify {given} --out {out}".split()) == 0
    return out


class Folder:
    """A copy of a run folder, to be changed."""

    def __init__(self, base: Path, path: Path) -> None:
        shutil.copytree(base, path)
        self.path = path

    def edit(self, name: str, change) -> None:
        value = json.loads((self.path / name).read_text())
        change(value)
        (self.path / name).write_text(json.dumps(value))

    def lines(self, name: str, change) -> None:
        records = [json.loads(line) for line in (self.path / name).read_text().splitlines()]
        records = change(records) or records
        (self.path / name).write_text("".join(json.dumps(r) + "\n" for r in records))

    def config(self, **changed) -> None:
        said = yaml.safe_load((self.path / "config.yaml").read_text()) | changed
        (self.path / "config.yaml").write_text(
            yaml.safe_dump({k: v for k, v in said.items() if v != "gone"})
        )

    def witnesses(self, change=lambda tensors: None, **metadata) -> None:
        path = self.path / "witnesses.safetensors"
        with safe_open(path, "pt") as file:
            said = file.metadata() | metadata
        tensors = load_file(path)
        tensors = change(tensors) or tensors
        said = {k: v for k, v in said.items() if v is not None}
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=said)

    def misses(self, change) -> None:
        path = self.path / "misses.safetensors"
        tensors = load_file(path)
        tensors = change(tensors) or tensors
        save_file({k: v.contiguous() for k, v in tensors.items()}, path)

    def both(self, change) -> None:
        """In `certificate.json` and in what `verdict.json` says of it."""
        self.edit("certificate.json", change)
        self.edit("verdict.json", lambda v: change(v["certificate"]))


@pytest.fixture
def folder(audited, tmp_path) -> Folder:
    return Folder(audited, tmp_path / "copy")


@pytest.fixture
def proved(certified, tmp_path) -> Folder:
    return Folder(certified, tmp_path / "copy")


def told(capsys, path: Path, *more: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["verify", str(path), *more])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_a_whole_audit_is_confirmed_and_what_it_is_of_is_said(
    audited, weights, digits, plain, capsys
):
    code, said = told(capsys, audited)
    assert code == 0 and said.startswith("CONFIRMED  ")
    assert f"data: digits, fingerprint {digits.fingerprint}" in said and fingerprint(plain) in said
    assert "conditions: confidence >= 0.9, at most 12 lit features, out of distr" in said
    assert "verdict: FOOLED, derived anew from 20 attempts" in said
    code, said = told(capsys, audited, "--json")
    record = json.loads(said)
    assert (code, record["failures"], record["not_confirmed"]) == (0, [], [])
    assert record["same_network"] and record["network"] == fingerprint(plain)
    assert record["data_fingerprint"] == digits.fingerprint


def test_a_whole_certificate_is_confirmed(certified, nets, capsys):
    code, said = told(capsys, certified, "--model", f"{nets}:sure")
    assert code == 0 and "certificate: proved again for all 10 classes" in said
    assert "10 nearest misses: each the closest of its class" in said


def test_scores_of_ones_own_are_confirmed_in_part(plain, digits, tmp_path, capsys):
    def fit(real):
        return lambda images: images.mean(dim=(1, 2, 3))[:, None]

    bc.audit(
        plain, digits, preset="smoke", scores=(*bc.FIRST, bc.Score(("brightness",), fit))
    ).save(tmp_path / "own")
    code, said = told(capsys, tmp_path / "own")
    assert code == 13 and said.startswith("CONFIRMED IN PART") and "other scores" in said


def test_an_audit_from_python_is_confirmed_with_its_data(plain, digits, tmp_path, capsys):
    arrays = {
        f"{kind}_{name}": getattr(getattr(digits, name), what).numpy().copy()
        for name in ("train", "test")
        for kind, what in (("x", "images"), ("y", "labels"))
    }
    np.savez(tmp_path / "d.npz", **arrays)
    data = bc.load_data(f"npz:{tmp_path / 'd.npz'}")
    bc.audit(plain, data, preset="smoke").save(tmp_path / "own")
    shutil.move(tmp_path / "d.npz", tmp_path / "moved.npz")
    code, said = told(capsys, tmp_path / "own")
    assert code == 13 and "p-values were taken from the file" in said
    assert "name it with --data" in said
    assert told(capsys, tmp_path / "own", "--data", f"npz:{tmp_path / 'moved.npz'}")[0] == 0
    arrays["x_train"][0, 0, 3, 3] = 0.5
    np.savez(tmp_path / "other.npz", **arrays)
    code, said = told(capsys, tmp_path / "own", "--data", f"npz:{tmp_path / 'other.npz'}")
    assert code == 12 and "data_fingerprint" in said


def test_older_folders_are_confirmed_in_part_and_what_they_lack_is_named(folder, capsys):
    later = ("nearest", "process", "seed", "step", "attempt", "extra", "survives_8bit")
    folder.witnesses(
        lambda t: {k: v for k, v in t.items() if k not in later},
        conditions=None,
        data=None,
        data_fingerprint=None,
    )
    (folder.path / "misses.safetensors").unlink()
    folder.edit("verdict.json", lambda v: v.pop("controls"))
    folder.lines("attempts.jsonl", lambda rows: [r.pop("second_p") for r in rows] and None)
    folder.edit(
        "verdict.json", lambda v: v["second_opinion"].update(attempts=0, fooled=0, rate=None)
    )
    code, said = told(capsys, folder.path, "--json")
    assert code == 13, said
    lacking = json.loads(said)["not_confirmed"]
    names = ("conditions, data, data_fingerprint", "nearest", "controls", "second_p", "misses")
    for name in names:
        assert any(name in each for each in lacking), name


def test_a_level_that_was_asked_for_is_not_called_that_of_the_data(
    weights, digits, plain, tmp_path, capsys
):
    """A higher level finds more. The data of `digits` carry 0.01 and no other."""
    given = f"audit --weights {weights} --preset smoke --ood-level 0.05 --quiet"
    assert main([*given.split(), "--out", str(tmp_path / "given")]) == 10
    code, said = told(capsys, tmp_path / "given")
    assert code == 0, said
    test = json.loads((tmp_path / "given" / "verdict.json").read_text())["out_of_distribution_test"]
    assert (test["level_chosen"], test["level_why"]) == ("given", "0.05 was asked for.")
    folder = Folder(tmp_path / "given", tmp_path / "copy")
    folder.config(ood_level="auto")
    code, said = told(capsys, folder.path)
    assert code == 12 and "level_chosen is 'given', ood_level in config.yaml is 'auto'" in said
    assert "conditions.ood_level is 0.05, the data carry 0.01" in said
    few = level_why(
        replace(TRUSTED, level_chosen="auto", calibration_images=test["calibration_images"]), 0.05
    )
    folder.edit(
        "verdict.json", within("out_of_distribution_test", level_chosen="auto", level_why=few)
    )
    code, said = told(capsys, folder.path, "--json")
    failures = json.loads(said)["failures"]
    assert code == 12 and len(failures) == 1, failures
    assert "conditions.ood_level is 0.05, the data carry 0.01" in failures[0]


def test_nothing_found_is_said_to_rest_on_the_record(proved, nets, capsys):
    (proved.path / "certificate.json").unlink()
    proved.edit("environment.json", lambda v: v.update(command="audit"))
    proved.edit("verdict.json", lambda v: v.update(verdict="INCONCLUSIVE", certificate=None))
    code, said = told(capsys, proved.path, "--model", f"{nets}:sure")
    assert code == 0 and "rests on the recorded attempts" in said
    assert "holds no witness that could be scored again" in said and "0 of 0" not in said
    proved.edit("verdict.json", lambda v: v.update(verdict="RESISTED"))
    code, said = told(capsys, proved.path, "--model", f"{nets}:sure")
    assert code == 12 and "verdict is 'RESISTED', derived anew it is 'INCONCLUSIVE'" in said


def images(value):
    """A change of the stored images that takes one and gives it."""

    def change(tensors):
        tensors["images"] = value(tensors["images"])

    return change


def column(name, value):
    def change(tensors):
        tensors[name] = value(tensors[name])

    return change


def rows(keep):
    return lambda tensors: {name: tensor[keep(len(tensor))] for name, tensor in tensors.items()}


def say(**changed):
    return lambda v: v.update(**changed)


def within(key, **changed):
    return lambda v: v[key].update(**changed)


def check(code, **changed):
    return lambda v: next(c for c in v["checks"] if c["code"] == code).update(**changed)


def attempt(i, **changed):
    return lambda records: records[i].update(**changed)


def _bright(t):
    t["confidence"][4] += 0.01


def edits(name):
    return lambda change: lambda f: f.edit(name, change)


verdict, certificate = edits("verdict.json"), edits("certificate.json")
environment = edits("environment.json")


def attempts(change):
    return lambda f: f.lines("attempts.jsonl", change)


def stored(change=lambda tensors: None, **metadata):
    return lambda f: f.witnesses(change, **metadata)


def gone(name):
    return lambda f: (f.path / name).unlink()


def both(change):
    return lambda f: f.both(change)


def config(**changed):
    return lambda f: f.config(**changed)


WORDS = {"unit": "features", "means": "certified", "fingerprint": "0"}
NUMBERS = {"k": [64] * 10, "probability": [0.1] * 10, "found": [None] * 10, "smallest": 64}
CLAIM = {**NUMBERS, **WORDS, "confidence": 0.9, "seconds": 1.0}
OF_VERDICT = {
    "another word": (say(verdict="RESISTED"), "verdict is 'RESISTED', derived anew it is 'FOOL"),
    "no such word": (say(verdict="FINE"), "verdict has an invalid value 'FINE'"),
    "confidence of 1e-9": (within("conditions", confidence=1e-09), "conditions.confidence"),
    "a level of 1e-9": (within("conditions", ood_level=1e-09), "conditions.ood_level"),
    "a confidence above 1": (within("conditions", confidence=1.5), "conditions.confidence"),
    "max_lit": (within("conditions", max_lit=64), "conditions.max_lit is 64"),
    "a huge max_lit": (within("conditions", max_lit=10**18), "conditions.max_lit is"),
    "the unit": (within("conditions", unit="pixels"), "conditions.unit"),
    "a rate": (say(rate=0.5), "rate is 0.5, derived anew it is 1"),
    "a bound": (say(rate_upper_95=0.99), "rate_upper_95"),
    "a count": (say(attempts=10), "attempts is 10, derived anew it is 20"),
    "true for a number": (say(min_lit=True), "min_lit must be"),
    "a class": (lambda v: v["targets"]["3"].update(fooled=0), "targets.3.fooled"),
    "no class": (lambda v: v["targets"].pop("3"), "targets.3 is missing"),
    "a curve": (lambda v: v["lit_curve"]["fooled"].reverse(), "lit_curve.fooled"),
    "a second opinion": (within("second_opinion", fooled=0), "second_opinion.fooled"),
    "a process": (lambda v: v["processes"]["black/exchange"].update(fooled=1), "processes."),
    "witnesses outside": (within("extra", fooled=3, min_lit=1), "extra.fooled is 3"),
    "8 bits in all": (within("eight_bit", survive=0), "eight_bit.survive"),
    "names of classes": (say(classes=["x"] * 10), "classes are not those of the data"),
    "real accuracy": (say(real_accuracy=0.999), "real_accuracy is 0.999, measured again"),
    "real confidence": (say(real_confident=0.9), "real_confident is 0.9, measured again"),
    "false alarms": (within("out_of_distribution_test", false_alarms=90), "false_alarms is 90"),
    "a guarantee": (within("out_of_distribution_test", guarantee="sure"), "guarantee is 'sure'"),
    "no test": (say(out_of_distribution_test=None), "out_of_distribution_test"),
    "who chose the level": (
        within("out_of_distribution_test", level_chosen="given"),
        "level_chosen is 'given', ood_level in config.yaml is 'auto'",
    ),
    "nobody chose the level": (
        within("out_of_distribution_test", level_chosen="me"),
        "level_chosen has an invalid value 'me'",
    ),
    "the level of the test": (
        within("out_of_distribution_test", level=0.05),
        "out_of_distribution_test.level is 0.05, derived anew it is 0.01",
    ),
    "why the level": (within("out_of_distribution_test", level_why="so."), "level_why is 'so.'"),
    "a smallest p-value of 0": (within("out_of_distribution_test", smallest_p=0.0), "smallest_p"),
    "a rate by level": (lambda v: v["by_level"]["0.05"].update(fooled=0), "by_level.0.05.fooled"),
    "a level less": (lambda v: v["by_level"].pop("0.01"), "by_level.0.01 is missing"),
    "a level more": (
        lambda v: v["by_level"].update({"0.5": {"fooled": 20, "rate": 1.0}}),
        "by_level.0.5 is nothing",
    ),
    "what is odd": (within("odd_in_any_way", fooled=0), "odd_in_any_way.fooled"),
    "what is odd for whom": (
        within("out_of_distribution_test", odd_scores=["mine"]),
        "odd_scores are not those of this version",
    ),
    "a twin's confidence": (
        lambda v: v["controls"]["positive-control"].update(twin_real_confident=1.0),
        "real-confident: status",
    ),
    "a status": (check("positive-control", status="failed"), "positive-control: status"),
    "not mandatory": (check("more-steps", mandatory=False), "more-steps: mandatory"),
    "a sentence": (check("saturation", finding="All is well."), "saturation: finding"),
    "a twin's praise": (within("notes", twin="a strong twin"), "notes.twin"),
    "a check removed": (lambda v: v["checks"].pop(), "checks: "),
    "a check twice": (lambda v: v["checks"].append(v["checks"][-1]), "is '2 findings'"),
    "a check of one's own": (
        lambda v: v["checks"].append({**v["checks"][0], "code": "x"}),
        "checks: x",
    ),
    "a control": (lambda v: v["controls"]["repeatable"].update(found=3), "repeatable: status"),
    "more than all": (lambda v: v["controls"]["unbounded"].update(found=99), "found 99 of"),
    "a control removed": (
        lambda v: v["controls"].pop("gradient-health"),
        "gradient-health is missing",
    ),
    "all controls removed": (lambda v: v.pop("controls"), "controls is missing"),
    "a control that found": (
        lambda v: v["controls"].update({"transfer": {"found": 2, "tries": 9}}),
        "transfer found 2, but 0 such witnesses",
    ),
    "a twin": (lambda v: v["twin"].update(attempts=41), "twin"),
    "a field of one's own": (say(audited_by="me"), "audited_by is nothing"),
    "a certificate": (say(certificate=CLAIM), "certificate.json: is missing"),
}
OF_STORED = {
    "emptied": (rows(lambda n: slice(0)), "attempt 0 fooled by attempts.jsonl, but has no witness"),
    "a row removed": (rows(lambda n: slice(1, n)), "attempt 0 fooled"),
    "a row twice": (rows(lambda n: torch.tensor([0, *range(n)])), "as witness 0 is"),
    "a black image": (
        images(lambda x: x * (torch.arange(len(x)) != 3).view(-1, 1, 1, 1)),
        "witness 3: confidence is",
    ),
    "bool images": (images(lambda x: x > 0), "images must be float32"),
    "double images": (images(lambda x: x.double()), "images must be float32"),
    "flat images": (images(lambda x: x.flatten(1)), "images must be (n, channels, height, width)"),
    "images not stored": (images(lambda x: x + 0.001 * (x == 0)), "stored form"),
    "images of NaN": (images(lambda x: x * float("nan")), "images: values outside [0, 1]"),
    "square confidence": (
        column("confidence", lambda c: c.expand(len(c), -1)),
        "confidence must be float32 (20,), got float32 (20, 20)",
    ),
    "lit of two": (column("lit", lambda c: c[:, None].expand(-1, 2)), "lit must be int64 (20,)"),
    "short targets": (column("targets", lambda c: c[:-1]), "targets must be int64 (20,)"),
    "whole extra": (column("extra", lambda c: c.long()), "extra must be bool"),
    "an unknown tensor": (lambda t: t | {"more": torch.zeros(1)}, "unknown tensor 'more'"),
    "a column removed": (lambda t: t.pop("attempt") is None or None, "attempt is missing"),
    "a confidence": (_bright, "witness 4: confidence"),
    "a target": (column("targets", lambda c: (c + (torch.arange(len(c)) == 2)) % 10), "witness 2:"),
    "a target beyond": (column("targets", lambda c: c + 10), "targets must lie in 0..9"),
    "a p-value": (column("ood_p", lambda c: c * 0 + 1e-05), "witness 0: ood_p"),
    "8 bits": (column("survives_8bit", lambda c: ~c), "survives_8bit"),
    "the nearest": (column("nearest", lambda c: c.flip(0)), "nearest is not the real image"),
    "a scaled nearest": (column("nearest", lambda c: c * 0.5), "nearest is not the real image"),
    "the process": (column("process", lambda c: c + 90), "has no name"),
    "the step": (column("step", lambda c: c + 1), "witness 0: step is"),
    "the seed": (column("seed", lambda c: c + 1), "seed is 1, config.yaml says 0"),
    "whose attempt": (column("attempt", lambda c: c.flip(0)), "attempts.jsonl says"),
    "called extra": (column("extra", lambda c: ~c), "but has no witness"),
}
OF_ATTEMPTS = {
    "an attempt less": (lambda r: r[:-1], "by the fixed allocation it has 2"),
    "an attempt of each class less": (lambda r: r[::2], "by the fixed allocation"),
    "attempts mixed": (lambda r: r[::-1], "order of their targets"),
    "not fooled": (attempt(5, fooled=False), "attempt 5 meets all three conditions"),
    "not confident": (attempt(5, confidence=0.2), "is called fooled and violates confident"),
    "another p-value": (attempt(5, ood_p=0.005), "is none that the test gives"),
    "another second p-value": (attempt(5, second_p=1.0), "attempt 5: second_p is 1"),
    "another odd p-value": (attempt(5, odd_p=0.005), "is none that the test gives"),
    "the odd p-value of another": (attempt(5, odd_p=1.0), "attempt 5: odd_p is 1"),
    "violated": (attempt(5, violated=["sparse"]), "attempt 5: violated"),
    "a target of none": (attempt(19, target=77), "target 77 is none of 10"),
    "text for a number": (attempt(5, second_p="0"), "second_p must be"),
}
TAMPERED = {
    "missing": (gone("witnesses.safetensors"), "witnesses.safetensors: is missing"),
    "unreadable": (
        lambda f: (f.path / "witnesses.safetensors").write_bytes(b"no"),
        "not a readable witness file",
    ),
    "process names": (stored(processes=json.dumps(["mine"] * 30)), "process is mine"),
    "the output form": (stored(output_form="probabilities"), "output_form is 'probabilities'"),
    "the fingerprint": (stored(fingerprint="0" * 16), "its fingerprint differs"),
    "scores renamed": (stored(ood_scores='["mine"]'), "ood_scores is not what verdict.json says"),
    "conditions in the witness file": (stored(conditions='{"confidence": 0.9}'), "conditions"),
    "conditions that are not JSON": (stored(conditions="{"), "conditions"),
    "the data fingerprint": (stored(data_fingerprint="0" * 16), "data_fingerprint is"),
    "the data fingerprint removed": (
        stored(data_fingerprint=None),
        "does not say data_fingerprint",
    ),
    "the data source": (stored(data="mnist"), "config.yaml says 'digits'"),
    "no attempts": (gone("attempts.jsonl"), "attempts.jsonl: is missing"),
    "config: confidence": (config(confidence=1e-09), "config.yaml says 1e-09"),
    "config: max_lit": (config(max_lit=64), "config.yaml says 64"),
    "config: no level": (config(ood_level="gone"), "config.yaml: ood_level is missing"),
    "config: a level of its own": (config(ood_level=0.05), "config.yaml says 0.05"),
    "config: the same level, asked for": (
        config(ood_level=0.01),
        "level_chosen is 'auto', ood_level in config.yaml is 0.01",
    ),
    "config: other data": (config(data="digits+lift"), "data_fingerprint"),
    "config: no data": (config(data="npz:nowhere.npz"), "config.yaml says 'npz:nowhere.npz'"),
    "config: a table for data": (config(data={"a": [1]}), "data is 'digits', config.yaml says ''"),
    "config: preset": (config(preset="proof"), "by the fixed allocation it has 500"),
    "config removed": (gone("config.yaml"), "config.yaml: is missing"),
    "metrics": (
        lambda f: f.lines("metrics.jsonl", lambda r: r[-1].update(fooled=0)),
        "target 9: fooled is 0",
    ),
    "a command without verdict": (environment(say(command="train")), "command is 'train'"),
    "a command with a certificate": (environment(say(command="gate")), "a run of gate ends with"),
    "no network": (gone("model.safetensors"), "model.safetensors"),
    **{name: (verdict(change), words) for name, (change, words) in OF_VERDICT.items()},
    **{name: (stored(change), words) for name, (change, words) in OF_STORED.items()},
    **{name: (attempts(change), words) for name, (change, words) in OF_ATTEMPTS.items()},
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_change_is_not_confirmed_and_named(folder, weights, capsys, name):
    change, words = TAMPERED[name]
    change(folder)
    named = ["--model", "mlp", "--weights", str(weights)] if name == "config removed" else []
    code, said = told(capsys, folder.path, *named, "--json")
    assert code == 12, said
    record = json.loads(said)
    assert any(words in each for each in record["failures"]), record["failures"]


def _k(f, k):
    f.both(say(k=k))


OF_VERDICTS = {
    "not spoken of": (say(certificate=None), "verdict.json does not speak of it"),
    "k in one file": (lambda v: v["certificate"]["k"].reverse(), "certificate.k is"),
    "unit in one file": (within("certificate", unit="pixels"), "certificate.unit"),
    "found": (within("certificate", found=[64] * 10), "certificate.found"),
}
OF_CERTIFICATES = {
    "a large shape": (say(shape=[1, 300000, 300000]), "got (1, 300000, 300000)"),
    "outputs": (say(outputs=11), "outputs is 11"),
    "steps": (within("settings", slope_steps=10**9), "slope_steps"),
    "fewer steps": (within("settings", slope_steps=0), "slope_steps is 0"),
    "no levels": (say(levels=3), "levels must be"),
    "a short level": (lambda v: v["levels"][0]["log_odds"].pop(), "must have all classes"),
    "a level twice": (
        lambda v: v["levels"].append(v["levels"][-1]),
        "levels must be in order",
    ),
    "a bound": (lambda v: v["levels"][1].update(log_odds=[-9.0] * 10), "proved again"),
    "seconds in one file": (say(seconds=0.0), "certificate.seconds"),
}
OF_BOTHS = {
    "every k one more": (
        lambda v: v.update(k=[k + 1 for k in v["k"]]),
        "does not hold|smallest is",
    ),
    "unit in both": (say(unit="pixels"), "unit is 'pixels', the run's is 'features'"),
    "unit of nothing": (say(unit="furlongs"), "unit or means is unknown"),
    "confidence": (say(confidence=0.99), "confidence is 0.99, the run's is 0.9"),
    "means": (say(means="gate-certified"), "means is 'gate-certified'"),
    "fingerprint": (say(fingerprint="0" * 16), "fingerprint is"),
    "a smaller probability": (lambda v: v.update(probability=[0.1] * 10), "probability is"),
}
CLAIMED = {
    "removed": (gone("certificate.json"), "certificate.json: is missing"),
    "k of 0": (lambda f: _k(f, [0] * 10), "smallest is"),
    "k of null": (lambda f: _k(f, [None] * 10), "smallest is"),
    "k of 0, told well": (
        lambda f: (_k(f, [0] * 10), f.both(say(smallest=0))),
        "verdict is 'CERTIFIED', derived anew",
    ),
    "k below 0": (lambda f: _k(f, [-5] * 10), "k[0] must be int >= 0"),
    "one class": (lambda f: _k(f, [64]), "one entry for each"),
    "called a gate": (environment(say(command="gate")), "a run of gate ends with 'gate-certified'"),
    **{name: (verdict(change), words) for name, (change, words) in OF_VERDICTS.items()},
    **{name: (certificate(change), words) for name, (change, words) in OF_CERTIFICATES.items()},
    **{name: (both(change), words) for name, (change, words) in OF_BOTHS.items()},
}


@pytest.mark.parametrize("name", CLAIMED)
def test_a_claim_that_is_not_proved_is_not_confirmed_and_named(proved, nets, capsys, name):
    change, words = CLAIMED[name]
    change(proved)
    code, said = told(capsys, proved.path, "--model", f"{nets}:sure", "--json")
    assert code == 12, said
    failures = json.loads(said)["failures"]
    assert any(word in each for each in failures for word in words.split("|")), failures


def missed(change):
    return lambda f: f.misses(change)


def _other_attempt(f):
    """A better attempt that nobody made, and the miss is called its image."""
    f.lines("attempts.jsonl", attempt(1, confidence=0.5, violated=["confident"]))
    f.misses(lambda t: t.update(attempt=t["attempt"] + (torch.arange(10) == 0)))


MISSED = {
    "removed": (gone("misses.safetensors"), "misses.safetensors: is missing"),
    "unreadable": (
        lambda f: (f.path / "misses.safetensors").write_bytes(b"no"),
        "misses.safetensors is not a readable",
    ),
    "none": (missed(rows(lambda n: slice(0))), "class 0: the closest attempt of attempts.jsonl is"),
    "one less": (missed(rows(lambda n: slice(1, n))), "class 0: the closest attempt"),
    "one twice": (missed(rows(lambda n: torch.tensor([0, *range(n)]))), "class 0 has two misses"),
    "an image": (missed(images(lambda x: (x + 1 / 3).clamp(max=1))), "miss 0: "),
    "images of others": (missed(images(lambda x: torch.eye(8).expand(x.shape))), "8 lit"),
    "not stored": (missed(images(lambda x: x + 0.001 * (x == 0))), "stored form"),
    "another target": (missed(column("targets", lambda c: c.flip(0))), "miss 0 is of class 9"),
    "another attempt": (
        missed(column("attempt", lambda c: c // 2 * 2 + 1 - c % 2)),
        "class 0: the closest attempt",
    ),
    "an attempt beyond": (missed(column("attempt", lambda c: c + 90)), "is of attempt 9"),
    "a scaled nearest": (missed(column("nearest", lambda c: c * 0.5)), "miss 0: nearest is not"),
    "a claimed attempt": (_other_attempt, "when scored again, attempts.jsonl says 0.5"),
    "a p-value of its attempt": (attempts(attempt(0, odd_p=1.0)), "attempt 0: odd_p is 1"),
    "an unknown tensor": (missed(lambda t: t | {"lit": torch.zeros(1)}), "unknown tensor 'lit'"),
}


@pytest.mark.parametrize("name", MISSED)
def test_a_miss_is_what_its_attempt_says(proved, nets, capsys, name):
    change, words = MISSED[name]
    change(proved)
    code, said = told(capsys, proved.path, "--model", f"{nets}:sure", "--json")
    assert code == 12, said
    failures = json.loads(said)["failures"]
    assert any(words in each for each in failures), failures


def test_a_class_that_was_fooled_has_no_miss(folder, capsys):
    def one(t):
        shown = torch.zeros(1, 1, 8, 8)
        numbers = torch.tensor([0])
        t.update(images=shown, nearest=shown.clone(), targets=numbers, attempt=numbers.clone())

    folder.misses(one)
    code, said = told(capsys, folder.path)
    assert code == 12 and "miss 0 is of attempt 0, which fooled" in said


def test_a_folder_of_another_version_may_lack_misses(proved, nets, capsys):
    (proved.path / "misses.safetensors").unlink()
    proved.edit("environment.json", lambda v: v["packages"].update(blankcheck="0.0.1"))
    code, said = told(capsys, proved.path, "--model", f"{nets}:sure")
    assert code == 13 and "not confirmed: misses.safetensors: is missing" in said


def test_another_network_is_not_the_certified_one(certified, nets, capsys):
    code, said = told(capsys, certified, "--model", f"{nets}:other", "--json")
    assert code == 12 and "its fingerprint differs" in said
    assert "certificate.json: fingerprint is" in said


def test_all_probabilities_are_proved_again(nets, digits):
    network = bc.load_model(f"{nets}:make")
    made = certify(network, digits.shape, 10)
    again = levels_again(made, network)
    assert [(level.k, level.log_odds) for level in again] == [
        (level.k, level.log_odds) for level in made.levels
    ]


def test_a_gate_that_lies_in_another_run_is_not_wrapped(folder, weights, plain, capsys):
    """A gate that is always open, and a form that takes logits for probabilities, raise every
    confidence."""
    gate = gate_network((1, 8, 8), 10)
    with torch.no_grad():
        gate[-1].weight.zero_()
        gate[-1].bias.fill_(30.0)
    gated = UnitClassifier(Gated(plain, gate, "probabilities"))
    (folder.path / GATE).write_bytes(gate_bytes(gated, (1, 8, 8)))
    assert told(capsys, folder.path)[0] == 0, "the audit is what it was, whatever lies beside it"

    def gated_confidence(t):
        t["confidence"] = probabilities(gated, t["images"], "probabilities").gather(
            1, t["targets"][:, None]
        )[:, 0]

    folder.witnesses(gated_confidence, output_form="probabilities", fingerprint=fingerprint(gated))
    code, said = told(capsys, folder.path, "--weights", str(weights))
    assert code == 12 and "its fingerprint differs" in said


def test_failures_beyond_a_few_are_counted(folder, capsys):
    folder.witnesses(rows(lambda n: slice(0)))
    code, said = told(capsys, folder.path)
    lines = said.splitlines()
    assert code == 12 and lines[0].startswith("NOT CONFIRMED  ")
    assert "more" in lines[5] and len(lines) < 20


def test_what_is_no_run_folder_stays_a_mistake(folder, capsys):
    for name in ("verdict.json", "environment.json"):
        (folder.path / name).write_text("{")
        assert told(capsys, folder.path)[0] == 2
    (folder.path / "verdict.json").unlink()
    assert told(capsys, folder.path)[0] == 2


def test_witness_files_are_read_exactly(audited):
    raw = (audited / "witnesses.safetensors").read_bytes()
    tensors = unpack(raw, "w").tensors
    for name, tensor in tensors.items():
        wrong = tensors | {name: tensor.to(torch.float16)}
        with pytest.raises(RunFolderError, match=f"w: {name} must be"):
            unpack(save(wrong), "w")
        with pytest.raises(RunFolderError, match=f"w: {name} must be|shape"):
            unpack(save(tensors | {name: tensor[:, None].contiguous()}), "w")
    for name in ("confidence", "ood_p"):
        for bad in (float("nan"), -0.1, 1.1):
            with pytest.raises(RunFolderError, match=f"w: {name}: values outside"):
                unpack(save(tensors | {name: torch.full_like(tensors[name], bad)}), "w")


def test_data_beyond_memory_are_told_apart_by_a_sample(digits, monkeypatch):
    assert data_fingerprint(digits) == digits.fingerprint
    monkeypatch.setattr(witnesses, "IN_MEMORY", 1000)
    monkeypatch.setattr(witnesses, "SAMPLED", 64 * 100)
    sampled = data_fingerprint(digits)
    assert sampled != digits.fingerprint and sampled == data_fingerprint(digits)
    darker = Split(digits.test.images * 0.5, digits.test.labels)
    assert data_fingerprint(replace(digits, test=darker)) != sampled


def test_plain_values_are_compared_strictly():
    assert not list(differences({"a": [1, {"b": 0.5}]}, {"a": (1, {"b": 0.5 + 1e-9})}))
    for said, derived in (
        (True, 1),
        (1, True),
        ("1", 1),
        (None, 0),
        ([1], [1, 1]),
        (float("nan"), 0.5),
        ({}, []),
    ):
        assert [d.kind for d in differences({"a": said}, {"a": derived})] == ["wrong"], (
            said,
            derived,
        )
    assert {d.kind: d.field for d in differences({"a": {"x": 1}}, {"a": {"y": 1}})} == {
        "missing": "a.y",
        "unknown": "a.x",
    }


NEWER = ("level", "level_why", "level_chosen", "odd_scores", "calibration_images")


def test_a_folder_of_another_version_may_lack_what_this_one_writes(folder, capsys):
    """As one does that knew one kind of score and one level."""

    def gone(verdict):
        for name in NEWER:
            del verdict["out_of_distribution_test"][name]
        for name in ("odd_in_any_way", "by_level"):
            del verdict[name]

    folder.edit("verdict.json", gone)
    folder.lines("attempts.jsonl", lambda rows: [r.pop("odd_p") for r in rows] and None)
    folder.config(ood_level=0.01)
    lacking = [f"out_of_distribution_test.{name} is missing" for name in NEWER]
    lacking += ["odd_in_any_way is missing", "by_level is missing", "odd_p missing"]
    code, said = told(capsys, folder.path, "--json")
    assert code == 12 and "calibration_images is missing" in said
    folder.edit("environment.json", lambda v: v["packages"].update(blankcheck="0.0.1"))
    code, said = told(capsys, folder.path, "--json")
    record = json.loads(said)
    assert code == 13 and not record["failures"], record
    for words in lacking:
        assert any(words in each for each in record["not_confirmed"]), words
    folder.edit("verdict.json", lambda v: v["out_of_distribution_test"].pop("smallest_p"))
    assert told(capsys, folder.path)[0] == 13


def test_a_key_that_stands_twice_is_no_json(folder, capsys):
    path = folder.path / "verdict.json"
    path.write_text(path.read_text().replace('"verdict":', '"verdict": "RESISTED", "verdict":', 1))
    assert main(["verify", str(folder.path)]) == 2
    assert "a key stands twice" in capsys.readouterr().err
