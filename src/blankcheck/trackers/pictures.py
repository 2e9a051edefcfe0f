"""Witnesses and searched images as grids.

Pure functions; one grid has the same pixels in every tracker.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.runs.contents import RunContents, Witness

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

COLUMNS, MOST_CLASSES = 10, 20
"""Images of one class side by side, and classes in the grid of a round."""
SMALL, LARGE = 32, 128
"""Sides, in pixels, that smaller images are enlarged to by whole numbers, and larger ones averaged
down to."""
GAP, GREY = 2, 128
"""Between cells: wide and light enough to show where a black image ends."""


@dataclass(frozen=True)
class Picture:
    """A grid of images under a name and a step, as `Row` has them. cells: rows of images (c, h, w)
    in [0, 1], None where a cell is empty. words: what is to be seen, plain text."""

    name: str
    axis: str
    step: int
    words: str
    cells: tuple[tuple[Tensor | None, ...], ...]

    @cached_property
    def pixels(self) -> Pixels:
        """(height, width, 3), 0 to 255."""
        shape = next(image.shape[1:] for row in self.cells for image in row if image is not None)
        high, wide = _cell(torch.zeros(1, *shape)).shape[:2]
        rows, columns = len(self.cells), max(len(row) for row in self.cells)
        grid = np.full(
            (GAP + rows * (high + GAP), GAP + columns * (wide + GAP), 3), GREY, dtype=np.uint8
        )
        for i, row in enumerate(self.cells):
            for j, image in enumerate(row):
                if image is not None:
                    top, left = GAP + i * (high + GAP), GAP + j * (wide + GAP)
                    grid[top : top + high, left : left + wide] = _cell(image)
        return grid


def _cell(image: Tensor) -> Pixels:
    """(c, h, w) in [0, 1] -> (high, wide, 3): three channels are colours, of another number the
    brightest is shown."""
    longest = max(image.shape[1:])
    if longest > LARGE:
        image = F.avg_pool2d(image[None], -(-longest // LARGE), ceil_mode=True)[0]
    if image.shape[0] != 3:
        image = image.amax(dim=0, keepdim=True).expand(3, -1, -1)
    times = max(1, -(-SMALL // max(image.shape[1:])))
    pixels: Pixels = (image.nan_to_num().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def witness_pictures(contents: RunContents) -> list[Picture]:
    """A grid for every class that has witnesses: the sparsest ones above, the real images nearest
    to them beneath."""
    by_class: dict[int, list[Witness]] = {}
    for witness in contents.witnesses:
        by_class.setdefault(witness.target, []).append(witness)
    made = []
    for target, found in sorted(by_class.items()):
        shown = sorted(found, key=lambda w: w.lit)[:COLUMNS]
        cells: list[tuple[Tensor | None, ...]] = [tuple(w.image for w in shown)]
        words = f"class {target}, {contents.class_name(target)}: the sparsest {len(shown)} of {len(found)} witnesses"
        if any(w.nearest is not None for w in shown):
            cells.append(tuple(w.nearest for w in shown))
            words += " (above), and the nearest real images (beneath)"
        made.append(Picture(f"witnesses/class/{target}", "record", 0, words, tuple(cells)))
    return made


def round_pictures(state: Mapping[str, Any]) -> list[Picture]:
    """A grid for every round of a hardening's state and each of its sets: a row a class; images
    that are sparse and out of distribution first. trained: a sample of what was trained on. fresh:
    what a new search then found on the network."""
    return [
        Picture(f"fooling/{what}", "round", index, f"{words}: a row for each target class", cells)
        for what, words in (("trained", "images trained on"), ("fresh", "images of fresh attempts"))
        for index, shown in enumerate(state[what])
        if (cells := _by_class(*shown))
    ]


def _by_class(
    images: Tensor, targets: Tensor, counts: Tensor
) -> tuple[tuple[Tensor | None, ...], ...]:
    rows: list[tuple[Tensor, ...]] = []
    for target in sorted(set(targets.tolist()))[:MOST_CLASSES]:
        mine = (targets == target).nonzero().flatten()
        order = mine[counts[mine].int().argsort(descending=True, stable=True)]
        rows.append(images[order[:COLUMNS]].float().unbind())
    return tuple(rows)
