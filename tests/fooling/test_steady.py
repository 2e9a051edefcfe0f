"""Between two looks the host only gives a device work: nothing makes it wait.

Told on the CPU, by what is called.
"""

from __future__ import annotations

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from blankcheck.auditing import ood_test
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
    random_mask,
    search,
)
from blankcheck.fooling.tensor_ops import DEFAULT_SYNC_EVERY, SYNC_EVERY

SHAPE, TARGETS = (1, 8, 8), torch.arange(10).repeat(3)
SOLVERS = [
    GreedyLighting(),
    ProximalMomentum(),
    AnnealedTopK(goal=5),
    ProjectedAdam(),
    SigmaZero(),
    FastMinimumNorm(),
    SparsePGD(features=30),
    TabuSearch(),
    RandomSearch(features=30),
    DifferentialEvolution(pixels=12, members=3),
]
TO_THE_HOST = {
    "item",
    "tolist",
    "cpu",
    "numpy",
    "__bool__",
    "__int__",
    "__float__",
    "__index__",
    "__array__",
}
TO_THE_DEVICE = {"tensor", "as_tensor", "from_numpy"}
OF_UNKNOWN_SIZE = {
    "nonzero",
    "masked_select",
    "unique",
    "_unique2",
    "unique_dim",
    "bincount",
    "equal",
}


class Python(TorchFunctionMode):
    """What Python code asks of tensors that brings numbers to the host, or from it."""

    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        name = getattr(function, "__name__", "")
        if name in TO_THE_HOST | TO_THE_DEVICE:
            self.waits.append(name)
        return function(*arguments, **(keywords or {}))


class Kernels(TorchDispatchMode):
    """What torch itself does with them for which it has to know their values."""

    def __init__(self, waits):
        super().__init__()
        self.waits = waits

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        chosen = arguments[1] if name in ("index", "index_put", "index_put_") else ()
        by_booleans = any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in chosen)
        if by_booleans or name in OF_UNKNOWN_SIZE or name == "_local_scalar_dense":
            self.waits.append(name)
        return function(*arguments, **(keywords or {}))


@pytest.fixture
def like_a_device(monkeypatch):
    """Tensors of the CPU are treated as those of a device."""
    monkeypatch.delitem(SYNC_EVERY, "cpu")
    monkeypatch.setattr(
        "blankcheck.fooling.tensor_ops.ascending", lambda values: values.sort(dim=1).values
    )


def waits_of(run):
    waits = []
    with Kernels(waits), Python(waits):
        run()
    return waits


def start_of(solver):
    kind = (
        "noise"
        if isinstance(solver, ProximalMomentum | AnnealedTopK | ProjectedAdam | SigmaZero)
        else "black"
    )
    return STARTS[kind](TARGETS, SHAPE, torch.Generator().manual_seed(0), None)


def test_what_makes_the_host_wait_is_seen():
    numbers = torch.arange(4.0)
    seen = [
        (lambda: bool((numbers > 1).any()), "__bool__"),
        (lambda: numbers[numbers > 1], "index"),
        (lambda: numbers.nonzero(), "nonzero"),
        (lambda: numbers.tolist(), "tolist"),
        (lambda: numbers.cpu(), "cpu"),
        (lambda: torch.tensor(3.0), "tensor"),
        (lambda: int(numbers.sum()), "__int__"),
        (lambda: numbers.clone().masked_fill_(numbers > 1, 0.0), None),
        (lambda: numbers[torch.tensor([1])], "tensor"),
    ]
    for run, name in seen:
        waits = waits_of(run)
        assert (name in waits) if name else not waits


@pytest.mark.parametrize("until", ["met", "sparsest"])
@pytest.mark.parametrize("accepting", [False, True], ids=["any", "accept"])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_turns_between_two_looks_never_wait(plain, digits, like_a_device, solver, until, accepting):
    """A search of one look and 8 turns more waits no more often than one of the look alone. Image
    by image, and with a test that only the host can make."""
    accept = ood_test(digits, 0.01).accepts if accepting else None
    plain.requires_grad_(False)
    mask = random_mask("pixels", len(TARGETS), SHAPE, (0.5, 1.0), torch.Generator().manual_seed(1))
    problem, goal = (
        Problem(plain, "logits", TARGETS, mask),
        Goal(max_lit=12, until=until, accept=accept),
    )

    def waits(turns):
        forwards = None if solver.gradient else turns * (1 + getattr(solver, "tries", 3))
        return waits_of(
            lambda: search(problem, start_of(solver), solver, goal, turns, forwards=forwards)
        )

    few = waits(1)
    assert len(few) < 40 and "__float__" in few, (
        "of the checks at the door and of the end, at least"
    )
    if not accepting:
        assert waits(DEFAULT_SYNC_EVERY - 1) == few
    else:
        # at the end the test is asked once about everything that waited, which takes a few steps
        # for each turn
        names = waits(DEFAULT_SYNC_EVERY - 1)
        assert (
            names.count("__bool__") <= few.count("__bool__") + 1
            and names.count("cpu") <= few.count("cpu") + 2  # a bound, then the score itself
        )


def test_looking_costs_one_wait(plain, like_a_device):
    """Eight turns and the next eight: one question, how many have finished."""
    plain.requires_grad_(False)
    problem, goal = (
        Problem(plain, "logits", TARGETS),
        Goal(max_lit=1, confidence=0.9999999, until="sparsest"),
    )

    def waits(turns):
        return waits_of(lambda: search(problem, start_of(SigmaZero()), SigmaZero(), goal, turns))

    one, two, three = (len(waits(looks * DEFAULT_SYNC_EVERY - 1)) for looks in (1, 2, 3))
    assert three - two == two - one == 2, "one int(), which Python asks for and a kernel answers"


@pytest.mark.parametrize("until", ["met", "sparsest"])
@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_asking_later_changes_nothing(plain, digits, monkeypatch, solver, until):
    """On a device the acceptance test is asked every eighth turn about all images since. Rows come
    out as if it had been asked about each at once."""
    accept = ood_test(digits, 0.01).accepts
    plain.requires_grad_(False)
    problem, goal = Problem(plain, "logits", TARGETS), Goal(max_lit=12, until=until, accept=accept)
    at_once = search(problem, start_of(solver), solver, goal, 37, early_stop_after=20)
    monkeypatch.delitem(SYNC_EVERY, "cpu")
    later = search(problem, start_of(solver), solver, goal, 37, early_stop_after=20)
    assert at_once.met.any() or isinstance(solver, ProjectedAdam)
    for name in ("outcome", "lit", "steps", "forwards", "fewest", "found_at"):
        assert torch.equal(getattr(at_once, name), getattr(later, name)), name
    assert_close(later.images, at_once.images, atol=1e-4, rtol=0)
    assert_close(later.confidence, at_once.confidence, atol=1e-4, rtol=0)


def test_polishing_seldom_looked_at_changes_nothing(plain, monkeypatch):
    plain.requires_grad_(False)
    problem, goal = Problem(plain, "logits", TARGETS), Goal(max_lit=64, until="sparsest")
    found = search(problem, start_of(ProximalMomentum()), ProximalMomentum(), goal, 30)
    often = polish(problem, found, goal, 60)
    monkeypatch.delitem(SYNC_EVERY, "cpu")
    seldom = polish(problem, found, goal, 60)
    assert (often.lit < found.lit).any()
    for name in ("outcome", "lit", "steps", "forwards", "fewest"):
        assert torch.equal(getattr(often, name), getattr(seldom, name)), name
    assert torch.equal(often.images, seldom.images)
