"""Files as they come: only regular ones are read and none longer than was meant; tensors to bytes
and back.

Whoever calls knows what a file is for, and puts its path before the words that are raised here.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from blankcheck.text import one_line

DIGEST = "digest"
"""The key in the metadata of a tensor file."""
MOST_HEADER = 100_000_000
"""Bytes; safetensors itself takes no more."""
MOST_TENSORS = 16 << 30
"""Bytes of a tensor file."""


def read_file(path: Path, most: int, links: bool = True) -> bytes:
    """The contents of a regular file.

    Args:
        path: the file.
        most: bytes that it may have.
        links: whether the file itself may be a link.

    Raises:
        FileNotFoundError: where there is nothing.
        ValueError: for what is no such file; the words go on from a path ("is a link").
        OSError: where it cannot be read.
    """
    check_regular(path, links)
    # between the look and the opening the name may have come to mean a pipe, which must not make
    # anyone wait
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    flags |= 0 if links else getattr(os, "O_NOFOLLOW", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        told = os.fstat(file.fileno())
        if not stat.S_ISREG(told.st_mode):
            raise ValueError("is not a regular file")
        if told.st_size > most:
            raise ValueError(f"has {told.st_size:,} bytes, at most {most:,} are read")
        raw = file.read(told.st_size + 1)
    if len(raw) != told.st_size:
        raise ValueError("changed while it was read")
    return raw


def check_regular(path: Path, links: bool = True) -> None:
    """Raises as `read_file` does where there is no regular file, without opening anything."""
    mode = path.stat(follow_symlinks=links).st_mode
    if stat.S_ISLNK(mode):
        raise ValueError("is a link, and no link is followed in a run folder")
    if not stat.S_ISREG(mode):
        raise ValueError("is a folder" if stat.S_ISDIR(mode) else "is not a regular file")


def pack(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file, the same ones for the same contents, with a digest of them
    in its metadata.

    safetensors itself orders metadata at random.
    """
    plain = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    said = dict(metadata or {})
    said[DIGEST] = digest_of(plain, said)
    raw = save(plain)
    end = 8 + int.from_bytes(raw[:8], "little")
    entries = json.loads(raw[8:end])
    header = json.dumps(
        {"__metadata__": dict(sorted(said.items())), **entries}, separators=(",", ":")
    ).encode()
    header += b" " * (-len(header) % 8)  # so that the numbers begin at a multiple of their size
    return b"".join([len(header).to_bytes(8, "little"), header, memoryview(raw)[end:]])


def unpack(raw: bytes, digest: bool = True) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Args:
        raw: the bytes of the file.
        digest: whether a digest in it is compared; files of others, and older ones, have none.

    Raises:
        ValueError: for what is no such file, or is damaged by what its digest says.
    """
    try:
        tensors = load(raw)
    except SafetensorError as error:
        raise ValueError(f"is not a readable safetensors file: {one_line(error)}") from error
    metadata, _ = _said(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    if digest:
        check_digest(tensors, metadata)
    return tensors, metadata


def check_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Raises ValueError where there is a digest and it is not that of the contents."""
    said = metadata.get(DIGEST)
    if said is not None and said != digest_of(tensors, metadata):
        raise ValueError("is damaged: its contents are not those that its digest was taken of")


def digest_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Of names, types, shapes and bytes of tensors, and of the other metadata."""
    found = hashlib.sha256(
        json.dumps(sorted(pair for pair in metadata.items() if pair[0] != DIGEST)).encode()
    )
    for name, tensor in sorted(tensors.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{found.hexdigest()}"


def read_header(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Metadata and the shape of each tensor of a safetensors file, without making room for any.

    Raises as `read_file`.
    """
    check_regular(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MOST_HEADER:
            raise ValueError("is not a readable safetensors file: its header is too large")
        return _said(file.read(length))


def _said(header: bytes) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    try:
        entries = json.loads(header)
        metadata = {str(k): str(v) for k, v in (entries.pop("__metadata__", None) or {}).items()}
        return metadata, {
            name: tuple(int(size) for size in entry["shape"]) for name, entry in entries.items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError("is not a readable safetensors file: its header is broken") from error
