from __future__ import annotations

import json
from dataclasses import replace

import pytest
from helpers import attempt, evidence, verdict_of
from hypothesis import given
from hypothesis import strategies as st

from blankcheck.errors import ArgumentError
from blankcheck.judging import Verdict, run_checks, upper_bound_95, verdict_json
from blankcheck.judging.evidence import OODRecord
from blankcheck.judging.metrics import lit_levels, lit_thresholds, lower_bound_95, median
from blankcheck.types import Conditions


def test_nothing_found_by_a_strong_search_is_resisted():
    assert verdict_of(evidence()) == Verdict.RESISTED


def test_one_witness_is_fooled_also_outside_the_allocation():
    found = attempt(True, 9, 0.95, 0.001)
    assert verdict_of(evidence([attempt()] * 99 + [found])) == Verdict.FOOLED
    assert verdict_of(evidence(extra=(found,))) == Verdict.FOOLED
    assert verdict_json(evidence(extra=(found,)), (), Verdict.FOOLED)["rate"] == 0


def test_verdict_json_holds_the_contract():
    attempts = [
        attempt(True, 9, 0.95, 0.001),
        attempt(True, 21, 0.99, 0.001),
        attempt(False, 400, 0.95, 0.5, target=1),
        attempt(False, 20, 0.4, 0.001, target=1),
    ]
    e = evidence(attempts)
    j = json.loads(json.dumps(verdict_json(e, run_checks(e), Verdict.FOOLED), allow_nan=False))
    assert (j["schema"], j["attempts"], j["fooled"], j["rate"]) == (1, 4, 2, 0.5)
    assert (j["median_lit"], j["min_lit"]) == (15, 9)
    assert j["violated"] == {"sparse": 1, "confident": 1, "out_of_distribution": 1}
    assert j["sparse_confident"]["at_most"] == {"33": 0.5, "100": 0.5, "300": 0.5}
    assert j["targets"]["1"] == {
        "attempts": 2,
        "fooled": 0,
        "rate": 0.0,
        "rate_upper_95": upper_bound_95(0, 2),
        "median_lit": None,
        "min_lit": None,
        "violated": j["violated"],
    }
    assert j["targets"]["0"]["violated"] == {"sparse": 0, "confident": 0, "out_of_distribution": 0}
    assert j["processes"] == {"noise/adaptive": {"attempts": 4, "fooled": 2, "median_lit": 15}}
    assert j["certificate"] is None and {"forward", "backward", "seconds"} <= j["cost"].keys()
    assert {"code", "status", "finding"} <= j["checks"][0].keys()


def test_nothing_hides_behind_the_third_condition():
    """Confident and sparse images that look real, and images that only the second family of scores
    rejects, are counted."""
    real_looking = replace(attempt(False, 50, 0.95, 0.5), second_p=0.001)
    strange = replace(attempt(True, 20, 0.95, 0.001), second_p=0.4, survives_8bit=True)
    e = evidence(
        [real_looking, strange, attempt()], ood=OODRecord("marginal", ("few lit",), 0.001, 3, 400)
    )
    j = verdict_json(e, (), Verdict.FOOLED)
    assert j["rate"] == pytest.approx(1 / 3) and j["sparse_confident"]["fooled"] == 2
    assert j["second_opinion"] == {"attempts": 2, "fooled": 1, "rate": 0.5}
    assert j["eight_bit"] == {"witnesses": 1, "survive": 1}
    curve = j["lit_curve"]
    shares = zip(curve["fooled"], curve["sparse_confident"], strict=True)
    at = dict(zip(curve["lit"], shares, strict=True))
    assert at[20] == pytest.approx((1 / 3, 1 / 3)) and at[50] == pytest.approx((1 / 3, 2 / 3))
    assert at[10] == (0, 0) and curve["lit"][-1] == 300
    test = j["out_of_distribution_test"]
    assert (
        test["false_alarm_rate"] == 3 / 400
        and test["false_alarm_lower_95"] < 3 / 400 < test["false_alarm_upper_95"]
    )
    assert test["fooled_all_at_once"] == 1, "0.001 is at most 0.01 / 3"


def test_judged_all_at_once_weak_witnesses_fall_away():
    e = evidence(
        [attempt(True, 20, 0.95, 0.009), *[attempt()] * 99],
        ood=OODRecord("marginal", (), 0.001, 0, 100),
    )
    j = verdict_json(e, (), Verdict.FOOLED)
    assert j["fooled"] == 1 and j["out_of_distribution_test"]["fooled_all_at_once"] == 0


def test_rivals_are_listed_apart():
    j = verdict_json(evidence(rivals={"sigma-zero": (10, 4, 8)}), (), Verdict.RESISTED)
    assert (
        j["rivals"] == {"sigma-zero": {"attempts": 10, "fooled": 2, "median_lit": 6}}
        and j["rate"] == 0
    )


@pytest.mark.parametrize(
    ("found", "tries", "bound"),
    [(0, 59, 0.0495), (0, 1000, 0.002991), (981, 1000, 0.9875), (5, 5, 1), (0, 0, 1.0)],
)
def test_clopper_pearson_known_values(found, tries, bound):
    assert upper_bound_95(found, tries) == pytest.approx(bound, abs=2e-4)


@given(st.integers(1, 300), st.data())
def test_upper_bound_is_where_so_few_become_unlikely(tries, data):
    from scipy.stats import binom

    found = data.draw(st.integers(0, tries - 1))
    assert binom.cdf(found, tries, upper_bound_95(found, tries)) == pytest.approx(0.05, abs=1e-6)


def test_median_of_nothing_is_none():
    assert median([]) is None and median([3, 4]) == 3.5 and median([3, 5]) == 4


def test_lower_bound_mirrors_the_upper_one():
    assert lower_bound_95(0, 50) == 0 and lower_bound_95(0, 0) == 0
    assert lower_bound_95(50, 50) == pytest.approx(0.05 ** (1 / 50)) and lower_bound_95(
        3, 10
    ) < 0.3 < upper_bound_95(3, 10)


def test_lit_levels():
    assert lit_levels(12) == [1, 2, 3, 4, 5, 7, 8, 10, 12] and lit_levels(1) == [1]
    assert lit_levels(300) == [1, 2, 3, 5, 7, 10, 20, 30, 33, 50, 70, 100, 200, 300]


def test_lit_thresholds():
    assert (
        lit_thresholds(300) == [33, 100, 300]
        and lit_thresholds(12) == [4, 8, 12]
        and lit_thresholds(1) == [1]
    )


@pytest.mark.parametrize("bad", [{"confidence": 0}, {"max_lit": 0}, {"ood_level": 1}])
def test_conditions_out_of_range(bad):
    with pytest.raises(ArgumentError, match=next(iter(bad))):
        replace(Conditions(), **bad)
