"""From the text after `--data` to a data set."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blankcheck.data.named import cifar10, digits, fashion_mnist, mnist
from blankcheck.data.splits import Data, Split, hold_out
from blankcheck.data.variants import lifted, split_variant
from blankcheck.errors import DataError
from blankcheck.factories import call_factory, is_factory

NAMED: dict[str, Callable[[list[Path]], Data]] = {
    "digits": lambda _folders: digits(),
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
}
IMAGE_ENDINGS = {".png", ".bmp", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"}


def load_data(source: str, data_dir: str | os.PathLike[str] | None = None) -> Data:
    """Load a data set.

    source: `digits`, `mnist`, `fashion-mnist` or `cifar10` (looked for under `data_dir`, then $BLANKCHECK_DATA, then the
    cache, else downloaded); `npz:FILE` with arrays x_train, y_train, x_test, y_test, or x and y (split 80/10/10);
    `folder:DIR` with one folder of images per class; `file.py:factory` or `package.module:factory`, a callable that
    returns a `Data` or a dictionary of the same arrays. Arrays hold images (n, h, w), (n, c, h, w) or (n, h, w, c),
    uint8 or floats in [0, 1]. With `+lift` or `+lift=C` behind any of these, every feature is raised by C (0.3), so that no
    real image is sparse.

    Raises DataError with one line when something is missing, truncated or out of range.
    """
    plain, by = split_variant(source)
    data = _load_plain(plain, data_dir)
    return data if by is None else lifted(data, by)


def runs_code(source: str) -> bool:
    """Whether loading this data set calls a factory."""
    return is_factory(split_variant(source)[0])


def _load_plain(source: str, data_dir: str | os.PathLike[str] | None) -> Data:
    if source in NAMED:
        where = [data_dir, os.environ.get("BLANKCHECK_DATA")]
        return NAMED[source]([Path(folder) for folder in where if folder])
    if source.startswith("npz:"):
        return _from_arrays(source, _read_npz(Path(source[4:])))
    if source.startswith("folder:"):
        return _from_folder(source, Path(source[7:]))
    if is_factory(source):
        made = call_factory(source, "data", DataError)
        if isinstance(made, Data):
            return made
        if isinstance(made, dict):
            return _from_arrays(source, made)
        raise DataError(f"data factory {source!r} must return a Data or a dictionary, got {type(made).__name__}")
    known = ", ".join(NAMED)
    raise DataError(f"data must be one of {known}, npz:FILE, folder:DIR or file.py:factory, got {source!r}")


def _read_npz(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(f"data file {path} does not exist")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib, numpy and the OS all raise their own here
        raise DataError(f"data file {path} cannot be read as npz: it is no archive of plain arrays") from error


def _from_arrays(source: str, arrays: dict[str, Any]) -> Data:
    names = arrays.get("class_names")
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        train = _split(source, arrays["x_train"], arrays["y_train"])
        test = _split(source, arrays["x_test"], arrays["y_test"])
        if {"x_val", "y_val"} <= arrays.keys():
            rest, validation = train, _split(source, arrays["x_val"], arrays["y_val"])
        else:
            rest, validation = hold_out(train, 0.1)
    elif {"x", "y"} <= arrays.keys():
        remaining, test = hold_out(_split(source, arrays["x"], arrays["y"]), 0.1)
        rest, validation = hold_out(remaining, 1 / 9, salt=1)
    else:
        raise DataError(f"data {source!r} must hold x_train y_train x_test y_test, or x y; got {' '.join(sorted(arrays))}")
    count = 1 + max(int(s.labels.max()) for s in (rest, validation, test))
    if names is not None and len(names) < count:
        raise DataError(f"data {source!r}: class_names has {len(names)} names, labels go to {count - 1}")
    classes = tuple(str(n) for n in names) if names is not None else tuple(str(i) for i in range(count))
    return Data(source, classes, rest, validation, test)


def _split(source: str, images: Any, labels: Any) -> Split:
    try:
        y = torch.as_tensor(np.asarray(labels).astype(np.int64)).flatten()
        x = np.asarray(images)
    except (TypeError, ValueError) as error:
        raise DataError(f"data {source!r}: images and labels must be plain numbers: {error}") from error
    if len(x) == 0:
        raise DataError(f"data {source!r} holds no images")
    if len(x) != len(y):
        raise DataError(f"data {source!r} has {len(x)} images but {len(y)} labels")
    return Split(as_unit_images(source, x), y)


def as_unit_images(source: str, x: Any) -> Tensor:
    """Arrays of images, grey or colour, channels first or last, bytes or floats -> (n, c, h, w) float32 in [0, 1]."""
    if x.dtype == np.uint8:
        images = torch.from_numpy(x.astype(np.float32) / 255)
    elif np.issubdtype(x.dtype, np.floating):
        images = torch.from_numpy(x.astype(np.float32))
    else:
        raise DataError(f"data {source!r}: images must be uint8 or floats in [0, 1], got {x.dtype}")
    if images.ndim == 3:
        images = images.unsqueeze(1)
    if images.ndim != 4:
        raise DataError(f"data {source!r}: images must be (n, h, w), (n, c, h, w) or (n, h, w, c), got {x.shape}")
    if images.shape[1] not in (1, 3, 4) and images.shape[3] in (1, 3, 4):
        images = images.permute(0, 3, 1, 2)
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):  # also catches NaN
        raise DataError(f"data {source!r}: float images must lie in [0, 1], got [{low:.3g}, {high:.3g}]")
    return images.contiguous()


def _from_folder(source: str, folder: Path) -> Data:
    if not folder.is_dir():
        raise DataError(f"data folder {folder} does not exist")
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        classes = _class_folders(folder / "train")
        train = _read_images(source, folder / "train", classes)
        test = _read_images(source, folder / "test", classes)
    else:
        classes = _class_folders(folder)
        train, test = hold_out(_read_images(source, folder, classes), 0.1)
    rest, validation = hold_out(train, 1 / 9, salt=1)
    return Data(source, tuple(classes), rest, validation, test)


def _class_folders(folder: Path) -> list[str]:
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not classes:
        raise DataError(f"data folder {folder} must hold one folder per class, found no folder in it")
    return classes


def _read_images(source: str, folder: Path, classes: list[str]) -> Split:
    from PIL import Image

    images: list[np.ndarray[Any, Any]] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        for path in sorted((folder / name).rglob("*")):
            if path.suffix.lower() not in IMAGE_ENDINGS:
                continue
            try:
                with Image.open(path) as image:
                    images.append(np.asarray(image.convert("L" if image.mode in ("1", "L", "I;16") else "RGB")))
            except (OSError, ValueError) as error:
                raise DataError(f"image {path} cannot be read: {error}") from error
            labels.append(label)
    if not images:
        raise DataError(f"data {source!r}: no image found under {folder}")
    shapes = {image.shape for image in images}
    if len(shapes) != 1:
        raise DataError(f"data {source!r}: all images must have one size and mode, got {sorted(shapes)[:4]}")
    return Split(as_unit_images(source, np.stack(images)), torch.tensor(labels, dtype=torch.int64))
