"""The sparse certificate: against exhaustive truth, known answers and searches, for every operation
that it knows."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from proofs import LIKE, Net, dense, flattened, proved, read, shuffled, truth
from torch import nn

import blankcheck as bc
from blankcheck.certifying import (
    Certificate,
    Sparse,
    bound_layers,
    certify,
    confirm,
    log_odds_bounds,
    read_network,
)
from blankcheck.certifying.certificate import largest_k
from blankcheck.certifying.functions import (
    NORMAL,
    SIGMOID,
    TANH,
    Convolution,
    Jump,
    celu,
    choosing,
    elu,
    reshaping,
    softplus,
)
from blankcheck.certifying.hull import largest_gain
from blankcheck.certifying.layers import Layer, Layers
from blankcheck.certifying.log_odds import limit, upper_bound
from blankcheck.certifying.relaxation import backward_bound
from blankcheck.classifiers import UnitClassifier, build
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.outputs import log_odds

NEVER = dict(deadline=None, derandomize=True, database=None)

C, S = (2, 4, 4), (1, 6, 6)
NETWORKS = {
    "mlp": (C, lambda: dense(nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))),
    "leaky": (C, lambda: dense(nn.LeakyReLU(0.2), nn.Linear(6, 3))),
    "steep-leaky": (C, lambda: dense(nn.LeakyReLU(1.5), nn.Linear(6, 3))),
    "convolutions": (
        S,
        lambda: three(
            nn.Conv2d(1, 3, 3, 2),
            nn.ReLU(),
            nn.Conv2d(3, 4, 2, padding=1, dilation=2),
            nn.ReLU(),
            last=16,
        ),
    ),
    "groups": (
        C,
        lambda: three(nn.Conv2d(2, 4, 3, 2, 1, groups=2, bias=False), nn.ReLU(), last=16),
    ),
    "max-pool": (S, lambda: three(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.ReLU(), last=8)),
    "padded-max-pool": (
        S,
        lambda: three(nn.MaxPool2d(3, 2, 1), nn.Conv2d(1, 2, 2), nn.MaxPool2d(2, 1, 1), last=18),
    ),
    "average-pool": (
        S,
        lambda: three(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2, padding=1, count_include_pad=False),
            nn.AdaptiveAvgPool2d(2),
            last=12,
        ),
    ),
    "batch-norm": (
        C,
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3, padding=1, bias=False),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Flatten(),
            nn.BatchNorm1d(48),
            nn.Linear(48, 3),
        ),
    ),
    "residual": (
        C,
        lambda: Net(
            lambda m, x: m.f(torch.relu(x + m.a(torch.relu(m.b(x)))).mean((2, 3))),
            a=nn.Conv2d(3, 2, 3, padding=1),
            b=nn.Conv2d(2, 3, 3, padding=1),
            f=nn.Linear(2, 3),
        ),
    ),
    "normalised": (
        C,
        lambda: UnitClassifier(dense(nn.ReLU(), nn.Linear(6, 3)), ((0.3, 0.2), (0.4, 0.7))),
    ),
    "pixel-map": (
        C,
        lambda: nn.Sequential(
            Net(lambda m, x: (x / 0.3).clamp(max=1)), dense(nn.ReLU(), nn.Linear(6, 3))
        ),
    ),
    "map-and-image": (
        C,
        lambda: Net(
            lambda m, x: m.f(torch.relu(m.a(torch.minimum(2 * x, 1 + 0 * x)) - m.b(x)).flatten(1)),
            a=nn.Conv2d(2, 2, 3),
            b=nn.Conv2d(2, 2, 3),
            f=nn.Linear(8, 3),
        ),
    ),
    "odds-and-ends": (
        C,
        lambda: Net(
            odds_and_ends, a=nn.Conv2d(2, 2, 3), b=nn.Conv2d(2, 2, 3, 2), f=nn.Linear(8, 3)
        ),
    ),
    "sigmoid": (C, lambda: dense(nn.Sigmoid(), nn.Linear(6, 5), nn.Sigmoid(), nn.Linear(5, 3))),
    "tanh": (
        S,
        lambda: three(nn.Conv2d(1, 3, 3), nn.Tanh(), nn.Conv2d(3, 2, 2), nn.Tanh(), last=18),
    ),
    "elu": (C, lambda: dense(nn.ELU(), nn.Linear(6, 5), nn.ELU(0.3), nn.Linear(5, 3))),
    "curved-image": (
        C,
        lambda: nn.Sequential(
            Net(lambda m, x: torch.sigmoid(6 * x - 3)), dense(nn.Tanh(), nn.Linear(6, 3))
        ),
    ),
    "softmax": (C, lambda: dense(nn.ReLU(), nn.Linear(6, 4), nn.LogSoftmax(1))),
    "black-and-white": (C, lambda: behind(lambda x: (x > 0.4).to(x.dtype))),
    "anything-lit": (C, lambda: behind(lambda x: x * (x > 0) - torch.sign(x) / 2)),
    "comparisons": (
        C,
        lambda: dense(
            Net(lambda m, h: torch.where(h > 0.3, h, 0 * h) + 2.0 * (h <= -0.2)), nn.Linear(6, 3)
        ),
    ),
    "truths": (C, lambda: Net(truths, a=nn.Linear(32, 6), b=nn.Linear(32, 6), f=nn.Linear(6, 3))),
    "gelu": (C, lambda: dense(nn.GELU(), nn.Linear(6, 5), nn.SiLU(), nn.Linear(5, 3))),
    "hard": (
        C,
        lambda: dense(
            nn.Hardswish(), nn.Linear(6, 5), nn.PReLU(5), nn.Threshold(0.1, 0.2), nn.Linear(5, 3)
        ),
    ),
    "soft": (
        C,
        lambda: dense(
            nn.Softplus(2.0), nn.Linear(6, 5), nn.LogSigmoid(), nn.CELU(0.7), nn.Linear(5, 3)
        ),
    ),
    "selu": (C, lambda: dense(nn.SELU(), nn.Linear(6, 5), nn.Mish(), nn.Linear(5, 3))),
    "curved-twice": (
        C,
        lambda: dense(
            nn.ReLU(), nn.Sigmoid(), nn.Linear(6, 5), nn.GELU(), nn.Tanh(), nn.Linear(5, 3)
        ),
    ),
    "squares": (
        C,
        lambda: behind(lambda x: (x - 0.3) ** 2 + torch.abs(x - 0.5)),
    ),
}


def behind(function):
    """A small network of a function of each feature."""
    return nn.Sequential(Net(lambda m, x: function(x)), dense(nn.ReLU(), nn.Linear(6, 3)))


def truths(m, x):
    a, b = m.a(x.flatten(1)), m.b(x.flatten(1))
    some, known = (a > b) & ~(b >= 0.5), torch.arange(6) % 2 == 0
    either = torch.where(some | (a < -0.4), a, b) * (some & known) + torch.where(known, a, 0.1)
    return m.f(either.masked_fill(b > 1, -1.0) + (some | known).to(x.dtype))


def three(*layers, last):
    return flattened(*layers, last=last, outputs=3)


def odds_and_ends(m, x):
    turned = m.b(F.pad(x, (1, 1, 1, 1), value=0.5)).permute(0, 1, 3, 2)
    return m.f(1 - F.hardtanh(torch.maximum(m.a(x), turned).flatten(1) / 3, -0.2, 0.6))


def network_named(name):
    shape, make = NETWORKS[name]
    return read(name, make, shape)


def sparse_images(shape, k, n, generator, unit="features"):
    """Random images with at most k lit; half of them have lit features of exactly 1."""
    c, h, w = shape
    places = h * w if unit == "pixels" else c * h * w
    ranks = torch.rand(n, places, generator=generator).argsort(dim=1).argsort(dim=1)
    lit = (ranks < k).view((n, 1, h, w) if unit == "pixels" else (n, c, h, w)).expand(n, *shape)
    values = torch.rand(n, *shape, generator=generator)
    values[: n // 2] = 1.0
    return values * lit


def searched(network, target, k, images, steps=4):
    """Gradient ascent on the log-odds that keeps the k largest features: what a search that knows
    the network finds."""
    x = images.clone()
    best = x
    for _ in range(steps):
        x.requires_grad_()
        score = log_odds(network.module(x), torch.full((len(x),), target))
        # behind a comparison there is no slope
        (slope,) = torch.autograd.grad(score.sum(), x, materialize_grads=True, allow_unused=True)
        moved = (
            x.detach()
            + 0.5 * slope / slope.flatten(1).abs().amax(1).clamp_min(1e-9).view(-1, 1, 1, 1)
        ).clamp(0, 1)
        least = moved.flatten(1).topk(k, dim=1).values[:, -1].view(-1, 1, 1, 1)
        ties = (moved.flatten(1) >= least.flatten(1)).cumsum(1).view_as(moved) <= k
        x = moved * (moved >= least) * ties
        best = torch.cat([best, x])
    return best


def most_broken(name, seed, numbers, slope_steps=0, fewer=0):
    """By how much any image that was found exceeds what was proved; not above 0 for a sound bound.

    fewer: prove less, of images with so many fewer lit.
    """
    network = network_named(name)
    generator = shuffled(network, seed)
    worst = -math.inf
    for k in numbers:
        found = sparse_images(network.shape, k, 64, generator)
        ours = [truth(network, searched(network, t, k, found[::4])) for t in range(2)]
        most = torch.stack([truth(network, found), *ours]).amax(dim=0)
        over = most - proved(network, k - fewer, slope_steps=slope_steps)
        worst = max(worst, float(over.max()))
    return worst


@pytest.mark.parametrize("name", NETWORKS)
def test_layers_compute_what_the_network_computes(name):
    network = network_named(name)
    generator = shuffled(network, 1)
    x = torch.rand(8, *network.shape, generator=generator)
    made = bound_layers(network.layers(), Sparse(math.prod(network.shape)), LIKE)
    with torch.no_grad():
        outputs = network.module(x)
    # at k = 0 only the black image is left, and the bounds meet in what the network says of it
    black = bound_layers(network.layers(), Sparse(0), LIKE)
    with torch.no_grad():
        answer = network.module.double()(torch.zeros(1, *network.shape).double())
        network.module.float()
    if network.form == "logits":
        assert torch.allclose(black.low[-1], answer, atol=5e-3) and torch.allclose(
            black.high[-1], answer, atol=5e-3
        )
        assert bool((outputs >= made.low[-1]).all() and (outputs <= made.high[-1]).all())
    exact = log_odds_bounds(black, 2)
    wanted = torch.stack(
        [log_odds(answer, torch.tensor([t])).squeeze(0) for t in range(2)]
    ).double()
    assert torch.allclose(exact, wanted, atol=1e-2)


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=12, **NEVER)
@given(seed=st.integers(0, 10**6), k=st.integers(3, 12))
def test_no_search_exceeds_a_bound(name, seed, k):
    """12 networks of each kind, three numbers of lit features and two classes."""
    assert most_broken(name, seed, (1, 2, k)) <= 0


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=3, **NEVER)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 12))
def test_optimised_bounds_are_sound_and_never_worse(name, seed, k):
    assert most_broken(name, seed, (k,), slope_steps=5) <= 0
    network = network_named(name)
    assert bool((proved(network, k, slope_steps=5) <= proved(network, k) + 1e-9).all())


def test_slopes_of_earlier_layers_make_bounds_tighter(monkeypatch):
    """A relaxed layer behind another one: its own bounds hang on slopes, too."""
    layers = nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2)
    network, gained = read("deep", lambda: dense(*layers, hidden=8), (2, 4, 4)), []
    for seed in range(5):
        generator = shuffled(network, seed)
        deep = proved(network, 6, slope_steps=20)
        found = sparse_images(network.shape, 6, 256, generator)
        assert bool((truth(network, found) <= deep).all())
        with monkeypatch.context() as patched:
            patched.setattr("blankcheck.certifying.log_odds.MOST_INNER", 0)
            gained.append(proved(network, 6, slope_steps=20) - deep)
    assert float(torch.stack(gained).min()) >= 0 and float(torch.stack(gained).mean()) > 1


@pytest.mark.parametrize("name", ["mlp", "pixel-map", "normalised", "convolutions"])
def test_a_bound_of_one_lit_feature_fewer_is_exceeded(name):
    """So tight are bounds, and so good is the search, that such a bound is seen to be wrong."""
    assert any(most_broken(name, seed, (1, 2, 3), fewer=1) > 0 for seed in range(30))


@torch.no_grad()
@pytest.mark.parametrize("slope, wanted", [(0.0, 6.0), (1.0, 3.0), (2.0, 2.0)])
def test_a_line_below_a_relu_has_a_slope_of_at_most_one(slope, wanted):
    """Of 1.5 s - max(0, s - 1), s being the sum of 4 features, the largest value is 3: which every
    slope in [0, 1] proves, and a steeper one would contradict."""
    a, b, c = nn.Linear(4, 2, False), nn.Linear(1, 2, False), nn.Linear(4, 1)
    for layer, weight in ((a, [[1.5], [0.0]]), (b, [[-1.0], [0.0]]), (c, [[1.0]])):
        layer.weight.copy_(torch.tensor(weight))
    c.bias.fill_(-1.0)
    head = Net(lambda m, x: m.a(x) + m.b(torch.relu(m.c(x))), a=a, b=b, c=c)
    network = read_network(nn.Sequential(nn.Flatten(), head), (1, 2, 2))
    made = bound_layers(network.layers(), Sparse(4), LIKE)
    (relu,) = (at for at, layer in enumerate(made.layers) if layer.kind == "relu")
    bound = upper_bound(made, LIKE.new_tensor([[1.0, -1.0]]), {relu: LIKE.new_tensor([[slope]])})
    assert float(bound) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("unit", ["features", "pixels"])
@settings(max_examples=25, **NEVER)
@given(seed=st.integers(0, 10**6), k=st.integers(0, 3))
def test_against_every_image_of_a_grid(unit, seed, k):
    """Ten features, all subsets, values 1/2 and 1: about a thousand images, some of which are
    nearly the worst."""
    shape = (2, 1, 5)
    layers = nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3)
    network = read("grid", lambda: dense(*layers, n=10, hidden=4), shape)
    shuffled(network, seed)
    images = torch.tensor(list(every_row(shape, k, unit)))
    real = truth(network, images)
    bound = proved(network, k, unit)
    assert bool((real <= bound).all())
    if k == 0:
        assert torch.allclose(real, bound, atol=1e-3)


def every_row(shape, k, unit):
    c, h, w = shape
    places = list(itertools.product(range(h), range(w)))
    units = places if unit == "pixels" else list(itertools.product(range(c), range(h), range(w)))
    for chosen in itertools.combinations(range(len(units)), min(k, 2) if unit == "pixels" else k):
        features = (
            [(ch, *units[i]) for i in chosen for ch in range(c)]
            if unit == "pixels"
            else [units[i] for i in chosen]
        )
        for values in itertools.product(
            (0.0, 1.0) if unit == "pixels" else (0.5, 1.0), repeat=len(features)
        ):
            image = torch.zeros(shape)
            for at, value in zip(features, values, strict=True):
                image[at] = value
            yield image.tolist()


@settings(max_examples=40, **NEVER)
@given(seed=st.integers(0, 10**6), k=st.integers(0, 6))
def test_linear_networks_are_bounded_exactly(seed, k):
    """Two outputs and no ReLU: the bound is the top-k sum, and an image reaches it."""
    network = read("linear", lambda: dense(n=12, hidden=2), (1, 3, 4))
    shuffled(network, seed)
    weight, bias = network.module[1].weight.double(), network.module[1].bias.double()
    a = weight[0] - weight[1]
    wanted = a.clamp(min=0).topk(k).values.sum() + bias[0] - bias[1]
    made = bound_layers(network.layers(), Sparse(k), LIKE)
    assert torch.allclose(log_odds_bounds(made, 1)[0], wanted, atol=1e-4)


@settings(max_examples=100, **NEVER)
@given(seed=st.integers(0, 10**6), k=st.integers(0, 10), high=st.floats(0.1, 2.0))
def test_the_hull_is_exact(seed, k, high):
    """After a function of single features the largest value over all sparse images is found, not
    only bounded."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(1, 8, generator=generator, dtype=torch.float64)
    gains = torch.maximum(a * high, a * -0.3)
    every = max(float(gains[0, list(s)].sum()) for s in itertools.combinations(range(8), min(k, 8)))
    assert float(largest_gain(gains, Sparse(k), 1)) == pytest.approx(every)


