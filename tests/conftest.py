from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from blankcheck.classifiers import TrainingPlan, UnitClassifier, build, train_plainly
from blankcheck.classifiers.loading import save_model
from blankcheck.data import Data, load_data
from blankcheck.data.split import fingerprint

# one thread: the networks are tiny, and tests share the machine
torch.set_num_threads(1)
# a test that asks for too much memory gets an error of its own, and not the machine out of order
resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, resource.getrlimit(resource.RLIMIT_AS)[1]))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Twins trained by tests stay out of the user's cache."""
    os.environ["BLANKCHECK_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def digits() -> Data:
    return load_data("digits")


@pytest.fixture(scope="module", autouse=True)
def digits_as_they_were(digits: Data) -> Iterator[None]:
    """No test writes into the images that all share."""
    splits = digits.train, digits.validation, digits.test
    before = fingerprint(splits)
    yield
    assert fingerprint(splits) == before


@pytest.fixture(scope="session")
def plain(digits: Data) -> UnitClassifier:
    """A plainly trained mlp on digits."""
    network = build("mlp", digits.shape, 10, digits.mean_and_std(), seed=0)
    train_plainly(network, digits.train, TrainingPlan(30), seed=0)
    return network


@pytest.fixture(scope="session")
def weights(plain: UnitClassifier, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "plain.safetensors"
    save_model(plain, path)
    return path
