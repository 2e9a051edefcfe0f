"""Structured images: within the limit, the same in every batch, of every kind; and the rule that
looks at them."""

from __future__ import annotations

import pytest
import torch

from blankcheck.classifiers.structures import bars, blocks, box, grey_dots, lit
from blankcheck.fooling import Goal, Problem, StructuredSearch, Structures, search
from blankcheck.fooling.counter_rng import uniform
from blankcheck.fooling.structured.drawing import GENES, structured
from blankcheck.testing.structured import STRUCTURES, one_channel
from blankcheck.types import count_lit, stored

SIZES = [((1, 8, 8), 12), ((1, 28, 28), 300), ((3, 9, 12), 30), ((1, 8, 8), 1)]


@pytest.mark.parametrize(("shape", "max_lit"), SIZES)
def test_images_are_sparse_and_in_stored_form(shape, max_lit):
    every = Structures(400, shape, max_lit, seed=3)
    images = every[:]
    assert images.shape == every.shape and len(every) > 800
    assert count_lit(images).max() <= max_lit and torch.equal(images, stored(images))
    few = len(every) - 400
    assert len(images[few:].flatten(1).unique(dim=0)) > (300 if max_lit > 1 else 40)


def test_an_image_does_not_depend_on_its_batch():
    genes, shape = uniform(torch.arange(60), 0, GENES), (3, 13, 11)
    together = structured(genes, shape, 40)
    apart = [structured(each[None], shape, 40) for each in genes]
    assert torch.equal(together, torch.cat(apart))
    every, other = (Structures(30, shape, 40, seed) for seed in (1, 2))
    some = torch.tensor([len(every) - 3, 5, 700])
    assert torch.equal(every[some], every[:][some])
    assert torch.equal(every[len(every) - 3], every[some[:1]])
    assert torch.equal(every[:99], other[:99]) and not torch.equal(every[-9:], other[-9:])


@pytest.mark.parametrize(("shape", "max_lit"), [((1, 8, 8), 12), ((1, 28, 28), 35)])
def test_every_kind_that_deceivers_are_sure_of_is_met(shape, max_lit):
    """Told by code that knows nothing of how they are drawn."""
    images = Structures(3000, shape, max_lit, seed=0)[:]
    met = {name: int(looks(images).sum()) for name, looks in STRUCTURES.items()}
    assert min(met.values()) >= 10, met


def test_colours_are_met():
    images = Structures(500, (3, 8, 8), 12, seed=0)[:]
    assert one_channel(images).sum() >= 50
    channels = (images[-500:] > 0).any(dim=(2, 3)).sum(dim=1)
    assert set(channels.tolist()) >= {1, 2, 3}


def sure_of(looks, steepness=20.0):
    def classifier(images):
        score = steepness * looks(images).to(images.dtype)
        return torch.stack([score, torch.full_like(score, 10.0)], dim=1)

    return classifier


@pytest.mark.parametrize("looks", [bars, blocks, grey_dots], ids=lambda looks: looks.__name__)
def test_the_rule_finds_what_no_gradient_leads_to(looks):
    problem = Problem(sure_of(looks), "logits", torch.zeros(8, dtype=torch.int64))
    start, goal = torch.zeros(8, 1, 8, 8), Goal(max_lit=12)
    found = search(problem, start, StructuredSearch(12), goal, steps=40)
    assert found.met.all() and looks(found.images).all()
    assert (found.steps == 0).all() and (found.forwards <= 120).all()
    again = search(problem, start, StructuredSearch(12), goal, steps=40)
    assert torch.equal(found.images, again.images)
    part = search(problem.rows(torch.arange(3)), start[:3], StructuredSearch(12), goal, 40)
    assert torch.equal(found.images[:3], part.images)


def test_the_rule_climbs_where_answers_change_little_by_little():
    """Towards one block of one grey, which no draw hits."""

    def near(images):
        sides = torch.stack(box(lit(images)), dim=1)
        apart = (sides - torch.tensor([3, 8, 5, 7])).abs().sum(dim=1)
        grey = (images.flatten(1).amax(dim=1) - 0.37).abs()
        return blocks(images) * (1 - apart / 40 - grey).clamp_min(0)

    problem = Problem(sure_of(near), "logits", torch.zeros(8, dtype=torch.int64))
    start, goal = torch.zeros(8, 1, 28, 28), Goal(confidence=0.9999, max_lit=60)
    climbs = search(problem, start, StructuredSearch(60), goal, steps=60)
    draws = search(problem, start, StructuredSearch(60, kept=0, near=0), goal, steps=60)
    assert near(climbs.images).mean() > near(draws.images).mean() + 0.03
