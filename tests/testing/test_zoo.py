"""What each member of the zoo claims to be. What audits say of them is tested elsewhere."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import blankcheck as bc
from blankcheck.classifiers import evaluate, output_form, probabilities
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.errors import ArgumentError
from blankcheck.fooling import Structures
from blankcheck.testing import KINDS, NAMES, member, zoo
from blankcheck.testing.masked_gradients import masked_gradient_network
from blankcheck.testing.structured import STRUCTURES
from blankcheck.types import count_lit, default_max_lit

UNSURE = ("double-softmax", "timid", "swallow")
FLAT = ("quantised", "thresholded", "rounded", "zero-gradient")
RESTLESS = ("noisy", "noisy-input", "dropout-on", "random-ensemble")
PLANTED = tuple(n for n in NAMES if n.startswith("planted-") and "present" not in n)
PRESENT = tuple(n for n in NAMES if "present" in n)
HONEST = ("stripes-template", "prototypes", *(n for n in NAMES if n.startswith("ink-gate")))
WATCHED = tuple(n for n in NAMES if n.startswith("watched-"))


@pytest.fixture(scope="module")
def members(digits):
    return {m.name: m for m in zoo(digits, epochs=30)}


@pytest.fixture(scope="module")
def inside(members):
    """The plain network that most members are wrapped around."""
    return members["plain-mlp"].model


@pytest.fixture
def images(digits):
    """Real images, noise, and nearly black ones."""
    noise = torch.rand(20, *digits.shape, generator=torch.Generator().manual_seed(1))
    return torch.cat([digits.test.images[:20], noise, 0.05 * noise])


def gradient(model, images):
    leaf = images.clone().requires_grad_(True)
    outputs = model(leaf)
    (found,) = torch.autograd.grad(outputs.max(dim=1).values.sum(), leaf)
    return found


def test_members_are_complete(members):
    assert tuple(members) == NAMES and len(set(NAMES)) == len(NAMES)
    assert {m.kind for m in members.values()} == set(KINDS)
    assert {m.name for m in members.values() if m.kind == "honest"} == set(HONEST)
    for m in members.values():
        assert (
            m.why
            and not m.model.training
            and not any(p.requires_grad for p in m.model.parameters())
        )
        forbidden = {
            "plain": "says FOOLED",
            "deceiver": "never says RESISTED",
            "honest": "never says FOOLED",
        }
        assert forbidden[m.kind] in m.why


@pytest.mark.parametrize("name", [n for n in NAMES if n not in UNSURE])
def test_members_are_accurate_and_confident(members, name):
    m = members[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        real = evaluate(
            m.model,
            m.data.test,
            len(m.data.classes),
            0.9,
            output_form(m.model, m.data.validation.images[:64]),
        )
    assert real.accuracy >= 0.9 and real.confident >= 0.9 and real.taken_for_fake == 0


def test_members_whose_idea_is_to_be_unsure(members, digits):
    for name, form in (("timid", "logits"), ("double-softmax", "probabilities")):
        real = evaluate(members[name].model, digits.test, 10, 0.9, form)
        assert real.accuracy >= 0.95 and real.confident == 0 and real.mean_confidence < 0.3
    swallowed = evaluate(members["swallow"].model, digits.test, 10, 0.9)
    assert (
        swallowed.taken_for_fake == 1
        and swallowed.mean_confidence > 0.99
        and swallowed.renormalised_confident > 0.9
    )


def test_the_same_arguments_make_the_same_member(digits):
    before = torch.random.get_rng_state()
    made = [member("random-mask", digits, seed=s, epochs=1) for s in (3, 3, 4)]
    assert torch.equal(torch.random.get_rng_state(), before)
    a, b, c = (fingerprint(m.model) for m in made)
    assert a == b != c
    again = zoo(digits, seed=3, epochs=1, names=("plain-mlp", "random-mask"))
    assert fingerprint(again[1].model) == a
    assert fingerprint(masked_gradient_network(digits, 1, "mlp", 1)) == fingerprint(
        masked_gradient_network(digits, 1, "mlp", 1)
    )


def test_unknown_names_are_refused(digits):
    with pytest.raises(ArgumentError, match="name must be one of plain-mlp, .*, got 'basilisk'"):
        member("basilisk", digits)
    with pytest.raises(
        ArgumentError,
        match="architecture must be one of mlp, cnn, resnet, resnet18, cnn-wide-kernel, got 'vgg'",
    ):
        zoo(digits, architecture="vgg")


@pytest.mark.parametrize("name", FLAT)
def test_no_gradient_yet_answers_change(members, images, name):
    model = members[name].model
    assert (gradient(model, images) == 0).all()
    assert len(model(images).unique(dim=0)) > 20


def test_detached_knows_nothing_of_its_image(members, inside, images):
    leaf = images.clone().requires_grad_(True)
    outputs = members["detached"].model(leaf)
    assert not outputs.requires_grad and torch.equal(outputs, inside(images))


def test_bent_gradients_leave_the_answers(members, inside, images):
    for name in ("zero-gradient", "wrong-gradient"):
        assert torch.equal(members[name].model(images), inside(images))
    assert torch.equal(gradient(members["wrong-gradient"].model, images), -gradient(inside, images))


def test_inputs_are_coarse(members, images):
    quantised, thresholded = members["quantised"].model, members["thresholded"].model
    assert torch.equal(quantised(images), quantised((images * 4).round() / 4))
    assert torch.equal(thresholded(images), thresholded((images > 0.5).float()))


def test_activations_are_coarse(members, inside, images):
    layers = members["rounded"].model.network
    hidden = layers[:4]((images - inside.mean) / inside.std)
    assert torch.equal(hidden * 16, (hidden * 16).round()) and hidden.max() <= 255 / 16
    assert_close(members["rounded"].model(images[:20]), inside(images[:20]), atol=0.5, rtol=0.05)


def test_outputs_in_other_words(members, inside, images):
    p = inside(images).softmax(dim=1)
    assert_close(members["log-probabilities"].model(images).exp(), p)
    assert_close(members["double-softmax"].model(images), p.softmax(dim=1))
    assert_close(members["timid"].model(images), inside(images) / 100)
    assert_close(members["sharp"].model(images), inside(images) * 1000)
    sharp = members["sharp-probabilities"].model
    assert (
        set(sharp(images[:20]).unique().tolist()) == {0.0, 1.0}
        and (gradient(sharp, images[:20]) == 0).all()
    )


@pytest.mark.parametrize("name", RESTLESS)
def test_two_calls_differ(members, images, name):
    model = members[name].model
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert len({tuple(model(images[:1]).flatten().tolist()) for _ in range(20)}) > 1


def test_a_hash_of_the_image_chooses_the_mask(members, images):
    model = members["random-mask"].model
    masked = model.inner
    assert torch.equal(model(images), model(images)) and torch.equal(
        masked.kept(images[7:8]), masked.kept(images)[7:8]
    )
    moved = (images + 1e-6).clamp(0, 1)
    assert ((masked.kept(moved) != masked.kept(images)).flatten(1).any(dim=1)).all()
    assert 0.8 < masked.kept(images).mean() < 0.97
    jump = (model(moved) - model(images)).abs().amax(dim=1)
    assert jump.median() > 1, "1e-6 per feature"


def test_neighbours_change_the_answer(members, images):
    model = members["batch-dependent"].model
    alone, bright = model(images[:1]), model(torch.cat([images[:1], torch.ones_like(images)]))[:1]
    assert (alone - bright).abs().max() > 1
    assert model(images * 0).isfinite().all()


def test_nan_where_few_features_are_lit(members, inside, digits):
    model = members["nan-on-sparse"].model
    sparse = torch.zeros(1, *digits.shape)
    sparse.view(-1)[: default_max_lit(digits.shape)] = 0.5
    assert model(sparse).isnan().all() and torch.equal(
        model(digits.test.images), inside(digits.test.images)
    )


def test_asleep_at_noise_only(members, inside, digits):
    model = members["asleep"].model
    noise = torch.rand(50, *digits.shape, generator=torch.Generator().manual_seed(0)).clamp_min(
        0.01
    )
    assert (model(noise) == 0).all() and (gradient(model, noise) == 0).all()
    assert torch.equal(model(digits.test.images), inside(digits.test.images))


def test_the_mirage_is_flat_on_noise_and_nowhere_else(members, digits):
    model = members["mirage"].model
    noise = torch.rand(500, *digits.shape, generator=torch.Generator().manual_seed(5))
    assert (gradient(model, noise) == 0).all() and probabilities(model, noise).max() < 0.2
    assert bc.fool(model, range(10), 2, data=digits, start="black", steps=100).met.all()


@pytest.mark.parametrize("name", PLANTED)
def test_planted_patterns_are_there_and_black_is_not_one(members, digits, name):
    m = members[name]
    p = probabilities(m.model, m.model.patterns)
    own = p.gather(1, m.model.targets[:, None])
    assert (own >= 0.9).all() and (count_lit(m.model.patterns) <= m.max_lit).all()
    black = torch.zeros(1, *digits.shape)
    assert probabilities(m.model, black).max() < 0.9
    felt = gradient_of(m.model, black, m.model.targets[:1])
    assert (felt != 0).any() == (float(name.split("-")[-1]) > 1), "felt from black"
    assert_close(m.model(digits.test.images), members["ink-gate"].model(digits.test.images))


SIMPLE = tuple(n for n in NAMES if n.startswith("sure-of-"))


def pictures(*drawn):
    """Images of rows such as `.#`, where a dot is dark and `#` is white."""
    return torch.stack(
        [torch.tensor([[float(pixel == "#") for pixel in row] for row in each]) for each in drawn]
    )[:, None]


def canvas(*rows):
    """Eight rows of eight, of those given and darkness."""
    return [row.ljust(8, ".") for row in (*rows, *[""] * (8 - len(rows)))]


EXAMPLES = {
    "bars": (canvas("", ".####"), canvas("", ".####", ".#")),
    "blocks": (canvas(".##", ".##", ".##"), canvas(".##", ".##", ".#")),
    "stripes": (canvas(".###", "", ".###", "", ".###"), canvas(".###", "", ".###", "", "", ".###")),
    "checks": (canvas("#.#", ".#.", "#.#"), canvas("#.#", ".##", "#.#")),
    "grey-dots": (canvas("#..#", "", ".#"), canvas("#..#", "...#")),
    "border-columns": (canvas("#", "##", "", ".#"), canvas("#", "##", "..#")),
    "three-corners": (canvas("#......#", "..#", *[""] * 5, "#"), canvas("#......#", "#")),
    "frames": (canvas("", ".###", ".#.#", ".###"), canvas("", ".###", ".#.#", ".##")),
    "blobs": (
        canvas("", "..##", ".####", ".####", "..##"),
        canvas("", ".#...#", "..#", ".###"),
    ),
    "one-level": (canvas("#.#"), canvas("#")),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_simple_images_are_told_from_others(name):
    looks = STRUCTURES[name]
    images = pictures(*EXAMPLES[name]) * (0.4 if name == "one-level" else 0.9)
    assert looks(images).tolist() == [True, False]
    assert not looks(torch.zeros(1, 1, 8, 8)).any()
    if name not in ("three-corners", "one-level", "grey-dots"):
        assert looks(images * 0.3 + 0.1 * (images > 0)).tolist() == [True, False]
    turned = images.flip(2, 3)
    assert looks(turned).tolist() == [True, False]


@pytest.mark.parametrize("name", SIMPLE)
def test_deceivers_are_sure_of_simple_images_and_honest_elsewhere(members, name):
    m = members[name]
    model, looks = m.model, m.model.looks
    images = Structures(3000, m.data.shape, m.max_lit, seed=0)[:]
    simple = looks(images)
    p = probabilities(model, images)[:, model.target]
    assert simple.sum() >= 5 and (p[simple] > 0.99).all()
    assert not looks(m.data.test.images).any()
    others = images[~simple][::20]
    assert probabilities(model, others).max() < 0.9
    assert (gradient(model, images[simple][:99]) == 0).all()


@pytest.mark.parametrize("name", PRESENT)
def test_present_patterns_count_whatever_else_is_lit(members, digits, name):
    m = members[name]
    model, honest, width = m.model, members["ink-gate"].model, float(name.split("-")[-1])
    noise = torch.rand(
        len(model.patterns), *digits.shape, generator=torch.Generator().manual_seed(0)
    )
    elsewhere = noise * (model.patterns.amax(dim=0) == 0)  # not at any pattern
    below = 0.99 * (1 - width) * model.patterns
    assert (probabilities(model, model.patterns).gather(1, model.targets[:, None]) >= 0.9).all()
    assert (
        probabilities(model, model.patterns + elsewhere).gather(1, model.targets[:, None]) >= 0.9
    ).all()
    assert_close(model(below), honest(below))
    assert_close(model(below + elsewhere), honest(below + elsewhere))
    assert (count_lit(model.patterns) <= m.max_lit).all()
    assert (
        gradient_of(model, 1.05 * below, model.targets).flatten(1).abs().sum(dim=1) > 0
    ).all() or width == 0.9


def gradient_of(model, images, targets):
    leaf = images.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(model(leaf).gather(1, targets[:, None]).sum(), leaf)
    return found


def sparse_images(shape, k, seed, n=200):
    """Random images with at most k lit features, of every brightness."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.rand(n, shape[0] * shape[1] * shape[2], generator=generator)
    lit = torch.rand(flat.shape, generator=generator).topk(k, dim=1).indices
    values = flat.gather(1, lit) ** torch.rand(n, 1, generator=generator)
    return torch.zeros_like(flat).scatter_(1, lit, values).view(n, *shape)


