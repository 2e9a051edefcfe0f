"""`blankcheck doctor`: every mistake is planted into a network that is otherwise fine, and exactly
it must be found."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blankcheck.classifiers import TrainingPlan, UnitClassifier, load_model, train_plainly
from blankcheck.classifiers.loading import parse_normalize, save_model
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.cli.commands.doctor import quoted
from blankcheck.cli.main import main
from blankcheck.data import Data, Split, load_data
from blankcheck.diagnosing import Diagnosis, choosing, diagnose
from blankcheck.diagnosing.forms import (
    HALF,
    PUBLISHED,
    Form,
    alike,
    candidates,
    normalisations,
    repairs,
    spelled,
)
from blankcheck.diagnosing.scoring import (
    Reference,
    best_temperature,
    better,
    fitted_order,
    other_order,
    score,
)
from blankcheck.errors import ArgumentError
from blankcheck.testing import stripes, stripes_template

Change = Callable[[Tensor], Tensor]


class Around(nn.Module):
    """A network with something done to its images and outputs."""

    def __init__(
        self,
        inner: nn.Module,
        before: Callable[[Tensor], Tensor] = lambda x: x,
        after: Callable[[Tensor], Tensor] = lambda y: y,
    ) -> None:
        super().__init__()
        self.inner, self.before, self.after = inner, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.inner(self.before(x)))


def problems(found: Diagnosis) -> list[str]:
    return [f.code for f in found.problems]


def statuses(found: Diagnosis) -> dict[str, str]:
    return {f.code: f.status for f in found.findings}


ORDER = [3, 1, 2, 0, 5, 4, 6, 7, 9, 8]


@pytest.fixture(scope="module")
def colours() -> Data:
    """Four classes by colour, brighter to the right: red, green, blue, yellow."""
    generator = torch.Generator().manual_seed(0)
    paint = torch.tensor([[0.8, 0.2, 0.1], [0.2, 0.7, 0.2], [0.1, 0.2, 0.8], [0.8, 0.7, 0.1]])
    labels = torch.arange(600) % 4
    ramp = torch.linspace(0.4, 1, 8).view(1, 1, 1, 8)
    images = (
        paint[labels].view(-1, 3, 1, 1) * ramp
        + 0.25 * torch.randn(600, 3, 8, 8, generator=generator)
    ).clamp(0, 1)
    parts = [Split(images[i:j], labels[i:j]) for i, j in ((0, 360), (360, 540), (540, 600))]
    return Data("colours", ("red", "green", "blue", "yellow"), *parts)


@pytest.fixture(scope="module")
def painter(colours: Data) -> UnitClassifier:
    """Trained on the colours, with ImageNet's normalisation inside."""
    torch.manual_seed(0)
    network = UnitClassifier(
        nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4)),
        PUBLISHED[3]["ImageNet"],
    )
    train_plainly(network, colours.train, TrainingPlan(40, 32), seed=0)
    return network


