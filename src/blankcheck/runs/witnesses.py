"""Witnesses as bytes and back, and scored again from what was read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from blankcheck.auditing import Gathered, Witnesses
from blankcheck.auditing.witnesses import rounded_to_8_bits
from blankcheck.classifiers.wrapper import left_as_found, probabilities
from blankcheck.data import Data
from blankcheck.data.lazy import IN_MEMORY, bytes_of
from blankcheck.data.splits import fingerprint as fingerprint_of
from blankcheck.errors import RunFolderError
from blankcheck.files import pack as packed
from blankcheck.types import LIT_THRESHOLD, Classifier, Conditions, count_lit

TOLERANCE = 1e-4
"""Probabilities of one image move by about 1e-5 between batch sizes and machines."""
REQUIRED = ("images", "targets", "confidence", "lit", "ood_p")
LATER = ("nearest", "process", "seed", "step", "attempt", "extra", "survives_8bit")
"""Columns that older files lack."""
WHOLE, SHARES, BOOLS = torch.int64, torch.float32, torch.bool
COLUMNS: dict[str, torch.dtype] = {
    "targets": WHOLE,
    "confidence": SHARES,
    "lit": WHOLE,
    "ood_p": SHARES,
    "process": WHOLE,
    "seed": WHOLE,
    "step": WHOLE,
    "attempt": WHOLE,
    "extra": BOOLS,
    "survives_8bit": BOOLS,
}
"""The tensors of one number per witness, (n,)."""
SIGNED = frozenset({"seed"})
METADATA = (
    "fingerprint",
    "processes",
    "output_form",
    "ood_scores",
    "conditions",
    "data",
    "data_fingerprint",
)
"""Keys of the file's metadata; older files lack the last three."""
SAMPLED = 50_000_000
"""Images x features of each split that stand for a data set beyond `IN_MEMORY` in its fingerprint.
"""


