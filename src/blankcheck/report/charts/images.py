"""Witnesses and nearest misses as pictures: one by one in a gallery, and in a row."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from blankcheck.figures import style
from blankcheck.figures.drawing import Drawn, describe, drawn, image_png, pixels, shrink
from blankcheck.runs.contents import Miss, RunContents, Witness
from blankcheck.text import one_line, percent

SIDE = 112
"""Pixels of a witness in the gallery, about."""
MOST_IN_STRIP = 10


def draw_witnesses(name: str, contents: RunContents) -> Drawn:
    """The sparsest witness of each of the first classes that have one."""
    best: dict[int, Witness] = {}
    for witness in sorted(contents.witnesses, key=lambda w: (w.lit, -w.confidence)):
        best.setdefault(witness.target, witness)
    rows, said = [], {}
    for target in sorted(best)[:MOST_IN_STRIP]:
        w, named = best[target], one_line(contents.class_name(target), 40)
        words = f"“{one_line(named, 12)}” {w.confidence:.0%}\n{w.lit} lit"
        rows.append((w.image, w.nearest, words))
        said[f"{named}:"] = f"{w.lit} lit"
    what = "The sparsest witness of each class, above the real image of the nearest shape"
    return drawn(name, witness_strip(rows), alt=describe(what, said))


def draw_misses(name: str, contents: RunContents, misses: Sequence[Miss]) -> Drawn:
    """The misses of the first classes that have one."""
    rows, said = [], {}
    for miss in sorted(misses, key=lambda miss: miss.attempt.target)[:MOST_IN_STRIP]:
        a, named = miss.attempt, one_line(contents.class_name(miss.attempt.target), 40)
        words = (
            f"“{one_line(named, 12)}” {percent(a.confidence, 0)}\n{a.lit} lit\np = {a.ood_p:.2g}"
        )
        rows.append((miss.image, miss.nearest, words))
        said[f"{named}:"] = f"{percent(a.confidence)} sure, {a.lit} lit, p = {a.ood_p:.2g}"
    what = "The nearest miss of each class, above the real image of the nearest shape"
    return drawn(name, witness_strip(rows), alt=describe(what, said))


def witness_strip(rows: Sequence[tuple[Tensor, Tensor | None, str]]) -> Figure:
    """Images, (c, h, w) in [0, 1], with words above and the nearest real ones beneath."""
    figure = style.blank(2.85, 1.15 * len(rows))
    grid = figure.subplots(2, len(rows), squeeze=False)
    for column, (image, nearest, words) in enumerate(rows):
        grid[0, column].set_title(words, fontsize=8, color=style.INK)
        show_image(grid[0, column], image)
        show_image(grid[1, column], None if nearest is None else shrink(nearest, SIDE))
    return figure


def show_image(axes: Axes, image: Tensor | None) -> None:
    """An image, pixel by pixel, without axes."""
    axes.set_axis_off()
    if image is not None:
        axes.imshow(pixels(image), cmap="gray", vmin=0, vmax=255, interpolation="none")


def pngs_of(shown: Witness | Miss) -> tuple[bytes, bytes | None]:
    """A witness or a miss, and the real image nearest to it in shape."""
    # only the real one is made smaller: a lit pixel must not fade
    near = shown.nearest
    return image_png(shown.image, SIDE), None if near is None else image_png(near, SIDE, 2 * SIDE)
