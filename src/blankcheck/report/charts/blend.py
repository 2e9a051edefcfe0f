"""The figure of blending: examples, and shares of the pairs by alpha."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import SubFigure

from blankcheck.blending.blending import FOOLING, REAL, SHUFFLED, blend_images
from blankcheck.figures import style
from blankcheck.figures.drawing import Drawn, describe, drawn, shrink
from blankcheck.report.blend_wording import NAMES, finding
from blankcheck.report.charts.images import SIDE, show_image
from blankcheck.runs.blend_record import Blends
from blankcheck.text import one_line, percent

WHAT = {"taken": "Taken for the other class", "lost": "Own class lost"}
LOOKS: dict[str, dict[str, Any]] = {
    FOOLING: {"color": style.SECOND, "marker": "o", "linewidth": 2.8},
    REAL: {"color": style.FIRST, "marker": "s", "linewidth": 2, "linestyle": "--"},
    SHUFFLED: {"color": style.THIRD, "marker": "^", "linewidth": 2, "linestyle": ":"},
}
CAPTION = (
    "A fooling image is special where its line stands above both others: a real image of the same "
    "class, and its own pixels at random places."
)
EXAMPLES = (
    " Above, for each of some classes, the pair that needs the smallest alpha. The fooling image "
    "is shown as it is; what is added is alpha times as bright."
)


def draw_blends(blends: Blends) -> Drawn:
    """Examples in rows of two, above the shares against alpha."""
    down = -(-len(blends.record["examples"]) // 2)
    heights = [1.25 * down, 3.4] if down else [3.4]
    figure = style.blank(sum(heights))
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)
    if down:
        _examples(parts[0, 0], blends, down)
    _curves(parts[-1, 0], blends)
    alphas = ", ".join(f"{alpha:g}" for alpha in blends.record["alphas"])
    lines = {
        f"{title}, {NAMES[kind]},": ", ".join(percent(s, 0) for s in blends.shares(kind, what))
        for what, title in WHAT.items()
        for kind in NAMES
    }
    alt = f"{finding(blends)} {describe(f'At alpha {alphas}', lines)}"
    return drawn("blend", figure, CAPTION + EXAMPLES * bool(down), alt)


def _curves(figure: SubFigure, blends: Blends) -> None:
    figure.set_facecolor(style.PAPER)
    panels = figure.subplots(1, 2, sharey=True)
    found = [s for kind in NAMES for what in WHAT for s in blends.shares(kind, what)]
    most = max((share for share in found if share is not None), default=0.0)
    # half and more are seen against all; of little the differences must still be seen
    top = 1.0 if most >= 0.5 else max(0.1, 1.2 * most)
    for axes, (what, title) in zip(panels, WHAT.items(), strict=True):
        style.dress(axes, title)
        for kind, look in LOOKS.items():
            shares = [float("nan") if s is None else s for s in blends.shares(kind, what)]
            alphas = [0, *blends.record["alphas"]]
            axes.plot(alphas, [0, *shares], label=NAMES[kind], clip_on=False, **look)
        axes.set_xlim(0, max(blends.record["alphas"]))
        axes.set_ylim(-0.02 * top, 1.02 * top)
        style.in_percent(axes.yaxis)
        axes.set_xlabel("alpha: how much is added", color=style.MUTED, fontsize=10)
    panels[0].set_ylabel("share of pairs", color=style.MUTED, fontsize=10)
    look = {"frameon": False, "labelcolor": style.INK, "fontsize": 9, "ncols": 3}
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left", **look)


def _examples(figure: SubFigure, blends: Blends, down: int) -> None:
    """Real image + alpha x fooling image = what is taken for its class, two examples a row."""
    figure.set_facecolor(style.PAPER)
    grid = figure.subplots(down, 7, squeeze=False, width_ratios=(1, 1, 1, 0.2, 1, 1, 1))
    for axes in grid.flat:
        axes.set_axis_off()
    images = zip(blends.record["examples"], blends.real, blends.fooling, strict=True)
    for index, (example, real, fooling) in enumerate(images):
        alpha, sure = example["alpha"], percent(example["confidence"], 0)
        own, other = (one_line(blends.name(example[key]), 9) for key in ("row", "column"))
        mixed = blend_images(real[None], fooling[None], alpha)[0]
        added = f"+ {alpha:.2f} \N{MULTIPLICATION SIGN} “{one_line(other, 6)}”"
        words = (f"real “{own}”", added, f"= “{other}” {sure}")
        shown = zip(words, (shrink(real, SIDE), fooling, shrink(mixed, SIDE)), strict=True)
        for axes, (said, image) in zip(grid[index // 2, 4 * (index % 2) :], shown, strict=False):
            axes.set_title(said, fontsize=8, color=style.INK)
            show_image(axes, image)
