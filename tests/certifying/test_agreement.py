"""What runs is what is proved: networks that answer otherwise than torch.export records, and honest
ones that do not."""

from __future__ import annotations

import random
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune

from blankcheck.certifying import certify, confirm, read_network
from blankcheck.classifiers import UnitClassifier, build
from blankcheck.errors import ModelError

SHAPE = (1, 4, 4)


class Net(nn.Module):
    """A function of itself and the image, one linear layer, and whatever else it remembers."""

    def __init__(self, call):
        super().__init__()
        torch.manual_seed(0)
        self.call, self.f, self.seen, self.kept = call, nn.Linear(16, 2), 0, None
        self.register_buffer("count", torch.zeros(()))

    def plain(self, x):
        return self.f(x.flatten(1))

    def forward(self, x):
        return self.call(self, x)


class Calling(Net):
    def __call__(self, x):
        return self.forward(x) * (9 if len(x) == 7 else 1)


def counting(m, x):
    m.seen += 1
    return m.plain(x) * (1 if m.seen < 5 else 9)


def remembering(m, x):
    if m.kept is None or len(m.kept) != len(x):
        m.kept = m.plain(x)
    return m.kept


def replacing(m, x):
    m.f.weight = nn.Parameter(m.f.weight * 1.5)
    return m.plain(x)


def adding(m, x):
    m.count += 1
    return m.plain(x) * m.count


def brightening(m, x):
    return m.plain(x.mul_(3))


class Straight(torch.autograd.Function):
    """Rounds, and lets gradients pass."""

    @staticmethod
    def forward(ctx, x):
        return torch.round(4 * x) / 4

    @staticmethod
    def backward(ctx, slope):
        return slope


def hiding(x):
    """Nothing, by numbers so large that one comparison taken otherwise would explain anything."""
    huge = 1e6 * (x > 0).to(x.dtype)
    return huge - huge


