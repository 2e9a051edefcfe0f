"""Draw docs/published.png from the table that benchmarks/published.py wrote: published networks, by
how few lit features fool them, and what is proved of them."""

from __future__ import annotations

import re
from pathlib import Path

from blankcheck.figures import style

HERE = Path(__file__).parent
TABLE = HERE.parent / "benchmarks/results/published.md"
Row = dict[str, str]


def rows(text: str) -> list[Row]:
    """The first table, a row each, by the names of its columns."""
    lines = text.partition("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    head, _, *body = cells
    return [dict(zip(head, row, strict=True)) for row in body]


def number(text: str) -> float | None:
    """The first number of a cell; None where there is none."""
    found = re.search(r"\d[\d,.]*", text)
    return float(found[0].rstrip(".,").replace(",", "")) if found else None


def draw(table: list[Row], path: Path) -> None:
    """One point a network that was fooled, at its median of lit features; its accuracy in words."""
    figure, axes = style.panel("Lit features that fool")
    names = []
    for row in table:
        right, lit = number(row["right"]), number(row["median lit"])
        if right is None or not lit:
            continue
        axes.scatter(lit, len(names), color=style.SERIES[0], s=60, zorder=3)
        names.append(f"{row['network'].partition(']')[0].strip('[')}, {right:.1f}% right")
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xscale="log", xticks=(1, 3, 10, 30, 100, 300))
    axes.set_xticklabels(("1", "3", "10", "30", "100", "300"))
    axes.minorticks_off()
    axes.set_xlabel("median of lit features", color=style.MUTED)
    figure.savefig(path, dpi=180)


if __name__ == "__main__":
    draw(rows(TABLE.read_text(encoding="utf-8")), HERE / "published.png")
