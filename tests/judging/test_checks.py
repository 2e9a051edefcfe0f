"""Every check: one experiment that makes it fire, one that leaves it silent, one in which it does
not apply."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import GOOD, NO_MORE, TRUSTED, attempt, evidence, finding, verdict_of
from hypothesis import given, settings
from hypothesis import strategies as st

from blankcheck.judging import Control, Verdict, run_checks
from blankcheck.judging.check_rules import least_confident
from blankcheck.judging.checks import CHECKS
from blankcheck.judging.conformal import CONDITIONAL
from blankcheck.judging.evidence import Attempt, Proof
from blankcheck.judging.metrics import false_alarm_p_value
from blankcheck.types import Conditions

MANDATORY = {"real-confident", "false-alarms", "positive-control", "planted-control"}
MANDATORY |= {"more-steps", "gradient-health"}
FIRES = {
    "positive-control": Control("positive-control", 37, 40, "a twin"),
    "planted-control": Control("planted-control", 9, 10, "12 features each"),
    "gradient-health": Control("gradient-health", 2, 9, numbers={"hidden:noise": 0.5}),
    "unbounded": Control("unbounded", 39, 40),
    "repeatable": Control("repeatable", 1, 192, "when asked 10 times"),
    "batch-independent": Control("batch-independent", 3, 192, "among other neighbours"),
    "watched": Control("watched", 2, 192, "asked in 16 ways", numbers={"moved:so": 2.0}),
    "best-kept": Control("best-kept", 4, 50),
    "saturation": Control("saturation", 100, 192, "its outputs are probabilities"),
    **{code: Control(code, 1, 20, "Looking harder") for code in NO_MORE},
}


def without(code: str) -> tuple[Control, ...]:
    return tuple(c for c in GOOD if c.code != code)


def test_the_mandatory_checks_are_those_of_the_plan():
    assert {c.code for c in CHECKS if c.mandatory} == MANDATORY
    assert len({c.code for c in CHECKS}) == len(CHECKS) and all(
        c.title and c.what_to_do for c in CHECKS
    )
    assert all(c.means.endswith(".") and c.means.count(". ") == 0 for c in CHECKS), (
        "one sentence each"
    )
    assert len({c.means for c in CHECKS}) == len(CHECKS)


def test_every_check_has_an_experiment_that_makes_it_fire():
    assert (
        FIRES.keys()
        == {c.code for c in CHECKS} - {"real-confident", "false-alarms"}
        == {c.code for c in GOOD}
    )


@pytest.mark.parametrize("code", sorted(FIRES))
def test_a_check_that_fires_is_inconclusive_and_comes_first(code):
    e = evidence(controls=(*without(code), FIRES[code]))
    first = run_checks(e)[0]
    assert (
        (first.code, first.status) == (code, "failed")
        and first.finding.endswith(".")
        and first.what_to_do
    )
    assert verdict_of(e) == Verdict.INCONCLUSIVE


@pytest.mark.parametrize("code", sorted(FIRES))
def test_a_check_is_silent_when_all_is_well(code):
    assert (
        finding(evidence(), code).status == "passed" and verdict_of(evidence()) == Verdict.RESISTED
    )


@pytest.mark.parametrize("code", sorted(FIRES))
def test_a_check_that_does_not_apply_says_why(code):
    e = evidence(controls=(*without(code), Control(code, why_not="nothing is left to try")))
    said = finding(e, code)
    assert (
        said.status == "not-applicable"
        and said.finding == "Not applicable, because nothing is left to try."
    )
    assert verdict_of(e) == (Verdict.INCONCLUSIVE if code in MANDATORY else Verdict.RESISTED)


@pytest.mark.parametrize("code", sorted(FIRES))
def test_a_control_that_was_not_run_is_no_pass(code):
    assert finding(evidence(controls=without(code)), code).status == "not-applicable"


def beside(twin: float | None) -> tuple[Control, ...]:
    """Controls of which the positive one noted how often its twin is right and sure."""
    numbers = {} if twin is None else {"twin_real_confident": twin}
    return (
        *without("positive-control"),
        Control("positive-control", 40, 40, "a twin", "", numbers),
    )


@pytest.mark.parametrize(
    ("share", "twin", "passed"),
    [
        (0.955, 0.98, True),
        (0.945, 0.98, False),
        (1.0, 0.9, True),
        (0.6, 0.62, True),
        (0.58, 0.62, False),
        (0.51, 0.1, True),
        (0.49, 0.1, False),
        (0.49, 0.0, False),
        (0.91, None, True),
        (0.9, None, True),
        (0.89, None, False),
    ],
)
def test_a_network_is_as_sure_as_its_plain_twin_but_for_three_points(share, twin, passed):
    """And of half of all real images at least; without a twin, of nine in ten."""
    e = evidence(controls=beside(twin), confident=share)
    said = finding(e, "real-confident")
    assert said.status == ("passed" if passed else "failed")
    assert verdict_of(e) == (Verdict.RESISTED if passed else Verdict.INCONCLUSIVE), "timid"
    of_twin = (
        "there is no twin to compare with" if twin is None else f"{twin:.1%} of its plain twin"
    )
    least = 0.9 if twin is None else max(0.5, twin - 0.03)
    assert f"at least {least:.1%} are asked ({of_twin})" in said.finding
    assert f"{share:.1%} of real test images" in said.finding
    assert ("being timid is not being robust" in said.finding) == (not passed)


@pytest.mark.parametrize("twin", [None, 0.0, 0.5, 0.99])
def test_a_network_that_is_never_sure_is_inconclusive_whatever_its_twin(twin):
    assert verdict_of(evidence(controls=beside(twin), confident=0.0)) == Verdict.INCONCLUSIVE


def test_real_confident_always_applies():
    assert finding(evidence(confident=0.97, controls=()), "real-confident").status == "passed"
    why_not = (*without("positive-control"), Control("positive-control", why_not="no twin"))
    assert finding(evidence(confident=0.6, controls=why_not), "real-confident").status == "failed"
    assert least_confident(0.98) == pytest.approx(0.95) and least_confident(0.2) == 0.5
    assert least_confident(None) == 0.9


def test_the_positive_control_says_what_a_twin_that_is_seldom_sure_took():
    numbers = {"twin_real_confident": 0.6, "steps": 450.0}
    harder = Control("positive-control", 39, 40, "a plain twin", numbers=numbers)
    said = finding(evidence(controls=(*without("positive-control"), harder)), "positive-control")
    assert said.status == "passed" and said.finding == (
        "The same search, again and with up to 450 steps where it failed, fools 39 of 40 attempts "
        "on a plain twin."
    )


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({"not-finite:noise": 0.05}, "noise 5% not finite"),
        ({"hidden:real-other": 0.3}, "real-other 30% zero although the answer moves"),
        ({"wrong:blend": 0.26}, "blend 26% contradicted by finite differences"),
        ({"dead:real-target": 0.11}, "real-target 11% zero at real images"),
    ],
)
def test_gradient_health_names_what_is_wrong_and_where(numbers, words):
    control = Control("gradient-health", 0, 9, numbers=numbers)
    said = finding(evidence(controls=(*without("gradient-health"), control)), "gradient-health")
    assert said.status == "failed" and words in said.finding


def test_gradients_may_be_flat_where_nothing_moves():
    shares = {"flat:noise": 1.0, "hidden:noise": 0.0, "dead:real-target": 0.1}
    flat = Control("gradient-health", 4, 9, numbers=shares)
    e = evidence(controls=(*without("gradient-health"), flat))
    assert finding(e, "gradient-health").status == "passed"


def test_the_planted_control_states_its_scope():
    def said(found, **numbers):
        control = Control("planted-control", found, 11, "12 features each", numbers=numbers)
        return finding(evidence(controls=(*without("planted-control"), control)), control.code)

    numbers = {"narrowest_reach": 1.25, "any:bars": 1.0}
    good = said(11, **numbers)
    assert good.status == "passed" and "any:" not in good.finding
    assert "felt within 1.25 times their own ink, so by black itself" in good.finding
    assert "nothing is said of narrower ones" in good.finding
    near = said(11, **numbers | {"narrowest_reach": 0.8}).finding
    assert "so by an image that holds more than 20% of one and nothing else" in near
    bad = said(10, **numbers | {"any:bars": 0.0})
    assert bad.status == "failed" and "not found: bars" in bad.finding


def test_an_attempt_names_each_condition_it_violates():
    want = Conditions()
    assert attempt(lit=301, confidence=0.89, p=0.02).violates(want) == [
        "sparse",
        "confident",
        "out_of_distribution",
    ]
    image = attempt(lit=300, confidence=0.9, p=0.01)
    assert image.violates(want) == [] and image.violates(want, ood_p=0.5) == ["out_of_distribution"]
    assert isinstance(replace(image, step=3), Attempt)


@pytest.mark.parametrize(
    ("alarms", "failed"), [(0, False), (20, False), (28, False), (29, True), (380, True)]
)
def test_the_out_of_distribution_test_is_on_trial(alarms, failed):
    """At level 0.01 and 2000 images, 29 alarms are too many to be chance: their lower 95 % bound is
    0.0102."""
    e = evidence(ood=replace(TRUSTED, false_alarms=alarms))
    assert finding(e, "false-alarms").status == ("failed" if failed else "passed")
    assert verdict_of(e) == (Verdict.INCONCLUSIVE if failed else Verdict.RESISTED)
    assert str(alarms) in finding(e, "false-alarms").finding


def test_few_calibration_images_may_be_unlucky():
    """4 alarms of 108 are too many for the level 0.01 itself. But every alarm passes the largest of
    115 calibration images, as four of 108 fresh images do with probability 5.3 %, and five with 2.5
    %."""
    few = replace(TRUSTED, false_alarms=4, real_images=108, calibration_images=115)
    assert finding(evidence(ood=few), "false-alarms").status == "passed"
    assert (
        "by chance (5%) where 115 calibrate it"
        in finding(evidence(ood=few), "false-alarms").finding
    )
    assert finding(evidence(ood=replace(few, false_alarms=5)), "false-alarms").status == "failed"
    assert (
        finding(evidence(ood=replace(few, guarantee=CONDITIONAL)), "false-alarms").status
        == "failed"
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60), st.integers(1, 5), st.integers(0, 2**16))
def test_alarms_by_chance_is_how_often_it_happens(tried, calibrating, rank, seed):
    rank, rng = min(rank, calibrating), np.random.default_rng(seed)
    scores = rng.random((4000, tried + calibrating))
    border = np.sort(scores[:, tried:], axis=1)[:, -rank]
    alarms = (scores[:, :tried] > border[:, None]).sum(axis=1)
    asked = int(rng.integers(0, tried + 1))
    chance = false_alarm_p_value(asked, tried, calibrating, rank)
    assert (
        abs(float((alarms >= asked).mean()) - chance)
        <= 5 * (chance * (1 - chance) / 4000) ** 0.5 + 1e-3
    )


@pytest.mark.parametrize(
    "ood", [None, replace(TRUSTED, false_alarms=0, real_images=0)], ids=["no test", "no images"]
)
def test_a_test_that_was_not_tried_is_not_trusted(ood):
    e = evidence(ood=ood)
    assert (
        finding(e, "false-alarms").status == "not-applicable"
        and verdict_of(e) == Verdict.INCONCLUSIVE
    )


def test_certified_needs_a_network_that_is_sure_of_real_images():
    proof = Proof((300, 300), (0.4, 0.4), 0.9, "features", "certified", "0" * 16, 1.0)
    assert verdict_of(evidence(proof=proof)) == Verdict.CERTIFIED
    assert verdict_of(evidence(proof=proof, confident=0.0)) == Verdict.INCONCLUSIVE
    sure = {"controls": beside(0.62), "proof": proof}
    assert verdict_of(evidence(confident=0.6, **sure)) == Verdict.CERTIFIED
    assert verdict_of(evidence(confident=0.58, **sure)) == Verdict.INCONCLUSIVE