def _interval(row, c, low, high):
    up = sum(w * (b if w > 0 else a) for w, a, b in zip(row, low, high, strict=True)) + c
    down = sum(w * (a if w > 0 else b) for w, a, b in zip(row, low, high, strict=True)) + c
    return down, up


def intervals(layers, x_low, x_high):
    """Another implementation, of intervals alone, for plain stacks of linear layers and ReLUs."""
    low, high = x_low.numpy(), x_high.numpy()
    for layer in layers:
        if isinstance(layer, nn.Linear):
            w, b = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
            ends = zip(w, b, strict=True)
            low, high = zip(*[_interval(row, c, low, high) for row, c in ends], strict=True)
        elif isinstance(layer, nn.ReLU):
            low, high = [max(0.0, v) for v in low], [max(0.0, v) for v in high]
    return torch.tensor(low), torch.tensor(high)


@pytest.mark.parametrize("k", [1, 4, 32])
def test_relaxation_lies_between_truth_and_intervals(k):
    network = network_named("mlp")
    for seed in range(8):
        generator = shuffled(network, seed)
        low, high = intervals(network.module, torch.zeros(32), torch.ones(32))
        others = torch.tensor(
            [float(torch.logsumexp(torch.cat([low[:t], low[t + 1 :]]), 0)) for t in range(2)]
        )
        loose = high[:2] - others
        bound = proved(network, k)
        assert bool((bound <= loose + 1e-2).all())
        assert bool(
            (truth(network, sparse_images(network.shape, k, 200, generator)) <= bound).all()
        )


