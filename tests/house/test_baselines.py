"""What benchmarks/hardening.py compares with and how it says it, on cases whose answer is known."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import blankcheck as bc

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
baselines = importlib.import_module("baselines")
table = importlib.import_module("hardening_table")


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def linear() -> nn.Module:
    """Three classes of 6x5 images, without a batch norm or anything else that knows its mode."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 3))


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_is_smooth_and_reaches_from_black_to_white(channels):
    real = torch.rand(7, channels, 8, 6, generator=drawn(1))
    noise = baselines.noise_images(real, drawn())
    assert noise.shape == real.shape
    assert_close(noise.amin(dim=(1, 2, 3)), torch.zeros(7))
    assert_close(noise.amax(dim=(1, 2, 3)), torch.ones(7))
    assert float(noise.diff(dim=3).abs().mean()) < 0.5 * float(real.diff(dim=3).abs().mean())


def test_black_images_stay_finite():
    noise = baselines.noise_images(torch.zeros(4, 1, 8, 8), drawn())
    assert bool(noise.isfinite().all()) and bool((noise[2:] == 0).all())


def test_a_filter_keeps_what_is_constant_and_widens_a_point():
    width = torch.full((2, 1, 1, 1), 1.0)
    images = torch.zeros(2, 1, 19, 19)
    images[0] = 0.3
    images[1, 0, 9, 9] = 1.0
    flat, point = baselines.smoothed(images, width)
    assert_close(flat, images[0])
    assert_close(point[0, 9, 10] / point[0, 9, 9], torch.tensor(math.exp(-0.5)))


def test_the_image_searched_stays_near_the_noise_and_is_surer(linear):
    noise = baselines.noise_images(torch.rand(8, 1, 6, 5, generator=drawn(1)), drawn())
    found = baselines.most_confident(linear, noise, 0.3, 40, drawn(2))
    assert float((found - noise).abs().max()) <= 0.3 + 1e-6
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    before, after = (baselines.log_confidence(linear(x)) for x in (noise, found))
    assert bool((after > before).all())
    assert linear.training and all(p.requires_grad and p.grad is None for p in linear.parameters())


def test_the_outlier_loss_is_least_and_flat_at_the_uniform_answer():
    logits = torch.full((4, 10), 2.0, requires_grad=True)
    loss = baselines.from_uniform(logits)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert_close(loss.detach(), torch.tensor(math.log(10)))
    assert_close(gradient, torch.zeros(4, 10))
    assert float(baselines.from_uniform(torch.randn(4, 10, generator=drawn()))) > math.log(10)


def test_acet_lowers_the_confidence_in_noise(digits):
    plain, trained = (
        baselines.acet(digits, "mlp", 0, epochs=2, weight=w, steps=2) for w in (0.0, 1.0)
    )
    noise = baselines.noise_images(digits.test.images, drawn())
    with torch.no_grad():
        before, after = (float(baselines.log_confidence(m(noise)).mean()) for m in (plain, trained))
    assert not trained.training
    assert after < before


def test_outliers_must_have_the_shape_of_the_data(digits):
    with pytest.raises(bc.ArgumentError, match="no outliers"):
        baselines.outlier_exposure(digits, "mlp", 0, epochs=1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([3, 1, 2], "2 (1-3)"),
        ([99.164], "99.16"),
        ([0.0, 0.0, 0.0], "0 (0-0)"),
        ([0.0004, 100], "50 (0.0004-100)"),
        ([None, 34, 38], "36 (34-38), none on 1 of 3"),
        ([None, None], "none"),
        (["FOOLED", "RESISTED", "FOOLED"], "FOOLED on 2 of 3, RESISTED on 1 of 3"),
        (["FOOLED", "FOOLED"], "FOOLED"),
        ([], "-"),
    ],
)
def test_a_spread_says_median_least_and_most(values, said):
    assert table.spread(values) == said


def test_tables_of_nothing_say_so(tmp_path):
    assert "No finished cells" in table.tables(tmp_path)
