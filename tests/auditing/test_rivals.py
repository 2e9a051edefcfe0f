"""Rivals: what they see of a classifier, what becomes of what they hand back, and the real
libraries where installed."""

from __future__ import annotations

import random
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from blankcheck.api.third_party import ATTACKS, NOT_NEEDED, stand_ins
from blankcheck.auditing.third_party import (
    Asked,
    EachClass,
    OneClass,
    ThirdPartyAttack,
    available,
    cleaned,
    run_third_party,
)
from blankcheck.classifiers.wrapper import left_as_found
from blankcheck.fooling import Goal
from blankcheck.outputs import OUTPUT_FORMS
from blankcheck.types import stored

CPU = torch.device("cpu")
SHAPE = (1, 2, 2)
AS_FORM = {
    "logits": lambda z: z,
    "log-probabilities": lambda z: z.log_softmax(dim=1),
    "probabilities": lambda z: z.softmax(dim=1),
}
assert set(AS_FORM) == set(OUTPUT_FORMS)


def fake(run, name="fake", install="pip install fake-attacks"):
    return ThirdPartyAttack(name, "fake-attacks", install, lambda: run)


def fixed(logits, form):
    """A classifier that says the same whatever the image."""
    return lambda images: AS_FORM[form](logits)


def linear(classes=3):
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, classes))
    with torch.no_grad():
        network[1].weight.copy_(8 * torch.eye(classes, 4))
        network[1].bias.zero_()
    return network


def climb(asked, start, targets):
    """Ten steps up the margin: the smallest attack that works."""
    images = start.requires_grad_(True)
    view = EachClass(asked, start.device)
    for _ in range(10):
        margin = view(images).gather(1, targets[:, None]).sum()
        images = (
            (images + 0.1 * torch.autograd.grad(margin, images)[0].sign())
            .detach()
            .requires_grad_(True)
        )
    return images


def found_by(run, network=None, start=None, targets=None, confidence=0.9, seed=0):
    """What becomes of what an attack hands back; from black, the classes in turn, if not said."""
    start = torch.zeros(1, *SHAPE) if start is None else start
    targets = torch.arange(len(start)) if targets is None else targets
    network = network or linear()
    return run_third_party(fake(run), network, "logits", start, targets, confidence, seed)


def others_of(z):
    """What each output's log-odds are measured against, (n, 4) -> (n, 4)."""
    rest = [z[:, [j for j in range(4) if j != k]].logsumexp(dim=1) for k in range(4)]
    return torch.stack(rest, 1)


outputs = st.lists(
    st.lists(st.floats(-30, 30, width=32), min_size=4, max_size=4), min_size=1, max_size=6
).map(torch.tensor)


# what a rival sees


@settings(max_examples=50, deadline=None)
@given(outputs, st.sampled_from(OUTPUT_FORMS), st.floats(0.5, 0.999))
def test_the_largest_output_is_a_class_exactly_when_it_is_confident(logits, form, confidence):
    p = logits.double().softmax(dim=1)  # three classes and one output more
    assume(bool(((p - confidence).abs() > 1e-5).all()))
    asked, images = Asked(fixed(logits, form), form, confidence), torch.zeros(len(logits), *SHAPE)
    seen = EachClass(asked, CPU)(images)
    assert seen.shape == (len(logits), 5)
    for t in range(4):
        assert torch.equal(seen.argmax(dim=1) == t, p[:, t] >= confidence)
        one = OneClass(asked, CPU, torch.full((len(logits),), t))
        assert torch.equal(one(images).argmax(dim=1) == 0, p[:, t] >= confidence)


@settings(max_examples=50, deadline=None)
@given(outputs, st.floats(0.01, 0.99))
def test_what_is_seen_is_log_odds_less_those_needed(logits, confidence):
    seen = EachClass(Asked(fixed(logits, "logits"), "logits", confidence), CPU)(
        torch.zeros(len(logits), *SHAPE)
    )
    z = logits.double()
    needed = np.log(confidence / (1 - confidence))
    assert_close(seen[:, :4].double(), z - others_of(z) - needed, atol=1e-4, rtol=1e-4)
    assert bool((seen[:, 4] == 0).all())


