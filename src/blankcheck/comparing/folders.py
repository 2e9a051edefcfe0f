"""Run folders, read and set side by side."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from blankcheck.comparing.pairs import Comparison, compare_runs
from blankcheck.comparing.run import Run, names_of, run_of
from blankcheck.errors import ArgumentError
from blankcheck.runs.contents import read_run
from blankcheck.runs.folder import RunFolder
from blankcheck.text import short

Order = Literal["rate", "lit", "accuracy", "name"]
SORTED_BY = {"rate": "rate", "lit": "median_lit", "accuracy": "real_accuracy"}


def compare(*runs: str | os.PathLike[str], sort: Order = "rate") -> Comparison:
    """Say of audited runs which differences are beyond chance.

    Args:
        runs: two run folders or more; the others are compared with the first. Of one that is named
            twice the first counts.
        sort: the order of the runs, the best first, or by name.

    Returns:
        The runs with their records, and of every pair the tests.

    Raises:
        ArgumentError: there are fewer than two.
        RunFolderError: one is no run folder with an audit.
    """
    if sort not in get_args(Order):
        raise ArgumentError(f"sort must be one of {', '.join(get_args(Order))}, got {sort!r}")
    paths = different(runs)
    folders = [read_run(RunFolder.open(path), blends=False) for path in paths]
    made = [run_of(name, run) for name, run in zip(names_of(paths), folders, strict=True)]
    return compare_runs(_sorted(made, sort), made[0])


def different(runs: Sequence[str | os.PathLike[str]]) -> list[str]:
    """The paths of different folders in their order; ArgumentError for fewer, or others."""
    given: Sequence[object] = runs
    for run in given:
        if not isinstance(run, str | os.PathLike):
            words = "compare takes run folders, each by its path and as an argument of its own"
            raise ArgumentError(f"{words}, got {short(run)}")
    first = {Path(run).resolve(): os.fspath(run) for run in reversed(runs)}
    paths = list(first.values())[::-1]
    if len(paths) < 2:
        got = ", ".join(paths) or "none"
        raise ArgumentError(f"compare needs at least two different run folders, got {got}")
    return paths


def _sorted(runs: Sequence[Run], by: str) -> list[Run]:
    """The order shown: the best first, those that cannot be told apart by name."""

    name, sign = SORTED_BY.get(by), 1 if by == "rate" else -1

    def key(run: Run) -> tuple[float, str]:
        value = run.record[name] if name is not None else 0
        # no attempts are the worst rate; no fooling image is better than any
        return sign * (math.inf if value is None else value), run.name

    return sorted(runs, key=key)
