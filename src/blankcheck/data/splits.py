"""A data set: train, validation and test, and the two disjoint halves A and B of train; from
arrays, datasets and loaders."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from blankcheck.data.arrays import split_arrays
from blankcheck.data.items import Columns, split_datasets
from blankcheck.data.lazy import IN_MEMORY, check_range
from blankcheck.data.split import SPLIT_SEED, Split, cut, fingerprint, random_order
from blankcheck.data.variants import Crop, split_variants
from blankcheck.errors import ArgumentError, DataError
from blankcheck.text import one_line
from blankcheck.types import images_at_once, in_pieces

NAMED = 5
"""Classes that are named of those without images."""
LOOKED_AT, DIM = 50, 0.1
"""Images of which none has a feature as bright as this: most likely of another scale, 0 to 16 say.
"""
MEASURED_WHOLE, MEASURED = 150_000_000, 300_000_000
"""Images x features of the training images up to which mean and standard deviation are those of one
tensor, however they are kept; and of the sample, read piece by piece, that stands for more."""


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

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        labels: Any,
        *,
        test: tuple[Any, Any] | None = None,
        validation: tuple[Any, Any] | None = None,
        class_names: Sequence[str] | None = None,
        source: str = "arrays",
        in_memory: int = IN_MEMORY,
    ) -> Self:
        """A data set of arrays: of numpy, torch, or lists of these.

        Args:
            images: (n, h, w), (n, c, h, w) or (n, h, w, c), uint8 or floats in [0, 1].
            labels: (n,) whole numbers from 0.
            test: (images, labels) to test on; else a tenth of all is held out.
            validation: (images, labels) to choose by; else a tenth is held out.
            class_names: the names of the classes; default their numbers.
            source: what reports and messages call it.
            in_memory: bytes of images, as float32, above which arrays stay as they are, and those
                asked for are made float32; of memory-mapped ones, only these are read.

        Raises:
            DataError: with one line.
        """
        given = {"class_names": class_names} if class_names is not None else {}
        if test is None:
            if validation is not None:
                raise DataError(f"data {source!r}: validation needs a test set beside it")
            return cls(source, *split_arrays(source, given | {"x": images, "y": labels}, in_memory))
        parts = {"train": (images, labels), "test": test, "val": validation}
        for part, pair in parts.items():
            if pair is not None:
                given[f"x_{part}"], given[f"y_{part}"] = pair
        return cls(source, *split_arrays(source, given, in_memory))

    @classmethod
    def from_dataset(
        cls,
        train: Any,
        test: Any = None,
        validation: Any = None,
        *,
        image: str | None = None,
        label: str | None = None,
        size: int | None = None,
        class_names: Sequence[str] | None = None,
        source: str | None = None,
        in_memory: int = IN_MEMORY,
    ) -> Self:
        """A data set of any dataset whose items are images with labels: torchvision's, Hugging
        Face's, `torch.utils.data` or your own.

        Items are (image, label) or tables with such columns. An image is a picture of Pillow, or an
        array or tensor (h, w), (c, h, w) or (h, w, c), uint8 or floats in [0, 1]; so leave random
        transforms and Normalize out of a transform.

        Args:
            train: images to train on; or datasets by the names of their splits, train, validation
                and test, as Hugging Face's `load_dataset` gives them.
            test: images to test on; else a tenth of all is held out.
            validation: images to choose by; else a tenth is held out.
            image: the column with the image, of tables that do not call it image or img.
            label: the column with the label, of tables that do not call it label.
            size: makes the shorter side of every picture so long, and cuts out the square in the
                middle.
            class_names: the names of the classes; default those of the dataset, else the numbers.
            source: what reports and messages call it; default the name of the dataset's class.
            in_memory: bytes of images, as float32, above which they are read when asked for.

        Raises:
            DataError: with one line.
        """
        source = source if source is not None else type(train).__name__
        columns = Columns(image, label, None if size is None else Crop(size, size))
        parts = split_datasets(source, train, validation, test, columns, class_names, in_memory)
        return cls(source, *parts)

    @classmethod
    def from_dataloader(
        cls,
        train: DataLoader[Any],
        test: DataLoader[Any] | None = None,
        validation: DataLoader[Any] | None = None,
        *,
        class_names: Sequence[str] | None = None,
        source: str | None = None,
    ) -> Self:
        """A data set of what loaders give: batches (images, labels), or tables of them.

        Every item is taken once, in the order of its dataset, whatever order the loader deals them
        in, and as its own function collates it. `from_dataset` takes loaders, too, and more
        arguments.

        Args:
            train: images to train on.
            test: images to test on; else a tenth of all is held out.
            validation: images to choose by; else a tenth is held out.
            class_names: the names of the classes; default those of the dataset, else the numbers.
            source: what reports and messages call it; default the name of the dataset's class.

        Raises:
            DataError: with one line.
        """
        source = source or type(getattr(train, "dataset", train)).__name__
        named: dict[str, Any] = {"class_names": class_names, "source": source}
        return cls.from_dataset(train, test, validation, **named)

    def variant(self, name: str) -> Data:
        """The same images changed, as what stands behind the name of a data set says it.

        Args:
            name: `+resize=32`, `+channels=3` or `+lift=0.3`, or several of them.

        Raises:
            DataError: there is no such variant, or it does not fit these images.
        """
        rest, variants = split_variants(name)
        if rest or variants.size is not None:
            raise DataError(f"variant must be +resize=N, +channels=1|3 or +lift=C, got {name!r}")
        return variants.applied(self)

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
        order = random_order(len(self.train), SPLIT_SEED + 1)
        return cut(self.train, order, len(order) // 2)

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


def check_data(data: object) -> None:
    """Raises ArgumentError for what is no `Data`."""
    if not isinstance(data, Data):
        ways = "bc.load_data and bc.Data.from_arrays, from_dataset and from_dataloader make one"
        raise ArgumentError(f"data must be a Data, got {type(data).__name__}; {ways}")


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
