"""Run one process on a batch of attempts: search, polish, and keep the batch as small as memory
asks for.

On a device a batch that does not fit is halved. On the CPU nobody says that memory is short, the
process is killed; so there the size of a batch is fixed beforehand, by the shape of the images
alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.auditing.portfolio import Attack
from blankcheck.fooling import FORWARDS_PER_STEP, Goal, Problem, polish, search
from blankcheck.outputs import in_small_passes, out_of_memory
from blankcheck.types import Accept, Classifier, Conditions, Fooling, Rows

MIN_POLISHED = {False: 10, True: 40}
"""Steps from which a process keeps some of them for polishing; where there are fewer, searching on
gains more. True: for rules that score trial images, whose forward passes are as scarce as their
backward ones."""
POLISH_BACKWARD = 2
POLISH_FORWARD = 0.1
"""Share of the forward passes kept for polishing."""
SEARCH_BYTES = 430
"""Of a search per feature and image, beside the network's own (`benchmarks/memory.py`)."""
SEARCH_MEMORY = 2**30
"""Bytes that the search of a batch on the CPU may take: all 125 images of a chunk up to 3x81x81, 16
of 3x224x224. The layers of the network take several times as much, which nobody knows
beforehand."""


@dataclass(frozen=True)
class SearchTask:
    """What is searched, for what, and where. at_once: images stop at the goal, and are not
    polished."""

    classifier: Classifier
    form: str
    conditions: Conditions
    accept: Accept | None
    at_once: bool
    device: torch.device | str


@dataclass(frozen=True)
class Batch(Rows):
    """targets (n,), start (n, c, h, w), keys (n,), mask (n, c, h, w) bool or None."""

    targets: Tensor
    start: Tensor
    keys: Tensor
    mask: Tensor | None


def rows_at_once(shape: Sequence[int], device: torch.device | str) -> int | None:
    """The most images of a shape (c, h, w) that are searched together; None for as many as there
    are."""
    on_cpu = torch.device(device).type == "cpu"
    return max(1, SEARCH_MEMORY // (SEARCH_BYTES * math.prod(shape))) if on_cpu else None


def run_attack(bench: SearchTask, process: Attack, batch: Batch) -> tuple[Fooling, int]:
    """What the process finds, on the CPU, and how often a batch was halved for want of memory."""
    n, most = len(batch.targets), rows_at_once(batch.start.shape[1:], bench.device)
    if most is None or n <= most:
        return _within_memory(bench, process, batch)
    parts = [
        _within_memory(bench, process, batch.rows(part))
        for part in torch.split(torch.arange(n), most)
    ]
    return Fooling.cat([found for found, _ in parts]), sum(halved for _, halved in parts)


def _within_memory(bench: SearchTask, process: Attack, batch: Batch) -> tuple[Fooling, int]:
    try:
        return _run(bench, process, batch), 0
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error) or len(batch.targets) == 1:
            raise
    # outside of the except block, whose error would keep the tensors of the failed try alive
    half, order = len(batch.targets) // 2, torch.arange(len(batch.targets))
    parts = [
        _within_memory(bench, process, batch.rows(part)) for part in (order[:half], order[half:])
    ]
    return Fooling.cat([found for found, _ in parts]), 1 + sum(halved for _, halved in parts)


def _run(bench: SearchTask, process: Attack, batch: Batch) -> Fooling:
    want, device, steps = bench.conditions, bench.device, process.steps
    mask = None if batch.mask is None else batch.mask.to(device)
    problem = Problem(in_small_passes(bench.classifier), bench.form, batch.targets.to(device), mask)
    goal = Goal(want.confidence, want.max_lit, "met" if bench.at_once else "sparsest", bench.accept)
    solver = process.solver(steps, want.max_lit)
    kept = POLISH_BACKWARD * (not bench.at_once and steps >= MIN_POLISHED[solver.trials])
    room = FORWARDS_PER_STEP * steps
    forwards = room - round(POLISH_FORWARD * room) if kept else room
    start = batch.start.to(device)
    found = search(
        problem, start, solver, goal, steps - kept, batch.keys, forwards, process.early_stop_after
    )
    if kept:
        found = polish(problem, found, goal, room - found.forwards, kept)
    return Fooling(**{name: getattr(found, name).cpu() for name in found.__dataclass_fields__})