@pytest.mark.parametrize(
    "good, k",
    [
        ({0, 1, 2, 4, 5}, 5),
        ({0, 1, 2, 4, 8, 9, 10}, 10),
        ({0}, 0),
        (set(), None),
        (set(range(13)), 12),
        ({0, 1, 2, 6}, 2),
        ({0, 1, 2, 4, 6}, 6),
    ],
)
def test_the_search_for_k_stands_on_a_proof(good, k):
    """Also where proofs do not fail in order: what holds for more lit features holds for fewer."""
    asked = set()

    def holds(k):
        asked.add(k)
        return any(j in good for j in asked if j >= k)

    found = largest_k(holds, 12)
    assert found == k and (found is None or found in good)
    assert found is None or all(holds(j) for j in range(found + 1))


def test_what_is_said_of_fewer_lit_features_is_never_weaker():
    network = network_named("mlp")
    shuffled(network, 3, size=0.3)
    made = certify(network.module, network.shape, 3)
    for t in range(3):
        said = [made.probability(k)[t] for k in range(made.levels[-1].k + 1)]
        assert said == sorted(said)


def counting(threshold, d=12):
    """Log-odds of class 0: lit features at full brightness, minus the threshold.

    Never sure of class 1 from the start on.
    """
    layer = nn.Linear(d, 3)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([-threshold, 0.0, -50.0]))
        layer.weight[0] = 1.0
    return nn.Sequential(nn.Flatten(), layer)


