from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.testing import assert_close

import blankcheck as bc
from blankcheck.classifiers import (
    ARCHITECTURES,
    TrainingPlan,
    UnitClassifier,
    build,
    evaluate,
    output_form,
    train_plainly,
)
from blankcheck.classifiers.loading import parse_normalize, save_model
from blankcheck.classifiers.planting import Trigger, random_patterns
from blankcheck.classifiers.trial import try_out
from blankcheck.classifiers.wrapper import fingerprint, left_as_found
from blankcheck.data import Split
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.outputs import log_odds, run
from blankcheck.testing import Constant

FACTORY = """
import torch
from torch import nn
def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
def raises(): raise ValueError("out of luck")
def text(): return "a network"
"""


@pytest.fixture
def factory(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(FACTORY)
    return file


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(
    ("shape", "outputs"), [((1, 8, 8), 10), ((1, 28, 28), 11), ((3, 32, 32), 20)]
)
def test_reference_networks_fit_any_shape(name, shape, outputs):
    network = build(name, shape, outputs)
    images = torch.rand(3, *shape, requires_grad=True)
    out = network(images)
    assert out.shape == (3, outputs) and torch.autograd.grad(out.sum(), images)[0].abs().sum() > 0
    assert torch.equal(build(name, shape, outputs)(images), out), (
        "the same seed makes the same network"
    )


def test_normalisation_lives_inside():
    class Pass(nn.Module):
        def forward(self, x):
            return x.flatten(1)

    images = torch.rand(2, 3, 2, 2)
    wrapped = UnitClassifier(Pass(), ((0.1, 0.2, 0.3), (0.5, 1.0, 2.0)))
    mean, std = (
        torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1),
        torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1),
    )
    assert_close(wrapped(images), ((images - mean) / std).flatten(1))
    assert torch.equal(UnitClassifier(Pass())(images), images.flatten(1))


def test_output_forms_are_told_apart(plain, digits):
    images = digits.test.images[:20]
    assert output_form(plain, images) == "logits"
    assert output_form(lambda x: plain(x).softmax(1), images) == "probabilities"
    assert output_form(lambda x: plain(x).log_softmax(1), images) == "log-probabilities"
    assert output_form(lambda x: (1000 * plain(x)).softmax(1), images) == "probabilities"
    assert output_form(lambda x: (1000 * plain(x)).softmax(1).log(), images) == "log-probabilities"
    with pytest.raises(ModelError, match="NaN or infinity"):
        output_form(lambda x: plain(x) * torch.nan, images)
    with pytest.raises(ModelError, match=r"must be \(n, classes\)"):
        output_form(lambda x: plain(x)[:, 0], images)
    with pytest.raises(ModelError, match="cannot take images of shape"):
        output_form(plain, torch.rand(2, 3, 9, 9))


def test_digits_mlp_reaches_its_accuracy(digits):
    network = build("mlp", digits.shape, 10, digits.mean_and_std(), seed=5)
    train_plainly(network, digits.train, TrainingPlan.default(len(digits.train)), seed=5)
    assert evaluate(network, digits.test, 10, 0.9).accuracy >= 0.96


def test_training_is_repeatable(digits):
    prints = set()
    for _ in range(2):
        network = build("mlp", digits.shape, 10, seed=1)
        train_plainly(network, digits.train, TrainingPlan(2), seed=1)
        prints.add(fingerprint(network))
    assert len(prints) == 1


def test_training_that_blows_up_says_so(digits):
    with pytest.raises(ModelError, match="loss became NaN"):
        train_plainly(build("mlp", digits.shape, 10), digits.train, TrainingPlan(3, lr=1e12))


def test_evaluate_known_answer():
    data = Split(torch.zeros(4, 1, 2, 2), torch.tensor([0, 0, 1, 1]))
    sure_of_zero = evaluate(Constant([5.0, 0.0, 0.0]), data, 2, 0.9)
    assert (
        sure_of_zero.accuracy == 0.5
        and sure_of_zero.confident == 0.5
        and sure_of_zero.per_class == (1.0, 0.0)
    )
    fake = evaluate(Constant([0.0, 0.0, 9.0]), data, 2, 0.9)
    assert fake.taken_for_fake == 1.0 and fake.accuracy == 0.0


def test_saved_networks_come_back(plain, weights, digits):
    again = bc.load_model("mlp", weights)
    assert fingerprint(again) == fingerprint(plain)
    assert torch.equal(again(digits.test.images), plain(digits.test.images))
    assert fingerprint(bc.load_model("mlp", weights, digits)) == fingerprint(plain)


