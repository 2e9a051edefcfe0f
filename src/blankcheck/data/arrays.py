"""From arrays as users have them to splits of a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from blankcheck.data.lazy import LazyImages, bytes_of, check_range
from blankcheck.data.npz import FileRows
from blankcheck.data.split import Split, three_parts
from blankcheck.errors import DataError
from blankcheck.text import one_line
from blankcheck.types import images_at_once, in_pieces

IMAGES = ("x", "x_train", "x_val", "x_test")
ARRAYS = (*IMAGES, *(name.replace("x", "y") for name in IMAGES))
USUAL = (1, 3, 4)
"""Channels of images of cameras."""
MOST_CLASSES = 100_000
"""A label beyond is a slip, and would make names and figures of as many classes."""
Parts = tuple[tuple[str, ...], Split, Split, Split]
"""Names of the classes, then train, validation and test: what a `Data` is made of."""


def split_arrays(source: str, arrays: dict[str, Any], most: int) -> Parts:
    """x_train, y_train, x_test, y_test, and perhaps x_val and y_val; or x and y, split 80/10/10;
    and perhaps class_names.

    Images beyond `most` bytes as float32 stay as they are, and those asked for are made float32.
    Raises DataError with one line.
    """
    given = {name: as_array(source, name, arrays[name]) for name in ARRAYS if name in arrays}
    lazy = sum(bytes_of(np.shape(given[name])) for name in IMAGES if name in given) > most

    def split(part: str) -> Split | None:
        x, y = given.get(f"x{part}"), given.get(f"y{part}")
        return None if x is None or y is None else _split(source, part, x, y, lazy)

    if {"x_train", "y_train", "x_test", "y_test"} <= given.keys():
        train, test = split("_train"), split("_test")
    elif {"x", "y"} <= given.keys():
        train, test = split(""), None
    else:
        words = "must hold x_train y_train x_test y_test, or x y"
        raise DataError(f"data {source!r} {words}; got {' '.join(sorted(arrays))}")
    assert train is not None, "it was given"
    splits = three_parts(train, split("_val") if test is not None else None, test)
    return named(source, arrays.get("class_names"), *splits)


def named(source: str, names: Any, *splits: Split) -> Parts:
    """The splits behind the names of their classes, which are numbers where there are none;
    DataError where there are too few."""
    count = 1 + max(int(s.labels.max()) for s in splits)
    names = [str(name) for name in np.atleast_1d(range(count) if names is None else names)]
    if len(names) < count:
        words = f"data {source!r}: class_names has {len(names)} names, labels go to {count - 1}"
        raise DataError(words)
    train, validation, test = splits
    return tuple(names), train, validation, test


def as_array(source: str, name: str, value: Any) -> Any:
    """What a factory or an archive gave as an array of numpy, or rows of a file."""
    if isinstance(value, FileRows | np.ndarray):
        return value
    try:
        if isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value):
            value = torch.stack([torch.as_tensor(v) for v in value])
        if isinstance(value, Tensor):
            value = value.detach().cpu().to_dense()
            value = value.float() if value.dtype == torch.bfloat16 else value
            return value.numpy()
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        words = f"data {source!r}: {name} must be one array of plain numbers"
        sizes = sorted({np.shape(v) for v in value}) if isinstance(value, list | tuple) else []
        if len(sizes) > 1:
            raise DataError(f"{words}, got rows of {sizes[0]} and {sizes[1]}") from error
        raise DataError(f"{words}: {one_line(error)}") from error


def _split(source: str, part: str, x: Any, y: Any, lazy: bool) -> Split:
    if not len(np.shape(x)) or len(x) == 0:
        raise DataError(f"data {source!r} holds no images")
    labels = as_labels(f"data {source!r}: y{part}", y)
    if len(x) != len(labels):
        raise DataError(f"data {source!r} has {len(x)} images but {len(labels)} labels")
    images = _lazy_images(source, x) if lazy else as_unit_images(source, np.asarray(x))
    return Split(images, labels)


def as_labels(what: str, y: Any) -> Tensor:
    """(n,) int64; DataError that names the first that is no whole number from 0 on."""
    if y.ndim == 2 and y.shape[1] > 1:
        words = f"{what} must hold one label an image, got {tuple(y.shape)}"
        raise DataError(f"{words}; of rows with a 1 in one place take .argmax(1)")
    if y.dtype.kind not in "biuf":
        words = f"{what} must be whole numbers from 0 on, got {one_line(y.dtype, 40)}"
        raise DataError(f"{words}; names go into class_names")
    y = y.reshape(-1)
    wrong = ~np.isfinite(y) | (y != np.floor(y)) if y.dtype.kind == "f" else np.zeros(len(y), bool)
    # compared in the numbers that were given: the cast might wrap them
    wrong |= (y < 0) | (y >= MOST_CLASSES)
    if wrong.any():
        first = int(wrong.argmax())
        words = f"{what}: labels must lie in 0..{MOST_CLASSES - 1:,} and be whole"
        raise DataError(f"{words}, got {y[first]} at position {first}")
    return torch.from_numpy(y.astype(np.int64))


def _lazy_images(source: str, rows: Any) -> LazyImages:
    """rows: an array, or something like it, that gives the rows at some positions."""

    def read(positions: Tensor) -> Tensor:
        return to_unit(source, rows[positions.numpy()])

    c, h, w = read(torch.zeros(1, dtype=torch.int64)).shape[1:]
    images = LazyImages(read, (c, h, w), torch.arange(len(rows)), source)
    if np.issubdtype(rows.dtype, np.floating):
        # bytes lie in [0, 1] anyway; of floats it has to be seen before anything is made of them
        for _ in in_pieces(images, images_at_once(images.size)):
            pass
    return images


def as_unit_images(source: str, x: Any) -> Tensor:
    """`to_unit`; DataError where floats lie outside [0, 1]."""
    images = to_unit(source, x)
    check_range(f"data {source!r}: float images", images)
    return images


def to_unit(source: str, x: Any, axis: int | None = None) -> Tensor:
    """Images, grey or colour, channels first or last, bytes or floats -> (n, c, h, w) float32.

    axis: of the channels, where it is known; else the shape has to tell.
    """
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        words = f"data {source!r}: images must be uint8 or floats in [0, 1], got {x.dtype}"
        whole = np.issubdtype(x.dtype, np.integer)
        raise DataError(f"{words}; divide by the largest value they may have" * whole or words)
    values = x.astype(np.float32)
    images = torch.from_numpy(values / 255 if x.dtype == np.uint8 else values)
    if images.ndim == 3:
        images, axis = images.unsqueeze(1), 1
    if images.ndim != 4:
        forms = "(n, h, w), (n, c, h, w) or (n, h, w, c)"
        raise DataError(f"data {source!r}: images must be {forms}, got {x.shape}")
    axis = _channels(source, tuple(images.shape)) if axis is None else axis
    return (images if axis == 1 else images.permute(0, 3, 1, 2)).contiguous()


def _channels(source: str, shape: tuple[int, ...]) -> int:
    """The axis of the channels, 1 or 3: images are mostly square, and have 1, 3 or 4 channels, or
    fewer than half as many as pixels to a side. DataError where both may be meant."""
    _, first, middle, last = shape
    usual, square = (first in USUAL, last in USUAL), (middle == last > 1, first == middle > 1)
    few = (2 * first <= min(middle, last), 2 * last <= min(first, middle))
    for says, other in ((usual, square), (square, usual), (few, usual)):
        if says[0] != says[1]:
            at = says.index(True)
            if other[1 - at] and not other[at]:
                break
            return (1, 3)[at]
    words = f"images of shape {shape} may have their channels first or last"
    raise DataError(f"data {source!r}: {words}; give (n, c, h, w) as a Data of a factory")
