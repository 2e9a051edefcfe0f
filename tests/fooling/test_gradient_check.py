"""Gradients against finite differences: ties are no lies, and lies at ties are found."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from blankcheck.fooling import Problem
from blankcheck.fooling.gradient_check import contradicted

N, SHAPE = 12, (1, 12, 12)


class Bent(nn.Module):
    """Another gradient, `factor` times the true one, where at least half of the image is black."""

    def __init__(self, inner, factor):
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x):
        seen = x.detach()
        sparse = ((seen == 0).flatten(1).float().mean(dim=1) >= 0.5).view(-1, 1, 1, 1)
        return self.inner(torch.where(sparse, seen + self.factor * (x - seen), x))


@pytest.fixture(scope="module")
def pooled():
    """Wherever an image is dark all outputs of a window are equal: a tie each."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = nn.Conv2d(1, 8, 5, padding=2), nn.Conv2d(8, 8, 3, padding=1)
        layers = [first, nn.MaxPool2d(3), nn.ReLU(), second, nn.MaxPool2d(2), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(32, 3)).requires_grad_(False)


@pytest.fixture(scope="module")
def images():
    """Black, and with one to three lit features."""
    flat = torch.zeros(N, 144)
    for row in range(N):
        flat[row, torch.randperm(144, generator=torch.Generator().manual_seed(row))[: row // 3]] = 1
    return flat.view(N, *SHAPE)


def wrong(network, images):
    asked = Problem(network, "logits", torch.arange(len(images)) % 3)
    return contradicted(asked, images, asked.measure(images))


def test_the_gradient_at_a_tie_is_one_of_several(pooled, images):
    asked = Problem(pooled, "logits", torch.arange(N) % 3)
    gradient, beside = asked.measure(images).gradient, torch.rand(images.shape) * 1e-4
    other = asked.measure((images + beside).clamp(0, 1)).gradient
    apart = (gradient - other).flatten(1).norm(dim=1) / other.flatten(1).norm(dim=1)
    assert apart.min() > 0.3, "so there are ties"
    assert not wrong(pooled, images).any()


@pytest.mark.parametrize("factor", (-1.0, 20.0))
def test_a_lie_at_a_tie_is_one(pooled, images, factor):
    assert wrong(Bent(pooled, factor), images).float().mean() > 0.8


def test_a_step_that_promises_nothing_contradicts_nothing(pooled, images):
    assert not wrong(Bent(pooled, 0.0), images).any()
