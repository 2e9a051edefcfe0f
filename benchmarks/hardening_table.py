"""The tables of benchmarks/hardening.py, made from the files of finished cells alone. A library."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

PLAIN, OURS, CONTINUOUS = "plain", "ours", "continuous"
DEFAULT = ("max-entropy", CONTINUOUS)
"""Objective and schedule of hardening unless others are asked for."""
SHORT = {
    "fashion-mnist": "Fashion-MNIST",
    "mnist": "MNIST",
    "digits": "digits",
    "cifar10": "CIFAR-10",
}
ORDER = ("digits", "mnist", "fashion-mnist", "cifar10")

Record = dict[str, Any]
Figure = tuple[str, Callable[[Record], Any]]
"""A label, and what it says of one cell: a number (shares in percent), a word, or None for "there
is none"."""

_ALL_THREE = {
    f"{name}: all three": "0"
    for name in (
        "sigma-zero (adversarial-library)",
        "FMN-L0 (adversarial-library)",
        "FMN-L0 (Foolbox)",
        "saliency map (ART)",
        "Sparse-RS (ours), k = 20",
        "Sparse-RS (ours), k = 180",
    )
}
_COMMON = {
    "verdict": "RESISTED on 2 of 3",
    "confident with at most 33 lit": "at most 1",
    "all three": "at most 1",
    "second opinion": "at most 2",
    "right and confident": "plain - 0.75 or more",
    "real images taken for fake": "at most 0.5",
    "time ratio": "at most 3",
}
_ABOVE = {
    f"AUROC, {name}": "above plain" for name in ("Fashion-MNIST", "notMNIST", "Omniglot", "MNIST")
}
TARGETS: dict[str, dict[str, str]] = {
    "digits": {"verdict": "RESISTED", "time ratio": "at most 3"},
    "mnist": {**_COMMON, **_ALL_THREE, **_ABOVE, "test accuracy": "plain or more"},
    "fashion-mnist": {
        **_COMMON,
        **_ALL_THREE,
        **_ABOVE,
        "verdict": "RESISTED possible",
        "right and confident": "plain or more",
        "test accuracy": "plain - 0.3 or more",
    },
    "cifar10": {"all three": "at most 1", "time ratio": "at most 3"},
}
"""data -> label of a row -> what is aimed at."""


def tables(results: Path) -> str:
    """All tables in markdown; cells at different settings, and of different data, in tables of
    their own."""
    records = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    if not records:
        return f"No finished cells in {results.name}."
    ordered = sorted(
        records, key=lambda r: (ORDER.index(r["cell"]["data"]), _settings(r), r["cell"]["seed"])
    )
    lines = ["# Hardening, as benchmarks/hardening.py wrote it", "", *_what_is_meant()]
    for _, group in groupby(ordered, key=lambda r: (r["cell"]["data"], _settings(r))):
        lines += _of_one_setting(list(group))
    return "\n".join(lines) + "\n"


def spread(values: Sequence[Any]) -> str:
    """`median (least-most)` of numbers, just the number of one; of words, how often each.

    None is the word "none".
    """
    numbers = [v for v in values if isinstance(v, int | float)]
    words = Counter(
        "none" if v is None else str(v) for v in values if not isinstance(v, int | float)
    )
    parts = []
    if numbers:
        low, middle, high = (
            _short(v) for v in (min(numbers), statistics.median(numbers), max(numbers))
        )
        parts.append(middle if len(values) == 1 else f"{middle} ({low}-{high})")
    parts += [
        f"{word} on {n} of {len(values)}" if len(values) > n else word for word, n in words.items()
    ]
    return ", ".join(parts) or "-"


def _short(value: float) -> str:
    """At most two decimals; a share that is not zero does not look like it."""
    text = f"{value:.2f}" if abs(value) >= 0.01 or value == 0 else f"{value:.1g}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _settings(record: Record) -> str:
    settings, epochs = record["settings"], record["cell"]["epochs"]
    trained = "usual epochs" if epochs is None else f"{epochs} epochs"
    return (
        f"{settings['model']}, {trained}, {settings['preset']} audits, "
        f"{settings['attempts_few_lit']} attempts with few lit"
    )


