"""Folders of images, one per class: decoded all at once or, beyond memory, when asked for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from blankcheck.data.arrays import to_unit
from blankcheck.data.lazy import LazyImages, bytes_of, check_range
from blankcheck.data.pillow import GREY, decoded, stacked
from blankcheck.data.split import SPLITS, Split, hold_out
from blankcheck.data.splits import Data
from blankcheck.data.variants import Crop
from blankcheck.errors import DataError
from blankcheck.text import one_line

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_ENDINGS = {".png", ".bmp", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}
HIDDEN = "hidden files and folders"


def from_folder(source: str, folder: Path, crop: Crop | None, most: int) -> Data:
    """`folder/CLASS/...`, of which a tenth each is held out to validate and to test, or
    `folder/train/CLASS/...`, `folder/test/CLASS/...` and perhaps `folder/val/CLASS/...`. Images
    that would take more than `most` bytes as float32 are decoded when they are asked for.

    Raises DataError with one line that names the file where an image cannot be read, or has another
    size than the others and there is no crop.
    """
    if not folder.is_dir():
        is_file = folder.exists() and "is a file, must be a folder"
        raise DataError(f"data folder {folder} {is_file or 'does not exist'}")
    skipped, notes = Skipped(), []
    below = _folders(folder, skipped)
    found, parts = {"whole": set(below)}, _splits(below)
    if parts:
        skipped.add("folders beside the splits", len(below) - len(parts))
        if "test" not in parts:
            parts["test"] = parts.pop("validation")
            notes.append(f"the images of {parts['test']} are the test images: there are no others")
        found = {part: set(_folders(path, skipped)) for part, path in parts.items()}
    parts = parts or {"whole": folder}
    first, *others = found
    classes = sorted(found[first])
    if not classes:
        words = "must hold one folder per class, found no folder in it"
        raise DataError(f"data folder {parts[first]} {words}")
    for part in others:
        if more := sorted(found[part] - found[first]):
            words = f"holds classes that {parts[first]} lacks: {', '.join(more[:5])}"
            raise DataError(f"data folder {parts[part]} {one_line(words)}")
    files = [ImageFiles.of(source, path, classes, crop, skipped) for path in parts.values()]
    if crop is not None:
        grey = all(each.all_grey() for each in files)
        files = [replace(each, grey=grey) for each in files]
    lazy = sum(bytes_of((len(each), *each.first_size())) for each in files) > most
    splits = [each.lazy() if lazy else each.loaded() for each in files]
    made = dict(zip(parts, splits, strict=True))
    whole = made.get("whole")
    train, test = (made["train"], made["test"]) if whole is None else hold_out(whole, 0.1)
    if (validation := made.get("validation")) is None:
        train, validation = hold_out(train, 1 / 9, salt=1)
    notes += skipped.words(folder)
    return Data(source, tuple(classes), train, validation, test, tuple(notes))


def _splits(below: dict[str, Path]) -> dict[str, Path]:
    """The folders of the splits, train first; nothing where the folders are classes, of which one
    may be called so. DataError where there are splits but not those that are needed."""
    parts = {
        part: below[name]
        for part, names in SPLITS.items()
        for name in sorted(below, reverse=True)
        if name.lower() in names
    }
    if not parts or (len(parts) == 1 and len(below) > 1):
        return {}
    if "train" not in parts or len(parts) < 2:
        have = " and ".join(str(path) for path in parts.values())
        if "train" not in parts:
            raise DataError(f"data folder has {have}, but no train")
        way = f"name {have} itself to hold a part of it out"
        raise DataError(f"data folder has {have}, but no test; {way}")
    return parts


class Skipped(Counter[str]):
    """What was found in a folder and not read, by kind."""

    def add(self, kind: str, count: int = 1) -> None:
        """So many more of a kind."""
        self[kind] += count

    def words(self, folder: Path) -> list[str]:
        """One line, or none."""
        said = ", ".join(f"{count} {kind}" for kind, count in sorted(self.items()) if count)
        return [one_line(f"{folder}: not read: {said}")] if said else []


def _folders(folder: Path, skipped: Skipped) -> dict[str, Path]:
    """The folders in a folder by name, in order; what else lies beside them is skipped."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            skipped.add(HIDDEN)
        elif path.is_dir():
            found[path.name] = path
        else:
            skipped.add("files beside the folders")
    return found


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
    def of(
        cls, source: str, folder: Path, classes: Sequence[str], crop: Crop | None, skipped: Skipped
    ) -> ImageFiles:
        """All of them; DataError when there is none."""
        folders = tuple(str(folder / name) for name in classes)
        # texts, not paths: a million of them are to fit into memory
        found = [_image_names(each, skipped) for each in folders]
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
        self._check_sizes({image.shape for image in images})
        unit = to_unit(self.source, stacked(images), axis=3)
        check_range(f"data {self.source!r}: float images", unit)
        return Split(unit, self.labels)

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
        return to_unit(self.source, stacked(images), axis=3)

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

    def _decoded(self, position: int) -> NDArray[Any]:
        """(h, w, 1) or (h, w, 3): bytes, or floats of what has more than 8 bits."""
        path = self._path(position)
        with _opened(path) as image:
            return decoded(image, f"image {path}", self.crop, self.grey)


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """The file as a picture, whose pixels are decoded in the block."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            yield image
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever a broken file makes them stumble over
        raise DataError(f"image {path} cannot be read: {one_line(error)}") from error


def _image_names(folder: str, skipped: Skipped) -> list[str]:
    """Paths of the image files below a folder, relative to it, in the order of their parts."""
    found = []
    for place, inner, names in os.walk(folder):
        skipped.add(HIDDEN, sum(name.startswith(".") for name in (*inner, *names)))
        inner[:] = (name for name in inner if not name.startswith("."))
        shown = [name for name in names if not name.startswith(".")]
        images = [name for name in shown if Path(name).suffix.lower() in IMAGE_ENDINGS]
        for name in set(shown) - set(images):
            skipped.add(f"files with ending {Path(name).suffix or 'none'}")
        found += [f"{place}{os.sep}{name}"[len(folder) + 1 :] for name in images]
    return sorted(found, key=lambda name: Path(name).parts)
