from __future__ import annotations

import pytest
import torch
from torch import nn

import blankcheck as bc
from blankcheck.auditing import ATTACKS, within
from blankcheck.auditing.portfolio import BEST, PRESETS
from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.testing import Constant, stripes, stripes_template
from blankcheck.testing.deceivers import DeadAboutDense
from blankcheck.testing.stochastic import Noisy


@pytest.fixture(scope="module")
def fooled(plain, digits):
    return bc.audit(plain, digits, "smoke", seed=1)


def test_a_plain_network_is_fooled(fooled):
    assert (
        fooled.verdict == "FOOLED" and fooled.rate >= 0.95 and fooled.rate_upper_95 >= fooled.rate
    )
    j = fooled.json
    assert j["attempts"] == 100 and sum(t["attempts"] for t in j["targets"].values()) == 100
    assert (
        j["median_lit"] <= 12
        and {c["code"]: c["status"] for c in j["checks"]}["positive-control"] == "passed"
    )


def test_witnesses_meet_all_three_conditions(fooled, plain):
    w = fooled.witnesses
    assert len(w["images"]) == fooled.json["fooled"] + fooled.json["extra"]["fooled"]
    p = plain(w["images"]).softmax(1).gather(1, w["targets"][:, None]).squeeze(1)
    assert (p >= 0.9).all() and (w["lit"] <= 12).all() and (w["ood_p"] <= 0.01).all()
    assert ((w["images"] > 0).flatten(1).sum(1) == w["lit"]).all()
    assert w["nearest"].shape == w["images"].shape


def test_witnesses_say_where_they_come_from(fooled, plain):
    """Attack, seed, step, attempt, and whether 8 bits are enough for them."""
    w, attempts = fooled.witnesses, fooled.evidence.attempts
    fixed = ~w["extra"]
    assert int(fixed.sum()) == fooled.json["fooled"]
    assert [attempts[i].target for i in w["attempt"][fixed].tolist()] == w["targets"][
        fixed
    ].tolist()
    assert (w["seed"][fixed] == 1).all() and (w["step"] >= 1).all() and (w["step"] <= 150).all()
    assert [attempts[i].step for i in w["attempt"][fixed].tolist()] == w["step"][fixed].tolist()
    rounded = (w["images"] * 255).round() / 255
    p = plain(rounded).softmax(1).gather(1, w["targets"][:, None]).squeeze(1)
    assert ((p >= 0.9) | ~w["survives_8bit"]).all()
    assert fooled.json["eight_bit"] == {
        "witnesses": len(p),
        "survive": int(w["survives_8bit"].sum()),
    }
    assert w["survives_8bit"].float().mean() > 0.5


def test_everything_is_accounted_for(fooled):
    j = fooled.json
    assert j["second_opinion"]["attempts"] == 100 and j["second_opinion"]["rate"] > 0.9
    test = j["out_of_distribution_test"]
    assert (
        test["guarantee"] == "marginal"
        and test["real_images"] == 359
        and test["false_alarm_lower_95"] <= 0.01
    )
    assert (
        j["lit_curve"]["fooled"][-1] == j["rate"]
        and sorted(j["lit_curve"]["fooled"]) == j["lit_curve"]["fooled"]
    )
    assert sum(p["fooled"] for p in j["processes"].values()) == j["fooled"] and j["rivals"] == {}
    twin, control = j["twin"], j["controls"]["positive-control"]
    assert (
        (twin["fooled"], twin["attempts"])
        == (control["found"], control["tries"])
        == (len(twin["lit"]), 40)
    )
    assert all(
        sum(t["violated"].values()) >= t["attempts"] - t["fooled"] for t in j["targets"].values()
    )


