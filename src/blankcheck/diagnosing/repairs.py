"""Forms for networks that refuse the images: other channels, another order of the axes, another
size."""

from __future__ import annotations

from dataclasses import replace

from torch.nn import functional as F

from blankcheck.classifiers.wrapper import Normalisation
from blankcheck.diagnosing.forms import (
    AS_IS,
    NOTHING,
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
LAST = Arrangement(
    "layout", "channels last", lambda x: x.permute(0, 2, 3, 1), "x[0].permute(0, 2, 3, 1)"
)
FLAT = Arrangement("layout", "one row of features", lambda x: x.flatten(1), "x[0].flatten(1)")
PLANE = Arrangement("layout", "no axis for channels", lambda x: x.squeeze(1), "x[0].squeeze(1)")


def repairs(shape: tuple[int, int, int]) -> list[Arrangement]:
    """Arrangements for a network that refuses images of this shape, the simplest first."""
    c, h, w = shape
    spatial = [*([TRANSPOSED] if h != w else []), LAST, FLAT, *([PLANE] if c == 1 else [])]
    spatial += [_padded(2, 32)] if h == w == 28 else []
    spatial += [_resized(size) for size in SIZES if (h, w) != (size, size)]
    tripled = [
        replace(a, code="channels", words=f"{TRIPLED.words}, {a.words}", constants=3)
        for a in spatial
    ]
    if c == 1:
        return [AS_IS, TRIPLED, *spatial, *tripled]
    return [AS_IS, *([GREY] if c == 3 else []), *spatial]


def _resized(size: int) -> Arrangement:
    """Images of another size, bilinear."""
    return Arrangement(
        "layout",
        f"{size}x{size} images",
        lambda x: F.interpolate(x, size=(size, size), mode="bilinear", antialias=True),
        f"torch.nn.functional.interpolate(x[0], size=({size}, {size}), "
        'mode="bilinear", antialias=True)',
    )


def _padded(by: int, size: int) -> Arrangement:
    """Images of another size, with more of their own border around them: black stays black however
    it is normalised."""
    return Arrangement(
        "layout",
        f"{size}x{size} images",
        lambda x: F.pad(x, (by,) * 4, mode="replicate"),
        f'torch.nn.functional.pad(x[0], {(by,) * 4}, mode="replicate")',
    )


def rearranged(
    arrangement: Arrangement, channels: int, own: Normalisation, current: Form
) -> list[Form]:
    """Every normalisation, in an arrangement that the network does not refuse."""
    n = arrangement.constants or channels
    mean, std = (wide(v if len(v) == n else [sum(v) / len(v)], n) for v in own)
    forms = normalisations(n, (mean, std))
    if current.normalize is not None and len(current.normalize[0]) in (1, n):
        forms.insert(0, current)
    made = []
    for form in forms:
        normalize = form.normalize or (NOTHING if arrangement.constants > 1 else None)
        if normalize is not None:
            normalize = wide(normalize[0], n), wide(normalize[1], n)
        made.append(replace(form, normalize=normalize, arrangement=arrangement))
    return list(distinct(made))
