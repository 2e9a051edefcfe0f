"""Objectives, selection and measures of hardening: arithmetic with known answers."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from blankcheck.hardening import harmonic, objective_named
from blankcheck.hardening.history import plateau, takes_over
from blankcheck.hardening.measures import FoolingSet, quantiles, set_record
from blankcheck.hardening.objectives import (
    confidence_margin_loss,
    fake_classes,
    max_entropy,
    reject_class,
)
from blankcheck.hardening.replay import keep_largest
from blankcheck.hardening.shaking import NUMBERS, random_shakes, shaken
from blankcheck.judging import calibration_error


def test_objectives_known_answers():
    flat, targets = torch.zeros(2, 4), torch.tensor([0, 1])
    assert_close(max_entropy(flat, targets, 4), torch.zeros(2))
    sure = torch.tensor([[20.0, 0, 0, 0]])
    assert_close(
        max_entropy(sure, targets[:1], 4),
        torch.tensor([15.0]) - torch.tensor(4.0).log(),
        atol=1e-4,
        rtol=0,
    )
    assert_close(fake_classes(torch.eye(4)[[2, 3]] * 50, targets, 2), torch.zeros(2))
    assert_close(reject_class(torch.eye(3)[[2, 2]] * 50, targets, 2), torch.zeros(2))
    assert [
        objective_named(n).outputs(10) for n in ("max-entropy", "reject-class", "fake-classes")
    ] == [10, 11, 20]


def test_confidence_margin_loss_known_answer():
    """At the log-odds wanted and one more the loss is log 2; far above it vanishes, far below it is
    linear."""
    logits, labels = (
        torch.tensor([[3.0, 0.0], [60.0, 0.0], [-40.0, 0.0]]),
        torch.zeros(3, dtype=torch.int64),
    )
    assert_close(
        confidence_margin_loss(logits, labels, 2.0),
        torch.tensor([2.0, 1.0, 1.0]).log() + torch.tensor([0, 0, 43.0]),
    )


def test_harmonic_mean_known_answers():
    assert harmonic(1, [1]) == 1 and harmonic(0.5, [1]) == pytest.approx(2 / 3)
    assert harmonic(1, [0.5, 1]) == pytest.approx(2 / (1 + 1.5))
    assert harmonic(0, [1]) == harmonic(1, [0]) == harmonic(1, [1, 0, 1]) == 0
    assert harmonic(0.7, []) == 0.7


def test_selection_and_plateau():
    assert takes_over(0.95, 0.95, 0) and takes_over(0.93, 0.95, 0) and not takes_over(0.2, 0.9, 0)
    assert takes_over(0.5, 0.9, surer=0.02) and not takes_over(0.4, 0.9, surer=0.02), (
        "half the score is enough, not less"
    )
    assert not takes_over(1.0, 0.2, surer=-0.02), "timid"
    assert takes_over(0.1, 0.9, -0.5, proved=1) and not takes_over(1.0, 0.1, 0.5, proved=-1), (
        "a proof comes first"
    )
    assert plateau([0.5, 0.9, 0.8, 0.9], 2) and not plateau([0.5, 0.9, 0.8, 0.91], 2)
    assert not plateau([0.9, 0.1], 2) and not plateau([0.9] * 9, None)


def test_keep_largest():
    image = torch.tensor([[0.1, 0.5], [0.3, 0.9]]).view(1, 1, 2, 2)
    assert keep_largest(image, torch.tensor([2])).flatten().tolist() == pytest.approx(
        [0, 0.5, 0, 0.9]
    )
    assert torch.equal(keep_largest(image, torch.tensor([4])), image)


def test_calibration_error_known_answers():
    assert calibration_error([0.95] * 4, [1, 1, 1, 0]) == pytest.approx(0.2)
    assert calibration_error([0.95, 0.55], [1, 0]) == pytest.approx((0.05 + 0.55) / 2)
    assert calibration_error([1.0], [1]) == 0 and calibration_error([], []) == 0


def test_quantiles_known_answers():
    assert quantiles(torch.tensor([0.0, 1, 2, 3, 4])) == {
        "mean": 2,
        "q10": pytest.approx(0.4),
        "q50": 2,
        "q90": pytest.approx(3.6),
    }
    assert quantiles(torch.zeros(0)) is None


class Says(torch.nn.Module):
    """Answers what is written in the first pixels of an image."""

    def forward(self, images):
        return 20 * images.flatten(1)[:, :3]


def test_what_a_set_says_of_a_network():
    """Four images under two real classes and a reject class: sure of 0 and counted; sure of 1 and
    like real data; rejected; undecided."""
    images = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0.5, 0.5, 0, 0]]).view(
        4, 1, 2, 2
    )
    shown = FoolingSet(images, torch.tensor([0, 1, 0, 1]), torch.tensor([True, False, True, True]))
    said = set_record(Says(), shown, objective_named("reject-class"), 2, 0.9)
    assert said["images"] == 4 and said["confident"] == 0.5 and said["fooled"] == 0.25
    assert said["non_real"] == said["right_fake"] == 0.25
    assert said["handled"] == 0.5, "the one that does not count, and the rejected one"
    assert said["per_class"]["0"]["confidence"] == pytest.approx(0.5, abs=1e-4)
    flat = set_record(Says(), shown, objective_named("max-entropy"), 3, 0.9)
    assert flat["handled"] == 0.5, "the one that does not count, and the undecided one"
    assert "right_fake" not in flat


def test_shaken_images_are_moved_as_asked_and_half_of_them_not_at_all():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(400, 3, 28, 28, generator=generator)
    shakes = random_shakes(400, generator)
    other = shaken(images, shakes)
    same = (other == images).flatten(1).all(dim=1)
    assert (same == (shakes[:, -1] < 0)).all() and 150 < int(same.sum()) < 250
    assert float(other.min()) >= 0 and float(other.max()) <= 1
    right, down = torch.zeros(2, 1, NUMBERS)
    right[0, 4], down[0, 5] = 1, 1
    assert_close(shaken(images[:1], right)[..., :-1], images[:1, ..., 1:], atol=1e-4, rtol=0)
    assert_close(shaken(images[:1], down)[..., :-1, :], images[:1, :, 1:], atol=1e-4, rtol=0)
    assert_close(shaken(images[:1], 0 * down), images[:1], atol=1e-4, rtol=0)
    alone = torch.cat([shaken(images[i : i + 1], shakes[i : i + 1]) for i in range(20)])
    assert torch.equal(alone, other[:20]), "an image does not depend on its batch"
