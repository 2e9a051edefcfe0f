"""The main job on named data sets, several seeds: train, audit, harden, audit again. Prints and
records a table.

    python benchmarks/main_job.py --data digits mnist --seeds 3

Writes benchmarks/results/main_job.json and prints the rows of benchmarks/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

import blankcheck as bc
from blankcheck.classifiers import TrainingPlan, build, evaluate, train_plainly

MODELS = {"digits": "mlp", "mnist": "cnn", "fashion-mnist": "cnn", "cifar10": "resnet"}
HERE = Path(__file__).parent


def one(name: str, seed: int, epochs: int | None) -> dict[str, dict[str, Any]]:
    data, model = bc.load_data(name), MODELS[name]
    began = time.monotonic()
    plain = build(model, data.shape, len(data.classes), data.mean_and_std(), seed)
    train_plainly(plain, data.train, TrainingPlan.default(len(data.train), epochs), seed)
    trained = time.monotonic() - began
    began = time.monotonic()
    hardened = bc.harden(model, data, seed=seed, epochs=epochs).model
    return {
        "plain": row(plain, data, seed) | {"training seconds": trained},
        "hardened": row(hardened, data, seed) | {"training seconds": time.monotonic() - began},
    }


def row(model: torch.nn.Module, data: bc.Data, seed: int) -> dict[str, Any]:
    audit = bc.audit(model, data, seed=seed)
    real = evaluate(model, data.test, len(data.classes), 0.9)
    first = next(iter(audit.json["sparse_confident"]["at_most"]))
    return {
        "verdict": str(audit.verdict),
        "test accuracy %": 100 * real.accuracy,
        "real confident %": 100 * real.confident,
        "fooled %": 100 * audit.rate,
        "median lit": audit.json["median_lit"],
        "fewest lit, OOD or not": audit.json["sparse_confident"]["min_lit"],
        f"confident with <= {first} lit %": 100 * audit.json["sparse_confident"]["at_most"][first],
        "audit seconds": audit.json["cost"]["seconds"],
    }


def spread(values: list[Any]) -> str:
    if all(isinstance(v, int | float) for v in values):
        low, middle, high = min(values), statistics.median(values), max(values)
        return f"{middle:.4g} ({low:.4g}-{high:.4g})" if len(values) > 1 else f"{middle:.4g}"
    return ", ".join(str(v) for v in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", default=["digits"], choices=sorted(MODELS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=None)
    chosen = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE
    ).stdout.strip()
    where = (
        f"commit {commit}, {platform.machine()}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}"
    )
    print(where)
    for name in chosen.data:
        runs = [one(name, seed, chosen.epochs) for seed in range(chosen.seeds)]
        print(f"\n### {name}, {MODELS[name]}, seeds 0-{chosen.seeds - 1}: median (least-most)\n")
        print("| | plain | hardened |\n|---|---|---|")
        for key in runs[0]["plain"]:
            print(
                f"| {key} | {spread([r['plain'][key] for r in runs])} | "
                f"{spread([r['hardened'][key] for r in runs])} |",
                flush=True,
            )
        keep(name, {"where": where, "runs": runs})


def keep(name: str, record: dict[str, Any]) -> None:
    """Write the record of one data set beside those of the others."""
    path = HERE / "results" / "main_job.json"
    path.parent.mkdir(exist_ok=True)
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(before | {name: record}, indent=1) + "\n")


if __name__ == "__main__":
    main()
