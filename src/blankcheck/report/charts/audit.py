"""Numbers and images in, PNG bytes out.

Pure functions: no pyplot, no global state, nothing read or written.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
)
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from blankcheck.figures.style import HEIGHT, LIGHT, Theme, blank, dress, label, panel
from blankcheck.judging.metrics import share_at_most
from blankcheck.text import one_line


@dataclass(frozen=True)
class LitCounts:
    """Lit features of the attempts of one run; None for an attempt without such an image.

    fooling: of the fooling image. confident: fewest of any confident image, out of distribution or
    not. classes: `fooling` split by target class; may be empty.
    """

    name: str
    fooling: Sequence[int | None]
    confident: Sequence[int | None]
    classes: Sequence[Sequence[int | None]] = ()


@dataclass(frozen=True)
class Confidences:
    """Confidence of each attempt's best image in one run: of those that fooled, and of the others."""

    name: str
    fooled: Sequence[float]
    failed: Sequence[float]


def lit_steps(counts: Sequence[int | None], end: int) -> tuple[list[int], list[float]]:
    """The share of `counts` that are there and at most k, as steps: the k in 1..end where it
    changes, and the share there.

    The first k is 1 and the last is `end`; a count of 0 is at most 1.
    """
    at = sorted({1, end} | {c for c in counts if c is not None and 1 < c < end})
    return at, [share_at_most(counts, k) for k in at]


def lit_curve(
    runs: Sequence[LitCounts], max_lit: int, theme: Theme = LIGHT, twin: Sequence[int | None] = ()
) -> Figure:
    """Share of attempts with a fooling image of at most k lit features. Two runs are laid over each
    other.

    twin: lit features of the attempts of the same search on a plain twin; None for those that were
    not fooled.
    """
    figure, axes = panel("How few lit features are enough", theme, 4.2)
    known = [
        c
        for counts in (twin, *((*r.fooling, *r.confident) for r in runs))
        for c in counts
        if c is not None
    ]
    end = max(2, round(1.1 * max(known, default=1)), max_lit)
    colours = (theme.first,) if len(runs) == 1 else (theme.second, theme.first)
    for index, (run, colour) in enumerate(zip(runs, colours, strict=True)):
        for counts in run.classes:
            axes.step(
                *lit_steps(counts, end), where="post", color=theme.quiet, linewidth=0.8, zorder=1
            )
        name = run.name or "this network"
        dash, fat = (3, 1.6) if index == 0 else (1.2, 1.2), 2.6 + 0.8 * (len(runs) - 1 - index)
        axes.step(
            *lit_steps(run.fooling, end),
            where="post",
            color=colour,
            linewidth=fat,
            zorder=3 + index,
            label=f"{name}: fooling",
            clip_on=False,
        )
        axes.step(
            *lit_steps(run.confident, end),
            where="post",
            color=colour if len(runs) > 1 else theme.second,
            linewidth=1.6,
            dashes=dash,
            zorder=5,
            label=f"{name}: real-looking or not",
        )
        if run.classes:
            axes.plot([], [], color=theme.quiet, linewidth=1.5, label="its single classes: fooling")
    if twin:
        axes.step(
            *lit_steps(twin, end),
            where="post",
            color=theme.third,
            linewidth=2,
            dashes=(6, 1.5, 1.2, 1.5),
            zorder=6,
            label="plain twin: fooling",
            clip_on=False,
        )
    axes.axvline(max_lit, color=theme.muted, linewidth=1, linestyle=(0, (1, 2)))
    axes.annotate(
        f"limit {max_lit}",
        (max_lit, 0.5),
        (-4, 0),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="center",
        fontsize=9,
        color=theme.muted,
    )
    log_counts(axes.xaxis, 1, end)
    axes.set_xlim(1, end)
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
    label(
        figure,
        axes,
        "lit features k (count, log scale)",
        "share of attempts with at most k lit",
        theme,
    )
    return figure


def confidence_histogram(
    runs: Sequence[Confidences], threshold: float, theme: Theme = LIGHT
) -> Figure:
    """How sure the classifier was of the best image of each attempt: one panel a run."""
    figure = blank(HEIGHT if len(runs) == 1 else 2.9 * len(runs), theme)
    panels = figure.subplots(len(runs), 1, sharex=True, squeeze=False)[:, 0]
    edges = np.linspace(0, 1, 41)
    for run, axes in zip(runs, panels, strict=True):
        dress(
            axes,
            f"{run.name}: how sure of its best images"
            if len(runs) > 1
            else "How sure of its best images",
            theme,
        )
        axes.hist(
            [list(run.fooled), list(run.failed)],
            bins=edges,
            stacked=True,
            color=[theme.second, theme.muted],
            label=[f"fooled ({len(run.fooled)})", f"not fooled ({len(run.failed)})"],
        )
        axes.axvline(
            threshold, color=theme.ink, linewidth=1.2, linestyle="--", label=f"asked: {threshold:g}"
        )
        axes.set_xlim(0, 1)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        last = axes is panels[-1]
        label(
            figure,
            axes,
            "confidence (probability of the target class)" if last else "",
            "attempts",
            theme,
            3,
        )
    return figure


