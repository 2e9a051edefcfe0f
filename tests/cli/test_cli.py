from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from blankcheck.cli.commands import registry as commands
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


@pytest.fixture(scope="module")
def audited(weights, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "a"
    assert (
        main(
            ["audit", "--weights", str(weights), "--preset", "smoke", "--out", str(out), "--quiet"]
        )
        == 10
    )
    return out


@pytest.fixture
def net(tmp_path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    return tmp_path / "net.py"


def refused(capsys, *arguments: str, code: int = 2) -> str:
    """This exit code, nothing on stdout, one line on stderr."""
    ended = main(list(arguments))
    out, err = capsys.readouterr()
    assert (
        ended == code
        and out == ""
        and err.count("\n") == 1
        and err.startswith("blankcheck: error: ")
    ), (ended, out, err)
    return err


def test_a_run_folder_holds_its_files(audited):
    names = {str(p.relative_to(audited)) for p in audited.rglob("*") if p.is_file()}
    assert {
        "verdict.json",
        "metrics.jsonl",
        "config.yaml",
        "environment.json",
        "witnesses.safetensors",
        "report.html",
        "report.md",
    } <= names
    assert not [n for n in names if Path(n).name.startswith(".")], "no temporary file is left"
    verdict = json.loads((audited / "verdict.json").read_text())
    assert verdict["verdict"] == "FOOLED" and verdict["schema"] == 1


def test_stdout_has_the_verdict_first_and_the_path_alone(weights, tmp_path, capsys):
    out = tmp_path / ("long" * 40) / "run"
    assert main(["audit", "--weights", str(weights), "--preset", "smoke", "--out", str(out)]) == 10
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "FOOLED" and lines[-1] == str(out / "report.html")


def test_json_puts_one_object_on_stdout(weights, tmp_path, capsys):
    arguments = [
        "audit",
        "--weights",
        str(weights),
        "--preset",
        "smoke",
        "--out",
        str(tmp_path / "r"),
        "--json",
    ]
    assert main(arguments) == 10
    record = json.loads(capsys.readouterr().out)
    assert record["verdict"] == "FOOLED" and record["report"].endswith("report.html")


def test_the_configuration_repeats_the_run(audited, tmp_path):
    again = tmp_path / "again"
    assert main(["audit", "--config", str(audited / "config.yaml"), "--out", str(again)]) == 10
    one, two = (load_file(d / "witnesses.safetensors") for d in (audited, again))
    assert torch.equal(one["images"], two["images"])


def test_run_folders_run_no_code(audited, tmp_path, capsys):
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\ndef make(): pass\n")
    copy = RunFolder.create(tmp_path / "copy")
    for name in (
        "environment.json",
        "verdict.json",
        "witnesses.safetensors",
        "attempts.jsonl",
        "metrics.jsonl",
    ):
        copy.write(name, (audited / name).read_bytes())
    copy.write("config.yaml", f"data: {trap}:make\nmodel: {trap}:make\nnormalize: none\n")
    assert "name it with --model" in refused(capsys, "verify", str(copy.path))
    assert main(["report", str(copy.path)]) == 0
    assert not (tmp_path / "sprung").exists()


def test_verify_needs_the_users_factory_named_again(net, digits, tmp_path, capsys):
    out = tmp_path / "own"
    code = main(
        ["audit", "--model", f"{net}:make", "--preset", "smoke", "--out", str(out), "--quiet"]
    )
    assert code in (10, 11)
    capsys.readouterr()
    assert "name it with --model" in refused(capsys, "verify", str(out))
    assert main(["verify", str(out), "--model", f"{net}:make"]) == 0


def test_report_can_be_drawn_again(audited, capsys):
    before = (audited / "report.html").read_bytes()
    (audited / "report.html").unlink()
    assert main(["report", str(audited)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(audited / "report.html")
    assert (audited / "report.html").read_bytes() == before


def test_train_then_harden_then_resume_refuses_other_settings(tmp_path, capsys):
    out, common = (
        str(tmp_path / "h"),
        ["--epochs", "8", "--rounds", "2", "--preset", "smoke", "--quiet"],
    )
    assert main(["train", "--epochs", "20", "--out", str(tmp_path / "t"), "--quiet"]) == 0
    assert main(["harden", *common, "--out", out]) == 0
    names = {p.name for p in Path(out).iterdir()}
    assert {"model.safetensors", "state", "verdict.json", "metrics.jsonl", "report.html"} <= names
    kinds = [
        json.loads(line)["kind"] for line in (Path(out) / "metrics.jsonl").read_text().splitlines()
    ]
    assert kinds.count("round") == 2 and {
        "batch",
        "training",
        "search",
        "set",
        "real",
        "audit",
    } <= set(kinds)
    capsys.readouterr()
    assert "seed was 0, is 3" in refused(
        capsys, "harden", *common, "--out", out, "--resume", "--seed", "3"
    )
    assert "every was 400, is 3" in refused(
        capsys, "harden", *common, "--out", out, "--resume", "--every", "3"
    )
    assert main(["harden", *common, "--out", out, "--resume"]) == 0
    again = [
        json.loads(line)["kind"] for line in (Path(out) / "metrics.jsonl").read_text().splitlines()
    ]
    assert sorted(again) == sorted(kinds), "going on with a finished run adds nothing"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audit", "--data", "nope"], "data must be one of"),
        (["audit", "--model", "nope", "--weights", "x.pt"], "weights file x.pt does not exist"),
        (["train", "--model", "nope"], "model must be one of"),
        (["audit"], "is untrained"),
        (["audit", "--preset", "huge"], "preset"),
        (["audit", "--weights", "WEIGHTS", "--rivals"], "pip install foolbox"),
        (["audit", "--bogus", "1"], "--bogus"),
        (["audit", "--confidence", "high"], "confidence"),
        (["audit", "--config", "none.yaml"], "none.yaml"),
        (["train", "--epochs", "0"], "epochs"),
        (["train", "--device", "tpu"], "device"),
        (["train", "--data", "mnist", "--data-dir", "EMPTY"], "mnist"),
        (["dance"], "dance"),
        ([], "command"),
        (["verify", "nowhere"], "run folder nowhere does not exist"),
        (["report", "nowhere"], "run folder nowhere does not exist"),
        (["harden", "--resume", "--out", "nowhere"], "run folder nowhere does not exist"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    capsys, tmp_path, monkeypatch, weights, arguments, words
):
    monkeypatch.delenv("BLANKCHECK_DATA", raising=False)
    monkeypatch.setattr(
        "pooch.retrieve", lambda *a, **k: (_ for _ in ()).throw(ConnectionError("no network"))
    )
    for library in ("foolbox", "adv_lib", "art"):
        monkeypatch.setitem(sys.modules, library, None)
    arguments = [{"EMPTY": str(tmp_path), "WEIGHTS": str(weights)}.get(a, a) for a in arguments]
    assert words in refused(capsys, *arguments)


def test_conditions_out_of_range(capsys, weights, tmp_path):
    for option, value in (("confidence", "1.5"), ("max-lit", "0"), ("ood-level", "0")):
        line = refused(
            capsys,
            "audit",
            "--weights",
            str(weights),
            f"--{option}",
            value,
            "--out",
            str(tmp_path / "o"),
            "--quiet",
        )
        assert option.replace("-", "_") in line


def test_a_mistake_leaves_an_earlier_run_as_it_was(capsys, weights, net, tmp_path):
    out = tmp_path / "kept"
    assert (
        main(
            ["audit", "--weights", str(weights), "--preset", "smoke", "--out", str(out), "--quiet"]
        )
        == 10
    )
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    capsys.readouterr()
    for wrong in (
        ["audit", "--weights", str(weights), "--confidence", "1.5"],
        ["audit", "--weights", str(weights), "--ood-level", "0.0001"],
        ["audit", "--model", f"{net}:nans"],
        ["audit", "--model", f"{net}:narrow"],
        ["train", "--epochs", "0"],
        ["harden", "--rounds", "0"],
        ["harden", "--model", f"{net}:make", "--objective", "reject-class"],
    ):
        refused(capsys, *wrong, "--out", str(out), "--overwrite")
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", "raised ValueError: out of luck"),
        ("nans", "NaN or infinity"),
        ("narrow", "3 outputs"),
        ("gone", "no callable"),
    ],
)
def test_networks_that_fail(capsys, net, tmp_path, name, words):
    out = tmp_path / "out"
    assert words in refused(
        capsys, "audit", "--model", f"{net}:{name}", "--out", str(out), "--quiet"
    )
    assert not (out / "verdict.json").exists()


def test_data_out_of_range(capsys, tmp_path):
    np.savez(tmp_path / "bad.npz", x=np.full((40, 8, 8), 3.0), y=np.zeros(40))
    assert "[0, 1]" in refused(capsys, "train", "--data", f"npz:{tmp_path / 'bad.npz'}", "--quiet")
    assert "does not exist" in refused(
        capsys, "train", "--data", f"npz:{tmp_path / 'none.npz'}", "--quiet"
    )


def test_a_folder_that_is_no_run_folder_is_left_alone(capsys, weights, tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    line = refused(capsys, "audit", "--weights", str(weights), "--out", str(tmp_path))
    assert "is not a run folder" in line and [p.name for p in tmp_path.iterdir()] == [
        "precious.txt"
    ]
    (tmp_path / "file").write_text("")
    assert "is a file" in refused(capsys, "train", "--out", str(tmp_path / "file"))


def test_a_full_disk_leaves_no_half_written_file(capsys, weights, tmp_path, monkeypatch):
    from blankcheck.runs import folder as run_folder

    write = run_folder._write_bytes

    def full(path: Path, raw: bytes) -> None:
        if path.suffix == ".safetensors":
            path.write_bytes(raw[:100])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, raw)

    monkeypatch.setattr(run_folder, "_write_bytes", full)
    out = tmp_path / "full"
    line = refused(
        capsys,
        "audit",
        "--weights",
        str(weights),
        "--preset",
        "smoke",
        "--out",
        str(out),
        "--quiet",
        code=1,
    )
    assert "witnesses.safetensors: No space left on device" in line
    assert {p.name for p in out.iterdir()} == {"environment.json", "config.yaml"}


def test_ctrl_c_is_130(capsys, monkeypatch):
    def interrupted(settings, terminal):
        raise KeyboardInterrupt

    monkeypatch.setitem(commands.COMMANDS, "train", (commands.COMMANDS["train"][0], interrupted))
    assert main(["train"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_real_ctrl_c_while_hardening_leaves_a_resumable_run(tmp_path):
    out = tmp_path / "h"
    command = [
        sys.executable,
        "-m",
        "blankcheck",
        "harden",
        "--epochs",
        "400",
        "--rounds",
        "100",
        "--preset",
        "smoke",
        "--out",
        str(out),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # shells let background jobs ignore it
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("round 1"):
            process.send_signal(signal.SIGINT)
            break
    process.communicate(timeout=60)
    assert process.returncode == 130
    run = RunFolder.open(out)
    assert len(run.read_lines("metrics.jsonl")) >= 2 and (run / "state" / "state.pt").is_file()
    assert not list(out.rglob(".*")), "no temporary file is left"


def test_python_dash_m_and_print_config(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "blankcheck", "audit", "--print_config"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "preset: standard" in done.stdout
    (tmp_path / "c.yaml").write_text(done.stdout)
    assert main(["audit", "--config", str(tmp_path / "c.yaml")]) == 2  # no weights named


def test_every_option_is_explained(capsys):
    for name, (settings, _) in commands.COMMANDS.items():
        with pytest.raises(SystemExit):
            main([name, "--help"])
        words = " ".join(capsys.readouterr().out.split())
        assert f"Examples: blankcheck {name}" in words
        for field in settings.__dataclass_fields__:
            option = field.replace("_", "-")
            assert f"--{option}" in words or f" {field} " in words


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("data: null\n", "data must be a text"),
        (f"seed: {'9' * 5000}\n", "limit"),
        ("seed: 99999999999999999999999\n", "at most 64 bits"),
        ("data: digits\ndata: mnist\n", "twice"),
    ],
)
def test_settings_that_are_none_are_one_line_and_nothing_is_begun(given, words, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(given)
    assert main(["train", "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "o")]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and words in said[0] and not (tmp_path / "o").exists()