@dataclass(frozen=True)
class Stored:
    """A witness file read back: tensors by name, and what its metadata says."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]

    def __len__(self) -> int:
        return len(self.tensors["targets"])

    def said(self, key: str, default: Any = None) -> Any:
        """What the metadata says under a key that holds JSON; the default where it says nothing
        that can be read."""
        try:
            return json.loads(self.metadata[key])
        except (KeyError, ValueError, RecursionError):
            return default


def pack(gathered: Gathered, data: Data) -> bytes:
    """The contents of `witnesses.safetensors`. data: what the audit saw, which the file names."""
    witnesses = gathered.witnesses
    tensors = {f.name: getattr(witnesses, f.name) for f in fields(Witnesses)}
    judge = gathered.evidence.ood
    metadata = {
        "fingerprint": gathered.fingerprint,
        "processes": json.dumps(gathered.processes),
        "output_form": gathered.form,
        "ood_scores": json.dumps(judge.scores if judge is not None else ()),
        "conditions": json.dumps(asdict(gathered.evidence.conditions)),
        "data": data.source,
        "data_fingerprint": data_fingerprint(data),
    }
    return packed(tensors, metadata)


def data_fingerprint(data: Data) -> str:
    """Sixteen hex digits that change when an image or label does.

    Of a set beyond memory a sample of each split is read.
    """
    splits = (data.train, data.validation, data.test)
    if sum(bytes_of(split.images.shape) for split in splits) <= IN_MEMORY:
        return data.fingerprint
    return fingerprint_of([split.at_most(SAMPLED) for split in splits])


def unpack(raw: bytes, where: str) -> Stored:
    """Read witnesses; RunFolderError when a tensor is missing, unknown, of other shape or type, or
    holds other values than
    witnesses have: images are in [0, 1] and in stored form, shares in [0, 1], counts not negative,
    all of them finite."""
    try:
        tensors = load(raw)
        # the file begins with the length of a JSON header, which holds the metadata
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    except (SafetensorError, ValueError, KeyError) as error:
        raise RunFolderError(f"{where} is not a readable witness file") from error
    missing = [name for name in REQUIRED if name not in tensors]
    if missing:
        raise RunFolderError(f"{where} lacks {', '.join(missing)}")
    unknown = sorted(tensors.keys() - {*REQUIRED, *LATER})
    if unknown:
        raise RunFolderError(f"{where} holds an unknown tensor {unknown[0][:60]!r}")
    shape = tuple(tensors["images"].shape)
    if len(shape) != 4 or min(shape[1:]) < 1:
        raise RunFolderError(f"{where}: images must be (n, channels, height, width), got {shape}")
    for name in ("images", "nearest"):
        if name in tensors:
            _check_images(tensors[name], shape, f"{where}: {name}")
    images = tensors["images"]
    if bool(((images > 0) & (images < LIT_THRESHOLD)).any()):
        raise RunFolderError(
            f"{where}: images must be in stored form, without values between 0 and 1/512"
        )
    for name, dtype in COLUMNS.items():
        if name in tensors:
            _check_column(tensors[name], shape[0], dtype, f"{where}: {name}", name in SIGNED)
    return Stored(tensors, header.get("__metadata__", {}))


def _check_images(images: Tensor, shape: tuple[int, ...], where: str) -> None:
    if images.dtype != torch.float32 or tuple(images.shape) != shape:
        raise RunFolderError(
            f"{where} must be float32 {shape}, got {_kind(images)} {tuple(images.shape)}"
        )
    # written so that NaN fails, too
    if images.numel() and not (float(images.min()) >= 0 and float(images.max()) <= 1):
        raise RunFolderError(f"{where}: values outside [0, 1]")


def _check_column(column: Tensor, n: int, dtype: torch.dtype, where: str, signed: bool) -> None:
    if column.dtype != dtype or tuple(column.shape) != (n,):
        wanted = str(dtype).removeprefix("torch.")
        raise RunFolderError(
            f"{where} must be {wanted} {(n,)}, got {_kind(column)} {tuple(column.shape)}"
        )
    if n and dtype is SHARES and not (float(column.min()) >= 0 and float(column.max()) <= 1):
        raise RunFolderError(f"{where}: values outside [0, 1]")
    if n and dtype is WHOLE and not signed and int(column.min()) < 0:
        raise RunFolderError(f"{where}: negative values")


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@dataclass(frozen=True)
class Again:
    """Stored images measured anew: confidence (n,), lit (n,), and p-values (n,), None where they
    cannot be computed."""

    confidence: Tensor
    lit: Tensor
    ood_p: Tensor | None

    def holds(self, stored: Stored, want: Conditions) -> dict[str, Tensor]:
        """For each condition (n,) bool: it holds, and confidence and lit features are what the file
        says."""
        said = stored.tensors
        p_values = said["ood_p"] if self.ood_p is None else self.ood_p
        sure = (self.confidence >= want.confidence - TOLERANCE) & (
            said["confidence"] >= want.confidence - TOLERANCE
        )
        return {
            "confidence": sure & ((self.confidence - said["confidence"]).abs() <= 10 * TOLERANCE),
            "lit": (self.lit == said["lit"]) & (self.lit <= want.max_lit),
            "ood_p": p_values <= want.ood_level,
        }


def score(
    stored: Stored,
    classifier: Classifier,
    form: str,
    p_values: Callable[[Tensor], Tensor] | None = None,
) -> Again:
    """Measure stored images again. p_values: the out-of-distribution test, where it is at hand."""
    images = stored.tensors["images"]
    p = None if p_values is None else p_values(images)
    return Again(_confidence(stored, images, classifier, form), count_lit(images), p)


def confirm(stored: Stored, classifier: Classifier, form: str, want: Conditions) -> Tensor:
    """Score stored images again: (n,) bool, True where all three conditions hold and the stored
    confidence is right. p-values are those in the file."""
    return torch.stack(list(score(stored, classifier, form).holds(stored, want).values())).all(
        dim=0
    )


def rounded_holds(
    stored: Stored,
    classifier: Classifier,
    form: str,
    want: Conditions,
    p_values: Callable[[Tensor], Tensor] | None,
    slack: float = 0.0,
) -> Tensor:
    """(n,) bool: all three conditions hold for what is left of an image after rounding to 8 bits,
    the confidence by `slack` more.

    p_values: the out-of-distribution test, or None to take the p-values of the file.
    """
    images = rounded_to_8_bits(stored.tensors["images"])
    confidence = _confidence(stored, images, classifier, form)
    p = stored.tensors["ood_p"] if p_values is None else p_values(images)
    return (
        (confidence >= want.confidence + slack)
        & (count_lit(images) <= want.max_lit)
        & (p <= want.ood_level)
    )


def _confidence(stored: Stored, images: Tensor, classifier: Classifier, form: str) -> Tensor:
    """(n,) probability of each witness's target for these images."""
    targets = stored.tensors["targets"]
    if len(images) == 0:
        return torch.zeros(0)
    with left_as_found(classifier):
        p = probabilities(classifier, images, form)
    if int(targets.max()) >= p.shape[1]:
        raise RunFolderError(f"witness targets must lie in 0..{p.shape[1] - 1}")
    return p.gather(1, targets[:, None]).squeeze(1)
