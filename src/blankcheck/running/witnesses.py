"""Witnesses as bytes and back, and scored again from what was read back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from blankcheck.auditing import Gathered, Witnesses
from blankcheck.auditing.witnesses import rounded_to_8_bits
from blankcheck.classifiers.wrapper import left_as_found, probabilities
from blankcheck.errors import RunFolderError
from blankcheck.files import pack as packed
from blankcheck.types import Classifier, Conditions, count_lit

TOLERANCE = 1e-4
"""Probabilities of one image move by about 1e-5 between batch sizes and machines."""
REQUIRED = ("images", "targets", "confidence", "lit", "ood_p")


@dataclass(frozen=True)
class Stored:
    """A witness file read back: tensors by name, and what its metadata says."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]

    def __len__(self) -> int:
        return len(self.tensors["targets"])


def pack(gathered: Gathered) -> bytes:
    """The contents of `witnesses.safetensors`."""
    witnesses = gathered.witnesses
    tensors = {f.name: getattr(witnesses, f.name) for f in fields(Witnesses)}
    judge = gathered.evidence.ood
    metadata = {
        "fingerprint": gathered.fingerprint,
        "processes": json.dumps(gathered.processes),
        "output_form": gathered.form,
        "ood_scores": json.dumps(judge.scores if judge is not None else ()),
    }
    return packed(tensors, metadata)


def unpack(raw: bytes, where: str) -> Stored:
    """Read witnesses; RunFolderError when tensors are missing, of wrong shape, or images outside [0, 1]."""
    try:
        tensors = load(raw)
        # the file begins with the length of a JSON header, which holds the metadata
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    except (SafetensorError, ValueError, KeyError) as error:
        raise RunFolderError(f"{where} is not a readable witness file") from error
    missing = [name for name in REQUIRED if name not in tensors]
    if missing:
        raise RunFolderError(f"{where} lacks {', '.join(missing)}")
    images, n = tensors["images"], len(tensors["images"])
    if images.ndim != 4 or any(len(tensors[name]) != n for name in REQUIRED):
        raise RunFolderError(f"{where} holds tensors that do not belong together")
    if n and not (float(images.min()) >= 0 and float(images.max()) <= 1):
        raise RunFolderError(f"{where} holds images outside [0, 1]")
    return Stored(tensors, header.get("__metadata__", {}))


def confirm(stored: Stored, classifier: Classifier, form: str, want: Conditions, ood_p: Tensor | None) -> Tensor:
    """Score stored images again: (n,) bool, True where all three conditions hold and the stored confidence is right.

    ood_p: p-values computed again, or None to take those in the file.
    """
    images = stored.tensors["images"].float()
    confidence, lit = _confidence(stored, images, classifier, form), count_lit(images)
    same = (confidence - stored.tensors["confidence"]).abs() <= 10 * TOLERANCE
    p_values = stored.tensors["ood_p"] if ood_p is None else ood_p
    return (
        (confidence >= want.confidence - TOLERANCE)
        & same
        & (lit <= want.max_lit)
        & (lit == stored.tensors["lit"])
        & (p_values <= want.ood_level)
    )


def confirm_rounded(
    stored: Stored, classifier: Classifier, form: str, want: Conditions, p_values: Callable[[Tensor], Tensor] | None
) -> Tensor:
    """(n,) bool: all three conditions hold for what is left of an image after rounding to 8 bits.

    p_values: the out-of-distribution test, or None to take the p-values of the file.
    """
    images = rounded_to_8_bits(stored.tensors["images"].float())
    confidence = _confidence(stored, images, classifier, form)
    p = stored.tensors["ood_p"] if p_values is None else p_values(images)
    return (confidence >= want.confidence) & (count_lit(images) <= want.max_lit) & (p <= want.ood_level)


def _confidence(stored: Stored, images: Tensor, classifier: Classifier, form: str) -> Tensor:
    """(n,) probability of each witness's target for these images."""
    targets = stored.tensors["targets"].long()
    if len(images) == 0:
        return torch.zeros(0)
    with left_as_found(classifier):
        p = probabilities(classifier, images, form)
    if int(targets.min()) < 0 or int(targets.max()) >= p.shape[1]:
        raise RunFolderError(f"witness targets must lie in 0..{p.shape[1] - 1}")
    return p.gather(1, targets[:, None]).squeeze(1)
