"""Who may write a folder: nobody over the results of another run, and no two at once."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from blankcheck.errors import ArgumentError, RunFolderError
from blankcheck.runs.folder import LOCK, RunFolder, check_writable, holds_something

if TYPE_CHECKING:
    from blankcheck.cli.settings import Common

RUNS = Path("runs")
"""Where runs go that were given no folder."""
OVERWRITE = "--overwrite begins anew"


@dataclass(frozen=True)
class Claim:
    """A folder that a command is going to write. Making one looks at the folder and writes nothing.

    out: the folder; None takes the next free of `runs/COMMAND`, `runs/COMMAND-2`, ... overwrite:
    begin anew where a run is.
    reads: files and folders that the command needs, which must not be lost with an earlier run.
    ways: how a refusal tells to go on or begin anew.

    Raises RunFolderError where the folder holds a run, is no run folder, or is being written by
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
            of = RunFolder(out).command
            raise RunFolderError(
                f"out {out} holds a run already{f', of {of}' if of else ''}; {self.ways}, "
                f"and {next_free(out)} is free"
            )
        place = out.resolve()
        for read in self.reads:
            if (
                read is not None
                and Path(read).exists()
                and place in (Path(read).resolve(), *Path(read).resolve().parents)
            ):
                raise RunFolderError(
                    f"out {out} holds {read}, which this command reads; name another folder"
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


class BusyError(RunFolderError):
    """Another command is writing the folder."""


def claim_of(settings: Common, command: str, ways: str = OVERWRITE) -> Claim:
    """The claim of a command with these settings.

    Of several processes the first one claims, and only it writes.
    """
    # which knows the settings, which know what hardens
    from blankcheck.parallel.team import rank_of_process

    if rank_of_process() != 0:
        return Claim(None, command)
    reads = (settings.model, getattr(settings, "weights", None))
    return Claim(
        Path(settings.out) if settings.out is not None else None,
        command,
        settings.overwrite,
        reads,
        ways,
    )


def next_free(folder: Path) -> Path:
    """The folder itself where nothing is there, else the first of `NAME-2`, `NAME-3`, ... behind
    all that are."""
    known = _numbered(folder)
    return folder if not known else folder.with_name(f"{folder.name}-{max(known) + 1}")


def latest(folder: Path) -> Path:
    """The last of `NAME`, `NAME-2`, ... that is there; `NAME` where none is."""
    known = _numbered(folder)
    return (
        folder if not known or max(known) == 1 else folder.with_name(f"{folder.name}-{max(known)}")
    )


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
def held(run: RunFolder) -> Iterator[None]:
    """Hold a folder while it is written. Raises BusyError where another process does. What is held
    is free again when the process ends, however it ends."""
    path = run.path / LOCK
    descriptor = _locked(path)
    try:
        run.tidy()
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            path.unlink()
        os.close(descriptor)


@contextmanager
def going_on(run: RunFolder) -> Iterator[RunFolder]:
    """A folder whose run goes on, held inside the block."""
    with held(run):
        yield run


def _locked(path: Path) -> int:
    if path.is_symlink():
        raise RunFolderError(f"{path} is a link; nothing is read or written through it")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor, path.parent)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.lstat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever held it has removed it meanwhile


def _refuse_busy(folder: Path) -> None:
    """BusyError where another process writes a folder; makes nothing."""
    if not (folder / LOCK).is_symlink() and (folder / LOCK).is_file():
        descriptor = os.open(folder / LOCK, os.O_RDWR)
        try:
            _lock(descriptor, folder)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            said = f"run folder {folder} is being written by another command; wait for it, or name another"
            raise BusyError(said) from error
        # a file system without locks: then nobody can be asked
