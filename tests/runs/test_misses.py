"""The file of the nearest misses: what is written is read, and what is not as it must be is one
clear line."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import attempt
from safetensors.torch import load, save

from blankcheck.auditing.witnesses import Misses, Scored, misses, nearest_real
from blankcheck.errors import RunFolderError
from blankcheck.runs.misses import pack_misses, unpack_misses
from blankcheck.types import Conditions, stored

WANT = Conditions(max_lit=12)
ATTEMPTS = (
    attempt(target=0, lit=3, confidence=0.5, p=0.004),
    attempt(target=0, lit=3, confidence=0.8, p=0.004),
    attempt(True, 3, 0.95, 0.004, target=1),
    attempt(target=1, lit=3, confidence=0.2, p=0.004),
    attempt(target=2, lit=3, confidence=0.95, p=0.7),
)
SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def made(digits) -> Misses:
    images = stored(digits.test.images[: len(ATTEMPTS)])
    return misses(Scored(ATTEMPTS, images, 0, False), WANT, digits)


def test_misses_are_the_closest_images_beside_real_ones(made, digits):
    assert made.targets.tolist() == [0, 2] and made.attempt.tolist() == [1, 4]
    assert torch.equal(made.images, stored(digits.test.images[[1, 4]]))
    assert torch.equal(made.nearest, nearest_real(made.images, digits))


def test_what_is_packed_is_unpacked(made, digits):
    again = unpack_misses(pack_misses(made), "m", ATTEMPTS, SHAPE)
    for name, value in vars(made).items():
        assert torch.equal(getattr(again, name), value)
    fooled = tuple(replace(a, fooled=True) for a in ATTEMPTS)
    images = stored(digits.test.images[: len(ATTEMPTS)])
    none = misses(Scored(fooled, images, 0, False), WANT, digits)
    assert unpack_misses(pack_misses(none), "m", fooled, SHAPE).images.shape == (0, *SHAPE)
    assert pack_misses(none) == pack_misses(none)


FORGED = {
    "no nearest": (lambda t: t.pop("nearest"), "m lacks nearest"),
    "more": (lambda t: t.update(more=torch.zeros(2)), "m holds an unknown tensor 'more'"),
    "a column of witnesses": (lambda t: t.update(lit=torch.zeros(2)), "unknown tensor 'lit'"),
    "flat": (lambda t: t.update(images=t["images"][0, 0]), "images must be (n, channels"),
    "double": (lambda t: t.update(images=t["images"].double()), "images must be float32"),
    "bright": (lambda t: t.update(images=t["images"] + 1), "images: values outside [0, 1]"),
    "NaN": (lambda t: t.update(nearest=t["nearest"] * torch.nan), "nearest: values outside"),
    "not stored": (
        lambda t: t.update(images=t["images"].clamp_min(0.001)),
        "images must be in stored form",
    ),
    "short": (lambda t: t.update(attempt=t["attempt"][:1]), "attempt must be int64 (2,)"),
    "real index": (lambda t: t.update(attempt=t["attempt"].float()), "attempt must be int64"),
    "below 0": (lambda t: t.update(attempt=t["attempt"] - 9), "attempt: values outside [0, inf]"),
    "beyond": (lambda t: t.update(attempt=t["attempt"] + 9), "miss 0 is of attempt 10 of 5"),
    "a target": (
        lambda t: t.update(targets=t["targets"] + 1),
        "miss 0 is of class 1, its attempt 1 of class 0",
    ),
    "fooled": (
        lambda t: t.update(attempt=torch.tensor([2, 4]), targets=torch.tensor([1, 2])),
        "miss 0 is of attempt 2, which fooled",
    ),
    "twice": (
        lambda t: t.update(attempt=torch.tensor([0, 1]), targets=torch.tensor([0, 0])),
        "class 0 has two misses",
    ),
    "wide": (
        lambda t: t.update({k: t[k].repeat(1, 1, 1, 2) for k in ("images", "nearest")}),
        "images have shape (1, 8, 16), those of witnesses (1, 8, 8)",
    ),
}


@pytest.mark.parametrize("case", FORGED)
def test_what_no_audit_writes_is_refused(made, case):
    change, words = FORGED[case]
    tensors = load(pack_misses(made))
    change(tensors)
    with pytest.raises(RunFolderError) as caught:
        unpack_misses(save({k: v.contiguous() for k, v in tensors.items()}), "m", ATTEMPTS, SHAPE)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_tensor_file_is_refused():
    with pytest.raises(RunFolderError, match="m is not a readable"):
        unpack_misses(b"\x08" * 20, "m", ATTEMPTS, SHAPE)
