from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from blankcheck.errors import ArgumentError, DataError
from blankcheck.judging import Control, Evidence, OODTest, RealData, Verdict, judge, run_checks, upper_bound_95, verdict_json
from blankcheck.judging.evidence import Attempt, Cost
from blankcheck.judging.metrics import lit_thresholds, median
from blankcheck.types import Conditions

GOOD = (
    Control("positive-control", 40, 40, "a plain twin"),
    Control("more-steps", 0, 20, "With 5000 steps"),
    Control("more-starts", 0, 20, "From blends"),
    Control("gradient-health", 6, 6, "all of them"),
    Control("repeatable", 0, 64, "twice"),
)


def attempt(fooled: bool = False, lit: int = 200, confidence: float = 0.5, p: float = 0.5, target: int = 0) -> Attempt:
    fewest = lit if confidence >= 0.9 else None
    return Attempt(target, fooled, "noise/adaptive", lit, confidence, p, fewest)


def evidence(attempts=None, controls=GOOD, confident=0.97, extra=()) -> Evidence:
    attempts = tuple(attempts) if attempts is not None else tuple(attempt() for _ in range(50))
    return Evidence(Conditions(), ("a", "b"), attempts, {"noise/adaptive": len(attempts)},
                    RealData(0.99, confident, 0.0, confident), controls, Cost(10, 5, 1.0), extra)  # fmt: skip


def verdict_of(e: Evidence) -> Verdict:
    return judge(e, run_checks(e))


def test_nothing_found_by_a_strong_search_is_resisted():
    assert verdict_of(evidence()) == Verdict.RESISTED


def test_one_witness_is_fooled_also_outside_the_allocation():
    found = attempt(True, 9, 0.95, 0.001)
    assert verdict_of(evidence([attempt()] * 99 + [found])) == Verdict.FOOLED
    assert verdict_of(evidence(extra=(found,))) == Verdict.FOOLED
    assert verdict_json(evidence(extra=(found,)), (), Verdict.FOOLED)["rate"] == 0


@pytest.mark.parametrize("missing", ["positive-control", "more-steps", "gradient-health"])
def test_a_mandatory_check_that_did_not_run_is_inconclusive(missing):
    assert verdict_of(evidence(controls=tuple(c for c in GOOD if c.code != missing))) == Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("code", "fires"),
    [
        ("positive-control", Control("positive-control", 37, 40, "a twin")),
        ("more-steps", Control("more-steps", 1, 20, "With more")),
        ("more-starts", Control("more-starts", 1, 20, "From blends")),
        ("gradient-health", Control("gradient-health", 2, 6, "noise 0%")),
        ("repeatable", Control("repeatable", 3, 64, "twice")),
    ],
)
def test_each_check_fires_is_silent_and_may_not_apply(code, fires):
    def status(controls):
        return {f.code: f for f in run_checks(evidence(controls=controls))}[code]

    others = tuple(c for c in GOOD if c.code != code)
    assert status(GOOD).status == "passed"
    failed = status((*others, fires))
    assert failed.status == "failed" and str(fires.found) in failed.finding
    assert verdict_of(evidence(controls=(*others, fires))) == Verdict.INCONCLUSIVE
    quiet = status((*others, Control(code, why_not="nothing is left to try")))
    assert quiet.status == "not-applicable" and "because nothing is left to try" in quiet.finding


def test_timid_is_not_robust():
    e = evidence(confident=0.6)
    assert verdict_of(e) == Verdict.INCONCLUSIVE
    assert run_checks(e)[0].code == "real-confident", "failing checks come first"


