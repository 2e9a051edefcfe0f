"""Several processes that share a run: real ones, by command line and torchrun, and threads where
only numbers count."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from blankcheck.parallel.batch_norm import shared_statistics
from blankcheck.parallel.failure_watch import Failure
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from blankcheck.classifiers import TrainingPlan, build, train_plainly
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.cli.main import main
from blankcheck.data import Split
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.hardening import Hardening, HardeningPlan, objective_named
from blankcheck.hardening.replay import Replay
from blankcheck.hardening.trainer import Tally
from blankcheck.parallel.peers import ALONE, own_number, part_of, sum_gradients
from blankcheck.runs.contents import read_run
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.state import read_state

SECONDS = 240
"""After which a run counts as hung."""
BUILDING = threading.Lock()
"""Networks are drawn from torch's one global generator, which threads share."""


@dataclass
class Thread:
    """`Peers` that are threads of this process, and meet at a barrier."""

    rank: int
    size: int
    board: list[Any]
    barrier: threading.Barrier

    def gather(self, value):
        self.board[self.rank] = value
        self.barrier.wait(SECONDS)
        told = list(self.board)
        self.barrier.wait(SECONDS)
        return told

    def total(self, values):
        return torch.stack(self.gather(values.detach().clone())).sum(dim=0)

    def from_first(self, value):
        return self.gather(value)[0]

    def spread(self, n, do):
        done = {i: do(i) for i in range(n) if i % self.size == self.rank}
        together = {i: result for part in self.gather(done) for i, result in part.items()}
        return [together[i] for i in range(n)]


def side_by_side(size, do):
    """do(peers) by so many threads; their results in order of rank."""
    board, barrier = [None] * size, threading.Barrier(size)

    def guarded(rank):
        try:
            return do(Thread(rank, size, board, barrier))
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(guarded, rank) for rank in range(size)]
        errors = [f.exception() for f in futures]
        real = [
            e for e in errors if e is not None and not isinstance(e, threading.BrokenBarrierError)
        ]
        if real:
            raise real[0]
        return [f.result() for f in futures]


def normed(seed=0, momentum=0.1):
    """A small network with batch norm of both kinds; without biases in front of it, whose gradients
    are rounding errors."""
    with BUILDING, torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(4, momentum=momentum),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(256, 16, bias=False),
            nn.BatchNorm1d(16, affine=False, momentum=momentum),
            nn.ReLU(),
            nn.Linear(16, 10),
        )


def plain_mlp():
    with BUILDING:
        return build("mlp", (1, 8, 8), 10)


def test_parts_of_a_batch_are_all_of_it():
    for n, size in ((10, 3), (3, 3), (128, 5), (7, 1)):
        peers = [Thread(rank, size, [], threading.Barrier(1)) for rank in range(size)]
        parts = [part_of(torch.arange(n), p) for p in peers]
        assert sorted(i for p in parts for i in p.index.tolist()) == list(range(n))
        assert sum(p.weight for p in parts) == pytest.approx(1) and not any(
            p.repeated for p in parts
        )
        assert max(len(p.index) for p in parts) - min(len(p.index) for p in parts) <= 1
        assert sum(own_number(n, p) for p in peers) == n
    assert [own_number(64, Thread(r, 3, [], threading.Barrier(1))) for r in range(3)] == [
        22,
        21,
        21,
    ]
    few = part_of(torch.arange(2), Thread(2, 3, [], threading.Barrier(1)))
    assert few.repeated and few.index.tolist() == [0, 1] and few.weight == pytest.approx(1 / 3)


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("sizes", [(5, 4), (1, 6, 2), (0, 3)], ids=str)
def test_batch_norm_over_processes_equals_that_of_the_whole_batch(sizes, momentum):
    """Outputs, gradients of the images and of all parameters, and running statistics, in double
    precision."""
    torch.manual_seed(0)
    images = torch.rand(sum(sizes), 1, 8, 8, dtype=torch.float64) + 100  # a mean far from 0
    whole, upstream = (
        normed(momentum=momentum).double(),
        torch.randn(sum(sizes), 10, dtype=torch.float64),
    )
    whole_images = images.clone().requires_grad_()
    expected = whole(whole_images)
    (expected * upstream).sum().backward()

    def part(peers):
        network, rows = (
            normed(momentum=momentum).double(),
            slice(sum(sizes[: peers.rank]), sum(sizes[: peers.rank + 1])),
        )
        mine = images[rows].clone().requires_grad_()
        with shared_statistics(peers):
            outputs = network(mine)
        (outputs * upstream[rows]).sum().backward()
        sum_gradients(network.parameters(), peers)
        return network, outputs.detach(), mine.grad

    parts = side_by_side(len(sizes), part)
    assert_close(torch.cat([outputs for _, outputs, _ in parts]), expected.detach())
    assert_close(torch.cat([gradient for *_, gradient in parts]), whole_images.grad)
    for network, *_ in parts:
        assert_close(network.state_dict(), whole.state_dict())
        assert_close([p.grad for p in network.parameters()], [p.grad for p in whole.parameters()])


