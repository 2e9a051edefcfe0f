"""A data set: train, validation and test, and the two disjoint halves A and B of train."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from blankcheck.errors import DataError

SPLIT_SEED = 20240229
"""Splits belong to a data set, not to a run: every run must agree which images were never trained on."""


@dataclass(frozen=True)
class Split:
    """images: (n, c, h, w) float32 in [0, 1]. labels: (n,) int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Tensor) -> Split:
        """The images and labels at the given positions."""
        return Split(self.images[index], self.labels[index])

    def sample(self, n: int, seed: int) -> Split:
        """At most `n` images, drawn without replacement."""
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.take(order[:n])


@dataclass(frozen=True)
class Data:
    """Real images of `len(classes)` classes. `source` is the text that loads the same data again."""

    source: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split

    def __post_init__(self) -> None:
        shapes = {tuple(s.images.shape[1:]) for s in (self.train, self.validation, self.test)}
        if len(shapes) != 1:
            raise DataError(f"data {self.source!r}: all splits must have one image shape, got {sorted(shapes)}")
        for name in ("train", "validation", "test"):
            _check(f"data {self.source!r}: {name}", getattr(self, name), len(self.classes))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        c, h, w = self.train.images.shape[1:]
        return int(c), int(h), int(w)

    @cached_property
    def halves(self) -> tuple[Split, Split]:
        """Two disjoint random halves A and B of the training images."""
        order = torch.randperm(len(self.train), generator=torch.Generator().manual_seed(SPLIT_SEED + 1))
        middle = len(order) // 2
        return self.train.take(order[:middle]), self.train.take(order[middle:])

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change when any image or label changes."""
        digest = hashlib.sha256()
        for split in (self.train, self.validation, self.test):
            for tensor in (split.images, split.labels):
                digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over the training images."""
        images = self.train.images
        mean, std = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3)).clamp_min(1e-3)
        return tuple(mean.tolist()), tuple(std.tolist())


def _check(what: str, split: Split, classes: int) -> None:
    images, labels = split.images, split.labels
    if images.ndim != 4 or len(images) == 0:
        raise DataError(f"{what} images must be (n, c, h, w) with n >= 1, got {tuple(images.shape)}")
    if len(images) != len(labels):
        raise DataError(f"{what} has {len(images)} images but {len(labels)} labels")
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):
        raise DataError(f"{what} images must lie in [0, 1], got [{low:.3g}, {high:.3g}]")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise DataError(f"{what} labels must lie in 0..{classes - 1}, got {int(labels.min())}..{int(labels.max())}")


def hold_out(split: Split, fraction: float, salt: int = 0) -> tuple[Split, Split]:
    """Split into (rest, held out) at random, always the same way."""
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(SPLIT_SEED + 2 + salt))
    n = max(1, round(len(split) * fraction))
    return split.take(order[n:]), split.take(order[:n])
