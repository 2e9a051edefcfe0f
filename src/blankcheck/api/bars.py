"""Progress of long work from Python: bars on a terminal or in a notebook, or nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING

from blankcheck.auditing.attempts import Note
from blankcheck.hardening import Round

if TYPE_CHECKING:
    from rich.console import Console

SECONDS = 0.2
"""Between two updates of what stands below a cell."""
Watch = Callable[[Round | None, int, int, str], None]
"""Called as watch(finished round or None, batch, batches, words)."""
RESUMED, ENDED = "resumed", "ended"
"""Words of the round that a run goes on behind, which is told first: another follows, or none."""


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
    if not (console.is_terminal or console.is_jupyter if progress is None else progress):
        yield lambda stage, done, all_, words: None
    elif console.is_jupyter:
        yield _in_a_cell()
    else:
        with _on_a_terminal(console) as bar:
            yield bar


@contextmanager
def _on_a_terminal(console: Console) -> Iterator[Note]:
    from rich.markup import escape as plain
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    words = TextColumn("{task.fields[words]}")
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), Remaining())
    with Progress(*columns, words, console=console) as shown:
        tasks: dict[str, TaskID] = {}

        def bar(stage: str, done: int, all_: int, words: str) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, words="")
            shown.update(tasks[stage], completed=done, total=max(1, all_), words=plain(words))

        yield bar


def _in_a_cell() -> Note:
    """Bars of HTML below a cell. Those of rich need widgets there, which not every notebook has."""
    from IPython.display import HTML, display

    handle, lines, shown_at = display(HTML(""), display_id=True), dict[str, str](), 0.0

    def bar(stage: str, done: int, all_: int, words: str) -> None:
        nonlocal shown_at
        known = escape(f"{done}/{all_} {words}")
        lines[stage] = f'{stage} <progress value="{done}" max="{max(1, all_)}"></progress> {known}'
        if done >= all_ or time.monotonic() - shown_at > SECONDS:
            shown_at = time.monotonic()
            handle.update(HTML("<br>".join(lines.values())))

    return bar


def by_rounds(tell: Note, rounds: int = 0, say: Callable[[str], None] | None = None) -> Watch:
    """Tells how far each round is, and what came of it. rounds: how many there are at most; say:
    told, instead, where a run goes on."""
    ended = 0

    def watch(made: Round | None, batch: int, batches: int, words: str) -> None:
        nonlocal ended
        if made is None:
            # one more for the search that ends the round
            tell(f"round {ended + 1}", batch, batches + 1, words)
            return
        ended = made.index + 1
        if words and say is not None:
            at = "its audit" if words == ENDED else f"round {ended + 1} of {rounds}"
            say(f"resuming at {at}")
            return
        rates = f"accuracy {made.validation_accuracy:.2%}, fooled {made.fresh_rate:.0%}"
        proved = "" if made.proved is None else f", k = {made.proved} proved"
        tell(f"round {ended}", 1, 1, f"{rates}, fewest lit {made.fresh_fewest}{proved}")

    return watch
