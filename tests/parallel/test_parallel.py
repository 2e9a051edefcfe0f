"""Several processes that share a run: real ones, by command line, torchrun or `by_processes`."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from processes import by_processes
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close

from blankcheck.classifiers import TrainingPlan, build, train_plainly
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.cli.main import main
from blankcheck.data import Split, load_data
from blankcheck.errors import ArgumentError
from blankcheck.hardening import Hardening, HardeningPlan
from blankcheck.hardening.metric_sums import MetricSums
from blankcheck.hardening.replay import Replay
from blankcheck.parallel.peers import ALONE, LOCAL_STATISTICS, Peers
from blankcheck.runs.contents import read_run
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.state import read_state

SECONDS = 240
"""After which a run counts as hung."""


def test_parts_of_a_batch_are_all_of_it():
    for n, size in ((10, 3), (6, 3), (128, 5), (7, 1)):
        peers = [Peers(rank, size) for rank in range(size)]
        parts = [p.part_of(torch.arange(n)) for p in peers]
        assert sorted(i for p in parts for i in p.index.tolist()) == list(range(n))
        assert sum(p.weight for p in parts) == pytest.approx(1)
        assert not any(p.repeated for p in parts)
        assert max(len(p.index) for p in parts) - min(len(p.index) for p in parts) <= 1
        assert sum(p.own_number(n) for p in peers) == n
    assert [Peers(r, 3).own_number(64) for r in range(3)] == [22, 21, 21]
    few = Peers(2, 3).part_of(torch.arange(5))  # one of three would have a single image
    assert few.repeated and few.index.tolist() == [0, 1, 2, 3, 4]
    assert few.weight == pytest.approx(1 / 3)


class Partly(nn.Module):
    """An mlp with a parameter that no pass uses, which an optimiser must not touch."""

    def __init__(self):
        super().__init__()
        self.body, self.unused = build("mlp", (1, 8, 8), 10), nn.Parameter(torch.ones(3))

    def forward(self, images):
        return self.body(images)


def normed():
    torch.manual_seed(0)
    body = (nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    return nn.Sequential(nn.Flatten(), *body)


def trained(peers, make):
    """The last batch has two images, which several processes do all."""
    digits, notes, network, losses = load_data("digits").train, [], make(), []
    some = Split(digits.images[:302], digits.labels[:302])
    if peers.rank:
        nn.init.zeros_(next(network.parameters()))  # what process 0 begins with counts
    peers, plan = replace(peers, note=notes.append), TrainingPlan(2, batch=50)
    train_plainly(network, some, plan, 3, lambda epoch, loss: losses.append(loss), peers=peers)
    return network.state_dict(), losses, notes


@pytest.mark.parametrize("size", [2, 3])
def test_training_by_several_equals_training_by_one(size):
    alone, losses, _ = trained(ALONE, Partly)
    first, *others = by_processes(size, trained, Partly)
    for name, tensor in alone.items():
        assert_close(first[0][name], tensor, atol=1e-4, rtol=1e-3)
        assert all(torch.equal(first[0][name], other[name]) for other, *_ in others)
    assert torch.equal(first[0]["unused"], torch.ones(3)) and first[2] == []
    assert all(told == pytest.approx(losses, abs=1e-4) for _, told, _ in (first, *others))


def test_batch_norm_on_the_cpu_is_local_and_says_so():
    alone, *_ = trained(ALONE, normed)
    first, second = by_processes(2, trained, normed)
    assert first[2] == [LOCAL_STATISTICS]
    assert all(torch.equal(first[0][name], second[0][name]) for name in alone)
    assert first[1][-1] < first[1][0]
    assert not torch.allclose(first[0]["2.running_var"], alone["2.running_var"], rtol=1e-4)


VALUES, CLASSES = torch.linspace(0, 1, 9), torch.arange(9) % 3


def summed(peers):
    sums = MetricSums.of(("loss",), 3, torch.device("cpu"))
    for n in (9, 0, 4):
        index = torch.arange(n)[peers.rank :: peers.size]
        sums.add([VALUES[index]], CLASSES[index])
    return sums.of_all(peers)


def test_sums_of_several_are_those_of_all():
    whole = summed(ALONE)
    for sums in by_processes(2, summed):
        assert sums.means()["per_class"].keys() == whole.means()["per_class"].keys()
        assert sums.means()["loss"] == pytest.approx(whole.means()["loss"])
        assert sums.counts == [9, 0, 4]
        for said, wanted in zip(sums.by_batch(), whole.by_batch(), strict=True):
            assert said["loss"] == (wanted["loss"] and pytest.approx(wanted["loss"]))


def test_pieces_are_done_by_one_process_each_and_told_to_all():
    first, second = by_processes(2, pieces)
    assert first[0] == second[0] == [[i * i for i in range(20)], [0, 1, 2]]
    assert sorted(first[1] + second[1]) == sorted([*range(20), *range(3)])


def pieces(peers):
    done = []

    def square(i):
        done.append(i)
        return i * i

    return [peers.spread(20, square), peers.spread(3, lambda i: (done.append(i), i)[1])], done


SMALL = HardeningPlan(
    epochs=2,
    batch=64,
    rounds=2,
    buffer=130,
    fresh_attempts=10,
    fresh_steps=40,
    set_images=100,
    every=5,
    stop_rate=0,
)


def hardening(plan, peers=ALONE):
    digits = load_data("digits")
    network = nn.Sequential(build("mlp", digits.shape, 10, digits.mean_and_std(), 0))
    return Hardening(network, digits, plan, seed=0, peers=peers)


def hardened(peers, plan, start=None):
    """What a hardening ends with, and its state after the first round."""
    work, middle = hardening(plan, peers), None
    if start is not None:
        work.load_state(*copy.deepcopy(start))  # what is passed to processes is shared by them
    for made in work.rounds():
        if made.index == 0:
            middle = copy.deepcopy((work.state(), work.records))
    held = [s["replay"]["images"] for s in work.state()["sources"] if s.get("replay")]
    return {
        "network": fingerprint(work.classifier),
        "history": work.history,
        "records": work.records,
        "trained": [s.images for s in work.evaluator.trained],
        "held": held,
        "middle": middle,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"schedule": "rounds", "network": "fresh"}, marks=pytest.mark.slow),
        pytest.param({"schedule": "none", "certify": 2}, marks=pytest.mark.slow),
    ],
    ids=lambda c: c.get("schedule", "continuous"),
)
def test_hardening_by_several_and_going_on_by_others(changes, digits):
    """All end with the same.

    A run that stopped goes on to the same bits; with another number of processes it goes on.
    """
    plan = replace(SMALL, **changes)
    first, second = by_processes(2, hardened, plan)
    assert first["network"] == second["network"] and first["history"] == second["history"]
    assert first["records"] == second["records"]
    assert first["history"][-1].validation_accuracy > 0.5
    assert all(torch.equal(*both) for both in zip(first["trained"], second["trained"], strict=True))
    batches = [r for r in first["records"] if r["kind"] == "training" and r["what"] == "real"]
    seen = [len(digits.train) * r.epochs for r in first["history"]]
    assert [b["images"] for b in batches] == seen
    again, _ = by_processes(2, hardened, plan, first["middle"])
    assert again["network"] == first["network"] and again["history"] == first["history"]
    more = by_processes(3, hardened, plan, first["middle"])
    assert len({w["network"] for w in more}) == 1 and more[0]["history"] == more[2]["history"]
    alone = hardened(ALONE, plan, copy.deepcopy(first["middle"]))
    assert [r.index for r in alone["history"]] == [0, 1]
    if not changes:
        assert [len(held) for held in first["held"]] == [65, 65]
        assert not torch.equal(*first["held"])
        assert [len(held) for held in more[0]["held"]] == [44, 43, 43]
        assert [len(held) for held in alone["held"]] == [130]


def test_buffers_are_dealt_out_again_in_turn():
    context = hardening(SMALL).context
    buffers = [Replay.fill(size, context) for size in (3, 2)]
    buffers[0].cursor = 1
    order = torch.cat([buffers[0].images[[1, 2, 0]], buffers[1].images])
    dealt = [Replay.reshard(buffers, Peers(rank, 2)).images for rank in range(2)]
    assert torch.equal(dealt[0], order[[0, 2, 4]]) and torch.equal(dealt[1], order[[1, 3]])


def test_training_in_bfloat16_learns_and_leaves_everything_else_in_float32(digits):
    plain, lower = (build("mlp", digits.shape, 10, digits.mean_and_std(), 0) for _ in range(2))
    seen, losses = [], {"32": [], "bf16": []}
    lower.network[1].register_forward_hook(
        lambda module, given, output: seen.append((module.training, output.dtype))
    )
    for network, precision in ((plain, "32"), (lower, "bf16")):
        plan = TrainingPlan(3, precision=precision)
        train_plainly(
            network,
            digits.train,
            plan,
            watch=lambda epoch, loss, told=losses[precision]: told.append(loss),
        )
    assert (
        losses["bf16"] == pytest.approx(losses["32"], rel=0.05) and losses["bf16"] != losses["32"]
    )
    assert set(seen) == {(True, torch.bfloat16)}
    assert {p.dtype for p in lower.parameters()} == {torch.float32}
    work = hardening(replace(SMALL, precision="bf16"))
    work.classifier[0].network[1].register_forward_hook(
        lambda module, given, output: seen.append((module.training, output.dtype))
    )
    for _ in work.rounds():
        break
    assert set(seen) == {(True, torch.bfloat16), (False, torch.float32)}, (
        "searches and measurements stay as they are"
    )


def test_precision_that_cannot_be_had(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in ("train", "harden"):
        assert main([command, "--precision", "16", "--device", "cpu"]) == 2
        assert (
            capsys.readouterr().err
            == "blankcheck: error: precision 16 needs a GPU; on the CPU take 32 or bf16\n"
        )
    assert main(["train", "--precision", "8"]) == 2
    assert "one of 32, bf16, 16" in capsys.readouterr().err and not list(tmp_path.iterdir())
    with pytest.raises(ArgumentError, match="precision must be one of 32, bf16, 16"):
        TrainingPlan(1, precision="8")


# real processes


def started(*arguments, processes=0, **options):
    """The command line in a process of its own; by torchrun where so many processes are given."""
    torchrun = (
        ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        if processes
        else []
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        environment.pop(name, None)
    command = [sys.executable, *torchrun, "-m", "blankcheck", *map(str, arguments)]
    return subprocess.Popen(
        command,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def ran(*arguments, **options):
    """(exit code, stdout, stderr) of a run that ended in time."""
    process = started(*arguments, **options)
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, out, err


def lines(folder, name):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def assert_same_audit(one, other):
    witnesses = [load_file(folder / "witnesses.safetensors") for folder in (one, other)]
    assert witnesses[0].keys() == witnesses[1].keys()
    assert all(torch.equal(witnesses[0][name], witnesses[1][name]) for name in witnesses[0])
    assert lines(one, "attempts.jsonl") == lines(other, "attempts.jsonl")
    verdicts = [json.loads((folder / "verdict.json").read_text()) for folder in (one, other)]
    for verdict in verdicts:
        for name in ("seconds", "twin_seconds"):
            verdict["cost"].pop(name)
    assert verdicts[0] == verdicts[1]


PLAIN = ("--quiet", "--device", "cpu")


@pytest.fixture(scope="module")
def audited(weights, tmp_path_factory):
    """An audit by one process, and the options it was made with."""
    folder = tmp_path_factory.mktemp("audited") / "one"
    options = ["audit", "--weights", str(weights), "--preset", "smoke", *PLAIN]
    assert main([*options, "--out", str(folder)]) == 10
    return folder, options


def test_an_audit_by_two_is_that_of_one_and_ends_with_its_verdict(audited, tmp_path):
    one, options = audited
    code, out, err = ran(*options, "--devices", 2, "--out", tmp_path / "two")
    assert code == 10 and out.startswith("FOOLED") and out.count("FOOLED") == 1 and err == ""
    assert_same_audit(one, tmp_path / "two")


@pytest.mark.slow
def test_an_audit_by_three_under_torchrun_is_that_of_one(audited, tmp_path):
    one, options = audited
    code, out, _ = ran(*options, "--out", tmp_path / "three", processes=3)
    assert code == 0 and out.count("FOOLED") == 1, "torchrun takes other exit codes for crashes"
    assert_same_audit(one, tmp_path / "three")


@pytest.mark.slow
def test_training_by_two_processes(tmp_path):
    options = ["train", "--epochs", "2", "--batch", "100", *PLAIN]
    assert main([*options, "--out", str(tmp_path / "one")]) == 0
    code, out, err = ran(*options, "--devices", 2, "--out", tmp_path / "two")
    assert code == 0 and err == "" and out.count("TRAINED") == 1
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert_close(two, one, atol=1e-4, rtol=1e-3)


def when_said(process, words):
    """Waits until a process has said these words on stderr."""
    said = []
    for line in process.stderr:
        said.append(line)
        if words in line:
            return
    raise AssertionError(f"ended without a word of {words!r}: {said}")


@pytest.mark.slow
def test_hardening_killed_and_gone_on_with_more_processes(tmp_path):
    """`kill -9` of the first process after a round: all end by themselves, and three go on."""
    folder = tmp_path / "run"
    options = ["harden", "--epochs", "12", "--rounds", "4", "--preset", "smoke"]
    options += ["--device", "cpu", "--out", folder]
    process = started(*options, "--devices", 2, start_new_session=True)
    try:
        when_said(process, "round 1: ")  # whose state stands in the folder by then
        process.kill()
        process.communicate(timeout=60)  # ends when all have ended, who have the same stdout
        before = [r["index"] for r in lines(folder, "metrics.jsonl") if r["kind"] == "round"]
        assert before and before[0] == 0 and len(before) < 4
        code, out, _ = ran(*options, "--resume", processes=3)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert code == 0 and out.count("\n") >= 1
    rounds = [r for r in lines(folder, "metrics.jsonl") if r["kind"] == "round"]
    assert [r["index"] for r in rounds] == [0, 1, 2, 3]
    assert all(math.isfinite(r["real_loss"]) for r in rounds)
    state = read_state(RunFolder(folder))
    assert [len(s["replay"]["images"]) for s in state["sources"]] == [342, 341, 341]
    read_run(RunFolder.open(folder))
    assert not list(folder.rglob(".*")), "no file is left half written"


@pytest.mark.slow
@pytest.mark.parametrize("everybody", [True, False])
def test_ctrl_c_ends_all(tmp_path, everybody):
    """A terminal interrupts all processes at once, `kill -INT` only the first."""
    options = ["train", "--epochs", "4000", "--devices", "2", "--device", "cpu"]
    options += ["--out", tmp_path / "run"]
    process = started(*options, start_new_session=True)
    try:
        when_said(process, "training images")
        (os.killpg if everybody else os.kill)(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130 and out == ""
    assert err.startswith("blankcheck: interrupted") and err.count("\n") == 1


FAILING = """
import os
from torch import nn

