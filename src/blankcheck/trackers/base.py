"""What a tracker is: something that takes settings, numbers and pictures, and remembers how far it
is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from blankcheck.errors import RunFolderError
from blankcheck.runs.folder import RunFolder
from blankcheck.trackers.pictures import Picture
from blankcheck.trackers.rows import Row

NOTES = "trackers.json"
PROJECT = "blankcheck"
"""The experiment or project of runs whose user names no other."""


class Tracker(Protocol):
    """One run in one tracker. Any of these may raise whatever its library raises.

    last: the last step it holds of a name, by the keys of rows and the names of pictures, also from
    before a stop.
    where: how to look at it, in a line.
    """

    last: dict[str, int]
    where: str

    def configure(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        """The settings of the run and its surroundings.

        Once, before all else; not again when a run goes on.
        """

    def numbers(self, rows: Sequence[Row]) -> None:
        """New rows; they are to be seen, or on their way, when this returns."""

    def pictures(self, pictures: Sequence[Picture]) -> None:
        """New pictures; likewise."""

    def verdict(self, word: str) -> None:
        """The verdict of the audit."""

    def close(self, finished: bool) -> None:
        """No more will come. finished: False when the run was stopped or failed."""


class Notes:
    """What a tracker has to know when a run goes on: its own part of `trackers.json` in the run
    folder."""

    def __init__(self, run: RunFolder, tracker: str, resume: bool) -> None:
        self._run, self._tracker = run, tracker
        known = _read(run).get(tracker) if resume else None
        self.values: dict[str, Any] = known if isinstance(known, dict) else {}

    @property
    def run_id(self) -> str | None:
        """The run to go on with in the tracker; None where there is none, or what stands there can
        be none."""
        known = self.values.get("run")
        return (
            known
            if isinstance(known, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", known)
            else None
        )

    def numbers(self, key: str) -> dict[str, int]:
        """Whole numbers by name; what is none is left out."""
        known = self.values.get(key)
        return (
            {k: v for k, v in known.items() if isinstance(v, int)}
            if isinstance(known, dict)
            else {}
        )

    def save(self, **values: Any) -> None:
        """Keep these."""
        self.values |= values
        self._run.write_json(NOTES, _read(self._run) | {self._tracker: self.values})


def _read(run: RunFolder) -> dict[str, Any]:
    """A broken file is an empty one: the run is worth more than its mirror."""
    try:
        known = run.read_json(NOTES)
    except RunFolderError:
        return {}
    return known if isinstance(known, dict) else {}


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested mappings as one, with paths for keys: {"packages": {"torch": "2"}} ->
    {"packages/torch": "2"}."""
    if not isinstance(value, Mapping):
        return {path: value}
    return {
        k: v
        for key, part in value.items()
        for k, v in flat(part, f"{path}/{key}" if path else str(key)).items()
    }
