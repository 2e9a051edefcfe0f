"""Who may write a folder: nobody over the results of another run, and no two at once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from blankcheck.errors import ArgumentError, RunFolderError
from blankcheck.runs.folder import LOCK, RunFolder, check_writable, holds_something

RUNS = Path("runs")
"""Where runs go that were given no folder."""
OVERWRITE = "--overwrite begins anew"


class BusyError(RunFolderError):
    """Another command is writing the folder."""


@dataclass(frozen=True)
class Claim:
    """A folder that a command is going to write. Making one looks at the folder and writes nothing.

    Args:
        out: the folder; None takes the next free of `runs/COMMAND`, `runs/COMMAND-2`, ...
        command: its name.
        overwrite: begin anew where a run is.
        reads: files and folders that the command needs, which must not be lost with an earlier run.
        ways: how a refusal tells to go on or begin anew.

    Raises:
        RunFolderError: where the folder holds a run, is no run folder, or is being written by
            another command.
    """

    out: Path | None
    command: str
    overwrite: bool = False
    reads: Sequence[str | os.PathLike[str] | None] = ()
    ways: str = OVERWRITE

    def __post_init__(self) -> None:
        if self.overwrite and self.out is None:
            raise ArgumentError("overwrite needs out: no folder is written over that was not named")
        if self.out is not None:
            check_writable(self.out)
            _refuse_busy(self.out)
            self._refuse_results(self.out)

    def _refuse_results(self, out: Path) -> None:
        if not holds_something(out):
            return
        if not self.overwrite:
            of = f", of {command}" if (command := RunFolder(out).command) else ""
            raise RunFolderError(
                f"out {out} holds a run already{of}; {self.ways}, and {next_free(out)} is free"
            )
        place = out.resolve()
        for path in (Path(read) for read in self.reads if read is not None):
            if path.exists() and place in (path.resolve(), *path.resolve().parents):
                raise RunFolderError(
                    f"out {out} holds {path}, which this command reads; name another folder"
                )

    @contextmanager
    def opened(self) -> Iterator[RunFolder]:
        """The folder, held against other commands inside the block; `begin` clears and begins the
        run in it."""
        with ExitStack() as stack:
            run = self._held(stack)
            self._refuse_results(run.path)
            yield run

    def _held(self, stack: ExitStack) -> RunFolder:
        while True:
            folder = self.out if self.out is not None else next_free(RUNS / self.command)
            if not folder.is_dir():
                stack.callback(_remove_empty, folder)  # where nothing was written after all
            run = RunFolder.create(folder)
            with ExitStack() as holding:
                try:
                    holding.enter_context(held(run))
                except BusyError:
                    if self.out is not None:
                        raise
                    continue
                if self.out is None and holds_something(folder):
                    continue  # another command was quicker
                stack.push(holding.pop_all())
                return run


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def next_free(folder: Path) -> Path:
    """The folder itself where nothing is there, else the first of `NAME-2`, `NAME-3`, ... behind
    all that are."""
    known = _numbered(folder)
    return folder if not known else folder.with_name(f"{folder.name}-{max(known) + 1}")


def latest(folder: Path) -> Path:
    """The last of `NAME`, `NAME-2`, ... that is there; `NAME` where none is."""
    known = _numbered(folder)
    last = max(known, default=1)
    return folder if last == 1 else folder.with_name(f"{folder.name}-{last}")


def _numbered(folder: Path) -> list[int]:
    place = folder.absolute().parent
    if not place.is_dir():
        return []
    form = re.compile(f"{re.escape(folder.name)}(?:-([1-9][0-9]{{0,8}}))?")
    # one that holds a lock alone is being begun
    taken = [
        form.fullmatch(path.name)
        for path in place.iterdir()
        if not path.is_dir() or any(path.iterdir())
    ]
    return [int(match[1] or 1) for match in taken if match]


@contextmanager
def held(run: RunFolder) -> Iterator[RunFolder]:
    """Hold a folder while it is written. Raises BusyError where another process does.

    What is held is free again when the process ends, however it ends.
    """
    path = run.path / LOCK
    if path.is_symlink():
        raise RunFolderError(f"{path} is a link; nothing is read or written through it")
    with _locked(path):
        try:
            run.tidy()
            yield run
        finally:
            with suppress(OSError):  # Windows removes no open file
                path.unlink()


def _refuse_busy(folder: Path) -> None:
    """BusyError where another process writes a folder; makes nothing."""
    if not (folder / LOCK).is_symlink() and (folder / LOCK).is_file():
        with _locked(folder / LOCK):
            pass


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise BusyError(
            f"run folder {path.parent} is being written by another command; wait for it, "
            "or name another"
        ) from error
    try:
        yield
    finally:
        lock.release()
