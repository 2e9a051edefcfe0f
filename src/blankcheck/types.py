"""The nouns every room shares: images, classifiers, the results of a search, the conditions."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from blankcheck.errors import ArgumentError

Classifier = Callable[[Tensor], Tensor]
"""Any callable from images (n, c, h, w) in [0, 1] to outputs (n, m), m >= number of real classes.
Which of logits, log-probabilities or probabilities the outputs are is found out by looking
(`outputs.output_form`)."""

Accept = Callable[[Tensor], Tensor]
"""From images (n, c, h, w) to booleans (n,): True where the image also meets a further condition,
say an OOD test."""

MOST_LIT = 1_000_000_000
"""Features that a limit may allow; no image has more."""


class Images(Protocol):
    """Real images (n, c, h, w) float32 in [0, 1]: a tensor, or a set too large for memory of which
    some are read at a time.

    An index (positions (k,), booleans (n,), a slice or one position) gives a tensor, which is all
    that may be asked of it.
    """

    @property
    def shape(self) -> torch.Size:
        """(n, c, h, w)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor | slice | int, /) -> Tensor: ...


NUMBERS_AT_ONCE = 10_000_000
"""Images x features that are read, or go through a network without gradients, at once: 66 images of
3x224x224. A network's layers hold many times as many numbers, and on the CPU a process that asks
for too much memory is killed."""


