"""Training with the bound: what the ramp does, what the penalty is, and that a certificate comes of
it."""

from __future__ import annotations

import json
import math

import pytest
import torch

from blankcheck.auditing.portfolio import PRESETS, Preset
from blankcheck.certifying import Penalty, Ramp, Sparse, bound_layers, log_odds_bounds, read_network
from blankcheck.certifying.log_odds import limit
from blankcheck.classifiers import UnitClassifier, build
from blankcheck.cli.main import main
from blankcheck.errors import ArgumentError
from blankcheck.hardening import Hardening, HardeningPlan

FACTORY = """
import torch
from torch import nn
from blankcheck.classifiers.reference import Bright

def make():
    torch.manual_seed(0)
    hidden, last = nn.Linear(64, 48), nn.Linear(48, 10)
    return nn.Sequential(Bright(0.25), nn.Flatten(), hidden, nn.ReLU(), last)
"""
SCOPE: dict = {}
exec(FACTORY, SCOPE)
small = SCOPE["make"]


def test_the_ramp_grows_from_nothing_to_all():
    ramp = Ramp(10, begin=0.2, end=0.6)
    assert [ramp.height(p) for p in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert [ramp.k_at(p) for p in (0.0, 0.21, 0.39, 1.0)] == [1, 1, 5, 10]


@pytest.mark.parametrize(
    "change", [dict(k=0), dict(weight=0.0), dict(begin=0.7, end=0.7), dict(end=1.5)]
)
def test_a_ramp_that_cannot_be_is_refused(change):
    with pytest.raises(ArgumentError):
        Ramp(**({"k": 5} | change))


def test_the_penalty_is_what_is_proved_above_the_goal():
    network = small()
    ramp = Ramp(5, weight=2.0, margin=0.5)
    penalty = Penalty(network, (1, 8, 8), 10, ramp)
    assert float(penalty(0.0)) == 0
    made = bound_layers(
        read_network(network, (1, 8, 8)).layers(),
        Sparse(5),
        torch.zeros(()).double(),
        rounding=False,
    )
    bounds = log_odds_bounds(made, 10).detach()
    wanted = 2.0 * (bounds - (limit(0.9, 10) - 0.5)).clamp(min=0).mean().item()
    assert penalty(1.0).item() == pytest.approx(wanted, rel=1e-3, abs=1e-5)


def test_the_penalty_sees_weights_as_they_are():
    network = small()
    penalty = Penalty(network, (1, 8, 8), 10, Ramp(20))
    with torch.no_grad():
        network[2].weight.mul_(3)
        before = float(penalty(1.0))
        network[4].weight.mul_(10)
    grown = penalty(1.0)
    assert grown.item() > before + 1
    grown.backward()
    assert all(
        bool(p.grad.abs().sum() > 0)
        for p in (network[2].weight, network[4].weight, network[4].bias)
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A network hardened by the bound alone."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "net.py").write_text(FACTORY)
    out = folder / "h"
    given = (
        f"harden --data digits --model {folder / 'net.py'}:make --schedule none --certify 3 "
        f"--certify-weight 2 --epochs 40 --rounds 4 --preset smoke --out {out} --quiet"
    )
    with pytest.MonkeyPatch.context() as patch:
        # what the search finds is not the point
        patch.setitem(PRESETS, "smoke", Preset(attempts=20, per_target=2, steps=30))
        assert main(given.split()) == 0
        yield out  # verify counts attempts by the preset


def test_a_network_hardened_with_the_bound_is_certified(run):
    rounds = [
        r
        for r in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        if r["kind"] == "round"
    ]
    assert [r["proved"] for r in rounds][-1] == 3, (
        "what is looked at between rounds ends with what was asked for"
    )
    assert (
        all(math.isfinite(r["penalty"]) for r in rounds) and max(r["penalty"] for r in rounds) > 0
    )
    verdict = json.loads((run / "verdict.json").read_text())
    proof = verdict["certificate"]
    assert (
        proof["smallest"] >= 3 and proof["means"] == "certified" and verdict["real_accuracy"] > 0.85
    )
    assert (
        verdict["sparse_confident"]["fooled"] == 0
        or min(f for f in proof["found"] if f is not None) > proof["smallest"]
    )


def test_its_certificate_is_proved_again_and_shown(run, capsys):
    folder = run.parent
    assert main(["verify", str(run), "--model", f"{folder / 'net.py'}:make", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["certificate"] is True
    page = (run / "report.html").read_text()
    k = json.loads((run / "verdict.json").read_text())["certificate"]["smallest"]
    assert (
        'id="certificate"' in page
        and f"Proved beside it: No image with at most {k} of 64 lit pixels" in page
    )


@pytest.mark.slow
def test_a_network_of_which_less_was_asked_is_not_kept(digits):
    """One that has hardly begun to learn is never sure: everything is proved of it, and it is of no
    use."""
    plan = HardeningPlan(
        epochs=30,
        rounds=3,
        schedule="none",
        certify=2,
        certify_weight=2,
        fresh_attempts=10,
        fresh_steps=40,
    )
    work = Hardening(UnitClassifier(small()), digits, plan, seed=0)
    rounds = list(work.rounds())
    assert (
        rounds[0].proved == 2 and rounds[0].validation_confident < 0.1 and not rounds[0].fresh_rate
    )
    assert work.kept.proved == 2 and work.kept.confident > 0.3 and work.kept.asked == 1
    assert rounds[0].trained_share == 0 and len(work.evaluator.trained[0]) == 0


def test_the_reference_network_takes_images_as_they_are():
    network = build("cnn-wide-kernel", (1, 28, 28), 10, ((0.13,), (0.31,)))
    assert not bool(network.mean.any()) and bool((network.std == 1).all())
    assert network.network[1].kernel_size == (10, 10) and network.network[1].stride == (3, 3)
    assert read_network(network, (1, 28, 28)).outputs == 10
    assert read_network(build("cnn-wide-kernel", (3, 8, 8), 11), (3, 8, 8)).outputs == 11
