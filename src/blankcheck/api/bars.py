"""Progress of long work from Python: bars on a terminal or in a notebook, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from blankcheck.auditing.gather import Note


@contextmanager
def told(note: Note | None, progress: bool | None) -> Iterator[Note]:
    """Whom to tell how far something is, as note(stage, done, all, words).

    Args:
        note: who is told; then there are no bars.
        progress: bars on stderr or in the notebook; None where somebody sees them.
    """
    if note is not None:
        yield note
        return
    from rich.console import Console

    console = Console(stderr=True)
    # rich draws in a notebook by its widgets
    seen = find_spec("ipywidgets") is not None if console.is_jupyter else console.is_terminal
    if not (seen if progress is None else progress):
        yield lambda stage, done, all_, words: None
        return
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    words = TextColumn("{task.fields[words]}")
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), Remaining())
    with Progress(*columns, words, console=console) as shown:
        tasks: dict[str, TaskID] = {}

        def bar(stage: str, done: int, all_: int, words: str) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, words="")
            shown.update(tasks[stage], completed=done, total=max(1, all_), words=escape(words))

        yield bar
