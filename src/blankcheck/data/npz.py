"""Arrays of an .npz archive, whole or, where large and not compressed, some rows at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.typing import NDArray

from blankcheck.data.lazy import bytes_of
from blankcheck.errors import DataError
from blankcheck.files import check_regular

MOST_WHOLE = 2**32
"""Bytes of image arrays that are too large for memory and can only be read whole, at most."""


@dataclass(frozen=True)
class FileRows:
    """An array in a file, in C order from the byte `offset` on; rows are read when asked for, and
    not mapped, so that pages once looked at do not count as this process's memory."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, positions: NDArray[np.int64]) -> NDArray[Any]:
        rows = np.empty((len(positions), *self.shape[1:]), self.dtype)
        size = self.dtype.itemsize * math.prod(self.shape[1:])
        try:
            with self.path.open("rb", buffering=0) as file:
                # in the order of the file, which a disk reads faster
                for row in np.argsort(positions, kind="stable"):
                    file.seek(self.offset + size * int(positions[row]))
                    if file.readinto(rows[row : row + 1].view(np.uint8).reshape(-1).data) != size:
                        raise DataError(f"data file {self.path} is truncated")
        except OSError as error:
            raise DataError(f"data file {self.path} cannot be read: {error}") from error
        return rows


@dataclass(frozen=True)
class _Header:
    """Of an array in an archive. offset: of its first byte, None where rows cannot be read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int | None


def read_npz(path: Path, images: Iterable[str], most: int) -> dict[str, Any]:
    """The arrays of an archive by name. Where those named in `images` would take more than `most`
    bytes as float32, they are `FileRows`, or whole arrays where they are compressed.

    Raises DataError with one line for any other file, or too large a compressed array.
    """
    try:
        check_regular(path)
    except OSError as error:
        raise DataError(f"data file {path} does not exist") from error
    except ValueError as error:
        raise DataError(f"data file {path} {error}") from error
    try:
        with np.load(path, allow_pickle=False) as archive:
            named = [name for name in images if name in archive.files]
            headers = {name: _header(path, archive.zip, name) for name in named}
            rows = {}
            if sum(bytes_of(h.shape) for h in headers.values()) > most:
                by_rows = {n: (h.offset, h.shape, h.dtype) for n, h in headers.items() if h.offset}
                rows = {n: FileRows(path, *where) for n, where in by_rows.items()}
                _check_whole(path, {n: h for n, h in headers.items() if n not in rows})
            return {name: archive[name] for name in archive.files if name not in rows} | rows
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib, numpy and the OS all raise their own here
        words = f"data file {path} cannot be read as npz: it is no archive of plain arrays"
        raise DataError(words) from error


def _check_whole(path: Path, headers: dict[str, _Header]) -> None:
    size = sum(header.dtype.itemsize * math.prod(header.shape) for header in headers.values())
    if size > MOST_WHOLE:
        takes = f"takes {size / 2**30:.1f} GiB of memory, more than {MOST_WHOLE / 2**30:.0f}"
        whole = f"data file {path}: {', '.join(headers)} can only be read whole, which {takes}"
        advice = "saved uncompressed, by numpy.savez, images are read as they are needed"
        raise DataError(f"{whole}; {advice}")


def _header(path: Path, archive: ZipFile, name: str) -> _Header:
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        kind = np.lib.format
        old = kind.read_magic(file) == (1, 0)
        read = kind.read_array_header_1_0 if old else kind.read_array_header_2_0
        shape, fortran, dtype = read(file)
        length = file.tell()
    by_rows = info.compress_type == ZIP_STORED and not fortran and not dtype.hasobject
    begin = _data_offset(path, info.header_offset) + length if by_rows else None
    return _Header(shape, dtype, begin)


def _data_offset(path: Path, header: int) -> int:
    """Where a member of a zip archive begins: behind a header of 30 bytes, its name and an extra
    field, whose lengths stand in bytes 26 to 29 (APPNOTE.TXT 4.3.7)."""
    with path.open("rb") as file:
        file.seek(header + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    return header + 30 + name + extra