@settings(max_examples=50, deadline=None)
@given(outputs)
def test_gradients_of_every_output_are_those_of_the_log_odds(logits):
    assume(bool((logits.topk(2, dim=1).values.diff(dim=1).abs() > 1e-3).all()))
    z = logits.double().requires_grad_(True)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0])
    (expected,) = torch.autograd.grad(((z - others_of(z)) * weights).sum(), z)
    leaf = logits.clone().requires_grad_(True)
    view = EachClass(Asked(fixed(leaf, "logits"), "logits", 0.9), CPU)
    (gradient,) = torch.autograd.grad(
        (view(torch.zeros(len(logits), *SHAPE))[:, :4] * weights).sum(), leaf
    )
    assert_close(gradient.double(), expected, atol=1e-4, rtol=1e-3)


def test_impossible_classes_are_finite_and_never_the_target():
    certain = torch.tensor([[0.0, -torch.inf, -torch.inf]])
    view = EachClass(Asked(lambda images: certain, "log-probabilities", 0.9), CPU)
    assert view(torch.zeros(1, *SHAPE)).tolist() == [[1e4, -1e4, -1e4, 0.0]]
    nothing = EachClass(Asked(lambda images: certain * torch.nan, "logits", 0.9), CPU)
    assert int(nothing(torch.zeros(1, *SHAPE)).argmax()) == 3


def test_what_is_done_to_the_view_does_not_reach_the_classifier():
    network = linear().train()
    view = EachClass(Asked(network, "logits", 0.9), CPU)
    view.eval().requires_grad_(False).to(torch.float64)
    assert network.training
    assert all(p.requires_grad and p.dtype == torch.float32 for p in network.parameters())
    assert not list(view.parameters())


# what becomes of what a rival hands back


def test_a_rival_that_works_reaches_the_confidence_of_the_search():
    network, targets = linear(), torch.tensor([2, 0])
    found = found_by(climb, network, torch.zeros(2, *SHAPE), targets)
    p = network(found.images).softmax(dim=1)[torch.arange(2), targets]
    assert found.error == ""
    assert bool((p >= 0.9).all())
    assert torch.equal(found.targets, targets)


def test_passes_are_counted_by_image():
    found = found_by(climb, start=torch.zeros(3, *SHAPE))
    assert (found.forwards, found.backwards) == (30, 30)


def test_no_gradient_no_backward():
    def look(asked, start, targets):
        asked.logits(start)
        with torch.no_grad():
            asked.logits(start[:1])
        return start

    found = found_by(look, linear().requires_grad_(False), torch.zeros(3, *SHAPE))
    assert (found.forwards, found.backwards) == (4, 0)


def test_a_rival_is_asked_for_a_hair_more():
    asked_for = []

    def look(asked, start, targets):
        asked_for.append(asked.confidence)
        return start

    found_by(look, confidence=0.8)
    assert asked_for == [Goal(0.8).target_confidence]


def test_images_are_cleaned_to_stored_form():
    odd = torch.tensor([[1.5, -0.5], [0.001, 0.25]]).view(1, *SHAPE)
    found = found_by(lambda *_: odd)
    assert found.images.tolist() == [[[[1.0, 0.0], [0.0, 0.25]]]]
    assert found.images.dtype == torch.float32


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_those_of_the_start(value):
    start = torch.full((1, *SHAPE), 0.5)
    odd = np.full((1, *SHAPE), 0.75)  # float64
    odd[0, 0, 0, 0] = value
    assert cleaned(odd, start).tolist() == [[[[0.5, 0.75], [0.75, 0.75]]]]


def test_missing_images_are_those_of_the_start():
    start = torch.rand(2, *SHAPE)
    assert torch.equal(cleaned(None, start), start)
    assert_close(cleaned([None, np.ones(SHAPE)], start), torch.stack([start[0], torch.ones(SHAPE)]))


@pytest.mark.parametrize(
    "wrong", [torch.zeros(3, *SHAPE), torch.zeros(2, 4), np.zeros((2, 1, 1, 1))]
)
def test_images_of_another_shape_are_an_error(wrong):
    found = found_by(lambda *_: wrong, start=torch.zeros(2, *SHAPE))
    assert "handed back" in found.error
    assert found.images.shape == (2, *SHAPE)


def test_a_rival_that_raises_is_a_result_that_says_why():
    def broken(asked, start, targets):
        asked.logits(start)
        raise AssertionError("no\n such   luck")

    start = torch.rand(2, *SHAPE)
    found = found_by(broken, start=start)
    assert found.error == "AssertionError: no such luck"
    assert torch.equal(found.images, stored(start))
    assert found.forwards == 2


