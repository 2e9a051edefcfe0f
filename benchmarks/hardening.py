"""The benchmark of hardening: plain networks, ours, and two other ways to train, each audited and
attacked.

    python benchmarks/hardening.py                                  # everything: most of a day on
    two cores python benchmarks/hardening.py --parts mnist-default --seeds 1 python
    benchmarks/hardening.py --print                          # the tables of what is there

It runs in parts and goes on where it stopped. Every (data, method, objective, schedule, seed) is
one cell with one file in --results, written when it is finished; cells that have theirs are
skipped. The trained network is kept in --cache, so that a stop between training and audit costs
only the audit. Neither looks at the commit, which is only recorded: --again trains and measures
anew, and a cell whose result file is gone is measured again with the network that is kept.

Every part but `cifar` trains for the usual numbers of epochs, 10 plainly and 20 hardening; files of
cells at other settings carry these in their names, and tables keep them apart. The time ratio is
that of the CPU seconds of the whole `bc.harden` (or other training) to those of plain training of
the same network for as many epochs in the same process right before. Attacks
of other libraries run where these are installed (see rivals.py). The tables go to the terminal and
into a file named like the results' folder, with .md behind.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from baselines import acet, outlier_exposure
from hardening_measures import (
    audit_figures,
    auroc_figures,
    few_lit_figures,
    loaded,
    odd_figures,
    real_figures,
    rival_figures,
)
from hardening_table import CONTINUOUS, DEFAULT, OURS, PLAIN, tables
from main_job import MODELS

import blankcheck as bc
from blankcheck.auditing import PRESETS
from blankcheck.classifiers import TrainingPlan, UnitClassifier, build, train_plainly
from blankcheck.classifiers.loading import save_model
from blankcheck.hardening import OBJECTIVES, HardeningPlan

HERE = Path(__file__).parent
SCHEDULES = (CONTINUOUS, "rounds", "batches")
OTHERS: dict[str, Callable[[bc.Data, str, int, int | None], UnitClassifier]] = {
    "acet": acet,
    "outlier-exposure": outlier_exposure,
}


@dataclass(frozen=True)
class Cell:
    """One network to train and measure. objective, schedule: of ours only. epochs: None for the
    usual number."""

    data: str
    method: str
    objective: str
    schedule: str
    seed: int
    epochs: int | None

    @property
    def name(self) -> str:
        """What its kept network is called."""
        parts = (self.data, self.method, self.objective, self.schedule, f"seed{self.seed}")
        return "-".join(
            [p for p in parts if p] + ([f"{self.epochs}epochs"] if self.epochs is not None else [])
        )


def cells(part: str, seeds: int, epochs: int | None, cifar_epochs: int) -> list[Cell]:
    """The cells of a part."""

    def default(data: str, seeds: int, epochs: int | None) -> list[Cell]:
        methods = ((PLAIN, "", ""), (OURS, *DEFAULT))
        return [Cell(data, *method, seed, epochs) for seed in range(seeds) for method in methods]

    if part == "mnist-grid":
        return [
            Cell("mnist", OURS, objective, schedule, 0, epochs)
            for objective in OBJECTIVES
            for schedule in SCHEDULES
        ]
    if part == "mnist-baselines":
        return [Cell("mnist", method, "", "", 0, epochs) for method in OTHERS]
    if part == "cifar":
        return default("cifar10", 1, cifar_epochs if epochs is None else epochs)
    return default(DEFAULT_PARTS[part], seeds, epochs)


DEFAULT_PARTS = {"digits": "digits", "mnist-default": "mnist", "fashion": "fashion-mnist"}
PARTS = ("digits", "mnist-default", "mnist-baselines", "mnist-grid", "fashion", "cifar")


def main() -> int:
    chosen = arguments()
    wanted = [
        c
        for part in chosen.parts
        for c in cells(part, chosen.seeds, chosen.epochs, chosen.cifar_epochs)
    ]
    failed = False
    for cell in [] if chosen.print else dict.fromkeys(wanted):
        failed |= not finish(cell, chosen)
    text = tables(chosen.results)
    print("\n" + text)
    write(chosen.results.with_suffix(".md"), text)
    return int(failed)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, default=3, help="of the parts that have several")
    parser.add_argument(
        "--epochs", type=int, default=None, help="of every part, instead of the usual number"
    )
    parser.add_argument("--cifar-epochs", type=int, default=4)
    parser.add_argument(
        "--preset", choices=tuple(PRESETS), default="standard", help="of the audits"
    )
    parser.add_argument(
        "--attempts-low-lit", type=int, default=3000, help="to be confident with few lit features"
    )
    parser.add_argument(
        "--results",
        type=Path,
        default=HERE / "results" / "hardening",
        help="folder of the cells' files",
    )
    parser.add_argument(
        "--cache", type=Path, default=HERE.parent / "build" / "hardening", help="folder of networks"
    )
    parser.add_argument(
        "--again", action="store_true", help="train and measure cells that are finished, too"
    )
    parser.add_argument("--print", action="store_true", help="only print the tables")
    return parser.parse_args()


def finish(cell: Cell, chosen: argparse.Namespace) -> bool:
    """Train and measure a cell unless that is done; False when it cannot be."""
    usual = chosen.preset == "standard" and chosen.attempts_low_lit == 3000
    settings = "" if usual else f"-{chosen.preset}-{chosen.attempts_low_lit}attempts"
    path = chosen.results / f"{cell.name}{settings}.json"
    if path.is_file() and not chosen.again:
        print(f"{path.stem}: done already", flush=True)
        return True
    print(f"{path.stem}: began {time.strftime('%H:%M:%S')}", flush=True)
    try:
        model, training = network_of(cell, chosen.cache, chosen.again)
        sheet = path.with_suffix("")
        record = measured(model, cell, chosen.preset, chosen.attempts_low_lit, sheet)
    except bc.BlankcheckError as error:
        print(f"{path.stem}: left out: {error}", flush=True)
        return False
    write(path, json.dumps({**record, "training": training}, indent=1, allow_nan=False) + "\n")
    print(
        f"{path.stem}: done, {record['audit']['verdict']}, {record['audit']['rate']:.1%} fooled",
        flush=True,
    )
    return True


def network_of(cell: Cell, cache: Path, again: bool) -> tuple[UnitClassifier, dict[str, Any]]:
    """The cell's network, from the cache where it is there, and how its training went."""
    weights, record = cache / f"{cell.name}.safetensors", cache / f"{cell.name}.json"
    if record.is_file() and not again:
        return bc.load_model(MODELS[cell.data], weights, loaded(cell.data)).eval(), json.loads(
            record.read_text()
        )
    model, training = trained(cell)
    cache.mkdir(parents=True, exist_ok=True)
    # the record is written last: where it is, the network is whole
    record.unlink(missing_ok=True)
    save_model(model, weights)
    write(record, json.dumps(training, indent=1) + "\n")
    print(
        f"{cell.name}: trained, {training['seconds']:.0f} s, plain {training['plain_seconds']:.0f} "
        "s",
        flush=True,
    )
    return model, training