def test_batch_norm_refuses_a_single_value_and_leaves_evaluation_alone():
    norm = nn.BatchNorm1d(3)

    def single(peers):
        with shared_statistics(peers):
            return norm(torch.rand(1 if peers.rank == 0 else 0, 3))

    with pytest.raises(ValueError, match="more than 1 value"):
        side_by_side(2, single)
    norm.eval()
    x = torch.rand(4, 3)
    with shared_statistics(
        Thread(0, 2, [None, None], threading.Barrier(2))
    ):  # would wait for ever if it asked
        assert torch.equal(
            norm(x), F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )


def test_a_parameter_without_any_gradient_keeps_none():
    def summed(peers):
        a, b, c = (nn.Parameter(torch.zeros(2)) for _ in range(3))
        a.grad = torch.tensor([1.0, float(peers.rank)])
        if peers.rank == 1:
            b.grad = torch.ones(2)
        sum_gradients([a, b, c], peers)
        return a.grad, b.grad, c.grad

    for a, b, c in side_by_side(3, summed):
        assert a.tolist() == [3, 3] and b.tolist() == [1, 1] and c is None


@pytest.mark.parametrize("make", [plain_mlp, normed], ids=["mlp", "batch-norm"])
def test_training_by_several_equals_training_by_one(digits, make):
    """The last batch has two images, which three processes do all three."""
    some = Split(digits.train.images[:302], digits.train.labels[:302])
    plan, losses = TrainingPlan(2, batch=50), {}

    def trained(peers):
        network = make()
        if peers.rank:
            nn.init.zeros_(next(network.parameters()))  # what process 0 begins with counts
        told = []
        train_plainly(network, some, plan, 3, lambda epoch, loss: told.append(loss), peers=peers)
        losses[peers.size, peers.rank] = told
        return network

    alone = trained(ALONE)
    for size in (2, 3):
        networks = side_by_side(size, trained)
        assert len({fingerprint(n) for n in networks}) == 1
        for name, tensor in alone.state_dict().items():
            assert_close(networks[0].state_dict()[name], tensor, atol=1e-4, rtol=1e-3)
        for rank in range(size):
            assert losses[size, rank] == pytest.approx(losses[1, 0], abs=1e-4)


def test_networks_that_drift_apart_are_noticed(digits):
    class Drifting(nn.Module):
        def __init__(self, rank):
            super().__init__()
            self.body, self.rank = plain_mlp(), rank

        def forward(self, images):
            if self.rank == 1 and self.training:
                with torch.no_grad():
                    next(self.body.parameters()).mul_(1.01)
            return self.body(images)

    some = Split(digits.train.images[:100], digits.train.labels[:100])
    with pytest.raises(ModelError, match="the parameters of process 1 are not those of process 0"):
        side_by_side(
            2, lambda peers: train_plainly(Drifting(peers.rank), some, TrainingPlan(1), peers=peers)
        )


def test_tallies_of_several_are_those_of_all():
    values, classes = torch.rand(9), torch.arange(9) % 3
    whole = Tally.of(("loss",), 3, torch.device("cpu"))
    whole.add([values], classes)
    whole.add([values[:0]], classes[:0])
    whole.add([values[:4]], classes[:4])

    def mine(peers):
        tally = Tally.of(("loss",), 3, torch.device("cpu"))
        for n in (9, 0, 4):
            index = torch.arange(n)[peers.rank :: peers.size]
            tally.add([values[index]], classes[index])
        return tally.of_all(peers)

    for tally in side_by_side(2, mine):
        assert tally.means()["per_class"].keys() == whole.means()["per_class"].keys()
        assert tally.means()["loss"] == pytest.approx(whole.means()["loss"]) and tally.counts == [
            9,
            0,
            4,
        ]
        for said, wanted in zip(tally.by_batch(), whole.by_batch(), strict=True):
            assert said["loss"] == (
                None if wanted["loss"] is None else pytest.approx(wanted["loss"])
            )


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