@pytest.mark.slow
def test_a_score_of_ones_own_decides_what_is_out_of_distribution(plain, digits):
    """A score for which nothing is unusual, alone: no image is out of distribution, so nobody is
    fooled."""
    blind = bc.Score(("blind",), lambda real: lambda images: torch.zeros(len(images), 1))
    audit = bc.audit(plain, digits, "smoke", scores=(blind,))
    assert audit.json["fooled"] == 0 and audit.json["out_of_distribution_test"]["scores"] == [
        "blind"
    ]
    assert (
        audit.json["violated"]["out_of_distribution"] == 100
        and audit.json["sparse_confident"]["fooled"] == 100
    )


def test_same_seed_same_audit_and_the_network_is_left_alone(fooled, plain, digits):
    plain.train()
    before = fingerprint(plain)
    again = bc.audit(plain, digits, "smoke", seed=1)
    assert plain.training and fingerprint(plain) == before
    plain.eval()
    assert torch.equal(again.witnesses["images"], fooled.witnesses["images"])
    assert again.evidence.attempts == fooled.evidence.attempts


def test_an_honest_network_resists():
    audit = bc.audit(stripes_template(), stripes(2000), "smoke", max_lit=12)
    assert (
        audit.verdict == "RESISTED"
        and audit.json["fooled"] == 0
        and audit.json["real_confident"] > 0.95
    )
    assert len(audit.witnesses["images"]) == 0


def test_a_network_that_is_sure_of_nothing_is_inconclusive(digits):
    audit = bc.audit(Constant([0.0] * 10), digits, "smoke")
    assert audit.verdict == "INCONCLUSIVE" and audit.json["checks"][0]["status"] == "failed"


def test_witnesses_of_a_network_that_answers_at_random_are_scored_again(plain, digits):
    audit = bc.audit(Noisy(plain, logits=3.0), digits, "smoke")
    assert audit.verdict in ("FOOLED", "INCONCLUSIVE")
    assert {c["code"]: c["status"] for c in audit.json["checks"]}["repeatable"] == "failed"
    assert len(audit.witnesses["images"]) == audit.json["fooled"] + audit.json["extra"]["fooled"]


@pytest.mark.slow
def test_a_network_that_hides_from_noise_is_not_resisted(plain, digits):
    audit = bc.audit(DeadAboutDense(plain, limit=50), digits, "smoke")
    assert audit.verdict != "RESISTED" and audit.json["sparse_confident"]["fooled"] > 50


@pytest.mark.slow
def test_real_classes_are_the_targets_of_a_network_with_more_outputs(digits):
    class Reject(nn.Module):
        def forward(self, x):
            return torch.cat([torch.zeros(len(x), 10), torch.full((len(x), 1), 9.0)], 1)

    audit = bc.audit(UnitClassifier(Reject()), digits, "smoke")
    assert audit.json["real_taken_for_fake"] == 1.0 and set(audit.json["targets"]) == {
        str(i) for i in range(10)
    }


@pytest.mark.parametrize("steps", [1, 10, 30, 100, 500, 1000, 10_000])
def test_processes_stay_within_the_budget(steps):
    processes = within(steps)
    kept = [p for p in processes if not p.fallback]
    # of the attacks that go on from a best image, those for another number of lit features are left
    for lit in (1, 10**6):
        fits = [p for p in kept if p.lit[0] <= lit <= p.lit[1]]
        assert 1 <= sum(p.steps for p in fits) <= steps
    # an attempt that is given up has no confident image to go on from
    given_up = [p for p in processes if p.fallback or p.start != BEST]
    stops = (p.steps if p.early_stop_after is None else p.early_stop_after for p in given_up)
    assert sum(stops) <= steps


def test_larger_presets_look_harder():
    smoke, standard, proof = (PRESETS[n] for n in ("smoke", "standard", "proof"))
    assert proof.steps == 10 * standard.steps and smoke.steps < standard.steps
    assert len({p.name for p in ATTACKS}) == len(ATTACKS)
    assert standard.for_targets(10) == 50 and standard.for_targets(1000) == 5
