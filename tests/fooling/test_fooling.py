from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import blankcheck as bc
from blankcheck.auditing import CHUNK, Job, run_attempts, within
from blankcheck.auditing.deduplicate import repeats
from blankcheck.classifiers import UnitClassifier
from blankcheck.errors import ArgumentError
from blankcheck.fooling import (
    STARTS,
    AnnealedTopK,
    DifferentialEvolution,
    FastMinimumNorm,
    Goal,
    GreedyLighting,
    Problem,
    ProjectedAdam,
    ProximalMomentum,
    RandomSearch,
    SigmaZero,
    SparsePGD,
    StepContext,
    TabuSearch,
    polish,
    random_mask,
    search,
)
from blankcheck.fooling.counter_rng import uniform
from blankcheck.fooling.masks import KINDS
from blankcheck.fooling.problem import Measurement
from blankcheck.fooling.tensor_ops import SYNC_EVERY
from blankcheck.testing import Constant, NaNAfter, Planted
from blankcheck.testing.deceivers import Detached
from blankcheck.types import (
    NEVER,
    Conditions,
    Outcome,
    count_lit,
    count_lit_pixels,
    default_max_lit,
    stored,
)

SHAPE = (1, 8, 8)
TARGETS = torch.tensor([0, 1, 2]).repeat(4)
SOLVERS = [
    GreedyLighting(),
    ProximalMomentum(),
    AnnealedTopK(goal=5),
    ProjectedAdam(weight=0.3),
    ProjectedAdam(weight=0.1, weight_at=(60, 3.0), step_at=(90, 0.5), anneal=True),
    SigmaZero(),
    FastMinimumNorm(),
    SparsePGD(features=30),
    SparsePGD(features=30, unprojected=False),
    TabuSearch(),
    TabuSearch(tried=((0, 1),)),
    RandomSearch(features=30),
]
FROM_BLACK = (GreedyLighting, FastMinimumNorm, SparsePGD, TabuSearch, RandomSearch)


def no_trials(trials: torch.Tensor) -> torch.Tensor:
    raise AssertionError("this rule scores no trial images")


def look(progress: float = 0.0, needed: float = 2.2) -> StepContext:
    return StepContext(needed, progress, 0, no_trials)


def start(kind: str, targets: torch.Tensor) -> torch.Tensor:
    return STARTS[kind](targets, SHAPE, torch.Generator().manual_seed(0), None)


def noise() -> torch.Tensor:
    return start("noise", TARGETS)


def seen_as(log_odds: float, images: torch.Tensor, gradient: float) -> Measurement:
    """What a step rule is told of one image."""
    finite, slopes = torch.tensor([True]), torch.full_like(images, gradient)
    return Measurement(torch.tensor([log_odds]), count_lit(images), slopes, finite)


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_planted_answer_is_found_exactly(solver):
    classifier = Planted(pixels=5)
    problem, goal = Problem(classifier, "logits", TARGETS), Goal(max_lit=64, until="sparsest")
    first = torch.zeros(len(TARGETS), *SHAPE) if isinstance(solver, FROM_BLACK) else noise()
    found = polish(problem, search(problem, first, solver, goal, 150), goal, 200)
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
    first = start("sparse-noise", problem.targets)
    together = search(problem, first, ProximalMomentum(), goal, 50)
    assert len(together.steps.unique()) > 1, (
        "some must finish before others for this test to say anything"
    )
    alone = search(problem.rows(torch.tensor([7])), first[7:8], ProximalMomentum(), goal, 50)
    assert_close(alone.images, together.images[7:8], atol=1e-4, rtol=0)
    assert int(alone.steps) == int(together.steps[7])


def test_one_pass_does_not_depend_on_the_batch(plain):
    images, targets = start("noise", torch.arange(50)), torch.arange(50) % 10
    whole = Problem(plain, "logits", targets).measure(images)
    single = Problem(plain, "logits", targets[3:4]).measure(images[3:4])
    assert_close(single.log_odds, whole.log_odds[3:4], atol=1e-5, rtol=1e-5)
    assert_close(single.gradient, whole.gradient[3:4], atol=1e-5, rtol=1e-4)


