"""Trackers by name: whether they are there, and one command's run in each of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from blankcheck.errors import ArgumentError, BlankcheckError
from blankcheck.runs.folder import RunFolder
from blankcheck.trackers import mlflow, tensorboard, wandb
from blankcheck.trackers.base import Tracker
from blankcheck.trackers.following import Follower, one_line

TRACKERS: Mapping[str, Callable[[RunFolder, bool], Tracker]] = {
    tensorboard.NAME: tensorboard.connect,
    mlflow.NAME: mlflow.connect,
    wandb.NAME: wandb.connect,
}
"""What makes or finds a run in each tracker; called with the run folder, and whether its run goes
on."""

Asked = Sequence[str] | str | None
"""Names, in a list or with commas between them."""


def check_trackers(asked: Asked) -> tuple[str, ...]:
    """The trackers that are asked for, each once.

    Raises ArgumentError where one is unknown or its package is missing.
    """
    names = asked.split(",") if isinstance(asked, str) else asked or ()
    wanted = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    for name in wanted:
        if name not in TRACKERS:
            raise ArgumentError(
                f"tracker must be one or more of {', '.join(TRACKERS)}, got {name!r}"
            )
    for name in wanted:
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name == name
            why = "" if missing else f" ({one_line(error)})"
            raise ArgumentError(
                f'--tracker {name} needs the package {name}: pip install "blankcheck[{name}]"{why}'
            ) from error
    return wanted


def connect(asked: Asked, run: RunFolder, resume: bool = False) -> dict[str, Tracker]:
    """A run in each tracker, with nothing in it yet, or the one that goes on. Nothing is written
    into the run folder.

    Raises ArgumentError where a tracker cannot be reached; those before it are closed again.
    """
    opened: dict[str, Tracker] = {}
    for name in check_trackers(asked):
        try:
            opened[name] = TRACKERS[name](run, resume)
        except Exception as error:  # libraries raise anything; what they name is wrong input
            Follower(run, opened, lambda line: None).close(finished=False)
            words = (
                str(error)
                if isinstance(error, BlankcheckError)
                else f"{type(error).__name__}: {one_line(error)}"
            )
            raise ArgumentError(f"tracker {name} cannot be opened: {words}") from error
    return opened


@contextmanager
def mirrored(
    run: RunFolder,
    trackers: Mapping[str, Tracker],
    warn: Callable[[str], None],
    resume: bool = False,
) -> Iterator[None]:
    """Inside, what is written into the run folder goes to the trackers, too; first what is there,
    where a run goes on. After, they are closed. warn(line) is told of a tracker that fails."""
    follower = Follower(run, trackers, warn)
    finished = False
    run.listeners.append(follower)
    try:
        if resume:
            follower.catch_up()
        yield
        finished = True
    finally:
        run.listeners.remove(follower)
        follower.close(finished)
