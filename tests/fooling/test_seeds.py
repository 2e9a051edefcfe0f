"""Random numbers by name, which leave those of the caller alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import blankcheck as bc
from blankcheck.auditing import Job, within
from blankcheck.auditing.attempts import AttemptResults, run_attempts
from blankcheck.auditing.controls import planted as planting
from blankcheck.auditing.controls import setting as searching
from blankcheck.auditing.controls import stronger_search as harder
from blankcheck.auditing.controls.setting import Began, Setting, Twin
from blankcheck.auditing.judges import Judges
from blankcheck.auditing.portfolio import PRESETS
from blankcheck.auditing.witnesses import judged
from blankcheck.data import Split
from blankcheck.seeds import own_random_numbers, seed_of, seeded
from blankcheck.testing import Constant
from blankcheck.types import Conditions, Fooling

CONTROLS = (
    harder.more_steps,
    harder.more_restarts,
    harder.more_starts,
    harder.penalty_weights,
    harder.tighter_limit,
    harder.close_calls,
    harder.gradient_free,
    harder.unbounded,
    planting.planted_control,
    lambda s: harder.positive_control(s, 0.95),
    lambda s: harder.transfer(s, next(iter(s.twins()))),
)


@given(
    st.lists(
        st.integers(0, 50) | st.sampled_from(["more-steps", "round", "main"]),
        min_size=1,
        max_size=4,
    )
)
def test_seeds_belong_to_all_parts_and_fit_every_generator(parts):
    seed = seed_of(*parts)
    assert 0 <= seed < 2**63 and seed == seed_of(*parts)
    assert seed != seed_of(*parts, 0) and seed not in parts
    assert torch.equal(
        torch.rand(3, generator=seeded(*parts)),
        torch.rand(3, generator=torch.Generator().manual_seed(seed)),
    )


def test_no_search_of_any_run_is_the_main_search_of_another(monkeypatch):
    """The seeds of the searches of all controls, for many seeds of a run: none is a small number,
    none occurs twice."""
    used: list[int] = []

    def noted(job: Job, targets, *args, **more) -> AttemptResults:
        used.append(job.seed)
        return run_attempts(replace(job, attacks=within(2), starts=None), targets)

    for module in (harder, planting, searching):
        monkeypatch.setattr(module, "run_attempts", noted)
    for seed in range(8):
        network = Constant([0.0, 0.0, 0.0])
        job = Job(
            network,
            "logits",
            (1, 4, 4),
            Conditions(max_lit=2),
            within(2),
            stop_at_lit=1,
            seed=seed,
            real=(torch.rand(30, 1, 4, 4), torch.arange(30) % 3),
            accept=nothing,
        )
        tried = run_attempts(job, [0, 1, 2])
        attempts = judged(job, tried, Judges(_Same(), _Same(), _Same())).attempts
        twins = [Twin(network, "logits", name) for name in ("first", "second")]
        known = job, PRESETS["smoke"], attempts, tried, torch.rand(5, 1, 4, 4)
        began = Began(torch.zeros(0, 1, 4, 4), torch.zeros(0, 3), {})
        test = Split(torch.rand(5, 1, 4, 4), torch.arange(5) % 3)
        setting = Setting(*known, test, 3, lambda twins=twins: iter(twins), began)
        for control in CONTROLS:
            control(setting)
    assert len(used) == len(set(used)) >= 8 * len(CONTROLS) and min(used) > 1000


def nothing(images):
    return torch.zeros(len(images), dtype=torch.bool)


class _Same:
    def p_values(self, images):
        return torch.ones(len(images))


class Noisy(nn.Module):
    """Draws random numbers from torch's global generator whenever it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(16, 3)

    def forward(self, images):
        return self.line(images.flatten(1)) + 0.01 * torch.randn(len(images), 3)


def test_the_callers_random_state_and_that_of_other_devices_is_untouched(monkeypatch):
    def never(*args):
        raise AssertionError("torch seeded a device that is not in use")

    monkeypatch.setattr(torch, "manual_seed", never)
    for name in ("manual_seed_all", "manual_seed"):
        monkeypatch.setattr(torch.cuda, name, never)
    before = torch.get_rng_state()
    network = Noisy()
    torch.set_rng_state(before)
    one, two = (bc.fool(network, range(3), 2, shape=(1, 4, 4), steps=20, seed=5) for _ in range(2))
    assert isinstance(one, Fooling) and torch.equal(one.images, two.images)
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(ValueError), own_random_numbers(3):
        torch.rand(5)
        raise ValueError
    assert torch.equal(torch.get_rng_state(), before)
    with own_random_numbers(3):
        first = torch.rand(5)
    assert torch.equal(first, torch.rand(5, generator=torch.Generator().manual_seed(3)))