def per_class_bars(
    names: Sequence[str], rates: Sequence[float], bounds: Sequence[float], theme: Theme = LIGHT
) -> Figure:
    """Rate per target class, and a line up to its one-sided 95% upper bound."""
    figure, axes = panel("Attempts fooled, by target class", theme, 1.9 + 0.27 * max(2, len(names)))
    at = np.arange(len(names))
    axes.barh(at, rates, color=theme.second, height=0.55, label="rate")
    axes.hlines(
        at, rates, bounds, color=theme.ink, linewidth=1.2, label="up to the 95% upper bound"
    )
    axes.plot(bounds, at, "|", color=theme.ink, markersize=7)
    axes.set_yticks(at, [one_line(name, 22) for name in names], parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.01)
    axes.xaxis.set_major_formatter(PercentFormatter(1, 0))
    axes.grid(axis="y", visible=False)
    label(figure, axes, "share of attempts", "", theme)
    return figure


def loss_curve(epochs: Sequence[Mapping[str, Any]], theme: Theme = LIGHT) -> Figure:
    """Mean training loss of each epoch of a plain training."""
    figure, axes = panel("Loss, epoch by epoch", theme)
    at, losses = [e["epoch"] + 1 for e in epochs], [e["real_loss"] for e in epochs]
    axes.plot(at, losses, marker="o", markersize=3.5, color=theme.first, label="on training images")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    label(figure, axes, "epoch", "loss (nats)", theme)
    return figure


def witness_strip(
    rows: Sequence[tuple[Tensor, Tensor | None, str]], theme: Theme = LIGHT
) -> Figure:
    """Witnesses in a row with their words above, and the nearest real images beneath.

    Images are (c, h, w) in [0, 1].
    """
    figure = blank(2.85, theme, width=1.15 * len(rows))
    grid = figure.subplots(2, len(rows), squeeze=False)
    for column, (image, nearest, words) in enumerate(rows):
        grid[0, column].set_title(words, fontsize=8, color=theme.ink, parse_math=False)
        for axes, shown in ((grid[0, column], image), (grid[1, column], nearest)):
            axes.set_axis_off()
            if shown is not None:
                axes.imshow(_pixels(shown), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, the same bytes every time."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # class names may hold letters that the font lacks; a box in a picture is no news to the
        # user
        warnings.filterwarnings(
            "ignore", message="Glyph|Matplotlib currently", category=UserWarning
        )
        figure.savefig(
            buffer, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None}
        )
    return buffer.getvalue()


def image_png(image: Tensor, side: int = 112, most: int | None = None) -> bytes:
    """An image (c, h, w) in [0, 1] as a PNG file, grey or RGB.

    A smaller image is enlarged by a whole number, pixel by pixel, to about `side`; one larger than
    `most` is averaged down.
    """
    if most is not None and max(image.shape[1:]) > most:
        image = F.avg_pool2d(image[None], -(-max(image.shape[1:]) // most), ceil_mode=True)[0]
    pixels = _pixels(image)
    times = max(1, round(side / max(pixels.shape[:2])))
    buffer = io.BytesIO()
    Image.fromarray(pixels.repeat(times, axis=0).repeat(times, axis=1)).save(
        buffer, "PNG", optimize=True
    )
    return buffer.getvalue()


def _pixels(image: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """(c, h, w) in [0, 1] -> (h, w, 3) for three channels, else (h, w) of the brightest channel."""
    shown = image.permute(1, 2, 0) if image.shape[0] == 3 else image.amax(dim=0)
    pixels: np.ndarray[Any, np.dtype[np.uint8]] = (
        (shown.nan_to_num().clamp(0, 1) * 255).round().byte().numpy()
    )
    return pixels


def log_counts(axis: Axis, low: float, high: float) -> None:
    """A logarithmic axis of counts from `low` to `high`, with few enough whole numbers at its
    ticks."""
    axes = axis.axes
    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
    if high > 5 * low:
        digits = (1, 3) if high > 30 * low else (1, 2, 3, 5)
        ticks = [digit * 10**power for power in range(10) for digit in digits]
    else:
        ticks = [int(k) for k in MaxNLocator(5, integer=True).tick_values(low, high)]
    axis.set_major_locator(FixedLocator([k for k in ticks if max(1, low) <= k <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:,g}"))
