"""A folder that may come from anybody, and whose files are whole.

Files are written under temporary names and renamed. Nothing is read, written or removed through a
link, and nothing endless is read.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from blankcheck.errors import RunFolderError
from blankcheck.files import MOST_TENSORS, check_regular, read_file
from blankcheck.runs.plain_values import parse_json, parse_yaml
from blankcheck.text import one_line

PARTIAL = ".partial-"
"""How temporary names begin; a command that was killed may leave them."""
MOST_LINES, MOST_JSON, MOST_CONFIG = 2 << 30, 256 << 20, 256 << 10
"""Bytes of a file of JSON lines, of JSON, and of a configuration."""


class SafeFolder:
    """Names of files are paths below the folder, with `/` between their parts. Each of the
    `listeners` is called with the name of every file, once it stands under its final name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listeners: list[Callable[[str], object]] = []

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def inside(self, name: str) -> Path:
        """The path of a name; RunFolderError where a folder on the way there is a link, or no
        folder."""
        *folders, last = name.split("/")
        path = self.path
        for part in folders:
            path = path / part
            refuse_unless(path, stat.S_ISDIR, "folder")
        return path / last

    def below(self, name: str) -> Path:
        """The path of a folder below this one, there or not; RunFolderError as `inside`, also for
        the folder itself."""
        return self.inside(f"{name}/x").parent

    def has(self, name: str) -> bool:
        """Whether anything stands under this name; reading it says what is wrong with it."""
        return os.path.lexists(self.inside(name))

    def names(self, pattern: str) -> list[str]:
        """Names in one folder, in order, for a pattern such as `figures/*.png`."""
        place = self.inside(pattern).parent
        refuse_unless(place, stat.S_ISDIR, "folder", links=place == self.path)
        head, slash, last = pattern.rpartition("/")
        if not place.is_dir():
            return []
        names = [path.name for path in place.iterdir() if fnmatchcase(path.name, last)]
        return sorted(f"{head}{slash}{name}" for name in names)

    def folder(self, name: str) -> Path:
        """A folder below this one, made where it is not there."""
        path = self.below(name)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file under its final name, whole or not at all."""
        raw = content.encode(errors="replace") if isinstance(content, str) else content
        final = self.inside(name)
        refuse_unless(final, stat.S_ISREG, "file")
        if "/" in name:
            self.folder(name.rpartition("/")[0])
        handle, temporary = tempfile.mkstemp(dir=final.parent, prefix=PARTIAL, suffix=final.suffix)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(handle)
            Path(temporary).chmod(0o644)
            Path(temporary).replace(final)
        except BaseException as error:
            Path(temporary).unlink(missing_ok=True)
            if isinstance(error, OSError):
                error.filename = str(final)  # the name that means something
            raise
        for listener in self.listeners:
            listener(name)
        return final

    def write_json(self, name: str, value: Any) -> Path:
        """Indented JSON; refuses NaN, which is not JSON."""
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
        return self.write(name, f"{text}\n")

    def write_lines(self, name: str, records: Iterable[dict[str, Any]]) -> Path:
        """One JSON object a line."""
        lines = (json.dumps(r, ensure_ascii=False, allow_nan=False) for r in records)
        return self.write(name, "".join(f"{line}\n" for line in lines))

    def remove(self, name: str) -> None:
        """Remove a file, where it is there."""
        self.inside(name).unlink(missing_ok=True)

    def check(self, name: str) -> Path:
        """The path of a file that somebody else is going to open; raises as `read_bytes`."""
        with self._reading(name) as path:
            check_regular(path, links=False)
        return path

    def read_bytes(self, name: str, most: int = MOST_TENSORS) -> bytes:
        """The contents of a file of at most `most` bytes. Raises RunFolderError where it is
        missing, no regular file, a link, or larger, and OSError where the disk fails."""
        with self._reading(name) as path:
            return read_file(path, most, links=False)

    @contextmanager
    def _reading(self, name: str, what: str = "") -> Iterator[Path]:
        path = self.inside(name)
        try:
            yield path
        except FileNotFoundError as error:
            raise RunFolderError(f"run folder {self.path} has no {name}") from error
        except ValueError as error:
            raise RunFolderError(f"{path} {what}{one_line(error)}") from error

    def read_json(self, name: str) -> Any:
        """The contents of a JSON file; RunFolderError when it is missing or broken."""
        raw = self.read_bytes(name, MOST_JSON)
        with self._reading(name, "is not readable JSON: "):
            return parse_json(raw.decode())

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """The records of a JSON-lines file; none when it is missing."""
        raw = self.read_bytes(name, MOST_LINES) if self.has(name) else b""
        with self._reading(name, "is not readable JSON lines: "):
            lines = enumerate(raw.decode().split("\n"), 1)
            return [_line(number, line) for number, line in lines if line.strip()]

    def read_yaml(self, name: str) -> Any:
        """The contents of a YAML file of plain values; raises as `read_json`."""
        raw = self.read_bytes(name, MOST_CONFIG)
        with self._reading(name, "is not readable YAML: "):
            return parse_yaml(raw.decode())


def refuse_unless(path: Path, kind: Callable[[int], bool], what: str, links: bool = False) -> None:
    """RunFolderError where there is something and it is no folder, or file. links: whether a link
    to one will do."""
    with suppress(FileNotFoundError):
        mode = path.stat(follow_symlinks=links).st_mode
        if not kind(mode):
            found = "a link" if stat.S_ISLNK(mode) else f"no {what}"
            raise RunFolderError(f"{path} is {found}; nothing is read or written through it")


def _line(number: int, line: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error
