"""What only a GPU can show. Skipped where there is none: `pytest tests/test_gpu.py -rs` says so."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
import torch
from torch.testing import assert_close

import blankcheck as bc
from blankcheck.auditing import Job, run_attempts, within
from blankcheck.cli.main import main
from blankcheck.fooling import (
    STARTS,
    AnnealedTopK,
    DifferentialEvolution,
    FastMinimumNorm,
    Goal,
    GreedyLighting,
    Problem,
    ProjectedAdam,
    ProximalMomentum,
    RandomSearch,
    SigmaZero,
    SparsePGD,
    TabuSearch,
    polish,
    search,
)
from blankcheck.fooling.tensor_ops import DEFAULT_SYNC_EVERY
from blankcheck.testing import Planted
from blankcheck.types import Conditions

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
SHAPE, TARGETS = (1, 8, 8), torch.tensor([0, 1, 2]).repeat(4)
SOLVERS = [
    GreedyLighting(),
    ProximalMomentum(),
    AnnealedTopK(goal=5),
    ProjectedAdam(weight=0.3),
    SigmaZero(),
    FastMinimumNorm(),
    SparsePGD(features=30),
    TabuSearch(),
    RandomSearch(features=30),
    DifferentialEvolution(pixels=12),
]
FROM_BLACK = (
    GreedyLighting,
    FastMinimumNorm,
    SparsePGD,
    TabuSearch,
    RandomSearch,
    DifferentialEvolution,
)


@pytest.fixture
def exact() -> Iterator[None]:
    """Products in full float32, as on the CPU."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.fixture
def waiting_is_an_error() -> Iterator[None]:
    """Set and reset around what must not wait, with `torch.cuda.set_sync_debug_mode`; reset here
    whatever happens."""
    yield
    torch.cuda.set_sync_debug_mode("default")


def start_of(solver: object) -> torch.Tensor:
    kind = "black" if isinstance(solver, FROM_BLACK) else "noise"
    return STARTS[kind](TARGETS, SHAPE, torch.Generator().manual_seed(0), None)


@pytest.mark.parametrize("until", ["met", "sparsest"])
def test_planted_features_are_found_as_on_the_cpu(exact, until):
    on_cpu, on_gpu = (
        bc.fool(
            Planted(pixels=5).to(device), range(3), 4, shape=SHAPE, steps=150, until=until, seed=2
        )
        for device in ("cpu", "cuda")
    )
    assert on_gpu.met.all() and on_gpu.images.device.type == "cpu"
    assert torch.equal(on_gpu.targets, on_cpu.targets) and torch.equal(
        on_gpu.outcome, on_cpu.outcome
    )
    if until == "sparsest":
        assert torch.equal(on_gpu.images > 0, on_cpu.images > 0) and torch.equal(
            on_gpu.lit, on_cpu.lit
        )
    assert_close(on_gpu.confidence, on_cpu.confidence, atol=0.05, rtol=0)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_one_step_is_that_of_the_cpu(plain, exact, solver):
    """Within tolerance, which later steps would add up: forwards and backwards, the rule, and its
    random numbers."""
    goal, found = Goal(max_lit=64, until="sparsest"), {}
    for device in ("cpu", "cuda"):
        problem = Problem(plain.to(device).requires_grad_(False), "logits", TARGETS.to(device))
        found[device] = search(problem, start_of(solver).to(device), solver, goal, 2)
    plain.to("cpu")
    gpu = found["cuda"]
    assert_close(gpu.images.cpu(), found["cpu"].images, atol=1e-3, rtol=0)
    assert_close(gpu.confidence.cpu(), found["cpu"].confidence, atol=1e-3, rtol=0)
    assert torch.equal(gpu.steps.cpu(), found["cpu"].steps)


@pytest.mark.parametrize("accepting", [False, True], ids=["any", "accept"])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_turns_between_two_looks_never_wait(
    plain, waiting_is_an_error, monkeypatch, solver, accepting
):
    """From after the checks at the door until the first look."""
    problem = Problem(plain.to("cuda").requires_grad_(False), "logits", TARGETS.cuda())
    accept = (lambda images: images.flatten(1).sum(dim=1) > 0) if accepting else None
    goal, turns = Goal(max_lit=12, until="sparsest", accept=accept), DEFAULT_SYNC_EVERY - 1
    forwards = None if solver.gradient else turns * (1 + getattr(solver, "tries", 20))
    start = start_of(solver).cuda()
    search(problem, start, solver, goal, turns, forwards=forwards)  # whatever is only done once
    module = sys.modules["blankcheck.fooling.search"]  # the package has a function of that name
    ending = module._Run.stop

    def stop(run, everyone=False):
        torch.cuda.set_sync_debug_mode("default")
        ending(run, everyone)

    monkeypatch.setattr(module, "_check", lambda *_: torch.cuda.set_sync_debug_mode("error"))
    monkeypatch.setattr(module._Run, "stop", stop)
    search(problem, start, solver, goal, turns, forwards=forwards)
    plain.to("cpu")


def test_polishing_is_that_of_the_cpu(plain, exact):
    goal, start = Goal(max_lit=64, until="sparsest"), start_of(ProximalMomentum())
    problem = Problem(plain.requires_grad_(False), "logits", TARGETS)
    found = search(problem, start, ProximalMomentum(), goal, 30)
    on_cpu = polish(problem, found, goal, 60)
    there = Problem(plain.to("cuda"), "logits", TARGETS.cuda())
    moved = type(found)(
        **{name: getattr(found, name).cuda() for name in found.__dataclass_fields__}
    )
    on_gpu = polish(there, moved, goal, 60)
    plain.to("cpu")
    assert (on_gpu.lit.cpu() - on_cpu.lit).abs().float().mean() < 0.5
    assert torch.equal(on_gpu.outcome.cpu(), on_cpu.outcome)


def test_an_audit_ends_with_a_verdict(tmp_path, weights):
    code = main(
        [
            "audit",
            "--device",
            "cuda",
            "--preset",
            "smoke",
            "--weights",
            str(weights),
            "--out",
            str(tmp_path / "a"),
            "--quiet",
        ]
    )
    verdict = json.loads((tmp_path / "a" / "verdict.json").read_text())
    assert code == 10 and verdict["verdict"] == "FOOLED" and verdict["rate"] > 0.9
    assert main(["verify", str(tmp_path / "a"), "--quiet"]) == 0


def test_a_batch_beyond_memory_is_halved(plain):
    class Hungry(torch.nn.Module):
        """Asks for most of the GPU's memory unless there are few images."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 40:
                free = torch.cuda.mem_get_info()[0]
                torch.empty(2 * free, dtype=torch.uint8, device=images.device)
            return inner(images)

    inner = plain.to("cuda")
    model = Hungry()
    model.inner = inner
    job = Job(
        model,
        "logits",
        SHAPE,
        Conditions(max_lit=12),
        within(30),
        stop_at_lit=12,
        seed=3,
        device="cuda",
    )
    found = run_attempts(job, [i % 10 for i in range(60)])
    plain.to("cpu")
    assert found.oom_splits >= 1 and found.best.met.float().mean() > 0.9