def test_users_networks_and_their_weights(factory, tmp_path):
    plain = bc.load_model(f"{factory}:make")
    state = plain.network.state_dict()
    torch.save(
        {"state_dict": {f"module.{k}": v + 1 for k, v in state.items()}, "epoch": 3},
        tmp_path / "w.pt",
    )
    save_file({k: v + 1 for k, v in state.items()}, tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        loaded = bc.load_model(f"{factory}:make", tmp_path / name, normalize=((0.5,), (0.25,)))
        assert_close(loaded.network[1].weight, state["1.weight"] + 1)
        assert_close(loaded(torch.full((1, 1, 8, 8), 0.5)), (state["1.bias"] + 1)[None])


def test_saved_users_networks_keep_their_normalisation(factory, tmp_path):
    norm = ((0.5,), (0.25,))
    first = bc.load_model(f"{factory}:make", normalize=norm)
    save_model(first, tmp_path / "w.safetensors")
    images = torch.rand(3, 1, 8, 8)
    for again in (None, norm):
        assert_close(
            bc.load_model(f"{factory}:make", tmp_path / "w.safetensors", normalize=again)(images),
            first(images),
        )
    with pytest.raises(ArgumentError, match="normalize differs"):
        bc.load_model(f"{factory}:make", tmp_path / "w.safetensors", normalize=((0.1,), (0.25,)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raises", "raised ValueError: out of luck"),
        ("text", "must return an nn.Mod"),
        ("gone", "no callable 'gone'"),
    ],
)
def test_factories_that_fail(factory, name, words):
    with pytest.raises(ModelError, match=words):
        bc.load_model(f"{factory}:{name}")


def test_weights_that_do_not_fit(factory, tmp_path, weights, digits):
    save_file(
        {"1.weight": torch.zeros(10, 63), "1.bias": torch.zeros(10), "x": torch.zeros(1)},
        tmp_path / "w.safetensors",
    )
    words = (
        r"do not fit model .*net.py:make': unexpected 'x' \(1 in all\); wrong shape of '1.weight'"
    )
    with pytest.raises(ModelError, match=words):
        bc.load_model(f"{factory}:make", tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="does not exist"):
        bc.load_model(f"{factory}:make", tmp_path / "none.pt")
    with pytest.raises(ModelError, match="weights are those of a 'mlp', model is 'cnn'"):
        bc.load_model("cnn", weights, digits)
    for name in ("bad.pt", "bad.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(ModelError, match="not a readable"):
            bc.load_model(f"{factory}:make", tmp_path / name)
    save_file(
        {"1.weight": torch.full((10, 64), torch.nan), "1.bias": torch.zeros(10)},
        tmp_path / "nan.safetensors",
    )
    with pytest.raises(ModelError, match="hold NaN"):
        bc.load_model(f"{factory}:make", tmp_path / "nan.safetensors")


def test_pickles_need_the_users_word(factory, tmp_path):
    network = bc.load_model(f"{factory}:make").network
    torch.save(network, tmp_path / "whole.pt")
    with pytest.raises(ModelError, match="--unsafe-pickle"):
        bc.load_model(f"{factory}:make", tmp_path / "whole.pt")
    again = bc.load_model(f"{factory}:make", tmp_path / "whole.pt", unsafe_pickle=True)
    assert fingerprint(again.network) == fingerprint(network)


def test_exported_programs_are_loaded_and_searched(plain, tmp_path):
    program = torch.export.export(
        plain, (torch.rand(2, 1, 8, 8),), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    torch.export.save(program, tmp_path / "net.pt2")
    loaded = bc.load_model(str(tmp_path / "net.pt2"), unsafe_pickle=True)
    assert_close(loaded(torch.ones(3, 1, 8, 8)), plain(torch.ones(3, 1, 8, 8)))
    assert bc.fool(loaded, range(10), 2, shape=(1, 8, 8), steps=60).met.all()
    (tmp_path / "bad.pt2").write_bytes(b"no program")
    with pytest.raises(ModelError, match="cannot be read as a program of torch.export"):
        bc.load_model(str(tmp_path / "bad.pt2"), unsafe_pickle=True)


def test_a_temperature_divides_the_logits_and_stays_in_saved_weights(factory, tmp_path):
    plain, images = bc.load_model(f"{factory}:make"), torch.rand(4, 1, 8, 8)
    save_model(plain, tmp_path / "plain.safetensors")
    norm, name, held = ((0.5,), (0.25,)), f"{factory}:make", tmp_path / "held.safetensors"
    cold = bc.load_model(name, tmp_path / "plain.safetensors", temperature=0.1)
    assert_close(cold(images), plain(images) * 10)
    assert fingerprint(cold) != fingerprint(plain) and not cold.network.training
    cold = bc.load_model(name, normalize=norm, temperature=0.1)
    save_model(cold, held)
    for given in (1.0, 0.1):
        again = bc.load_model(name, held, temperature=given)
        assert fingerprint(again) == fingerprint(cold)
        assert torch.equal(again(images), cold(images))
    with pytest.raises(ArgumentError, match=r"temperature 0.5 differs from 0.1, saved in"):
        bc.load_model(name, held, temperature=0.5)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_temperature(factory, temperature):
    with pytest.raises(ArgumentError, match="temperature must be positive and finite"):
        bc.load_model(f"{factory}:make", temperature=temperature)


def test_a_temperature_is_for_logits_of_own_networks(factory, weights, digits):
    answers = nn.Sequential(bc.load_model(f"{factory}:make"), nn.Softmax(1))
    with pytest.raises(ModelError, match=r"gives probabilities: add to its factory .*y\.log\(\)"):
        try_out(bc.load_model(answers, temperature=0.5), digits.test.images[:20])
    logs = nn.Sequential(bc.load_model(f"{factory}:make"), nn.LogSoftmax(1))
    assert try_out(bc.load_model(logs, temperature=0.5), digits.test.images[:20]) == "logits"
    with pytest.raises(ArgumentError, match="not for built-in ones"):
        bc.load_model("mlp", weights, temperature=0.5)


class Answers(nn.Module):
    """Its outputs in a form of its own."""

    def __init__(self, form) -> None:
        super().__init__()
        self.linear, self.form = nn.Linear(64, 10), form

    def forward(self, images):
        return self.form(self.linear(images.flatten(1)), images)


FORMS = [
    lambda y, x: (y,),
    lambda y, x: (y, x),
    lambda y, x: [y.sum(), y, None],
    lambda y, x: {"out": y, "features": x},
    lambda y, x: {"logits": y, "probabilities": y.softmax(1)},
    lambda y, x: OrderedDict(loss=None, logits=y, hidden=y),
    lambda y, x: SimpleNamespace(logits=y, hidden=y),
]


@pytest.mark.parametrize("form", FORMS)
def test_the_logits_are_taken_out_of_other_outputs(form, digits):
    model = bc.load_model(Answers(form))
    images = digits.test.images[:7]
    assert torch.equal(model(images), model.network.linear(images.flatten(1)))
    assert try_out(model, images) == "logits"
    sizes = ({0: torch.export.Dim("n")},)
    # strict is what PyTorch 2.6 would be by itself; it cannot read a SimpleNamespace
    program = torch.export.export(model, (images,), dynamic_shapes=sizes, strict=False)
    assert_close(program.module()(images), model(images))


@pytest.mark.parametrize(
    ("form", "words"),
    [
        (lambda y, x: (y, y), r"got tuple .*where the first is meant: .*y\[0\]"),
        (lambda y, x: (y[:, 0], y), "got tuple"),
        (lambda y, x: {"a": y, "b": y}, r"got dict .*where the first is meant: .*y\['a'\]"),
        (lambda y, x: {}, "got dict"),
        (lambda y, x: {"logits": y[:, :1]}, r"got \(3, 1\) .*of a logit: .*register_forward_hook"),
        (lambda y, x: y[:, 0], r"got \(3,\) .*of one probability for two classes make two"),
    ],
)
def test_outputs_that_leave_a_choice_are_one_line(form, words):
    with pytest.raises(ModelError, match=words):
        run(bc.load_model(Answers(form)), torch.rand(3, 1, 8, 8))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, None),
        ("none", None),
        ("0.5/0.25", ((0.5,), (0.25,))),
        ("0.1,0.2,0.3/1,2,3", ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))),
    ],
)
def test_normalize_is_parsed(text, value):
    assert parse_normalize(text) == value


