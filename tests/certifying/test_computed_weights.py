"""Weights that a network computes itself: taken as it computes them, doubted where rounding
decides, and still trainable."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from proofs import Net, proved
from torch import nn
from torch.nn.utils import parametrizations

from blankcheck.certifying import (
    Sparse,
    bound_layers,
    certify,
    log_odds_bounds,
    read_network,
)
from blankcheck.errors import ModelError

SHAPE = (1, 4, 4)


class Computing(nn.Module):
    """One linear layer whose weight is a function of parameters."""

    def __init__(self, weight, rows=2):
        super().__init__()
        self.compute = weight
        self.w = nn.Parameter(torch.randn(rows, 16, generator=torch.Generator().manual_seed(0)))
        self.step = nn.Parameter(torch.tensor(0.1))

    def forward(self, x):
        return F.linear(x.flatten(1), self.compute(self))


def quantised(m):
    return torch.round(m.w / m.step) * m.step


def standardised(m):
    w = m.w - m.w.mean(1, keepdim=True)
    return w / (w.std(1, keepdim=True) + 1e-5) * 0.3


def normed(m):
    return m.w / m.w.norm(dim=1, keepdim=True)


def by_a_step_of_its_own(m):
    step = m.w.square().mean().sqrt() / 8
    return torch.round(m.w / step) * step


@torch.no_grad()
def test_quantised_weights_are_the_ones_that_run():
    """Ties of float32 that float64 rounds to the other side: each weight lacks one step."""
    step = torch.tensor(0.1)
    ties = [
        w
        for v in range(4000)
        if torch.round((w := (v + 0.5) * step) / step) > torch.round(w.double() / step.double())
    ]
    assert ties, "float32 and float64 agree on every tie"
    module = Computing(quantised)
    with torch.no_grad():
        module.w[0], module.w[1] = ties[0], ties[0] - 0.06
    network = read_network(module, SHAPE)
    matrix = next(
        layer.map.weight
        for layer in network.layers()
        if layer.kind == "linear" and hasattr(layer.map, "weight")
    )
    assert torch.equal(matrix.T.float(), quantised(module).detach())
    assert all(layer.doubt is None for layer in network.layers()), (
        "what float32 rounds in one way only is not doubted"
    )
    assert float(proved(network, 16)[0]) >= float(
        (module(torch.ones(1, *SHAPE)) * torch.tensor([1, -1])).sum()
    )


@pytest.mark.parametrize("mean, refused", [(0.0, False), (1.0, False), (100.0, True)])
def test_weights_that_rounding_decides_are_doubted_or_refused(mean, refused):
    """The mean of the weights cancels, and with it their last places."""
    module = Computing(standardised)
    with torch.no_grad():
        module.w.mul_(1e-3).add_(mean)
    if refused:
        with pytest.raises(ModelError, match="depend on rounding"):
            read_network(module, SHAPE)
        return
    network = read_network(module, SHAPE)
    w = standardised(module).detach()
    wide = standardised(module.double()).detach()
    module.float()
    image = (w[0] > w[1]).float().view(1, *SHAPE)
    with torch.no_grad():
        margin = float((module(image) * torch.tensor([1, -1])).sum())
    assert margin <= float(proved(network, 16)[0]) <= margin + 0.3
    (layer,) = [layer for layer in network.layers() if layer.doubt is not None]
    assert bool((layer.doubt.map.weight >= 2 * (w.double() - wide).abs().max()).all())


@pytest.mark.parametrize("tie", [True, False])
def test_a_step_that_is_a_mean_decides_at_ties(tie):
    """Rounded by a number that is itself rounded, a tie may fall to either side."""
    module = Computing(by_a_step_of_its_own)
    network = read_network(module, SHAPE)
    for seed in range(20):
        with torch.no_grad():
            module.w.copy_(
                torch.randn(module.w.shape, generator=torch.Generator().manual_seed(seed))
            )
            for _ in range(30):  # the step hangs on the weight that is to stand between two steps
                module.w[0, 0] = (
                    (2.5 if tie else 2.4) * module.w.double().square().mean().sqrt() / 8
                )
        if tie:
            with pytest.raises(ModelError, match="depend on rounding"):
                network.layers()
        else:
            network.layers()


@pytest.mark.parametrize("side", [1, -1])
def test_what_a_sum_decides_near_its_border_is_refused(side):
    """Whether the scale is 1 or -1 hangs on the last places of a sum, whatever this machine makes
    of it."""

    def scale_of_a_sign(module):
        return module.w * torch.sign(module.w.sum() - module.border)

    module = Computing(scale_of_a_sign)
    total = float(module.w.detach().double().sum())
    for away, refused in ((1e-7, True), (1.0, False)):
        module.register_buffer("border", torch.tensor(total + side * away))
        if refused:
            with pytest.raises(ModelError, match="depend on rounding"):
                read_network(module, SHAPE)
        else:
            read_network(module, SHAPE)


def test_a_sum_that_cancels_is_refused_even_where_it_comes_out_exactly():
    def of_a_sum(module):
        return module.w[:, :16] * (module.large.sum() - 8)

    module = Computing(of_a_sum)
    module.register_buffer("large", torch.tensor([2.0**30, 8.0, -(2.0**30)]))
    with pytest.raises(ModelError, match="depend on rounding"):
        read_network(module, SHAPE)


@pytest.mark.parametrize(
    "weight",
    [normed, standardised, lambda m: m.w @ m.w.T @ m.w / 16],
    ids=["normed", "standard", "product"],
)
def test_doubt_covers_other_orders_of_summing(weight):
    """The same weights, whose rows are summed from the other end."""
    module = Computing(weight)
    network = read_network(module, SHAPE)
    (layer,) = [layer for layer in network.layers() if layer.doubt is not None]
    here = weight(module).detach()
    with torch.no_grad():
        module.w.copy_(module.w.flip(1))
        there = weight(module).flip(1)
    assert (
        bool(((here - there).abs() <= layer.doubt.map.weight.T).all())
        and float(layer.doubt.map.weight.detach().max()) < 1e-4
    )


def plain(weight):
    network = Net(lambda m, x: F.linear(x.flatten(1), m.w))
    network.w = nn.Parameter(weight)
    return network


@pytest.mark.parametrize(
    "cast",
    [
        lambda m: m.w.half().float(),
        lambda m: m.w.bfloat16().float(),
        lambda m: m.w.double().half().float(),
    ],
)
def test_casts_of_weights_are_made(cast):
    module = Computing(cast)
    (layer,) = [
        layer for layer in read_network(module, SHAPE).layers() if hasattr(layer.map, "weight")
    ]
    assert torch.equal(layer.map.weight.T.float(), cast(module).detach()) and layer.doubt is None
    assert certify(module, SHAPE, 2).k == certify(plain(cast(module).detach()), SHAPE, 2).k


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_bounds_can_be_trained_through_computed_weights(norm):
    module = nn.Sequential(nn.Flatten(), norm(nn.Linear(16, 6)), nn.ReLU(), norm(nn.Linear(6, 2)))
    network = read_network(module, SHAPE)
    made = bound_layers(network.layers(torch.float32), Sparse(5), torch.zeros(()), rounding=False)
    log_odds_bounds(made, 2)[0].backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters())
    module.zero_grad()
    # nothing is computed twice where nothing is certified
    assert all(layer.doubt is None for layer in network.layers(torch.float32))
    assert any(layer.doubt is not None for layer in network.layers())


def test_what_goes_wrong_in_computing_weights_is_one_line():
    network = read_network(module := Computing(quantised), SHAPE)
    module.w = nn.Parameter(torch.zeros(3, 5, 16))
    with pytest.raises(ModelError) as raised:
        network.layers()
    assert "\n" not in str(raised.value)
