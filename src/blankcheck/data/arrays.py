"""From arrays as users have them to a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from blankcheck.data.lazy import LazyImages, bytes_of, check_range
from blankcheck.data.npz import FileRows
from blankcheck.data.splits import Data, Split, hold_out
from blankcheck.errors import DataError
from blankcheck.types import images_at_once, in_pieces

IMAGES = ("x", "x_train", "x_val", "x_test")


def from_arrays(source: str, arrays: dict[str, Any], most: int) -> Data:
    """x_train, y_train, x_test, y_test, and perhaps x_val and y_val; or x and y, split 80/10/10;
    and perhaps class_names.

    Images beyond `most` bytes as float32 stay as they are, and those asked for are made float32.
    Raises DataError with one line.
    """
    names = arrays.get("class_names")
    lazy = sum(bytes_of(np.shape(arrays[name])) for name in IMAGES if name in arrays) > most

    def split(part: str) -> Split:
        return _split(source, arrays[f"x{part}"], arrays[f"y{part}"], lazy)

    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        train, test = split("_train"), split("_test")
        if {"x_val", "y_val"} <= arrays.keys():
            rest, validation = train, split("_val")
        else:
            rest, validation = hold_out(train, 0.1)
    elif {"x", "y"} <= arrays.keys():
        remaining, test = hold_out(split(""), 0.1)
        rest, validation = hold_out(remaining, 1 / 9, salt=1)
    else:
        words = "must hold x_train y_train x_test y_test, or x y"
        raise DataError(f"data {source!r} {words}; got {' '.join(sorted(arrays))}")
    count = 1 + max(int(s.labels.max()) for s in (rest, validation, test))
    named = range(count) if names is None else names
    if len(named) < count:
        words = f"data {source!r}: class_names has {len(named)} names, labels go to {count - 1}"
        raise DataError(words)
    return Data(source, tuple(map(str, named)), rest, validation, test)


def _split(source: str, images: Any, labels: Any, lazy: bool) -> Split:
    try:
        y = torch.as_tensor(np.asarray(labels).astype(np.int64)).flatten()
        x = images if isinstance(images, FileRows) else np.asarray(images)
    except (TypeError, ValueError) as error:
        words = f"data {source!r}: images and labels must be plain numbers: {error}"
        raise DataError(words) from error
    if len(x) == 0:
        raise DataError(f"data {source!r} holds no images")
    if len(x) != len(y):
        raise DataError(f"data {source!r} has {len(x)} images but {len(y)} labels")
    return Split(_lazy_images(source, x) if lazy else as_unit_images(source, np.asarray(x)), y)


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


def to_unit(source: str, x: Any) -> Tensor:
    """Images, grey or colour, channels first or last, bytes or floats -> (n, c, h, w) float32."""
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        raise DataError(f"data {source!r}: images must be uint8 or floats in [0, 1], got {x.dtype}")
    values = x.astype(np.float32)
    images = torch.from_numpy(values / 255 if x.dtype == np.uint8 else values)
    if images.ndim == 3:
        images = images.unsqueeze(1)
    if images.ndim != 4:
        forms = "(n, h, w), (n, c, h, w) or (n, h, w, c)"
        raise DataError(f"data {source!r}: images must be {forms}, got {x.shape}")
    if images.shape[1] not in (1, 3, 4) and images.shape[3] in (1, 3, 4):
        images = images.permute(0, 3, 1, 2)
    return images.contiguous()