@pytest.mark.parametrize("threshold, k", [(3.5, 5), (0.0, 2), (20.0, 12), (-3.0, None)])
def test_the_largest_k_of_a_planted_network_is_found(threshold, k):
    """p >= 0.9 at log-odds of ln 9 = 2.197: with threshold 3.5 six lit features are needed."""
    made = certify(counting(threshold), (1, 3, 4), 1)
    assert made.k == (k,) and made.smallest == k
    if k is not None:
        assert made.probability(k)[0] < 0.9
        if k < 12:
            lit = torch.zeros(1, 1, 3, 4)
            lit.view(-1)[: k + 1] = 1
            assert counting(threshold)(lit).softmax(1)[0, 0].item() >= 0.9


def test_a_class_of_which_black_is_sure_has_no_certificate():
    made = certify(counting(3.5), (1, 3, 4), 2)
    assert made.k == (5, None) and made.smallest is None


def test_all_outputs_count():
    """Two outputs beyond the one real class: the same logits share the probability."""
    layer = nn.Linear(4, 3)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    made = certify(nn.Sequential(nn.Flatten(), layer), (1, 2, 2), 1, confidence=0.34)
    assert made.k == (4,) and made.probability(4)[0] == pytest.approx(1 / 3, abs=1e-4)


def test_pixels_count_positions():
    layer = nn.Linear(8, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0] = 1.0
        layer.bias.copy_(torch.tensor([-2.0, 0.0]))
    network = nn.Sequential(nn.Flatten(), layer)
    assert certify(network, (2, 2, 2), 1).k == (4,)
    assert certify(network, (2, 2, 2), 1, unit="pixels").k == (2,)


