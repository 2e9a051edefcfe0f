"""How much of a device the search uses: images x steps per second, against a bare loop of the same
network's passes.

    python benchmarks/device.py                                     # on a GPU where there is one
    python benchmarks/device.py --device cpu --networks cnn resnet18 --repeats 3

*Bare*: forward and backward pass to the images, one batch after the other. *Descent* makes one such
pass for a step; *exchange*, the default, also two forward passes. Nobody finishes. Their rates
stand against those of a bare loop of the same
passes in the same process: 100 % would be a search that costs nothing beside the network. Bare loop
and searches take turns, `--repeats` times after one that does not count; median (least-most).
Networks have random weights; speed is the same. Numbers of other devices and networks in the
results file stay.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from device_networks import NETWORKS
from records import (
    HERE,
    both,
    forward,
    keep,
    said,
    seconds_of,
    settle,
    spread,
    table,
    wall,
    where,
    write,
)
from torch import Tensor, nn

from blankcheck.auditing import CHUNK
from blankcheck.fooling import Goal, Problem, ProximalMomentum, Solver, TabuSearch, search
from blankcheck.parallel.devices import DEVICES, resolve

RULES: dict[str, Solver] = {"descent": ProximalMomentum(), "exchange": TabuSearch(tried=((0, 2),))}
"""The exchange with as many trials from its first step as later on average."""
ON_CPU = {"cnn": (100, 16), "resnet18": (8, 8), "resnet50": (1, 4), "vit-s": (1, 4)}
"""Images at once and steps of a search on a CPU, so that it ends within minutes."""
STEPS = 200
"""Of a search elsewhere; images at once are those of a chunk of attempts."""


def measured(name: str, device: torch.device, chosen: argparse.Namespace) -> dict[str, Any]:
    """Rates of one network."""
    shape, make = NETWORKS[name]
    torch.manual_seed(0)
    model = make(shape).to(device).eval().requires_grad_(False)
    n, steps = ON_CPU[name] if device.type == "cpu" else (CHUNK, STEPS)
    n, steps = chosen.batch or n, chosen.steps or steps
    images = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    turns = [turn(model, images, steps, device) for _ in range(chosen.repeats + 1)][
        1:
    ]  # the first is slower
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else None
    return {
        "shape": shape,
        "batch": n,
        "steps": steps,
        "turns": turns,
        "peak_gib": peak,
        "where": where(device),
    }


def turn(model: nn.Module, images: Tensor, steps: int, device: torch.device) -> dict[str, float]:
    """Seconds of a bare step of each kind, and of a step of each rule, for the whole batch."""
    took = {
        kind: seconds_of(lambda run=run: run(model, images), steps, device, wall)
        for kind, run in (("both", both), ("forward", forward))
    }
    for name, rule in RULES.items():
        took[name], took[f"{name} passes"] = searched(model, images, rule, steps, device, took)
    return took


def searched(
    model: nn.Module,
    images: Tensor,
    rule: Solver,
    steps: int,
    device: torch.device,
    bare: dict[str, float],
) -> tuple[float, float]:
    """Seconds of a step, and those of its passes alone."""
    problem = Problem(model, "logits", torch.arange(len(images), device=device) % 10)
    start = images if rule is RULES["descent"] else torch.zeros_like(images)
    settle(device)
    began = wall()
    found = search(problem, start, rule, Goal(1 - 1e-12, until="sparsest"), steps)
    settle(device)
    took, made, ahead = wall() - began, int(found.steps.max()), int(found.forwards.max())
    return took / made, bare["both"] + (ahead - made) / made * bare["forward"]


def tables(records: dict[str, Any]) -> str:
    """Everything measured so far, one table for each device."""
    lines = []
    for key, record in records.items():
        rows = []
        for name, network in record.items():
            n, turns = network["batch"], network["turns"]
            cells = [
                name,
                "x".join(map(str, network["shape"])),
                str(n),
                str(network["steps"]),
                spread([n / t["both"] for t in turns]),
            ]
            for rule in RULES:
                cells += [
                    spread([n / t[rule] for t in turns]),
                    share([t[f"{rule} passes"] / t[rule] for t in turns]),
                ]
            rows.append(
                [*cells, "-" if network["peak_gib"] is None else f"{network['peak_gib']:.2f}"]
            )
        head = [
            "network",
            "image",
            "batch",
            "steps",
            "bare, images/s",
            *(
                f"{rule}, {what}"
                for rule in RULES
                for what in ("images x steps/s", "% of its passes alone")
            ),
            "peak GiB",
        ]
        places = sorted({said(network["where"]) for network in record.values()})
        lines += ["", f"### {key}", "", *places, "", table(head, rows)]
    return "\n".join(lines)


def share(values: list[float]) -> str:
    return spread([100 * value for value in values])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--networks", nargs="+", choices=tuple(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--batch", type=int, help="images at once")
    parser.add_argument("--steps", type=int, help="of a search")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--results", type=Path, default=HERE / "results" / "device.json")
    return parser.parse_args()


def main() -> None:
    chosen = arguments()
    device = resolve(chosen.device)
    place = where(device)
    key = f"{place['device']}, {place['machine']}"
    record: dict[str, Any] = (
        json.loads(chosen.results.read_text()).get(key, {}) if chosen.results.is_file() else {}
    )
    for name in chosen.networks:
        record[name] = measured(name, device, chosen)
        print(tables({key: {name: record[name]}}), flush=True)
        text = tables(keep(chosen.results, key, record))
        write(chosen.results.with_suffix(".md"), text.strip() + "\n")


if __name__ == "__main__":
    main()
