"""Images with their labels, and how some are held out of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.copies import cut_together, first_copies
from blankcheck.data.lazy import LazyImages
from blankcheck.types import Images, images_at_once, in_pieces

SPLIT_SEED = 20240229
"""Of a data set, not of a run: every run must agree which images were never trained on."""
SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Names of splits, in any case."""


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Args:
        images: (n, c, h, w) float32 in [0, 1], a tensor or, beyond memory, `LazyImages`.
        labels: (n,) int64.
    """

    images: Images
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def take(self, index: Tensor) -> Split:
        """The images and labels at the given positions; lazy images stay so."""
        images = self.images
        some = images.take(index) if isinstance(images, LazyImages) else images[index]
        return Split(some, self.labels[index])

    def loaded(self) -> Tensor:
        """All images as one tensor, (n, c, h, w). Of a large set ask only a sample for it."""
        return self.images if isinstance(self.images, Tensor) else self.images[:]

    def sample(self, n: int, seed: int) -> Split:
        """At most `n` images, drawn without replacement."""
        return self.take(random_order(len(self), seed)[:n])

    def at_most(self, numbers: int, seed: int = SPLIT_SEED) -> Split:
        """This split, or a sample where it has more than so many images x features; one or more."""
        n = max(1, numbers // math.prod(self.images.shape[1:]))
        return self if n >= len(self) else self.sample(n, seed)


def fingerprint(splits: Sequence[Split]) -> str:
    """Sixteen hex digits that change when any image or label changes."""
    digest = hashlib.sha256()
    for split in splits:
        for piece in in_pieces(split.images, images_at_once(split.images.shape[1:])):
            digest.update(piece.contiguous().flatten().view(torch.uint8).numpy().data)
        digest.update(split.labels.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def random_order(n: int, seed: int) -> Tensor:
    """The positions 0..n-1 in an order at random, the same for a seed, (n,) int64."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def hold_out(split: Split, fraction: float, salt: int = 0) -> tuple[Split, Split]:
    """(rest, held out), at random but always the same; copies of an image are on the same side."""
    order = random_order(len(split), SPLIT_SEED + 2 + salt)
    held, rest = cut(split, order, max(1, round(len(split) * fraction)))
    return rest, held


def three_parts(
    train: Split, validation: Split | None = None, test: Split | None = None
) -> tuple[Split, Split, Split]:
    """Train, validation and test, of which a tenth of all images each is held out where they are
    not given."""
    whole = test is None
    if test is None:
        train, test = hold_out(train, 0.1)
    if validation is None:
        train, validation = hold_out(train, 1 / 9 if whole else 0.1, salt=int(whole))
    return train, validation, test


def cut(split: Split, order: Tensor, border: int) -> tuple[Split, Split]:
    """The first `border` of an order, and the rest; copies on one side if no class is lost."""

    def classes(positions: Tensor) -> set[int]:
        return set(split.labels[positions].tolist())

    plain = [order[:border], order[border:]]
    together = cut_together(order, first_copies(split.images), [border])
    kept = all(classes(b) >= classes(a) for a, b in zip(plain, together, strict=True))
    first, second = together if kept else plain
    return split.take(first), split.take(second)
