"""Training with the bound: what the ramp does, what the penalty is, and that a certificate comes of it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from blankcheck.certifying import Sparse, bound_layers, certify, log_odds_bounds, read_network
from blankcheck.certifying.certificate import limit
from blankcheck.certifying.gate import Bright
from blankcheck.certifying.training import Penalty, Ramp, train_certified, wide_kernel
from blankcheck.classifiers import evaluate
from blankcheck.errors import ArgumentError


def small():
    torch.manual_seed(0)
    return nn.Sequential(Bright(0.25), nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))


def test_the_ramp_grows_from_nothing_to_all():
    ramp = Ramp(10, begin=0.2, end=0.6)
    assert [ramp.height(p) for p in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])
    assert [ramp.k_at(p) for p in (0.0, 0.21, 0.39, 1.0)] == [1, 1, 5, 10]


@pytest.mark.parametrize("change", [dict(k=0), dict(weight=0.0), dict(begin=0.7, end=0.7), dict(end=1.5)])
def test_a_ramp_that_cannot_be_is_refused(change):
    with pytest.raises(ArgumentError):
        Ramp(**({"k": 5} | change))


def test_the_penalty_is_what_is_proved_above_the_goal():
    network = small()
    ramp = Ramp(5, weight=2.0, margin=0.5)
    penalty = Penalty(network, (1, 8, 8), 10, ramp)
    assert float(penalty(0.0)) == 0
    made = bound_layers(read_network(network, (1, 8, 8)).layers(), Sparse(5), torch.zeros(()).double(), rounding=False)
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
    assert all(bool(p.grad.abs().sum() > 0) for p in (network[2].weight, network[4].weight, network[4].bias))


def test_a_network_trained_with_the_bound_is_certified(digits):
    network, told = small(), []
    train_certified(network, digits.train, digits.shape, 10, Ramp(5), 25, watch=lambda e, loss, p: told.append((loss, p)))
    proved = certify(network, digits.shape, 10)
    assert proved.smallest is not None and proved.smallest >= 5 and proved.means == "certified"
    assert evaluate(network, digits.test, 10, 0.9).accuracy > 0.85
    assert len(told) == 25 and told[0][1] == 0 and all(math.isfinite(v) for row in told for v in row)


def test_the_reference_network_can_be_read():
    network = wide_kernel((1, 28, 28), 10)
    assert network[1].kernel_size == (10, 10) and network[1].stride == (3, 3)
    assert read_network(network, (1, 28, 28)).outputs == 10
    assert read_network(wide_kernel((3, 8, 8), 11), (3, 8, 8)).outputs == 11