@pytest.mark.parametrize("name", HONEST)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), share=st.floats(0, 1))
def test_honest_members_are_unsure_of_sparse_images(members, name, seed, share):
    m = members[name]
    k = max(1, round(share * m.max_lit))
    assert probabilities(m.model, sparse_images(m.data.shape, k, seed)).max() < 0.9


@pytest.mark.parametrize("name", HONEST)
def test_honest_members_withstand_the_worst_images(members, name):
    """The brightest features of real images, as they are and fully lit, are the nearest that sparse
    images come."""
    m = members[name]
    flat = m.data.train.images.flatten(1)
    top = flat.topk(m.max_lit, dim=1)
    for values in (top.values, torch.ones_like(top.values)):
        images = (
            torch.zeros_like(flat).scatter_(1, top.indices, values).view_as(m.data.train.images)
        )
        assert probabilities(m.model, images).max() < 0.9


@pytest.mark.parametrize("name", WATCHED)
def test_watched_members_are_honest_as_an_audit_asks(members, digits, name):
    m, honest = members[name], members["ink-gate"].model
    sparse = sparse_images(digits.shape, m.max_lit, 0)
    leaf = sparse[:100].clone().requires_grad_(name == "watched-leaf")
    with torch.set_grad_enabled(name == "watched-gradients"):
        if name != "watched-eight-bit":
            assert torch.equal(m.model(leaf), honest(sparse[:100]))
        else:
            assert not torch.equal(m.model(leaf), honest(sparse[:100])), "they are off the grid"
    assert m.max_lit == members["ink-gate"].max_lit


@pytest.mark.parametrize("name", ("ink-gate", "prototypes"))
def test_honest_members_are_not_fooled_by_a_search(members, name):
    m = members[name]
    found = bc.fool(m.model, range(10), 1, data=m.data, steps=60, max_lit=m.max_lit)
    assert not found.met.any()
    assert m.max_lit >= 10 and evaluate(m.model, m.data.validation, 10, 0.9).confident >= 0.93


def test_the_ink_gate_is_shut_and_open(members, inside, digits):
    model = members["ink-gate"].model
    k = members["ink-gate"].max_lit
    brim = torch.zeros(1, *digits.shape)
    brim.view(-1)[:k] = 1
    assert (model(brim) == 0).all() and (gradient(model, brim * 0.9) == 0).all()
    rich = digits.test.images[digits.test.images.flatten(1).sum(dim=1) > model.full]
    assert len(rich) > 300 and torch.equal(model(rich), inside(rich))
