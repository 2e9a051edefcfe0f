"""Optuna's journal, whose last line may be torn: by a power cut, a full disk or `kill -9`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

PIECE = 2**16


class Journal(JournalFileBackend):
    """A line that was never finished is cut off before another one is written; until then it is
    not read. Else the two would be one line that nobody can read."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = Path(path)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Write lines at the end, which no other process does at the same time."""
        lock = JournalFileSymlinkLock(str(self.path))
        lock.acquire()
        try:
            cut_torn_line(self.path)
        finally:
            lock.release()
        super().append_logs(logs)


def cut_torn_line(path: Path) -> None:
    """Cut off what stands behind the last end of a line."""
    with path.open("r+b") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end:
            begin = max(0, end - PIECE)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                end = begin + found + 1
                break
            end = begin
        if end < size:
            file.truncate(end)