def test_same_seed_same_bits_and_other_seed_other_images(plain):
    one, two, other = (
        bc.fool(plain, range(10), 2, shape=SHAPE, steps=40, seed=s) for s in (3, 3, 4)
    )
    assert torch.equal(one.images, two.images) and torch.equal(one.confidence, two.confidence)
    assert not torch.equal(one.images, other.images)


def test_an_attempt_belongs_to_its_chunk_not_to_the_run(plain):
    few = bc.fool(plain, [2], CHUNK, shape=SHAPE, steps=30, seed=1)
    many = bc.fool(plain, [2, 5], CHUNK, shape=SHAPE, steps=30, seed=1)
    assert torch.equal(few.images, many.images[:CHUNK])


def test_fixed_weight_is_pytorchs_adam():
    rule = ProjectedAdam(weight=2.0, step_size=0.03)
    torch.manual_seed(0)
    images = 0.3 + 0.4 * torch.rand(4, *SHAPE)
    parameter = images.clone().requires_grad_(True)
    adam = torch.optim.Adam([parameter], lr=0.03)
    state = rule.init(images, torch.arange(4))
    for _ in range(5):
        gradient, confidence = torch.randn(4, *SHAPE) * 0.1, torch.rand(4)
        seen = Measurement(
            confidence.logit(), count_lit(images), gradient, torch.ones(4, dtype=torch.bool)
        )
        images, state = rule.step(state, images, seen, look())
        parameter.grad = -(1 - confidence)[:, None, None, None] * gradient + 2.0 / 64
        adam.step()
        with torch.no_grad():
            parameter.clamp_(0, 1)
        assert_close(images, parameter.detach(), atol=1e-6, rtol=0)


def test_l1_in_the_box_leaves_exact_zeros():
    classifier = Planted(pixels=4)
    goal = Goal(max_lit=64, until="sparsest")
    found = search(
        Problem(classifier, "logits", TARGETS), noise(), ProjectedAdam(weight=2.0), goal, 300
    )
    assert found.met.all() and (found.lit == 4).all()


@pytest.mark.parametrize("kind", KINDS)
def test_masked_features_stay_black(plain, kind):
    found = bc.fool(
        plain, range(10), 4, shape=SHAPE, steps=60, mask=kind, until="sparsest", max_lit=40
    )
    mask = torch.zeros(40, 1, 8, 8, dtype=torch.bool)
    mask[:, :, ::2] = True
    own = bc.fool(plain, range(10), 4, shape=SHAPE, steps=60, mask=mask, max_lit=40)
    assert (own.images[~mask] == 0).all()
    assert own.met.float().mean() > 0.5 and found.met.float().mean() > 0.5


def test_masked_gradient_is_not_followed():
    classifier = Planted(pixels=5)
    mask = torch.ones(1, *SHAPE, dtype=torch.bool)
    mask.view(-1)[classifier.planted[0, 0]] = False
    seen = Problem(classifier, "logits", torch.tensor([0]), mask).measure(
        torch.full((1, *SHAPE), 0.5)
    )
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
    found = search(problem, noise(), ProximalMomentum(), Goal(max_lit=1), 50)
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
    wanted = {"steps": 200, "max_lit": 30, "accept": lambda x: x.flatten(1).sum(1) > 8}
    bright = bc.fool(plain, range(10), 3, shape=SHAPE, **wanted)
    assert bright.met.any() and (bright.images.flatten(1).sum(1)[bright.met] > 8).all()


def test_sparsest_spends_more_and_lights_less(plain):
    quick = bc.fool(plain, range(10), 4, shape=SHAPE, steps=200, max_lit=64)
    slow = bc.fool(plain, range(10), 4, shape=SHAPE, steps=200, max_lit=64, until="sparsest")
    assert (
        slow.lit.float().mean() < quick.lit.float().mean() and slow.steps.sum() > quick.steps.sum()
    )