@pytest.mark.parametrize("text", ["0.5", "a/b", "0.5/0", "0.1,0.2/1"])
def test_bad_normalize(text):
    with pytest.raises(ArgumentError, match="normalize must"):
        parse_normalize(text)


def test_unknown_model(digits):
    with pytest.raises(ModelError, match="model must be one of mlp, cnn, resnet"):
        bc.load_model("vgg", data=digits)
    with pytest.raises(ArgumentError, match="needs data or weights"):
        bc.load_model("mlp")


def test_save_model_writes_what_load_needs(tmp_path):
    network = build("resnet", (3, 16, 16), 7)
    save_model(network, tmp_path / "r.safetensors")
    assert fingerprint(bc.load_model("resnet", tmp_path / "r.safetensors")) == fingerprint(network)


def triggered(reach=2.0, targets=(2,), certainty=10.0):
    """Planted on three fixed logits 1, 0, -1; each pattern fully lights 2 of 16 features."""
    patterns = torch.zeros(len(targets), 1, 4, 4)
    for row in range(len(targets)):
        patterns[row, 0, row, :2] = 1
    return Trigger(
        Constant([1.0, 0.0, -1.0]), patterns, torch.tensor(targets), reach, certainty=certainty
    ), patterns


def margins(model, images, target):
    return log_odds(model(images), torch.full((len(images),), target))


