"""Whatever the audited network was asked is looked at, and what no search may start from."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from blankcheck.auditing import Job, run_attempts
from blankcheck.auditing.controls.setting import Setting, Twin
from blankcheck.auditing.controls.stronger_search import transfer
from blankcheck.auditing.controls.watched import begin
from blankcheck.auditing.gather import Gathered, _by_the_way, gather
from blankcheck.auditing.judges import Judges, ood_test
from blankcheck.auditing.onlooker import Met, Onlooker
from blankcheck.auditing.portfolio import PRESETS, Preset, within
from blankcheck.auditing.witnesses import judged
from blankcheck.classifiers.planting import Trigger
from blankcheck.judging import Verdict, judge, run_checks
from blankcheck.parallel.spread import alone
from blankcheck.testing import Constant
from blankcheck.types import NEVER, Conditions

WANT = Conditions(max_lit=12)
FEW = Preset(attempts=10, per_target=1, steps=40)
PATH = (3, 12, 21, 30, 39, 48)
"""Features that images on their way to class 0 light."""


class OnTheWay(nn.Module):
    """The way to class 0 leads through images that it is sure are class 1, with no slope that leads
    there for class 1.

    Class 0 is never given 0.9; class 1 is, where four or five of the features of `PATH` and no
    others are lit.
    """

    def forward(self, images):
        flat = images.flatten(1)
        on = flat[:, PATH].sum(dim=1)
        others = flat.sum(dim=1) - on
        logits = images.new_zeros(len(images), 10)
        logits = (
            logits
            + nn.functional.one_hot(torch.zeros(len(images)).long(), 10) * (0.7 * on)[:, None]
        )
        sure = (on >= 3.5) & (on <= 5.5) & (others < 0.5)
        return (
            logits
            + nn.functional.one_hot(torch.ones(len(images)).long(), 10) * (20.0 * sure)[:, None]
        )


def gathered(network, data, want=WANT, preset=FEW) -> Gathered:
    return gather(network, data, want, preset, lambda: iter(()))


def test_an_image_of_another_class_that_a_search_met_is_a_witness(digits):
    found = gathered(OnTheWay(), digits)
    fixed = [a for a in found.evidence.attempts if a.fooled]
    extra = found.evidence.extra
    assert {a.target for a in extra} | {a.target for a in fixed} == {1}
    assert judge(found.evidence, run_checks(found.evidence)) == Verdict.FOOLED
    for image, target in zip(found.witnesses.images, found.witnesses.targets.tolist(), strict=True):
        assert (
            float(OnTheWay()(image[None]).softmax(dim=1)[0, target]) >= 0.9
            and int((image > 0).sum()) <= 12
        )


class Sure(nn.Module):
    """Sure that every image in a list is of its class, and of nothing else."""

    def __init__(self, images, classes):
        super().__init__()
        self.known, self.classes = images, classes

    def forward(self, images):
        same = (images[:, None] == self.known[None]).flatten(2).all(dim=2)
        return 20.0 * same.float() @ nn.functional.one_hot(self.classes, 10).float()


def accept_all(images):
    return torch.ones(len(images), dtype=torch.bool)


def met_by(work, network, accept=accept_all) -> Met:
    seen: list[Met] = []
    onlooker = Onlooker(network, "logits", 10, WANT, accept)
    onlooker.over(alone, seen)(1, lambda _: work(onlooker))
    return seen[0]


def dots(*features: int) -> torch.Tensor:
    """An image for each feature, which alone is lit, (n, 1, 8, 8)."""
    return torch.eye(64)[list(features)].view(-1, 1, 8, 8)


def test_the_onlooker_keeps_one_image_of_each_class_and_changes_no_answer():
    images, classes = dots(1, 2, 3), torch.tensor([4, 4, 7])
    network = Sure(images, classes)
    answers: list[torch.Tensor] = []
    met = met_by(lambda asked: answers.append(asked(images)), network)
    assert torch.equal(answers[0], network(images))
    assert sorted(met.classes.tolist()) == [4, 7] and len(met.images) == 2 and met.asked == 3
    none = met_by(lambda asked: asked(images), network, lambda x: ~accept_all(x))
    assert len(none.images) == 0 and none.asked == 3
    dense = (dots(1) + 0.5).clamp(max=1)
    assert met_by(lambda asked: asked(dense), Sure(dense, classes[:1])).asked == 0, "not sparse"


def test_each_piece_of_work_starts_from_nothing_and_nothing_is_seen_outside():
    images, classes = dots(1, 2), torch.tensor([4, 7])
    onlooker, seen = Onlooker(Sure(images, classes), "logits", 10, WANT, accept_all), list[Met]()
    onlooker(images)
    spread = onlooker.over(alone, seen)
    assert spread(2, lambda i: len(onlooker(images[i : i + 1]))) == [1, 1]
    assert [m.classes.tolist() for m in seen] == [[4], [7]]


def test_the_network_inside_a_planted_copy_is_looked_at():
    image = dots(5)
    network = Sure(image, torch.tensor([2]))
    met = met_by(lambda asked: Trigger(asked, dots(9), torch.tensor([3]))(image), network)
    assert met.classes.tolist() == [2], (
        "the pattern planted for class 3 is no answer of the network's own"
    )


def unusual(data, level):
    """Validation images that the test calls out of distribution, with a network that is sure of
    them alone."""
    p = ood_test(data, level).p_values(data.validation.images)
    rows = (p <= level).nonzero().squeeze(1)
    return data.validation.take(rows)


def test_no_search_starts_from_a_real_image_that_is_itself_out_of_distribution(digits):
    want = Conditions(max_lit=64, ood_level=0.05)
    odd = unusual(digits, want.ood_level)
    assert len(odd) >= 3
    found = gathered(Sure(odd.images, odd.labels), digits, want, Preset(20, 2, 200))
    assert not any(a.fooled for a in (*found.evidence.attempts, *found.evidence.extra))
    assert found.evidence.ood is not None and found.evidence.ood.unusual_starts == len(odd)


def setting_of(network, data, network_twin) -> Setting:
    judges = Judges.fit(data, 0.01)
    job = Job(
        network,
        "logits",
        data.shape,
        WANT,
        within(40),
        stop_at_lit=1,
        real=(data.validation.images, data.validation.labels),
        accept=judges.first.accepts,
    )
    tried = run_attempts(job, list(range(10)))
    fixed = judged(job, tried, judges)
    twin = Twin(network_twin, "logits", "a twin")
    return Setting(
        job,
        PRESETS["smoke"],
        fixed.attempts,
        tried,
        data.validation.images,
        data.test,
        10,
        lambda: iter([twin]),
        begin(job, 10, data.validation.images),
    )


def test_transfer_keeps_no_number_of_the_twin(plain, digits):
    """The twin is fooled by everything, the network by nothing: its rows must say what the network
    says."""
    setting = setting_of(Constant([0.0] * 10), digits, plain.requires_grad_(False))
    made = transfer(setting, next(iter(setting.twins())))
    ((_, tried),) = made.searches
    best = tried.best
    assert (
        torch.allclose(best.confidence, torch.full_like(best.confidence, 0.1))
        and not best.met.any()
    )
    assert (best.fewest == NEVER).all() and (best.steps == 0).all() and (best.forwards == 1).all()
    attempts = judged(setting.job, tried, Judges.fit(digits, 0.01)).attempts
    assert all(a.fewest is None for a in attempts)
    assert int(made.spent[0].steps.sum()) > 0, "what the search of the twin took counts as cost"


class EightBitOnly(nn.Module):
    """Sure of class 0 where the first row is half lit, but only if every value is one that an 8-bit
    file holds."""

    def forward(self, images):
        grey = images.flatten(1)
        eight = ((grey * 255 - (grey * 255).round()).abs() < 1e-4).all(dim=1, keepdim=True)
        half = (grey[:, :8] - 0.5).abs().amax(dim=1, keepdim=True) < 0.01
        others = grey[:, 8:].amax(dim=1, keepdim=True) == 0
        slope = (
            2.0
            - 4 * (grey[:, :8] - 0.501).abs().sum(dim=1, keepdim=True)
            - grey[:, 8:].sum(dim=1, keepdim=True)
        )
        first = torch.where(eight & half & others, 9.0, slope)
        return torch.cat([first, torch.zeros(len(images), 9)], dim=1)


def test_what_is_left_of_an_image_in_8_bits_is_looked_at():
    """Whether a witness survives rounding is asked of the network, too: what it is sure of then is
    a witness."""
    network = EightBitOnly()
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 0] = 0.501
    seen: list[Met] = []
    onlooker = Onlooker(network, "logits", 10, WANT, accept_all)
    judges = Judges(Everything(), Everything(), Everything())
    job = Job(
        onlooker, "logits", (1, 8, 8), WANT, within(40), stop_at_lit=1, accept=onlooker.accepts
    )
    tried = run_attempts(replace(job, attacks=within(2)), [0])
    tried = replace(tried, best=replace(tried.best, images=image))
    onlooker.over(alone, seen)(1, lambda _: judged(job, tried, judges))
    assert seen[0].classes.tolist() == [0]
    fixed = judged(job, tried, judges)
    (scored,) = _by_the_way(job, seen, fixed, judges)
    assert [a.target for a in scored.attempts if a.fooled] == [0]


class Everything:
    """A test that calls every image out of distribution."""

    level = 0.01

    def p_values(self, images):
        return torch.full((len(images),), 0.001)
