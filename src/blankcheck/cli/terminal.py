"""The terminal: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

WIDE = 80
"""Columns from which there is room for a bar beside the numbers."""
COLOURS = {
    "FOOLED": "bold red",
    "RESISTED": "bold green",
    "INCONCLUSIVE": "bold yellow",
    "CERTIFIED": "bold green",
}


class _Console(Console):
    """One that does not end the program by itself where nobody reads."""

    def on_broken_pipe(self) -> None:
        """Called inside the handling of the error, which goes on to who began the command."""
        raise


class Terminal:
    """Where a command says what it does. quiet: no progress, no notes. as_json: the result as one
    JSON object."""

    def __init__(self, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet, self.as_json, self.muted = quiet, as_json, False
        self.out = _Console(file=sys.stdout, highlight=False, soft_wrap=True)
        self.err = _Console(file=sys.stderr, highlight=False, soft_wrap=True)

    def fall_silent(self) -> None:
        """Say nothing any more: another process speaks."""
        self.quiet, self.muted = True, True

    def note(self, text: str) -> None:
        """One line of news on stderr."""
        if not self.quiet:
            self.err.print(escape(text), style="dim")

    def result(
        self, verdict: str, lines: list[str], path: str | None, record: dict[str, Any]
    ) -> None:
        """The result: the verdict word first, then its lines, then the report's path alone on a
        line, never wrapped."""
        if self.muted:
            return
        if self.as_json:
            self.out.file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
            return
        style = COLOURS.get(verdict)
        first, *rest = lines or [""]
        word = f"[{style}]{verdict}[/]" if style else escape(verdict)
        self.out.print(f"{word}  {escape(first)}".rstrip())
        if not self.quiet:
            for line in rest:
                # wrapped for people; whoever reads a pipe wants whole lines
                whole = Text(line)
                self.out.print(
                    Padding(whole, (0, 0, 0, 2)) if self.out.is_terminal else f"  {escape(line)}"
                )
        if path is not None:
            self.out.file.write(f"{path}\n")
        self.out.file.flush()

    @contextmanager
    def progress(self) -> Iterator[Bar]:
        """A progress bar on stderr while the block runs."""
        width = self.err.width
        words = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        columns: list[ProgressColumn] = [
            TextColumn("{task.description:>9}"),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[words]}", table_column=words),
        ]
        if width >= WIDE:
            columns[1:1] = [BarColumn(min(30, width // 5))]
            columns[3:3] = [Rate(), TimeElapsedColumn()]
        shown_at_all = self.err.is_terminal and not self.quiet
        with Progress(*columns, console=self.err, disable=not shown_at_all, expand=True) as shown:
            yield Bar(shown, self)


class Rate(ProgressColumn):
    """How many of what is counted are done per second."""

    def render(self, task: Task) -> Text:
        """Nothing before anything is done."""
        speed = task.finished_speed or task.speed
        return Text("" if not speed else f"{speed:.3g}/s")


class Bar:
    """Progress by stage: `bar(stage, done, all, words)`.

    Where no terminal shows it, one line per finished stage.
    """

    def __init__(self, shown: Progress, terminal: Terminal) -> None:
        self._shown, self._terminal = shown, terminal
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, stage: str, done: int, total: int, words: str) -> None:
        """Show how far a stage is."""
        if self._shown.disable:
            if done == total and words:
                self._terminal.note(f"{stage}: {words}")
            return
        if stage not in self._tasks:
            self._tasks[stage] = self._shown.add_task(stage, total=max(1, total), words="")
        self._shown.update(
            self._tasks[stage], completed=done, total=max(1, total), words=escape(words)
        )
