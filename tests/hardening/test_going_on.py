"""What a hardening goes on with, and what it leaves as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import blankcheck as bc
from blankcheck.classifiers.trial import check_trainable, frozen_words
from blankcheck.data import Split
from blankcheck.errors import ModelError, RunFolderError
from blankcheck.runs.folder import RunFolder

OPTIONS = {
    "epochs": 1,
    "rounds": 1,
    "buffer": 32,
    "fresh_attempts": 2,
    "fresh_steps": 4,
    "stop_rate": 0,
}


@pytest.fixture(scope="module")
def begun(digits, tmp_path_factory):
    """A run folder with the state of a hardening."""
    run = RunFolder.create(tmp_path_factory.mktemp("begun"))
    bc.harden("mlp", digits, run=run, **OPTIONS)
    return run


def other(split: Split, change) -> Split:
    images, labels = split.images.clone(), split.labels.clone()
    change(images, labels)
    return Split(images, labels)


CHANGES = {
    "a pixel": ("train", lambda x, y: x[3, 0, 2, 2].fill_(0.123)),
    "a label": ("train", lambda x, y: y[5].fill_((y[5] + 1) % 10)),
    "a validation image": ("validation", lambda x, y: x[0].fill_(0.5)),
    "a test label": ("test", lambda x, y: y[0].fill_((y[0] + 1) % 10)),
    "the order": ("train", lambda x, y: x.copy_(x.flip(0))),
}


@pytest.mark.parametrize(("part", "change"), CHANGES.values(), ids=list(CHANGES))
def test_other_images_are_not_gone_on_with_under_the_same_name(digits, begun, part, change):
    data = replace(digits, **{part: other(getattr(digits, part), change)})
    assert data.source == digits.source
    with pytest.raises(RunFolderError, match="begun on other images or labels"):
        bc.harden("mlp", data, run=begun, resume=True, **OPTIONS)


def test_the_same_images_are_gone_on_with_under_another_name(digits, begun):
    moved = replace(digits, source="npz:/elsewhere/digits.npz")
    assert len(bc.harden("mlp", moved, run=begun, resume=True, **OPTIONS).rounds) == 1


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


@pytest.mark.parametrize("frozen", [("1.weight",), ("1.weight", "1.bias"), ("3.bias",)])
def test_frozen_layers_stay_frozen(digits, frozen):
    model = network()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for name in frozen:
        model.get_parameter(name).requires_grad_(False)
    hardened = bc.harden(model, digits, **OPTIONS).model.network
    after = dict(hardened.named_parameters())
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == set(frozen)
    assert {name for name, p in after.items() if not p.requires_grad} == set(frozen)
    assert "are frozen and stay so" in frozen_words(hardened)


@pytest.mark.parametrize("make", [lambda: network().requires_grad_(False), nn.Flatten])
def test_there_has_to_be_something_to_train(make):
    with pytest.raises(ModelError, match="model cannot be trained"):
        check_trainable(make())
    assert not frozen_words(network())
