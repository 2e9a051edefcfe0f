"""Several processes that share one run, through lightning-fabric and torch.distributed: `--devices`, `--nodes`, torchrun.

The rooms that compute know nothing of this: they are given a `Spread`, which hands out pieces of work.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from blankcheck.auditing.sharing import Spread, alone
from blankcheck.errors import ArgumentError, BlankcheckError
from blankcheck.running.devices import resolve
from blankcheck.running.settings import AuditSettings, TrainSettings
from blankcheck.running.terminal import Terminal

PATIENCE = timedelta(days=7)
"""How long a process waits for the others, which may be searching for hours."""


@dataclass(frozen=True)
class Team:
    """The processes of a run, as one of them sees it. rank: its number; 0 writes and speaks. device: where it computes."""

    rank: int
    size: int
    device: torch.device
    spread: Spread

    @property
    def leads(self) -> bool:
        """Whether this process writes the run folder and speaks to the terminal."""
        return self.rank == 0

    @property
    def words(self) -> str:
        """The devices in words."""
        return str(self.device) if self.size == 1 else f"{self.device} and {self.size - 1} more"

    def code(self, code: int) -> int:
        """The exit code of this process. One that follows is done when all are, and torchrun takes every other code than
        0 for a crash."""
        return code if self.leads and not under_torchrun() else 0


def under_torchrun() -> bool:
    """Whether torchrun started this process. It takes every exit code but 0 for a crash."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank_of_process() -> int:
    """The number of this process as its environment says it, before any team has met; 0 where it says nothing."""
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def check_team(device: str, devices: int, nodes: int) -> None:
    """Raises ArgumentError with one line where so many processes cannot be had."""
    if devices < 1 or nodes < 1:
        raise ArgumentError(f"devices and nodes must be at least 1, got {devices} and {nodes}")
    chosen = resolve(device)
    if chosen.type == "cuda" and devices > torch.cuda.device_count():
        raise ArgumentError(f"devices must be at most {torch.cuda.device_count()}, the GPUs of this machine, got {devices}")
    if chosen.type == "mps" and devices > 1:
        raise ArgumentError("devices must be 1 on mps")


def meet(device: str, devices: int, nodes: int) -> Team:
    """Start the other processes, unless torchrun or SLURM did, and meet them. Alone where only one is wanted."""
    if under_torchrun():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    chosen = resolve(device)
    if devices * nodes == 1:
        return Team(0, 1, chosen, alone)
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces every process
    fabric = Fabric(accelerator=chosen.type, devices=devices, num_nodes=nodes, strategy=DDPStrategy(timeout=PATIENCE))
    fabric.launch()
    return Team(fabric.global_rank, fabric.world_size, fabric.device, _Shared(fabric.global_rank, fabric.world_size))


@contextmanager
def meeting(settings: TrainSettings | AuditSettings, terminal: Terminal) -> Iterator[Team]:
    """The team that a command's settings ask for; only the first process goes on speaking. Raises ArgumentError."""
    check_team(settings.device, settings.devices, settings.nodes)
    team = meet(settings.device, settings.devices, settings.nodes)
    if not team.leads:
        terminal.fall_silent()
    try:
        yield team
    finally:
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()


@dataclass(frozen=True)
class _Failure:
    """What went wrong in one process, told to all."""

    rank: int
    words: str
    ours: bool


class _Shared:
    """A `Spread` over all processes: each takes the next piece as soon as it is free, and at the end all tell all."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size, self.calls = rank, size, 0
        self.counter = _counter(rank)

    def __call__(self, n: int, do: Callable[[int], Any]) -> list[Any]:
        """See `Spread`. A piece that fails ends the call in every process, with the words of the one that failed."""
        self.calls += 1
        done: dict[int, Any] = {}
        failure: _Failure | None = None
        while failure is None and (index := self.counter.add(f"piece of call {self.calls}", 1) - 1) < n:
            try:
                done[index] = do(index)
            except Exception as error:
                words = " ".join(str(error).split()) or type(error).__name__
                failure = _Failure(self.rank, words, isinstance(error, BlankcheckError))
        told: list[Any] = [None] * self.size
        dist.all_gather_object(told, (done, failure))
        failed = [failure for _, failure in told if failure is not None]
        if failed:
            first = failed[0]
            kind = BlankcheckError if first.ours else RuntimeError
            raise kind(f"process {first.rank}: {first.words}")
        together = {index: result for part, _ in told for index, result in part.items()}
        return [together[index] for index in range(n)]


def _counter(rank: int) -> Any:
    """A store of numbers that all processes can add to, kept by the first of them."""
    store_of: Any = vars(dist)["TCPStore"]  # public, but torch's types do not know it
    host = os.environ.get("MASTER_ADDR", "127.0.0.1")
    options = {"wait_for_workers": False, "timeout": PATIENCE}
    store = store_of(host, 0, is_master=True, **options) if rank == 0 else None
    port: list[Any] = [store.port if store is not None else None]
    dist.broadcast_object_list(port, src=0)
    return store or store_of(host, port[0], is_master=False, **options)
