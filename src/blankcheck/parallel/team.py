"""Several processes that share one run: `--devices`, `--nodes`, torchrun, SLURM.

lightning-fabric starts them where nobody else did, and lets them meet. Whoever started them ends
all when one fails. The rooms that compute are given `Peers`, or their `spread`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessExitedException

from blankcheck.errors import ArgumentError, BlankcheckError
from blankcheck.parallel.devices import resolve
from blankcheck.parallel.peers import ALONE, Peers

PATIENCE = timedelta(days=7)
"""How long a process waits for the others, which may be searching for hours."""
GRACE = 10.0
"""Seconds that a process whose peers are gone waits to be ended before it says so itself."""
INTERRUPTED = 130
for _name in ("lightning_fabric.utilities.distributed", "lightning_fabric.utilities.rank_zero"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # they announce every process
logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)


class LostError(BlankcheckError):
    """Another process could not be reached: it failed, and says so itself, or was killed."""


class Ended(SystemExit):
    """This process ends as those did that it started or belongs to, with their exit code."""


@dataclass(frozen=True)
class Team:
    """The processes of a run, as one of them sees it.

    Args:
        device: where this process computes.
        peers: all of them, who train together and share pieces of work.
    """

    device: torch.device
    peers: Peers = ALONE

    @property
    def leads(self) -> bool:
        """Whether this process writes the run folder and speaks to the terminal."""
        return self.peers.rank == 0

    @property
    def words(self) -> str:
        """The devices in words."""
        others = self.peers.size - 1
        return f"{self.device} and {others} more" if others else str(self.device)

    def code(self, code: int) -> int:
        """The exit code: 0 of a process that follows, done when all are, and under torchrun."""
        return code if self.leads and not under_torchrun() else 0


@dataclass
class Started:
    """What a process is given that was started for a team.

    Args:
        fabric: its place among the others.
        done: whether all of them have done their work.
    """

    fabric: Any
    done: bool = False


def under_torchrun() -> bool:
    """Whether torchrun started this process. It takes every exit code but 0 for a crash."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def rank_of_process() -> int:
    """0 for the first process, before any team has met; above 0 where the environment says so."""
    said = ("RANK",) if "RANK" in os.environ else ("LOCAL_RANK", "NODE_RANK")
    return max(int(os.environ.get(name) or 0) for name in said)


def let_first_speak() -> None:
    """Call before saying what is wrong: under torchrun mostly all processes find the same, and it
    ends the others when the first is done saying it."""
    if under_torchrun() and rank_of_process() != 0:
        time.sleep(1)


def check_team(device: str, devices: int, nodes: int) -> None:
    """Raises ArgumentError with one line where so many processes cannot be had."""
    if devices < 1 or nodes < 1:
        raise ArgumentError(f"devices and nodes must be at least 1, got {devices} and {nodes}")
    chosen, gpus = resolve(device), torch.cuda.device_count()
    if chosen.type == "cuda" and devices > gpus:
        raise ArgumentError(f"devices must be at most {gpus}, the GPUs here, got {devices}")
    if chosen.type == "mps" and devices > 1:
        raise ArgumentError("devices must be 1 on mps")


@contextmanager
def meeting(
    device: str,
    devices: int,
    nodes: int,
    command: Callable[[Started], int],
    note: Callable[[str], None],
    started: Started | None = None,
) -> Iterator[Team]:
    """The team that does what is in the block. Where one process fails there, all end.

    Args:
        device: `auto`, `cpu`, `cuda` or `mps`.
        devices: processes on this machine, 1 or more.
        nodes: machines, 1 or more.
        command: runs the whole command again in a process started for it, and gives its exit code.
        note: takes a line for whoever started the run.
        started: what `command` was given, in a process that was started for it.

    Raises:
        ArgumentError: there can be no such team.
        LostError: another process was killed.
        Ended: in the process that only starts others, with the exit code of the first one.
    """
    check_team(device, devices, nodes)
    fabric = started.fabric if started else _meet(device, devices, nodes, command)
    if fabric is None:
        yield Team(resolve(device))
        return
    peers = Peers(fabric.global_rank, fabric.world_size, fabric.device, note)
    try:
        yield Team(fabric.device, peers)
        dist.barrier()  # none leaves before all are done
    except BaseException as error:
        if _is_lost(error):
            time.sleep(GRACE)
            words = "another process of this run ended without a word; was it killed?"
            raise LostError(words) from error
        if started and isinstance(error, KeyboardInterrupt):
            raise Ended(INTERRUPTED) from None  # the process that started this says so
        if isinstance(error, BlankcheckError) and peers.rank:
            raise BlankcheckError(f"process {peers.rank}: {error}") from error
        raise
    dist.destroy_process_group()
    if started:
        started.done = True


def _meet(device: str, devices: int, nodes: int, command: Callable[[Started], int]) -> Any:
    """The Fabric of this process, which has met those that torchrun or SLURM started; None where it
    is alone. Else starts the others and ends as they do."""
    if under_torchrun():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    chosen = resolve(device)
    if devices * nodes == 1:
        return None
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    def fabric_that(starts: Any) -> Any:
        strategy = DDPStrategy(timeout=PATIENCE, start_method=starts)
        return Fabric(accelerator=chosen.type, strategy=strategy, devices=devices, num_nodes=nodes)

    fabric = fabric_that("popen")
    if not fabric.strategy.cluster_environment.creates_processes_externally:
        raise Ended(_started(fabric_that("spawn"), command))
    fabric.launch()
    return fabric


def _started(fabric: Any, command: Callable[[Started], int]) -> int:
    """The exit code of the processes that are started here."""
    # DDP warns of networks that use all their parameters, where it is told that they need not
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    try:
        return int(fabric.launch(_take_part, command))
    except ProcessExitedException as error:
        if error.exit_code > 0:  # which has said itself what went wrong
            return error.exit_code
        words = f"process {error.error_index} of this run was ended by {error.signal_name}"
        raise LostError(words) from None
    except KeyboardInterrupt:
        # those that heard of it, too, end by themselves
        ends = time.monotonic() + GRACE / 2
        for process in multiprocessing.active_children():
            process.join(max(0, ends - time.monotonic()))
            process.terminate()
        raise


def _take_part(fabric: Any, command: Callable[[Started], int]) -> int:
    """What a process does that was started for a team."""
    started = Started(fabric)
    code = command(started)
    if not started.done:  # it has said what went wrong; all others are to end as well
        raise SystemExit(code)
    return code


def _is_lost(error: BaseException) -> bool:
    """Whether a collective broke; gloo raises plain RuntimeErrors."""
    cause = error.__cause__ or error  # of a pass of a network, whose errors become ours
    return isinstance(cause, dist.DistError) or "gloo/transport" in str(cause)
