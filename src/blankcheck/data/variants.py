"""Variants of a data set, named behind its own name: `mnist+resize=32+channels=3`, `digits+lift`,
`folder:DIR+size=224`.

Networks are asked about images of another size, or in colour, than a data set has. Photographs have
many sizes; a network takes one. Digits on black ground are sparse themselves, so that a fooling
image has real relatives. Lifted images have no black left: every sparse image is then surely out of
distribution, while lit features are still counted against 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.data.lazy import LazyImages
from blankcheck.data.split import Split
from blankcheck.errors import DataError

if TYPE_CHECKING:
    from blankcheck.data.splits import Data

LIFT = 0.3
MOST_SIDE = 8192
LUMA = (0.299, 0.587, 0.114)
"""Of red, green and blue in grey, as in ITU-R BT.601 and Pillow."""
SIDES = (28, 32, 64, 96, 128, 224, 256, 299, 384, 16, 8, 48, 160, 512)
"""Of images, the usual ones first, that a network is offered which refuses others."""
Change = Callable[[Tensor], Tensor]
"""From images (n, c, h, w) in [0, 1] to others."""


@dataclass(frozen=True)
class Crop:
    """Of an image whose shorter side is made `of`, the `side` x `side` square in the middle."""

    side: int
    of: int

    def __str__(self) -> str:
        return f"{self.side}" if self.side == self.of else f"{self.side},{self.of}"


@dataclass(frozen=True)
class Variants:
    """crop: what is cut out of each picture. resize: (height, width). channels: 1 or 3. lift: by
    how much every feature is raised. None: as it is."""

    size: Crop | None = None
    resize: tuple[int, int] | None = None
    channels: int | None = None
    lift: float | None = None

    def applied(self, data: Data) -> Data:
        """The data so changed, size apart, and named after it."""
        if self.resize is not None:
            h, w = self.resize
            said = f"+resize={h}" if h == w else f"+resize={h},{w}"
            data = changed(data, partial(resized, size=self.resize), said)
        if self.channels is not None:
            to = partial(in_channels, channels=self.channels)
            data = changed(data, to, f"+channels={self.channels}")
        return data if self.lift is None else lifted(data, self.lift)


def split_variants(source: str) -> tuple[str, Variants]:
    """The name of the data set itself, and what stands behind it; DataError where no variant is."""
    plain, found = source, Variants()
    while (suffix := SUFFIX.match(plain)) is not None:
        name = suffix["name"]
        if getattr(found, name) is not None:
            raise DataError(f"data {source!r}: {name} must be given once")
        found = replace(found, **{name: READ[name](source, suffix["value"])})
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


def _resize(source: str, text: str | None) -> tuple[int, int]:
    sides = re.fullmatch(r"(\d{1,4})(?:,(\d{1,4}))?", text or "", re.ASCII)
    h, w = (int(sides[1]), int(sides[2] or sides[1])) if sides is not None else (0, 0)
    if not (1 <= h <= MOST_SIDE and 1 <= w <= MOST_SIDE):
        words = f"resize must be N or HEIGHT,WIDTH in 1..{MOST_SIDE}, as in +resize=32"
        raise DataError(f"data {source!r}: {words}, got {text or 'nothing'}")
    return h, w


def _channels(source: str, text: str | None) -> int:
    if text not in ("1", "3"):
        words = "channels must be 1 (grey) or 3 (colour), as in +channels=3"
        raise DataError(f"data {source!r}: {words}, got {text or 'nothing'}")
    return int(text)


READ: dict[str, Callable[[str, str | None], Any]] = {
    "lift": _lift,
    "size": _crop,
    "resize": _resize,
    "channels": _channels,
}
"""From the text behind a variant's name to its value; DataError that names the source."""
NAMES = "|".join(READ)
SUFFIX = re.compile(rf"^(?P<source>.*)\+(?P<name>{NAMES})(?:=(?P<value>[^+=/\\]*))?$", re.DOTALL)


def changed(data: Data, change: Change, name: str) -> Data:
    """The data with every image changed, and `name` behind its own. Lazy images stay so."""

    def of(split: Split) -> Split:
        images = split.images
        if isinstance(images, LazyImages):
            c, h, w = change(torch.zeros(1, *images.size)).shape[1:]
            return Split(images.changed(change, (c, h, w)), split.labels)
        return Split(change(images[:]), split.labels)

    train, validation, test = (of(split) for split in (data.train, data.validation, data.test))
    name = f"{data.source}{name}"
    return replace(data, source=name, train=train, validation=validation, test=test)


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, and averaged over the source where it is made smaller."""
    # rounding may leave the box by a hair
    return F.interpolate(images, size, mode="bilinear", antialias=True).clamp(0, 1)


def in_channels(images: Tensor, channels: int) -> Tensor:
    """Grey as red, green and blue, or these (of four, the first three) as grey."""
    if images.shape[1] == channels:
        return images
    if channels == 3 and images.shape[1] == 1:
        return images.expand(-1, 3, -1, -1).contiguous()
    if images.shape[1] not in (3, 4):
        words = f"cannot be made {channels}"
        raise DataError(f"images of {images.shape[1]} channels {words}: they are no grey or colour")
    if channels == 3:
        return images[:, :3].contiguous()
    luma = images.new_tensor(LUMA).view(1, 3, 1, 1)
    return (images[:, :3] * luma).sum(dim=1, keepdim=True).clamp(0, 1)


def lifted(data: Data, by: float = LIFT) -> Data:
    """Every feature raised: x' = min(x + by, 1). DataError unless 0 < by < 1."""
    if not 0 < by < 1:
        raise DataError(f"lift must be above 0 and below 1, got {by}")
    return changed(data, lambda images: (images + by).clamp_max(1.0), f"+lift={by:g}")


def variant_for(images: Tensor, takes: Callable[[Tensor], bool]) -> str:
    """What behind the name of a data set gives images that somebody takes who refuses its own, as
    `+resize=32+channels=3`; empty where nothing usual does."""
    for change in _likely(*images.shape[1:]):
        made = images
        if change.resize is not None:
            made = resized(made, change.resize)
        if change.channels is not None:
            made = in_channels(made, change.channels)
        if takes(made):
            size = "" if change.resize is None else f"+resize={change.resize[0]}"
            return f"{size}{'' if change.channels is None else f'+channels={change.channels}'}"
    return ""


def _likely(c: int, h: int, w: int) -> Iterator[Variants]:
    """One change before two, and the nearest sizes first."""
    other = {1: 3, 3: 1, 4: 3}.get(c)
    sides = sorted((s for s in SIDES if (s, s) != (h, w)), key=lambda side: abs(side - max(h, w)))
    if other is not None:
        yield Variants(channels=other)
    for channels in (None, *([] if other is None else [other])):
        for side in sides:
            yield Variants(resize=(side, side), channels=channels)