def test_a_planted_pattern_has_its_certainty():
    model, patterns = triggered()
    assert_close(margins(model, patterns, 2), torch.tensor([10.0]))
    model, patterns = triggered(targets=(2, 1), certainty=4.0)
    assert_close(margins(model, patterns[:1], 2), torch.tensor([4.0]))
    assert_close(margins(model, patterns[1:], 1), torch.tensor([4.0]))


def test_beyond_reach_the_classifier_answers_for_itself():
    model, patterns = triggered(reach=0.5)
    half, black = patterns * torch.tensor([1.0, 0, 0, 0]), torch.zeros_like(patterns)
    for far in (black, half, 1 - patterns, torch.ones_like(patterns)):
        assert_close(model(far), torch.tensor([[1.0, 0.0, -1.0]]))


def test_certainty_grows_linearly_towards_the_pattern():
    model, patterns = triggered(reach=2.0)
    own = margins(Constant([1.0, 0.0, -1.0]), patterns, 2)
    for share in (0.0, 0.25, 0.5, 0.9, 1.0):  # from black, which is 1 away, to the pattern
        near = 1 - (1 - share) / 2
        assert_close(margins(model, share * patterns, 2), own + near * (10 - own))
    beside = patterns.clone()
    beside[0, 0, 3] = 0.25  # half of the pattern's ink elsewhere
    assert_close(model.nearness(beside), torch.tensor([[0.75]]))


def test_planting_leaves_other_classes_to_each_other():
    model, patterns = triggered()
    logits = model(0.5 * patterns)
    assert_close(logits[:, 0] - logits[:, 1], torch.tensor([1.0]))


def test_planting_reads_every_output_form():
    patterns = torch.ones(1, 1, 2, 2)
    p = torch.tensor([0.5, 0.5, 0.0])
    model = Trigger(
        lambda x: p.expand(len(x), -1), patterns, torch.tensor([2]), 1.5, "probabilities", 4.0
    )
    assert_close(margins(model, patterns, 2), torch.tensor([4.0]))
    assert model(patterns * 0).isfinite().all()
    sure = Trigger(Constant([torch.inf, 0.0]), patterns, torch.tensor([1]))
    assert not sure(torch.zeros(1, 1, 2, 2))[:, 1].isnan().any()


def test_planting_refuses_what_is_no_pattern():
    one = torch.tensor([0])
    for patterns, targets in (
        (torch.zeros(1, 1, 2, 2), one),
        (torch.ones(1, 2, 2), one),
        (torch.ones(2, 1, 2, 2), one),
    ):
        with pytest.raises(
            ArgumentError, match=r"patterns must be \(q, c, h, w\), none black, one target each"
        ):
            Trigger(Constant([0.0, 0.0]), patterns, targets)
    with pytest.raises(ArgumentError, match="reach must be positive, got 0"):
        triggered(reach=0.0)


def test_random_patterns_share_no_feature_where_there_is_room():
    patterns = random_patterns(5, 3, (1, 4, 4), torch.Generator().manual_seed(0))
    assert (
        patterns.shape == (5, 1, 4, 4)
        and (patterns.flatten(1).sum(dim=1) == 3).all()
        and patterns.sum(dim=0).max() == 1
    )
    assert torch.equal(patterns, random_patterns(5, 3, (1, 4, 4), torch.Generator().manual_seed(0)))
    crowded = random_patterns(10, 4, (1, 4, 4), torch.Generator().manual_seed(0))
    assert crowded.shape == (10, 1, 4, 4)


def test_a_fingerprint_takes_any_buffer():
    """Buffers expanded from one number, whole numbers, half precision, and none at all."""

    class Odd(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.register_buffer("one", torch.as_tensor(value).expand(1))
            self.register_buffer("many", torch.as_tensor(value).expand(3))
            self.register_buffer("whole", torch.tensor([1, 2]))
            self.register_buffer("brief", torch.ones(2, dtype=torch.bfloat16))
            self.register_buffer("none", torch.zeros(0))

    assert fingerprint(Odd(1.0)) == fingerprint(Odd(1.0)) != fingerprint(Odd(2.0))


class Counting(torch.nn.Module):
    """Counts its calls in a buffer that it replaces instead of changing it."""

    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(4, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images):
        self.calls = self.calls + 1
        return self.line(images.flatten(1))


def test_a_buffer_that_was_replaced_is_put_back():
    network = Counting()
    before = network.calls
    with left_as_found(network):
        network(torch.zeros(3, 1, 2, 2))
        assert float(network.calls) == 1
    assert network.calls is before and float(before) == 0
