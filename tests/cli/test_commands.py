"""What the commands do: folders, exit codes, and what of them stands on stdout."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from blankcheck.cli.main import main
from blankcheck.runs.folder import RunFolder

NET = """
import torch
from torch import nn
def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
def raises(): raise ValueError("out of luck")
def nans():
    class N(nn.Module):
        def forward(self, x): return x.flatten(1)[:, :10] * float("nan")
    return N()
def narrow(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
"""


class Audited(NamedTuple):
    path: Path
    out: str
    err: str


@pytest.fixture(scope="module")
def audited(weights, tmp_path_factory) -> Audited:
    path = tmp_path_factory.mktemp("runs") / ("long" * 40) / "a"
    words = ["audit", "--weights", str(weights), "--preset", "smoke", "--out", str(path)]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = main([*words, "--junit", str(path.parents[1] / "verdict.xml")])
    assert code == 10
    return Audited(path, out.getvalue(), err.getvalue())


@pytest.fixture
def net(tmp_path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    return tmp_path / "net.py"


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_audit_fills_a_run_folder_and_says_so(audited):
    files = set(contents(audited.path))
    assert {"metrics.jsonl", "witnesses.safetensors", "report.html", "report.md"} <= files
    assert not [n for n in files if Path(n).name.startswith(".")], "no temporary file is left"
    verdict = json.loads((audited.path / "verdict.json").read_text())
    assert verdict["verdict"] == "FOOLED" and verdict["schema"] == 1
    lines = audited.out.splitlines()
    assert lines[0].split()[0] == "FOOLED" and lines[-1] == str(audited.path / "report.html")
    assert "\x1b" not in audited.out + audited.err, "nothing is coloured when piped"
    assert "audit smoke: 100 attempts of at most 150 steps" in audited.err
    assert "confidence >= 0.9, at most 12 lit of 64 features, p <= 0.01" in audited.err


def test_the_verdict_of_an_audit_as_junit(audited):
    suite = ElementTree.parse(audited.path.parents[1] / "verdict.xml").getroot()
    verdict = json.loads((audited.path / "verdict.json").read_text())
    cases = {case.get("name"): case for case in suite}
    assert suite.get("tests") == str(len(cases)) == str(1 + 10 + len(verdict["checks"]))
    assert cases["verdict"].find("failure").get("message").startswith("FOOLED: ")
    for name, made in verdict["targets"].items():
        assert (cases[f"class {name}"].find("failure") is not None) == (made["fooled"] > 0)
    assert "junit" not in (audited.path / "environment.json").read_text()


def test_the_configuration_repeats_the_run(audited, tmp_path, capsys):
    again, config = tmp_path / "again", str(audited.path / "config.yaml")
    assert main(["audit", "--config", config, "--out", str(again), "--json"]) == 10
    record = json.loads(capsys.readouterr().out)
    assert record["verdict"] == "FOOLED" and record["report"] == str(again / "report.html")
    one, two = (load_file(d / "witnesses.safetensors") for d in (audited.path, again))
    assert torch.equal(one["images"], two["images"])


def test_a_run_stores_the_words_that_make_it_again(audited, weights):
    words = json.loads((audited.path / "environment.json").read_text())["command_line"]
    shared = ["--data", "digits", "--model", "mlp", "--out", str(audited.path), "--seed", "0"]
    own = ["--weights", str(weights), "--preset", "smoke"]
    assert words == ["blankcheck", "audit", *shared, *own]


def test_run_folders_run_no_code(audited, tmp_path, refused):
    trap, copy = tmp_path / "trap.py", RunFolder.create(tmp_path / "copy")
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\ndef make(): pass\n")
    for name, raw in contents(audited.path).items():
        if not name.startswith("figures"):
            copy.write(name, raw)
    copy.write("config.yaml", f"data: {trap}:make\nmodel: {trap}:make\nnormalize: none\n")
    assert "name it with --model" in refused("verify", str(copy.path))
    assert main(["report", str(copy.path)]) == 0
    assert not (tmp_path / "sprung").exists()


def test_a_users_network_is_audited_and_named_again_to_verify(net, tmp_path, capsys, refused):
    out, model = str(tmp_path / "own"), f"{net}:make"
    assert main(["audit", "--model", model, "--preset", "smoke", "--out", out, "--quiet"]) in (
        10,
        11,
    )
    said = capsys.readouterr()
    assert said.err == "" and len(said.out.splitlines()) == 2, "quiet says only the result"
    assert "name it with --model" in refused("verify", out)
    assert main(["verify", out, "--model", model]) == 0


def test_report_can_be_drawn_again(audited, capsys):
    report = audited.path / "report.html"
    before = report.read_bytes()
    report.unlink()
    assert main(["report", str(audited.path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(report)
    assert report.read_bytes() == before


def test_harden_then_resume_refuses_other_settings(tmp_path, refused):
    out = tmp_path / "h"
    command = ["harden", "--epochs", "4", "--rounds", "2", "--preset", "smoke", "--quiet"]
    command += ["--out", str(out)]
    assert main(command) == 0
    assert {"model.safetensors", "state", "verdict.json", "report.html"} <= names(out)
    kinds = [record["kind"] for record in RunFolder.open(out).read_lines("metrics.jsonl")]
    assert {"batch", "training", "search", "set", "real", "audit"} <= set(kinds)
    assert kinds.count("round") == 2
    assert "seed was 0, is 3" in refused(*command, "--resume", "--seed", "3")
    assert "every was 400, is 3" in refused(*command, "--resume", "--every", "3")
    assert main(["harden", "--resume", "--quiet", "--out", str(out)]) == 0
    again = [record["kind"] for record in RunFolder.open(out).read_lines("metrics.jsonl")]
    assert sorted(again) == sorted(kinds), "going on with a finished run adds nothing"


def test_a_mistake_leaves_an_earlier_run_as_it_was(audited, weights, net, refused):
    before = contents(audited.path)
    for wrong in (
        ["audit", "--weights", str(weights), "--confidence", "1.5"],
        ["audit", "--weights", str(weights), "--max-lit", "0"],
        ["audit", "--weights", str(weights), "--ood-level", "0.0001"],
        ["audit", "--model", f"{net}:nans"],
        ["audit", "--model", f"{net}:narrow"],
        ["train", "--epochs", "0"],
        ["harden", "--rounds", "0"],
        ["harden", "--model", f"{net}:make", "--objective", "reject-class"],
    ):
        said = refused(*wrong, "--out", str(audited.path), "--overwrite")
        if wrong[-2][2:] in ("confidence", "max-lit", "ood-level"):
            assert wrong[-2][2:].replace("-", "_") in said
    assert contents(audited.path) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", "raised ValueError: out of luck"),
        ("nans", "NaN or infinity"),
        ("narrow", "3 outputs"),
        ("gone", "no callable"),
    ],
)
def test_networks_that_fail(net, tmp_path, name, words, refused):
    out = tmp_path / "out"
    assert words in refused("audit", "--model", f"{net}:{name}", "--out", str(out), "--quiet")
    assert not (out / "verdict.json").exists()


def test_data_out_of_range(tmp_path, refused):
    np.savez(tmp_path / "bad.npz", x=np.full((40, 8, 8), 3.0), y=np.zeros(40))
    assert "[0, 1]" in refused("train", "--data", f"npz:{tmp_path / 'bad.npz'}", "--quiet")
    assert "does not exist" in refused("train", "--data", f"npz:{tmp_path / 'none.npz'}", "--quiet")


def test_a_folder_that_is_no_run_folder_is_left_alone(weights, tmp_path, refused):
    (tmp_path / "precious.txt").write_text("mine")
    line = refused("audit", "--weights", str(weights), "--out", str(tmp_path))
    assert "is not a run folder" in line and names(tmp_path) == {"precious.txt"}
    (tmp_path / "file").write_text("")
    assert "is a file" in refused("train", "--out", str(tmp_path / "file"))


def test_what_the_disk_refuses_leaves_no_half_written_file(tmp_path, refused):
    resource = pytest.importorskip("resource")
    out, before = tmp_path / "full", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        line = refused("train", "--epochs", "1", "--out", str(out), "--quiet", code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "model.safetensors: File too large" in line
    assert names(out) == {"environment.json", "config.yaml", "metrics.jsonl"}


def test_a_real_ctrl_c_while_hardening_leaves_a_resumable_run(tmp_path):
    out = tmp_path / "h"
    options = ["--epochs", "400", "--rounds", "100", "--preset", "smoke", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "blankcheck", "harden", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # shells let background jobs ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("round 1"):
            process.send_signal(signal.SIGINT)
            break
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert f"go on with: blankcheck harden --resume --out {out}" in said
    run = RunFolder.open(out)
    assert len(run.read_lines("metrics.jsonl")) >= 2 and (run / "state" / "state.pt").is_file()
    assert not list(out.rglob(".*")), "no temporary file is left"
