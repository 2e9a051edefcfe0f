"""The sparse certificate: what is proved of a plain network, of gates around it, and of networks
trained to be certified.

    python benchmarks/certificate.py                                    # MNIST, three seeds;
    resumes python benchmarks/certificate.py --rows plain plain+gate-45 --seeds 1 python
    benchmarks/certificate.py --print                            # the tables of what is there

Rows: `plain`, a cnn; `wide`, cnn-wide-kernel trained plainly; `own-K`, the same hardened by the
bound alone (`--schedule none --certify K`); `both-K`, by the bound and by searched images; any of
these and `+gate-G`, with a gate for G around it. Each (data, row, seed) is one record of
results/certificate.json, and one that is there is skipped. Seconds are those of CPU, of this
process on one thread. `found` is the fewest lit features of any confident image that the search of
`fool` met, for each class; the search goes on until it has the sparsest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import records
import torch
from torch import nn

import blankcheck as bc
from blankcheck.certifying import (
    Gated,
    Sparse,
    bound_layers,
    certify,
    fit_gate,
    log_odds_bounds,
    read_network,
)
from blankcheck.classifiers import TrainingPlan, UnitClassifier, build, evaluate, train_plainly
from blankcheck.classifiers.loading import save_model

RESULTS = Path(__file__).parent / "results" / "certificate.json"
ROWS = (
    "plain",
    "wide",
    "plain+gate-40",
    "plain+gate-45",
    "plain+gate-50",
    "own-34",
    "own-42",
    "own-42+gate-45",
    "both-42",
)
SURE = 0.9


def trained(row: str, data: bc.Data, seed: int, cache: Path) -> tuple[UnitClassifier, float]:
    """The network of a row that is no gate, and the CPU seconds of its training; from the cache
    where it is there."""
    kind, _, k = row.partition("-")
    model = "cnn" if row == "plain" else "cnn-wide-kernel"
    path, note = (
        cache / f"{data.source}-{row}-seed{seed}.{end}" for end in ("safetensors", "seconds")
    )
    if path.is_file() and note.is_file():
        return bc.load_model(model, path, data), float(note.read_text())
    began = time.process_time()
    if not k:
        network = build(model, data.shape, len(data.classes), data.mean_and_std(), seed)
        train_plainly(network, data.train, TrainingPlan.default(len(data.train)), seed)
    else:
        schedule = "none" if kind == "own" else "continuous"
        network = bc.harden(model, data, seed=seed, schedule=schedule, certify=int(k)).model
    seconds = time.process_time() - began
    cache.mkdir(parents=True, exist_ok=True)
    save_model(network, path)
    note.write_text(str(seconds))
    return network.eval(), seconds


def network_of(row: str, data: bc.Data, seed: int, cache: Path) -> tuple[nn.Module, str, float]:
    """The network of a row, the form of its outputs, and the CPU seconds of what is its own."""
    inner, _, gate = row.partition("+gate-")
    network, seconds = trained(inner, data, seed, cache)
    if not gate:
        return network, "logits", seconds
    began, classes = time.process_time(), len(data.classes)
    made = fit_gate(data.train, data.shape, classes, classes, int(gate))
    return UnitClassifier(Gated(network, made)).eval(), "probabilities", time.process_time() - began


def fewest_lit(network: nn.Module, data: bc.Data, steps: int, each: int) -> list[int | None]:
    """For each class the fewest lit features of any image that was confident."""
    found = bc.fool(
        network, range(len(data.classes)), each, data=data, steps=steps, until="sparsest", seed=0
    )
    best: list[int | None] = [None] * len(data.classes)
    for target, lit, confidence in zip(
        found.targets.tolist(), found.lit.tolist(), found.confidence.tolist(), strict=True
    ):
        if confidence >= SURE and (best[target] is None or lit < best[target]):
            best[target] = int(lit)
    return best


def measured(
    row: str, data: bc.Data, seed: int, steps: int, each: int, cache: Path
) -> dict[str, Any]:
    """One record."""
    network, form, training = network_of(row, data, seed, cache)
    real = evaluate(network, data.test, len(data.classes), SURE, form)
    began = time.process_time()
    proved = certify(network, data.shape, len(data.classes))
    spent = time.process_time() - began
    began = time.process_time()
    found = fewest_lit(network, data, steps, each)
    return {
        "data": data.source,
        "row": row,
        "seed": seed,
        "accuracy": real.accuracy,
        "confident": real.confident,
        "means": proved.means,
        "k": list(proved.k),
        "found": found,
        "training_seconds": training,
        "certificate_seconds": spent,
        "search_seconds": time.process_time() - began,
        "steps": steps,
        **records.where(),
    }


def milliseconds(
    network: nn.Module, shape: Sequence[int], k: int, dtype: torch.dtype, rounding: bool
) -> float:
    """CPU time of one bound of all ten classes, the best of several."""
    read, like, best = read_network(network, shape), torch.zeros((), dtype=dtype), float("inf")
    with torch.no_grad():
        for _ in range(15):
            began = time.process_time()
            log_odds_bounds(bound_layers(read.layers(dtype), Sparse(k), like, rounding), 10)
            best = min(best, time.process_time() - began)
    return 1000 * best


def bound_record(data: bc.Data, cache: Path) -> dict[str, Any]:
    """How long one bound takes, of the reference network before and after training."""
    networks = {"untrained": build("cnn-wide-kernel", data.shape, len(data.classes))}
    path = cache / f"{data.source}-own-42-seed0.safetensors"
    if path.is_file():
        networks["trained"] = bc.load_model("cnn-wide-kernel", path, data)
    kinds = {"float32": (torch.float32, False), "float64 with rounding": (torch.float64, True)}
    times = {
        f"{name}, {kind}": milliseconds(network, data.shape, 40, *how)
        for name, network in networks.items()
        for kind, how in kinds.items()
    }
    return {"milliseconds": times, **records.where()}


def smallest(record: dict[str, Any]) -> int:
    """The k that was proved for every class, -1 for none."""
    return min(-1 if k is None else k for k in record["k"])


def ratio(record: dict[str, Any]) -> float | None:
    """Median over the classes of the fewest lit found over the k proved; None where nothing is
    proved or found."""
    pairs = [
        (f, k) for f, k in zip(record["found"], record["k"], strict=True) if f is not None and k
    ]
    return statistics.median(f / k for f, k in pairs) if len(pairs) == len(record["k"]) else None


def tables(known: dict[str, Any]) -> str:
    """Markdown of all that was measured."""
    cells = [r for key, r in known.items() if not key.startswith("bound/")]
    parts = []
    for data in dict.fromkeys(r["data"] for r in cells):
        rows = [r for r in cells if r["data"] == data]
        plain = {r["seed"]: r for r in rows if r["row"] == "plain"}
        lines = [
            line(name, [r for r in rows if r["row"] == name], plain)
            for name in dict.fromkeys(r["row"] for r in rows)
        ]
        head = (
            "network",
            "seeds",
            "right, %",
            "right and confident, %",
            "confidence lost to plain, points",
            "proof",
            "k of every class",
            "fewest lit found",
            "found / k, median of classes",
            "training, s",
            "certificate, s",
        )
        places = sorted(
            {
                f"{r['commit']}, {r['machine']}, {r['threads']} threads, torch {r['torch']}"
                for r in rows
            }
        )
        parts.append(f"### {data}\n\nCommit {'; '.join(places)}.\n\n{records.table(head, lines)}\n")
    for key, record in known.items():
        if key.startswith("bound/"):
            times = ", ".join(f"{name}: {ms:.1f} ms" for name, ms in record["milliseconds"].items())
            parts.append(
                f"One bound of cnn-wide-kernel ({key[6:]}, k = 40, CPU time): {times}. "
                f"{records.said(record)}\n"
            )
    return "\n".join(parts)


def line(
    name: str, made: list[dict[str, Any]], plain: dict[int, dict[str, Any]]
) -> tuple[str, ...]:
    """One row."""

    def of(values: Sequence[float | None], digits: int = 4) -> str:
        known = [v for v in values if v is not None]
        return records.spread(known, digits) if known else "-"

    lost = [
        100 * (plain[r["seed"]]["confident"] - r["confident"]) for r in made if r["seed"] in plain
    ]
    found = [min((f for f in r["found"] if f is not None), default=None) for r in made]
    return (
        name,
        str(len(made)),
        of([100 * r["accuracy"] for r in made]),
        of([100 * r["confident"] for r in made]),
        of([round(v, 2) for v in lost]),
        made[0]["means"],
        of([smallest(r) for r in made]),
        of(found),
        of([ratio(r) for r in made], 3),
        of([r["training_seconds"] for r in made], 3),
        of([r["certificate_seconds"] for r in made], 3),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--rows", nargs="*", default=list(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="of the search beside the proof")
    parser.add_argument("--each", type=int, default=4, help="searches for each class")
    parser.add_argument("--cache", type=Path, default=Path("build/certificate"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--print", action="store_true", dest="only_print")
    given = parser.parse_args()
    torch.set_num_threads(1)
    known: dict[str, Any] = json.loads(given.results.read_text()) if given.results.is_file() else {}
    if not given.only_print:
        data = bc.load_data(given.data)
        for seed in range(given.seeds):
            for row in given.rows:
                key = f"{given.data}/{row}/{seed}"
                if key not in known:
                    record = measured(row, data, seed, given.steps, given.each, given.cache)
                    known = records.keep(given.results, key, record)
                    print(key, *line(row, [record], {}), flush=True)
        known = records.keep(given.results, f"bound/{given.data}", bound_record(data, given.cache))
    text = tables(known)
    records.write(given.results.with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