def hardening(digits, plan, peers=ALONE):
    with BUILDING:
        network = nn.Sequential(build("mlp", digits.shape, 10, digits.mean_and_std(), 0))
    spread = {} if peers is ALONE else {"spread": peers.spread}
    return Hardening(
        network, digits, objective_named("max-entropy"), plan, seed=0, peers=peers, **spread
    )


@pytest.mark.parametrize(
    "changes",
    [{}, {"schedule": "rounds", "network": "fresh"}, {"schedule": "none", "certify": 2}],
    ids=lambda c: c.get("schedule", "continuous"),
)
def test_hardening_by_several_and_going_on_by_others(digits, changes):
    """All end with the same.

    A run that stopped goes on to the same bits; with another number of processes it goes on.
    """
    plan, states = replace(SMALL, **changes), {}

    def whole(peers):
        work = hardening(digits, plan, peers)
        for made in work.rounds():
            if made.index == 0:
                states[peers.rank] = copy.deepcopy((work.state(), work.records))
        return work

    def rest(peers):
        work = hardening(digits, plan, peers)
        work.load_state(*copy.deepcopy(states[0]))
        assert [r.index for r in work.rounds()] == [1]
        return work

    first, second = side_by_side(2, whole)
    assert (
        fingerprint(first.classifier) == fingerprint(second.classifier)
        and first.history == second.history
    )
    assert first.records == second.records and first.history[-1].validation_accuracy > 0.5
    assert all(
        torch.equal(a.images, b.images) for a, b in zip(first.trained, second.trained, strict=True)
    )
    batches = [r for r in first.records if r["kind"] == "training" and r["what"] == "real"]
    assert [b["images"] for b in batches] == [len(digits.train) * r.epochs for r in first.history]
    if not changes:
        sizes = [len(w.source.replay.images) for w in (first, second)]
        assert sizes == [65, 65] and not torch.equal(
            first.source.replay.images, second.source.replay.images
        )
    again = side_by_side(2, rest)
    assert (
        fingerprint(again[0].classifier) == fingerprint(first.classifier)
        and again[0].history == first.history
    )
    more = side_by_side(3, rest)
    assert (
        len({fingerprint(w.classifier) for w in more}) == 1 and more[0].history == more[2].history
    )
    alone = rest(ALONE)
    if not changes:
        assert [len(w.source.replay.images) for w in more] == [44, 43, 43] and len(
            alone.source.replay.images
        ) == 130


def test_buffers_are_dealt_out_again_in_turn(digits):
    real, draws = (
        (digits.train.images[:50], digits.train.labels[:50]),
        torch.Generator().manual_seed(0),
    )
    buffers = [Replay.fill(size, 10, (1, 8, 8), real, 8, draws) for size in (3, 2)]
    buffers[0].cursor = 1
    order = torch.cat([buffers[0].images[[1, 2, 0]], buffers[1].images])
    dealt = side_by_side(2, lambda peers: Replay.dealt(buffers, peers))
    assert torch.equal(dealt[0].images, order[[0, 2, 4]]) and torch.equal(
        dealt[1].images, order[[1, 3]]
    )


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
    work = hardening(digits, replace(SMALL, precision="bf16"))
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
    assert "one of '32', 'bf16', '16'" in capsys.readouterr().err and not list(tmp_path.iterdir())
    with pytest.raises(ArgumentError, match="precision must be one of 32, bf16, 16"):
        TrainingPlan(1, precision="8")


def test_what_the_others_raise():
    assert str(Failure.of(2, ModelError("two\n lines")).as_error()) == "process 2: two lines"
    assert isinstance(Failure.of(1, KeyError("x")).as_error(), RuntimeError)
    assert isinstance(Failure.of(1, KeyboardInterrupt()).as_error(), KeyboardInterrupt)


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