def _what_is_meant() -> list[str]:
    return [
        "Median (least-most) over seeds; shares in percent. *All three*: sparse, confident and out "
        "of distribution, of the",
        "fixed attempts of an audit or of the searches of a rival. *Right and confident*: of real "
        "test images, with",
        "probability 0.9 or more. *Second opinion*: all three, where other scores of shape "
        "judge; *odd in any way*: where scores of anything unusual do, which decide nothing. "
        "AUROC: the largest probability of a real class, among all outputs, of real test images "
        "against other data. ",
        "Rivals start from black,",
        "and no network was trained on what they make; but images that ours are trained on were "
        "partly made by our own",
        "sigma-zero step. Sparse-RS is our own implementation, with 1000 forward passes. *Time "
        "ratio*: seconds of training",
        "over those of plain training right before.",
    ]


def _of_one_setting(records: list[Record]) -> list[str]:
    """The tables of one data set at one setting."""
    first = records[0]
    lines = ["", f"## {SHORT[first['cell']['data']]}: {_settings(first)}", "", *_where(records)]
    plain = [r for r in records if r["cell"]["method"] == PLAIN]
    ours = [r for r in records if _is_default(r)]
    if plain or ours:
        lines += ["", *_before_and_after(plain, ours)]
    grid = [r for r in records if r["cell"]["seed"] == 0]
    if any(r["cell"]["method"] != PLAIN and not _is_default(r) for r in grid):
        lines += ["", *_grid(grid)]
    return lines


def _is_default(record: Record) -> bool:
    cell = record["cell"]
    return cell["method"] == OURS and (cell["objective"], cell["schedule"]) == DEFAULT


def _where(records: list[Record]) -> list[str]:
    """Where cells were trained and measured, and what was lacking."""
    lines = []
    for what, places in (
        ("Trained", [r["training"]["where"] for r in records]),
        ("Measured", [r["where"] for r in records]),
    ):
        said = [
            f"commit {p['commit']}, {p['machine']}, {p['threads']} threads, torch {p['torch']}"
            for p in places
        ]
        lines.append(f"{what} at {'; '.join(dict.fromkeys(said))}.")
    missing = sorted({library for r in records for library in r["rivals"]["missing"]})
    broken = Counter(
        f"{n}, {f['error']}"
        for r in records
        for n, f in r["rivals"]["found"].items()
        for _ in range(f["broke_off"])
    )
    lines += [f"Not installed in at least one cell: {', '.join(missing)}."] if missing else []
    return lines + [
        f"Broke off in {n} searches, which are not counted: {name}." for name, n in broken.items()
    ]


def _before_and_after(plain: list[Record], ours: list[Record]) -> list[str]:
    figures, aims = _figures([*plain, *ours]), TARGETS.get((plain or ours)[0]["cell"]["data"], {})
    lines = [
        f"| | plain, seeds: {len(plain)} | hardened, seeds: {len(ours)} | target |",
        "|---|---|---|---|",
    ]
    for label, of in figures:
        lines.append(
            f"| {label} | {spread(_each(of, plain))} | {spread(_each(of, ours))} | "
            f"{aims.get(label, '-')} |"
        )
    return lines


def _each(of: Callable[[Record], Any], records: list[Record]) -> list[Any]:
    return [of(r) for r in records]


def _figures(records: list[Record]) -> list[Figure]:
    """The rows of the table of one data set."""
    limit = records[0]["few_lit"]["limit"]
    rivals = dict.fromkeys(name for r in records for name in r["rivals"]["found"])
    others = dict.fromkeys(name for r in records for name in r["auroc"])
    return [
        ("verdict", lambda r: r["audit"]["verdict"]),
        ("test accuracy", _accuracy),
        (f"confident with at most {limit} lit", _few_lit),
        (
            f"confident with at most {limit} lit, upper 95 % bound",
            lambda r: 100 * r["few_lit"]["upper_95"],
        ),
        ("all three", lambda r: 100 * r["audit"]["rate"]),
        ("all three, upper 95 % bound", lambda r: 100 * r["audit"]["rate_upper_95"]),
        ("confident and sparse", lambda r: 100 * r["audit"]["sparse_confident"]["rate"]),
        ("right and confident", _confident),
        *((f"{name}: all three", _rival(name, "fooled")) for name in rivals),
        *((f"{name}: confident and sparse", _rival(name, "sparse_confident")) for name in rivals),
        ("real images taken for fake", _taken_for_fake),
        ("time ratio", lambda r: r["training"]["ratio"]),
        *((f"AUROC, {SHORT.get(name, name)}", _auroc(name)) for name in others),
        ("second opinion", _by_others("second_opinion")),
        ("odd in any way", _by_others("odd_in_any_way")),
        ("median lit of fooling images", lambda r: r["audit"]["median_lit"]),
        ("fewest lit of any confident image", _fewest),
        ("expected calibration error", lambda r: 100 * r["real"]["calibration_error"]),
        ("failed checks", lambda r: " ".join(r["audit"]["failed_checks"]) or "none"),
        ("training seconds", lambda r: r["training"]["seconds"]),
        ("audit seconds", lambda r: r["audit"]["seconds"]),
    ]


