"""Weights & Biases: offline beside the run folder, unless the user is logged in or set WANDB_MODE.

It asks for no login.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from blankcheck.errors import ArgumentError
from blankcheck.runs.folder import RunFolder
from blankcheck.trackers.base import PROJECT, Notes
from blankcheck.trackers.pictures import Picture
from blankcheck.trackers.rows import Row

NAME = "wandb"
OFFLINE = frozenset({"offline", "dryrun", "disabled"})


def connect(run: RunFolder, resume: bool) -> Wandb:
    """A new run, or the one that goes on.

    Raises ArgumentError when WANDB_MODE asks for a server nobody is logged in to.
    """
    import wandb

    notes = Notes(run, NAME, resume)
    identity = notes.run_id or secrets.token_hex(4)
    settings = wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        disable_code=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        x_transaction_log_flush_interval=1,  # seconds
    )
    made = wandb.init(
        id=identity,
        resume="allow",
        mode=_mode(),
        dir=os.environ.get("WANDB_DIR") or str(run.path.resolve().parent),
        project=os.environ.get("WANDB_PROJECT") or PROJECT,
        name=os.environ.get("WANDB_NAME") or run.path.resolve().name,
        settings=settings,
    )
    return Wandb(made, notes)


def _mode() -> Any:
    """The mode the user set; else online for those who are logged in, and offline for all others."""
    import wandb

    asked = wandb.setup(settings=wandb.Settings(silent=True)).settings.mode
    if asked in OFFLINE:
        return asked
    if wandb.login(prompt=False):
        return asked
    if os.environ.get("WANDB_MODE"):
        raise ArgumentError(
            f"WANDB_MODE is {asked}, and nobody is logged in: wandb login, or WANDB_MODE=offline"
        )
    return "offline"


class Wandb:
    """One run. It cannot be asked offline what it holds, so that the notes in the run folder say
    how far it is.

    Its own step counts rows through every start; the axes `batch`, `epoch` and `round` are values
    beside the numbers.
    """

    def __init__(self, run: Any, notes: Notes) -> None:
        self._run, self._notes = run, notes
        self.last = notes.numbers("last")
        self._held = dict(
            self.last
        )  # what was logged, where `last` may be ahead when something stops in between
        self._logged = max(notes.numbers("logged").get("rows", 0), run.step)
        self._series: set[str] = set()
        self.where = (
            f"wandb sync {Path(run.dir).parent}" if run.offline else str(run.url or "disabled")
        )

    def configure(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """The configuration of the run."""
        self._notes.save(run=self._run.id)
        self._run.config.update({**config, "environment": dict(environment)}, allow_val_change=True)

    def numbers(self, rows: Sequence[Row]) -> None:
        """One entry of the history a row."""
        for row in rows:
            self._log(row.series, row.axis, row.step, row.values, row.key)
        self._save()

    def pictures(self, pictures: Sequence[Picture]) -> None:
        """One entry a picture, with its words."""
        from wandb import Image

        for picture in pictures:
            image = Image(picture.pixels, caption=picture.words)
            self._log(
                picture.name.rpartition("/")[0],
                picture.axis,
                picture.step,
                {picture.name: image},
                picture.name,
            )
        self._save()

    def _log(self, series: str, axis: str, step: int, values: Mapping[str, Any], key: str) -> None:
        if series not in self._series:
            self._run.define_metric(axis)
            self._run.define_metric(f"{series}/*", step_metric=axis)
            self._series.add(series)
        self._run.log({axis: step, **values}, step=self._logged)
        self._logged += 1
        self._held[key] = step

    def _save(self) -> None:
        self._notes.save(last=self._held, logged={"rows": self._logged})

    def verdict(self, word: str) -> None:
        """A value of the summary."""
        self._run.summary["verdict"] = word

    def close(self, finished: bool) -> None:
        """End the run."""
        if self._held:
            self._save()
        self._run.finish(exit_code=0 if finished else 1)