def test_polished_images_are_local_minima(plain):
    problem, goal = Problem(plain, "logits", torch.arange(10)), Goal(max_lit=64, until="sparsest")
    found = search(problem, start("noise", problem.targets), ProximalMomentum(), goal, 40)
    done = polish(problem, found, goal, 2000, sweeps=50)
    for image, target in zip(done.images[done.met], done.targets[done.met], strict=True):
        for feature in image.flatten().nonzero().flatten():
            without = image.clone()
            without.view(-1)[feature] = 0
            assert plain(without[None]).softmax(1)[0, target] < goal.target_confidence


def test_given_start_images_are_used(plain):
    start = torch.zeros(4, *SHAPE)
    found = bc.fool(plain, [1, 2], 2, shape=SHAPE, start=start + 0.001, steps=1, max_lit=64)
    assert found.images.sum() == 0, "values below 1/512 are stored as exact zeros"


def test_starts_are_what_they_are_called(digits):
    real, targets = (digits.validation.images, digits.validation.labels), torch.arange(30) % 10
    made = {
        name: make(targets, SHAPE, torch.Generator().manual_seed(0), real)
        for name, make in STARTS.items()
    }
    assert all(x.shape == (30, *SHAPE) and x.min() >= 0 and x.max() <= 1 for x in made.values())
    assert (
        made["bright"].min() >= 0.9
        and made["near-black"].max() <= 0.02
        and made["black"].sum() == 0
    )
    assert made["gaussian"].mean() == pytest.approx(float(real[0].mean()), abs=0.1)
    pool = real[0].flatten(1)
    for image, target in zip(made["blend"], targets, strict=True):
        # a mixture a x + (1 - a) y of two real images, one of the target: least squares over the
        # pairs finds it
        own, other = pool[real[1] == target], pool[real[1] != target]
        gap = image.flatten() - other[:, None]
        along = own[None] - other[:, None]
        share = ((gap * along).sum(2) / along.square().sum(2).clamp_min(1e-9)).clamp(0, 1)
        assert float((gap - share[..., None] * along).square().sum(2).min()) < 1e-4


PARTS = ("erased", "crossed", "window")


def of_parts(kind: str, shape: tuple[int, int, int], real: torch.Tensor, seed: int = 0):
    """20 starts for class 1 of two; `real` is the image of class 1, that of class 0 is grey."""
    both = torch.stack([torch.full(shape, 0.5), real.expand(shape)]), torch.tensor([0, 1])
    ones = torch.ones(20, dtype=torch.int64)
    return STARTS[kind](ones, shape, torch.Generator().manual_seed(seed), both)


def monotone(mask: torch.Tensor) -> bool:
    """Whether lines, (k, length) bool, all rise or all fall, if they change at all."""
    steps = mask.float().diff(dim=1)
    return not ((steps > 0).any() and (steps < 0).any())


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 24), (1, 3, 9)], ids=str)
def test_starts_of_parts_have_their_form_and_the_same_seed_gives_the_same(kind, shape):
    made = of_parts(kind, shape, torch.ones(()))
    assert made.shape == (20, *shape) and made.min() >= 0 and made.max() <= 1
    assert torch.equal(made, of_parts(kind, shape, torch.ones(())))
    assert not torch.equal(made, of_parts(kind, shape, torch.ones(()), seed=1))
    with pytest.raises(ArgumentError, match="needs data="):
        STARTS[kind](torch.ones(2).long(), shape, torch.Generator(), None)


@pytest.mark.parametrize(("kind", "other_side"), [("erased", 0.0), ("crossed", 0.5)])
def test_a_half_plane_of_an_image_is_kept(kind, other_side):
    """One side is the image of the class, the other black, or the image of the other class; the
    border is a straight line through the middle part."""
    image = torch.linspace(0.6, 1, 15 * 20).view(1, 15, 20)
    angles = set()
    for made in of_parts(kind, (1, 15, 20), image):
        kept = (made == image)[0]
        assert (made[0][~kept] == other_side).all()
        assert monotone(kept) and monotone(kept.T) and 0.15 < kept.float().mean() < 0.85
        angles.add(tuple(kept[[0, 0, -1, -1], [0, -1, 0, -1]].tolist()))
    assert len(angles) >= 6, "from every side"


