"""The contract: the examples of every command run and leave the files that were promised."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors import safe_open
from torch import nn

import blankcheck as bc
from blankcheck.auditing import PRESETS, Preset
from blankcheck.cli.help import EXAMPLES
from blankcheck.cli.main import main
from blankcheck.data.loading import NAMED

NET = """
from torch import nn
def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
"""
SWEEP = """
base: {data: digits, model: mlp, epochs: 2, rounds: 1, preset: smoke}
search: {lr: {low: 0.001, high: 0.01, log: true}}
"""
ELSEWHERE = ("timm:", "--tracker")
"""Examples with what not every machine has; the tests of those rooms run them."""
EVERY_RUN = {"config.yaml", "environment.json", "metrics.jsonl", "report.html", "report.md"}
AUDITED = EVERY_RUN | {"verdict.json", "witnesses.safetensors", "attempts.jsonl", "figures"}
FILES = {
    "runs/plain": EVERY_RUN | {"model.safetensors"},
    "runs/a": AUDITED,
    "runs/h": AUDITED | {"model.safetensors", "state", "hardening.json"},
    "runs/c": {"config.yaml", "environment.json", "certificate.json", "report.html"},
    "runs/g": {"config.yaml", "environment.json", "gate.safetensors", "certificate.json"},
    "runs/sweep": {"sweep.json"},
}
KEYS = {
    "schema": int,
    "verdict": str,
    "conditions": ("confidence", "max_lit", "ood_level", "unit"),
    "attempts": int,
    "fooled": int,
    "rate": float,
    "rate_upper_95": float,
    "median_lit": (int, float, type(None)),
    "min_lit": (int, type(None)),
    "real_accuracy": float,
    "real_confident": float,
    "real_taken_for_fake": float,
    "sparse_confident": ("fooled", "median_lit", "at_most"),
    "targets": dict,
    "violated": ("sparse", "confident", "out_of_distribution"),
    "processes": dict,
    "checks": list,
    "certificate": (dict, type(None)),
    "cost": ("forward", "backward", "seconds"),
}
"""Of verdict.json: the type of each value, or the keys of a table."""
WITNESSES = {
    "images": torch.float32,
    "targets": torch.int64,
    "confidence": torch.float32,
    "lit": torch.int64,
    "ood_p": torch.float32,
}
CODES = {"doctor": {0, 1}, "audit": {0, 10, 11}, "demo": {0}, "verify": {0, 13}}


@pytest.fixture(scope="module")
def place(tmp_path_factory, digits):
    """A folder with the files that the examples name, and quick ways to train and to search."""
    folder = tmp_path_factory.mktemp("contract")
    (folder / "net.py").write_text(NET)
    (folder / "sweep.yaml").write_text(SWEEP)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small = bc.Data("mnist", digits.classes, digits.train, digits.validation, digits.test)
        patch.setitem(NAMED, "mnist", lambda folders: small)
        for name in ("smoke", "standard"):
            patch.setitem(PRESETS, name, Preset(attempts=20, per_target=2, steps=60))
        patch.setattr("blankcheck.classifiers.training.MIN_STEPS", 100)
        np.savez("images.npz", x=small.train.images[:, 0].numpy(), y=small.train.labels.numpy())
        network = bc.load_model("net.py:make", normalize=((0.1307,), (0.3081,)))
        adam = torch.optim.Adam(network.parameters(), 1e-2)
        for _ in range(60):
            adam.zero_grad()
            nn.functional.cross_entropy(network(small.train.images), small.train.labels).backward()
            adam.step()
        torch.save(network.network.state_dict(), "net.pt")
        yield folder


def words(example: str) -> list[str]:
    """One example, with as little training as its command allows, in folders that may exist."""
    command, *given = shlex.split(example)
    if command in ("train", "harden"):
        given += ["--epochs", "10" if command == "train" else "2"]
    if command == "harden":
        given += ["--rounds", "1", "--preset", "smoke"]
    if command == "sweep":
        given = [{"40": "2", "4": "1"}.get(word, word) for word in given]
    elif "--out" in given and not {"--resume", "--overwrite"} & set(given):
        given.append("--overwrite")
    stand_for = {
        "runs/before": ["runs/a"],
        "runs/after": ["runs/h"],
        "runs/*": ["runs/a", "runs/h"],
    }
    return [command, *(word for w in given for word in stand_for.get(w, [w]))]


SLOW = ("certify", "gate")
ORDER = (
    "train",
    "audit",
    "harden",
    "report",
    "verify",
    "compare",
    "blend",
    "certify",
    "gate",
    "doctor",
    "sweep",
)


@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=[pytest.mark.slow] if c in SLOW else []) for c in ORDER]
)
def test_the_examples_of_a_command_run_as_they_stand(place, command, capsys):
    shown = [line for line in EXAMPLES.splitlines() if line.split()[0] == command]
    for example in shown:
        if any(word in example for word in ELSEWHERE):
            continue
        code = main(words(example))
        said = capsys.readouterr()
        assert code in CODES.get(command, {0}), f"{example}: {code}\n{said.err}"


@pytest.mark.parametrize(
    "folder",
    [pytest.param(f, marks=[pytest.mark.slow] if f[-1] in "cg" else []) for f in FILES],
)
def test_a_run_folder_holds_what_was_promised(place, folder):
    inside = {path.name for path in (place / folder).iterdir()}
    assert inside >= FILES[folder], FILES[folder] - inside


@pytest.mark.parametrize("folder", ["runs/a", "runs/h"])
def test_a_verdict_has_the_fields_of_the_contract(place, folder):
    verdict = json.loads((place / folder / "verdict.json").read_text())
    for key, kind in KEYS.items():
        if isinstance(kind, tuple) and isinstance(kind[0], str):
            assert verdict[key].keys() >= set(kind), key
        else:
            assert isinstance(verdict[key], kind), key
    target = {"attempts", "fooled", "rate", "rate_upper_95", "median_lit", "min_lit"}
    assert all(said.keys() >= target for said in verdict["targets"].values())
    assert all({"code", "status", "finding"} <= check.keys() for check in verdict["checks"])
    assert {c["status"] for c in verdict["checks"]} <= {"passed", "failed", "not-applicable"}
    with safe_open(str(place / folder / "witnesses.safetensors"), "pt") as file:
        assert {name: file.get_tensor(name).dtype for name in WITNESSES} == WITNESSES
        images = file.get_tensor("images")
        assert images.ndim == 4 and ((images >= 0) & (images <= 1)).all()
        assert "fingerprint" in file.metadata()


def test_running_a_configuration_again_repeats_the_run(place):
    again = place / "runs/again"
    config = yaml.safe_load((place / "runs/a/config.yaml").read_text())
    assert config["seed"] == 0
    main(["audit", "--config", str(place / "runs/a/config.yaml"), "--out", str(again)])
    first, second = (json.loads(Path(p, "verdict.json").read_text()) for p in ("runs/a", again))
    for cost in (first["cost"], second["cost"]):
        del cost["seconds"], cost["twin_seconds"]
    assert first == second
