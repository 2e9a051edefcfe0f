"""Witnesses as bytes and back, and measured again from what was read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Set
from dataclasses import asdict, dataclass, fields
from math import inf
from typing import Any

import torch
from torch import Tensor

from blankcheck import files
from blankcheck.auditing import Gathered, Witnesses
from blankcheck.auditing.witnesses import rounded_to_8_bits
from blankcheck.classifiers.wrapper import left_as_found, probabilities
from blankcheck.data import Data
from blankcheck.data.lazy import IN_MEMORY, bytes_of
from blankcheck.data.split import fingerprint as fingerprint_of
from blankcheck.errors import RunFolderError
from blankcheck.runs.plain_values import parse_json
from blankcheck.runs.schema import checked
from blankcheck.types import LIT_THRESHOLD, Classifier, Conditions, count_lit

TOLERANCE = 1e-4
"""Probabilities of one image move by about 1e-5 between batch sizes and machines."""
_SHARE, _BOOL = (torch.float32, 0, 1), (torch.bool, 0, 1)
_COUNT, _SEED = (torch.int64, 0, inf), (torch.int64, -inf, inf)
FORMS = {
    **dict.fromkeys(("images", "nearest", "confidence", "ood_p"), _SHARE),
    **dict.fromkeys(("targets", "lit", "process", "step", "attempt"), _COUNT),
    **dict.fromkeys(("extra", "survives_8bit"), _BOOL),
    "seed": _SEED,
}
"""Type and range of each tensor: one number per witness, but for the images."""
LATER = ("nearest", "process", "seed", "step", "attempt", "extra", "survives_8bit")
"""Tensors that older files lack."""
_ALWAYS = ("fingerprint", "processes", "output_form", "ood_scores")
METADATA = (*_ALWAYS, "conditions", "data", "data_fingerprint")
"""Keys of the file's metadata; older files lack the last three."""
SAMPLED = 50_000_000
"""Images x features of each split whose fingerprint is that of a set beyond `IN_MEMORY`."""


@dataclass(frozen=True)
class Stored:
    """A witness file read back: tensors by name, what the file says of itself, and the names of
    search processes, which the tensor `process` points into."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    processes: list[str]

    def __len__(self) -> int:
        return len(self.tensors["targets"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of the images, which the file tells even when it holds none."""
        _, c, h, w = self.tensors["images"].shape
        return c, h, w

    def process(self, row: int) -> str:
        """The name of the process that found a witness; empty where it has none."""
        index = int(self.tensors["process"][row]) if "process" in self.tensors else -1
        return self.processes[index] if 0 <= index < len(self.processes) else ""

    def said(self, key: str) -> Any:
        """What the metadata says under a key that holds JSON; None where that cannot be read."""
        try:
            return parse_json(self.metadata[key])
        except (KeyError, ValueError):
            return None


def pack(gathered: Gathered, data: Data) -> bytes:
    """The contents of `witnesses.safetensors`. data: what the audit saw, which the file names."""
    witnesses, judge = gathered.witnesses, gathered.evidence.ood
    said = {
        "fingerprint": gathered.fingerprint,
        "processes": json.dumps(gathered.processes),
        "output_form": gathered.form,
        "ood_scores": json.dumps(judge.scores if judge is not None else ()),
        "conditions": json.dumps(asdict(gathered.evidence.conditions)),
        "data": data.source,
        "data_fingerprint": data_fingerprint(data),
    }
    return files.pack({f.name: getattr(witnesses, f.name) for f in fields(Witnesses)}, said)


def data_fingerprint(data: Data) -> str:
    """Sixteen hex digits that change when an image or label does; of a set beyond memory a sample
    of each split is read."""
    splits = (data.train, data.validation, data.test)
    if sum(bytes_of(split.images.shape) for split in splits) <= IN_MEMORY:
        return data.fingerprint
    return fingerprint_of([split.at_most(SAMPLED) for split in splits])


def unpack(raw: bytes, where: str) -> Stored:
    """Witnesses from the bytes of their file. Raises RunFolderError where a tensor is missing,
    unknown, of other shape or type, or holds other values than witnesses have: images in [0, 1] and
    in stored form, shares in [0, 1], counts not negative, all of them finite."""
    tensors, metadata = checked_tensors(raw, where, {*FORMS}, {*LATER})
    try:
        names = parse_json(metadata.get("processes", "[]"))
    except ValueError as error:
        raise RunFolderError(f"{where} is not a readable witness file: {error}") from error
    return Stored(tensors, metadata, checked(names, list[str], f"{where}: processes"))