@pytest.fixture(scope="session")
def audited(weights, tmp_path_factory):
    """An audit by one process, and the options it was made with."""
    folder = tmp_path_factory.mktemp("audited") / "one"
    options = [
        "audit",
        "--weights",
        str(weights),
        "--preset",
        "smoke",
        "--quiet",
        "--device",
        "cpu",
    ]
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


def test_training_by_two_processes(tmp_path):
    options = ["train", "--epochs", "2", "--batch", "100", "--quiet", "--device", "cpu"]
    assert main([*options, "--out", str(tmp_path / "one")]) == 0
    code, out, err = ran(*options, "--devices", 2, "--out", tmp_path / "two")
    assert code == 0 and err == "" and out.count("TRAINED") == 1
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        assert_close(two[name], one[name], atol=1e-4, rtol=1e-3)
    losses = [
        [r["real_loss"] for r in lines(tmp_path / n, "metrics.jsonl") if r["kind"] == "epoch"]
        for n in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.slow
def test_hardening_killed_and_gone_on_with_more_processes(tmp_path):
    """`kill -9` of the first process after a round: the second one ends by itself, and three go on."""
    folder = tmp_path / "run"
    options = [
        "harden",
        "--epochs",
        "12",
        "--rounds",
        "4",
        "--preset",
        "smoke",
        "--quiet",
        "--device",
        "cpu",
        "--out",
        folder,
    ]
    process = started(*options, "--devices", 2, start_new_session=True)
    try:
        waited = 0.0
        while not (folder / "state" / "state.pt").is_file() and waited < SECONDS:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.2)
            assert process.returncode is None, process.communicate()
            waited += 0.2
        process.kill()
        process.communicate(
            timeout=60
        )  # ends only when the other process, which has the same stdout, has ended
        before = [r["index"] for r in lines(folder, "metrics.jsonl") if r["kind"] == "round"]
        assert before and before[0] == 0 and len(before) < 4
        code, out, _ = ran(*options, "--resume", processes=3)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert code == 0 and out.count("\n") >= 1
    rounds = [r for r in lines(folder, "metrics.jsonl") if r["kind"] == "round"]
    assert [r["index"] for r in rounds] == [0, 1, 2, 3] and all(
        math.isfinite(r["real_loss"]) for r in rounds
    )
    state = read_state(RunFolder(folder))
    assert [len(s["replay"]["images"]) for s in state["sources"]] == [342, 341, 341]
    read_run(RunFolder.open(folder))
    assert not list(folder.rglob(".*")), "no file is left half written"


FAILING = """
import os
from torch import nn

class Failing(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
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


@pytest.mark.parametrize(
    ("factory", "codes", "words"),
    [
        (
            "wrong",
            {2},
            "process 1: model cannot take images of shape (64, 1, 8, 8): the other wing is on fire",
        ),
        pytest.param(
            "broken",
            {1},
            "RuntimeError: process 1: 'the other wing is on fire'",
            marks=pytest.mark.slow,
        ),
        pytest.param("killed", {2, -9}, "", marks=pytest.mark.slow),
        pytest.param("early", {2, -9}, "raised ValueError: no entry", marks=pytest.mark.slow),
    ],
)
def test_one_process_that_fails_ends_the_run(tmp_path, factory, codes, words):
    (tmp_path / "net.py").write_text(FAILING)
    code, out, err = ran(
        "train",
        "--model",
        f"{tmp_path / 'net.py'}:{factory}",
        "--epochs",
        "3",
        "--devices",
        2,
        "--quiet",
        "--device",
        "cpu",
        "--out",
        tmp_path / "run",
    )
    assert code in codes and out == "" and words in err
    if factory == "wrong":
        assert err.strip().count("\n") == 0


@pytest.mark.slow
def test_one_process_that_fails_under_torchrun(tmp_path):
    (tmp_path / "net.py").write_text(FAILING)
    code, _, err = ran(
        "train",
        "--model",
        f"{tmp_path / 'net.py'}:wrong",
        "--epochs",
        "3",
        "--quiet",
        "--device",
        "cpu",
        "--out",
        tmp_path / "run",
        processes=2,
    )
    assert code != 0 and "blankcheck: error: process 1: model cannot take images" in err


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
