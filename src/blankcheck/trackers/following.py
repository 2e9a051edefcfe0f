"""A run folder repeated in trackers: whenever one of its files is written, what is new in it is
read back and sent on. A tracker that fails is left out from then on; the run goes on."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from blankcheck.errors import ArgumentError, BlankcheckError, RunFolderError
from blankcheck.runs.contents import read_run
from blankcheck.runs.folder import CONFIG, MARK, RunFolder
from blankcheck.runs.state import STATE, read_state
from blankcheck.text import one_line
from blankcheck.trackers.libraries import TRACKERS, Tracker
from blankcheck.trackers.series import Picture, round_pictures, rows, witness_pictures

METRICS, VERDICT, NOTES = "metrics.jsonl", "verdict.json", "trackers.json"
Warn = Callable[[str], None]
Asked = Sequence[str] | str | None
"""Names of trackers, in a list or with commas between them."""
Entry = tuple[Any, ...]
"""Series, step, a method of a tracker and its arguments; it is called once for each step."""


class Notes(msgspec.Struct):
    """How far a tracker is, in `trackers.json`: the identity of its run, the last step sent of each
    series, and how many entries were sent."""

    run: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{1,64}$")] | None = None
    last: dict[str, int] = {}
    sent: int = 0


def check_trackers(asked: Asked) -> tuple[str, ...]:
    """The trackers that are asked for, each once.

    Raises:
        ArgumentError: One is unknown, or its package is missing.
    """
    names = asked.split(",") if isinstance(asked, str) else asked or ()
    wanted = tuple(dict.fromkeys(name.strip() for name in names if name.strip()))
    if unknown := [name for name in wanted if name not in TRACKERS]:
        known = ", ".join(TRACKERS)
        raise ArgumentError(f"tracker must be one or more of {known}, got {unknown[0]!r}")
    for name in wanted:
        try:
            importlib.import_module(name)
        except ImportError as error:
            needed = f'--tracker {name} needs the package {name}: pip install "blankcheck[{name}]"'
            missing = isinstance(error, ModuleNotFoundError) and error.name == name
            raise ArgumentError(needed if missing else f"{needed} ({one_line(error)})") from error
    return wanted


def connect(asked: Asked, run: RunFolder, resume: bool = False) -> dict[str, Tracker]:
    """A run in each tracker, empty, or the one that goes on. The run folder stays as it is.

    Raises:
        ArgumentError: A tracker cannot be reached; those before it are closed again.
    """
    opened: dict[str, Tracker] = {}
    notes = _read_notes(run) if resume else {}
    for name in check_trackers(asked):
        known = notes.get(name, Notes())
        try:
            opened[name] = TRACKERS[name](run, known.run, known.sent)
        except Exception as error:  # libraries raise anything; what they name is wrong input
            for other in opened.values():
                other.close(finished=False)
            kind = "" if isinstance(error, BlankcheckError) else f"{type(error).__name__}: "
            why = f"tracker {name} cannot be opened: {kind}{one_line(error)}"
            raise ArgumentError(why) from error
    return opened


def _read_notes(run: RunFolder) -> dict[str, Notes]:
    """The notes of every tracker. A broken file is an empty one: a mirror stops no run."""
    try:
        return msgspec.convert(run.read_json(NOTES), dict[str, Notes])
    except (RunFolderError, msgspec.ValidationError):
        return {}


@contextmanager
def mirrored(
    run: RunFolder, trackers: Mapping[str, Tracker], warn: Warn, resume: bool = False
) -> Iterator[None]:
    """Inside, what is written into the run folder goes to the trackers, too; first what is there,
    where a run goes on. After, they are closed.

    Args:
        warn: is told in one line of a tracker that fails.
    """
    follower = _Follower(run, dict(trackers), warn, _read_notes(run) if resume else {})
    run.listeners.append(follower)
    finished = False
    try:
        for name in filter(run.has, READ if resume else ()):
            follower(name)
        yield
        finished = True
    finally:
        run.listeners.remove(follower)
        follower.each(lambda name, tracker: tracker.close(finished))


@dataclass(eq=False)
class _Follower:
    """Called with the name of a file that was just written; raises nothing but what stops the
    program."""

    run: RunFolder
    trackers: dict[str, Tracker]
    warn: Warn
    notes: dict[str, Notes]

    def __call__(self, name: str) -> None:
        if name not in READ or not self.trackers:
            return
        try:
            entries = READ[name](self.run)
        except Exception as why:  # what cannot be read for a mirror is no reason to lose the run
            self.each(lambda name, tracker: tracker.close(finished=False))
            for left in list(self.trackers):
                self._drop(left, why)
        else:
            self.each(lambda name, tracker: self._send(name, tracker, entries))

    def _send(self, name: str, tracker: Tracker, entries: Sequence[Entry]) -> None:
        notes = self.notes.setdefault(name, Notes())
        new = [entry for entry in entries if entry[1] > notes.last.get(entry[0], -1)]
        for series, step, call, *given in new:
            getattr(tracker, call)(*given)
            notes.last[series] = step
        if new:
            notes.run, notes.sent = tracker.identity, notes.sent + len(new)
            self.run.write_json(NOTES, msgspec.to_builtins(self.notes))

    def each(self, tell: Callable[[str, Tracker], None]) -> None:
        for name, tracker in list(self.trackers.items()):
            try:
                tell(name, tracker)
            except Exception as error:  # a full disk, a server that is down: libraries raise all
                self._drop(name, error)

    def _drop(self, name: str, error: Exception) -> None:
        del self.trackers[name]
        kept = f"the run goes on, and {self.run / METRICS} has everything"
        self.warn(f"tracker {name} stopped: {one_line(error)}; {kept}")


def _config(run: RunFolder) -> list[Entry]:
    return [("/config", 0, "config", run.read_config(), run.read_json(MARK))]


def _numbers(run: RunFolder) -> list[Entry]:
    made = rows(run.read_lines(METRICS))
    return [(row.series, row.step, "scalars", row.axis, row.step, row.values) for row in made]


def _rounds(run: RunFolder) -> list[Entry]:
    return _images(round_pictures(read_state(run)["evaluator"]))


def _verdict(run: RunFolder) -> list[Entry]:
    contents = read_run(run)
    word = str(contents.verdict["verdict"]) if contents.verdict else ""
    return [("/verdict", 0, "verdict", word), *_images(witness_pictures(contents))]


def _images(pictures: Sequence[Picture]) -> list[Entry]:
    return [(picture.name, picture.step, "image", picture) for picture in pictures]


READ = {CONFIG: _config, METRICS: _numbers, STATE: _rounds, VERDICT: _verdict}
