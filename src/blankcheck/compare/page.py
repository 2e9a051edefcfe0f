"""The pages of a comparison: `compare.html`, one file that needs nothing else, and `compare.md` for
pull requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blankcheck.compare import wording as words
from blankcheck.compare.figures import MOST_CURVES, MOST_DOTS, Curve, Dot, draw
from blankcheck.compare.method import SCOPE, method, pairings
from blankcheck.compare.pairs import Comparison
from blankcheck.compare.run import CONFIDENT, Side
from blankcheck.report.charts.images import witness_pngs
from blankcheck.report.rendering import data_uri, html_templates, markdown_templates
from blankcheck.runs.folder import RunFolder

MOST_CLASSES, MOST_COLUMNS = 100, 8
"""Of the table of classes; compare.json holds all."""
MOST_PICTURES, MOST_PAIRS = 24, 24


@dataclass(frozen=True)
class Shown:
    """One run as the templates see it. picture: its sparsest fooling image as a data URI."""

    side: Side
    reference: bool
    picture: str | None
    found: list[tuple[str, str]]
    """(finding, tone) of each difference from the reference that is beyond chance."""
    against: str

    @property
    def tone(self) -> str:
        """The class of the verdict's colour."""
        return str(self.side.verdict["verdict"]).lower()

    @property
    def min_lit(self) -> int | None:
        """Fewest lit features of a fooling image."""
        return min((k for k in self.side.lit if k is not None), default=None)


def write_pages(made: Comparison, out: RunFolder) -> Path:
    """Draw `compare.html`, `compare.md` and `figures/` into a folder, and return the path of the
    page."""
    values = _values(made)
    for name, drawn in values["figures"].items():
        out.write(f"figures/{name}.svg", drawn.svg)
    out.write("compare.md", markdown_templates().get_template("compare.md.j2").render(values))
    return out.write(
        "compare.html", html_templates().get_template("compare.html.j2").render(values)
    )


def _values(made: Comparison) -> dict[str, Any]:
    curves, dots, unit = _first(made, MOST_CURVES), made.sides[:MOST_DOTS], words.lit_unit(made)
    pairs, every = made.pairs[:MOST_PAIRS], pairings(made)
    rows = _class_rows(made)
    return {
        "made": made,
        "unit": unit,
        "curves": len(curves),
        "dots": len(dots),
        "headline": words.headline(made),
        "summary": words.summary(made),
        "tone": words.tone(made),
        "scope": SCOPE,
        "warnings": words.warnings(made),
        "method": method(made),
        "pairings": every,
        "runs": [
            _shown(made, side, index < MOST_PICTURES) for index, side in enumerate(made.sides)
        ],
        "pairs": [(pair, words.rows(pair)) for pair in pairs],
        "more_pairs": len(made.pairs) - len(pairs),
        "figures": draw(
            [Curve(s.name, s.lit) for s in curves],
            [_dot(made, s) for s in dots],
            _limit(made),
            unit,
        ),
        "class_rows": rows[:MOST_CLASSES],
        "columns": [p.second for p in made.with_reference[:MOST_COLUMNS]],
        "cut_classes": len(rows) > MOST_CLASSES or len(made.with_reference) > MOST_COLUMNS,
        "differing": words.differing_classes(made),
    }


def _first(made: Comparison, most: int) -> list[Side]:
    """The reference and the first of the others, in the order shown."""
    others = [s for s in made.sides if s is not made.reference][: most - 1]
    return [made.reference, *others]


def _limit(made: Comparison) -> int:
    return int(max(s.verdict["conditions"]["max_lit"] for s in made.sides))


def _dot(made: Comparison, side: Side) -> Dot:
    return Dot(
        side.name, side.rate, *side.interval, side.value(CONFIDENT) or 0.0, side is made.reference
    )


def _shown(made: Comparison, side: Side, picture: bool) -> Shown:
    best = (
        min(side.contents.witnesses, key=lambda w: (w.lit, -w.confidence), default=None)
        if picture
        else None
    )
    drawn = data_uri(witness_pngs(best)[0]) if best is not None else None
    return Shown(
        side,
        side is made.reference,
        drawn,
        words.differences(made, side),
        words.against(made, side),
    )


def _class_rows(made: Comparison) -> list[tuple[str, float, list[tuple[float | None, str]]]]:
    """For each class its name, the rate of the reference, and of every column (rate, tone of a
    difference beyond chance)."""
    reference, columns = made.reference, made.with_reference[:MOST_COLUMNS]
    targets = sorted({int(t.what) for p in columns for t in p.classes})
    by_class = [{t.what: t for t in p.classes} for p in columns]
    rows = []
    for target in targets:
        own = reference.of_class(target)
        cells = [
            (t.second, words.tone_of(t)) if (t := tested.get(str(target))) else (None, "")
            for tested in by_class
        ]
        rows.append((reference.contents.class_name(target), sum(own) / len(own), cells))
    if len(rows) > MOST_CLASSES:  # of very many, those that differ stand first
        rows.sort(key=lambda row: not any(tone for _, tone in row[2]))
    return rows