def checked_tensors(
    raw: bytes, where: str, names: Set[str], optional: Set[str] = frozenset()
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors of these names, images among them, as `FORMS` has them, and what the file says of
    itself. Raises RunFolderError as `unpack` does."""
    try:
        tensors, metadata = files.unpack(raw, digest=False)
    except ValueError as error:
        raise RunFolderError(f"{where} is not a readable witness file: {error}") from error
    if missing := names - tensors.keys() - optional:
        raise RunFolderError(f"{where} lacks {', '.join(sorted(missing))}")
    if unknown := sorted(tensors.keys() - names):
        raise RunFolderError(f"{where} holds an unknown tensor {unknown[0][:60]!r}")
    shape = tuple(tensors["images"].shape)
    if len(shape) != 4 or min(shape[1:]) < 1:
        raise RunFolderError(f"{where}: images must be (n, channels, height, width), got {shape}")
    for name, tensor in tensors.items():
        own = shape if name in ("images", "nearest") else shape[:1]
        _check(tensor, name, own, f"{where}: {name}")
    images = tensors["images"]
    if bool(((images > 0) & (images < LIT_THRESHOLD)).any()):
        wanted = "images must be in stored form, without values between 0 and 1/512"
        raise RunFolderError(f"{where}: {wanted}")
    return tensors, metadata


def _check(tensor: Tensor, name: str, shape: tuple[int, ...], where: str) -> None:
    dtype, low, high = FORMS[name]
    if tensor.dtype != dtype or tuple(tensor.shape) != shape:
        wanted, got = (str(each).removeprefix("torch.") for each in (dtype, tensor.dtype))
        raise RunFolderError(f"{where} must be {wanted} {shape}, got {got} {tuple(tensor.shape)}")
    # written so that NaN fails, too
    if tensor.numel() and not (low <= float(tensor.min()) and float(tensor.max()) <= high):
        raise RunFolderError(f"{where}: values outside [{low:g}, {high:g}]")


@dataclass(frozen=True)
class Measured:
    """Stored images measured anew; each a tensor (n,) with one number per witness."""

    confidence: Tensor
    lit: Tensor
    ood_p: Tensor

    def meets(self, want: Conditions, slack: float = 0.0) -> Tensor:
        """(n,) bool: all three conditions hold, the confidence by `slack` more."""
        sparse, unusual = self.lit <= want.max_lit, self.ood_p <= want.ood_level
        return (self.confidence >= want.confidence + slack) & sparse & unusual

    def holds(self, stored: Stored, want: Conditions) -> dict[str, Tensor]:
        """For each condition (n,) bool: it holds, and the file says what was measured."""
        said, told = stored.tensors, stored.tensors["confidence"]
        sure = torch.minimum(self.confidence, told) >= want.confidence - TOLERANCE
        return {
            "confidence": sure & ((self.confidence - told).abs() <= 10 * TOLERANCE),
            "lit": (self.lit == said["lit"]) & (self.lit <= want.max_lit),
            "ood_p": self.ood_p <= want.ood_level,
        }


def measure(
    stored: Stored,
    classifier: Classifier,
    form: str,
    p_values: Callable[[Tensor], Tensor] | None = None,
    rounded: bool = False,
) -> Measured:
    """Measure stored images again, or what is left of them when `rounded` to 8 bits, by a network
    whose outputs have this form. p_values: of the out-of-distribution test; without it those of the
    file are taken. Raises RunFolderError where a target is no output of the network."""
    images, targets = stored.tensors["images"], stored.tensors["targets"]
    images = rounded_to_8_bits(images) if rounded else images
    confidence = torch.zeros(0)
    if len(images):
        with left_as_found(classifier):
            p = probabilities(classifier, images, form)
        if int(targets.max()) >= p.shape[1]:
            raise RunFolderError(f"witness targets must lie in 0..{p.shape[1] - 1}")
        confidence = p.gather(1, targets[:, None]).squeeze(1)
    ood_p = stored.tensors["ood_p"] if p_values is None else p_values(images)
    return Measured(confidence, count_lit(images), ood_p)


def confirm(stored: Stored, classifier: Classifier, form: str, want: Conditions) -> Tensor:
    """(n,) bool: all three conditions hold when measured again, and the stored confidence is right;
    p-values are those in the file."""
    return torch.stack([*measure(stored, classifier, form).holds(stored, want).values()]).all(dim=0)