def test_interrupting_is_not_an_error_of_the_rival():
    def interrupted(asked, start, targets):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        found_by(interrupted)


def test_a_rival_cannot_change_start_or_targets():
    start, targets = torch.zeros(1, *SHAPE), torch.tensor([1])

    def greedy(asked, mine, wanted):
        wanted.zero_()
        return mine.add_(1)

    found = found_by(greedy, None, start, targets)
    assert (float(start.max()), int(targets[0]), int(found.targets[0])) == (0.0, 1, 1)


@pytest.mark.parametrize("fails", [False, True])
def test_random_numbers_are_left_as_found_and_repeat(fails):
    drawn = []

    def random_rival(asked, start, targets):
        drawn.append(draws())
        seed(1)
        if fails:
            raise RuntimeError
        return start

    def draws():
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def seed(number):
        random.seed(number)
        np.random.seed(number)
        torch.manual_seed(number)

    network = linear()
    seed(7)
    undisturbed = draws()
    seed(7)
    for number in (3, 3, 4):
        found_by(random_rival, network, seed=number)
    assert draws() == undisturbed
    assert drawn[0] == drawn[1]
    assert all(a != b for a, b in zip(drawn[1], drawn[2], strict=True))


# libraries


def test_missing_libraries_are_reported_with_how_to_install_them():
    def missing():
        raise ModuleNotFoundError("No module named 'fake_attacks'")

    def at_odds():
        raise AttributeError("module 'numpy' has no attribute 'product'")

    here = fake(climb, "here")
    one = ThirdPartyAttack("a", "one", "pip install one", missing)
    two = ThirdPartyAttack("b", "two", "pip install two", at_odds)
    usable, lacking = available([one, here, two])
    assert usable == [here]
    whys = {
        "one": "ModuleNotFoundError: No module named 'fake_attacks'",
        "two": "AttributeError: module 'numpy' has no attribute 'product'",
    }
    assert lacking == {
        name: f"cannot be imported ({why}); pip install {name}" for name, why in whys.items()
    }


def test_every_library_is_usable_or_reported():
    usable, lacking = available(ATTACKS)
    assert {r.library for r in usable} | set(lacking) == {
        "adv-lib",
        "foolbox",
        "adversarial-robustness-toolbox",
    }
    assert all("pip install" in reason for reason in lacking.values())
    assert not {r.library for r in usable} & set(lacking)


def test_stand_ins_are_gone_afterwards(monkeypatch):
    real = types.ModuleType("plots")
    monkeypatch.setitem(sys.modules, "plots", real)
    with (
        pytest.raises(RuntimeError),
        stand_ins({"plots": (), "no_such_module_at_all": ("models",)}),
    ):
        assert sys.modules["plots"] is real
        assert hasattr(sys.modules["no_such_module_at_all"], "models")
        raise RuntimeError
    assert sys.modules["plots"] is real
    assert "no_such_module_at_all" not in sys.modules


MODULES = {"adv-lib": "adv_lib", "foolbox": "foolbox", "adversarial-robustness-toolbox": "art"}


@pytest.mark.parametrize("rival", ATTACKS, ids=lambda r: r.name)
@pytest.mark.parametrize("form", OUTPUT_FORMS)
def test_real_rivals_find_confident_images(rival, form, plain):
    pytest.importorskip(MODULES[rival.library], reason=f"needs {rival.library}: {rival.install}")
    before = {name for name in NOT_NEEDED if name in sys.modules}

    def twofold(images):
        """20 outputs of which 10 are classes: each one's probability beside a tenth of the rest."""
        z = plain(images)
        return AS_FORM[form](torch.cat([z, z - 4], 1))

    targets = torch.tensor([3, 8, 1])
    with left_as_found(plain):
        found = run_third_party(rival, twofold, form, torch.zeros(3, 1, 8, 8), targets, 0.9)
        p = twofold(found.images)
    p = p.softmax(dim=1) if form != "probabilities" else p
    assert found.error == ""
    assert bool((p[torch.arange(3), targets] >= 0.9).all())
    assert bool((found.images == stored(found.images)).all())
    assert found.forwards > 0 and found.backwards > 0
    assert {name for name in NOT_NEEDED if name in sys.modules} == before
