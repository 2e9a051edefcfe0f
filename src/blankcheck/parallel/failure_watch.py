"""How the processes of a run learn that one of them failed, wherever they are, and end instead of
waiting for it."""

from __future__ import annotations

import _thread
import json
import os
import sys
import threading
import traceback
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from blankcheck.errors import BlankcheckError
from blankcheck.outputs import refused_by_machine

PATIENCE = timedelta(days=7)
"""How long a process waits for the others, which may be searching for hours."""
MOMENT = 1.0
"""Seconds after which a process that did not notice is interrupted: a broken collective wakes it
sooner."""
GRACE = 10.0
"""Seconds that a process has to end by itself once another failed; a collective on a GPU cannot be
interrupted."""
FAILURE, HEARD, ERROR = "failure", "heard", 2


class LostError(BlankcheckError):
    """Another process could not be reached: it failed, and says so itself, or was killed."""


@dataclass(frozen=True)
class Failure:
    """What went wrong in one process. kind: `ours` (wrong input), `machine` (no room, no memory),
    `other`, `interrupted`, or `` when all is well."""

    rank: int
    words: str
    kind: str

    @classmethod
    def of(cls, rank: int, error: BaseException) -> Failure:
        """One line, whatever the error was."""
        words = " ".join(str(error).split()) or type(error).__name__
        kind = (
            "ours"
            if isinstance(error, BlankcheckError)
            else "other"
            if refused_by_machine(error) is None
            else "machine"
        )
        return cls(rank, words, "interrupted" if isinstance(error, KeyboardInterrupt) else kind)

    def as_error(self) -> BaseException:
        """What the other processes raise."""
        if self.kind == "interrupted":
            return KeyboardInterrupt()
        kind = {"ours": BlankcheckError, "machine": OSError}.get(self.kind, RuntimeError)
        return kind(f"process {self.rank}: {self.words}")


class Alarm:
    """A line between all processes beside the collectives, on which a thread waits for the failure
    of another one.

    The first process keeps what is told, and speaks for all: another one that fails waits until it
    has heard, and ends silently. store: numbers and texts that all share.
    """

    def __init__(self, rank: int) -> None:
        self.rank, self.ended = rank, threading.Event()
        self.failure: Failure | None = None
        host = os.environ.get("MASTER_ADDR", "127.0.0.1")
        first = _connect(host, 0, True) if rank == 0 else None
        port: list[Any] = [first.port if first is not None else None]
        dist.broadcast_object_list(port, src=0)
        self.store = first or _connect(host, port[0], False)
        # a line of its own: one that waits blocks all who share it
        self._line = _connect(host, port[0], False)
        threading.Thread(target=self._watch, daemon=True, name="alarm").start()

    def _watch(self) -> None:
        try:
            self._line.wait([FAILURE], PATIENCE)
            told = Failure(**json.loads(self._line.get(FAILURE)))
        except Exception:  # the first process, which keeps the store, has ended, rightly or not
            self.ended.wait(GRACE)
            told = Failure(0, "has ended", "ours")
        if self.ended.is_set() or not told.kind or told.rank == self.rank:
            return
        self.failure = told
        if self.ended.wait(MOMENT):
            return
        _thread.interrupt_main()
        if not self.ended.wait(GRACE):
            if self.rank == 0:
                sys.stderr.write(f"blankcheck: error: {told.as_error()}\n")
                self._tell(HEARD, "")
            os._exit(ERROR)

    def _tell(self, key: str, value: str) -> None:
        try:
            self.store.set(key, value)
        except Exception:  # nobody is there to be told
            return

    def lost(self) -> LostError:
        """For a collective that broke."""
        self.ended.set()
        return LostError("another process of this run ended without a word; was it killed?")

    def all_is_well(self) -> None:
        """Said by every process when the work is done."""
        self.ended.set()
        if self.rank == 0:
            self._tell(FAILURE, json.dumps(asdict(Failure(0, "", ""))))

    def raised(self, error: BaseException) -> BaseException:
        """What to raise where this was raised: in the first process what went wrong anywhere, in
        others what ends them."""
        self.ended.set()
        told = self._told()
        secondary = (
            told is not None
            and told.rank != self.rank
            and isinstance(error, LostError | KeyboardInterrupt)
        )
        if told is None and (self.rank == 0 or not isinstance(error, LostError)):
            self._tell(FAILURE, json.dumps(asdict(Failure.of(self.rank, error))))
        if dist.is_initialized() and dist.get_backend() == "gloo":
            dist.destroy_process_group()  # those who wait for this process are woken
        if self.rank == 0:
            self._tell(HEARD, "")
            return told.as_error() if told is not None and secondary else error
        if not secondary and Failure.of(self.rank, error).kind == "other":
            traceback.print_exception(error)
        return SystemExit(0 if self._heard() else ERROR)

    def _told(self) -> Failure | None:
        if self.failure is not None:
            return self.failure
        try:
            if self.store.check([FAILURE]):
                return Failure(**json.loads(self.store.get(FAILURE)))
        except Exception:
            return Failure(0, "has ended", "ours")
        return None

    def _heard(self) -> bool:
        try:
            self.store.wait([HEARD], timedelta(seconds=3 * GRACE))
        except Exception:  # too late, or the first process is gone
            return False
        return True


def _connect(host: str, port: int, first: bool) -> Any:
    store_of: Any = vars(dist)["TCPStore"]  # public, but torch's types do not know it
    return store_of(host, port, is_master=first, wait_for_workers=False, timeout=PATIENCE)
