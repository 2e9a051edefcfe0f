"""The twin of small data sets."""

from __future__ import annotations

import torch

from blankcheck.api.twins import MOST_WORK, get_twins
from blankcheck.api.twins import _plan as plan_of
from blankcheck.classifiers import TrainingPlan
from blankcheck.data import Data, Split


def squares(per_class: int, classes: int = 4) -> Data:
    """Each class lights a corner of its own, with a little noise."""
    labels = torch.arange(classes).repeat(per_class)
    noise = 0.2 * torch.rand(len(labels), 1, 6, 6, generator=torch.Generator().manual_seed(0))
    images = noise
    for row, label in enumerate(labels.tolist()):
        y, x = 3 * (label // 2), 3 * (label % 2)
        images[row, 0, y : y + 3, x : x + 3] += 0.7
    split = Split(images, labels)
    return Data("made", tuple("abcd"), split, split, split)


def test_a_small_half_is_not_limited_and_a_large_one_is():
    small = squares(30).halves[1]
    assert plan_of(small) == plan_of(small, None) == TrainingPlan.default(len(small))
    assert plan_of(small, len(small) * 36 * 5).epochs == 5, "five epochs of so much work"


def test_a_data_set_with_few_images_a_class_has_a_twin():
    """The half that a twin is trained on has about ten images of each class: no limit cuts it, and
    it is learnt."""
    data = squares(20)
    assert len(data.halves[1]) < 20 * len(data.classes) and len(data.halves[1]) * 36 < MOST_WORK
    twin = next(get_twins(lambda images: images.flatten(1)[:, :4], data, torch.device("cpu")))
    assert twin.what.startswith("a plain reference mlp")
