"""An audit that is stopped keeps what it has finished, and goes on from there to the same bits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import blankcheck as bc
from blankcheck.auditing.controls import run_all
from blankcheck.cli.main import main
from blankcheck.errors import RunFolderError
from blankcheck.parallel.spread import alone
from blankcheck.runs import state
from blankcheck.runs.contents import read_run
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.state import PIECES, Kept, forget_pieces, state_bytes


@pytest.fixture
def run(tmp_path, monkeypatch) -> RunFolder:
    monkeypatch.setattr(state, "LEAST", 0.0)
    run = RunFolder.create(tmp_path / "a")
    run.begin("audit", {}, torch.device("cpu"))
    return run


def test_pieces_that_were_finished_are_not_done_again(run):
    stopped = Kept(alone, run, "x")

    def do(index: int) -> torch.Tensor:
        if index == 2:
            raise KeyboardInterrupt
        return torch.tensor(index)

    with pytest.raises(KeyboardInterrupt):
        stopped(4, do)
    assert len(run.names(PIECES)) == 2
    done = list[int]()
    again = Kept(alone, run, "x")
    assert [int(x) for x in again(4, lambda i: done.append(i) or torch.tensor(i))] == [0, 1, 2, 3]
    assert done == [2, 3] and again.seconds >= 0
    forget_pieces(run)
    assert not run.has("state")


def test_short_pieces_are_not_kept(run, monkeypatch):
    monkeypatch.setattr(state, "LEAST", 100.0)
    assert Kept(alone, run, "x")(3, lambda index: index) == [0, 1, 2]
    assert not run.names(PIECES)


def test_pieces_of_another_network_are_refused(run):
    Kept(alone, run, "x")(1, lambda index: index)
    with pytest.raises(RunFolderError, match="of another network, or of other images"):
        Kept(alone, run, "y")


def test_a_damaged_piece_is_told(run):
    Kept(alone, run, "x")(1, lambda index: index)
    (name,) = run.names(PIECES)
    run.write(name, run.read_bytes(name)[:-1])
    with pytest.raises(RunFolderError, match="is damaged"):
        Kept(alone, run, "x")


class Code:
    def __reduce__(self):
        return (Path("/nowhere/made").mkdir, ())


def test_a_piece_runs_no_code(run):
    run.write(PIECES.replace("*", "0-0"), state_bytes({"of": "x", "result": Code()}))
    with pytest.raises(RunFolderError, match="cannot be read"):
        Kept(alone, run, "x")


def test_an_audit_that_goes_on_equals_one_that_was_not_stopped(
    plain, digits, weights, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(state, "LEAST", 0.0)
    few = {name: run_all.SEARCHES[name] for name in ("more-restarts", "tighter-limit")}
    monkeypatch.setattr(run_all, "SEARCHES", few)
    monkeypatch.setattr(run_all, "LAST", {"repeatable": run_all.LAST["repeatable"]})
    whole, out = bc.audit(plain, digits, "smoke", seed=3), tmp_path / "a"

    def stop(setting):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setitem(few, "tighter-limit", stop)
        words = ["--preset", "smoke", "--weights", str(weights), "--seed", "3", "--quiet"]
        assert main(["audit", *words, "--out", str(out)]) == 130
    assert f"go on with: blankcheck audit --resume --out {out}" in capsys.readouterr().err
    kept = len(RunFolder(out).names(PIECES))
    assert main(["audit", "--resume", "--out", str(out)]) == 10
    assert f"resuming with {kept} finished pieces" in capsys.readouterr().err and kept > 2
    assert (out / "witnesses.safetensors").read_bytes() == whole.packed
    assert read_run(RunFolder(out)).attempts == whole.evidence.attempts
    said = json.loads((out / "verdict.json").read_text())
    costs = said.pop("cost"), whole.json.pop("cost")
    assert costs[0]["backward"] == costs[1]["backward"] and said == whole.json
    assert not (out / "state").exists()
