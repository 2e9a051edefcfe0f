"""Images as PNG files, and plain HTML with which a value shows itself in a notebook."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from blankcheck.text import one_line

CELL = "display:inline-block;margin:0 8px 8px 0;text-align:center;vertical-align:top"
SIDE = 72
"""Pixels of an image in a row, about."""


def image_png(image: Tensor, side: int = 112, most: int | None = None) -> bytes:
    """Turn an image into a PNG file, grey or RGB.

    Args:
        image: (c, h, w) in [0, 1].
        side: A smaller image is enlarged by a whole number, pixel by pixel, to about this many.
        most: A larger image is averaged down to at most this many.
    """
    shown = pixels(image if most is None else shrink(image, most))
    times = max(1, round(side / max(shown.shape[:2])))
    from PIL import Image

    buffer = io.BytesIO()
    large = Image.fromarray(shown.repeat(times, axis=0).repeat(times, axis=1))
    large.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def shrink(image: Tensor, most: int) -> Tensor:
    """An image (c, h, w) averaged down to at most `most` pixels a side."""
    times = -(-max(image.shape[1:]) // most)
    return image if times == 1 else F.avg_pool2d(image[None], times, ceil_mode=True)[0]


def pixels(image: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(c, h, w) in [0, 1] -> (h, w, 3) for three channels, else (h, w) of the brightest channel."""
    shown = image.permute(1, 2, 0) if image.shape[0] == 3 else image.amax(dim=0)
    return np.asarray((shown.nan_to_num().clamp(0, 1) * 255).round().byte())


def data_uri(png: bytes) -> str:
    """A PNG file as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def row(shown: Iterable[tuple[Tensor, Sequence[str]]]) -> str:
    """Images (c, h, w) in [0, 1] beside each other, with lines beneath."""
    cells = []
    for image, lines in shown:
        words = "<br>".join(escape(one_line(line, 40)) for line in lines)
        source, alt = data_uri(image_png(image, SIDE, 2 * SIDE)), escape(one_line(lines[0]))
        look = f"width:{SIDE}px;image-rendering:pixelated;border:1px solid #8888"
        picture = f'<img src="{source}" alt="{alt}" style="{look}">'
        cells.append(f'<span style="{CELL}">{picture}<br><small>{words}</small></span>')
    return f"<div>{''.join(cells)}</div>"


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table of plain values."""

    def line(kind: str, cells: Sequence[object]) -> str:
        inside = "".join(f"<{kind}>{escape(one_line(cell, 1000))}</{kind}>" for cell in cells)
        return f"<tr>{inside}</tr>"

    return f"<table>{line('th', head)}{''.join(line('td', cells) for cells in rows)}</table>"


def headed(word: str, rest: str, *parts: str, colour: str = "inherit") -> str:
    """A block that begins with a word and a line; `parts` are HTML already."""
    first = f'<b style="color:{colour}">{escape(one_line(word))}</b> {escape(one_line(rest, 1000))}'
    fit = "<style>svg.figure{max-width:100%;height:auto}</style>"
    return f"<div>{fit}<p>{first}</p>{''.join(parts)}</div>"
