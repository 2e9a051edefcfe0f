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


@pytest.mark.parametrize("steps", [25, 100, 199])
def test_a_short_budget_is_spent_once_whichever_way_an_attempt_goes(steps):
    first, second, exchange, dense, *fallbacks = within(steps)
    begun = first.steps + second.steps
    assert begun + exchange.steps == steps == begun + dense.steps
    given_up = sum(attack.steps for attack in fallbacks)
    assert first.steps + second.early_stop_after + given_up == steps
    assert all(attack.fallback for attack in fallbacks)
    assert exchange.lit[1] + 1 == dense.lit[0]


def test_the_longest_short_budget_hangs_on_real_images():
    assert len(within(300)) == len(ATTACKS) and len(within(300, FROM_NOTHING)) == 7
    assert len(within(400, FROM_NOTHING)) == len(FROM_NOTHING)
    assert len(within(24)) == 4 and len(within(10)) == 1


@pytest.mark.parametrize(("lit", "runs"), [((0, 4), False), ((5, 9), True), ((6, 9), False)])
def test_an_attack_that_goes_on_runs_for_its_range_of_lit_features(lit, runs):
    rule, goal = always(TabuSearch()), Conditions(0.9, 64)
    attacks = (Attack("black", "exchange", rule, 30), Attack(BEST, "exchange", rule, 5, lit=lit))
    job = Job(Planted(pixels=5), "logits", SHAPE, goal, attacks, stop_at_lit=0)
    tried = run_attempts(job, [0, 1])
    assert tried.best.lit.tolist() == [5, 5]
    assert torch.equal(tried.ran[:, 1], torch.full((2,), runs))
