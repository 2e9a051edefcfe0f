"""A data set: train, validation and test, and the two disjoint halves A and B of train."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from blankcheck.copies import cut_together, first_copies
from blankcheck.data.lazy import LazyImages, check_range
from blankcheck.errors import DataError
from blankcheck.text import one_line
from blankcheck.types import Images, images_at_once, in_pieces

SPLIT_SEED = 20240229
"""Of a data set, not of a run: every run must agree which images were never trained on."""
NAMED = 5
"""Classes that are named of those without images."""
LOOKED_AT, DIM = 50, 0.1
"""Images of which none has a feature as bright as this: most likely of another scale, 0 to 16 say.
"""
MEASURED_WHOLE, MEASURED = 150_000_000, 300_000_000
"""Images x features of the training images up to which mean and standard deviation are those of one
tensor, however they are kept; and of the sample, read piece by piece, that stands for more."""


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
        return self.take(_order(len(self), seed)[:n])

    def at_most(self, numbers: int, seed: int = SPLIT_SEED) -> Split:
        """This split, or a sample where it has more than so many images x features; one or more."""
        n = max(1, numbers // math.prod(self.images.shape[1:]))
        return self if n >= len(self) else self.sample(n, seed)


@dataclass(frozen=True)
class Data:
    """Real images.

    Args:
        source: the text that loads the same data again.
        classes: their names.
        train: images to train on.
        validation: images to choose by.
        test: images that are looked at once.
        notes: what was made of the source that its user should know, a line each.
    """

    source: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shapes = {tuple(s.images.shape[1:]) for s in (self.train, self.validation, self.test)}
        if len(shapes) != 1:
            words = f"all splits must have one image shape, got {sorted(shapes)}"
            raise DataError(f"data {self.source!r}: {words}")
        for name in ("train", "validation", "test"):
            _check(f"data {self.source!r}: {name}", getattr(self, name), len(self.classes))
        if len(self.targets) < 2:
            only = self.classes[self.targets[0]]
            words = f"must have images of at least 2 classes, got those of {only!r} alone"
            raise DataError(f"data {self.source!r} {words}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        c, h, w = self.train.images.shape[1:]
        return int(c), int(h), int(w)

    @cached_property
    def targets(self) -> tuple[int, ...]:
        """The classes of which there are images. Nobody asks for the others, since no network has
        learnt them."""
        splits = self.train, self.validation, self.test
        counts = torch.cat([split.labels for split in splits]).bincount()
        return tuple(counts.nonzero().squeeze(1).tolist())

    def news(self) -> list[str]:
        """`notes`, whether all images are nearly black, and which classes have no images."""
        some, said = self.train.sample(LOOKED_AT, 0).images, list(self.notes)
        brightest = float(some[torch.arange(len(some))].max())
        if brightest < DIM:
            words = (
                f"no feature of {len(some)} training images is above {255 * brightest:.3g} of 255"
            )
            said.append(f"{words}; where more was meant, scale the images")
        known = set(self.targets)
        empty = [name for k, name in enumerate(self.classes) if k not in known]
        if not empty:
            return said
        named = f"{', '.join(map(repr, empty[:NAMED]))}{', ...' * (len(empty) > NAMED)}"
        count = f"{len(empty)} of {len(self.classes)} classes have no images and are no targets"
        return [*said, one_line(f"{count}: {named}")]

    @cached_property
    def halves(self) -> tuple[Split, Split]:
        """Disjoint random halves A and B of the training images; copies of an image are in one."""
        order = _order(len(self.train), SPLIT_SEED + 1)
        return _cut(self.train, order, len(order) // 2)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change when any image or label does; reads all images."""
        return fingerprint([self.train, self.validation, self.test])

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Of each channel over the training images; where these are very many, over a sample."""
        return self._moments

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        shape = self.train.images.shape
        if math.prod(shape) <= MEASURED_WHOLE:
            images = self.train.loaded()
            mean, std = images.mean(dim=(0, 2, 3)), images.std(dim=(0, 2, 3))
        else:
            mean, std = _streamed_moments(self.train.at_most(MEASURED))
        return tuple(mean.tolist()), tuple(std.clamp_min(1e-3).tolist())


def fingerprint(splits: Sequence[Split]) -> str:
    """Sixteen hex digits that change when any image or label changes."""
    digest = hashlib.sha256()
    for split in splits:
        for piece in in_pieces(split.images, images_at_once(split.images.shape[1:])):
            digest.update(piece.contiguous().flatten().view(torch.uint8).numpy().data)
        digest.update(split.labels.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _streamed_moments(split: Split) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel, (c,) float64 each, in one pass."""
    n, c, h, w = split.images.shape
    total, squares = torch.zeros(c, dtype=torch.float64), torch.zeros(c, dtype=torch.float64)
    for piece in in_pieces(split.images, images_at_once((c, h, w))):
        # float32 is exact enough for means over one image; what adds up over many is float64
        total += piece.mean(dim=(2, 3)).double().sum(dim=0)
        squares += piece.square().mean(dim=(2, 3)).double().sum(dim=0)
    mean = total / n
    return mean, (squares / n - mean.square()).clamp_min(0).sqrt()


def _check(what: str, split: Split, classes: int) -> None:
    images, labels = split.images, split.labels
    if len(images.shape) != 4 or len(images) == 0:
        words = f"{what} images must be (n, c, h, w) with n >= 1, got {tuple(images.shape)}"
        raise DataError(words)
    if len(images) != len(labels):
        raise DataError(f"{what} has {len(images)} images but {len(labels)} labels")
    if labels.dtype != torch.int64 or labels.ndim != 1:
        words = f"must be (n,) int64, got {tuple(labels.shape)} {labels.dtype}"
        raise DataError(f"{what} labels {words}")
    if isinstance(images, Tensor):  # lazy images are looked at whenever some are read
        if images.dtype != torch.float32 or images.requires_grad or images.device.type != "cpu":
            grad = ", which requires gradients" * images.requires_grad
            words = f"must be float32 on the CPU, got {images.dtype} on {images.device}{grad}"
            raise DataError(f"{what} images {words}")
        check_range(f"{what} images", images)
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(f"{what} labels must lie in 0..{classes - 1}, got {low}..{high}")


def _order(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def hold_out(split: Split, fraction: float, salt: int = 0) -> tuple[Split, Split]:
    """(rest, held out), at random but always the same; copies of an image are on the same side."""
    order = _order(len(split), SPLIT_SEED + 2 + salt)
    held, rest = _cut(split, order, max(1, round(len(split) * fraction)))
    return rest, held


def _cut(split: Split, order: Tensor, border: int) -> tuple[Split, Split]:
    """The first `border` of an order, and the rest; copies on one side if no class is lost."""

    def classes(positions: Tensor) -> set[int]:
        return set(split.labels[positions].tolist())

    plain = [order[:border], order[border:]]
    together = cut_together(order, first_copies(split.images), [border])
    kept = all(classes(b) >= classes(a) for a, b in zip(plain, together, strict=True))
    first, second = together if kept else plain
    return split.take(first), split.take(second)