def images_at_once(shape: Sequence[int]) -> int:
    """How many images of a shape (c, h, w) are read, or go through a network without gradients."""
    return max(1, NUMBERS_AT_ONCE // math.prod(shape))


def in_pieces(images: Images, most: int) -> Iterator[Tensor]:
    """The images in their order, at most `most` at a time; of none, one empty piece."""
    for first in range(0, max(1, len(images)), most):
        yield images[first : first + most]


LIT_THRESHOLD = 1 / 512
"""A stored value below this is stored as exact 0: half a grey level of an 8-bit image."""


class Outcome(IntEnum):
    """Why the search of one image ended."""

    MET = 0
    """The wanted conditions hold for the image handed back."""
    OUT_OF_STEPS = 1
    """The budget was spent; the best image found is handed back.

    More steps or another start may help.
    """
    NOT_FINITE = 2
    """Outputs or gradients became NaN or infinite; the best image before that is handed back."""


def stored(images: Tensor) -> Tensor:
    """The form in which images are kept: in [0, 1], values below 1/512 exact zeros.

    Shape and dtype stay.
    """
    return images.clamp(0, 1) * (images >= LIT_THRESHOLD)


def count_lit(images: Tensor) -> Tensor:
    """Number of lit (non-zero) features of each stored image, (n, c, h, w) -> (n,) int64."""
    return (images.flatten(1) >= LIT_THRESHOLD).sum(dim=1)


def count_lit_pixels(images: Tensor) -> Tensor:
    """Number of positions at which any channel is lit, (n, c, h, w) -> (n,) int64."""
    return (images >= LIT_THRESHOLD).any(dim=1).flatten(1).sum(dim=1)


def default_max_lit(shape: Sequence[int]) -> int:
    """The default sparsity limit of images (c, h, w).

    300 features from 784 up, 12 for the 64 of `digits`, in proportion between.
    """
    features = math.prod(shape)
    if features <= 64:
        return max(1, round(12 * features / 64))
    return 300 if features >= 784 else round(12 + 288 * (features - 64) / 720)


@dataclass(frozen=True)
class Conditions:
    """What makes an image a fooling image of a target class.

    Args:
        confidence: least probability of the target, in (0, 1).
        max_lit: most lit features.
        ood_level: largest p-value of the out-of-distribution test, in (0, 1).
        unit: what `max_lit` counts.
    """

    confidence: float = 0.9
    max_lit: int = 300
    ood_level: float = 0.01
    unit: str = "features"

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1:
            raise ArgumentError(f"confidence must lie in (0, 1), got {self.confidence:g}")
        if self.max_lit < 1:
            raise ArgumentError(f"max_lit must be at least 1, got {self.max_lit}")
        if self.max_lit > MOST_LIT:
            raise ArgumentError(f"max_lit must be at most {MOST_LIT:,}, got {self.max_lit}")
        if not 0 < self.ood_level < 1:
            raise ArgumentError(f"ood_level must lie in (0, 1), got {self.ood_level:g}")


@dataclass(frozen=True)
class Rows:
    """A value whose tensors all have the batch first, so that "keep these rows" is one index."""

    def rows(self, index: Tensor) -> Self:
        """The same value for the given rows only."""
        changes: dict[str, Any] = {
            f.name: value[index] if isinstance(value := getattr(self, f.name), Tensor) else value
            for f in dataclasses.fields(self)
        }
        return dataclasses.replace(self, **changes)

    def where(self, mask: Tensor, other: Self) -> Self:
        """These rows where the mask (n,) is True, and those of `other` elsewhere."""
        changes: dict[str, Any] = {
            f.name: torch.where(mask.view(-1, *[1] * (mine.ndim - 1)), mine, getattr(other, f.name))
            for f in dataclasses.fields(self)
            if isinstance(mine := getattr(self, f.name), Tensor)
        }
        return dataclasses.replace(self, **changes)

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """Several values one after the other; what is no tensor is taken from the first."""
        first = parts[0]
        joined: dict[str, Any] = {
            f.name: torch.cat([getattr(part, f.name) for part in parts])
            for f in dataclasses.fields(first)
            if isinstance(getattr(first, f.name), Tensor)
        }
        return dataclasses.replace(first, **joined)


MOST_SHOWN = 10
"""Images in a row in a notebook."""
NEVER = 2**31
"""More lit features than any image has: stands for "no confident image was met"."""


@dataclass(frozen=True)
class Fooling(Rows):
    """What a search hands back, one row per image. Numbers belong to the images handed back.

    Args:
        images: (n, c, h, w) float32 in [0, 1], in stored form: values below 1/512 are exact zeros.
        targets: (n,) int64.
        confidence: (n,) probability of the target among all outputs.
        lit: (n,) int64, non-zero features.
        steps: (n,) int64, backward passes used.
        forwards: (n,) int64, forward passes used, polishing included.
        outcome: (n,) int64, values of `Outcome`.
        fewest: (n,) int64, fewest lit features of any confident image met on the way, whatever else
            it failed; `NEVER` where none was confident.
        found_at: (n,) int64, backward passes used when the image handed back was met.
    """

    images: Tensor
    targets: Tensor
    confidence: Tensor
    lit: Tensor
    steps: Tensor
    forwards: Tensor
    outcome: Tensor
    fewest: Tensor
    found_at: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @property
    def met(self) -> Tensor:
        """(n,) bool: the wanted conditions hold."""
        return self.outcome == Outcome.MET

    def __repr__(self) -> str:
        return f"Fooling({len(self)} images, {int(self.met.sum())} of them met the goal)"

    def _repr_html_(self) -> str:
        """In a notebook: the sparsest image of each class that met the goal, else the surest."""
        from blankcheck.pictures import headed, row

        met = int(self.met.sum())
        best = self.rows(self.met) if met else self
        order = best.lit if met else -best.confidence
        by_class = list[int]()
        for place in order.argsort(stable=True).tolist():
            if best.targets[place] not in best.targets[by_class]:
                by_class.append(place)
        by_class = sorted(by_class[:MOST_SHOWN], key=lambda place: int(best.targets[place]))
        numbers = zip(best.targets, best.confidence, best.lit, strict=True)
        words = [(f"class {t}", f"{p:.1%}", f"{lit} lit") for t, p, lit in numbers]
        said = f"of {len(self)} searches met the goal; the {'sparsest' if met else 'surest'}:"
        return headed(str(met), said, row((best.images[i], words[i]) for i in by_class))
