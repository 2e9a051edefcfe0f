"""How little of a fooling image, added to a real one, turns the answer: P = clip(Q + alpha R).

Q is a real image that the classifier gets right and is sure of, R a fooling image of another class.
P is *taken* when the classifier gives it R's class with the asked confidence. Two baselines say
whether R is special: a real image of R's class in its place, and R's own pixels at other places,
drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median_high
from typing import Any, NamedTuple

import torch
from torch import Tensor

from blankcheck.classifiers import probabilities
from blankcheck.classifiers.wrapper import left_as_found
from blankcheck.errors import ArgumentError
from blankcheck.seeds import seeded
from blankcheck.types import Classifier, images_at_once

KINDS = FOOLING, REAL, SHUFFLED = "fooling", "real", "shuffled"
COARSE, FINE, NEVER = 0.05, 0.001, math.inf
"""The smallest alpha: in steps of `COARSE` up to 1, then halved down to `FINE`; or `NEVER`."""
BATCH = 500
Ask = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From rows, and an alpha for each, to whether they are taken and have lost their own class."""


@dataclass(frozen=True)
class Pool:
    """Images of one kind, (n, c, h, w) in [0, 1], and their classes, (n,) int64."""

    images: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Tensor) -> Pool:
        return Pool(self.images[rows], self.classes[rows])

    @property
    def present(self) -> list[int]:
        """The classes that have an image, in order."""
        return sorted(set(self.classes.tolist()))

    def of(self, target: int) -> Tensor:
        """Positions of the images of one class, (m,) int64."""
        return (self.classes == target).nonzero().squeeze(1)


class Pairs(NamedTuple):
    """Positions of Q among the real images, of R among the fooling images, and of the real image in
    R's place, -1 where its class has none; and seeds of the shuffles. (n,) int64 each."""

    real: Tensor
    fooling: Tensor
    stand_in: Tensor
    order: Tensor


class Blended(NamedTuple):
    """What became of the pairs with one kind of image in R's place: taken and lost (the real
    image's class is no more the likeliest), (alphas, n) bool; the smallest alpha at which a pair is
    taken, else `NEVER`, (n,); and whether there was such an image, (n,) bool."""

    taken: Tensor
    lost: Tensor
    smallest: Tensor
    there: Tensor


def blend_images(real: Tensor, fooling: Tensor, alpha: float | Tensor) -> Tensor:
    """clip(Q + alpha R, 0, 1). real, fooling: (n, c, h, w). alpha: one for all, or (n,)."""
    wide = alpha[:, None, None, None] if isinstance(alpha, Tensor) else alpha
    return (real + wide * fooling).clamp(0, 1)


def shuffle_pixels(images: Tensor, order: Tensor) -> Tensor:
    """Each image's pixels at random places, all channels of a pixel together.

    Args:
        images: (n, c, h, w).
        order: (n,) int64 seeds, so that a shuffle does not depend on its batch.
    """
    n, c, h, w = images.shape
    drawn = (seeded("shuffle", int(seed)) for seed in order.tolist())
    places = torch.stack([torch.randperm(h * w, generator=generator) for generator in drawn])
    return images.flatten(2).gather(2, places[:, None].expand(n, c, h * w)).view_as(images)


