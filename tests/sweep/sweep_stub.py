"""Trials without networks, for the tests of a sweep; worker processes import them from here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from blankcheck.sweep.choosing import Seen
from blankcheck.sweep.workers import Job, Measured, Run, Task


def measured(weight: float) -> Measured:
    """Heavier weights resist more and are less accurate."""
    fooled = round(100 / (1 + 10 * weight))
    accuracy, rate = 1 - 0.1 * weight, fooled / 100
    rounds = tuple(Seen(share, accuracy, 0.9, rate) for share in (0.5, 1.0))
    return Measured(accuracy, 1 - 0.2 * weight, fooled, 100, rounds, {})


@dataclass(frozen=True)
class Stub:
    """Trials that take no time; the first try of one of them stands still, once it has left its
    process number here."""

    here: Path
    still: str = ""

    def __call__(self, job: Job) -> Run:
        return self.run

    def run(self, task: Task, watch: Callable[[Seen], None]) -> Measured:
        watch(Seen(0.5, 0.9, 0.9, 0.5))
        with (self.here / "ran.txt").open("a") as file:
            file.write(f"{task.folder.name} {os.getpid()}\n")
        if task.folder.name == self.still:
            (self.here / "pid.part").write_text(str(os.getpid()))
            (self.here / "pid.part").rename(self.here / "pid")
            Event().wait(120)
        return measured(task.settings.fooling_weight)
