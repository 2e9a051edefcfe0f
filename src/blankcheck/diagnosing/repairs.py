"""Forms for networks that refuse the images: other channels, another order of the axes, another
size."""

from __future__ import annotations

from dataclasses import replace

from torch.nn import functional as F

from blankcheck.classifiers.wrapper import Normalisation
from blankcheck.diagnosing.forms import (
    AS_IS,
    PLAIN,
    TRANSPOSED,
    Arrangement,
    Form,
    distinct,
    normalisations,
    wide,
)

SIZES = (32, 64, 96, 224)
"""Sides of images that published networks take."""

TRIPLED = Arrangement("channels", "3 channels", constants=3)
"""Three constants turn an image of one channel into three equal ones."""
GREY = Arrangement(
    "channels",
    "1 channel",
    lambda x: x[:, :1] * 0.299 + x[:, 1:2] * 0.587 + x[:, 2:3] * 0.114,
    "x[0][:, :1] * 0.299 + x[0][:, 1:2] * 0.587 + x[0][:, 2:3] * 0.114",
    constants=1,
)
OPAQUE = Arrangement(
    "channels", "3 channels without opacity", lambda x: x[:, :3], "x[0][:, :3]", constants=1
)
LAST = Arrangement(
    "layout", "channels last", lambda x: x.permute(0, 2, 3, 1), "x[0].permute(0, 2, 3, 1)"
)
FLAT = Arrangement("layout", "one row of features", lambda x: x.flatten(1), "x[0].flatten(1)")
PLANE = Arrangement("layout", "no axis for channels", lambda x: x.squeeze(1), "x[0].squeeze(1)")


def resized(size: int) -> Arrangement:
    """Images of another size, bilinear."""
    return Arrangement(
        "layout",
        f"{size}x{size} images",
        lambda x: F.interpolate(x, size=(size, size), mode="bilinear", antialias=True),
        f'torch.nn.functional.interpolate(x[0], size=({size}, {size}), mode="bilinear", antialias=True)',
    )


def padded(by: int, size: int) -> Arrangement:
    """Images of another size, with more of their own border around them: black stays black however
    it is normalised."""
    margins = (by,) * 4
    return Arrangement(
        "layout",
        f"{size}x{size} images",
        lambda x: F.pad(x, margins, mode="replicate"),
        f'torch.nn.functional.pad(x[0], {margins}, mode="replicate")',
    )


def rearranged(
    arrangement: Arrangement, channels: int, own: Normalisation, current: Form
) -> list[Form]:
    """Every normalisation, in an arrangement that the network does not refuse."""
    n = arrangement.constants or channels
    mean, std = (wide([sum(v) / len(v)] if n != len(v) else v, n) for v in own)
    forms = [
        Form(((0.0,) * n, (1.0,) * n), "", PLAIN)
        if f.normalize is None and arrangement.constants > 1
        else f
        for f in normalisations(n, (mean, std))
    ]
    if current.normalize is not None and len(current.normalize[0]) in (1, n):
        forms.insert(
            0,
            replace(
                current, normalize=(wide(current.normalize[0], n), wide(current.normalize[1], n))
            ),
        )
    spread = [
        replace(f, normalize=(wide(f.normalize[0], n), wide(f.normalize[1], n)))
        if f.normalize
        else f
        for f in forms
    ]
    return list(distinct([replace(form, arrangement=arrangement) for form in spread]))


def repairs(shape: tuple[int, int, int]) -> list[Arrangement]:
    """Arrangements for a network that refuses images of this shape, the simplest first."""
    c, h, w = shape
    channels = {1: [AS_IS, TRIPLED], 3: [AS_IS, GREY], 4: [AS_IS, OPAQUE]}.get(c, [AS_IS])
    axes = [TRANSPOSED] if h != w else []
    axes += [LAST, FLAT, *([PLANE] if c == 1 else [])]
    sizes = [padded(2, 32)] if h == w == 28 else []
    sizes += [resized(size) for size in SIZES if (h, w) != (size, size)]
    spatial = [*axes, *sizes]
    single = [*channels[1:], *spatial]
    return single + [_both(first, second) for first in channels[1:] for second in spatial]


def _both(first: Arrangement, second: Arrangement) -> Arrangement:
    line = second.line.replace("x[0]", f"({first.line})") if first.line else second.line
    return Arrangement(
        first.code,
        f"{first.words}, {second.words}",
        lambda x: second.change(first.change(x)),
        line,
        first.constants,
    )
