"""Folders of images, one per class: decoded all at once or, beyond memory, when asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blankcheck.data.arrays import as_unit_images, to_unit
from blankcheck.data.lazy import LazyImages, bytes_of
from blankcheck.data.splits import Data, Split, hold_out
from blankcheck.data.variants import Crop
from blankcheck.errors import DataError
from blankcheck.text import one_line

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_ENDINGS = {".png", ".bmp", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
GREY = ("1", "L", "I;16")
"""Modes of files that are read as one channel; all others as red, green and blue."""


def from_folder(source: str, folder: Path, crop: Crop | None, most: int) -> Data:
    """`folder/CLASS/...`, of which a tenth each is held out to validate and to test, or
    `folder/train/CLASS/...` and `folder/test/CLASS/...`. Images that would take more than `most`
    bytes as float32 are decoded when they are asked for.

    Raises DataError with one line that names the file where an image cannot be read, or has another
    size than the others and there is no crop.
    """
    if not folder.is_dir():
        raise DataError(f"data folder {folder} does not exist")
    parts = [folder / "train", folder / "test"]
    if not all(part.is_dir() for part in parts):
        parts = [folder]
    below = (p for p in parts[0].iterdir() if p.is_dir())
    classes = sorted(p.name for p in below if not p.name.startswith("."))
    if not classes:
        words = "must hold one folder per class, found no folder in it"
        raise DataError(f"data folder {parts[0]} {words}")
    files = [ImageFiles.of(source, part, classes, crop) for part in parts]
    if crop is not None:
        grey = all(each.all_grey() for each in files)
        files = [replace(each, grey=grey) for each in files]
    lazy = sum(bytes_of((len(each), *each.first_size())) for each in files) > most
    splits = [each.lazy() if lazy else each.loaded() for each in files]
    train, test = splits if len(splits) == 2 else hold_out(splits[0], 0.1)
    rest, validation = hold_out(train, 1 / 9, salt=1)
    return Data(source, tuple(classes), rest, validation, test)


@dataclass(frozen=True)
class ImageFiles:
    """The image files under one folder, class by class.

    Args:
        source: what error messages call them.
        classes: the class folders.
        names: paths below the class folder.
        labels: (n,) int64.
        crop: what is cut out of each image, None for all of it.
        grey: one channel for all, three for all, or None for as many as each file has.
    """

    source: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    labels: Tensor
    crop: Crop | None
    grey: bool | None = None

    @classmethod
    def of(cls, source: str, folder: Path, classes: Sequence[str], crop: Crop | None) -> ImageFiles:
        """All of them; DataError when there is none."""
        folders = tuple(str(folder / name) for name in classes)
        # texts, not paths: a million of them are to fit into memory
        found = [_image_names(each) for each in folders]
        names = tuple(name for each in found for name in each)
        if not names:
            raise DataError(f"data {source!r}: no image found under {folder}")
        counts = torch.tensor([len(each) for each in found])
        labels = torch.arange(len(classes)).repeat_interleave(counts)
        return cls(source, folders, names, labels, crop)

    def __len__(self) -> int:
        return len(self.names)

    def all_grey(self) -> bool:
        """Whether the first image of every class is grey."""
        counts = self.labels.bincount()
        first = (counts.cumsum(0) - counts)[counts > 0]
        return all(self._header(position)[2] == 1 for position in first.tolist())

    def first_size(self) -> tuple[int, int, int]:
        """(c, h, w) of the first image."""
        h, w, c = self._header(0)
        side = self.crop.side if self.crop is not None else None
        return 1 if self.grey else 3 if self.grey is not None else c, side or h, side or w

    def loaded(self) -> Split:
        """All images, in memory."""
        images = [self._decoded(position) for position in range(len(self))]
        self._check_sizes({(*image.shape, 1)[:3] for image in images})
        return Split(as_unit_images(self.source, np.stack(images)), self.labels)

    def lazy(self) -> Split:
        """All images, decoded when asked for; without a crop all headers are read for the size."""
        if self.crop is None:
            self._check_sizes({self._header(position) for position in range(len(self))})
        every = torch.arange(len(self))
        return Split(LazyImages(self.read, self.first_size(), every, self.source), self.labels)

    def read(self, positions: Tensor) -> Tensor:
        """The images at these positions, (k, c, h, w), decoded in as many threads as torch uses."""
        with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
            images = list(pool.map(self._decoded, positions.tolist()))
        self._check_sizes({image.shape for image in images})
        return to_unit(self.source, np.stack(images))

    def _check_sizes(self, sizes: set[tuple[int, ...]]) -> None:
        if len(sizes) != 1:
            words = f"all images must have one size and mode, got {sorted(sizes)[:4]}"
            advice = "+size=N behind the name brings them to one"
            raise DataError(f"data {self.source!r}: {words}; {advice}")

    def _path(self, position: int) -> Path:
        return Path(self.classes[int(self.labels[position])], self.names[position])

    def _header(self, position: int) -> tuple[int, int, int]:
        """(h, w, c) as the file says."""
        with _opened(self._path(position)) as image:
            return image.height, image.width, 1 if image.mode in GREY else 3

    def _decoded(self, position: int) -> NDArray[np.uint8]:
        """(h, w) or (h, w, 3)."""
        with _opened(self._path(position)) as image:
            grey = image.mode in GREY if self.grey is None else self.grey
            whole = image.convert("L" if grey else "RGB")
            return np.asarray(whole if self.crop is None else cropped(whole, self.crop))


def cropped(image: Image, crop: Crop) -> Image:
    """The square in the middle whose side is `crop.side` when the image's shorter side is made
    `crop.of`: bilinear, and averaged over the source where it is made smaller."""
    from PIL.Image import Resampling

    side = min(image.size) * crop.side / crop.of
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((crop.side, crop.side), Resampling.BILINEAR, box=box)


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """The file as a picture, whose pixels are decoded in the block."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # decoders raise whatever a broken file makes them stumble over
        raise DataError(f"image {path} cannot be read: {one_line(error)}") from error


def _image_names(folder: str) -> list[str]:
    """Paths of the image files below a folder, relative to it, in the order of their parts."""
    found = []
    for place, _, names in os.walk(folder):
        images = (name for name in names if Path(name).suffix.lower() in IMAGE_ENDINGS)
        found += [f"{place}{os.sep}{name}"[len(folder) + 1 :] for name in images]
    return sorted(found, key=lambda name: Path(name).parts)