def _grid(records: list[Record]) -> list[str]:
    """One row per network of seed 0: plain, the other ways to train, then every objective and
    schedule of ours."""
    limit = records[0]["few_lit"]["limit"]
    others = list(dict.fromkeys(name for r in records for name in r["auroc"]))
    columns: list[Figure] = [
        ("accuracy", _accuracy),
        ("right and confident", _confident),
        ("all three", lambda r: 100 * r["audit"]["rate"]),
        ("upper 95 % bound", lambda r: 100 * r["audit"]["rate_upper_95"]),
        ("second opinion", _by_others("second_opinion")),
        ("fewest lit of any confident image", _fewest),
        (f"confident with at most {limit} lit", _few_lit),
        ("worst rival", _worst_rival),
        *((f"AUROC, {SHORT.get(name, name)}", _auroc(name)) for name in others),
        ("taken for fake", _taken_for_fake),
        ("time ratio", lambda r: r["training"]["ratio"]),
    ]
    lines = [
        "Seed 0:",
        "",
        f"| | {' | '.join(label for label, _ in columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    lines += [
        f"| {_label(record)} | {' | '.join(spread([of(record)]) for _, of in columns)} |"
        for record in sorted(records, key=_place)
    ]
    if any(r["cell"]["method"] == "outlier-exposure" for r in records):
        lines += [
            "",
            "Outlier exposure has trained on Fashion-MNIST's training images: its first AUROC is "
            "of things it knows.",
        ]
    return lines


def _place(record: Record) -> tuple[int, str, str]:
    cell = record["cell"]
    methods = (PLAIN, "acet", "outlier-exposure", OURS)
    return methods.index(cell["method"]), cell["objective"], cell["schedule"]


def _label(record: Record) -> str:
    cell = record["cell"]
    if cell["method"] == OURS:
        return f"ours, {cell['objective']}, {cell['schedule']}"
    return {"acet": "ACET", "outlier-exposure": "outlier exposure"}.get(
        cell["method"], cell["method"]
    )


def _accuracy(record: Record) -> float:
    return 100 * float(record["real"]["accuracy"])


def _confident(record: Record) -> float:
    return 100 * float(record["real"]["confident"])


def _taken_for_fake(record: Record) -> float:
    return 100 * float(record["real"]["taken_for_fake"])


def _few_lit(record: Record) -> float:
    return 100 * float(record["few_lit"]["found"]) / float(record["few_lit"]["attempts"])


def _by_others(name: str) -> Callable[[Record], float | None]:
    def of(record: Record) -> float | None:
        rate = record["audit"][name]["rate"]
        return None if rate is None else 100 * float(rate)

    return of


def _fewest(record: Record) -> int | None:
    """Of the audit, of the attempts with few lit features, and of the rivals."""
    met = [record["audit"]["sparse_confident"]["min_lit"], record["few_lit"]["fewest"]]
    met += [each["fewest_lit"] for each in record["rivals"]["found"].values()]
    return min((k for k in met if k is not None), default=None)


def _auroc(name: str) -> Callable[[Record], float | None]:
    def of(record: Record) -> float | None:
        return 100 * float(record["auroc"][name]) if name in record["auroc"] else None

    return of


def _rival(name: str, what: str) -> Callable[[Record], float | str]:
    def of(record: Record) -> float | str:
        found = record["rivals"]["found"].get(name)
        if found is None:
            return "not installed"
        return 100 * float(found[what]) / float(found["tries"]) if found["tries"] else "broke off"

    return of


def _worst_rival(record: Record) -> str:
    """The rival with the largest share of all three conditions; of equals the first."""
    found = record["rivals"]["found"]
    share = {name: 100 * each["fooled"] / max(1, each["tries"]) for name, each in found.items()}
    worst = max(share, key=lambda name: share[name])
    return f"{_short(share[worst])}, {worst}" if share[worst] else "0"