def test_a_window_is_what_a_rectangle_holds_moved():
    """A quarter to seven tenths of each side, moved by up to a fifth, around the border."""
    h, w = 20, 30
    image, moves = torch.linspace(0.1, 1, h * w).view(1, h, w), set()
    for made in of_parts("window", (1, h, w), image):
        lit = made[0] > 0
        down, right = lit.any(dim=1), lit.any(dim=0)
        assert torch.equal(lit, down[:, None] & right[None, :])
        for line in (down, right):
            size, n = int(line.sum()), len(line)
            assert 0.25 * n - 1 <= size <= 0.7 * n + 1
            assert (line != line.roll(1)).sum() == 2, "one piece, if the border is none"
        place = ((made[0][lit] - 0.1) / 0.9 * (h * w - 1)).round().long()
        y, x = lit.nonzero().T
        by_y = ((y - place // w + h // 2) % h - h // 2).unique()
        by_x = ((x - place % w + w // 2) % w - w // 2).unique()
        assert len(by_y) == len(by_x) == 1 and abs(by_y) <= h / 5 and abs(by_x) <= w / 5
        moves.add((int(by_y), int(by_x)))
    assert len(moves) > 10


def test_found_at_is_the_step_at_which_the_image_was_met(plain, digits):
    """It counts within the attempt; an image that stops at its goal was met at its last step, and
    not a step earlier."""
    found = bc.fool(plain, [3], 8, data=digits, steps=60, until="sparsest", seed=2)
    assert (found.found_at >= 1).all() and (found.found_at <= found.steps).all()
    problem = Problem(plain.requires_grad_(False), "logits", torch.tensor([3]))
    what = (problem, torch.full((1, *SHAPE), 0.5), ProjectedAdam(weight=10.0), Goal(max_lit=30))
    whole = search(*what, 300)
    assert whole.met and whole.found_at == whole.steps and whole.steps > 2
    assert not search(*what, int(whole.found_at) - 1).met


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps must lie in 1..10000"),
        ({"steps": 10_001}, "steps must lie in 1..10000"),
        ({"confidence": 1.0}, "confidence must lie in"),
        ({"max_lit": 0}, "max_lit must be at least 1"),
        ({"max_lit": 10**20}, "max_lit must be at most 1,000,000,000"),
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
    assert mask.shape == (3, 3 if kind.endswith(":features") else 1, 12, 12)
    share = mask.flatten(1).float().mean(dim=1)
    tolerance = {"pixels": 0.02, "blocks": 0.12, "half-planes": 0.15}[
        kind.removesuffix(":features")
    ]
    assert ((share - keep).abs() <= tolerance).all()


@pytest.mark.parametrize(
    ("shape", "limit"), [((1, 28, 28), 300), ((3, 32, 32), 300), ((1, 8, 8), 12)]
)
def test_default_max_lit(shape, limit):
    assert default_max_lit(shape) == limit


def test_colour_masks_cover_features_when_asked(plain):
    one = random_mask("pixels:features", 20, (3, 12, 12), 0.5, torch.Generator().manual_seed(0))
    assert not torch.equal(one[:, 0], one[:, 1])
    network = UnitClassifier(Planted(pixels=3, shape=(3, 8, 8)))
    found = bc.fool(
        network, [0, 1], 20, shape=(3, 8, 8), steps=60, max_lit=40, mask="pixels:features", seed=1
    )
    assert 0 < found.met.sum() < 40, (
        "with a random half of the features the three planted ones are seldom all there"
    )


def test_colour_masks_cover_positions():
    network = UnitClassifier(Planted(pixels=6, shape=(3, 8, 8)))
    found = bc.fool(network, [0, 1], 3, shape=(3, 8, 8), steps=100, max_lit=40)
    assert found.met.all() and (count_lit_pixels(found.images) <= found.lit).all()


def test_random_numbers_belong_to_the_key():
    keys = torch.randint(2**62, (50,), generator=torch.Generator().manual_seed(0))
    whole, part = uniform(keys, 3, 400), uniform(keys[[7, 30]], 3, 400)
    assert torch.equal(part, whole[[7, 30]])
    assert whole.min() >= 0 and whole.max() < 1 and abs(float(whole.mean()) - 0.5) < 0.01
    pair = torch.stack([whole.flatten(), uniform(keys, 4, 400).flatten()])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.03


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_an_image_does_not_depend_on_its_batch(plain, solver):
    problem, goal = Problem(plain, "logits", torch.arange(10)), Goal(max_lit=64, until="sparsest")
    first, keys = start("sparse-noise", problem.targets), torch.arange(100, 110)
    few = torch.tensor([8, 2])
    whole = search(problem, first, solver, goal, 8, keys).rows(few)
    part = search(problem.rows(few), first[few], solver, goal, 8, keys[few])
    assert_close(part.images, whole.images, atol=1e-4, rtol=0)
    assert torch.equal(part.steps, whole.steps) and torch.equal(part.forwards, whole.forwards)


def test_looking_seldom_who_has_finished_changes_nothing(plain, monkeypatch):
    problem = Problem(plain, "logits", torch.arange(10).repeat(3))
    what = (problem, start("noise", problem.targets), ProximalMomentum(), Goal(max_lit=20), 50)
    often = search(*what)
    monkeypatch.setitem(SYNC_EVERY, "cpu", 7)
    seldom = search(*what)
    assert len(often.steps.unique()) > 1
    assert torch.equal(often.steps, seldom.steps) and torch.equal(often.outcome, seldom.outcome)
    assert_close(often.images, seldom.images, atol=1e-4, rtol=0)


@settings(deadline=None, max_examples=25)
@given(
    st.integers(1, 60),
    st.sampled_from(["met", "sparsest"]),
    st.sampled_from(["auto", "black", "noise"]),
)
def test_budgets_are_kept(plain, steps, until, start):
    found = bc.fool(plain, [1, 7], 3, shape=SHAPE, steps=steps, until=until, start=start)
    assert (found.steps <= steps).all() and (found.forwards <= 3 * steps).all()


def test_long_budgets_are_kept(digits, plain):
    found = bc.fool(plain, range(10), 2, data=digits, steps=600, until="sparsest")
    assert (found.steps <= 600).all() and (found.forwards <= 1800).all() and found.met.all()


@pytest.mark.parametrize(
    "solver",
    [RandomSearch(features=30), DifferentialEvolution(pixels=12)],
    ids=["random", "evolution"],
)
def test_gradient_free_rules_find_what_gradients_do_not(plain, solver):
    problem, goal = Problem(Detached(plain), "logits", torch.arange(10)), Goal(max_lit=40)
    black = torch.zeros(10, *SHAPE)
    blind = search(problem, black, solver, goal, 100)
    assert blind.met.float().mean() >= 0.8
    assert (blind.steps == 0).all() and (blind.forwards <= 300).all()
    assert search(problem, black, TabuSearch(), goal, 100).met.sum() <= 2


def test_sigma_zero_counts_lit_features_as_published():
    rule, images = SigmaZero(), torch.full((1, 1, 1, 2), 0.5)
    state = rule.init(images, torch.arange(1))
    moved, after = rule.step(state, images, seen_as(5.0, images, 1.0), look())
    # confident: the gradient is the count's alone; normalised, Adam's first step is the step size,
    # towards black
    assert torch.equal(moved, torch.zeros_like(images))
    assert_close(after.weight, torch.tensor([0.31]))
    _, after = rule.step(state, images, seen_as(0.0, images, 1.0), look())
    assert_close(after.weight, torch.tensor([0.29]))


def test_annealed_top_k_is_not_held_up_by_features_that_cannot_move():
    rule, images = AnnealedTopK(goal=4), torch.tensor([1.0, 0.0, 0.5, 0.0]).view(1, 1, 2, 2)
    slopes = torch.tensor([1000.0, 1.0, -1.0, 0.0]).view(1, 1, 2, 2)
    seen = dataclasses.replace(seen_as(0.0, images, 0.0), gradient=slopes)
    moved, _ = rule.step(rule.init(images, torch.zeros(1).long()), images, seen, look())
    assert_close(moved.flatten(), torch.tensor([1.0, 0.05, 0.45, 0.0]), atol=1e-4, rtol=0)


def walk_of_four(rule, **changes):
    """The state of one image of four features of which the first and third are chosen."""
    state = rule.init(torch.zeros(1, 1, 2, 2), torch.zeros(1).long())
    own = {
        "step": 1,
        "magnitude": torch.tensor([[0.5, 0.5, 0.5, 0.9]]),
        "score": torch.tensor([[0.0, -1.0, 1.0, -1.0]]),
        "chosen": torch.tensor([[1.0, 0.0, 1.0, 0.0]]),
    }
    return dataclasses.replace(state, **(own | changes))


@pytest.mark.parametrize("unprojected", [True, False])
def test_sparse_pgd_steps_as_published(unprojected):
    rule = SparsePGD(features=2, unprojected=unprojected, fewer=0, more=0)
    before = walk_of_four(rule)
    images = (before.magnitude * before.chosen).view(1, 1, 2, 2)
    slopes = torch.tensor([[1.0, -1.0, 2.0, 0.5]])
    seen = dataclasses.replace(seen_as(0.0, images, 0.0), gradient=slopes.view(1, 1, 2, 2))
    moved, after = rule.step(before, images, seen, look())
    free = [0.75, 0.25, 0.75, 1.0] if unprojected else [0.75, 0.5, 0.75, 0.9]
    assert_close(after.magnitude, torch.tensor([free]))
    likely = before.score.sigmoid()
    slope = slopes * before.magnitude * likely * (1 - likely)
    # 0.25 times the root of four features
    assert_close(after.score - before.score, 0.5 * slope / slope.norm())
    assert moved.flatten().tolist() == [0.75, 0.0, 0.75, 0.0] and int(after.stuck) == 1


def test_sparse_pgd_asks_for_fewer_after_a_success_and_more_before_the_first():
    rule, images = SparsePGD(features=40), torch.zeros(1, 1, 8, 8)
    state = dataclasses.replace(rule.init(images, torch.zeros(1).long()), step=1)

    def budget_after(log_odds, lit, state):
        seen = dataclasses.replace(seen_as(log_odds, images, 1.0), lit=torch.tensor([lit]))
        return rule.step(state, images, seen, look())[1]

    more = budget_after(0.0, 40, state)
    fewer = budget_after(3.0, 40, more)
    still = budget_after(0.0, 36, fewer)
    assert [int(s.budget) for s in (more, fewer, still)] == [50, 36, 36]
    assert int(budget_after(3.0, 2, still).budget) == int(budget_after(3.0, 1, still).budget) == 1


def test_sparse_pgd_draws_scores_anew_where_a_choice_is_stuck_without_success():
    rule = SparsePGD(features=2, more=0)
    before = walk_of_four(rule, stuck=torch.tensor([rule.patience]))
    images = (before.magnitude * before.chosen).view(1, 1, 2, 2)
    stuck, fine = (rule.step(before, images, seen_as(o, images, 0.0), look())[1] for o in (0, 3))
    assert not torch.equal(stuck.score, before.score)
    assert torch.equal(fine.score, before.score)


def test_projected_adam_steps_and_anneals():
    images = torch.full((1, *SHAPE), 0.5)
    seen = seen_as(50.0, images, 0.0)

    def change(step=5, progress=0.0, **options):
        rule, second = ProjectedAdam(**options), torch.full((1, *SHAPE), 1e-4)
        state = dataclasses.replace(rule.init(images, torch.arange(1)), step=step, second=second)
        return float((images - rule.step(state, images, seen, look(progress))[0]).mean())

    tenth = pytest.approx(0.1 * change(), rel=1e-4)
    assert change(4, step_at=(5, 0.1)) == pytest.approx(change(4))
    assert change(step_at=(5, 0.1)) == tenth
    assert change(weight_at=(5, 3.0)) > 2 * change()
    assert change(progress=0.5, anneal=True) == pytest.approx(0.5 * change(), rel=1e-4)


def test_rows_that_were_never_confident_give_up(plain):
    problem = Problem(plain, "logits", torch.arange(10))
    black, goal = torch.zeros(10, *SHAPE), Goal(confidence=0.999, until="sparsest")
    found = search(problem, black, TabuSearch(), goal, 30, early_stop_after=4)
    never = found.fewest == NEVER
    assert (found.steps[never] == 4).all() and (found.steps[~never] > 4).all()
    assert 0 < never.sum() < 10


def test_images_differ_between_attempts(plain):
    found = bc.fool(plain, range(10), 10, shape=SHAPE, steps=100, until="sparsest", max_lit=64)
    assert found.met.all() and len(repeats(found)) == 0


def test_a_network_sure_of_black_gets_one_black_image_and_others():
    def likes_black(x):
        ink = x.flatten(1).sum(1)
        return torch.stack([ink * 0 + 5, ink], 1)

    found, tiny = (
        bc.fool(likes_black, [0], 10, shape=shape, steps=60, until="sparsest")
        for shape in (SHAPE, (1, 2, 2))
    )
    assert found.met.all() and found.lit.tolist() == [0] + [1] * 9
    assert tiny.met.all(), "four features leave fewer different images than were asked for"


class Greedy(torch.nn.Module):
    """Has no memory for more than `most` images at once."""

    def __init__(self, inner, most):
        super().__init__()
        self.inner, self.most = inner, most

    def forward(self, images):
        if len(images) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return self.inner(images)


def test_out_of_memory_halves_the_batch(plain):
    conditions = Conditions(max_lit=12)
    job = Job(plain, "logits", SHAPE, conditions, within(30), stop_at_lit=12, seed=3)
    targets = [i % 10 for i in range(40)]
    few, none = (dataclasses.replace(job, classifier=Greedy(plain, most)) for most in (30, 0))
    halved = run_attempts(few, targets)
    assert run_attempts(job, targets).oom_splits == 0 and halved.oom_splits >= 1
    assert halved.best.met.all()
    with pytest.raises(torch.OutOfMemoryError):
        run_attempts(none, targets)


class Saturated(torch.nn.Module):
    """The logarithm of a softmax, as many networks end: -inf where a probability is 0 in 32 bits.
    Class 1 has probability 1 until feature 0 is lit."""

    def forward(self, images):
        first = images.flatten(1)[:, 0]
        logits = torch.stack([400 * first, 200 - 200 * first, 0 * first], dim=1)
        return logits.softmax(dim=1).log()


def test_a_log_probability_of_minus_infinity_is_an_answer(plain):
    targets = torch.tensor([0, 1, 2])
    problem, images = Problem(Saturated(), "log-probabilities", targets), torch.zeros(3, *SHAPE)
    seen = problem.measure(images)
    assert seen.finite.all() and seen.gradient.isfinite().all()
    assert seen.log_odds.tolist() == [-torch.inf, torch.inf, -torch.inf]
    found = search(problem, images, TabuSearch(), Goal(max_lit=5), 20)
    assert (found.outcome != Outcome.NOT_FINITE).all() and found.met.tolist()[1]
    broken = Problem(lambda x: x.flatten(1)[:, :3] * torch.nan, "logits", targets).measure(images)
    assert not broken.finite.any()


def test_polishing_spends_what_an_image_has_left_whoever_its_neighbours_are(plain):
    problem, goal = Problem(plain, "logits", torch.arange(10)), Goal(max_lit=64, until="sparsest")
    found = search(problem, torch.zeros(10, *SHAPE), GreedyLighting(), goal, 40)
    left = torch.arange(10) * 7 + 3
    together = polish(problem, found, goal, left)
    for row in (1, 4, 9):
        only = torch.tensor([row])
        alone, beside = (
            polish(problem.rows(only), found.rows(only), goal, left[only]),
            together.rows(only),
        )
        assert_close(alone.images, beside.images, atol=1e-4, rtol=0)
        assert alone.forwards == beside.forwards <= found.forwards[row] + left[row]
    # an image that has no passes left changes nothing for the others
    none = torch.full((10,), 60)
    none[3] = 0
    usual, others = polish(problem, found, goal, 60), torch.arange(10) != 3
    assert torch.equal(polish(problem, found, goal, none).images[others], usual.images[others])