def test_a_colour_image_is_bounded_by_its_best_pixels():
    gains = torch.tensor([[3.0, 1.0, 0.0, 2.0, 0.0, 4.0]])
    assert float(largest_gain(gains, Sparse(1, "pixels"), 2)) == 5.0
    assert float(largest_gain(gains, Sparse(2), 2)) == 7.0


@pytest.mark.parametrize(
    "sizes",
    [
        ((1, 7, 8), 3, 2, 0, 1),
        ((1, 9, 7), 2, 3, 0, 1),
        ((2, 6, 6), 3, 3, 1, 2),
        ((1, 28, 28), 10, 3, 0, 1),
    ],
)
def test_transposed_convolutions(sizes):
    """<a, Lx> = <L'a, x>, also where the far edge is not reached by any window."""
    shape, kernel, stride, padding, dilation = sizes
    for groups in {1, shape[0]}:
        weight = torch.randn(4, shape[0] // groups, kernel, kernel).double()
        map = Convolution(weight, (stride,) * 2, (padding,) * 2, (dilation,) * 2, groups)
        x = torch.rand(1, *shape).double()
        y = map(x)
        a = torch.rand_like(y)
        assert torch.allclose((a * y).sum(), (map.transposed(a, shape) * x).sum())


def test_float32_stays_within_its_slack():
    """The largest difference between float32 and float64 is covered, and not by luck: it is more
    than nothing."""
    for name in ("mlp", "convolutions", "residual", "batch-norm"):
        network = network_named(name)
        generator = shuffled(network, 5)
        x = sparse_images(network.shape, 6, 500, generator)
        made = bound_layers(network.layers(), Sparse(6), LIKE)
        with torch.no_grad():
            single = network.module(x).double()
            double = network.module.double()(x.double())
            network.module.float()
        off = (single - double).abs().amax(dim=0)
        assert bool((off <= made.error[-1][0]).all()) and float(off.max()) > 0


def test_float32_bounds_agree_with_float64():
    network = network_named("convolutions")
    shuffled(network, 4)
    exact = log_odds_bounds(bound_layers(network.layers(), Sparse(5), LIKE, rounding=False), 2)
    single = bound_layers(network.layers(torch.float32), Sparse(5), torch.zeros(()), rounding=False)
    assert torch.allclose(exact.float(), log_odds_bounds(single, 2), atol=1e-3)


def test_gradients_reach_the_weights():
    network = network_named("convolutions")
    shuffled(network, 4)
    made = bound_layers(network.layers(torch.float32), Sparse(5), torch.zeros(()), rounding=False)
    log_odds_bounds(made, 2).sum().backward()
    assert all(
        p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.module.parameters()
    )
    network.module.zero_grad()


@pytest.mark.parametrize(
    "network, words",
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.GELU("tanh"), nn.Linear(4, 2)),
            "operation gelu.default by an approximation",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ELU(-2.0), nn.Linear(4, 2)),
            "operation elu",
        ),
        (Net(lambda m, x: m.f(F.dropout(x.flatten(1))), f=nn.Linear(16, 2)), "dropout"),
        (
            nn.Sequential(
                nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(16, 2)
            ),
            "running statistics",
        ),
        (Net(lambda m, x: m.f(0.1 / (1 + x.flatten(1))), f=nn.Linear(16, 2)), "operation"),
        (Net(lambda m, x: m.f(x.flatten(1).bool().float()), f=nn.Linear(16, 2)), "for torch.bool"),
        (
            Net(lambda m, x: m.f((x > 0).sum(1).flatten(1).float()), f=nn.Linear(16, 2)),
            "for torch.int64",
        ),
        (
            Net(lambda m, x: m.f((x - x.mean(0, keepdim=True)).flatten(1)), f=nn.Linear(16, 2)),
            "mixes the images",
        ),
        (
            Net(lambda m, x: m.f(x.flatten(1)).half().float(), f=nn.Linear(16, 2)),
            "operation _to_copy",
        ),
        (
            Net(
                lambda m, x: m.f(x.flatten(1)) if x.sum() > 0 else x.new_zeros(2, 2),
                f=nn.Linear(16, 2),
            ),
            "torch.export",
        ),
        (nn.Sequential(nn.Conv2d(1, 2, 3)), "outputs must be"),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).half(), "float32"),
    ],
    ids=[
        "gelu",
        "elu",
        "dropout",
        "batch statistics",
        "quotient",
        "bool",
        "count",
        "batch",
        "half",
        "branch",
        "shape",
        "dtype",
    ],
)
def test_what_cannot_be_certified_is_named_in_one_line(network, words):
    with pytest.raises(ModelError, match=words) as raised:
        certify(network, (1, 4, 4), 2)
    assert "\n" not in str(raised.value)


