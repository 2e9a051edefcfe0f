"""Processes that train together, for tests: each runs a function of a module, given its `Peers`."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing

from blankcheck.parallel.peers import Peers

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # as `parallel.team` does
# one process imports what all need, and each of them is a copy of it
multiprocessing.set_forkserver_preload(["blankcheck.hardening.rounds", "sklearn.datasets"])


def by_processes(size: int, do: Callable[..., Any], *given: Any) -> list[Any]:
    """do(peers, *given) in so many processes; their results in order of rank."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(
            _take_part, (size, folder, do, given), size, start_method="forkserver"
        )
        return [torch.load(Path(folder, str(rank)), weights_only=False) for rank in range(size)]


def _take_part(rank: int, size: int, folder: str, do: Callable[..., Any], given: Any) -> None:
    torch.set_num_threads(1)
    meet = f"file://{folder}/meet"
    dist.init_process_group("gloo", init_method=meet, rank=rank, world_size=size)
    notes: list[str] = []
    peers = Peers(rank, size, note=notes.append)
    torch.save(do(peers, *given), Path(folder, str(rank)))
    dist.barrier()
    dist.destroy_process_group()
