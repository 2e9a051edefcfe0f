"""`blankcheck compare`: several audited runs side by side, and which differences are beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from blankcheck.cli.settings import CompareSettings, recorded
from blankcheck.cli.terminal import Terminal
from blankcheck.compare import wording as words
from blankcheck.compare.pairs import Comparison, Pair, Tested, compare_sides
from blankcheck.compare.run import ACCURACY, CONFIDENT, LIT, RATE, Side, names_of, side_of
from blankcheck.compare.statistics import LEVEL
from blankcheck.compare.table import table, wrapped
from blankcheck.errors import ArgumentError
from blankcheck.runs.claims import Claim
from blankcheck.runs.contents import read_run
from blankcheck.runs.folder import RunFolder

MOST_SAID = 6
"""Differences said one by one on the terminal; the pages say them all."""


def compare_command(settings: CompareSettings, terminal: Terminal) -> int:
    """Compare runs; writes `compare.html`, `compare.md`, `compare.json` and figures."""
    from blankcheck.compare.page import write_pages  # drawing takes half a second to import

    paths, repeated = _distinct(settings.runs)
    claim = Claim(
        Path(settings.out) if settings.out is not None else None,
        "compare",
        settings.overwrite,
        paths,
    )
    sides = _read(paths)
    made = compare_sides(_sorted(sides, settings.sort), sides[0])
    record = record_of(made)
    with claim.opened() as out:
        out.begin("compare", recorded(settings) | {"runs": paths}, torch.device("cpu"))
        for path in repeated:
            terminal.note(f"{path} is named twice, and counts once")
        out.write_json("compare.json", record)
        page = str(write_pages(made, out))
    terminal.result(
        "COMPARED", _lines(made, max(20, terminal.out.width - 2)), page, {**record, "report": page}
    )
    return 0


def _distinct(paths: Sequence[str]) -> tuple[list[str], list[str]]:
    """Each folder once, and those that were named again."""
    seen: dict[Path, str] = {}
    repeated = []
    for path in paths:
        place = Path(path).resolve()
        if place in seen:
            repeated.append(path)
        seen.setdefault(place, path)
    if len(seen) < 2:
        raise ArgumentError(
            f"compare needs at least two different run folders, got {', '.join(seen.values()) or 'none'}"
        )
    return list(seen.values()), repeated


def _read(paths: Sequence[str]) -> list[Side]:
    return [
        side_of(name, read_run(RunFolder.open(path), blends=False))
        for name, path in zip(names_of(paths), paths, strict=True)
    ]


def _sorted(sides: Sequence[Side], by: str) -> list[Side]:
    """The order shown: the best first, those that cannot be told apart by name."""

    def key(side: Side) -> tuple[float, str]:
        if by == RATE:
            return (2.0 if side.rate is None else side.rate), side.name
        if by == LIT:  # no fooling image is better than any
            return (-float("inf") if side.median_lit is None else -side.median_lit), side.name
        return (-(side.value(ACCURACY) or 0.0) if by == ACCURACY else 0.0), side.name

    return sorted(sides, key=key)


def _lines(made: Comparison, width: int) -> list[str]:
    said = words.sentences(made)
    if len(said) > MOST_SAID:
        said = [*said[:MOST_SAID], f"{len(said) - MOST_SAID} more differences are beyond chance"]
    return [
        words.headline(made),
        *wrapped(words.warnings(made), width),
        *table(made, width),
        *wrapped(said, width),
    ]


def record_of(made: Comparison) -> dict[str, Any]:
    """The contents of `compare.json`, schema 1. Differences are the second run's value minus the
    first's; p_holm is corrected for all tests of `comparisons`, or of all `classes`, and null where
    nothing was tested."""
    measures, classes = made.tests
    return {
        "schema": 1,
        "headline": words.headline(made),
        "reference": str(made.reference.contents.run.path),
        "level": LEVEL,
        "tests": {"measures": measures, "classes": classes},
        "warnings": words.warnings(made),
        "runs": [_run_record(side) for side in made.sides],
        "comparisons": [_pair_record(pair) for pair in made.pairs],
    }


def _run_record(side: Side) -> dict[str, Any]:
    low, high = side.interval
    return {
        "name": side.name,
        "run": str(side.contents.run.path),
        "verdict": side.verdict["verdict"],
        "attempts": side.attempts,
        "fooled": sum(side.fooled),
        "rate": side.rate,
        "rate_low_95": low,
        "rate_high_95": high,
        "median_lit": side.median_lit,
        "min_lit": min((k for k in side.lit if k is not None), default=None),
        "real_accuracy": side.value(ACCURACY),
        "real_confident": side.value(CONFIDENT),
        "test_images": side.test_images,
        "conditions": side.verdict["conditions"],
    }


def _pair_record(pair: Pair) -> dict[str, Any]:
    return {
        "first": str(pair.first.contents.run.path),
        "second": str(pair.second.contents.run.path),
        "unlike": list(pair.unlike),
        "paired": not pair.unpaired,
        "why_not_paired": pair.unpaired or None,
        **{t.what: _tested_record(t) for t in pair.measures},
        "classes": {t.what: _tested_record(t) for t in pair.classes},
    }


def _tested_record(tested: Tested) -> dict[str, Any]:
    found = tested.difference
    same = {
        "first": tested.first,
        "second": tested.second,
        "beyond_chance": tested.beyond_chance,
        "finding": words.finding(tested) if tested.what in words.LABELS else None,
        "p_holm": tested.p,
    }
    if found is None:
        return {**same, "test": None, "why_not_tested": tested.why_not}
    name = "superiority" if tested.what == LIT else "difference"
    return {
        **same,
        "test": found.test,
        name: found.estimate,
        "low_95": found.low,
        "high_95": found.high,
        "p": found.p,
    }
