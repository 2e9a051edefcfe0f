"""One process against several on the CPU: seconds of the search, and of the whole `blankcheck
audit`.

    python benchmarks/parallel.py --weights hardened.safetensors          # mnist, cnn, a standard
    audit python benchmarks/parallel.py --data digits --model mlp --preset smoke --repeats 2      #
    a minute python benchmarks/parallel.py --expected-only --weights hardened.safetensors
    # on a busy machine

Every process computes with one thread. One and several processes take turns, `--repeats` times; a
ratio is taken within each turn, and its median, least and most are shown. *Search*: all attempts of
the audit, from the moment all processes are ready until all have all results; the tests of what is
out of distribution are fitted before. *Command*: from its start to its end, with the start of
Python, reading the data, fitting these tests, all controls, the report. The twin is trained before
and comes from the cache. The walls mean something only on a machine with nothing else to do and as
many cores as processes.

*Expected*: what the CPU seconds of each piece of one audit in one process say, each process taking
the next piece as soon as it is free. It leaves out the start of the program and the exchange of
results, and hardly notices other programs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pieces import measured_audit
from records import HERE, cpu, keep, said, spread, table, wall, where

import blankcheck as bc
from blankcheck.auditing import CHUNK, Job, ood_test, preset_named, run_attempts, within
from blankcheck.classifiers import TrainingPlan, UnitClassifier, build, train_plainly
from blankcheck.classifiers.loading import save_model
from blankcheck.cli.main import main as blankcheck
from blankcheck.parallel.team import Started, meeting
from blankcheck.types import Conditions, default_max_lit

TARGETS = {"search": 1.7, "command": 1.5}
"""Times as fast with two processes as with one, aimed at."""


def child(chosen: argparse.Namespace, joined: Started | None = None) -> int:
    """One run, in each of its processes; leaves CPU seconds, and those of the search, in the
    folder. The mean CPU seconds where the command starts its processes itself."""
    torch.set_num_threads(1)
    seconds, started = None, 0.0
    if chosen.child == "search":
        seconds = searched(chosen, joined)
    else:
        options = ["--data", chosen.data, "--model", chosen.model, "--weights", chosen.weights]
        options += ["--preset", chosen.preset, "--devices", chosen.processes, "--device", "cpu"]
        options += ["--out", chosen.folder / "run", "--overwrite", "--quiet"]
        sys.argv[1:] = ["audit", *map(str, options)]  # which the processes it starts read, too
        with suppress(SystemExit):
            blankcheck()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = (used.ru_utime + used.ru_stime) / chosen.processes
    rank = os.environ.get("LOCAL_RANK", "0")
    told = {"cpu": max(cpu(), started), "seconds": seconds}
    (chosen.folder / f"{rank}.json").write_text(json.dumps(told))
    return 0


def searched(chosen: argparse.Namespace, joined: Started | None = None) -> float:
    """Seconds of the attempts of an audit."""
    data = bc.load_data(chosen.data)
    model = (
        bc.load_model(chosen.model, weights=chosen.weights, data=data).eval().requires_grad_(False)
    )
    preset, classes = preset_named(chosen.preset), len(data.classes)
    want = Conditions(max_lit=default_max_lit(data.shape))
    job = Job(
        model,
        "logits",
        data.shape,
        want,
        within(preset.steps),
        stop_at_lit=max(1, want.max_lit // 10),
        real=(data.validation.images, data.validation.labels),
        accept=ood_test(data, want.ood_level).accepts,
    )
    targets = [t for t in range(classes) for _ in range(preset.for_targets(classes))]
    with meeting("cpu", chosen.processes, 1, partial(child, chosen), print, joined) as team:
        team.peers.all_gather(None)  # all are ready
        began = wall()
        run_attempts(job, targets, spread=team.peers.spread)
        return wall() - began


def run(kind: str, processes: int, chosen: argparse.Namespace) -> dict[str, float]:
    """Wall seconds of one run, and the CPU seconds of its busiest process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            str(Path(__file__).resolve()),
            "--child",
            kind,
            "--processes",
            str(processes),
            "--folder",
            folder,
            "--data",
            chosen.data,
            "--model",
            chosen.model,
            "--weights",
            str(chosen.weights),
            "--preset",
            chosen.preset,
        ]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        began = wall()
        ended = subprocess.run(
            command, env={**os.environ, **threads}, capture_output=True, text=True
        )
        took = wall() - began
        left = [json.loads(path.read_text()) for path in Path(folder).glob("?.json")]
        if ended.returncode != 0 or len(left) != (processes if kind == "search" else 1):
            raise SystemExit(f"{kind} with {processes} processes failed:\n{ended.stderr}")
    seconds = max(each["seconds"] for each in left) if kind == "search" else took
    return {"seconds": seconds, "busiest_cpu": max(each["cpu"] for each in left)}


