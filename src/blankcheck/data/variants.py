"""Variants of a data set, named behind its own name: `mnist+lift=0.2`, `folder:DIR+size=224`.

Digits on black ground are sparse themselves, so that a fooling image has real relatives. Lifted
images have no black left: every sparse image is then surely out of distribution, while lit features
are still counted against 0. Photographs in a folder have many sizes; a network takes one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from torch import Tensor

from blankcheck.data.lazy import LazyImages
from blankcheck.data.splits import Data, Split
from blankcheck.errors import DataError

LIFT = 0.3
SUFFIX = re.compile(r"^(?P<source>.*)\+(?P<name>lift|size)(?:=(?P<value>[^+=/\\]*))?$", re.DOTALL)
MOST_SIDE = 8192


@dataclass(frozen=True)
class Crop:
    """Of an image whose shorter side is made `of`, the `side` x `side` square in the middle."""

    side: int
    of: int

    def __str__(self) -> str:
        return f"{self.side}" if self.side == self.of else f"{self.side},{self.of}"


@dataclass(frozen=True)
class Variants:
    """lift: by how much every feature is raised. crop: what is cut out. None: as it is."""

    lift: float | None = None
    crop: Crop | None = None


def split_variants(source: str) -> tuple[str, Variants]:
    """The name of the data set itself, and what stands behind it; DataError where no variant is."""
    plain, found = source, Variants()
    while (suffix := SUFFIX.match(plain)) is not None:
        name, value = suffix["name"], suffix["value"]
        if (found.lift if name == "lift" else found.crop) is not None:
            raise DataError(f"data {source!r}: {name} must be given once")
        if name == "lift":
            found = replace(found, lift=_lift(source, value))
        else:
            found = replace(found, crop=_crop(source, value))
        plain = suffix["source"]
    return plain, found


def _lift(source: str, text: str | None) -> float:
    try:
        by = LIFT if text is None else float(text)
    except ValueError as error:
        words = f"data {source!r}: lift must be a number above 0 and below 1, got {text!r}"
        raise DataError(words) from error
    if not 0 < by < 1:  # also refuses NaN
        raise DataError(f"data {source!r}: lift must be above 0 and below 1, got {text}")
    return by


def _crop(source: str, text: str | None) -> Crop:
    sides = re.fullmatch(r"(\d{1,4})(?:,(\d{1,4}))?", text or "", re.ASCII)
    side, of = (int(sides[1]), int(sides[2] or sides[1])) if sides is not None else (0, 0)
    if not 1 <= side <= of <= MOST_SIDE:
        words = f"size must be N or N,M with 1 <= N <= M <= {MOST_SIDE}, as in"
        example = "+size=224 or +size=224,256"
        raise DataError(f"data {source!r}: {words} {example}, got {text or 'nothing'}")
    return Crop(side, of)


def lifted(data: Data, by: float = LIFT) -> Data:
    """Every feature raised: x' = min(x + by, 1). DataError unless 0 < by < 1."""
    if not 0 < by < 1:
        raise DataError(f"lift must be above 0 and below 1, got {by}")

    def raised(images: Tensor) -> Tensor:
        return (images + by).clamp_max(1.0)

    def of(split: Split) -> Split:
        images = split.images
        lifted = images.changed(raised) if isinstance(images, LazyImages) else raised(images[:])
        return Split(lifted, split.labels)

    train, validation, test = (of(split) for split in (data.train, data.validation, data.test))
    name = f"{data.source}+lift={by:g}"
    return replace(data, source=name, train=train, validation=validation, test=test)