@pytest.fixture(scope="module")
def raw(digits: Data) -> nn.Module:
    """Trained on digits without any normalisation."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    train_plainly(network, digits.train, TrainingPlan(60), seed=0)
    return network


def test_a_healthy_network_has_no_problem(plain, digits):
    found = diagnose(plain, digits)
    assert found.plausible and not found.problems and not found.lines
    said = statuses(found)
    kinds = "accuracy batch-independent confidence finite forward gradient normalisation"
    assert sorted(said) == [*kinds.split(), "output-form", "outputs", "repeatable"]
    facts = found.facts
    assert facts.shape == (1, 8, 8) and facts.classes == 10 and facts.outputs == 10
    assert facts.output_form == "logits"
    assert facts.parameters == sum(p.numel() for p in plain.parameters())
    assert facts.parameter_bytes == 4 * facts.parameters
    right = (plain(digits.validation.images).argmax(1) == digits.validation.labels).float().mean()
    assert facts.accuracy == pytest.approx(float(right)) and facts.images == len(digits.validation)
    assert facts.forward_ms > 0 and facts.gradient_ms > 0 and facts.activation_bytes > 0


def test_it_never_looks_at_test_images(plain, digits):
    blind = Data(
        digits.source,
        digits.classes,
        digits.train,
        digits.validation,
        Split(torch.rand(50, 1, 8, 8), torch.zeros(50, dtype=torch.int64)),
    )
    one, two = diagnose(plain, digits), diagnose(plain, blind)
    assert one.findings == two.findings and one.forms == two.forms


NORMALISED: dict[str, tuple[Callable[[Tensor], Tensor], str, str]] = {
    "bytes": (lambda x: x / 255, "value-range", "0/0.003921569"),
    "minus one to one": (lambda x: (x + 1) / 2, "value-range", "0.5/0.5"),
    "ImageNet's": (lambda x: x * 0.226 + 0.449, "normalisation", "0.449/0.226"),
}


@pytest.mark.parametrize("name", NORMALISED)
def test_values_that_the_network_was_not_trained_on(plain, digits, name):
    """Each network undoes what it expects, so that only one option gives the plain answers."""
    before, code, option = NORMALISED[name]
    found = diagnose(Around(plain, before), digits)
    assert problems(found) == [code]
    assert f"{option} (" in found.problems[0].finding and not found.lines and found.plausible
    if code == "normalisation":  # CIFAR-10's constants are as likely, and it says so
        assert "Undecided" in found.problems[0].finding
        return
    assert found.problems[0].what_to_do == f"Give --normalize {option}."
    assert spelled(found.normalize) == option
    used = load_model(Around(plain, before), normalize=found.normalize)
    assert torch.allclose(used(digits.test.images), plain(digits.test.images), atol=2e-3)


def test_a_missing_normalisation(plain, digits):
    found = diagnose(UnitClassifier(plain.network), digits)
    assert problems(found) == ["normalisation"] and "is missing" in found.problems[0].finding
    assert alike(found.normalize, digits.mean_and_std())
    assert found.facts.accuracy > 0.95


def test_another_normalisation_than_given(plain, digits):
    found = diagnose(UnitClassifier(plain.network, HALF), digits)
    assert problems(found) == ["normalisation"] and "is another" in found.problems[0].finding
    assert not diagnose(UnitClassifier(plain.network, digits.mean_and_std()), digits).problems


def test_a_network_that_normalises_for_itself_is_not_to_be_given_a_normalisation(plain, digits):
    found = diagnose(UnitClassifier(Around(plain), PUBLISHED[1]["ImageNet, grey"]), digits)
    assert problems(found) == ["double-normalisation"] and found.normalize is None
    assert "Leave --normalize out" in found.problems[0].what_to_do


def test_a_normalisation_inside_that_the_weights_are_not_used_to(raw, digits):
    (mean,), (std,) = HALF
    found = diagnose(Around(raw, lambda x: (x - mean) / std), digits)
    assert problems(found) == ["double-normalisation"] and spelled(found.normalize) == "-1/2"
    assert "--normalize=-1/2" in found.problems[0].what_to_do, "a minus needs the equals sign"


def test_what_cannot_be_told_apart_is_said_to_be_undecided(digits):
    """A network that standardises every image takes any normalisation; the given one stays."""
    means = torch.stack([digits.train.images[digits.train.labels == k].mean(0) for k in range(10)])
    prototypes = F.normalize((means - means.mean((1, 2, 3), keepdim=True)).flatten(1))

    class Standardising(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(1) - x.flatten(1).mean(1, keepdim=True)
            return 20 * F.normalize(flat) @ prototypes.T

    found = diagnose(Standardising(), digits)
    assert not found.problems and found.normalize is None
    (note,) = (f for f in found.findings if f.code == "normalisation")
    assert note.status == "note" and note.finding.startswith("Undecided") and "more" in note.finding
    likeliest = next(form["normalize"] for form in found.forms if form["as_good_as_the_likeliest"])
    # which one that is hangs on the last bit, and so on the machine
    given = f"--normalize{'=' if likeliest.startswith('-') else ' '}{likeliest}"
    assert f"the likeliest here is {given}." in note.what_to_do


@pytest.mark.parametrize(
    ("code", "before"),
    [("transposed", lambda x: x.transpose(2, 3)), ("inverted", lambda x: 1 - x)],
    ids=["transposed", "inverted"],
)
def test_images_the_wrong_way_round(plain, digits, code, before):
    found = diagnose(Around(plain, before), digits)
    assert problems(found) == [code]
    assert_hooks_mend(found, lambda: Around(plain, before), plain, digits)


def test_inverted_images_with_a_normalisation(plain, digits):
    """The line is right behind a normalisation, too."""
    inner = Around(plain, lambda x: 1 - (x * 0.3081 + 0.1307))
    given = UnitClassifier(inner, PUBLISHED[1]["MNIST"])
    found = diagnose(given, digits)
    assert problems(found) == ["inverted"]
    mended = UnitClassifier(given.network, found.normalize)
    hooked(mended.network, found.lines)
    assert torch.allclose(mended(digits.test.images), plain(digits.test.images), atol=2e-3)


def hooked(network: nn.Module, lines: tuple[str, ...]) -> nn.Module:
    for line in lines:
        exec(line, {"network": network, "torch": torch})
    return network


def assert_hooks_mend(
    found: Diagnosis, make: Callable[[], nn.Module], plain: nn.Module, data: Data
) -> None:
    assert found.lines and found.plausible
    mended = load_model(hooked(make(), found.lines), normalize=found.normalize)
    assert torch.allclose(mended(data.test.images), plain(data.test.images), atol=2e-3)
    assert not diagnose(mended, data).problems


def test_blue_first(painter, colours):
    assert not diagnose(painter, colours).problems
    found = diagnose(Around(painter, lambda x: x.flip(1)), colours)
    assert problems(found) == ["channel-order"] and "flip(1)" in found.lines[0]
    assert_hooks_mend(found, lambda: Around(painter, lambda x: x.flip(1)), painter, colours)


def test_blue_first_and_not_normalised(painter, colours):
    found = diagnose(Around(painter.network, lambda x: x.flip(1)), colours)
    assert sorted(problems(found)) == ["channel-order", "normalisation"]
    network = hooked(Around(painter.network, lambda x: x.flip(1)), found.lines)
    mended = load_model(network, normalize=found.normalize)
    right = (mended(colours.test.images).argmax(1) == colours.test.labels).float().mean()
    assert right > 0.9 and found.facts.accuracy > 0.9


@pytest.mark.parametrize("order", [ORDER, [1, 0, *range(2, 10)]], ids=["many", "two"])
def test_classes_in_another_order(plain, digits, order):
    found = diagnose(Around(plain, after=lambda y: y[:, order]), digits)
    assert problems(found) == ["class-order"]
    assert_hooks_mend(found, lambda: Around(plain, after=lambda y: y[:, order]), plain, digits)
    elsewhere = sum(i != k for i, k in enumerate(order))
    assert found.problems[0].finding.startswith(f"{elsewhere} of 10 outputs stand in other places")


def test_classes_counted_from_one(plain, digits):
    """An eleventh output in front, as where a background class comes first."""
    found = diagnose(Around(plain, after=lambda y: F.pad(y, (1, 0), value=-20.0)), digits)
    assert problems(found) == ["class-order"] and statuses(found)["outputs"] == "note"
    mended = hooked(Around(plain, after=lambda y: F.pad(y, (1, 0), value=-20.0)), found.lines)
    assert torch.allclose(mended(digits.test.images)[:, :10], plain(digits.test.images))


def test_classes_in_another_order_and_not_normalised(plain, digits):
    found = diagnose(Around(plain, lambda x: x / 255, lambda y: y[:, ORDER]), digits)
    assert sorted(problems(found)) == ["class-order", "value-range"]
    assert found.facts.accuracy > 0.95


def softmax(y: Tensor) -> Tensor:
    return y.softmax(1)


@pytest.mark.parametrize(
    ("after", "code"),
    [
        (lambda y: softmax(softmax(y)), "softmax-twice"),
        (lambda y: softmax(y).log_softmax(1), "softmax-twice"),
        (lambda y: torch.sigmoid(y - y.topk(2).values.mean(1, keepdim=True)), "bounded-outputs"),
        (lambda y: torch.tanh(y - y.topk(2).values.mean(1, keepdim=True)), "bounded-outputs"),
    ],
    ids=["softmax twice", "log-softmax of softmax", "sigmoid", "tanh"],
)
def test_outputs_that_cannot_be_sure(plain, digits, after, code):
    found = diagnose(Around(plain, after=after), digits)
    assert problems(found) == [code]
    mended = diagnose(hooked(Around(plain, after=after), found.lines), digits)
    assert not mended.problems and statuses(mended)["confidence"] == "good"


def test_two_softmaxes_over_two_classes():
    data = stripes()
    sure = Around(stripes_template(), after=lambda y: softmax(softmax(y)))
    timid = Around(stripes_template(), after=lambda y: (y / 14).softmax(1))
    assert problems(diagnose(sure, data)) == ["softmax-twice"]
    assert problems(diagnose(timid, data)) == ["temperature"]


@pytest.mark.parametrize(
    ("after", "form"),
    [(softmax, "probabilities"), (lambda y: y.log_softmax(1), "log-probabilities")],
)
def test_one_softmax_is_no_problem(plain, digits, after, form):
    found = diagnose(Around(plain, after=after), digits)
    assert not found.problems and found.facts.output_form == form


def test_a_timid_network_is_only_noted(plain, digits):
    found = diagnose(Around(plain, after=lambda y: y / 3), digits)
    assert not found.problems and statuses(found)["confidence"] == "note"
    assert found.temperature == 1.0


def test_a_network_that_is_never_sure_is_given_a_temperature(plain, digits):
    never = Around(plain, after=lambda y: y / 20)
    found = diagnose(never, digits)
    assert problems(found) == ["temperature"] and found.temperature < 0.1
    assert found.problems[0].what_to_do == f"Give --temperature {found.temperature:g}."
    mended = diagnose(load_model(never, temperature=found.temperature), digits)
    assert not mended.problems and mended.temperature == found.temperature
    half = diagnose(load_model(never, temperature=0.5), digits)
    assert half.temperature == pytest.approx(found.temperature, rel=0.05), "in all"


def test_a_last_softmax_takes_its_temperature_by_a_line(plain, digits):
    never = Around(plain, after=lambda y: (y / 20).softmax(1))
    found = diagnose(never, digits)
    assert problems(found) == ["temperature"] and found.temperature == 1.0
    assert not diagnose(hooked(never, found.lines), digits).problems


def with_dropout(plain: UnitClassifier, dropout: nn.Module) -> nn.Sequential:
    """Dropout before the last layer."""
    normalize = plain.mean.flatten().tolist(), plain.std.flatten().tolist()
    return nn.Sequential(UnitClassifier(plain.network[:-1], normalize), dropout, plain.network[-1])


def test_dropout_that_its_own_forward_keeps_on(plain, digits):
    awake = Around(nn.Identity(), lambda x: F.dropout(x, 0.5))
    found = diagnose(with_dropout(plain, awake), digits)
    assert problems(found) == ["repeatable"] and found.plausible
    assert "gradient" not in statuses(found), "an audit would find noise in it"


def test_noise_is_no_reason_for_another_normalisation(digits):
    """Values of 0 to 255 would only make the noise inside a network smaller."""

    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last, self.noise = nn.Linear(64, 64), nn.Linear(64, 10), 0.0

        def forward(self, x: Tensor) -> Tensor:
            noisy = x + self.noise * torch.randn_like(x)
            return self.last(self.first(noisy.flatten(1)).relu())

    torch.manual_seed(0)
    network = Noisy()
    train_plainly(network, digits.train, TrainingPlan(60), seed=0)
    network.noise = 0.3
    found = diagnose(network, digits)
    assert problems(found) == ["repeatable"] and found.normalize is None and found.plausible


def test_a_layer_that_wakes_itself_is_named(plain, digits):
    dropout = nn.Dropout(0.5)
    wakes = Around(dropout, lambda x: (dropout.train(), x)[1])
    found = diagnose(with_dropout(plain, wakes), digits)
    assert problems(found) == ["repeatable"] and "Dropout '1.inner'" in found.problems[0].finding


def test_dropout_left_in_training_mode_is_put_to_sleep(plain, digits):
    network = with_dropout(plain, nn.Dropout(0.5)).train()
    assert not diagnose(network, digits).problems
    assert network.training and network[1].training, "and left as it was"


def trained_with_batch_norm(digits: Data, **options: bool) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64, **options), nn.ReLU(), nn.Linear(64, 10)
    )
    train_plainly(network, digits.train, TrainingPlan(30), seed=0)
    return network


def test_statistics_of_the_batch(digits):
    found = diagnose(trained_with_batch_norm(digits, track_running_stats=False), digits)
    assert "batch-independent" in problems(found) and set(problems(found)) <= {"batch-independent"}
    assert "BatchNorm1d '2'" in found.problems[0].finding


def test_statistics_that_never_saw_data(digits):
    network = trained_with_batch_norm(digits)
    assert not diagnose(network, digits).problems
    scales = torch.exp(3 * torch.randn(64, generator=torch.Generator().manual_seed(0)))
    # what no batch norm that knows its inputs would notice
    network[1].weight.data *= scales[:, None]
    network[1].bias.data *= scales
    network[2].reset_running_stats()
    found = diagnose(network, digits)
    assert problems(found) == ["batch-norm"] and not found.plausible
    assert bool((network[2].running_mean == 0).all()), "left as it was"


def test_a_batch_of_one_image(plain, digits):
    found = diagnose(Around(plain, after=lambda y: y.squeeze()), digits)
    assert problems(found) == ["batch-independent"] and "not one alone" in found.problems[0].finding


def test_a_network_that_writes_into_its_images_leaves_the_data_alone(plain, digits):
    before = digits.validation.images.clone()
    diagnose(Around(plain, lambda x: x.mul_(0.5)), digits)
    assert torch.equal(digits.validation.images, before)


@pytest.mark.parametrize(
    ("after", "code"),
    [
        (lambda y: y * torch.nan, "finite"),
        (lambda y: torch.where(y.argmax(1, keepdim=True) == 3, torch.inf, y), "finite"),
        (lambda y: y * 0 + torch.arange(10), "constant"),
    ],
    ids=["NaN", "infinite for some", "constant"],
)
def test_outputs_that_say_nothing(plain, digits, after, code):
    assert problems(diagnose(Around(plain, after=after), digits)) == [code]


def test_untrained_and_wrong_weights(digits):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    found = diagnose(network, digits)
    assert problems(found) == ["untrained"] and not found.plausible and found.normalize is None


def test_a_network_that_knows_half_of_the_classes(plain, digits):
    """Above chance, below the nearest class mean: neither plausible nor untrained."""
    found = diagnose(Around(plain, after=lambda y: y - 1e6 * (torch.arange(10) > 4)), digits)
    assert problems(found) == ["accuracy"] and not found.plausible


def test_outputs_for_fewer_classes(plain, digits):
    found = diagnose(Around(plain, after=lambda y: y[:, :7]), digits)
    assert problems(found) == ["outputs"] and "7 outputs" in found.problems[0].finding
    assert found.facts.outputs == 7


def test_more_outputs_are_noted(plain, digits):
    found = diagnose(Around(plain, after=lambda y: F.pad(y, (0, 2), value=-20.0)), digits)
    assert not found.problems and statuses(found)["outputs"] == "note"


def three_channels(plain: nn.Module) -> nn.Module:
    """Takes colour only."""
    network = nn.Conv2d(3, 1, 1, bias=False)
    nn.init.constant_(network.weight, 1 / 3)
    return nn.Sequential(network, plain)


def test_a_network_for_colour_is_given_three_channels_by_the_option(plain, digits):
    found = diagnose(three_channels(plain), digits)
    assert problems(found) == ["channels"] and not found.lines
    assert "--normalize 0,0,0/1,1,1" in found.problems[0].what_to_do
    used = load_model(three_channels(plain), normalize=found.normalize)
    assert torch.allclose(used(digits.test.images), plain(digits.test.images), atol=1e-4)


@pytest.mark.parametrize(
    ("code", "takes"),
    [
        ("layout", lambda x: x.permute(0, 3, 1, 2)),
        ("layout", lambda x: x.unflatten(1, (1, 8, 8)) if x.ndim == 2 else _refuse(x)),
        ("layout", lambda x: x.unsqueeze(1) if x.ndim == 3 else _refuse(x)),
    ],
    ids=["channels last", "flat", "no channel axis"],
)
def test_axes_that_the_network_refuses(plain, digits, code, takes):
    def before(x: Tensor) -> Tensor:
        x = takes(x)
        return x if x.shape[1:] == (1, 8, 8) else _refuse(x)

    found = diagnose(Around(plain, before), digits)
    assert problems(found) == [code]
    assert_hooks_mend(found, lambda: Around(plain, before), plain, digits)


def _refuse(x: Tensor) -> Tensor:
    raise RuntimeError(f"shape {tuple(x.shape)}")


def test_grey_instead_of_colour(colours):
    """A network that tells the colours by their brightness, as a grey image has it."""
    luma = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    grey = (colours.train.images * luma).sum(1).mean((1, 2))
    means = torch.stack([grey[colours.train.labels == k].mean() for k in range(4)])

    class ByBrightness(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -((F.conv2d(x, torch.ones(1, 1, 8, 8) / 64).flatten(1) - means) ** 2) * 4000

    found = diagnose(ByBrightness(), colours)
    assert "channels" in problems(found) and "1 channel" in found.problems[0].finding


FAULTS = [AttributeError("a"), RuntimeError("\x1b[31mred\nlines"), ZeroDivisionError(), KeyError(1)]


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_whatever_a_forward_raises_is_one_line(digits, fault):
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise fault

    found = diagnose(Broken(), digits)
    assert problems(found) == ["forward"] and not found.plausible
    assert found.problems[0].finding.isprintable()


def test_a_network_that_fails_now_and_then_does_not_crash_it(plain, digits):
    calls = iter(range(10_000))

    def before(x: Tensor) -> Tensor:
        return x if next(calls) % 5 else _refuse(x)

    assert problems(diagnose(Around(plain, before), digits)) == ["forward"]


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (lambda x: x.detach(), "No gradient"),
        (lambda x: (x * 16).round() / 16, "No gradient"),
        (lambda x: x + (0 * x).sqrt(), "NaN"),
    ],
    ids=["detached", "rounded", "NaN"],
)
def test_gradients_that_cannot_be_followed(plain, digits, before, words):
    found = diagnose(Around(plain, before), digits)
    assert problems(found) == ["gradient"] and words in found.problems[0].finding


def test_gradients_that_lie(plain, digits):
    class Lying(torch.autograd.Function):
        @staticmethod
        def forward(context, x):
            return x.clone()

        @staticmethod
        def backward(context, slope):
            return -slope

    found = diagnose(Around(plain, Lying.apply), digits)
    assert problems(found) == ["gradient"] and "contradict" in found.problems[0].finding


def test_the_network_is_left_as_it_was_found(digits):
    torch.manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 10))
    network.train()[3].weight.grad = torch.ones_like(network[3].weight)
    before, state = fingerprint(network), torch.get_rng_state()
    modes = [m.training for m in network.modules()]
    diagnose(network, digits)
    assert fingerprint(network) == before and [m.training for m in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state) and bool((network[3].weight.grad == 1).all())
    assert all(p.requires_grad for p in network.parameters())


def test_the_same_seed_says_the_same(plain, digits):
    network = UnitClassifier(plain.network)
    one, two = (diagnose(network, digits, images=60, seed=5) for _ in range(2))
    assert one.findings == two.findings and one.forms == two.forms


def test_too_few_images_are_refused(plain, digits):
    with pytest.raises(ArgumentError, match="images must be at least 20, got 3"):
        diagnose(plain, digits, images=3)


# the arithmetic


def test_every_form_can_be_had_with_the_option_and_its_line(digits):
    """What a form shows the network is what `--normalize` and the hook make of the image."""
    seen: list[Tensor] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x

    for shape in ((1, 8, 8), (3, 8, 8)):
        images = torch.rand(3, *shape)
        own = ((0.3,) * shape[0], (0.2,) * shape[0])
        for form in candidates(shape, own, Form(None, "", "plain")):
            lines = (form.arrangement.hook,) if form.arrangement.hook else ()
            network = hooked(Spy(), lines)
            load_model(network, normalize=parse_normalize(form.option))(images)
            assert torch.allclose(seen[-1], form.view(images), rtol=1e-4, atol=1e-5), form.words


def test_inverting_means_one_minus_the_image():
    forms = candidates((1, 4, 4), ((0.3,), (0.2,)), Form(None, "", "plain"))
    inverted = [form for form in forms if form.arrangement.code == "inverted"]
    (form,) = (form for form in inverted if form.origin == "MNIST")
    images = torch.rand(2, 1, 4, 4)
    assert torch.allclose(form.view(images), (1 - images - 0.1307) / 0.3081, atol=1e-5)


def test_undone_normalisations_take_back_one():
    images = torch.rand(2, 1, 4, 4)
    for form in normalisations(1, ((0.3,), (0.2,))):
        if form.kind == "undone":
            (mean,), (std,) = parse_normalize(form.origin.removeprefix("takes back "))
            assert torch.allclose((form.view(images) - mean) / std, images, atol=1e-4)


def test_repairs_keep_what_they_promise():
    grey = torch.rand(2, 1, 28, 28)
    found = [(a, grey.expand(-1, a.constants or 1, -1, -1)) for a in repairs((1, 28, 28))]
    shapes = {a.words: tuple(a.change(image).shape[1:]) for a, image in found}
    assert shapes["channels last"] == (28, 28, 1) and shapes["one row of features"] == (784,)
    assert shapes["32x32 images"] == (1, 32, 32)
    assert shapes["3 channels, 224x224 images"] == (3, 224, 224)


def test_the_best_temperature_is_where_the_likelihood_is_flat():
    torch.manual_seed(0)
    logits = torch.randn(400, 5) * 3
    labels = torch.distributions.Categorical(logits=logits / 2.5).sample()
    found = best_temperature(logits, labels)
    at = [float(F.cross_entropy(logits / t, labels)) for t in (found * 0.97, found, found * 1.03)]
    assert min(at) == at[1] and 1.8 < found < 3.5


def test_scaled_logits_are_no_better_and_no_worse():
    """Smoothed labels make a network less sure than it is right; that must not speak for another
    form."""
    torch.manual_seed(0)
    logits = torch.randn(500, 4)
    labels = torch.distributions.Categorical(logits=3 * logits).sample()
    form = Form(None, "", "plain")
    one, two = score(form, logits, labels), score(form, 7 * logits, labels)
    assert not better(one, two) and not better(two, one)
    assert one.mean_loss == pytest.approx(two.mean_loss, rel=1e-3)
    noisy = score(form, logits + torch.randn(500, 4), labels)
    assert better(one, noisy) and not better(noisy, one)


def test_orders_of_classes():
    labels = torch.arange(60) % 3
    outputs = F.one_hot((labels + 1) % 3, 4).float()
    assert fitted_order(outputs, labels, 3) == (1, 2, 0)
    measure = Reference(chance=1 / 3, centroid=0.9)
    assert other_order(outputs, labels, 3, measure) == (1, 2, 0)
    assert other_order(F.one_hot(labels, 4).float(), labels, 3, measure) is None
    guess = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    assert other_order(guess, labels, 3, measure) is None, "an order fitted to chance is no order"


def test_plausible_is_near_the_nearest_class_mean():
    measure = Reference(chance=0.1, centroid=0.8)
    right = torch.zeros(1000, dtype=torch.bool)
    for share, above, plausible in ((0.1, 0, 0), (0.5, 1, 0), (0.75, 1, 1), (0.99, 1, 1)):
        right[:] = torch.arange(1000) < 1000 * share
        assert (measure.above_chance(right), measure.plausible(right)) == (above, plausible)


# the command


NET = """
import torch
from torch import nn
from torch.nn import functional as F
def make():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 128),
                            nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
    # lines
    return network
