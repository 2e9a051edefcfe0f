from __future__ import annotations

import json
from dataclasses import replace

import pytest
from helpers import TRUSTED, attempt, evidence, verdict_of
from hypothesis import given
from hypothesis import strategies as st

from blankcheck.errors import ArgumentError
from blankcheck.judging import Verdict, run_checks, upper_bound_95, verdict_json
from blankcheck.judging.evidence import OODRecord
from blankcheck.judging.metrics import lit_levels, lit_thresholds, lower_bound_95, median
from blankcheck.judging.verdict import level_why
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
    """Confident and sparse images that look real, and images that only the second opinion rejects,
    are counted."""
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


def test_images_that_are_odd_in_any_way_are_counted_and_decide_nothing():
    thin = replace(attempt(False, 50, 0.95, 0.5), odd_p=0.001)
    usual = replace(attempt(True, 20, 0.95, 0.001), odd_p=0.3)
    unsure = replace(attempt(False, 20, 0.4, 0.5), odd_p=0.001)
    j = verdict_json(evidence([thin, usual, unsure, attempt()]), (), Verdict.FOOLED)
    assert j["odd_in_any_way"] == {"attempts": 3, "fooled": 1, "rate": pytest.approx(1 / 3)}
    assert j["fooled"] == 1 and j["second_opinion"] == {"attempts": 0, "fooled": 0, "rate": None}


def test_the_rate_against_the_level():
    """As far down as the test reaches; of sparse and confident images alone."""
    p_values = 0.0004, 0.0006, 0.001, 0.002, 0.009, 0.01, 0.04, 0.3
    e = evidence([attempt(True, 20, 0.95, p) for p in p_values] + [attempt(p=0.0001)] * 2)
    reaches = replace(TRUSTED, smallest_p=0.0005)
    rows = verdict_json(replace(e, ood=reaches), (), Verdict.FOOLED)["by_level"]
    found = {"0.05": 7, "0.01": 6, "0.003": 4, "0.001": 3, "beyond all real images": 1}
    assert rows == {name: {"fooled": n, "rate": n / 10} for name, n in found.items()}
    rows = verdict_json(replace(e, ood=replace(TRUSTED, smallest_p=0.004)), (), Verdict.FOOLED)
    found = {"0.05": 7, "0.01": 6, "beyond all real images": 4}
    assert rows["by_level"] == {name: {"fooled": n, "rate": n / 10} for name, n in found.items()}
    assert verdict_json(replace(e, ood=None), (), Verdict.FOOLED)["by_level"] is None
    unknown = verdict_json(replace(e, ood=replace(TRUSTED, smallest_p=0.0)), (), Verdict.FOOLED)
    assert unknown["by_level"]["beyond all real images"]["fooled"] == 0, "of the first versions"


@given(st.lists(st.floats(0, 1), max_size=30), st.floats(1e-5, 0.2), st.sampled_from([0.001, 0.01]))
def test_rates_fall_with_the_level(p_values, smallest, level):
    attempts = [attempt(p <= level, 20, 0.95, p) for p in p_values]
    e = replace(evidence(attempts, ood=replace(TRUSTED, smallest_p=smallest)))
    e = replace(e, conditions=Conditions(ood_level=level))
    j = verdict_json(e, (), Verdict.FOOLED)
    fooled = [row["fooled"] for row in j["by_level"].values()]
    if smallest <= 0.05:
        assert fooled == sorted(fooled, reverse=True)
    if f"{level:g}" in j["by_level"]:
        assert j["by_level"][f"{level:g}"]["fooled"] == j["fooled"]


@pytest.mark.parametrize(
    ("chosen", "calibrating", "level", "words"),
    [
        ("given", 100_000, 0.01, "0.01 was asked for."),
        ("given", 100, 0.001, "0.001 was asked for."),
        (
            "auto",
            10_000,
            0.001,
            "10,000 different real images calibrate the test, at least the 2,995 that carry its "
            "guarantee at 0.001.",
        ),
        (
            "auto",
            288,
            0.01,
            "288 different real images calibrate the test, fewer than the 2,995 that carry its "
            "guarantee at 0.001.",
        ),
    ],
)
def test_why_the_level(chosen, calibrating, level, words):
    record = replace(TRUSTED, level_chosen=chosen, calibration_images=calibrating)
    assert level_why(record, level) == words
    e = replace(evidence(ood=record), conditions=Conditions(ood_level=level))
    test = verdict_json(e, (), Verdict.RESISTED)["out_of_distribution_test"]
    assert (test["level"], test["level_chosen"], test["level_why"]) == (level, chosen, words)


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
