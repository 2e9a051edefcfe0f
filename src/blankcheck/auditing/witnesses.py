"""From the images of attempts to plain numbers, and to the witnesses that are stored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.auditing.attempts import AttemptResults, Job
from blankcheck.classifiers import probabilities
from blankcheck.data import Data
from blankcheck.judging import OODTest
from blankcheck.judging.evidence import Attempt
from blankcheck.types import NEVER, Conditions, Rows, count_lit, stored

MOST_COMPARED, COMPARED_AT_ONCE = 300_000_000, 40_000_000
"""Images x features among which the nearest real image is looked for (1,992 of 3x224x224), and of
those in memory."""


@dataclass(frozen=True)
class Witnesses(Rows):
    """Fooling images and their numbers, one row each; `nearest` are the real training images
    closest in angle.

    process: (n,) index into `Gathered.processes`. seed: of the searches that made it. step:
    backward passes its attempt had used when it was met. attempt: its position among the attempts
    of its search. extra: found by a control, outside the fixed allocation. survives_8bit: all three
    conditions hold after rounding to 8 bits, as a PNG file does.
    """

    images: Tensor
    targets: Tensor
    confidence: Tensor
    lit: Tensor
    ood_p: Tensor
    nearest: Tensor
    process: Tensor
    seed: Tensor
    step: Tensor
    attempt: Tensor
    extra: Tensor
    survives_8bit: Tensor


@dataclass(frozen=True)
class Scored:
    """Attempts of one search as plain numbers, and their images. seed: of that search. extra: it
    was a control's."""

    attempts: tuple[Attempt, ...]
    images: Tensor
    seed: int
    extra: bool


def rounded_to_8_bits(images: Tensor) -> Tensor:
    """What is left of images in [0, 1] that were saved as 8-bit files, in stored form."""
    return stored((images * 255).round() / 255)


def judged(
    job: Job,
    tried: AttemptResults,
    judge: OODTest,
    second: OODTest,
    label: str = "",
    want: Conditions | None = None,
) -> Scored:
    """Plain numbers of each attempt. Every image is scored again, in other batches than the search
    used.

    second: the test of the second family of scores. label: the control the search belongs to. want:
    the conditions of the audit, where the search was asked for others.
    """
    best, want = tried.best, want or job.conditions
    confidence, ood_p = _numbers(job, best.images, best.targets, judge)
    round_confidence, round_p = _numbers(
        job, rounded := rounded_to_8_bits(best.images), best.targets, judge
    )
    survives = (
        (round_confidence >= want.confidence)
        & (count_lit(rounded) <= want.max_lit)
        & (round_p <= want.ood_level)
    )
    lit = count_lit(best.images)
    fooled = (confidence >= want.confidence) & (lit <= want.max_lit) & (ood_p <= want.ood_level)
    names = [f"{label}: {process.name}" if label else process.name for process in job.attacks]
    columns = (
        best.targets,
        fooled,
        tried.attack,
        lit,
        confidence,
        ood_p,
        best.fewest,
        second.p_values(best.images),
        best.found_at,
        fooled & survives,
    )
    attempts = tuple(
        Attempt(t, f, names[i], k, c, p, _fewest(few, k, c >= want.confidence), q, step, eight)
        for t, f, i, k, c, p, few, q, step, eight in zip(
            *(column.tolist() for column in columns), strict=True
        )
    )
    return Scored(attempts, best.images, job.seed, bool(label))


def _fewest(met: int, lit: int, confident: bool) -> int | None:
    """Lit features of the sparsest confident image of an attempt: of those met on the way, or of
    the one handed back."""
    fewest = min(met, lit) if confident else met
    return None if fewest >= NEVER else fewest


def _numbers(job: Job, images: Tensor, targets: Tensor, judge: OODTest) -> tuple[Tensor, Tensor]:
    """(confidence, p-value) of each image."""
    p = probabilities(job.classifier, images, job.form)
    return p.gather(1, targets[:, None]).squeeze(1), judge.p_values(images)


def witnesses(found: list[Scored], names: tuple[str, ...], data: Data) -> Witnesses:
    """The fooling images, those of the fixed attempts first."""
    kept = [(scored, i, a) for scored in found for i, a in enumerate(scored.attempts) if a.fooled]
    images = torch.stack([s.images[i] for s, i, _ in kept]) if kept else found[0].images[:0]

    def whole(values: list[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64)

    return Witnesses(
        images=images,
        targets=whole([a.target for _, _, a in kept]),
        confidence=torch.tensor([a.confidence for _, _, a in kept], dtype=torch.float32),
        lit=whole([a.lit for _, _, a in kept]),
        ood_p=torch.tensor([a.ood_p for _, _, a in kept], dtype=torch.float32),
        nearest=nearest_real(images, data),
        process=whole([names.index(a.process) for _, _, a in kept]),
        seed=whole([s.seed for s, _, _ in kept]),
        step=whole([a.step for _, _, a in kept]),
        attempt=whole([i for _, i, _ in kept]),
        extra=torch.tensor([s.extra for s, _, _ in kept], dtype=torch.bool),
        survives_8bit=torch.tensor([a.survives_8bit for _, _, a in kept], dtype=torch.bool),
    )


def nearest_real(images: Tensor, data: Data, among: int = 10_000) -> Tensor:
    """The training images closest in angle, (n, c, h, w) -> (n, c, h, w), among the first `among`;
    fewer of large images."""
    if len(images) == 0:
        return images.clone()
    pool, features = data.train.images, math.prod(data.shape)
    most, piece = (
        min(among, len(pool), max(1, MOST_COMPARED // features)),
        max(1, COMPARED_AT_ONCE // features),
    )
    closest, where = (
        torch.full((len(images),), -torch.inf),
        torch.zeros(len(images), dtype=torch.int64),
    )
    for first in range(0, most, piece):
        cosine, at = _closest(images, pool[first : min(first + piece, most)])
        where = torch.where(cosine > closest, first + at, where)
        closest = torch.maximum(closest, cosine)
    return pool[where]


def _closest(images: Tensor, pool: Tensor) -> tuple[Tensor, Tensor]:
    """For each image the largest cosine, up to its own length, and the position in the pool, each
    (n,)."""
    flat = pool.flatten(1)
    unit = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)
    cosines = [part.flatten(1) @ unit.T for part in torch.split(images, 500)]
    at = torch.cat([each.argmax(dim=1) for each in cosines])
    return torch.cat([each.amax(dim=1) for each in cosines]), at
