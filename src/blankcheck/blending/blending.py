"""How little of a fooling image, added to a real one, turns the answer: P = clip(Q + alpha R).

Q is a real image that the classifier gets right and is sure of, R a fooling image of another class.
P is *taken* when the classifier gives it R's class with the asked confidence. Two baselines say
whether R is special: a real image of R's class in its place, and R's own pixels at other places,
drawn at random.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from blankcheck.classifiers import probabilities
from blankcheck.classifiers.wrapper import left_as_found
from blankcheck.errors import ArgumentError
from blankcheck.seeds import seeded
from blankcheck.types import Classifier, images_at_once

FOOLING, REAL, SHUFFLED = "fooling", "real", "shuffled"
KINDS = (FOOLING, REAL, SHUFFLED)
COARSE, FINE = 0.05, 0.001
"""The smallest alpha is looked for in steps of `COARSE` up to 1, then halved down to `FINE`."""
BATCH = 500
NEVER = math.inf
"""The smallest alpha of a pair that is not taken at any up to 1."""
Ask = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From rows, and an alpha for each, to whether they are taken and have lost their own class."""


@dataclass(frozen=True)
class Pool:
    """Images of one kind, (n, c, h, w) in [0, 1], and their classes, (n,) int64."""

    images: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @property
    def present(self) -> list[int]:
        """The classes that have an image, in order."""
        return sorted(set(self.classes.tolist()))

    def of(self, target: int) -> Tensor:
        """Positions of the images of one class, (m,) int64."""
        return (self.classes == target).nonzero().squeeze(1)


@dataclass(frozen=True)
class Pairs:
    """Positions of Q among the real images, of R among the fooling images, and of the real image in
    R's place, -1 where its class has none; and seeds of the shuffles. (n,) int64 each."""

    real: Tensor
    fooling: Tensor
    stand_in: Tensor
    order: Tensor

    def __len__(self) -> int:
        return len(self.real)


@dataclass(frozen=True)
class Blended:
    """What became of the pairs with one kind of image in R's place: taken and lost (the real
    image's class is no more the likeliest), (alphas, n) bool; the smallest alpha at which a pair is
    taken, else `NEVER`, (n,); and whether there was such an image, (n,) bool."""

    taken: Tensor
    lost: Tensor
    smallest: Tensor
    there: Tensor


