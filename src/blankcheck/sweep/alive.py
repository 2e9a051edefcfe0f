"""Workers that were killed: a trial says who runs it and gives a sign of life; one whose worker is
gone is tried again.

Optuna's own heartbeat exists for databases only, and not before a trial's first beat; this one is a
user attribute of the trial, so that it works in every storage. No clocks are compared: a trial
counts as lost when its beat has not changed for so long while we looked, or at once when its
process ran on this machine and is no more.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import connection, parent_process
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any

from blankcheck.sweep.study import FIRST, RETRY_OF, TRY, tried_again

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

OWNER = "owner"
BEAT, GRACE = 10.0, 90.0
"""Seconds between signs of life, and without one after which a trial is lost."""


def machine() -> str:
    """The machine, or the container, whose process numbers ours can be compared with."""
    try:
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        space = ""
    return f"{platform.node()} {space}".strip()


def gone(owner: Any) -> bool:
    """Whether the process that owned a trial ran here and is no more.

    False where that cannot be known.
    """
    if os.name != "posix" or not isinstance(owner, dict) or owner.get("machine") != machine():
        return False
    pid = owner.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


class Alive:
    """Gives signs of life for a trial while the block runs; ends this process when the command that
    started it is gone."""

    def __init__(self, trial: Trial, every: float = BEAT) -> None:
        self._trial, self._every, self._beat = trial, every, 0
        self._stop = Event()
        self._thread = Thread(target=self._go, daemon=True)

    def __enter__(self) -> Alive:
        self._sign()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _sign(self) -> None:
        self._trial.set_user_attr(
            OWNER, {"machine": machine(), "pid": os.getpid(), "beat": self._beat}
        )
        self._beat += 1

    def _go(self) -> None:
        parent, next_beat = parent_process(), time.monotonic() + self._every
        while not self._stop.wait(min(self._every, 0.5)):
            if parent is not None and connection.wait([parent.sentinel], timeout=0):
                os._exit(
                    1
                    # killed with the command, as a person expects; what it had reached is on the disk
                )
            if time.monotonic() >= next_beat:
                next_beat += self._every
                with suppress(
                    Exception
                ):  # a storage that is busy, or a trial given up for lost, which its worker learns
                    self._sign()


class Lost:
    """Finds trials whose worker is gone, and queues their parameters again."""

    def __init__(
        self, study: Study, grace: float = GRACE, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._study, self._grace, self._now = study, grace, now
        self._seen: dict[int, tuple[Any, float]] = {}

    def pick_up(self) -> list[int]:
        """Mark lost trials failed, queue them again, and return their numbers."""
        trials = self._study.get_trials(deepcopy=False)
        lost = [t for t in trials if t.state.name == "RUNNING" and self._is_lost(t)]
        marked = [t.number for t in lost if self._mark(t)]
        self._queue(self._study.get_trials(deepcopy=False) if marked else trials)
        return marked

    def _is_lost(self, trial: FrozenTrial) -> bool:
        owner = trial.user_attrs.get(OWNER)
        known, since = self._seen.get(trial.number, (None, None))
        if since is None or known != owner:
            since = self._now()
            self._seen[trial.number] = (owner, since)
        return gone(owner) or self._now() - since > self._grace

    def _mark(self, trial: FrozenTrial) -> bool:
        """Whether it was us who marked it; its worker may have finished it, or another command
        marked it."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        try:
            self._study.tell(trial.number, state=TrialState.FAIL)
        except (UpdateFinishedTrialError, ValueError):
            return False
        return True

    def _queue(self, trials: Sequence[FrozenTrial]) -> None:
        """Every trial that is to be tried again and is not yet; also those that a killed command
        left so."""
        queued = {t.user_attrs.get(RETRY_OF) for t in trials}
        for trial in trials:
            if tried_again(trial) and trial.number not in queued:
                said = trial.user_attrs
                again = {
                    RETRY_OF: trial.number,
                    FIRST: said.get(FIRST, trial.number),
                    TRY: said.get(TRY, 1) + 1,
                }
                # one that was killed before it had read its parameters has them only where they
                # were queued
                self._study.enqueue_trial(
                    trial.system_attrs.get("fixed_params", {}) | trial.params, user_attrs=again
                )
