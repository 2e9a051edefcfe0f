"""Certificates at the edges of every operation, against every image of a grid, and where float32
ends."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from proofs import LIKE, Net, flattened, proved, read, shuffled, truth
from torch import nn

from blankcheck.certifying import (
    Sparse,
    bound_layers,
    certify,
    log_odds_bounds,
    read_network,
)
from blankcheck.classifiers import UnitClassifier
from blankcheck.errors import ArgumentError, ModelError


def view(*shape):
    return Net(lambda m, x: x.view(len(x), *shape))


def elementwise(function):
    return Net(lambda m, x: function(x))


def one(channels=1):
    """A first layer that is not the image, so that intervals count behind it."""
    return nn.Conv2d(channels, channels, 1)


ROW, COLUMN, BLOCK, TWO, THREE = (1, 1, 6), (1, 6, 1), (1, 2, 3), (2, 1, 3), (3, 1, 2)
EDGES = {
    "max-pool-over-both-edges": (ROW, lambda: flattened(one(), nn.MaxPool2d(3, 1, 1), last=6)),
    "max-pool-of-a-column": (COLUMN, lambda: flattened(one(), nn.MaxPool2d(3, 2, 1), last=3)),
    "dilated-max-pool": (
        COLUMN,
        lambda: flattened(one(), nn.MaxPool2d((2, 3), (2, 1), (1, 1), (2, 1)), last=3),
    ),
    "max-pool-ceil": (BLOCK, lambda: flattened(one(), nn.MaxPool2d(2, ceil_mode=True), last=2)),
    "max-pool-with-steps": (ROW, lambda: flattened(one(), nn.MaxPool2d((1, 2), 3), last=2)),
    "max-pool-and-image": (
        COLUMN,
        lambda: Net(
            lambda m, x: m.f(m.p(m.a(x)).flatten(1)) + m.g(m.a(x).flatten(1)),
            a=one(),
            p=nn.MaxPool2d((2, 3), (2, 1), (1, 1), (2, 1)),
            f=nn.Linear(3, 2),
            g=nn.Linear(6, 2),
        ),
    ),
    "average-pool-ceil": (
        BLOCK,
        lambda: flattened(one(), nn.AvgPool2d(2, 2, 1, ceil_mode=True), nn.ReLU(), last=4),
    ),
    "average-pool-without-edges": (
        ROW,
        lambda: flattened(one(), nn.AvgPool2d(3, 1, 1, count_include_pad=False), nn.ReLU(), last=6),
    ),
    "average-pool-divisor": (
        ROW,
        lambda: flattened(one(), nn.AvgPool2d((1, 2), divisor_override=5), nn.ReLU(), last=3),
    ),
    "adaptive-pool-to-more": (
        BLOCK,
        lambda: flattened(one(), nn.ReLU(), nn.AdaptiveAvgPool2d((3, 5)), last=15),
    ),
    "pool-without-channels": (
        ROW,
        lambda: flattened(
            one(),
            nn.ReLU(),
            Net(lambda m, x: F.adaptive_avg_pool2d(x.view(len(x), 2, 3), (1, 2))),
            last=2,
        ),
    ),
    "convolution-over-both-edges": (
        ROW,
        lambda: flattened(nn.Conv2d(1, 2, 3, 1, 1), nn.ReLU(), last=12),
    ),
    "dilated-convolution": (
        ROW,
        lambda: flattened(nn.Conv2d(1, 2, 3, 1, 2, 2), nn.ReLU(), last=12),
    ),
    "convolution-with-steps": (
        ROW,
        lambda: flattened(one(), nn.Conv2d(1, 2, (1, 2), 3), nn.ReLU(), last=4),
    ),
    "grouped": (TWO, lambda: flattened(nn.Conv2d(2, 4, 3, 2, 1, groups=2), nn.ReLU(), last=8)),
    "reshaped-before-a-convolution": (
        THREE,
        lambda: flattened(view(1, 2, 3), nn.Conv2d(1, 2, 2), nn.ReLU(), last=4),
    ),
    "reshaped-to-as-many-channels": (
        THREE,
        lambda: flattened(view(3, 2, 1), nn.Conv2d(3, 2, (2, 1)), nn.ReLU(), last=2),
    ),
    "reshaped-to-other-channels": (
        THREE,
        lambda: flattened(view(2, 1, 3), nn.Conv2d(2, 2, (1, 2)), nn.ReLU(), last=4),
    ),
    "turned": (
        TWO,
        lambda: flattened(
            elementwise(lambda x: x.permute(0, 2, 1, 3)), nn.Conv2d(1, 2, 2), nn.ReLU(), last=4
        ),
    ),
    "colours": (TWO, lambda: flattened(nn.Conv2d(2, 2, (1, 2)), nn.ReLU(), last=4)),
    "padded-with-numbers": (
        BLOCK,
        lambda: flattened(
            nn.ConstantPad2d((1, -1, 2, 0), -1.3), nn.Conv2d(1, 2, 2), nn.ReLU(), last=12
        ),
    ),
    "steep-leaky": (ROW, lambda: flattened(one(), nn.LeakyReLU(1.7), last=6)),
    "falling-leaky": (ROW, lambda: flattened(one(), nn.LeakyReLU(-0.5), last=6)),
    "clamp-upside-down": (
        ROW,
        lambda: flattened(one(), elementwise(lambda x: x.clamp(0.5, -0.5) + x), last=6),
    ),
    "clamp-to-infinity": (
        ROW,
        lambda: flattened(one(), elementwise(lambda x: x.clamp(-math.inf, 0.3)), last=6),
    ),
    "compared-with-a-half": (
        ROW,
        lambda: Net(
            lambda m, x: m.f((x * (x >= 0.5) - 2.0 * (x > 0.5) + (x < 0.5)).flatten(1)),
            f=nn.Linear(6, 2),
        ),
    ),
    "compared-with-what-is-known": (
        BLOCK,
        lambda: Net(
            lambda m, x: m.f(
                torch.where(x > torch.arange(3.0) / 2 + 0.2, m.a(x), m.a(x) ** 2).flatten(1)
            ),
            a=one(),
            f=nn.Linear(6, 2),
        ),
    ),
    "compared-twice": (
        TWO,
        lambda: Net(
            lambda m, x: m.f(m.b((m.a(x) > 0.1).to(x.dtype)).flatten(1)),
            a=one(2),
            b=nn.Sequential(one(2), nn.GELU()),
            f=nn.Linear(6, 2),
        ),
    ),
    "larger-than-a-number": (
        ROW,
        lambda: flattened(
            one(),
            elementwise(
                lambda x: (
                    torch.maximum(x, torch.tensor(0.2)) - torch.minimum(torch.arange(6.0) / 9, x)
                )
            ),
            last=6,
        ),
    ),
    "batch-norm-without-eps": (
        TWO,
        lambda: flattened(one(2), nn.BatchNorm2d(2, eps=0.0), nn.ReLU(), last=6),
    ),
    "plain-batch-norm": (
        TWO,
        lambda: flattened(nn.BatchNorm2d(2, affine=False), one(2), nn.ReLU(), last=6),
    ),
    "alpha": (
        ROW,
        lambda: flattened(
            one(), elementwise(lambda x: torch.sub(1, x) - torch.rsub(x, 2)), nn.ReLU(), last=6
        ),
    ),
    "to-float64-and-back": (
        ROW,
        lambda: flattened(one(), elementwise(lambda x: (x.double() / 3).float()), last=6),
    ),
    "normalised-twice": (
        TWO,
        lambda: UnitClassifier(
            UnitClassifier(flattened(one(2), nn.ReLU(), last=6), ((0.3, 0.1), (0.2, 2.0))),
            ((0.5,), (0.1,)),
        ),
    ),
}


def network_named(name):
    shape, make = EDGES[name]
    return read(name, make, shape)


def grid(shape, k, unit):
    """Every image of the values 0, 1/2 and 1 with at most k lit."""
    images = torch.tensor(list(itertools.product((0.0, 0.5, 1.0), repeat=math.prod(shape)))).view(
        -1, *shape
    )
    lit = (images > 0).any(dim=1) if unit == "pixels" else images > 0
    return images[lit.flatten(1).sum(dim=1) <= k]


@pytest.mark.parametrize("name", EDGES)
def test_no_image_of_a_grid_exceeds_a_bound(name):
    network = network_named(name)
    units = ("features", "pixels") if network.shape[0] > 1 else ("features",)
    images = {(k, unit): grid(network.shape, k, unit) for k in (0, 1, 2, 6) for unit in units}
    for seed in range(8):
        shuffled(network, seed, 2.0)
        for (k, unit), some in images.items():
            real, bound = truth(network, some), proved(network, k, unit)
            assert bool((real <= bound).all()), (seed, k, unit)
            if k == 0:
                assert torch.allclose(real, bound, atol=1e-3), "the layers are not the network"


def test_a_reshaped_image_has_no_pixels_in_its_windows():
    """Both features of the window lie in one pixel of the image: one lit pixel is enough."""
    convolution, head = nn.Conv2d(1, 1, (2, 3), stride=3), nn.Linear(2, 2)
    with torch.no_grad():
        convolution.weight.zero_()
        convolution.weight[0, 0, 0, 0] = convolution.weight[0, 0, 1, 2] = 1
        convolution.bias.fill_(-1.5)
        head.weight.copy_(torch.tensor([[40.0, 40.0], [0.0, 0.0]]))
        head.bias.zero_()
    network = nn.Sequential(view(1, 2, 6), convolution, nn.ReLU(), nn.Flatten(), head)
    lit = torch.zeros(1, 3, 2, 2)
    lit[0, 0, 0, 0] = lit[0, 2, 0, 0] = 1
    assert network(lit).softmax(1)[0, 0].item() > 0.9
    assert certify(network, (3, 2, 2), 2, unit="pixels").k[0] == 0


def test_a_window_without_a_member_is_refused():
    with pytest.raises(ModelError, match="window that lies outside"):
        read_network(
            flattened(one(), nn.MaxPool2d((2, 1), (2, 1), (1, 0), (2, 1)), last=2), (1, 1, 2)
        )


@pytest.mark.parametrize(
    "call, hidden, last",
    [
        (lambda m, x: m.f(m.a(x.flatten(1)) - m.a(x.flatten(1)).mean(0)), 37, 37),
        (lambda m, x: m.f(m.a(x.flatten(1)).view(len(x), 37, 1).sum(0).expand(37, 2)), 37, 2),
        (lambda m, x: m.f(m.a(x.flatten(1)).view(len(x), 2, 4).sum(0)), 8, 4),
        (lambda m, x: m.f(m.a(x.flatten(1)).t().contiguous().view(len(x), -1)), 37, 37),
        (lambda m, x: m.f(m.a(x.flatten(1)).unsqueeze(2).squeeze()), 4, 4),
        (lambda m, x: m.f(m.a(x.flatten(1)) + torch.arange(float(len(x)))), 37, 37),
        (lambda m, x: m.f(m.a(x.flatten(1)) * len(x)), 4, 4),
        (lambda m, x: m.f(m.a(x.flatten(1))).softmax(0), 4, 4),
        (lambda m, x: m.f(F.pad(m.a(x.flatten(1)), (0, 0, 1, -1))), 4, 4),
    ],
    ids=["mean", "sum", "sum-of-two", "transpose", "squeeze", "sizes", "number", "softmax", "pad"],
)
def test_whatever_touches_the_batch_is_refused(call, hidden, last):
    """Also where another size is that of the exported batch, which was 2 and is 37."""
    with pytest.raises(ModelError) as raised:
        certify(Net(call, a=nn.Linear(4, hidden), f=nn.Linear(last, 2)), (1, 2, 2), 2)
    assert "\n" not in str(raised.value)


def stacked(*weights, head=-2.5e-19):
    """Linear layers of one value each, ReLUs between them, and two classes of which the second is
    punished for it."""
    layers = [nn.Flatten(), nn.Linear(4, 1, bias=False)]
    with torch.no_grad():
        layers[1].weight.copy_(torch.tensor([[weights[0], 0, 0, 0]]))
        for weight in weights[1:]:
            layers += [nn.ReLU(), nn.Linear(1, 1, bias=False)]
            layers[-1].weight.fill_(weight)
        layers += [nn.ReLU(), nn.Linear(1, 2)]
        layers[-1].weight.copy_(torch.tensor([[0.0], [head]]))
        layers[-1].bias.copy_(torch.zeros(2))
    return nn.Sequential(*layers)


def test_nothing_is_proved_where_float32_overflows():
    """Infinite in float32, and held by a ReLU, a clamp or a small weight behind it in exact
    numbers."""
    for layers in (
        stacked(1e20, 4e18, 1e-20),
        nn.Sequential(*stacked(1e20, 4e18)[:-1], nn.Hardtanh(), nn.Linear(1, 2)),
    ):
        network = read_network(layers, (1, 2, 2))
        bounds = proved(network, 1)
        assert bool(torch.isposinf(bounds).all()) and bool(proved(network, 0).isfinite().all())


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e38])
@pytest.mark.parametrize("where", [1, -1])
def test_nothing_is_proved_of_weights_that_float32_cannot_add(number, where):
    network = read_network(stacked(1.0, 1.0), (1, 2, 2))
    with torch.no_grad():
        network.module[where].weight.fill_(number)
    for k in (0, 1):
        assert bool(torch.isposinf(proved(network, k)).all())


def test_a_certificate_of_nothing_is_finite_numbers():
    layers = stacked(1e20, 1e18, 1e-20, head=0.0)
    made = certify(layers, (1, 2, 2), 2)
    assert made.k == (0, 0) and all(
        math.isfinite(v) for level in made.levels for v in (*level.log_odds, *level.slack)
    )
    assert made.probability(1) == (1.0, 1.0)


@torch.no_grad()
def test_numbers_too_small_for_float32_are_covered():
    """1e-40 on the way is set to 0 by many a kernel, and in exact numbers 0.03 comes of it."""
    layers = stacked(1e-20, 1e-20, 1e37, head=-30.0)
    network = read_network(layers, (1, 2, 2))
    made = bound_layers(network.layers(), Sparse(4), LIKE)
    lit = torch.ones(1, 1, 2, 2)
    torch.set_flush_denormal(True)
    try:
        flushed = layers(lit)
    finally:
        torch.set_flush_denormal(False)
    exact = layers.double()(lit.double())
    layers.float()
    off = (flushed.double() - exact).abs()[0]
    assert float(off.max()) > 1e-3 and bool((off <= made.error[-1][0]).all())


@pytest.mark.parametrize("variance, weight", [(0.0, 1.0), (-1.0, 1.0), (1e-40, 1.0), (1e-36, 1e25)])
def test_batch_norms_beyond_float32_are_refused(variance, weight):
    norm = nn.BatchNorm2d(1, eps=0.0)
    with torch.no_grad():
        norm.running_var.fill_(variance)
        norm.weight.fill_(weight)
    with pytest.raises(ModelError, match="beyond what float32|below 0"):
        read_network(flattened(norm, nn.Hardtanh(), last=4).eval(), (1, 2, 2))


def test_an_average_of_a_negative_divisor_is_refused():
    with pytest.raises(ModelError, match="negative divisor"):
        read_network(flattened(nn.AvgPool2d(2, divisor_override=-1), last=1), (1, 2, 2))


def test_log_odds_beyond_float64_are_a_probability():
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([-2000.0, 0.0]))
    made = certify(nn.Sequential(nn.Flatten(), layer), (1, 2, 2), 1)
    assert made.k == (4,) and made.probability(4)[0] < 1e-300


@pytest.mark.parametrize("classes", [0, 3])
def test_bounds_of_classes_that_are_not_there_are_refused(classes):
    network = read_network(stacked(1.0), (1, 2, 2))
    with pytest.raises(ArgumentError, match="classes"):
        log_odds_bounds(bound_layers(network.layers(), Sparse(1), LIKE), classes)


@pytest.mark.parametrize(
    "shape", [(1, 2), (1, 2, 0), (1, 2, -2), (1, 2.5, 2), "abc", (10**6, 10**6, 10**6), None]
)
def test_shapes_that_no_image_has_are_refused(shape):
    with pytest.raises(ArgumentError, match="shape must be"):
        certify(stacked(1.0), shape, 2)


def test_half_a_feature_cannot_be_lit():
    with pytest.raises(ArgumentError, match="whole number"):
        Sparse(2.5)


def test_outputs_that_are_taken_for_probabilities_are_refused_without_a_softmax():
    """What everybody else calls a probability of 1 would be a logit of 1 to the proof."""
    rows, shift = torch.tensor([[1.0], [-1.0]]), torch.tensor([0.0, 1.0])
    halves = Net(
        lambda m, x: F.linear(F.hardsigmoid(m.one(x.flatten(1))), rows, shift), one=nn.Linear(16, 1)
    )
    with pytest.raises(ModelError, match="gives probabilities where its operations end in logits"):
        certify(halves.eval(), (1, 4, 4), 2)


def test_a_batch_norm_whose_factors_multiply_to_next_to_nothing_is_doubted():
    """float32 multiplies weight and deviation first: 1.06e-45 becomes 1.4e-45, which a value of
    1e36 makes felt."""
    first, norm, last = nn.Linear(16, 1), nn.BatchNorm1d(1), nn.Linear(1, 2)
    with torch.no_grad():
        pattern = torch.tensor([1.0, -1.0]).repeat(8)
        first.weight.copy_(pattern * 1e36)
        first.bias.fill_(-6.5e36)
        norm.running_var.fill_(1e20)
        norm.weight.fill_(1.06e-35)
        last.weight.copy_(torch.tensor([[2.1 / (1.5e36 * 1.06e-45)], [0.0]]))
        last.bias.zero_()
    network = nn.Sequential(nn.Flatten(), first, nn.ReLU(), norm, last).eval()
    image = (pattern > 0).float().view(1, 1, 4, 4)
    with torch.no_grad():
        assert float(network(image).softmax(dim=1)[0, 0]) >= 0.9, "with 8 lit features"
    assert all(k is None or k < 8 for k in certify(network, (1, 4, 4), 2).k)
