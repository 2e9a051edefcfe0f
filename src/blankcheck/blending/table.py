"""What became of blended images, as plain numbers by class, and which of them to show."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from blankcheck.blending.blending import NEVER, Blended


def tabulate(
    made: Blended, rows: Tensor, columns: Tensor, classes: tuple[Sequence[int], Sequence[int]]
) -> dict[str, Any]:
    """Plain numbers of one kind. rows, columns: (n,) the classes of Q and R of each pair. classes:
    those of the table.

    `pairs`, `taken` and `lost` (for each alpha) in all; `smallest` the median over all pairs, null
    where half of them are never taken; in `cells` the same by class of Q and class of R, with
    `any`, the smallest alpha at which any is taken.
    """
    cells = [[made.there & (rows == q) & (columns == r) for r in classes[1]] for q in classes[0]]
    return {
        "pairs": int(made.there.sum()),
        "taken": [int(t.sum()) for t in made.taken],
        "lost": [int(t.sum()) for t in made.lost],
        "smallest": _median(made.smallest[made.there]),
        "cells": {
            "pairs": [[int(cell.sum()) for cell in row] for row in cells],
            "taken": [
                [[int((t & cell).sum()) for cell in row] for row in cells] for t in made.taken
            ],
            "smallest": [[_median(made.smallest[cell]) for cell in row] for row in cells],
            "any": [
                [
                    _finite(made.smallest[cell].amin().item() if cell.any() else NEVER)
                    for cell in row
                ]
                for row in cells
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
    order = made.smallest.argsort(stable=True).tolist()
    for target in sorted(set(columns.tolist())):
        own = [
            i for i in order if int(columns[i]) == target and math.isfinite(float(made.smallest[i]))
        ]
        if own:
            best = next((i for i in own if int(rows[i]) not in shown), own[0])
            shown.add(int(rows[best]))
            chosen.append(best)
    return sorted(chosen, key=lambda i: float(made.smallest[i]))[:most]
