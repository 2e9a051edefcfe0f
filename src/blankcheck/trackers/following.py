"""Follows a run folder: whenever one of its files is written, what is new in it goes to the
trackers.

Everything is read back from the file, so that a tracker gets what the file holds and nothing else.
A tracker that fails is left out from then on; the run goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from blankcheck.api.harden import STATE, read_state
from blankcheck.runs.contents import read_run
from blankcheck.runs.folder import CONFIG, MARK, RunFolder
from blankcheck.trackers.base import Tracker
from blankcheck.trackers.pictures import Picture, round_pictures, witness_pictures
from blankcheck.trackers.rows import rows

METRICS, VERDICT = "metrics.jsonl", "verdict.json"


class Follower:
    """Repeats a run folder in trackers, by name. warn(line) is told of a tracker that fails.

    It is called with the name of a file that was just written, and raises nothing but what stops
    the program.
    """

    def __init__(
        self, run: RunFolder, trackers: Mapping[str, Tracker], warn: Callable[[str], None]
    ) -> None:
        self.run, self.trackers, self.warn = run, dict(trackers), warn
        self._react = {
            CONFIG: self._settings,
            METRICS: self._numbers,
            STATE: self._rounds,
            VERDICT: self._verdict,
        }

    def __call__(self, name: str) -> None:
        """Send on what is new in the file."""
        react = self._react.get(name)
        if react is None or not self.trackers:
            return
        try:
            tell = react()
        except Exception as error:  # what cannot be read for a mirror is no reason to lose the run
            for each in self.trackers:
                self._say(each, error)
            self.close(finished=False)
            return
        self._each(tell)

    def catch_up(self) -> None:
        """Send on whatever the folder holds already."""
        for name in self._react:
            if self.run.has(name):
                self(name)

    def close(self, finished: bool) -> None:
        """Close the trackers that are left."""
        self._each(lambda tracker: tracker.close(finished))
        self.trackers = {}

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.trackers.items()):
            try:
                tell(tracker)
            except (
                Exception
            ) as error:  # a full disk, a server that is down: libraries raise anything
                del self.trackers[name]
                self._say(name, error)

    def _say(self, name: str, error: Exception) -> None:
        self.warn(
            f"tracker {name} stopped: {one_line(error)}; the run goes on, and {self.run / METRICS} has everything"
        )

    def _settings(self) -> Callable[[Tracker], None]:
        config, environment = self.run.read_config(), self.run.read_json(MARK)

        def tell(tracker: Tracker) -> None:
            if not tracker.last:  # one that holds numbers knows them from before a stop
                tracker.configure(config, environment)

        return tell

    def _numbers(self) -> Callable[[Tracker], None]:
        made = rows(self.run.read_lines(METRICS))

        def tell(tracker: Tracker) -> None:
            new = [row for row in made if row.step > tracker.last.get(row.key, -1)]
            if new:
                tracker.last |= {row.key: row.step for row in new}
                tracker.numbers(new)

        return tell

    def _verdict(self) -> Callable[[Tracker], None]:
        contents = read_run(self.run)
        shown = _new(witness_pictures(contents))
        word = str(contents.verdict["verdict"]) if contents.verdict else ""

        def tell(tracker: Tracker) -> None:
            tracker.verdict(word)
            shown(tracker)

        return tell

    def _rounds(self) -> Callable[[Tracker], None]:
        return _new(round_pictures(read_state(self.run)))


def _new(made: list[Picture]) -> Callable[[Tracker], None]:
    def tell(tracker: Tracker) -> None:
        new = [picture for picture in made if picture.step > tracker.last.get(picture.name, -1)]
        if new:
            tracker.last |= {picture.name: picture.step for picture in new}
            tracker.pictures(new)

    return tell


def one_line(error: Exception) -> str:
    """What went wrong, in one line that a terminal can show."""
    words = " ".join((str(error) or type(error).__name__).split())
    return "".join(letter if letter.isprintable() else " " for letter in words)[:200]
