"""Draw docs/rivals.png: how sparse the images of several searches are, from the table that
benchmarks/search.py wrote into benchmarks/RESULTS.md."""

from __future__ import annotations

import re
from pathlib import Path

from blankcheck.figures import style

HERE = Path(__file__).parent
HEADING = "### cnn, mnist, seeds 0, 1, 2"
SEARCHES = {
    "**blankcheck**": "blankcheck",
    "sigma-zero (adversarial-library)": "sigma-zero",
    "FMN-L0 (adversarial-library)": "FMN-L0",
    "PDPGD-L0 (adversarial-library)": "PDPGD-L0",
    "sPGD (unprojected)": "sPGD",
}
"""Of the table, those with several budgets, and how the figure names them."""
MARKERS = "os^Dv"
STEPS, TIMES = (10, 30, 100, 300, 1000), (1, 2, 5, 10, 20)
"""The ticks."""
Curve = list[tuple[int, float]]


def curves(results: str) -> dict[str, Curve]:
    """For each search, (steps, median of lit / reference) where every image succeeded."""
    table = results.partition(HEADING)[2].partition("\n###")[0]
    made: dict[str, Curve] = {name: [] for name in SEARCHES.values()}
    for row in re.findall(r"^\| (.+) \|$", table, re.MULTILINE):
        method, reached, _, ratio, *_ = [*row.split(" | "), "", "", ""]
        search, _, steps = method.removesuffix(" steps").rpartition(", ")
        if search in SEARCHES and reached == "100":
            made[SEARCHES[search]].append((int(steps), float(ratio.split()[0])))
    return made


def draw(made: dict[str, Curve], path: Path) -> None:
    """One line a search, over the steps it was given."""
    figure, axes = style.panel("How sparse the images of a search are")
    for (name, points), colour, marker in zip(made.items(), style.SERIES, MARKERS, strict=False):
        own = {"linewidth": 2.5 if name == "blankcheck" else 1.4, "color": colour}
        axes.plot(*zip(*points, strict=True), marker=marker, label=name, **own)
    axes.set(xscale="log", yscale="log", xticks=STEPS, yticks=TIMES)
    axes.set(xticklabels=map(str, STEPS), yticklabels=map(str, TIMES))
    axes.minorticks_off()
    style.label(figure, axes, "steps", "lit features, in times of the fewest known", columns=5)
    figure.savefig(path, dpi=180)


if __name__ == "__main__":
    results = (HERE.parent / "benchmarks/RESULTS.md").read_text(encoding="utf-8")
    draw(curves(results), HERE / "rivals.png")
