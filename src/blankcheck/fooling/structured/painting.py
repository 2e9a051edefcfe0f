"""How structured images are painted: kinds of places, and greys for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blankcheck.fooling.counter_rng import uniform
from blankcheck.types import LIT_THRESHOLD, Rows

SHRINKS = 3
"""How often the window of what has too many lit features shrinks before rows are cut off."""
SLANTS = (1, 0), (0, 1), (1, 1), (1, -1)
"""Down and right, of stripes."""
ANGLES = tuple((math.cos(math.pi * i / 8), math.sin(math.pi * i / 8)) for i in range(8))
"""The same, of lines."""


@dataclass(frozen=True)
class Window(Rows):
    """What is drawn, and positions as seen from the corner of the window it is drawn in.

    kind: (n,) index into `KINDS`. shading: (n,) into `SHADINGS`. u: (n, rows, 1), v: (n, 1,
    columns) position in the window. channels: (n, c, 1, 1) how bright each is. mixed: (n,) bool,
    every pixel has one channel. All others (n, 1, 1). h, w: sides of the window; p: pitch, t:
    thickness, phase: of what repeats, in pixels; bits: sides, corners or directions, 0..15;
    density: share of random pixels that are lit; keep: share of all pixels that may be; grey,
    other: in (0, 1]; keys: of random numbers.
    """

    kind: Tensor
    shading: Tensor
    u: Tensor
    v: Tensor
    h: Tensor
    w: Tensor
    p: Tensor
    t: Tensor
    phase: Tensor
    bits: Tensor
    density: Tensor
    keep: Tensor
    grey: Tensor
    other: Tensor
    keys: Tensor
    channels: Tensor
    mixed: Tensor

    @property
    def inside(self) -> Tensor:
        """(n, rows, columns) bool."""
        return ((self.u >= 0) & (self.u < self.h)) & ((self.v >= 0) & (self.v < self.w))

    @property
    def radius(self) -> Tensor:
        """Squared distance from the centre; 1 at the border of the largest ellipse inside."""
        down, right = (2 * self.u + 1 - self.h) / self.h, (2 * self.v + 1 - self.w) / self.w
        return down * down + right * right

    def bit(self, number: int) -> Tensor:
        """(n, 1, 1) bool."""
        return (self.bits >> number) & 1 > 0

    def direction(self, among: Sequence[tuple[float, float]]) -> Tensor:
        """The one that `bits` says, (2, n, 1, 1)."""
        table = torch.tensor(among, device=self.bits.device)
        return table[self.bits.flatten() % len(among)].T[:, :, None, None]

    def random(self, counter: int = 0) -> Tensor:
        """(n, rows, columns) in [0, 1)."""
        n, rows, columns = len(self.u), self.u.shape[1], self.v.shape[2]
        return uniform(self.keys.flatten(), counter, rows * columns).view(n, rows, columns)

    def random_at(self, u: Tensor, v: Tensor) -> Tensor:
        """The same numbers, of other places of the window, so that they repeat."""
        numbers = self.random()
        rows, columns = numbers.shape[1:]
        place = ((u % rows) * columns + v % columns).expand_as(numbers)
        return numbers.flatten(1).gather(1, place.flatten(1)).view_as(numbers)


def _frame(at: Window) -> Tensor:
    """Any of the four sides."""
    up, down = at.bit(0) & (at.u < at.t), at.bit(1) & (at.u >= at.h - at.t)
    left, right = at.bit(2) & (at.v < at.t), at.bit(3) & (at.v >= at.w - at.t)
    return up | down | left | right


def _corners(at: Window) -> Tensor:
    """Any of the four corners."""
    up, down, left, right = at.u < at.t, at.u >= at.h - at.t, at.v < at.t, at.v >= at.w - at.t
    above = up & (at.bit(0) & left | at.bit(1) & right)
    return above | down & (at.bit(2) & left | at.bit(3) & right)


def _stripes(at: Window) -> Tensor:
    down, right = at.direction(SLANTS)
    along: Tensor = down * at.u + right * at.v + at.phase
    return along % at.p < at.t


def _lattice(at: Window, both: Callable[[Tensor, Tensor], Tensor] = torch.logical_and) -> Tensor:
    return both(at.u % at.p < at.t, (at.v + at.phase) % at.p < at.t)


def _lines(at: Window) -> Tensor:
    """One through the centre, or two that cross."""
    down, right = at.direction(ANGLES)
    y, x = 2 * at.u + 1 - at.h, 2 * at.v + 1 - at.w
    one: Tensor = (down * y + right * x).abs() <= at.t
    second: Tensor = (right * y - down * x).abs() <= at.t
    return one | second & (at.phase % 2 == 1)


def _ring(at: Window) -> Tensor:
    inner = (1 - 2 * at.t / torch.minimum(at.h, at.w)).clamp_min(0)
    return (at.radius <= 1) & (at.radius > inner * inner)


def _half(at: Window) -> Tensor:
    """One side of a diagonal."""
    u = torch.where(at.bit(0), at.u, at.h - 1 - at.u)
    v = torch.where(at.bit(1), at.v, at.w - 1 - at.v)
    return u * at.w <= v * at.h


def _mirrored(at: Window) -> Tensor:
    """Random pixels, alike on both sides of one axis or two."""
    u = torch.where(at.bit(0), torch.minimum(at.u, at.h - 1 - at.u), at.u)
    v = torch.where(at.bit(1) | ~at.bit(0), torch.minimum(at.v, at.w - 1 - at.v), at.v)
    return at.random_at(u, v) < at.density


def _whole_lines(at: Window) -> Tensor:
    """Random rows, or columns."""
    rows, columns = at.random_at(at.u // at.t, 0 * at.v), at.random_at(0 * at.u, at.v // at.t)
    return torch.where(at.bit(0), rows, columns) < at.density


KINDS: dict[str, Callable[[Window], Tensor]] = {
    "rectangle": lambda at: at.inside,
    "bar": lambda at: at.inside,
    "frame": _frame,
    "border": _frame,
    "corners": _corners,
    "stripes": _stripes,
    "checks": lambda at: ((at.u + at.phase) // at.t + at.v // at.t) % 2 == 0,
    "lattice": _lattice,
    "grid": lambda at: _lattice(at, torch.logical_or),
    "lines": _lines,
    "disc": lambda at: at.radius <= 1,
    "ring": _ring,
    "half": _half,
    "dots": lambda at: at.random() < at.density,
    "few": lambda at: at.random() < at.density,
    "mirrored": _mirrored,
    "tiles": lambda at: at.random_at(at.u % at.p, at.v % at.p) < at.density,
    "whole lines": _whole_lines,
}
"""Where an image is lit within its window."""


def _between(at: Window, share: Tensor) -> Tensor:
    return at.grey + (at.other - at.grey) * share


def _soft(at: Window) -> Tensor:
    """Brightest in the middle."""
    falls = 1 / (1 + 2 * at.radius)
    return at.grey * falls * falls


def _ramp(at: Window) -> Tensor:
    return _between(at, torch.where(at.bit(2), at.u / at.h, at.v / at.w).clamp(0, 1))


ONE_GREY = 0
SHADINGS: tuple[Callable[[Window], Tensor], ...] = (
    lambda at: at.grey,
    lambda at: torch.where((at.u + at.v) % 2 == 0, at.grey, at.other),
    lambda at: torch.where(at.random(1) < 0.5, at.grey, at.other),
    lambda at: _between(at, at.random(1)),
    _ramp,
    _soft,
)


def painted(at: Window, max_lit: int) -> Tensor:
    """The images; what has too many lit features gets a smaller window, and loses whole rows where
    that does not help."""
    images = _painted(at)
    for turn in range(SHRINKS + 1):
        lit = (images > 0).flatten(1).sum(dim=1)
        rows = (lit > max_lit).nonzero().squeeze(1)
        if len(rows) == 0:
            break
        if turn == SHRINKS:
            return images.index_copy(0, rows, _first_rows(images[rows], max_lit))
        share = (max_lit / lit[rows]).sqrt()[:, None, None]
        part = at.rows(rows)
        h, w = ((side * share).long().clamp_min(1) for side in (part.h, part.w))
        at = replace(at, h=at.h.index_copy(0, rows, h), w=at.w.index_copy(0, rows, w))
        images = images.index_copy(0, rows, _painted(at.rows(rows)))
    return images


def _first_rows(images: Tensor, max_lit: int) -> Tensor:
    """As many rows of pixels as may be lit; of one that is too long alone, its first pixels."""
    lit = (images > 0).sum(dim=1)
    rows = lit.sum(dim=2).cumsum(dim=1)[:, :, None] <= max_lit
    pixels = (lit.flatten(1).cumsum(dim=1) <= max_lit).view_as(lit)
    none = ~(rows & (lit > 0)).flatten(1).any(dim=1)[:, None, None]
    return images * torch.where(none, pixels, rows)[:, None]


def _painted(at: Window) -> Tensor:
    lit = at.inside.float() * _each(tuple(KINDS.values()), at.kind, at)
    rows = (at.keep < 1).flatten().nonzero().squeeze(1)
    some = at.rows(rows)
    lit[rows] *= some.random(2) < some.keep
    images = (lit * _each(SHADINGS, at.shading, at).clamp(LIT_THRESHOLD, 1))[:, None] * at.channels
    rows = at.mixed.nonzero().squeeze(1)
    number = torch.arange(images.shape[1], device=rows.device).view(-1, 1, 1)
    images[rows] *= (at.rows(rows).random(3) * len(number)).long()[:, None] == number
    return images * (images >= LIT_THRESHOLD)


def _each(ways: Sequence[Callable[[Window], Tensor]], which: Tensor, at: Window) -> Tensor:
    """What each row's way (n,) says of it, (n, rows, columns)."""
    made = torch.zeros(len(which), at.u.shape[1], at.v.shape[2], device=which.device)
    for number in sorted(set(which.tolist())):
        rows = (which == number).nonzero().squeeze(1)
        made[rows] = ways[number](at.rows(rows)).to(made.dtype).expand(-1, *made.shape[1:])
    return made
