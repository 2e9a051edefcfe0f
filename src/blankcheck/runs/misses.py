"""Nearest misses as bytes and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from blankcheck import files
from blankcheck.auditing.witnesses import Misses
from blankcheck.errors import RunFolderError
from blankcheck.judging.evidence import Attempt
from blankcheck.runs.witnesses import checked_tensors

NAMES = frozenset(f.name for f in fields(Misses))
Shape = tuple[int, int, int]


def pack_misses(misses: Misses) -> bytes:
    """The contents of `misses.safetensors`."""
    return files.pack({name: getattr(misses, name) for name in sorted(NAMES)})


def unpack_misses(raw: bytes, where: str, attempts: Sequence[Attempt], shape: Shape) -> Misses:
    """Misses from the bytes of their file. Raises RunFolderError where tensors are not as those of
    witnesses must be, images have another shape (c, h, w), or a row is of no attempt of its class
    that failed, or of a class that has one."""
    tensors, _ = checked_tensors(raw, where, NAMES)
    found = Misses(**tensors)
    if (own := tuple(found.images.shape[1:])) != shape:
        raise RunFolderError(f"{where}: images have shape {own}, those of witnesses {shape}")
    seen = set[int]()
    for row, (i, target) in enumerate(zip(*_indices(found), strict=True)):
        if i >= len(attempts):
            raise RunFolderError(f"{where}: miss {row} is of attempt {i} of {len(attempts)}")
        if attempts[i].target != target:
            words = f"class {target}, its attempt {i} of class {attempts[i].target}"
            raise RunFolderError(f"{where}: miss {row} is of {words}")
        if attempts[i].fooled:
            raise RunFolderError(f"{where}: miss {row} is of attempt {i}, which fooled")
        if target in seen:
            raise RunFolderError(f"{where}: class {target} has two misses")
        seen.add(target)
    return found


def _indices(found: Misses) -> tuple[list[int], list[int]]:
    return found.attempt.tolist(), found.targets.tolist()