def choose_pairs(real: Pool, fooling: Pool, per_pair: int, seed: int) -> Pairs:
    """For every two classes up to `per_pair` pairs of a real image of the one and a fooling image
    of the other.

    Both are drawn in turn from an order at random, so that no image comes again before all others
    of its class did. There are fewer pairs where the two classes have fewer different ones.

    Raises:
        ArgumentError: There is no pair at all.
    """
    parts = []
    for q, r in ((q, r) for q in real.present for r in fooling.present if q != r):
        draw, found = seeded(seed, "blend", q, r), (real.of(q), fooling.of(r), real.of(r))
        ours, theirs, others = (f[torch.randperm(len(f), generator=draw)] for f in found)
        n = min(per_pair, len(ours) * len(theirs))
        at = torch.arange(n)
        # every time the fooling images have been gone through, they meet the next real ones
        first = (at + at // math.lcm(len(ours), len(theirs))) % len(ours)
        stand_in = others[at % len(others)] if len(others) else torch.full((n,), -1)
        order = torch.randint(2**62, (n,), generator=draw)
        parts.append((ours[first], theirs[at % len(theirs)], stand_in, order))
    if not parts:
        why = "every fooling image is of the class of the only real images"
        raise ArgumentError(f"nothing to blend: {why}")
    return Pairs(*map(torch.cat, zip(*parts, strict=True)))


def blend(
    classifier: Classifier,
    form: str,
    real: Pool,
    fooling: Pool,
    pairs: Pairs,
    alphas: Sequence[float],
    confidence: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Blended]:
    """Blend every pair with each kind of image in R's place, and ask the classifier.

    Forward passes of a pair and kind: at most one for each step of `COARSE` up to 1, for each
    further alpha, and for each halving down to `FINE`. The classifier is left as it was found.

    Args:
        classifier: From images to outputs, whose form is `form`.
        real: Images Q, and `fooling` images R, of which `pairs` meet.
        alphas: In (0, 1], in order.
        confidence: From which on R's class counts as taken.
        progress: Called with blocks of pairs done, and in all.
    """

    def scanned(kind: str, block: Pairs) -> Blended:
        q, own = real.images[block.real], real.classes[block.real]
        r, targets = fooling.images[block.fooling], fooling.classes[block.fooling]
        if kind == REAL:
            r = real.images[block.stand_in.clamp_min(0)]
        elif kind == SHUFFLED:
            r = shuffle_pixels(r, block.order)

        def ask(rows: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
            p = probabilities(classifier, blend_images(q[rows], r[rows], alpha), form)
            taken = p.gather(1, targets[rows, None]).squeeze(1) >= confidence
            return taken, p.argmax(dim=1) != own[rows]

        return _scan(ask, (block.stand_in >= 0) | (kind != REAL), alphas)

    at_once = min(BATCH, images_at_once(fooling.images.shape[1:]))
    blocks = [Pairs(*rows) for rows in zip(*(torch.split(c, at_once) for c in pairs), strict=True)]
    made, total, done = {}, len(KINDS) * len(blocks), count()
    with left_as_found(classifier):
        for kind in KINDS:
            parts = []
            for block in blocks:
                progress(next(done), total)
                parts.append(scanned(kind, block))
            made[kind] = Blended(*(torch.cat(c, dim=-1) for c in zip(*parts, strict=True)))
    progress(total, total)
    return made


def _scan(ask: Ask, there: Tensor, alphas: Sequence[float]) -> Blended:
    """Up the grid, asking at `alphas` of all rows, else of those not taken yet; then halve."""
    n = len(there)
    grid = sorted({round(k * COARSE, 10) for k in range(1, round(1 / COARSE) + 1)} | set(alphas))
    taken, lost = torch.zeros(2, len(alphas), n, dtype=torch.bool)
    low, high = torch.zeros(n, dtype=torch.float64), torch.full((n,), NEVER, dtype=torch.float64)
    for below, alpha in zip([0.0, *grid], grid, strict=False):
        rows = (there if alpha in alphas else there & high.isinf()).nonzero().squeeze(1)
        if len(rows) == 0:
            continue
        now, gone = torch.zeros(2, n, dtype=torch.bool)
        now[rows], gone[rows] = ask(rows, torch.full((len(rows),), alpha))
        first = now & high.isinf()
        low[first], high[first] = below, alpha
        if alpha in alphas:
            taken[alphas.index(alpha)], lost[alphas.index(alpha)] = now, gone
    rows = high.isfinite().nonzero().squeeze(1)
    for _ in range(math.ceil(math.log2(COARSE / FINE)) if len(rows) else 0):
        middle = (low[rows] + high[rows]) / 2
        now, _ = ask(rows, middle.float())
        high[rows] = torch.where(now, middle, high[rows])
        low[rows] = torch.where(now, low[rows], middle)
    return Blended(taken, lost, high, there)


def tabulate(made: Blended, rows: Tensor, columns: Tensor) -> dict[str, Any]:
    """Plain numbers of one kind.

    Args:
        made: What became of the pairs.
        rows: (n,) the class of Q of each pair.
        columns: (n,) the class of R of each pair.

    Returns:
        `pairs`, `taken` and `lost` (for each alpha) in all; `smallest` the median over all pairs,
        null where half of them are never taken (the upper of two); in `cells` the same by class of
        Q and class of R, with `any`, the smallest alpha at which any is taken.
    """
    of_r = [made.there & (columns == r) for r in torch.unique(columns)]
    cells = [[cell & (rows == q) for cell in of_r] for q in torch.unique(rows)]
    smallest = [[made.smallest[cell].tolist() for cell in row] for row in cells]

    def counts(among: Tensor) -> list[list[int]]:
        return [[int(among[cell].sum()) for cell in row] for row in cells]

    return {
        "pairs": int(made.there.sum()),
        "taken": made.taken.sum(dim=1).tolist(),
        "lost": made.lost.sum(dim=1).tolist(),
        "smallest": _known(median_high, made.smallest[made.there].tolist()),
        "cells": {
            "pairs": counts(made.there),
            "taken": [counts(taken) for taken in made.taken],
            "smallest": [[_known(median_high, values) for values in row] for row in smallest],
            "any": [[_known(min, values) for values in row] for row in smallest],
        },
    }


def _known(pick: Callable[[Sequence[float]], float], values: Sequence[float]) -> float | None:
    value = pick(values or [NEVER])
    return None if math.isinf(value) else round(value, 4)


def examples(made: Blended, columns: Tensor, rows: Tensor, most: int) -> list[int]:
    """Positions of pairs to show: of each class of R the pair taken at the smallest alpha, classes
    of Q not shown yet first; the smallest `most` of them, in order of alpha."""
    chosen: list[int] = []
    order = [i for i in made.smallest.argsort(stable=True).tolist() if made.smallest[i].isfinite()]
    for target in torch.unique(columns):
        own = [i for i in order if columns[i] == target]
        chosen += sorted(own, key=lambda i: bool((rows[chosen] == rows[i]).any()))[:1]
    return sorted(chosen, key=lambda i: float(made.smallest[i]))[:most]
