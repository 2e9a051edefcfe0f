"""The terminal: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from rich import progress
from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Column
from rich.text import Text

from blankcheck.cli.junit import write_junit
from blankcheck.text import filled

if TYPE_CHECKING:
    from blankcheck.parallel.team import Started

Bar = Callable[[str, int, int, str], None]
"""Progress by stage: `bar(stage, done, all, words)`."""
NARROW, WIDE, WIDEST = 60, 80, 100
"""Columns from which there is room for the time that is left, for a bar, and for the rate and the
time that went by."""
COLOURS = {"FOOLED": "red", "RESISTED": "green", "INCONCLUSIVE": "yellow", "CERTIFIED": "green"}


@contextmanager
def stdout_apart(whole: bool) -> Iterator[IO[str] | None]:
    """Gives stdout as it is, for results alone; inside, whatever else is printed goes to stderr.

    whole: also what libraries in C print, and processes that are started inside. Not for a command
    that starts others to give its result.
    """
    out, err = sys.stdout, sys.stderr
    if out is None or err is None:  # as it is where it was closed beforehand
        yield out
        return
    try:
        is_first = whole and (out.fileno(), err.fileno()) == (1, 2)
    except (OSError, ValueError):  # some other object in its place
        is_first = False
    with redirect_stdout(err):
        if not is_first:
            yield out
            return
        out.flush()
        kept = os.dup(1)
        try:
            os.dup2(2, 1)
            code, errors = out.encoding, out.errors
            # closed below, in a way of its own
            own = open(kept, "w", encoding=code, errors=errors, closefd=False)  # noqa: SIM115
            try:
                yield own
                own.flush()
            finally:
                with suppress(OSError):  # who reads may have gone, which was said already
                    own.close()
        finally:
            os.dup2(kept, 1)
            os.close(kept)


class _Console(Console):
    """One that does not end the program by itself where nobody reads."""

    def on_broken_pipe(self) -> None:
        """Called inside the handling of the error, which goes on to who began the command."""
        raise


@dataclass
class Terminal:
    """Where a command says what it does. quiet: no progress, no notes. as_json: the result as one
    JSON object. arguments, started: what `main` was given, for processes that run it again.
    results: where they go; default stdout. junit: a file for the result as JUnit XML, too."""

    quiet: bool = False
    as_json: bool = False
    arguments: Sequence[str] = ()
    started: Started | None = None
    results: IO[str] | None = None
    junit: str | None = None

    def __post_init__(self) -> None:
        self.muted = False  # whether another process speaks
        streams = self.results if self.results is not None else sys.stdout, sys.stderr
        self.out, self.err = (_Console(file=f, highlight=False, soft_wrap=True) for f in streams)
        self.busy: Status | None = None  # what stands there while nothing else is said

    def working(self, words: str) -> None:
        """Say what goes on before there is anything to count, until something else is said. Only
        where a terminal shows it: elsewhere a mistake stays the only line."""
        self.settle()
        if not self.quiet and self.err.is_terminal:
            self.busy = Status(f"[dim]{escape(words)}[/]", console=self.err)
            self.busy.start()

    def settle(self) -> None:
        """Take away what `working` said."""
        if self.busy is not None:
            self.busy.stop()
            self.busy = None

    def note(self, text: str) -> None:
        """One line of news on stderr."""
        self.settle()
        if not self.quiet:
            self.err.print(escape(_wrapped(text, self.err)), style="dim")

    def result(
        self, verdict: str, lines: list[str], path: str | None, record: dict[str, Any]
    ) -> None:
        """The result: the verdict word first, then its lines, then the report's path alone on a
        line, never wrapped."""
        self.settle()
        if self.muted:
            return
        if self.junit is not None:
            write_junit(self.junit, verdict, lines, record)
        if self.as_json:
            self.out.file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            return
        colour, (first, *rest) = COLOURS.get(verdict), lines or [""]
        # the word is coloured once it is known where the lines end
        headline = escape(_wrapped(f"{verdict}  {first}".rstrip(), self.out))
        word = escape(verdict)
        if colour:
            headline = headline.replace(word, f"[bold {colour}]{word}[/]", 1)
        self.out.print(headline)
        for line in [] if self.quiet else rest:
            self.out.print(escape(_wrapped(f"  {line}", self.out)))
        if path is not None:
            self.out.file.write(f"{path}\n")
        self.out.file.flush()

    @contextmanager
    def progress(self) -> Iterator[Bar]:
        """A bar on stderr while the block runs; where no terminal shows it, one line per finished
        stage."""
        self.settle()
        rest = Column(overflow="fold", ratio=1)
        columns: list[progress.ProgressColumn] = [
            progress.TextColumn("{task.description:>9}"),
            progress.TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            progress.TextColumn("{task.fields[words]}", table_column=rest),
        ]
        if self.err.width >= NARROW:
            columns[2:2] = [progress.TimeRemainingColumn(compact=True)]
        if self.err.width >= WIDE:
            columns[1:1] = [progress.BarColumn(min(30, self.err.width // 5))]
        if self.err.width >= WIDEST:
            columns[3:3] = [Rate(), progress.TimeElapsedColumn()]
        hidden = self.quiet or not self.err.is_terminal
        shown = progress.Progress(*columns, console=self.err, expand=True)
        tasks: dict[str, progress.TaskID] = {}

        def bar(stage: str, done: int, total: int, words: str) -> None:
            if hidden:
                if done == total and words:
                    self.note(f"{stage}: {words}")
                return
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, words="")
            shown.update(tasks[stage], completed=done, total=max(1, total), words=escape(words))

        with nullcontext() if hidden else shown:
            yield bar


def _wrapped(text: str, console: Console) -> str:
    """Wrapped for people; whoever reads a pipe wants whole lines."""
    return filled(text, console.width) if console.is_terminal else text


class Rate(progress.ProgressColumn):
    """How many of what is counted are done per second."""

    def render(self, task: progress.Task) -> Text:
        """Nothing before anything is done."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g}/s" if speed else "")
