from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import blankcheck as bc
from blankcheck.classifiers import UnitClassifier
from blankcheck.errors import ArgumentError
from blankcheck.fooling import (
    STARTS,
    AdaptiveWeight,
    AnnealedTopK,
    FixedWeight,
    Goal,
    GreedyLighting,
    Problem,
    polish,
    random_mask,
    search,
)
from blankcheck.fooling.masks import KINDS
from blankcheck.fooling.problem import Seen
from blankcheck.testing import Constant, NaNAfter, Planted
from blankcheck.types import NEVER, Outcome, count_lit, count_lit_pixels, default_max_lit, stored

SHAPE = (1, 8, 8)
TARGETS = torch.tensor([0, 1, 2]).repeat(4)
SOLVERS = [GreedyLighting(), AdaptiveWeight(), AnnealedTopK(goal=5), FixedWeight(weight=0.3)]


def noise(seed: int = 0) -> torch.Tensor:
    return STARTS["noise"](TARGETS, SHAPE, torch.Generator().manual_seed(seed), None)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_planted_answer_is_found_exactly(solver):
    classifier = Planted(pixels=5)
    problem, goal = Problem(classifier, "logits", TARGETS), Goal(max_lit=64, until="sparsest")
    start = torch.zeros(len(TARGETS), *SHAPE) if isinstance(solver, GreedyLighting) else noise()
    found = polish(problem, search(problem, start, solver, goal, 150), goal, 200)
    wanted = torch.stack([classifier.sparsest(int(t)) for t in TARGETS]) > 0
    assert torch.equal(found.images > 0, wanted)
    assert (found.lit == 5).all() and found.met.all() and (found.fewest == 5).all()


def test_numbers_belong_to_the_images_handed_back(plain):
    found = bc.fool(plain, range(10), 3, shape=SHAPE, steps=60, until="sparsest")
    p = plain(found.images).softmax(dim=1).gather(1, found.targets[:, None]).squeeze(1)
    assert_close(p, found.confidence, atol=1e-5, rtol=0)
    assert torch.equal(found.lit, count_lit(found.images))
    assert torch.equal(stored(found.images), found.images)
    assert (found.steps <= 60).all() and (found.forwards <= 180).all()


def test_met_images_stop_and_leave_the_others_alone(plain):
    problem, goal = Problem(plain, "logits", torch.arange(10).repeat(3)), Goal(max_lit=40)
    start = STARTS["sparse-noise"](problem.targets, SHAPE, torch.Generator().manual_seed(0), None)
    together = search(problem, start, AdaptiveWeight(), goal, 50)
    assert len(together.steps.unique()) > 1, "some must finish before others for this test to say anything"
    alone = search(problem.rows(torch.tensor([7])), start[7:8], AdaptiveWeight(), goal, 50)
    assert_close(alone.images, together.images[7:8], atol=1e-4, rtol=0)
    assert int(alone.steps) == int(together.steps[7])