def compared(kind: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """One and several processes in turns."""
    turns = []
    for turn in range(chosen.repeats):
        pair = [run(kind, processes, chosen) for processes in (1, chosen.processes)]
        turns.append(
            {"one": pair[0], "several": pair[1], "ratio": pair[0]["seconds"] / pair[1]["seconds"]}
        )
        print(
            f"{kind} {turn}: {pair[0]['seconds']:.1f} s, {pair[1]['seconds']:.1f} s",
            file=sys.stderr,
            flush=True,
        )
    return {"turns": turns, "ratio": statistics.median(t["ratio"] for t in turns)}


def expected(chosen: argparse.Namespace, model: UnitClassifier, data: bc.Data) -> dict[str, Any]:
    """What the pieces say, and how long the program takes to begin."""
    torch.set_num_threads(1)
    begun = cpu()  # imports, and reading the data and the weights
    audit = measured_audit(model, data, chosen.preset)
    shared = {str(n): audit.shared(n) for n in (1, 2, 4, 8)}
    return audit.as_record() | {"start": begun, "shared": shared}


def weights_of(chosen: argparse.Namespace, data: bc.Data) -> Path:
    """Those that were named, or a plain network's, trained once and kept."""
    if chosen.weights is not None:
        return Path(chosen.weights).resolve()
    path = HERE.parent / "build" / "parallel" / f"{chosen.data}-{chosen.model}.safetensors"
    if not path.is_file():
        network = build(chosen.model, data.shape, len(data.classes), data.mean_and_std(), 0)
        train_plainly(
            network,
            data.train,
            TrainingPlan.default(len(data.train), 3 if len(data.train) > 5000 else None),
            0,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        save_model(network, path)
    return path


def tables(records: dict[str, Any]) -> str:
    """Everything measured so far, in markdown."""
    lines = []
    for key, record in records.items():
        audit, several = record["expected"], record["processes"]
        lines += ["", f"### {key}", "", said(record["where"]), ""]
        lines += [
            f"{audit['verdict']}, {audit['attempts']} attempts in chunks of {record['chunk']}; CPU "
            "seconds of one process: "
            f"{sum(p['seconds'] for p in audit['chunks']):.1f} attempts, "
            f"{sum(p['seconds'] for p in audit['controls']):.1f} "
            f"controls (the longest {max(p['seconds'] for p in audit['controls']):.1f}), "
            f"{audit['alone']:.1f} what every "
            "process does for itself.",
            "",
        ]
        rows = [
            ["expected, " + what, *(f"{times(audit, what, n):.2f}" for n in ("2", "4", "8"))]
            for what in ("search", "audit")
        ]
        lines += [table(["times as fast as one process", "2", "4", "8"], rows), ""]
        rows = [
            [
                kind,
                *(
                    spread([t[count]["seconds"] for t in part["turns"]])
                    for count in ("one", "several")
                ),
                spread([t["ratio"] for t in part["turns"]]),
                str(TARGETS[kind]) if several == 2 else "-",
            ]
            for kind, part in record["measured"].items()
        ]
        if rows:
            lines.append(
                table(
                    ["measured", "1 process, s", f"{several} processes, s", "ratio", "aimed at"],
                    rows,
                )
            )
    return "\n".join(lines)


def times(audit: dict[str, Any], what: str, processes: str) -> float:
    """Times as fast as one process."""
    if what == "audit":
        return float(audit["shared"]["1"] / audit["shared"][processes])
    from pieces import Piece, makespan

    chunks = [Piece(**piece) for piece in audit["chunks"]]
    return makespan(chunks, 1) / makespan(chunks, int(processes))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--model", default="cnn", help="a built-in network")
    parser.add_argument(
        "--weights", type=Path, help="of that network; a plain one is trained if none are given"
    )
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kinds", nargs="+", choices=tuple(TARGETS), default=list(TARGETS))
    parser.add_argument("--expected-only", action="store_true", help="measure no walls")
    parser.add_argument("--results", type=Path, default=HERE / "results" / "parallel.json")
    parser.add_argument("--child", choices=tuple(TARGETS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    if chosen.child is not None:
        child(chosen)
        return
    began, data = time.monotonic(), bc.load_data(chosen.data)
    chosen.weights = weights_of(chosen, data)
    place = where() | {"threads": 1}
    model = bc.load_model(chosen.model, weights=chosen.weights, data=data).eval()
    record = {
        "where": place,
        "chunk": CHUNK,
        "processes": chosen.processes,
        "expected": expected(chosen, model, data),
        "measured": {}
        if chosen.expected_only
        else {kind: compared(kind, chosen) for kind in chosen.kinds},
    }
    key = f"{chosen.data}, {chosen.model}, {chosen.weights.stem}, {chosen.preset}"
    text = tables(keep(chosen.results, key, record))
    chosen.results.with_suffix(".md").write_text(text.strip() + "\n")
    print(
        f"{text}\n\n{time.monotonic() - began:.0f} s in all; {chosen.results.name} and its .md "
        "were written."
    )


if __name__ == "__main__":
    main()