CURVES = SIGMOID, TANH, NORMAL, elu(1.0), elu(0.4), elu(1.7), celu(0.6), softplus(1.0), softplus(3)


@pytest.mark.parametrize("curve", CURVES)
@given(st.floats(-30, 30), st.floats(0, 1).map(lambda share: 40 * share**6))
@settings(**NEVER)
def test_curves_lie_between_their_lines(curve, low, width):
    x = low + width * torch.linspace(0, 1, 101, dtype=torch.float64)
    ends = x[:1], x[-1:]
    (over, up), (under, down) = curve.above(*ends), curve.below(*ends)
    y, units = curve.value(x), 1e-14 * (1 + float(x.abs().max()))
    assert (over * x + up >= y - units).all() and (under * x + down <= y + units).all()
    # and close to it: what is nearly straight is enclosed by lines that are nearly one
    bent = curve.slope(x).max() - curve.slope(x).min()
    assert (over * x + up - under * x - down).max() <= 2 * width * bent + 1e-6


@pytest.mark.parametrize("at_zero", [False, True])
@given(st.floats(-3, 3), st.floats(0, 4), st.booleans())
@settings(**NEVER)
def test_comparisons_lie_between_their_lines(at_zero, low, width, ends_at_zero):
    jump, low = Jump(at_zero), -width if ends_at_zero else low
    x = torch.cat([low + width * torch.linspace(0, 1, 41, dtype=torch.float64), torch.zeros(1)])
    x = x[(x >= low) & (x <= low + width)]
    (over, up), (under, down) = jump.above(x.min(), x.max()), jump.below(x.min(), x.max())
    y = jump.value(x)
    assert (over * x + up >= y - 1e-12).all() and (under * x + down <= y + 1e-12).all()
    assert float(over * x.max() + up) <= 2 and float(under * x.min() + down) >= -1


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.floats(0, 1))
@settings(**NEVER)
def test_products_lie_between_their_planes(ends, share):
    """Through the layer itself, for any mixture of its planes."""
    low, high = sorted(ends[:2]), sorted(ends[2:])
    layers = Layers()
    image = layers.add(Layer("input", (2, 1, 1)))
    flat = layers.linear(image, reshaping((2,)), (2,))
    both = [layers.linear(flat, choosing(torch.tensor([i])), (1,)) for i in (0, 1)]
    at = layers.product(*both)
    made = replace(
        bound_layers(layers.all[:2], Sparse(2), LIKE, rounding=False),
        layers=tuple(layers.all),
        low=[LIKE, LIKE, *(torch.tensor([[end[0]]]).double() for end in (low, high))],
        high=[LIKE, LIKE, *(torch.tensor([[end[1]]]).double() for end in (low, high))],
    )
    u, v = torch.meshgrid(*(torch.linspace(*end, 7).double() for end in (low, high)), indexing="ij")
    for sign in (1.0, -1.0):
        row = torch.full((1, 1), sign, dtype=torch.float64)
        line, relaxed = backward_bound(made, at, row, {at: torch.full((1, 1), share)})
        a = line.coefficients[flat][0]
        assert relaxed and (a[0] * u + a[1] * v + line.constant >= sign * u * v - 1e-6).all()