def test_one_pass_does_not_depend_on_the_batch(plain):
    images, targets = torch.rand(50, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 10
    whole = Problem(plain, "logits", targets).measure(images)
    single = Problem(plain, "logits", targets[3:4]).measure(images[3:4])
    assert_close(single.margin, whole.margin[3:4], atol=1e-5, rtol=1e-5)
    assert_close(single.gradient, whole.gradient[3:4], atol=1e-5, rtol=1e-4)


def test_same_seed_same_bits_and_other_seed_other_images(plain):
    one, two, other = (bc.fool(plain, range(10), 2, shape=SHAPE, steps=40, seed=s) for s in (3, 3, 4))
    assert torch.equal(one.images, two.images) and torch.equal(one.confidence, two.confidence)
    assert not torch.equal(one.images, other.images)


def test_an_attempt_belongs_to_its_chunk_not_to_the_run(plain):
    few = bc.fool(plain, [2], 100, shape=SHAPE, steps=30, seed=1)
    many = bc.fool(plain, [2, 5], 100, shape=SHAPE, steps=30, seed=1)
    assert torch.equal(few.images, many.images[:100])


def test_fixed_weight_is_pytorchs_adam():
    rule = FixedWeight(weight=2.0, step_size=0.03)
    torch.manual_seed(0)
    images = 0.3 + 0.4 * torch.rand(4, *SHAPE)
    parameter = images.clone().requires_grad_(True)
    adam = torch.optim.Adam([parameter], lr=0.03)
    state = rule.init(images)
    for _ in range(5):
        gradient, confidence = torch.randn(4, *SHAPE) * 0.1, torch.rand(4)
        seen = Seen(confidence, confidence.logit(), count_lit(images), gradient, torch.ones(4, dtype=torch.bool))
        images, state = rule.step(state, images, seen, confidence > 1, 0.0)
        parameter.grad = -(1 - confidence)[:, None, None, None] * gradient + 2.0 / 64
        adam.step()
        with torch.no_grad():
            parameter.clamp_(0, 1)
        assert_close(images, parameter.detach(), atol=1e-6, rtol=0)


def test_l1_in_the_box_leaves_exact_zeros():
    classifier = Planted(pixels=4)
    goal = Goal(max_lit=64, until="sparsest")
    found = search(Problem(classifier, "logits", TARGETS), noise(), FixedWeight(weight=2.0), goal, 300)
    assert found.met.all() and (found.lit == 4).all()


@pytest.mark.parametrize("kind", KINDS)
def test_masked_features_stay_black(plain, kind):
    found = bc.fool(plain, range(10), 4, shape=SHAPE, steps=60, mask=kind, until="sparsest", max_lit=40)
    mask = torch.zeros(40, 1, 8, 8, dtype=torch.bool)
    mask[:, :, ::2] = True
    own = bc.fool(plain, range(10), 4, shape=SHAPE, steps=60, mask=mask, max_lit=40)
    assert (own.images[~mask] == 0).all()
    assert own.met.float().mean() > 0.5 and found.met.float().mean() > 0.5


def test_masked_gradient_is_not_followed():
    classifier = Planted(pixels=5)
    mask = torch.ones(1, *SHAPE, dtype=torch.bool)
    mask.view(-1)[classifier.planted[0, 0]] = False
    seen = Problem(classifier, "logits", torch.tensor([0]), mask).measure(torch.full((1, *SHAPE), 0.5))
    assert seen.gradient.flatten()[classifier.planted[0, 0]] == 0
    found = bc.fool(classifier, [0], 3, shape=SHAPE, steps=100, mask=mask)
    assert not found.met.any(), "without one of its five features the class cannot be reached"


def test_the_classifier_is_left_as_it_was_found(plain):
    plain.train()
    before = {n: t.clone() for n, t in plain.state_dict().items()}
    flags = [p.requires_grad for p in plain.parameters()]
    next(plain.parameters()).grad = torch.ones_like(next(plain.parameters()))
    random_state = torch.get_rng_state()
    bc.fool(plain, [1], 2, shape=SHAPE, steps=20)
    assert plain.training and [p.requires_grad for p in plain.parameters()] == flags
    assert all(torch.equal(before[n], t) for n, t in plain.state_dict().items())
    assert torch.equal(next(plain.parameters()).grad, torch.ones_like(next(plain.parameters())))
    assert torch.equal(random_state, torch.get_rng_state())
    next(plain.parameters()).grad = None
    plain.eval()


def test_a_flat_classifier_runs_out_of_steps():
    found = bc.fool(Constant([0.0, 1.0]), [0], 3, shape=SHAPE, steps=20)
    assert (found.outcome == Outcome.OUT_OF_STEPS).all() and (found.fewest == NEVER).all()


def test_nan_outputs_end_the_search_with_what_was_found():
    problem = Problem(NaNAfter(Planted(), 5), "logits", TARGETS)
    found = search(problem, noise(), AdaptiveWeight(), Goal(max_lit=1), 50)
    assert (found.outcome == Outcome.NOT_FINITE).all() and (found.steps == 6).all()
    assert found.images.isfinite().all() and found.confidence.isfinite().all()


@pytest.mark.parametrize("wrap", [lambda z: z, lambda z: z.log_softmax(1), lambda z: z.softmax(1)])
def test_every_output_form_is_searched_alike(plain, wrap):
    found = bc.fool(lambda x: wrap(plain(x)), range(10), 3, shape=SHAPE, steps=60)
    assert found.met.all()


def test_steep_outputs_do_not_saturate_the_search(plain):
    found = bc.fool(lambda x: 1000 * plain(x), range(10), 3, shape=SHAPE, steps=100)
    assert found.met.all()


def test_accept_is_a_further_condition(plain):
    bright = bc.fool(plain, range(10), 3, shape=SHAPE, steps=200, max_lit=30, accept=lambda x: x.flatten(1).sum(1) > 8)
    assert bright.met.any() and (bright.images.flatten(1).sum(1)[bright.met] > 8).all()


def test_sparsest_spends_more_and_lights_less(plain):
    quick = bc.fool(plain, range(10), 4, shape=SHAPE, steps=200, max_lit=64)
    slow = bc.fool(plain, range(10), 4, shape=SHAPE, steps=200, max_lit=64, until="sparsest")
    assert slow.lit.float().mean() < quick.lit.float().mean() and slow.steps.sum() > quick.steps.sum()


def test_polished_images_are_local_minima(plain):
    problem, goal = Problem(plain, "logits", torch.arange(10)), Goal(max_lit=64, until="sparsest")
    found = search(problem, STARTS["noise"](torch.arange(10), SHAPE, torch.Generator().manual_seed(0), None),
                   AdaptiveWeight(), goal, 40)  # fmt: skip
    done = polish(problem, found, goal, 2000, sweeps=50)
    for image, target in zip(done.images[done.met], done.targets[done.met], strict=True):
        for feature in image.flatten().nonzero().flatten():
            without = image.clone()
            without.view(-1)[feature] = 0
            assert plain(without[None]).softmax(1)[0, target] < goal.wanted


def test_given_start_images_are_used(plain):
    start = torch.zeros(4, *SHAPE)
    found = bc.fool(plain, [1, 2], 2, shape=SHAPE, start=start + 0.001, steps=1, max_lit=64)
    assert found.images.sum() == 0, "values below 1/512 are stored as exact zeros"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps must lie in 1..10000"),
        ({"steps": 10_001}, "steps must lie in 1..10000"),
        ({"confidence": 1.0}, "confidence must lie in"),
        ({"max_lit": 0}, "max_lit must be at least 1"),
        ({"until": "soon"}, "until must be one of"),
        ({"start": "nowhere"}, "start must be auto"),
        ({"start": "real-target"}, "needs data="),
        ({"start": torch.zeros(3, 1, 8, 8)}, "start must be"),
        ({"start": torch.full((2, 1, 8, 8), 2.0)}, r"start must lie in \[0, 1\]"),
        ({"mask": "dots"}, "mask must be"),
        ({"mask": torch.ones(5, 1, 8, 8)}, "mask must broadcast"),
        ({"shape": None}, "fool needs shape"),
        ({"shape": (8, 8)}, "shape must be"),
        ({"targets": [10]}, "targets must lie in 0..9"),
        ({"targets": []}, "targets must name"),
        ({"per_target": 0}, "per_target must be"),
    ],
)
def test_mistakes_raise_at_the_door(plain, change, words):
    arguments = {"targets": [1], "per_target": 2, "shape": SHAPE, "steps": 5} | change
    with pytest.raises(ArgumentError, match=words):
        bc.fool(plain, arguments.pop("targets"), arguments.pop("per_target"), **arguments)