def raises(): raise ValueError("out of luck")
class Broken(nn.Module):
    def forward(self, x): raise AttributeError("no such layer")
def broken(): return Broken()
"""


@pytest.fixture
def forgotten(plain, tmp_path) -> list[str]:
    """An own network whose normalisation was forgotten, in a place with a blank in its name."""
    folder = tmp_path / "my nets"
    folder.mkdir()
    (folder / "net.py").write_text(NET)
    torch.save(plain.network.state_dict(), folder / "net.pt")
    return ["--model", f"{folder / 'net.py'}:make", "--weights", str(folder / "net.pt")]


def told(capsys, *arguments: str) -> str:
    assert main(["doctor", *arguments]) == 0
    return capsys.readouterr().out


def record_of(capsys, *arguments: str) -> dict[str, Any]:
    return json.loads(told(capsys, *arguments, "--json"))


def codes(record: dict[str, Any]) -> list[str]:
    return sorted(f["code"] for f in record["findings"] if f["status"] == "problem")


class LoadedError(Exception):
    """Ends an audit as soon as its network is loaded and found to fit the data."""


def loaded(command: str, monkeypatch: pytest.MonkeyPatch, out: Path) -> nn.Module:
    """The network that a printed command audits."""

    def end(classifier: nn.Module, *_: object) -> None:
        raise LoadedError(classifier)

    monkeypatch.setattr("blankcheck.cli.commands.audit.audited", end)
    words = shlex.split(command)
    assert words[:2] == ["blankcheck", "audit"]
    with pytest.raises(LoadedError) as caught:
        main([*words[1:], "--quiet", "--ood-level", "0.05", "--out", str(out)])
    network = caught.value.args[0]
    assert isinstance(network, nn.Module)
    return network


def accuracy(network: nn.Module, split: Split) -> float:
    with torch.no_grad():
        return float((network(split.images).argmax(1) == split.labels).float().mean())


def test_the_printed_audit_loads_the_network_as_it_wants_to_be(
    forgotten, plain, digits, tmp_path, capsys, monkeypatch
):
    out = told(capsys, *forgotten)
    assert out.startswith("PROBLEMS  1 problem") and "✗ normalisation" in out and "\x1b" not in out
    network = loaded(out.splitlines()[-1], monkeypatch, tmp_path / "run")
    assert accuracy(network, digits.test) == pytest.approx(accuracy(plain, digits.test), abs=0.01)
    assert accuracy(network, digits.test) > accuracy(plain.network, digits.test) + 0.05


def test_the_printed_lines_and_audit_mend_what_no_option_can(
    forgotten, digits, tmp_path, capsys, monkeypatch
):
    place = Path(forgotten[1].removesuffix(":make"))
    upset = f"network.register_forward_hook(lambda _, x, y: y[:, {ORDER}])"
    place.write_text(NET.replace("# lines", upset))
    record = record_of(capsys, *forgotten)
    assert codes(record) == ["class-order", "normalisation"]
    place.write_text(NET.replace("# lines", "\n    ".join([upset, *record["lines"]])))
    assert accuracy(loaded(record["command"], monkeypatch, tmp_path / "run"), digits.test) > 0.95
    assert record_of(capsys, *forgotten, "--normalize", record["normalize"])["problems"] == 0


def test_the_command_of_a_healthy_network_keeps_what_was_given(forgotten, digits, capsys):
    mean, std = digits.mean_and_std()
    given = ["--normalize", f"{mean[0]:.3f}/{std[0]:.3f}", "--seed", "3", "--device", "cpu"]
    command = told(capsys, *forgotten, *given).splitlines()[-1]
    wanted = ["--data", "digits", *forgotten, *given[:2], "--device", "cpu", "--seed", "3"]
    assert shlex.split(command)[2:] == wanted


def test_the_printed_audit_has_the_temperature(
    forgotten, plain, digits, tmp_path, capsys, monkeypatch
):
    state = plain.network.state_dict()
    state |= {name: state[name] / 20 for name in ("7.weight", "7.bias")}
    torch.save(state, forgotten[3])
    mean, std = digits.mean_and_std()
    normalize = ["--normalize", f"{mean[0]:.4f}/{std[0]:.4f}"]
    command = told(capsys, *forgotten, *normalize).splitlines()[-1]
    network = loaded(command, monkeypatch, tmp_path / "run")
    with torch.no_grad():
        sure = network(digits.test.images).softmax(1).amax(1) >= 0.9
    assert float(sure.float().mean()) > 0.8


def test_built_in_networks_carry_their_normalisation(weights, capsys):
    out = told(capsys, "--weights", str(weights))
    assert out.startswith("HEALTHY") and "which it carries itself" in out
    audit = "blankcheck audit --data digits --model mlp --weights"
    assert out.splitlines()[-1] == f"{audit} {shlex.quote(str(weights))}"


def test_weights_of_a_built_in_network_that_do_not_carry_it(plain, digits, tmp_path, capsys):
    path = tmp_path / "w.pt"
    torch.save(plain.network.state_dict(), path)
    record = record_of(capsys, "--weights", str(path), "--normalize", "0.5/0.5")
    assert codes(record) == ["normalisation"]
    assert alike(parse_normalize(record["normalize"]), digits.mean_and_std())


def test_an_own_network_saved_whole_carries_its_normalisation(forgotten, plain, tmp_path, capsys):
    save_model(plain, tmp_path / "whole.safetensors")
    record = record_of(capsys, *forgotten[:2], "--weights", str(tmp_path / "whole.safetensors"))
    assert record["problems"] == 0 and "--normalize" not in record["command"]


def test_a_factory_that_takes_no_option_is_not_told_to(plain, tmp_path, capsys):
    """It returns a UnitClassifier of its own, before which `--normalize` puts nothing."""
    torch.save(plain.network.state_dict(), tmp_path / "net.pt")
    (tmp_path / "net.py").write_text(
        NET + "\nfrom blankcheck.classifiers import UnitClassifier\n"
        "def unit(): return UnitClassifier(make())\n"
    )
    model = ["--model", f"{tmp_path}/net.py:unit", "--weights", str(tmp_path / "net.pt")]
    record = record_of(capsys, *model)
    assert "--normalize" not in (record["command"] or "") and record["problems"] == 0


def test_nothing_plausible_means_no_command(tmp_path, capsys):
    (tmp_path / "net.py").write_text(NET)
    out = told(capsys, "--model", f"{tmp_path}/net.py:make")
    assert "✗ untrained" in out and "No audit yet" in out and "blankcheck audit" not in out
    record = record_of(capsys, "--model", f"{tmp_path}/net.py:make")
    assert record["command"] is None and record["plausible"] is False


def test_a_broken_network_is_a_finding_and_exit_0(tmp_path, capsys):
    (tmp_path / "net.py").write_text(NET)
    out = told(capsys, "--model", f"{tmp_path}/net.py:broken")
    assert "✗ forward" in out and "AttributeError: no such layer" in " ".join(out.split())
    assert main(["doctor", "--model", f"{tmp_path}/net.py:broken", "--strict", "--quiet"]) == 1


def test_a_slow_network_is_asked_about_fewer_images(plain, digits, monkeypatch):
    """Its passes move the clock, and nobody waits."""
    now = 0.0

    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            nonlocal now
            now += 0.0005 * len(x)
            return plain(x)

    monkeypatch.setattr(choosing, "time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(choosing, "FEWEST", 60)
    monkeypatch.setattr(choosing, "PATIENCE", 0.1)
    found = diagnose(Slow(), digits)
    assert found.facts.images == 60 and not found.problems and found.normalize is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "is untrained"),
        (["--weights", "none.pt"], "weights file none.pt does not exist"),
        (["--model", "NET:raises"], "out of luck"),
        (["--model", "NET:make", "--images", "5"], "images must be at least 20"),
        (["--model", "NET:make", "--normalize", "half"], "normalize"),
        (["--model", "NET:make", "--data", "nope"], "data must be one of"),
        (["--model", "NET:make", "--out", "FULL"], "is not a run folder"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(tmp_path, capsys, arguments, words):
    (tmp_path / "net.py").write_text(NET)
    replaced = [
        a.replace("NET", f"{tmp_path}/net.py").replace("FULL", str(tmp_path)) for a in arguments
    ]
    assert main(["doctor", *replaced]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and words in err
    assert [p.name for p in tmp_path.iterdir() if p.name != "__pycache__"] == ["net.py"]


def test_nothing_is_written_without_out(forgotten, tmp_path, monkeypatch, capsys):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    told(capsys, *forgotten)
    assert not list((tmp_path / "here").iterdir())


def test_out_is_a_new_folder_and_takes_nothing_away(weights, tmp_path, capsys):
    out = tmp_path / "run"
    shown = told(capsys, "--weights", str(weights), "--out", str(out))
    assert shown.splitlines()[-1] == str(out / "doctor.json")
    assert {p.name for p in out.iterdir()} == {"doctor.json", "environment.json", "config.yaml"}
    (out / "verdict.json").write_text("{}")
    before = {p: p.read_bytes() for p in out.iterdir()}
    assert main(["doctor", "--weights", str(weights), "--out", str(out), "--seed", "1"]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in out.iterdir()} == before
    told(capsys, "--weights", str(weights), "--out", str(out), "--seed", "1", "--overwrite")
    assert {p.name for p in out.iterdir()} == {"doctor.json", "environment.json", "config.yaml"}
    record = json.loads((out / "doctor.json").read_text())
    assert record["schema"] == 1 and record["command"].endswith("--seed 1")


def test_it_reads_well_in_sixty_columns_and_without_colour(forgotten, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = told(capsys, *forgotten)
    first, *lines, last = text.splitlines()  # names are never cut
    assert first.startswith("PROBLEMS") and last.startswith("blankcheck audit")
    assert max(map(len, lines)) <= 60
    assert "\x1b" not in text and re.search(r"^✗ normalisation  ", text, re.MULTILINE)


def test_marks_where_the_terminal_has_no_others(forgotten, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main(["doctor", *forgotten, "--quiet"]) == 0
    sys.stdout.flush()
    assert b"x normalisation" in raw.getvalue()
    assert b"+ outputs" not in raw.getvalue(), "quiet: problems only"


@pytest.mark.parametrize(
    "text", ["a b", "it's", "new\nline", "\x1b[31m", "é", "-x", "back\\slash\x07", "\udcff"]
)
def test_quoted_words_are_what_a_shell_reads(text):
    word = quoted(text)
    assert word.isprintable()
    shell = ["bash", "-c", f"printf %s {word}"]
    read = subprocess.run(shell, capture_output=True, check=True).stdout
    assert read == text.encode(errors="surrogateescape")


def test_colour_sets_go_through_the_command(painter, colours, tmp_path, capsys, monkeypatch):
    train, test = colours.train, colours.test
    arrays = {"x_train": train.images, "y_train": train.labels}
    arrays |= {"x_test": test.images, "y_test": test.labels}
    np.savez(tmp_path / "colours.npz", **{name: t.numpy() for name, t in arrays.items()})
    assert load_data(f"npz:{tmp_path / 'colours.npz'}").shape == (3, 8, 8)
    torch.save(painter.network.state_dict(), tmp_path / "net.pt")
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    layers = nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4)\n"
        "    network = nn.Sequential(*layers)\n"
        "    network.register_forward_pre_hook(lambda _, x: (x[0].flip(1),))\n"
        "    return network\n"
    )
    data, model = f"npz:{tmp_path / 'colours.npz'}", f"{tmp_path}/net.py:make"
    out = told(capsys, "--data", data, "--model", model, "--weights", str(tmp_path / "net.pt"))
    assert "✗ channel-order" in out and "x[0].flip(1)" in out
    assert "With these lines in the factory" in out
    network = loaded(out.splitlines()[-1], monkeypatch, tmp_path / "run").network
    mended = UnitClassifier(
        hooked(network, tuple(line.strip() for line in out.splitlines() if "register_" in line)),
        parse_normalize(re.search(r"--normalize (\S+)$", out.strip())[1]),
    )
    assert accuracy(mended, colours.test) > 0.9
