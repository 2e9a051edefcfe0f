"""How little of a fooling image, added to a real one, turns the answer: P = clip(Q + alpha R, 0,
1).

Q is a real image that the classifier gets right and is sure of, R a fooling image of another class;
P is *taken* when the classifier gives it R's class with the asked confidence. Two baselines say
whether R is special: a real image of R's class in its place, and R's own pixels at other places,
drawn at random.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Pool:
    """Images of one kind with their classes. images: (n, c, h, w) in [0, 1]. classes: (n,) int64."""

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
    """Which images are blended: positions in the pools, (n,) int64 each. real: of Q. fooling: of R.
    stand_in: of the real image in R's place, -1 where its class has none. order: seeds of the
    shuffles."""

    real: Tensor
    fooling: Tensor
    stand_in: Tensor
    order: Tensor

    def __len__(self) -> int:
        return len(self.real)


@dataclass(frozen=True)
class Blended:
    """What became of the pairs with one kind of image in R's place.

    taken: (alphas, n) bool. lost: (alphas, n) bool, the real image's class is no more the
    likeliest. smallest: (n,) the smallest alpha at which the pair is taken, `NEVER` where it is
    not. there: (n,) bool, False where there was no such image.
    """

    taken: Tensor
    lost: Tensor
    smallest: Tensor
    there: Tensor


Progress = Callable[[int, int], None]


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
    """Each image's pixels at random places, all channels of a pixel together, so that lit features
    and values stay.

    images: (n, c, h, w). order: (n,) int64 seeds, one for each image, so that a shuffle does not
    depend on its batch.
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
    of its class did. There are fewer pairs where the two classes have fewer different ones. Raises
    ArgumentError when there is no pair at all.
    """
    couples = [(q, r) for q in real.present for r in fooling.present if q != r]
    parts = [_cell(real, fooling, q, r, per_pair, seed) for q, r in couples]
    if not parts:
        raise ArgumentError(
            "nothing to blend: every fooling image is of the class of the only real images"
        )
    return Pairs(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _cell(
    real: Pool, fooling: Pool, q: int, r: int, per_pair: int, seed: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = seeded(seed, "blend", q, r)
    ours, theirs, others = (
        _drawn(positions, generator) for positions in (real.of(q), fooling.of(r), real.of(r))
    )
    n = min(per_pair, len(ours) * len(theirs))
    at = torch.arange(n)
    # every time the fooling images have been gone through, they meet the next real ones
    first = (at + at // math.lcm(len(ours), len(theirs))) % len(ours)
    stand_in = others[at % len(others)] if len(others) else torch.full((n,), -1)
    return (
        ours[first],
        theirs[at % len(theirs)],
        stand_in,
        torch.randint(2**62, (n,), generator=generator),
    )


def _drawn(positions: Tensor, generator: torch.Generator) -> Tensor:
    return positions[torch.randperm(len(positions), generator=generator)]


def blend(
    classifier: Classifier,
    form: str,
    real: Pool,
    fooling: Pool,
    pairs: Pairs,
    alphas: Sequence[float],
    confidence: float,
    progress: Progress = lambda done, total: None,
) -> dict[str, Blended]:
    """Blend every pair with each kind of image in R's place, and ask the classifier. form: of its
    outputs.

    Forward passes of a pair and kind: at most one for each step of `COARSE` up to 1, for each
    further alpha, and for each halving down to `FINE`. The classifier is left as it was found.
    """
    grid = sorted({round(k * COARSE, 10) for k in range(1, round(1 / COARSE) + 1)} | set(alphas))
    blocks = torch.split(
        torch.arange(len(pairs)), min(BATCH, images_at_once(fooling.images.shape[1:]))
    )
    made: dict[str, list[Blended]] = {kind: [] for kind in KINDS}
    with left_as_found(classifier):
        for count, (kind, rows) in enumerate([(kind, rows) for kind in KINDS for rows in blocks]):
            progress(count, len(KINDS) * len(blocks))
            there = (
                pairs.stand_in[rows] >= 0
                if kind == REAL
                else torch.ones(len(rows), dtype=torch.bool)
            )
            scan = _Scan(
                classifier,
                form,
                real.images[pairs.real[rows]],
                _in_place(kind, real, fooling, pairs, rows),
                real.classes[pairs.real[rows]],
                fooling.classes[pairs.fooling[rows]],
                confidence,
            )
            made[kind].append(scan.run(grid, alphas, there))
    progress(len(KINDS) * len(blocks), len(KINDS) * len(blocks))
    return {kind: _joined(parts) for kind, parts in made.items()}


def _joined(parts: Sequence[Blended]) -> Blended:
    taken, lost = (
        torch.cat([getattr(part, name) for part in parts], dim=1) for name in ("taken", "lost")
    )
    return Blended(
        taken, lost, torch.cat([p.smallest for p in parts]), torch.cat([p.there for p in parts])
    )


def _in_place(kind: str, real: Pool, fooling: Pool, pairs: Pairs, rows: Tensor) -> Tensor:
    """What stands in R's place."""
    if kind == REAL:
        return real.images[pairs.stand_in[rows].clamp_min(0)]
    own = fooling.images[pairs.fooling[rows]]
    return shuffle_pixels(own, pairs.order[rows]) if kind == SHUFFLED else own


@dataclass(frozen=True)
class _Scan:
    """A block of pairs. real, other: (n, c, h, w). own: (n,) classes of the real images. targets:
    (n,) the classes they are to be taken for."""

    classifier: Classifier
    form: str
    real: Tensor
    other: Tensor
    own: Tensor
    targets: Tensor
    confidence: float

    def ask(self, rows: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """(taken, lost) of the given rows, each with its alpha, (m,) bool."""
        images = blend_images(self.real[rows], self.other[rows], alpha)
        p = probabilities(self.classifier, images, self.form)
        return p.gather(1, self.targets[rows, None]).squeeze(1) >= self.confidence, p.argmax(
            dim=1
        ) != self.own[rows]

    def run(self, grid: Sequence[float], alphas: Sequence[float], there: Tensor) -> Blended:
        """Up the grid, asking at `alphas` about every row and elsewhere about those not taken yet;
        then halve."""
        n = len(self.real)
        taken, lost = torch.zeros(2, len(alphas), n, dtype=torch.bool)
        low, high = (
            torch.zeros(n, dtype=torch.float64),
            torch.full((n,), NEVER, dtype=torch.float64),
        )
        for below, alpha in zip([0.0, *grid], grid, strict=False):
            rows = (there if alpha in alphas else there & high.isinf()).nonzero().squeeze(1)
            if len(rows) == 0:
                continue
            now, gone = torch.zeros(2, n, dtype=torch.bool)
            now[rows], gone[rows] = self.ask(rows, torch.full((len(rows),), alpha))
            first = now & high.isinf()
            low[first], high[first] = below, alpha
            if alpha in alphas:
                taken[alphas.index(alpha)], lost[alphas.index(alpha)] = now, gone
        rows = high.isfinite().nonzero().squeeze(1)
        for _ in range(math.ceil(math.log2(COARSE / FINE)) if len(rows) else 0):
            middle = (low[rows] + high[rows]) / 2
            now, _ = self.ask(rows, middle.float())
            high[rows], low[rows] = (
                torch.where(now, middle, high[rows]),
                torch.where(now, low[rows], middle),
            )
        return Blended(taken, lost, high, there)
