"""Several processes that share one run, through lightning-fabric and torch.distributed:
`--devices`, `--nodes`, torchrun.

The rooms that compute know nothing of this: they are given a `Spread`, which hands out pieces of
work, and `Peers`, with whom a network is trained.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from blankcheck.cli.settings import AuditSettings, TrainSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.errors import ArgumentError
from blankcheck.parallel.devices import resolve
from blankcheck.parallel.failure_watch import PATIENCE, Alarm, Failure
from blankcheck.parallel.peers import ALONE, Peers
from blankcheck.parallel.spread import Spread, alone


@dataclass(frozen=True)
class Team:
    """The processes of a run, as one of them sees it. rank: its number; 0 writes and speaks.
    device: where it computes."""

    rank: int
    size: int
    device: torch.device
    spread: Spread = alone
    peers: Peers = ALONE
    alarm: Alarm | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes the run folder and speaks to the terminal."""
        return self.rank == 0

    @property
    def words(self) -> str:
        """The devices in words."""
        return str(self.device) if self.size == 1 else f"{self.device} and {self.size - 1} more"

    def code(self, code: int) -> int:
        """The exit code of this process. One that follows is done when all are, and torchrun takes
        every other code than 0 for a crash."""
        return code if self.leads and not under_torchrun() else 0


def under_torchrun() -> bool:
    """Whether torchrun started this process. It takes every exit code but 0 for a crash."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank_of_process() -> int:
    """0 for the first process, before any team has met; above 0 for those whose environment says
    that they are another."""
    said = ("RANK",) if "RANK" in os.environ else ("LOCAL_RANK", "NODE_RANK")
    return max(int(os.environ.get(name) or 0) for name in said)


def speaks() -> bool:
    """Whether this process is to say what it finds wrong before the team has met.

    The one that starts the others does so once it found nothing wrong, so they speak for
    themselves. torchrun starts all at
    once, and mostly all find the same: it ends the others when the first is done saying it.
    """
    if under_torchrun() and rank_of_process() != 0:
        time.sleep(1)
    return True


def check_team(device: str, devices: int, nodes: int) -> None:
    """Raises ArgumentError with one line where so many processes cannot be had."""
    if devices < 1 or nodes < 1:
        raise ArgumentError(f"devices and nodes must be at least 1, got {devices} and {nodes}")
    chosen = resolve(device)
    if chosen.type == "cuda" and devices > torch.cuda.device_count():
        raise ArgumentError(
            f"devices must be at most {torch.cuda.device_count()}, the GPUs of this machine, got {devices}"
        )
    if chosen.type == "mps" and devices > 1:
        raise ArgumentError("devices must be 1 on mps")


def meet(device: str, devices: int, nodes: int) -> Team:
    """Start the other processes, unless torchrun or SLURM did, and meet them.

    Alone where only one is wanted.
    """
    if under_torchrun():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    chosen = resolve(device)
    if devices * nodes == 1:
        return Team(0, 1, chosen)
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it announces every process
    fabric = Fabric(
        accelerator=chosen.type,
        devices=devices,
        num_nodes=nodes,
        strategy=DDPStrategy(timeout=PATIENCE),
    )
    fabric.launch()
    peers = _Together(
        fabric.global_rank, fabric.world_size, fabric.device, Alarm(fabric.global_rank)
    )
    return Team(peers.rank, peers.size, peers.device, _Shared(peers), peers, peers.alarm)


@contextmanager
def meeting(settings: TrainSettings | AuditSettings, terminal: Terminal) -> Iterator[Team]:
    """The team that a command's settings ask for; only the first process goes on speaking.

    Where one process fails inside, all end, and the first one raises what went wrong. Raises
    ArgumentError where there can be no such team.
    """
    check_team(settings.device, settings.devices, settings.nodes)
    team = meet(settings.device, settings.devices, settings.nodes)
    if team.alarm is None:
        yield team
        return
    if not team.leads:
        terminal.fall_silent()
    try:
        yield team
        team.peers.gather(None)  # none leaves before all are done
    except BaseException as error:
        raised = team.alarm.raised(error)
        raise raised from (None if raised is not error else error.__cause__)
    team.alarm.all_is_well()
    dist.destroy_process_group()


@dataclass(frozen=True)
class _Together:
    """`Peers` that reach each other through torch.distributed. device: where its collectives want
    tensors."""

    rank: int
    size: int
    device: torch.device
    alarm: Alarm

    def total(self, values: Tensor) -> Tensor:
        """See `Peers`."""
        summed = values.detach().to(self.device, copy=True).contiguous()
        with self._heeding():
            dist.all_reduce(summed)
        return summed.to(values.device)

    def gather(self, value: Any) -> list[Any]:
        """See `Peers`."""
        told: list[Any] = [None] * self.size
        with self._heeding():
            dist.all_gather_object(told, value)
        return told

    def from_first(self, value: Any) -> Any:
        """See `Peers`."""
        told = [value if self.rank == 0 else None]
        with self._heeding():
            dist.broadcast_object_list(told, src=0, device=self.device)
        return told[0]

    @contextmanager
    def _heeding(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # all that torch.distributed raises
            raise self.alarm.lost() from error


class _Shared:
    """A `Spread` over all processes: each takes the next piece as soon as it is free, and at the
    end all tell all."""

    def __init__(self, peers: _Together) -> None:
        self.peers, self.calls = peers, 0

    def __call__(self, n: int, do: Callable[[int], Any]) -> list[Any]:
        """See `Spread`.

        A piece that fails ends the call in every process, with the words of the one that failed.
        """
        self.calls += 1
        done: dict[int, Any] = {}
        failure: Failure | None = None
        while failure is None and (index := self._next_piece()) < n:
            try:
                done[index] = do(index)
            except Exception as error:
                failure = Failure.of(self.peers.rank, error)
        told = self.peers.gather((done, failure))
        failed = [failure for _, failure in told if failure is not None]
        if failed:
            raise failed[0].as_error()
        together = {index: result for part, _ in told for index, result in part.items()}
        return [together[index] for index in range(n)]

    def _next_piece(self) -> int:
        alarm = self.peers.alarm
        try:
            return int(alarm.store.add(f"piece of call {self.calls}", 1)) - 1
        except RuntimeError as error:
            raise alarm.lost() from error
