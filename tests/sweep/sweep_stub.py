"""Trials without networks, for the tests of a sweep; worker processes import them from here."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from blankcheck.sweep.study import Job, Run, Seen


def seen(share: float, accuracy: float, confident: float, rate: float) -> Seen:
    return {"share": share, "accuracy": accuracy, "confident": confident, "rate": rate}


def measured(weight: float) -> dict[str, Any]:
    """Heavier weights resist more and are less accurate."""
    fooled, accuracy = round(100 / (1 + 10 * weight)), 1 - 0.1 * weight
    rounds = [seen(share, accuracy, 0.9, fooled / 100) for share in (0.5, 1.0)]
    found = {"accuracy": accuracy, "confident": 1 - 0.2 * weight, "fooled": fooled}
    return found | {"attempts": 100, "rounds": rounds}


@dataclass(frozen=True)
class Stub:
    """Trials that take no time; the first try of one of them stands still, once it has left its
    process number here. dies: every trial ends its process."""

    here: Path
    still: str = ""
    dies: bool = False

    def __call__(self, job: Job) -> Run:
        return self.run

    def run(
        self, settings: Any, folder: str, watch: Callable[[Seen | None], None]
    ) -> dict[str, Any]:
        watch(seen(0.5, 0.9, 0.9, 0.5))
        with (self.here / "ran.txt").open("a") as file:
            file.write(f"{folder} {os.getpid()}\n")
        if self.dies:
            os._exit(7)
        if folder == self.still and not (self.here / "pid").exists():
            (self.here / "pid.part").write_text(str(os.getpid()))
            (self.here / "pid.part").rename(self.here / "pid")
            Event().wait(120)
        return measured(settings.fooling_weight)
