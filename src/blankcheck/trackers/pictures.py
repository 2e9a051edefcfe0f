"""Witnesses and searched images as grids, which have the same pixels in every tracker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.figures.drawing import pixels
from blankcheck.runs.contents import RunContents

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
COLUMNS, MOST_CLASSES = 10, 20
SMALL, LARGE = 32, 128
"""Pixels that smaller images are enlarged to, and larger ones averaged down to."""
GAP, GREY = 2, 128 / 255
"""Between images, which shows where a black one ends."""


class Picture(NamedTuple):
    """A grid of images, (height, width, 3) from 0 to 255, at a step of an axis as a `Row` has it.
    words: what is to be seen."""

    name: str
    axis: str
    step: int
    words: str
    pixels: Pixels


def witness_pictures(contents: RunContents) -> list[Picture]:
    """A grid for every class that has witnesses: the sparsest ones above, the real images nearest
    to them beneath."""
    made = []
    for target in sorted({witness.target for witness in contents.witnesses}):
        found = [witness for witness in contents.witnesses if witness.target == target]
        shown = sorted(found, key=lambda witness: witness.lit)[:COLUMNS]
        rows = [torch.stack([witness.image for witness in shown])]
        words = f"class {target}, {contents.class_name(target)}: the sparsest witnesses"
        nearest = [witness.nearest for witness in shown if witness.nearest is not None]
        if len(nearest) == len(shown):
            rows.append(torch.stack(nearest))
            words += " (above), and the nearest real images (beneath)"
        words += f"; {len(found)} in all"
        made.append(Picture(f"witnesses/class/{target}", "record", 0, words, grid(rows)))
    return made


def round_pictures(state: Mapping[str, Any]) -> list[Picture]:
    """A grid for every round of a hardening and each of its sets, a row a class: a sample of what
    it trained on, and what a fresh search then found. Sparse and strange images come first."""
    made = []
    for what, words in (("trained", "images trained on"), ("fresh", "images of fresh attempts")):
        for index, (images, targets, counts) in enumerate(state[what]):
            classes = sorted(set(targets.tolist()))[:MOST_CLASSES]
            order = counts.int().argsort(descending=True, stable=True)
            rows = [images[order[targets[order] == target][:COLUMNS]] for target in classes]
            if rows:
                said = f"{words}: a row for each target class"
                made.append(Picture(f"fooling/{what}", "round", index, said, grid(rows)))
    return made


def grid(rows: Sequence[Tensor]) -> Pixels:
    """Rows of images (n, c, h, w) in [0, 1], grey where one is shorter than the longest. Of other
    than three channels the brightest is shown."""
    columns = max(len(row) for row in rows)
    images = F.pad(_sized(torch.cat(list(rows)).float()), (0, GAP, 0, GAP), value=GREY)
    c, h, w = images.shape[1:]
    cells = images.new_full((len(rows), columns, c, h, w), GREY)
    cells[torch.tensor([[len(row) > at for at in range(columns)] for row in rows])] = images
    whole = cells.permute(2, 0, 3, 1, 4).reshape(c, len(rows) * h, columns * w)
    return pixels(F.pad(whole, (GAP, 0, GAP, 0), value=GREY))


def _sized(images: Tensor) -> Tensor:
    if images.shape[1] != 3:
        images = images.amax(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    longest = max(images.shape[2:])
    if longest > LARGE:
        return F.avg_pool2d(images, -(-longest // LARGE), ceil_mode=True)
    return F.interpolate(images, scale_factor=max(1, -(-SMALL // longest)), mode="nearest-exact")
