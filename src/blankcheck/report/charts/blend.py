"""The pictures of blending: numbers and images in, figures out."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from torch import Tensor

from blankcheck.blending.blending import FOOLING, REAL, SHUFFLED, blend_images
from blankcheck.figures.style import HEIGHT, LIGHT, Theme, blank, dress
from blankcheck.report.blend_wording import NAMES, finding
from blankcheck.report.charts.select_rounds import Drawn, both
from blankcheck.runs.blend_record import Blends
from blankcheck.text import one_line, percent

WHAT = {"taken": "Taken for the other class", "lost": "Own class lost"}
ACROSS = 3
"""Heat maps beside each other."""
MOST_NAMED = 20
"""Classes up to which each is named."""
MOST_ALPHAS = 12
"""Heat maps; of more alphas, evenly spaced ones are drawn."""


def draw_blends(blends: Blends | None) -> dict[str, Drawn]:
    """The pictures of a report by name; none where nothing was blended."""
    if blends is None:
        return {}
    drawn = {
        "blend-shares": both(lambda t: share_curves(blends, t), _share_words(blends)),
        "blend-maps": both(lambda t: heat_maps(blends, t), _map_words(blends)),
    }
    if blends.record["examples"]:
        drawn["blend-examples"] = both(lambda t: example_rows(blends, t), _example_words(blends))
    return drawn


def share_curves(blends: Blends, theme: Theme = LIGHT) -> Figure:
    """Share of the pairs, by alpha, that are taken for the added image's class, and that lose their
    own: with fooling images, and with what stands in their place."""
    figure = blank(HEIGHT, theme)
    panels = figure.subplots(1, 2, sharey=True)
    looks: dict[str, dict[str, Any]] = {
        FOOLING: {"color": theme.second, "marker": "o", "linewidth": 2.8},
        REAL: {"color": theme.first, "marker": "s", "linewidth": 2, "linestyle": "--"},
        SHUFFLED: {"color": theme.third, "marker": "^", "linewidth": 2, "linestyle": ":"},
    }
    most = max(
        (s for kind in NAMES for what in WHAT for s in blends.shares(kind, what) if s is not None),
        default=0.0,
    )
    # half and more are seen against all; of little the differences must still be seen
    top = 1.0 if most >= 0.5 else max(0.1, 1.2 * most)
    for axes, (what, title) in zip(panels, WHAT.items(), strict=True):
        dress(axes, title, theme)
        for kind, look in looks.items():
            shares = [np.nan if share is None else share for share in blends.shares(kind, what)]
            axes.plot(
                [0, *blends.record["alphas"]],
                [0, *shares],
                label=NAMES[kind],
                markersize=6,
                clip_on=False,
                **look,
            )
        axes.set_xlim(0, max(blends.record["alphas"]))
        axes.set_ylim(-0.02 * top, 1.02 * top)
        axes.yaxis.set_major_formatter(PercentFormatter(1, 0))
        axes.set_xlabel("alpha: how much is added", color=theme.muted, fontsize=10)
    panels[0].set_ylabel("share of pairs", color=theme.muted, fontsize=10)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        loc="outside lower left",
        frameon=False,
        labelcolor=theme.ink,
        fontsize=9,
        ncols=3,
        columnspacing=1.2,
        handlelength=2.2,
    )
    return figure


def heat_maps(blends: Blends, theme: Theme = LIGHT) -> Figure:
    """Share of the pairs taken by fooling images, a map for each alpha: rows the class of the real
    image, columns that of the fooling image."""
    record = blends.record
    at = range(len(record["alphas"]))
    if len(at) > MOST_ALPHAS:
        at = range(0, len(at), -(-len(at) // MOST_ALPHAS))
    down = -(-len(at) // ACROSS)
    figure = blank(0.7 + 1.6 * down, theme)
    grid = figure.subplots(down, ACROSS, squeeze=False, sharex=True, sharey=True)
    colours = LinearSegmentedColormap.from_list("taken", [theme.grid, theme.second, theme.ink])
    cells = record["kinds"][FOOLING]["cells"]
    pairs = np.array(cells["pairs"], dtype=float)
    mesh = None
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, index in zip(grid.flat, at, strict=False):
        axes.set_axis_on()
        with np.errstate(invalid="ignore"):
            shares = np.ma.masked_invalid(np.array(cells["taken"][index], dtype=float) / pairs)
        dress(axes, f"alpha {record['alphas'][index]:g}", theme)
        mesh = axes.pcolormesh(
            shares,
            cmap=colours,
            vmin=0,
            vmax=1,
            edgecolors=theme.paper,
            linewidth=1 if pairs.size <= 900 else 0,
        )
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(labelsize=8)
    _name_classes(grid[0, 0], blends)
    grid[0, 0].invert_yaxis()
    figure.supxlabel("class of the fooling image", color=theme.muted, fontsize=10)
    figure.supylabel("class of the real image", color=theme.muted, fontsize=10)
    assert mesh is not None, "a record names at least one alpha"
    bar = figure.colorbar(mesh, ax=grid, format=PercentFormatter(1, 0), pad=0.02, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=theme.muted, labelsize=9, length=0)
    return figure


def _name_classes(axes: Axes, blends: Blends) -> None:
    rows, columns = (
        [one_line(blends.name(t), 10) for t in blends.record[side]] for side in ("rows", "columns")
    )
    for axis, names in ((axes.yaxis, rows), (axes.xaxis, columns)):
        few = len(names) <= MOST_NAMED
        axis.set_ticks(
            [i + 0.5 for i in range(len(names))] if few else [],
            names if few else [],
            **({"parse_math": False} if few else {}),
        )
    if any(len(name) > 2 for name in columns):
        axes.tick_params(axis="x", rotation=90)


def example_rows(blends: Blends, theme: Theme = LIGHT) -> Figure:
    """Real image + alpha x fooling image = what is taken for its class, two examples a row."""
    examples = blends.record["examples"]
    down = -(-len(examples) // 2)
    figure = blank(0.2 + 1.25 * down, theme)
    grid = figure.subplots(down, 7, squeeze=False, width_ratios=(1, 1, 1, 0.2, 1, 1, 1))
    for axes in grid.flat:
        axes.set_axis_off()
    for index, example in enumerate(examples):
        q, r, alpha = (
            blends.real[index : index + 1],
            blends.fooling[index : index + 1],
            example["alpha"],
        )
        column, names = (
            4 * (index % 2),
            (blends.name(example["row"]), blends.name(example["column"])),
        )
        shown = (
            (q, f"real “{one_line(names[0], 9)}”"),
            (r, f"+ {alpha:.2f} \N{MULTIPLICATION SIGN} “{one_line(names[1], 6)}”"),
            (
                blend_images(q, r, alpha),
                f"= “{one_line(names[1], 9)}” {percent(example['confidence'], 0)}",
            ),
        )
        for offset, (image, words) in enumerate(shown):
            axes = grid[index // 2, column + offset]
            axes.set_title(words, fontsize=8, color=theme.ink, parse_math=False)
            axes.imshow(_pixels(image[0]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    return figure


def _pixels(image: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """(c, h, w) in [0, 1] -> (h, w, 3) for three channels, else (h, w) of the brightest channel."""
    shown = image.permute(1, 2, 0) if image.shape[0] == 3 else image.amax(dim=0)
    pixels: np.ndarray[Any, np.dtype[np.float32]] = shown.nan_to_num().clamp(0, 1).numpy()
    return pixels


def _share_words(blends: Blends) -> str:
    alphas = ", ".join(f"{alpha:g}" for alpha in blends.record["alphas"])
    said = [
        f"{title}, at alpha {alphas}: "
        + "; ".join(
            f"{NAMES[kind]} " + ", ".join(percent(s, 0) for s in blends.shares(kind, what))
            for kind in NAMES
        )
        for what, title in WHAT.items()
    ]
    return f"{finding(blends)} {'. '.join(said)}."


def _map_words(blends: Blends) -> str:
    cells, record = blends.record["kinds"][FOOLING]["cells"], blends.record
    last = zip(
        record["columns"],
        zip(*cells["taken"][-1], strict=True),
        zip(*cells["pairs"], strict=True),
        strict=True,
    )
    said = [
        f"{one_line(blends.name(target), 20)} {percent(sum(taken) / sum(pairs), 0)}"
        for target, taken, pairs in list(last)[:MOST_NAMED]
        if sum(pairs)
    ]
    return (
        "Share of the pairs taken, by class of the real and of the fooling image, one map for each alpha. At alpha "
        f"{record['alphas'][-1]:g}, by class of the fooling image: {', '.join(said)}."
    )


def _example_words(blends: Blends) -> str:
    said = [
        f"a real {one_line(blends.name(e['row']), 20)} with {e['alpha']:.2f} of a fooling image of "
        f"{one_line(blends.name(e['column']), 20)} is taken for that with {percent(e['confidence'])}"
        for e in blends.record["examples"]
    ]
    return f"Examples: {'; '.join(said)}."
