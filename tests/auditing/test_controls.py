"""Control experiments on small networks whose answer is known: each finds what is there, and
nothing where nothing is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import evidence, finding
from torch import nn

from blankcheck.auditing import Job, run_attempts
from blankcheck.auditing.controls import probes, watched
from blankcheck.auditing.controls import stronger_search as harder
from blankcheck.auditing.controls.planted import REACHES, planted_control
from blankcheck.auditing.controls.setting import Setting, Twin
from blankcheck.auditing.controls.structured import structured
from blankcheck.auditing.controls.third_party import third_party_control
from blankcheck.auditing.gather import black_of
from blankcheck.auditing.judges import Judges
from blankcheck.auditing.portfolio import PRESETS, Attack, within
from blankcheck.auditing.third_party import ThirdPartyAttack
from blankcheck.auditing.witnesses import judged
from blankcheck.classifiers import evaluate
from blankcheck.classifiers.planting import Sure
from blankcheck.classifiers.structures import bars
from blankcheck.fooling import MAX_STEPS, ProjectedAdam
from blankcheck.judging import Control
from blankcheck.testing import Constant, stripes, stripes_template
from blankcheck.testing.counterparts import Patches
from blankcheck.testing.toys import ink_gate
from blankcheck.testing.watched import CARELESS, Watched
from blankcheck.types import Conditions

SMOKE = PRESETS["smoke"]
HARDER = (
    harder.more_steps,
    harder.more_restarts,
    harder.more_starts,
    harder.penalty_weights,
    harder.tighter_limit,
    harder.close_calls,
    harder.gradient_free,
)
WEAK = (Attack("gaussian", "fixed", lambda steps, k: ProjectedAdam(weight=1000.0), 2),)
"""A search that finds nothing at all."""


@pytest.fixture(scope="module")
def judge(digits):
    return Judges.fit(digits, 0.01)


def setting(
    classifier, data, judge, attacks=None, twins=(), per_target=1, form="logits"
) -> Setting:
    nn.Module.requires_grad_(classifier, False)
    job = Job(
        classifier,
        form,
        data.shape,
        Conditions(max_lit=12),
        attacks or within(SMOKE.steps),
        stop_at_lit=1,
        real=(data.validation.images, data.validation.labels),
        accept=judge.first.accepts,
    )
    classes = len(data.classes)
    tried = run_attempts(job, [t for t in range(classes) for _ in range(per_target)])
    fixed = judged(job, tried, judge)
    images = data.validation.images, data.test
    began = watched.begin(job, classes, data.validation.images)
    return Setting(job, SMOKE, fixed.attempts, tried, *images, classes, lambda: iter(twins), began)


@pytest.fixture(scope="module")
def strong(plain, digits, judge):
    """The usual search on a plain network: every attempt is fooled."""
    return setting(plain, digits, judge)


@pytest.fixture(scope="module")
def weak(plain, digits, judge):
    """A hopeless search on a plain network: no attempt is fooled."""
    return setting(plain, digits, judge, WEAK)


@pytest.fixture(scope="module")
def honest():
    """A network that no sparse image can convince."""
    data = stripes(2000)
    return setting(stripes_template(), data, Judges.fit(data, 0.01), per_target=2)


@pytest.mark.parametrize("control", HARDER, ids=lambda c: c.__name__)
def test_looking_harder_finds_what_a_weak_search_missed(weak, control):
    made = control(replace(weak, job=replace(weak.job, attacks=within(SMOKE.steps))))
    if control in (harder.penalty_weights, harder.gradient_free):
        assert made.control.found >= 1, "rules that are weaker by nature"
    else:
        assert made.control.found >= 0.8 * made.control.tries
    ((job, tried),) = made.searches
    assert int(tried.best.met.sum()) == made.control.found and job.seed != weak.job.seed


@pytest.mark.parametrize("control", HARDER, ids=lambda c: c.__name__)
def test_looking_harder_finds_nothing_in_an_honest_network(honest, control):
    made = control(honest).control
    assert made.found == 0 and made.tries >= 4 and not made.why_not


@pytest.mark.parametrize("control", HARDER, ids=lambda c: c.__name__)
def test_where_every_attempt_was_fooled_there_is_nothing_to_look_for(strong, control):
    assert not strong.failed
    assert control(strong).control.why_not == "every attempt was fooled already"


def test_images_of_a_twin_are_shown_to_the_network(weak, honest, strong, plain):
    twin = Twin(plain, "logits", "a plain twin")
    able = replace(weak, job=replace(weak.job, attacks=within(SMOKE.steps)))
    made = harder.transfer(able, twin)
    assert made.control.found >= 0.8 * made.control.tries, "a network is its own best twin"
    ((job, _),) = made.searches
    assert job.classifier is weak.job.classifier and job.attacks[0].name.startswith("twin:")
    two_classes = Twin(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).requires_grad_(False), "logits", "another"
    )
    assert harder.transfer(honest, two_classes).control.found == 0
    assert harder.transfer(weak, None).control.why_not == "there is no twin"
    assert harder.transfer(strong, twin).control.why_not == "every attempt was fooled already"


def test_without_limits_a_plain_network_follows_and_a_constant_does_not(strong, digits, judge):
    made = harder.unbounded(strong).control
    assert made.found == made.tries == 20
    stuck = setting(Constant([0.0] * 10), digits, judge, WEAK)
    assert harder.unbounded(stuck).control.found == 0
    blind = replace(strong, job=replace(strong.job, real=None))
    assert harder.unbounded(blind).control.why_not == "there are no real images to start from"


def test_the_positive_control_tries_twins_until_one_is_fooled(strong, plain):
    timid, good = (
        Twin(Constant([0.0] * 10), "logits", "a timid twin", 2.0),
        Twin(plain, "logits", "a plain twin", 3.0),
    )
    made = harder.positive_control(replace(strong, twins=lambda: iter([timid, good])), 0.95)
    assert (
        made.control.found == made.control.tries == 40
        and made.twin is good
        and made.twin_seconds == 5.0
    )
    assert made.control.detail == "a plain twin (after 0 of 40 on a timid twin)"
    assert made.on_twin is not None and (made.on_twin.what, made.on_twin.attempts) == (
        "a plain twin",
        40,
    )
    assert len(made.on_twin.lit) == 40 and all(1 <= lit <= 12 for lit in made.on_twin.lit)
    half = Twin(
        Wrapped(plain, after=lambda z: z - 100 * (torch.arange(10) >= 5)), "logits", "half a twin"
    )
    # half of the classes it is never sure of, which no number of steps would change
    most = replace(strong, preset=replace(SMOKE, steps=MAX_STEPS), twins=lambda: iter([half, good]))
    made = harder.positive_control(most, 0.95)
    assert made.control.found == 20 and made.twin is half, (
        "where some attempts succeed, no other network may stand in"
    )
    made = harder.positive_control(replace(strong, twins=lambda: iter([timid])), 0.95)
    assert made.control.found == 0 and made.control.detail == "a timid twin"
    made = harder.positive_control(replace(strong, twins=lambda: iter([])), 0.95)
    assert (
        made.control.why_not == "no twin could be made"
        and made.twin is None
        and made.on_twin is None
    )


def test_a_twin_that_is_seldom_sure_is_searched_harder(strong, plain, digits):
    """A search too weak for any twin, which 30 steps of the portfolio would make up for: it goes on
    where the twin is seldom sure of real images, and shows its weakness where the twin is sure."""
    few = replace(strong, job=replace(strong.job, attacks=WEAK), preset=replace(SMOKE, steps=10))
    soft = Wrapped(plain, after=lambda z: 0.5 * z)
    share = evaluate(soft, digits.test, 10, 0.9, "logits").confident
    assert 0.2 < share < 0.9 < evaluate(plain, digits.test, 10, 0.9, "logits").confident
    seldom, sure = Twin(soft, "logits", "a soft twin"), Twin(plain, "logits", "a plain twin")
    made = harder.positive_control(replace(few, twins=lambda: iter([seldom])), 0.95)
    assert made.control.found >= 38 and made.control.tries == 40
    assert made.control.numbers == {
        "twin_real_confident": share,
        "steps": made.control.numbers["steps"],
    }
    assert made.control.numbers["steps"] in (30, 90, 270, 810)
    said = finding(evidence(controls=(made.control,)), "positive-control")
    words = f", again and with up to {made.control.numbers['steps']:g} steps where it failed, fools"
    assert said.status == "passed" and words in said.finding
    made = harder.positive_control(replace(few, twins=lambda: iter([sure])), 0.95)
    assert made.control.found == 0 and made.control.numbers.keys() == {"twin_real_confident"}
    assert finding(evidence(controls=(made.control,)), "positive-control").status == "failed"
    # the first one is what the network is compared with, whichever was fooled
    made = harder.positive_control(replace(few, twins=lambda: iter([sure, seldom])), 0.95)
    assert made.twin is seldom and made.control.numbers["twin_real_confident"] > 0.9


def test_a_twin_that_is_never_sure_and_never_fooled_is_soon_given_up(strong):
    """One harder try for each attempt, not up to 10,000 steps."""
    asked = []

    def never(images):
        asked.append(len(images))
        return images.flatten(1)[:, :10] * 0

    twin = Twin(never, "logits", "a twin without an answer")
    made = harder.positive_control(replace(strong, twins=lambda: iter([twin])), 0.95)
    assert made.control.numbers == {"twin_real_confident": 0.0, "steps": 3.0 * SMOKE.steps}
    assert sum(asked) <= 359 + 3 * (40 * SMOKE.steps + 3 * 40 * 3 * SMOKE.steps) + 1000


def test_planted_patterns_are_found_in_an_honest_network_and_missed_by_a_weak_search(
    honest, strong
):
    made = planted_control(honest).control
    assert made.found == made.tries == 2 + 3 and made.numbers["narrowest_reach"] <= REACHES[1]
    assert made.numbers[f"reach:{REACHES[0]:g}"] == 1.0
    assert all(made.numbers[f"any:{name}"] == 1.0 for name in ("bars", "blocks", "grey dots"))
    missed = planted_control(replace(honest, job=replace(honest.job, attacks=WEAK))).control
    assert missed.found == 3 and missed.tries == 5, (
        "the check that shows them does not depend on it"
    )
    assert "narrowest_reach" not in missed.numbers
    why_not = planted_control(strong).control.why_not
    assert why_not == "every class was fooled without a planted pattern"


def test_nothing_simple_is_planted_where_few_features_may_be_lit(honest):
    tight = replace(honest.job.conditions, max_lit=3)
    made = planted_control(replace(honest, job=replace(honest.job, conditions=tight))).control
    assert made.tries == 2 and not [name for name in made.numbers if name.startswith("any:")]


def test_structured_images_find_what_no_gradient_leads_to(honest, strong):
    """It fires on a network that is sure of any bar, and is silent on an honest one."""
    sure = replace(honest.job, classifier=Sure(honest.job.classifier, bars, 1))
    made = structured(replace(honest, job=sure))
    assert made.control.found == made.control.tries / 2 == 10, "class 1, and not class 0"
    ((job, tried),) = made.searches
    assert bars(tried.best.images[tried.best.met]).all() and job.seed != honest.job.seed
    assert made.forward > 3000 and f"{made.forward:,} bars" in made.control.detail
    assert structured(honest).control.found == 0
    assert structured(strong).control.why_not == "every attempt was fooled already"


class Wrapped(nn.Module):
    """A network seen through a function of its input or of its output."""

    def __init__(self, inner, before=lambda x: x, after=lambda z: z):
        super().__init__()
        self.inner, self.before, self.after = inner, before, after

    def forward(self, x):
        return self.after(self.inner(self.before(x)))


HIDES = {
    "hidden": {"before": lambda x: (x > 0.3).float()},
    "dead": {"before": lambda x: x.detach()},
    "wrong": {"after": lambda z: z + 0.5 * torch.randn_like(z)},
    "not-finite": {
        "before": lambda x: torch.where(
            (x > 0).flatten(1).sum(1)[:, None, None, None] > 40, torch.nan, x
        )
    },
}


@pytest.mark.parametrize("kind", HIDES)
def test_gradients_that_hide_are_noticed(kind, plain, digits, judge):
    made = probes.gradient_health(
        setting(Wrapped(plain, **HIDES[kind]), digits, judge, WEAK)
    ).control
    assert max(share for name, share in made.numbers.items() if name.startswith(f"{kind}:")) > 0.25


def test_a_gradient_of_the_wrong_sign_is_noticed(plain, digits, judge):
    class Backwards(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):
            return -gradient

    made = probes.gradient_health(
        setting(Wrapped(plain, Backwards.apply), digits, judge, WEAK)
    ).control
    assert min(share for name, share in made.numbers.items() if name.startswith("wrong:")) > 0.9


def test_gradients_of_honest_networks_are_healthy(weak, honest):
    for good in (weak, honest):
        numbers = probes.gradient_health(good).control.numbers
        assert max(share for name, share in numbers.items() if not name.startswith("flat:")) <= 0.1
    blind = replace(weak, job=replace(weak.job, real=None))
    assert not [name for name in probes.gradient_health(blind).control.numbers if "real" in name]


def test_random_answers_are_noticed(plain, weak, digits, judge):
    noisy = setting(Wrapped(plain, after=lambda z: z + torch.randn_like(z)), digits, judge, WEAK)
    assert (
        watched.repeatable(noisy).control.found > 50 and watched.repeatable(weak).control.found == 0
    )


def test_neighbours_are_noticed(plain, weak, digits, judge):
    shy = setting(Wrapped(plain, after=lambda z: z - 2 * z.mean(dim=0)), digits, judge, WEAK)
    assert (
        watched.batch_independent(shy).control.found > 50
        and watched.repeatable(shy).control.found == 0
    )
    assert watched.batch_independent(weak).control.found == 0


def asked_of(network, weak) -> Setting:
    """The setting of another network, whose search was as hopeless."""
    job = replace(weak.job, classifier=network)
    return replace(weak, job=job, began=watched.begin(job, 10, weak.validation))


@pytest.fixture(scope="module")
def gate(plain, digits):
    return ink_gate(plain, digits)


@pytest.mark.parametrize("name", [n for n in CARELESS if n not in ("calls", "images")])
def test_a_network_that_behaves_while_it_is_watched_is_noticed(name, gate, weak):
    made = asked_of(Watched(gate, CARELESS[name][1], in_a_buffer=name == "counted"), weak)
    checks = [watched.watched(made).control, watched.batch_independent(made).control]
    said = [finding(evidence(controls=(control,)), control.code) for control in checks]
    assert "failed" in [each.status for each in said]
    if name == "inference":
        assert "in inference mode, parameters frozen" in said[0].finding
        assert "with gradients" not in said[0].finding and checks[0].numbers["fooling"] > 0
    if name == "counted":
        assert checks[0].found == 0 and "calls change 1 of its" in said[0].finding


@pytest.mark.parametrize("name", ("calls", "images"))
def test_a_network_that_counts_is_asked_again_at_the_end(name, gate, weak):
    shy = Watched(gate, CARELESS[name][1])
    made = asked_of(shy, weak)
    shy.images += 50_000  # which an audit asks about, but this test does not
    assert watched.repeatable(made).control.found > 50


def test_honest_networks_answer_alike_however_asked(weak, gate, digits):
    with torch.random.fork_rng():
        attentive = Patches(digits.shape, 10).eval().requires_grad_(False)
    for network in (gate, attentive):
        control = watched.watched(asked_of(network, weak)).control
        assert control.found == 0 and not any(control.numbers.values())
        assert f"asked in {len(watched.WAYS) + 1} ways" in control.detail
        assert finding(evidence(controls=(control,)), "watched").status == "passed"
        assert not any(p.requires_grad for p in network.parameters()), "left as it was"


def test_what_is_no_number_each_time_is_the_same_answer(plain, weak, digits):
    """That gradients and odds are no numbers there is said by others."""

    def undefined(x):
        lit = (x > 0).flatten(1).sum(dim=1, keepdim=True)
        return plain(x).masked_fill(lit < 13, torch.nan)

    given = asked_of(undefined, weak)
    for control in (watched.repeatable, watched.batch_independent, watched.watched):
        assert control(given).control.found == 0
    assert black_of(undefined, "logits", digits) is None


def test_what_cannot_be_asked_says_why_and_is_no_fault(plain, weak):
    def single(x):
        if x.dtype == torch.float64:
            raise TypeError("no double precision here")
        return x

    control = watched.watched(asked_of(Wrapped(plain, single), weak)).control
    said = finding(evidence(controls=(control,)), "watched")
    assert control.found == 0 and said.status == "passed"
    assert "not asked in double precision, because it says" in said.finding
    assert "no double precision here" in said.finding


def test_a_network_that_takes_no_single_image_is_asked_with_others(plain, weak):
    control = watched.batch_independent(
        asked_of(Wrapped(plain, after=lambda z: z.squeeze(0)), weak)
    ).control
    assert control.found == 0 and "batches of 1 it refuses" in control.detail


def test_a_best_image_that_does_not_stay_is_noticed(plain, strong, digits, judge):
    lucky = setting(Wrapped(plain, after=lambda z: z + 3 * torch.randn_like(z)), digits, judge)
    assert probes.best_kept(lucky).control.found > 1 and probes.best_kept(strong).control.found == 0


def test_exact_zeros_are_noticed(plain, weak, digits, judge):
    sharp = setting(
        Wrapped(plain, after=lambda z: (1000 * z).softmax(1)),
        digits,
        judge,
        WEAK,
        form="probabilities",
    )
    made = probes.saturation(sharp).control
    assert made.found > 0.5 * made.tries and "probabilities" in made.detail
    assert probes.saturation(weak).control.found == 0
    soft = setting(
        Wrapped(plain, after=lambda z: z.softmax(1)), digits, judge, WEAK, form="probabilities"
    )
    assert probes.saturation(soft).control.found == 0


def rival(run) -> ThirdPartyAttack:
    return ThirdPartyAttack("a friend", "friends", "pip install friends", lambda: run)


def test_rivals_count_where_the_fixed_attempts_found_nothing(weak, strong):
    known = strong.tried.best.images
    finds = rival(lambda asked, start, targets: known)
    made = third_party_control(weak, [finds])
    assert (
        made.control.found == made.control.tries == 10
        and made.searches[0][0].attacks[0].rule == "a friend"
    )
    made = third_party_control(strong, [finds])
    assert made.control.why_not == "every class was fooled already" and len(made.searches) == 1
    assert (
        third_party_control(weak, [rival(lambda asked, start, targets: start)]).control.found == 0
    )


def test_rivals_that_are_not_asked_for_or_break_off(weak):
    assert "--rivals" in third_party_control(weak, []).control.why_not
    assert (
        third_party_control(weak, [], "friends cannot be imported").control.why_not
        == "friends cannot be imported"
    )

    def broken(asked, start, targets):
        raise ValueError("out of luck")

    made = third_party_control(weak, [rival(broken)]).control
    assert (
        isinstance(made, Control)
        and "broke off: ValueError: out of luck" in made.detail
        and made.found == 0
    )
