"""Shifts and mirrored images in training, and the network for CIFAR-10 that they are for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import yaml

import blankcheck as bc
from blankcheck.classifiers import TrainingPlan, build, evaluate, train_plainly
from blankcheck.classifiers.training import MOST_SHIFT, moved, random_moves
from blankcheck.cli.main import main

RECIPE = Path(__file__).parents[2] / "benchmarks" / "cifar.yaml"
STILL = [MOST_SHIFT, MOST_SHIFT, 0]


def ramp(n=1, c=2, h=6, w=7):
    return torch.arange(n * c * h * w, dtype=torch.float32).view(n, c, h, w)


def test_known_moves():
    image = ramp()
    assert torch.equal(moved(image, torch.tensor([STILL])), image)
    assert torch.equal(moved(image, torch.tensor([[MOST_SHIFT, MOST_SHIFT, 1]])), image.flip(3))
    down = moved(image, torch.tensor([[MOST_SHIFT - 1, MOST_SHIFT, 0]]))
    assert torch.equal(down[:, :, 1:], image[:, :, :-1]) and torch.equal(
        down[:, :, 0], image[:, :, 1]
    )
    left = moved(image, torch.tensor([[MOST_SHIFT, 2 * MOST_SHIFT, 0]]))
    assert torch.equal(left[..., :-MOST_SHIFT], image[..., MOST_SHIFT:])


def test_each_image_has_its_own_move():
    images, moves = ramp(5), random_moves(5, torch.Generator().manual_seed(0))
    together = moved(images, moves)
    for i in range(5):
        assert torch.equal(together[i : i + 1], moved(images[i : i + 1], moves[i : i + 1]))


def test_every_move_is_drawn():
    moves = random_moves(20_000, torch.Generator().manual_seed(0))
    assert all(torch.equal(moves[:, i].unique(), torch.arange(2 * MOST_SHIFT + 1)) for i in (0, 1))
    assert (
        moves[:, 2].unique().tolist() == [0, 1]
        and abs(float(moves[:, 2].float().mean()) - 0.5) < 0.02
    )


@pytest.mark.parametrize("shape", [(1, 1), (2, 9)])
def test_small_images_are_shifted_by_less(shape):
    image = ramp(1, 1, *shape)
    for corner in (0, 2 * MOST_SHIFT):
        out = moved(image, torch.tensor([[corner, corner, 0]]))
        assert out.shape == image.shape and set(out.flatten().tolist()) <= set(
            image.flatten().tolist()
        )


def test_training_with_moves_repeats_and_differs_from_without(digits):
    def trained(augment):
        network = build("mlp", digits.shape, 10, seed=0)
        train_plainly(network, digits.train, TrainingPlan(2, augment=augment), seed=0)
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    assert torch.equal(trained(True), trained(True))
    assert not torch.equal(trained(True), trained(False))


def test_resnet18_has_the_published_size():
    network = build("resnet18", (3, 32, 32), 10)
    assert sum(p.numel() for p in network.parameters()) == 11_173_962
    assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_recipe_is_a_configuration_of_train(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--config", str(RECIPE), "--print_config"])
    said = yaml.safe_load(capsys.readouterr().out)
    assert said["model"] == "resnet18" and said["data"] == "cifar10" and said["augment"] is True


@pytest.mark.slow
@pytest.mark.skipif(
    "BLANKCHECK_DATA" not in os.environ, reason="needs the original files: set BLANKCHECK_DATA"
)
def test_the_recipe_shortened_learns():
    """2000 images, three epochs, on a CPU: nothing like its accuracy, but far from chance."""
    recipe, data = yaml.safe_load(RECIPE.read_text()), bc.load_data("cifar10")
    network = build(recipe["model"], data.shape, 10, data.mean_and_std(), 0)
    plan = TrainingPlan(3, recipe["batch"] // 8, recipe["lr"] / 4, augment=recipe["augment"])
    train_plainly(network, data.train.sample(2000, 0), plan, 0)
    assert evaluate(network, data.test.sample(500, 0), 10, 0.9).accuracy > 0.25
