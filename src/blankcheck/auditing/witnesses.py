"""From the images of attempts to plain numbers, and to the witnesses and misses that are stored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.auditing.attack_run import Job
from blankcheck.auditing.attempts import AttemptResults
from blankcheck.auditing.judges import Judges
from blankcheck.classifiers import probabilities
from blankcheck.copies import digest_of
from blankcheck.data import Data
from blankcheck.judging.evidence import Attempt, nearest_misses
from blankcheck.judging.shape import outline
from blankcheck.types import NEVER, Conditions, Rows, count_lit, stored

MOST_COMPARED, COMPARED_AT_ONCE = 300_000_000, 40_000_000
"""Images x features searched for the nearest real image, and of those at once in memory."""


@dataclass(frozen=True)
class Witnesses(Rows):
    """Fooling images and their numbers; `nearest` are the training images of the closest shape.

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
class Misses(Rows):
    """Of each class that no fixed attempt fooled the image that came closest, (m, c, h, w).

    attempt: (m,) its position among the fixed attempts, which have its numbers. nearest: (m, c, h,
    w), the training images of the closest shape.
    """

    images: Tensor
    targets: Tensor
    attempt: Tensor
    nearest: Tensor


@dataclass(frozen=True)
class Scored:
    """Attempts of one search as plain numbers, and their images. extra: it was a control's."""

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
    judges: Judges,
    label: str = "",
    want: Conditions | None = None,
) -> Scored:
    """Plain numbers of each attempt. Every image is scored again, in other batches than the search
    used. label: the control the search belongs to. want: the conditions of the audit, where the
    search was asked for others.
    """
    best, want = tried.best, want or job.conditions

    def scored(images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        p = probabilities(job.classifier, images, job.form)
        confidence, lit = p.gather(1, best.targets[:, None]).squeeze(1), count_lit(images)
        ood_p = judges.first.p_values(images)
        sure, odd = confidence >= want.confidence, ood_p <= want.ood_level
        return confidence, lit, ood_p, sure & (lit <= want.max_lit) & odd

    confidence, lit, ood_p, fooled = scored(best.images)
    survives = fooled & scored(rounded_to_8_bits(best.images))[-1]
    # of the images met on the way, or of the one handed back
    fewest = torch.where(confidence >= want.confidence, best.fewest.minimum(lit), best.fewest)
    names = [f"{label}: {attack.name}" if label else attack.name for attack in job.attacks]
    first = (best.targets, fooled, tried.attack, lit, confidence, ood_p, fewest)
    second_p, odd_p = (test.p_values(best.images) for test in (judges.second, judges.odd))
    columns = [x.tolist() for x in (*first, second_p, best.found_at, survives, odd_p)]
    columns.append([digest_of(image) for image in best.images])
    attempts = tuple(
        Attempt(t, f, names[attack], k, c, p, None if few >= NEVER else few, *others)
        for t, f, attack, k, c, p, few, *others in zip(*columns, strict=True)
    )
    return Scored(attempts, best.images, job.seed, bool(label))


def witnesses(found: list[Scored], names: tuple[str, ...], data: Data) -> Witnesses:
    """The fooling images, those of the fixed attempts first."""
    kept = [(scored, i, a) for scored in found for i, a in enumerate(scored.attempts) if a.fooled]
    images = torch.stack([s.images[i] for s, i, _ in kept]) if kept else found[0].images[:0]

    def of_attempt(name: str, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.tensor([getattr(a, name) for _, _, a in kept], dtype=dtype)

    return Witnesses(
        images=images,
        targets=of_attempt("target"),
        confidence=of_attempt("confidence", torch.float32),
        lit=of_attempt("lit"),
        ood_p=of_attempt("ood_p", torch.float32),
        nearest=nearest_real(images, data),
        process=torch.tensor([names.index(a.process) for _, _, a in kept], dtype=torch.int64),
        seed=torch.tensor([s.seed for s, _, _ in kept], dtype=torch.int64),
        step=of_attempt("step"),
        attempt=torch.tensor([i for _, i, _ in kept], dtype=torch.int64),
        extra=torch.tensor([s.extra for s, _, _ in kept], dtype=torch.bool),
        survives_8bit=of_attempt("survives_8bit", torch.bool),
    )


def misses(scored: Scored, want: Conditions, data: Data) -> Misses:
    """The nearest misses of the fixed attempts."""
    closest = nearest_misses(scored.attempts, want)
    targets, attempt = (torch.tensor([*x], dtype=torch.int64) for x in (closest, closest.values()))
    images = scored.images[attempt]
    return Misses(images, targets, attempt, nearest_real(images, data))


def nearest_real(images: Tensor, data: Data, among: int = 10_000) -> Tensor:
    """The training images of the closest shape (`judging.shape.outline`, by angle), (n, c, h, w),
    among the first `among`, or fewer."""
    if len(images) == 0:
        return images.clone()
    pool, features = data.train.images, math.prod(data.shape)
    most = min(among, len(pool), max(1, MOST_COMPARED // features))
    piece = max(1, COMPARED_AT_ONCE // features)
    closest = torch.full((len(images),), -torch.inf)
    where = torch.zeros(len(images), dtype=torch.int64)
    for first in range(0, most, piece):
        cosine, at = _closest(images, pool[first : min(first + piece, most)])
        where = torch.where(cosine > closest, first + at, where)
        closest = torch.maximum(closest, cosine)
    return pool[where]


def _closest(images: Tensor, pool: Tensor) -> tuple[Tensor, Tensor]:
    """For each image the largest cosine of shapes, and its place in the pool; (n,)."""
    known = outline(pool)
    best = [(outline(part) @ known.T).max(dim=1) for part in torch.split(images, 500)]
    return torch.cat([each.values for each in best]), torch.cat([each.indices for each in best])