def check_alphas(alphas: Sequence[float]) -> tuple[float, ...]:
    """The shares in order, each once; ArgumentError unless each lies in (0, 1]."""
    for alpha in alphas:
        if not 0 < alpha <= 1:
            raise ArgumentError(f"alphas must lie in (0, 1], got {alpha:g}")
    if not alphas:
        raise ArgumentError("alphas must name at least one share")
    return tuple(sorted(set(alphas)))


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
    places = torch.stack(
        [torch.randperm(h * w, generator=seeded("shuffle", int(seed))) for seed in order.tolist()]
    )
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
        generator = seeded(seed, "blend", q, r)
        ours, theirs, others = (
            found[torch.randperm(len(found), generator=generator)]
            for found in (real.of(q), fooling.of(r), real.of(r))
        )
        n = min(per_pair, len(ours) * len(theirs))
        at = torch.arange(n)
        # every time the fooling images have been gone through, they meet the next real ones
        first = (at + at // math.lcm(len(ours), len(theirs))) % len(ours)
        stand_in = others[at % len(others)] if len(others) else torch.full((n,), -1)
        order = torch.randint(2**62, (n,), generator=generator)
        parts.append((ours[first], theirs[at % len(theirs)], stand_in, order))
    if not parts:
        raise ArgumentError(
            "nothing to blend: every fooling image is of the class of the only real images"
        )
    return Pairs(*(torch.cat(column) for column in zip(*parts, strict=True)))


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

    def scanned(kind: str, block: Tensor) -> Blended:
        images, own = real.images[pairs.real[block]], real.classes[pairs.real[block]]
        other, targets = _in_place(kind, real, fooling, pairs, block)

        def ask(rows: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
            p = probabilities(classifier, blend_images(images[rows], other[rows], alpha), form)
            taken = p.gather(1, targets[rows, None]).squeeze(1) >= confidence
            return taken, p.argmax(dim=1) != own[rows]

        there = (pairs.stand_in[block] >= 0) | (kind != REAL)
        return _scan(ask, there, alphas)

    at_once = min(BATCH, images_at_once(fooling.images.shape[1:]))
    blocks = torch.split(torch.arange(len(pairs)), at_once)
    work = [(kind, block) for kind in KINDS for block in blocks]
    made: dict[str, list[Blended]] = {kind: [] for kind in KINDS}
    with left_as_found(classifier):
        for count, (kind, block) in enumerate(work):
            progress(count, len(work))
            made[kind].append(scanned(kind, block))
    progress(len(work), len(work))
    return {kind: _joined(parts) for kind, parts in made.items()}


def _in_place(
    kind: str, real: Pool, fooling: Pool, pairs: Pairs, block: Tensor
) -> tuple[Tensor, Tensor]:
    """What stands in R's place, and the classes of R."""
    images = fooling.images[pairs.fooling[block]]
    if kind == REAL:
        images = real.images[pairs.stand_in[block].clamp_min(0)]
    elif kind == SHUFFLED:
        images = shuffle_pixels(images, pairs.order[block])
    return images, fooling.classes[pairs.fooling[block]]


def _joined(parts: Sequence[Blended]) -> Blended:
    names = ("taken", "lost", "smallest", "there")
    return Blended(*(torch.cat([getattr(p, name) for p in parts], dim=-1) for name in names))


def _scan(ask: Ask, there: Tensor, alphas: Sequence[float]) -> Blended:
    """Up the grid, asking at `alphas` about every row and elsewhere about those not taken yet; then
    halve."""
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


def tabulate(
    made: Blended, rows: Tensor, columns: Tensor, classes: tuple[Sequence[int], Sequence[int]]
) -> dict[str, Any]:
    """Plain numbers of one kind.

    Args:
        made: What became of the pairs.
        rows: (n,) the class of Q of each pair.
        columns: (n,) the class of R of each pair.
        classes: Those of the rows and of the columns of the table.

    Returns:
        `pairs`, `taken` and `lost` (for each alpha) in all; `smallest` the median over all pairs,
        null where half of them are never taken; in `cells` the same by class of Q and class of R,
        with `any`, the smallest alpha at which any is taken.
    """
    cells = [[made.there & (rows == q) & (columns == r) for r in classes[1]] for q in classes[0]]
    smallest = [[made.smallest[cell] for cell in row] for row in cells]

    def counts(among: Tensor) -> list[list[int]]:
        return [[int((among & cell).sum()) for cell in row] for row in cells]

    return {
        "pairs": int(made.there.sum()),
        "taken": made.taken.sum(dim=1).tolist(),
        "lost": made.lost.sum(dim=1).tolist(),
        "smallest": _median(made.smallest[made.there]),
        "cells": {
            "pairs": counts(made.there),
            "taken": [counts(taken) for taken in made.taken],
            "smallest": [[_median(values) for values in row] for row in smallest],
            "any": [
                [_finite(min(values.tolist(), default=NEVER)) for values in row] for row in smallest
            ],
        },
    }


def _median(values: Tensor) -> float | None:
    """The upper median, so that one pair taken of two does not make a number of half of never."""
    return _finite(statistics.median_high(values.tolist())) if len(values) else None


def _finite(value: float) -> float | None:
    return None if math.isinf(value) else round(value, 4)


def examples(made: Blended, columns: Tensor, rows: Tensor, most: int) -> list[int]:
    """Positions of pairs to show: of each class of R the pair taken at the smallest alpha, classes
    of Q not shown yet first; the smallest `most` of them, in order of alpha."""
    chosen: list[int] = []
    shown: set[int] = set()
    order = [i for i in made.smallest.argsort(stable=True).tolist() if made.smallest[i].isfinite()]
    for target in sorted(set(columns.tolist())):
        own = [i for i in order if int(columns[i]) == target]
        if own:
            best = next((i for i in own if int(rows[i]) not in shown), own[0])
            shown.add(int(rows[best]))
            chosen.append(best)
    return sorted(chosen, key=lambda i: float(made.smallest[i]))[:most]