def test_verdict_json_holds_the_contract():
    attempts = [attempt(True, 9, 0.95, 0.001), attempt(True, 21, 0.99, 0.001), attempt(False, 400, 0.95, 0.5, target=1),
                attempt(False, 20, 0.4, 0.001, target=1)]  # fmt: skip
    e = evidence(attempts)
    j = json.loads(json.dumps(verdict_json(e, run_checks(e), Verdict.FOOLED), allow_nan=False))
    assert (j["schema"], j["attempts"], j["fooled"], j["rate"]) == (1, 4, 2, 0.5)
    assert (j["median_lit"], j["min_lit"]) == (15, 9)
    assert j["violated"] == {"sparse": 1, "confident": 1, "out_of_distribution": 1}
    assert j["sparse_confident"]["at_most"] == {"33": 0.5, "100": 0.5, "300": 0.5}
    assert j["targets"]["1"] == {"attempts": 2, "fooled": 0, "rate": 0.0, "rate_upper_95": upper_bound_95(0, 2),
                                 "median_lit": None, "min_lit": None}  # fmt: skip
    assert j["processes"] == {"noise/adaptive": {"attempts": 4, "fooled": 2, "median_lit": 15}}
    assert j["certificate"] is None and {"forward", "backward", "seconds"} <= j["cost"].keys()
    assert {"code", "status", "finding"} <= j["checks"][0].keys()


@pytest.mark.parametrize(("found", "tries", "bound"), [(0, 59, 0.0495), (0, 1000, 0.002991), (981, 1000, 0.9875), (5, 5, 1),
                                                      (0, 0, 1.0)])  # fmt: skip
def test_clopper_pearson_known_values(found, tries, bound):
    assert upper_bound_95(found, tries) == pytest.approx(bound, abs=2e-4)


@given(st.integers(1, 300), st.data())
def test_upper_bound_is_where_so_few_become_unlikely(tries, data):
    from scipy.stats import binom

    found = data.draw(st.integers(0, tries - 1))
    assert binom.cdf(found, tries, upper_bound_95(found, tries)) == pytest.approx(0.05, abs=1e-6)


def test_median_of_nothing_is_none():
    assert median([]) is None and median([3, 4]) == 3.5 and median([3, 5]) == 4


def test_lit_thresholds():
    assert lit_thresholds(300) == [33, 100, 300] and lit_thresholds(12) == [4, 8, 12] and lit_thresholds(1) == [1]


def blobs(n: int, seed: int) -> torch.Tensor:
    """Smooth real-looking 12x12 images."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:12, :12]
    centre = rng.uniform(4, 8, (n, 2))
    size = rng.uniform(2, 4, n)
    r = (y - centre[:, :1, None]) ** 2 + (x - centre[:, 1:, None]) ** 2
    return torch.tensor(np.exp(-r / size[:, None, None] ** 2), dtype=torch.float32)[:, None].clamp(0, 1)


def test_false_alarms_stay_at_the_level_and_blank_images_are_caught():
    test = OODTest.fit(blobs(2000, 0), 0.05)
    fresh = blobs(3000, 1)
    alarms = float(test.accepts(fresh).float().mean())
    assert alarms <= 0.05 + 3 * (0.05 * 0.95 * (1 / 3000 + 1 / 800)) ** 0.5
    few = torch.zeros(20, 1, 12, 12)
    few.view(20, -1)[torch.arange(20), torch.arange(20) * 7] = 1
    assert test.accepts(few).all() and test.accepts(torch.zeros(1, 1, 12, 12)).all()
    assert test.accepts(torch.rand(20, 1, 12, 12, generator=torch.Generator().manual_seed(0))).all()


def test_p_values_are_uniform_on_real_images():
    p = OODTest.fit(blobs(3000, 2), 0.05).p_values(blobs(4000, 3))
    for level in (0.1, 0.25, 0.5, 0.75):
        assert float((p <= level).float().mean()) == pytest.approx(level, abs=0.05)


def test_p_value_does_not_depend_on_the_batch():
    test, images = OODTest.fit(blobs(1000, 0), 0.05), blobs(50, 5)
    assert torch.equal(test.p_values(images)[7:8], test.p_values(images[7:8]))


def test_too_few_real_images_are_refused():
    with pytest.raises(DataError, match="needs at least 248 real images"):
        OODTest.fit(blobs(200, 0), 0.01)


@pytest.mark.parametrize("bad", [{"confidence": 0}, {"max_lit": 0}, {"ood_level": 1}])
def test_conditions_out_of_range(bad):
    with pytest.raises(ArgumentError, match=next(iter(bad))):
        replace(Conditions(), **bad)
