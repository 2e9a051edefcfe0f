"""From the text after `--data` to a data set."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from blankcheck.arguments import plain_arguments
from blankcheck.data.arrays import IMAGES, split_arrays
from blankcheck.data.folders import from_folder
from blankcheck.data.hub import from_hub, is_hub, is_local
from blankcheck.data.lazy import IN_MEMORY
from blankcheck.data.named import cifar10, digits, fashion_mnist, mnist
from blankcheck.data.npz import read_npz
from blankcheck.data.splits import Data
from blankcheck.data.variants import Crop, split_variants
from blankcheck.errors import DataError
from blankcheck.factories import call_factory, is_factory

NAMED: dict[str, Callable[[list[Path]], Data]] = {
    "digits": lambda _folders: digits(),
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
}


@plain_arguments
def load_data(
    source: str, data_dir: str | os.PathLike[str] | None = None, *, in_memory: int = IN_MEMORY
) -> Data:
    """Load a data set.

    Args:
        source: `digits`, `mnist`, `fashion-mnist` or `cifar10` (looked for under `data_dir`, then
            $BLANKCHECK_DATA, then the cache, else downloaded); `npz:FILE` with arrays x_train,
            y_train, x_test, y_test, or x and y (split 80/10/10); `folder:DIR` with one folder of
            images per class; `hf:NAME`, a data set of Hugging Face, or `hf:PATH`, a folder that its
            `save_to_disk` wrote or one of Parquet files; `FILE.parquet`; `file.py:factory` or
            `package.module:factory`, a callable that returns a `Data` or a dictionary of the same
            arrays. Arrays hold images (n, h, w), (n, c, h, w) or (n, h, w, c), uint8 or floats in
            [0, 1]. Behind any of these, `+resize=N` makes images N x N, `+channels=3` or
            `+channels=1` makes them colour or grey, and `+lift` or `+lift=C` raises every feature
            by C (0.3), so that no real image is sparse. With `+size=N` behind a folder or `hf:`,
            the N x N square in the middle is cut out of each image, whose shorter side was made N,
            or M with `+size=N,M`.
        data_dir: where the files of named data sets are looked for first.
        in_memory: bytes of images, as float32, above which they are read when asked for.

    Raises:
        DataError: something is missing, truncated or out of range; in one line.
    """
    plain, variants = split_variants(source)
    return variants.applied(_load_plain(plain, data_dir, variants.size, in_memory))


def runs_code(source: str) -> bool:
    """Whether loading this data set calls a factory, or fetches what anybody may have put there."""
    plain = split_variants(source)[0]
    if is_hub(plain):
        return not is_local(plain)
    return is_factory(plain) and not plain.startswith(("npz:", "folder:"))


def _load_plain(
    source: str, data_dir: str | os.PathLike[str] | None, crop: Crop | None, most: int
) -> Data:
    if source.startswith("folder:"):
        name = source if crop is None else f"{source}+size={crop}"
        return from_folder(name, Path(source[7:]), crop, most)
    if is_hub(source):
        return from_hub(source, crop, most)
    if crop is not None:
        words = "+size is for folder:DIR and hf:NAME, whose pictures may differ; +resize is for all"
        raise DataError(f"data {source!r}: {words}")
    if source in NAMED:
        where = [data_dir, os.environ.get("BLANKCHECK_DATA")]
        return NAMED[source]([Path(folder) for folder in where if folder])
    if source.startswith("npz:"):
        arrays = read_npz(Path(source[4:]), IMAGES, most)
        return Data(source, *split_arrays(source, arrays, most))
    if is_factory(source):
        made = call_factory(source, "data", DataError)
        if isinstance(made, Data):
            return made
        if isinstance(made, dict):
            return Data(source, *split_arrays(source, made, most))
        words = f"must return a Data or a dictionary, got {type(made).__name__}"
        raise DataError(f"data factory {source!r} {words}")
    known = ", ".join(NAMED)
    others = "npz:FILE, folder:DIR, hf:NAME, FILE.parquet or file.py:factory"
    meant = f"; did you mean npz:{source}?" if source.endswith(".npz") else ""
    raise DataError(f"data must be one of {known}, {others}, got {source!r}{meant}")