def test_what_a_comparison_of_single_features_costs():
    """Of features that are compared first, a lit one gives 1, a dark one 0, and nothing else."""
    weight = torch.tensor([[3.0, -2.0, 1.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    for compared in (lambda x: x > 0.5, lambda x: x > 0, lambda x: ~(x <= 0.3)):
        network = Net(lambda m, x, f=compared: m.f(f(x).float().flatten(1)), f=nn.Linear(4, 2))
        with torch.no_grad():
            network.f.weight.copy_(weight)
            network.f.bias.zero_()
            made = bound_layers(read_network(network, (1, 2, 2)).layers(), Sparse(2), LIKE)
        assert made.high[-1][0].tolist() == pytest.approx([4.0, 0.0], abs=1e-4)
        assert made.low[-1][0].tolist() == pytest.approx([-2.0, 0.0], abs=1e-4)


@pytest.mark.parametrize("threshold", [0.7, 0.7 * (1 - 1e-8), 0.7 * (1 + 1e-8)])
def test_a_comparison_that_rounding_decides_is_proved_of_both_answers(threshold):
    """The sum of three tenths, compared with itself: float32 may find it above or below."""
    network = Net(
        lambda m, x: m.f((m.a(x.flatten(1)) > threshold).float()),
        a=nn.Linear(4, 1),
        f=nn.Linear(1, 2),
    )
    with torch.no_grad():
        network.a.weight.copy_(torch.tensor([[0.1, 0.2, -0.3, -0.1]]))
        network.a.bias.fill_(0.7)
        network.f.weight.copy_(torch.tensor([[5.0], [0.0]]))
        network.f.bias.zero_()
        made = bound_layers(read_network(network, (1, 2, 2)).layers(), Sparse(0), LIKE)
    assert float(made.low[-1][0, 0]) <= 0 and float(made.high[-1][0, 0]) >= 5


def test_a_network_is_left_as_it_was():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2)
    ).train()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    trained = certify(network, (1, 4, 4), 2)
    assert network.training and all(p.requires_grad for p in network.parameters())
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    # what was certified is the network in evaluation mode
    assert trained.k == certify(network.eval(), (1, 4, 4), 2).k


@pytest.mark.parametrize(
    "change",
    [
        dict(confidence=1.0),
        dict(confidence=0.0),
        dict(unit="inches"),
        dict(classes=4),
        dict(slope_steps=-1),
        dict(slope_steps=10**9),
    ],
)
def test_wrong_arguments_raise_at_the_door(change):
    with pytest.raises((ArgumentError, ModelError)):
        certify(counting(1.0), (1, 3, 4), **({"classes": 1} | change))


@cache
def counted():
    return json.dumps(certify(counting(3.5), (1, 3, 4), 2).as_json())


def test_a_certificate_survives_a_file():
    made = certify(counting(3.5), (1, 3, 4), 2)
    assert Certificate.from_json(json.loads(json.dumps(made.as_json()))) == made
    with pytest.raises(ArgumentError):
        Certificate.from_json({"k": 3})


NONSENSE = {
    "settings": [
        None,
        {},
        {"slope_steps": -1},
        {"slope_steps": 10**9},
        {"slope_steps": "20"},
        {"slope_steps": True},
    ],
    "k": [
        [-5, None],
        [13, None],
        [10**30, None],
        [2.0, None],
        ["2", None],
        [True, None],
        [],
        [1, 1, 1, 1],
        "ab",
        3,
        None,
    ],
    "unit": ["inches", None, ["features"], 1],
    "shape": [[1, 3], [0, 3, 4], [10**6, 10**6, 10**6], [1.5, 3, 4], "abc", None, [[1], 3, 4]],
    "confidence": [0, 1, 1.5, math.nan, "0.9", None, 10**400],
    "outputs": [0, -3, 1, 10**30, 2.5, None],
    "means": ["proved", None, 3],
    "fingerprint": [None, 7],
    "seconds": [math.inf, math.nan, "1"],
    "levels": [3, None, [3], [{}], [{"k": 0}], "levels"],
}


@pytest.mark.parametrize(
    "key, value", [(key, value) for key, values in NONSENSE.items() for value in values]
)
def test_a_record_of_nonsense_is_one_line(key, value):
    record = json.loads(counted())
    for broken in (record | {key: value}, {k: v for k, v in record.items() if k != key}):
        with pytest.raises(ArgumentError) as raised:
            Certificate.from_json(broken)
        assert "\n" not in str(raised.value) and len(str(raised.value)) < 400


@pytest.mark.parametrize(
    "change",
    [
        dict(k=-1),
        dict(k=13),
        dict(k=1.0),
        dict(slack=[0.0, math.inf]),
        dict(log_odds=[0.0]),
        dict(log_odds=None),
        dict(log_odds=["a", "b"]),
        dict(log_odds=[math.nan, 0.0]),
    ],
)
def test_levels_of_nonsense_are_one_line(change):
    record = json.loads(counted())
    levels = [dict(level) for level in record["levels"]]
    for broken in ([*levels[:-1], levels[-1] | change], [*levels, levels[0]]):
        with pytest.raises(ArgumentError, match="certificate is not one"):
            Certificate.from_json(record | {"levels": broken})


def test_a_certificate_cannot_be_made_of_nonsense():
    made = certify(counting(3.5), (1, 3, 4), 2)
    with pytest.raises(ArgumentError, match="k must lie"):
        replace(made, k=(-1, None))
    with pytest.raises(ModelError, match="shape"):
        confirm(replace(made, shape=(3, 999, 999)), counting(3.5))
    with pytest.raises(ModelError, match="kind"):
        confirm(replace(made, outputs=2), counting(3.5))


def test_what_holds_for_more_holds_for_fewer():
    made = certify(counting(3.5), (1, 3, 4), 1)
    bounds_ = [made.probability(k)[0] for k in range(made.k[0] + 1)]
    assert bounds_ == sorted(bounds_) and made.probability(13) == (None,)


def test_the_limit_is_strict():
    assert limit(0.9, 10) < math.log(9) and limit(0.9, 10) == pytest.approx(math.log(9), abs=1e-3)


def test_no_search_of_ours_beats_a_certificate(plain, digits):
    made = certify(plain, digits.shape, 10)
    found = bc.fool(plain, range(10), 3, data=digits, steps=200, until="sparsest", seed=0)
    for target, lit, confidence in zip(
        found.targets.tolist(), found.lit.tolist(), found.confidence.tolist(), strict=True
    ):
        assert confidence < 0.9 or made.k[target] is None or lit > made.k[target]


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet"])
def test_reference_networks_can_be_read(name):
    network = read_network(build(name, (1, 8, 8), 10), (1, 8, 8))
    assert network.outputs == 10 and network.form == "logits"


def test_exported_programs_can_be_read(tmp_path):
    network = counting(3.5)
    program = torch.export.export(
        network, (torch.zeros(2, 1, 3, 4),), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    torch.export.save(program, tmp_path / "net.pt2")
    assert certify(
        bc.load_model(str(tmp_path / "net.pt2"), unsafe_pickle=True), (1, 3, 4), 1
    ).k == (5,)


def test_against_another_library():
    lirpa = pytest.importorskip("auto_LiRPA", reason="auto_LiRPA is not installed")
    network = network_named("mlp")
    shuffled(network, 7)
    made = bound_layers(network.layers(), Sparse(32), LIKE)
    x = torch.full((1, *network.shape), 0.5)
    other = lirpa.BoundedModule(network.module, x)
    box = lirpa.BoundedTensor(
        x, lirpa.PerturbationLpNorm(x_L=torch.zeros_like(x), x_U=torch.ones_like(x))
    )
    low, high = other.compute_bounds(x=(box,), method="CROWN")
    assert torch.allclose(made.high[-1].float(), high, rtol=0.2) and torch.allclose(
        made.low[-1].float(), low, rtol=0.2
    )
