"""What the benchmarks of scale share: the machine in words, spreads, files, and bare passes of a
network. A library."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

HERE = Path(__file__).parent
Clock = Callable[[], float]


def where(device: torch.device | str = "cpu") -> dict[str, Any]:
    """The commit that is checked out, whether files differ from it, and what computes."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], capture_output=True, text=True, cwd=HERE.parent
        ).stdout.strip()

    device = torch.device(device)
    return {
        "commit": git("rev-parse", "--short", "HEAD")
        + (" and changes" if git("status", "--porcelain", "src") else ""),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def said(place: dict[str, Any]) -> str:
    """`where` as a sentence."""
    load = "" if place["load"] is None else f", load {place['load']} at the start"
    return (
        f"Commit {place['commit']}, {place['machine']}, device {place['device']}, "
        f"{place['threads']} threads, "
        f"torch {place['torch']}{load}."
    )


def spread(values: Sequence[float], digits: int = 3) -> str:
    """`median (least-most)`, `digits` figures each; just the number of one."""

    def figure(value: float) -> str:
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"

    low, middle, high = figure(min(values)), figure(statistics.median(values)), figure(max(values))
    return middle if len(values) == 1 else f"{middle} ({low}-{high})"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in markdown."""
    lines = [
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    return "\n".join(lines)


def keep(path: Path, key: str, record: dict[str, Any]) -> dict[str, Any]:
    """Put a record beside the others of a JSON file, whole or not at all; all of them."""
    whole: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    whole[key] = record
    write(path, json.dumps(whole, indent=1, allow_nan=False) + "\n")
    return whole


def write(path: Path, text: str) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.replace(path)


def settle(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def both(model: nn.Module, images: Tensor) -> None:
    """One forward pass, and one backward pass to the images."""
    leaf = images.detach().requires_grad_(True)
    torch.autograd.grad(model(leaf)[:, 0].sum(), leaf)


@torch.no_grad()
def forward(model: nn.Module, images: Tensor) -> None:
    """One forward pass."""
    model(images)


def seconds_of(run: Callable[[], object], turns: int, device: torch.device, clock: Clock) -> float:
    """Seconds of one turn of `run`."""
    settle(device)
    began = clock()
    for _ in range(turns):
        run()
    settle(device)
    return (clock() - began) / turns


def wall() -> float:
    """Seconds on the wall."""
    return time.perf_counter()


def cpu() -> float:
    """Seconds of CPU of this process, which other programs on the machine hardly change."""
    return time.process_time()