class Failing(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
        self.kind, self.seen = kind, 0

    def forward(self, images):
        self.seen += self.training
        if self.training and self.seen == 4 and os.environ["LOCAL_RANK"] == "1":
            if self.kind is None:
                os.kill(os.getpid(), 9)
            raise self.kind("the other wing is on fire")
        return self.body(images)

def wrong():
    return Failing(ValueError)

def broken():
    return Failing(KeyError)

def killed():
    return Failing(None)

def early():
    if os.environ.get("LOCAL_RANK") == "1":
        raise ValueError("no entry")
    return Failing(ValueError)
"""
WRONG = "process 1: model cannot take images of shape (64, 1, 8, 8): the other wing is on fire"


def failed(tmp_path, factory, *more, **options):
    (tmp_path / "net.py").write_text(FAILING)
    model = f"{tmp_path / 'net.py'}:{factory}"
    given = ["train", "--model", model, "--epochs", "3", *PLAIN, "--out", tmp_path / "run"]
    return ran(*given, *more, **options)


@pytest.mark.parametrize(
    ("factory", "code", "words"),
    [
        ("wrong", 2, WRONG),
        pytest.param("broken", 1, "KeyError: 'the other wing is on fire'", marks=pytest.mark.slow),
        pytest.param(
            "killed", 2, "process 1 of this run was ended by SIGKILL", marks=[pytest.mark.slow]
        ),
        pytest.param("early", 2, "raised ValueError: no entry", marks=pytest.mark.slow),
    ],
)
def test_one_process_that_fails_ends_the_run(tmp_path, factory, code, words):
    got, out, err = failed(tmp_path, factory, "--devices", 2)
    assert got == code and out == "" and words in err
    assert err.count("\n") == 1 or factory == "broken"


@pytest.mark.slow
def test_one_process_that_fails_under_torchrun(tmp_path):
    code, _, err = failed(tmp_path, "wrong", processes=2)
    assert code != 0 and f"blankcheck: error: {WRONG}" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["train", "--lr", "-1"], "lr must be positive"),
        (["harden", "--rounds", "0"], "rounds must be at least 1"),
        (["harden", "--resume", "--out", "nowhere"], "does not exist"),
        (["audit"], "is untrained"),
    ],
)
def test_bad_usage_is_found_before_other_processes_start(
    options, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main([*options, "--devices", "2", "--device", "cpu"]) == 2
    said = capsys.readouterr()
    assert (
        words in said.err
        and said.err.count("\n") == 1
        and said.out == ""
        and not list(tmp_path.iterdir())
    )


def test_impossible_teams(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--devices", "0"]) == 2
    assert "devices and nodes must be at least 1" in capsys.readouterr().err
