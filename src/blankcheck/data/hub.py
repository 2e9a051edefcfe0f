"""Hugging Face data sets: by name, or of a file or folder on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from blankcheck.data.items import Columns, split_datasets
from blankcheck.data.splits import Data
from blankcheck.data.variants import Crop
from blankcheck.errors import DataError
from blankcheck.text import one_line

PREFIX, ENDING = "hf:", ".parquet"
SAVED = ("state.json", "dataset_dict.json")
"""One of these stands in what `save_to_disk` wrote."""


def is_hub(source: str) -> bool:
    """Whether a text names such a data set: `hf:NAME`, `hf:PATH` or `FILE.parquet`."""
    return source.startswith(PREFIX) or source.endswith(ENDING)


def is_local(source: str) -> bool:
    """Whether it is a file or folder that is there."""
    return Path(source.removeprefix(PREFIX)).exists()


def from_hub(source: str, crop: Crop | None, most: int) -> Data:
    """A data set of the Hub, a folder that `save_to_disk` wrote, or Parquet files.

    Raises DataError with one line where the library is missing or the data set cannot be had.
    """
    name = source.removeprefix(PREFIX)
    if name.endswith(ENDING) and not is_local(source):
        raise DataError(f"data file {name} does not exist")
    try:
        import datasets
    except ImportError as error:
        words = f"needs the package {error.name or 'datasets'}, which cannot be imported"
        raise DataError(f"data {source!r} {words}; pip install 'blankcheck[datasets]'") from error
    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        found = _loaded(datasets, Path(name), name)
    except MemoryError:
        raise
    except Exception as error:  # the library raises whatever it, the data set or the disk meet
        words = f"could not be loaded by datasets: {one_line(error)}"
        raise DataError(f"data {source!r} {words}") from error
    finally:
        if shown:
            datasets.enable_progress_bars()
    named = source if crop is None else f"{source}+size={crop}"
    return Data(named, *split_datasets(named, found, None, None, Columns(crop=crop), None, most))


def _loaded(datasets: Any, path: Path, name: str) -> Any:
    if path.is_file():
        return datasets.load_dataset("parquet", data_files={"train": name}, split="train")
    if any((path / mark).is_file() for mark in SAVED):
        return datasets.load_from_disk(name)
    return datasets.load_dataset(name)
