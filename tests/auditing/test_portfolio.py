from __future__ import annotations

import pytest
import torch

from blankcheck.auditing.attack_run import Job
from blankcheck.auditing.attempts import run_attempts
from blankcheck.auditing.portfolio import ATTACKS, BEST, Attack, always, within
from blankcheck.fooling import NEED_REAL, TabuSearch
from blankcheck.testing import Planted
from blankcheck.types import Conditions

SHAPE = (1, 8, 8)
FROM_NOTHING = tuple(a for a in ATTACKS if a.start not in NEED_REAL)


@pytest.mark.parametrize("attacks", [ATTACKS, FROM_NOTHING])
@pytest.mark.parametrize("steps", [25, 30, 100, 199, 400, 1000, 10_000])
def test_a_budget_is_spent_once_whichever_way_an_attempt_goes(steps, attacks):
    made = within(steps, attacks)
    at = next(i for i, attack in enumerate(made) if attack.start == BEST)
    (look, descent, *noise), (halves, exchange, dense, *fallbacks) = made[:at], made[at:]
    begun = sum(attack.steps for attack in made[:at])
    assert begun + halves.steps + exchange.steps == steps == begun + dense.steps
    early = (look.early_stop_after or look.steps) + sum(a.steps for a in noise)
    given_up = sum(attack.steps for attack in fallbacks)
    assert 0 <= steps - early - descent.early_stop_after - given_up <= len(fallbacks)
    # who has found nothing by then falls back
    assert all(attack.early_stop_after == attack.steps for attack in noise)
    assert all(attack.fallback for attack in fallbacks)
    assert exchange.lit[1] + 1 == dense.lit[0]


def test_the_longest_short_budget_hangs_on_real_images():
    few, all_of = 6 + 3, 3
    assert len(within(199)) == few == len(within(399, FROM_NOTHING))
    assert len(within(200)) == len(ATTACKS) + all_of
    assert len(within(400, FROM_NOTHING)) == len(FROM_NOTHING) + all_of
    assert len(within(24)) == 4 and len(within(10)) == 1


def test_attempts_that_are_refused_fall_back_within_their_budget():
    """The planted image is found at once, and nobody accepts it: all attacks are tried."""
    attacks = within(300, FROM_NOTHING)
    goal = Conditions(0.9, 64)
    refused = Job(
        Planted(pixels=5),
        "logits",
        SHAPE,
        goal,
        attacks,
        0,
        accept=lambda x: x.flatten(1)[:, 0] > 2,
    )
    tried = run_attempts(refused, [0, 1])
    fallback = torch.tensor([a.fallback for a in attacks])
    assert bool(tried.ran[:, fallback].any()) and not bool(tried.best.met.any())
    assert int(tried.best.steps.max()) <= 300


@pytest.mark.parametrize(("lit", "runs"), [((0, 4), False), ((5, 9), True), ((6, 9), False)])
def test_an_attack_that_goes_on_runs_for_its_range_of_lit_features(lit, runs):
    rule, goal = always(TabuSearch()), Conditions(0.9, 64)
    attacks = (Attack("black", "exchange", rule, 30), Attack(BEST, "exchange", rule, 5, lit=lit))
    job = Job(Planted(pixels=5), "logits", SHAPE, goal, attacks, stop_at_lit=0)
    tried = run_attempts(job, [0, 1])
    assert tried.best.lit.tolist() == [5, 5]
    assert torch.equal(tried.ran[:, 1], torch.full((2,), runs))
