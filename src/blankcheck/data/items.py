"""Datasets of torch, torchvision, Hugging Face or one's own, whose items are images with labels."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from blankcheck.data.arrays import as_array, as_labels, named, to_unit
from blankcheck.data.lazy import LazyImages, bytes_of, check_range, like_bytes
from blankcheck.data.loaders import OfLoader, has_positions, kept_labels, single
from blankcheck.data.pillow import GREY, decoded, stacked
from blankcheck.data.split import SPLITS, Split, three_parts
from blankcheck.data.variants import Crop
from blankcheck.errors import DataError
from blankcheck.text import one_line
from blankcheck.types import Images
from blankcheck.users import calling

KEYS = {
    "image": ("image", "img", "pixel_values", "x"),
    "label": ("label", "labels", "fine_label", "target", "y"),
}
"""What the columns of tables are called."""
LOOKED_AT = 32
"""Items, evenly spread, that are read before all others."""
AGAIN = 8
"""Of these, that are read twice."""


@dataclass(frozen=True)
class Columns:
    """Of items that are tables: the names of the columns; None takes one of the usual names. crop:
    what is cut out of each picture."""

    image: str | None = None
    label: str | None = None
    crop: Crop | None = None


# who calls it has taken all of these from its user
def split_datasets(
    source: str,
    train: Any,
    validation: Any,
    test: Any,
    columns: Columns,
    class_names: Any,
    most: int,
) -> tuple[tuple[str, ...], Split, Split, Split, tuple[str, ...]]:
    """What a `Data` is made of behind its name.

    Args:
        source: what error messages call it.
        train: a dataset, or datasets by the names of their splits.
        validation: a dataset or None, and so is `test`.
        columns: how items are read.
        class_names: None takes those of the datasets.
        most: bytes of images, as float32, above which they are read when they are asked for.

    Raises:
        DataError: with one line.
    """
    datasets, notes = [train, validation, test], tuple[str, ...]()
    if isinstance(train, Mapping):
        datasets, notes = _parts(source, train)
    if datasets[0] is None:
        raise DataError(f"data {source!r} must have images to train on, got None")
    sets = [None if each is None else _items(source, each, columns, most) for each in datasets]
    given = [each for each in sets if each is not None]
    lazy = sum(bytes_of((len(each), *each.size)) for each in given) > most
    images = [None if each is None else each.images(lazy) for each in sets]  # and labels with them
    words = sorted({name for each in given for name in each.words})
    if class_names is None:
        class_names = given[0].class_names or words or None
    if words:
        words = list(map(str, class_names))
    first, *others = (
        None if each is None or its is None else Split(its, each.targets(words))
        for each, its in zip(sets, images, strict=True)
    )
    assert first is not None, "it was given"
    return *named(source, class_names, *three_parts(first, *others)), notes


def _parts(source: str, datasets: Mapping[str, Any]) -> tuple[list[Any], tuple[str, ...]]:
    """Train, validation and test of datasets by name, None for one that is not there; and what its
    user should know. Where there is no test, validation is it."""
    pairs = [(part, name) for part, names in SPLITS.items() for name in datasets if name in names]
    found, notes = dict(pairs), tuple[str, ...]()
    if "train" not in found:
        words = f"must have a split named train, got {', '.join(map(str, datasets)) or 'none'}"
        raise DataError(f"data {source!r} {one_line(words)}")
    if "test" not in found and "validation" in found:
        found["test"] = name = found.pop("validation")
        notes = (f"the images of {name} are the test images: there are no others",)
    return [datasets[found[part]] if part in found else None for part in SPLITS], notes


def _items(source: str, dataset: Any, columns: Columns, most: int) -> Items:
    origin, inner = dataset, getattr(dataset, "dataset", None)
    if isinstance(dataset, DataLoader) and not isinstance(inner, IterableDataset):
        dataset = OfLoader(dataset)
    elif not has_positions(dataset):
        dataset = list(_in_turn(source, dataset, columns, most))
    with calling(f"data {source!r}: its length cannot be had:", DataError):
        n = len(dataset)
    if n == 0:
        raise DataError(f"data {source!r} holds no images")
    items = Items(source, dataset, columns, origin)
    items.check()
    return items


def _in_turn(source: str, dataset: Any, columns: Columns, most: int) -> Iterator[Any]:
    """The items of what can only be gone through from its beginning to its end."""
    if not hasattr(dataset, "__iter__") or isinstance(dataset, str | Tensor | np.ndarray):
        words = "must be a dataset of (image, label), got"
        raise DataError(f"data {source!r} {words} {type(dataset).__name__}")
    at_most = None
    with calling(f"data {source!r}: reading its items raised", DataError):
        for count, item in enumerate(single(dataset)):
            if at_most is None:
                at_most = most // bytes_of(Items(source, [item], columns, dataset).size)
            if count >= at_most:
                can = "that can only be read in turn must fit into memory"
                large = f"images {can}, {most / 2**30:.3g} GiB as float32"
                raise DataError(f"data {source!r}: {large}; give a dataset with positions")
            yield item


@dataclass(frozen=True)
class Items:
    """A dataset with positions, made of `origin`, which may have none. Reading an item is the
    user's code, which may do anything."""

    source: str
    dataset: Any
    columns: Columns
    origin: Any
    seen: dict[int, Any] = field(default_factory=dict)
    """Labels of the items that were read, none of which is read again for it."""

    def __len__(self) -> int:
        return len(self.dataset)

    def images(self, lazy: bool) -> Images:
        """All images, in memory or read when asked for."""
        images = LazyImages(self.read, self.size, torch.arange(len(self)), self.source)
        return images if lazy else images[:]

    def targets(self, words: Sequence[str]) -> Tensor:
        """The labels, (n,) int64. words: the names of classes where labels are text."""
        labels = self.labels
        if words:
            place = {word: k for k, word in enumerate(words)}
            if unknown := self.words - place.keys():
                names = f"labels must be names of class_names, got {min(unknown)!r}"
                raise DataError(f"data {self.source!r}: {one_line(names)}")
            labels = np.asarray([place[str(label)] for label in labels])
        return as_labels(f"data {self.source!r}: labels", labels)

    def read(self, positions: Tensor) -> Tensor:
        """The images at these positions, (k, c, h, w)."""
        arrays = [self._image(position) for position in positions.tolist()]
        sizes = {array.shape for array in arrays}
        if len(sizes) > 1:
            some = " and ".join(map(str, sorted(sizes)[:2]))
            words = f"all images must have one size, got {some}"
            advice = "size=N (on the command line +size=N) brings pictures to one"
            raise DataError(f"data {self.source!r}: {words}; {advice}")
        return to_unit(self.source, stacked(arrays), axis=3 if self._pictures else None)

    def check(self) -> None:
        """DataError where the first items are no images in [0, 1] or differ from call to call."""
        some = self._spread(LOOKED_AT)
        images = self.read(some)
        try:
            check_range(f"data {self.source!r}: float images", images)
        except DataError as error:
            says = "; a Normalize in its transform belongs into load_model(normalize=...)"
            raise DataError(f"{error}{'' if like_bytes(images) else says}") from error
        if not torch.equal(images[:AGAIN], self.read(some[:AGAIN])):
            words = "gives another image when it is asked again"
            raise DataError(f"data {self.source!r} {words}: leave random transforms out of it")

    @cached_property
    def size(self) -> tuple[int, int, int]:
        """(c, h, w)."""
        c, h, w = self.read(torch.zeros(1, dtype=torch.int64)).shape[1:]
        return int(c), int(h), int(w)

    @cached_property
    def labels(self) -> Any:
        """One for each item, as they are; from where the dataset keeps them, if these are they."""
        kept = kept_labels(self.dataset, self._column("label"))
        if kept is not None and len(kept) == len(self):
            some = self._spread(LOOKED_AT).tolist()
            read = as_array(self.source, "labels", [self._label(i) for i in some])
            if np.array_equal(kept[some], read):
                return kept
        return as_array(self.source, "labels", [self._label(i) for i in range(len(self))])

    @property
    def words(self) -> set[str]:
        """The labels where these are text, else nothing."""
        return set(map(str, self.labels)) if self.labels.dtype.kind in "UT" else set()

    @property
    def class_names(self) -> Sequence[str] | None:
        """As the dataset says them."""
        inner = self.origin
        while isinstance(inner, DataLoader | Subset):
            inner = inner.dataset
        features = getattr(inner, "features", None)
        if isinstance(features, Mapping):
            return getattr(features.get(self._column("label")), "names", None)
        names = getattr(inner, "classes", None)
        return list(map(str, names)) if isinstance(names, list | tuple) else None

    def _spread(self, n: int) -> Tensor:
        return torch.linspace(0, len(self) - 1, min(n, len(self))).long()

    def _item(self, position: int) -> Any:
        with calling(f"data {self.source!r}: reading item {position} raised", DataError):
            return self.dataset[position]

    def _column(self, what: str) -> str | None:
        item = self._first
        if not isinstance(item, Mapping):
            return None
        wanted = getattr(self.columns, what)
        named = (wanted,) if wanted is not None else KEYS[what]
        for name in named:
            if name in item:
                return str(name)
        have = ", ".join(map(str, item))
        words = f"items have {one_line(have)}, and no {' or '.join(named[:2])}"
        raise DataError(f"data {self.source!r}: {words}; say which one {what}= is")

    @cached_property
    def _first(self) -> Any:
        return self._item(0)

    def _label(self, position: int) -> Any:
        if position not in self.seen:
            self._value(position)
        return self.seen[position]

    def _value(self, position: int) -> Any:
        """The image of an item, as it is; its label is remembered."""
        item = self._item(position)
        names = self._column("image"), self._column("label")
        if names[0] is not None:
            with calling(f"data {self.source!r}: item {position} has no", DataError):
                image, label = (item[name] for name in names)
        elif isinstance(item, tuple | list) and len(item) >= 2:
            image, label = item[0], item[1]
        else:
            got = f"{type(item).__name__} at position {position}"
            raise DataError(f"data {self.source!r}: items must be (image, label), got {got}")
        self.seen[position] = label
        return image

    def _picture(self, position: int) -> Any:
        """The image at a position, decoded by Pillow where it is a file's bytes."""
        value = self._value(position)
        raw = value.get("bytes") if isinstance(value, Mapping) else value
        if not isinstance(raw, bytes):
            return value
        from PIL import Image

        with calling(f"data {self.source!r}: image {position} cannot be read:", DataError):
            return Image.open(io.BytesIO(raw))

    @cached_property
    def _pictures(self) -> bool:
        """Whether images are pictures of Pillow."""
        return hasattr(self._picture(0), "convert")

    @cached_property
    def _grey(self) -> bool:
        """Whether all pictures that are looked at are grey; else all are read as colour."""
        return all(self._picture(i).mode in GREY for i in self._spread(LOOKED_AT).tolist())

    def _image(self, position: int) -> NDArray[Any]:
        value = self._picture(position)
        if not self._pictures:
            return np.asarray(as_array(self.source, "images", value))
        what = f"data {self.source!r}: image {position}"
        with calling(f"{what} cannot be read:", DataError):
            return decoded(value, what, self.columns.crop, self._grey)