def trained(cell: Cell) -> tuple[UnitClassifier, dict[str, Any]]:
    """Train a plain network, then, unless that is the cell's own, the cell's; with the CPU
    seconds of both."""
    data, name = loaded(cell.data), MODELS[cell.data]
    few = data.validation.sample(256, 0)
    plain(
        replace(data, train=few), name, cell.seed, 1
    )  # what is only slow the first time is not measured
    epochs = cell.epochs
    if cell.method != PLAIN:  # others have as many as ours
        epochs = HardeningPlan.of(len(data.train), epochs=epochs).epochs
    began = time.process_time()
    model = plain(data, name, cell.seed, epochs)
    plain_seconds = seconds = time.process_time() - began
    more: dict[str, Any] = {}
    began = time.process_time()
    if cell.method == OURS:
        schedule = {} if cell.schedule == CONTINUOUS else {"schedule": cell.schedule}
        made = bc.harden(name, data, cell.objective, cell.seed, epochs=cell.epochs, **schedule)
        model, more = made.model, {"kept_round": made.kept, "rounds": len(made.rounds)}
    elif cell.method in OTHERS:
        model = OTHERS[cell.method](data, name, cell.seed, epochs)
    if cell.method != PLAIN:
        seconds = time.process_time() - began
    times = {"seconds": seconds, "plain_seconds": plain_seconds, "ratio": seconds / plain_seconds}
    return model, times | more | {"where": where()}


def plain(data: bc.Data, name: str, seed: int, epochs: int | None) -> UnitClassifier:
    network = build(name, data.shape, len(data.classes), data.mean_and_std(), seed)
    train_plainly(network, data.train, TrainingPlan.default(len(data.train), epochs), seed)
    return network


def measured(
    model: UnitClassifier, cell: Cell, preset: str, attempts: int, sheet: Path
) -> dict[str, Any]:
    """Everything there is to say about a trained network."""
    data, began = loaded(cell.data), time.monotonic()
    settings = {"model": MODELS[cell.data], "preset": preset, "attempts_few_lit": attempts}
    return {
        "cell": asdict(cell),
        "settings": settings,
        "where": where(),
        "real": real_figures(model, data),
        "auroc": auroc_figures(model, data),
        "audit": audit_figures(model, data, preset, cell.seed, sheet),
        "odd_audit": odd_figures(model, data, cell.seed, sheet),
        "few_lit": few_lit_figures(model, data, attempts, cell.seed),
        "rivals": rival_figures(model, data, cell.seed),
        "measuring_seconds": time.monotonic() - began,
    }


def where() -> dict[str, Any]:
    """The commit that is checked out, and what computes."""
    ran = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE
    )
    return {
        "commit": ran.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