OTHERWISE = {
    "counts in Python": (counting, "answers otherwise"),
    # torch.export of PyTorch 2.6 refuses to read it
    "answers from memory": (remembering, "answers otherwise|assigned during export"),
    "new parameters": (replacing, "answers otherwise"),
    "numbers of Python": (lambda m, x: m.plain(x) * random.random(), "answers otherwise"),
    "the clock": (lambda m, x: m.plain(x) * (time.perf_counter() % 1), "answers otherwise"),
    "gradients wanted": (
        lambda m, x: m.plain(x) * (9 if torch.is_grad_enabled() else 1),
        "answers otherwise",
    ),
    "inference mode": (
        lambda m, x: m.plain(x) * (9 if torch.is_inference_mode_enabled() else 1),
        "in inference mode",
    ),
    "an image's gradient": (
        lambda m, x: m.plain(x) * (9 if x.requires_grad else 1),
        "with gradients",
    ),
    "a parameter's gradient": (
        lambda m, x: m.plain(x) * (9 if m.f.weight.requires_grad else 1),
        "answers otherwise",
    ),
    "tracing": (
        lambda m, x: m.plain(x) * (1 if torch.compiler.is_compiling() else 9),
        "answers otherwise",
    ),
    "one image": (lambda m, x: m.plain(x) * (9 if len(x) == 1 else 1), "of 1 images"),
    "no number": (lambda m, x: m.plain(x) + float("nan"), "not finite"),
    "fails with gradients": (
        lambda m, x: m.plain(x) if not x.requires_grad else {}[0],
        "KeyError: 0",
    ),
    "a buffer": (adding, "changes its own buffers"),
    "the image itself": (brightening, "writes into the images"),
    "a random constant": (lambda m, x: m.plain(x) + torch.randn(2), "at random"),
    "a random weight": (
        lambda m, x: F.linear(x.flatten(1), m.f.weight + torch.rand(16)),
        "at random",
    ),
    "dropout": (lambda m, x: m.plain(F.dropout(x, 0.1, True)), "at random"),
    "unwritten memory": (lambda m, x: m.plain(x) + 0 * x.new_empty(2), "memory that nobody wrote"),
    "no image": (lambda m, x: m.f.bias + torch.zeros(len(x), 1), "depend on the image"),
    "whole numbers": (lambda m, x: m.plain((3 * x).int().float()), "_to_copy"),
    "half precision": (lambda m, x: m.plain(x.half().float()), "_to_copy"),
    "a rounding of its own": (lambda m, x: m.plain(Straight.apply(x)), "operation round"),
    "behind comparisons that rounding decides": (
        lambda m, x: m.plain(x + hiding(0 * x)) * (9 if len(x) == 1 else 1),
        "rounding decides",
    ),
    "behind comparisons with black": (
        lambda m, x: m.plain(x + hiding(x)) * (9 if len(x) == 1 else 1),
        "of 1 images",
    ),
    "complex numbers": (lambda m, x: m.plain((x * 1j).imag), "complex"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_network_that_answers_otherwise_is_refused_in_one_line(name):
    call, words = OTHERWISE[name]
    network = Net(call)
    with pytest.raises(ModelError, match=words) as raised:
        certify(network, SHAPE, 2)
    assert "\n" not in str(raised.value)


def _hooked():
    network, seen = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), []

    def hook(module, images, outputs):
        seen.append(None)
        return outputs * (9 if len(seen) > 4 else 1)

    network.register_forward_hook(hook)
    return network


@pytest.mark.parametrize("make", [_hooked, lambda: Calling(Net.plain)], ids=["hook", "call"])
def test_code_around_forward_counts(make):
    with pytest.raises(ModelError, match="answers otherwise"):
        certify(make(), SHAPE, 2)


def test_a_network_that_changed_is_not_confirmed():
    network = Net(Net.plain)
    made = certify(network, SHAPE, 2)
    assert all(confirm(made, network))
    network.call = counting
    with pytest.raises(ModelError, match="answers otherwise"):
        confirm(made, network)


def _instance():
    network = Net(Net.plain)
    network.forward = lambda x: 9 * network.plain(x)
    return network


def _pruned():
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    prune.l1_unstructured(network[1], "weight", 0.5)
    return network


def _before():
    network = Net(Net.plain)
    network.register_forward_pre_hook(lambda module, images: (3 * images[0],))
    return network


def _autocast(m, x):
    with torch.autocast("cpu", enabled=False):
        return m.plain(x)


HONEST = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    ),
    "residual": lambda: build("resnet", SHAPE, 2),
    "wide kernel": lambda: build("cnn-wide-kernel", SHAPE, 2),
    "weight norm": lambda: nn.Sequential(
        parametrizations.weight_norm(nn.Conv2d(1, 2, 3)),
        nn.ReLU(),
        nn.Flatten(),
        parametrizations.weight_norm(nn.Linear(8, 2)),
    ),
    "spectral norm": lambda: nn.Sequential(
        nn.Flatten(), parametrizations.spectral_norm(nn.Linear(16, 2))
    ),
    "pruned": _pruned,
    "low rank": lambda: Net(
        lambda m, x: F.linear(x.flatten(1), (m.f.weight @ m.f.weight.T) @ m.f.weight)
    ),
    "its own forward": _instance,
    "a hook before it": _before,
    "a function of autograd": lambda: Net(
        lambda m, x: F.linear(x.flatten(1), Straight.apply(m.f.weight))
    ),
    "autocast that is off": lambda: Net(_autocast),
    "in place on its own": lambda: Net(lambda m, x: m.plain((x + 0).mul_(2))),
    "probabilities": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.Softmax(1)),
    "log-probabilities": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.LogSoftmax(1)),
    "normalised": lambda: UnitClassifier(Net(Net.plain), ((0.1,), (0.3,))),
    "float64": lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double(),
    "float64 inside": lambda: Net(lambda m, x: m.plain(x.double().float())),
    "a step of training": lambda: Net(lambda m, x: m.plain(x) * (9 if m.training else 1)),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_network_is_certified(name):
    torch.manual_seed(0)
    made = certify(HONEST[name](), SHAPE, 2, 0.95)
    assert any(k is not None for k in made.k)


def test_the_check_leaves_everything_as_it_was():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2)
    ).train()
    network[0].bias.requires_grad_(False)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.manual_seed(7)
    state = torch.get_rng_state()
    certify(network, SHAPE, 2)
    assert torch.equal(torch.get_rng_state(), state) and network.training
    assert [p.requires_grad for p in network.parameters()] == [True, False, True, True, True, True]
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_reduced_precision_around_a_network_is_found():
    """What the caller switches on runs as well."""
    network = Net(Net.plain)
    made = certify(network, SHAPE, 2)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ModelError):
        confirm(made, network)


def test_the_error_that_layers_allow_is_what_float32_needs():
    """Run on images, layers in float64 and the network in float32 differ by more than nothing and
    less than is allowed."""
    from blankcheck.certifying.agreement import run_layers, trial_images

    network = read_network(build("cnn", (1, 8, 8), 10), (1, 8, 8))
    images = trial_images((1, 8, 8), torch.float32)
    with torch.no_grad():
        exact, error = run_layers(network.layers(), images.double())
        off = (network.module(images).double() - exact).abs()
    assert bool((off <= error).all()) and float(off.max()) > 0 and float(error.max()) < 1e-3


def test_trial_images_are_of_many_kinds():
    from blankcheck.certifying.agreement import trial_images

    images = trial_images((3, 8, 8), torch.float32)
    lit = (images > 0).flatten(1).sum(1)
    assert torch.equal(images, trial_images((3, 8, 8), torch.float32)) and bool(
        (images >= 0).all() and (images <= 1).all()
    )
    assert {0, 1, 192} <= set(lit.tolist()) and len(lit.unique()) >= 6
