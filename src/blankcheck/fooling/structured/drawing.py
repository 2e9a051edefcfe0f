"""Which structured images there are: drawn from numbers, and enumerated where there are few."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from blankcheck.fooling.counter_rng import uniform
from blankcheck.fooling.structured.painting import KINDS, ONE_GREY, SHADINGS, Window, painted

Shape = tuple[int, int, int]
GENES = 20
"""Numbers in [0, 1) that describe an image."""
DIM = 0.02
"""The darkest grey that is drawn."""
GREYS = (1.0, 0.75, 0.5, 0.25)
"""Of what is enumerated."""
NUMBER = {name: number for number, name in enumerate(KINDS)}


def structured(genes: Tensor, shape: Shape, max_lit: int) -> Tensor:
    """The images (n, c, h, w) that numbers (n, `GENES`) in [0, 1) describe, in stored form, none
    with more than `max_lit` lit features."""
    return painted(_window(genes, shape, max_lit), max_lit)


class Structures:
    """First the images of which there are few, all of them, then some drawn by chance; painted when
    they are asked for, as `types.Images` are.

    Args:
        drawn: how many of the latter.
        of: (c, h, w).
        max_lit: most lit features.
        seed: of the numbers drawn.
    """

    def __init__(self, drawn: int, of: Shape, max_lit: int, seed: int) -> None:
        self.of, self.max_lit, self.seed = of, max_lit, seed
        self.plans = torch.tensor(list(_few(of)))
        self.shape = torch.Size((len(self.plans) + drawn, *of))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor | slice | int) -> Tensor:
        """The images at these positions, (m, c, h, w)."""
        at = torch.arange(len(self))[index].view(-1)
        keys, few = at + self.seed % 2**40, at < len(self.plans)
        window = _window(uniform(keys, 0, GENES), self.of, self.max_lit)
        known = _enumerated(window, self.plans[at.clamp_max(len(self.plans) - 1)])
        return painted(known.where(few, window), self.max_lit)


def _few(shape: Shape) -> Iterator[tuple[float, ...]]:
    """(kind, top, left, h, w, p, t, phase, bits, grey, channel) of small rectangles, corners,
    borders, pairs of pixels, crosses, frames, whole lines, stripes, checks and lattices; channel -1
    is all of them; and of one block in every grey of an 8-bit file."""
    c, rows, columns = shape
    greys = [(grey, -1) for grey in GREYS] + [(1.0, channel) for channel in range(c) if c > 1]
    whole, side = (0, 0, rows, columns), min(rows, columns)
    steps, sides = range(2, min(9, side)), range(1, min(8, side) + 1)
    plans = [
        *(
            # each size at the border, and once in the middle
            (NUMBER["rectangle"], top, left, h, w, 2, 1, 0, 0)
            for h, w in itertools.product(sides, sides)
            for top, left in ((0, 0), ((rows - h) // 2, (columns - w) // 2))
        ),
        *(
            (NUMBER[kind], *whole, 2, t, 0, bits)
            for kind in ("corners", "border")
            for t in (1, 2, 3)
            for bits in range(1, 16)
        ),
        # pairs of pixels, and crosses of both kinds, in the middle
        *((NUMBER["corners"], rows // 2, 0, 1, n, 2, 1, 0, 3) for n in range(2, columns)),
        *((NUMBER["corners"], 0, columns // 2, n, 1, 2, 1, 0, 5) for n in range(2, rows)),
        *(
            (NUMBER["lines"], (rows - n) // 2, (columns - n) // 2, n, n, 2, 1, 1, bits)
            for n in range(3, side + 1, 2)
            for bits in (0, 2)
        ),
        *(
            (NUMBER["frame"], i, i, rows - 2 * i, columns - 2 * i, 2, t, 0, 15)
            for i in range(1, side // 2)
            for t in (1, 2)
        ),
        *((NUMBER["bar"], i, 0, t, columns, 2, t, 0, 0) for t in (1, 2) for i in range(rows)),
        *((NUMBER["bar"], 0, i, rows, t, 2, t, 0, 0) for t in (1, 2) for i in range(columns)),
        *(
            (NUMBER["stripes"], *whole, p, t, phase, bits)
            for p in steps
            for t in (1, 2)
            if t < p
            for phase in (0, 1)
            for bits in range(4)
        ),
        *((NUMBER["checks"], *whole, 2, t, phase, 0) for t in range(1, 5) for phase in (0, t)),
        *((NUMBER[kind], *whole, p, 1, 0, 0) for kind in ("lattice", "grid") for p in steps),
    ]
    block = NUMBER["rectangle"], rows // 3, columns // 3, 2, 2, 2, 1, 0, 0
    every_grey = ((*block, level / 255, -1) for level in range(1, 256))
    yield from ((*plan, *grey) for plan, grey in itertools.product(plans, greys))
    yield from every_grey


def _enumerated(at: Window, plans: Tensor) -> Window:
    """The same window with what plans (n, 11) say instead."""
    whole = plans[:, :9].long().T[:, :, None, None]
    kind, top, left, h, w, p, t, phase, bits = whole
    grey, channel, c = plans[:, 9, None, None], plans[:, 10, None], at.channels.shape[1]
    own = (channel < 0) | (channel == torch.arange(c))
    return replace(
        at,
        kind=kind.flatten(),
        shading=torch.full_like(at.shading, ONE_GREY),
        u=torch.arange(at.u.shape[1])[None, :, None] - top,
        v=torch.arange(at.v.shape[2])[None, None, :] - left,
        **{"h": h, "w": w, "p": p, "t": t, "phase": phase, "bits": bits},
        keep=torch.ones_like(at.keep),
        grey=grey,
        channels=own.float()[:, :, None, None],
        mixed=torch.zeros_like(at.mixed),
    )


def _window(genes: Tensor, shape: Shape, max_lit: int) -> Window:
    gene, (c, rows, columns) = genes.T[:, :, None, None], shape
    side, kind = min(rows, columns), _whole(gene[0], len(KINDS))

    def one_of(*names: str) -> Tensor:
        return torch.stack([kind == NUMBER[name] for name in names]).any(dim=0)

    whole = (gene[1] < 0.25) | one_of("border") | (one_of("corners") & (gene[1] < 0.7))
    # squares of genes, so that small windows are as frequent as large ones
    h = torch.where(whole, rows, 1 + _whole(gene[2] * gene[2], rows))
    w = torch.where(whole, columns, 1 + _whole(gene[3] * gene[3], columns))
    t = 1 + _whole(gene[4] * gene[4] * gene[4], max(2, side // 4))
    bar, upright = one_of("bar"), gene[5] < 0.5
    h, w = torch.where(bar & ~upright, t, h), torch.where(bar & upright, t, w)
    few = (2 + _whole(gene[8] * gene[8], 12)) / (h * w)
    many = gene[8] * (max_lit / (h * w)).clamp_max(1)
    density = torch.where(one_of("few"), few, many.maximum(3 / (h * w)))
    random = one_of("dots", "few", "mirrored", "tiles")
    keys = (gene[14] * 2**24).long()
    channels, mixed = _colours(gene[15], gene[18], gene[19], c)
    y, x = (torch.arange(n, device=genes.device) for n in (rows, columns))
    return Window(
        kind.flatten(),
        # half of the images have one grey
        _whole((2 * gene[16] - 1).clamp_min(0), len(SHADINGS)).flatten(),
        u=y[None, :, None] - _whole(gene[10], rows + 1 - h),
        v=x[None, None, :] - _whole(gene[11], columns + 1 - w),
        h=h,
        w=w,
        p=t + 1 + _whole(gene[12] * gene[12], max(2, side // 2)),
        t=t,
        phase=_whole(gene[13], 16),
        bits=torch.where(one_of("frame") & (gene[7] < 0.5), 15, 1 + _whole(gene[6], 15)),
        density=density,
        keep=torch.where((gene[9] < 0.3) & ~random, 0.1 + 3 * gene[9], 1.0),
        grey=_grey(gene[17]),
        other=_grey(gene[17] * 1000 % 1),
        keys=keys,
        channels=channels,
        mixed=mixed,
    )


def _whole(gene: Tensor, below: Tensor | int) -> Tensor:
    """A whole number from 0 on."""
    return (gene * below).long()


def _grey(gene: Tensor) -> Tensor:
    """White, eighths, tenths, any value, or a value of an 8-bit file, from a gene."""
    way, share = _whole(gene, 8), gene * 8 % 1
    level = DIM + (1 - DIM) * share
    level = torch.where(way > 5, (level * 255).round() / 255, level)
    level = torch.where(way == 3, (1 + _whole(share, 10)) / 10, level)
    level = torch.where(way == 2, (1 + _whole(share, 8)) / 8, level)
    return torch.where(way < 2, 1.0, level)


def _colours(way: Tensor, hue: Tensor, second: Tensor, c: int) -> tuple[Tensor, Tensor]:
    """How bright each of c channels is, (n, c, 1, 1), and whether each pixel has one channel: grey,
    one channel, all but one, any colour, pixels of one channel each."""
    n, kind = len(way), _whole(way, 5)[:, None] * (c > 1)
    number = torch.arange(c, device=way.device).view(1, c, 1, 1)
    own = number == _whole(hue, c)[:, None]
    any_colour = (hue[:, None] + (number + 1) * second[:, None]) % 1
    shares = torch.where(kind == 3, any_colour, torch.ones(n, c, 1, 1, device=way.device))
    shares = torch.where(kind == 2, 1 - own.float(), shares)
    return torch.where(kind == 1, own.float(), shares), (kind == 4).flatten()