@given(st.lists(st.floats(-0.5, 1.5), min_size=4, max_size=4))
def test_stored_form_is_idempotent_and_in_the_box(values):
    image = torch.tensor(values).view(1, 1, 2, 2)
    once = stored(image)
    assert torch.equal(stored(once), once) and once.min() >= 0 and once.max() <= 1
    assert int(count_lit(once)) == int((once > 0).sum()) >= int(count_lit_pixels(once))


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(KINDS), st.floats(0.05, 1.0), st.integers(0, 1000))
def test_masks_keep_their_share(kind, keep, seed):
    mask = random_mask(kind, 3, (3, 12, 12), keep, torch.Generator().manual_seed(seed))
    assert mask.shape == (3, 1, 12, 12)
    share = mask.flatten(1).float().mean(dim=1)
    tolerance = {"pixels": 0.02, "blocks": 0.12, "half-planes": 0.15}[kind]
    assert ((share - keep).abs() <= tolerance).all()


@pytest.mark.parametrize(("shape", "limit"), [((1, 28, 28), 300), ((3, 32, 32), 300), ((1, 8, 8), 12)])
def test_default_max_lit(shape, limit):
    assert default_max_lit(shape) == limit


def test_colour_masks_cover_positions():
    network = UnitClassifier(Planted(pixels=6, shape=(3, 8, 8)))
    found = bc.fool(network, [0, 1], 3, shape=(3, 8, 8), steps=100, max_lit=40)
    assert found.met.all() and (count_lit_pixels(found.images) <= found.lit).all()
