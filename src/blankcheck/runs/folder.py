"""A run folder: every file is written under a temporary name and renamed, so that none is ever half
there.

A folder may come from anybody: nothing is read, written or removed through a link in it, and
nothing endless is read.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

import torch

from blankcheck.errors import RunFolderError
from blankcheck.files import MOST_TENSORS, check_regular, read_file
from blankcheck.runs.environment import environment
from blankcheck.runs.plain_values import parse_json, parse_yaml

T = TypeVar("T")

MARK = "environment.json"
CONFIG = "config.yaml"
EVENTS = "tensorboard"
"""The folder of TensorBoard's event files, where there are any."""
LOCK, PARTIAL = ".lock", ".partial-"
"""Of a command that writes here, and the beginning of temporary names; both may be left by one that
was killed."""
WRITTEN = (
    CONFIG, "verdict.json", "witnesses.safetensors", "attempts.jsonl", "metrics.jsonl", "hardening.json", "report.html",
    "report.md", "model.safetensors", "state/state.pt", "figures/*.svg", "figures/*.png", f"{EVENTS}/events.out.tfevents.*", "trackers.json",
    "blend.json", "blend.safetensors", "certificate.json", "gate.safetensors", "gated.pt2", "doctor.json",
    "compare.html", "compare.md", "compare.json", "sweep.html", "sweep.md", "sweep.json", "sweep.journal",
    "sweep.journal.lock", "best.yaml", "front/*.yaml",
)
"""All that commands write beside `MARK`; what else stands in a folder belongs to somebody else, and
stays."""
FOLDERS = tuple(dict.fromkeys(pattern.partition("/")[0] for pattern in WRITTEN if "/" in pattern))
INNER = {"demo": ("plain", "audit", "hardened"), "sweep": ("trials/*",)}
"""Run folders inside the folder of a command."""
MOST_LINES, MOST_JSON, MOST_CONFIG = 2 << 30, 256 << 20, 256 << 10
"""Bytes of a file of JSON lines, of JSON, and of a configuration."""


class RunFolder:
    """The folder of one run. Reading never executes anything it names.

    Names of files are paths below it, with `/` between their parts. listeners: each is called with
    the name of every file, once it stands under its final name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listeners: list[Callable[[str], object]] = []

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> RunFolder:
        """A new run folder, or an old one to be written again.

        Raises RunFolderError when it holds something else.
        """
        folder = Path(path)
        check_writable(folder)
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """An existing run folder."""
        folder = Path(path)
        if not folder.is_dir():
            raise RunFolderError(f"run folder {folder} does not exist")
        if not (folder / MARK).is_file():
            raise RunFolderError(f"{folder} is not a run folder: it has no {MARK}")
        return cls(folder)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def inside(self, name: str) -> Path:
        """The path of a name; RunFolderError where a folder on the way there is a link, or no
        folder."""
        *folders, last = name.split("/")
        path = self.path
        for part in folders:
            path = path / part
            _refuse_unless(path, stat.S_ISDIR, "folder")
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
        _refuse_unless(place, stat.S_ISDIR, "folder", links=place == self.path)
        head, slash, last = pattern.rpartition("/")
        if not place.is_dir():
            return []
        return sorted(f"{head}{slash}{path.name}" for path in place.iterdir() if fnmatchcase(path.name, last))

    def folder(self, name: str) -> Path:
        """A folder below this one, made where it is not there."""
        path = self.below(name)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file under its final name, whole or not at all."""
        raw = content.encode(errors="replace") if isinstance(content, str) else content
        final = self.inside(name)
        _refuse_unless(final, stat.S_ISREG, "file")
        if "/" in name:
            self.folder(name.rpartition("/")[0])
        handle, temporary = tempfile.mkstemp(dir=final.parent, prefix=PARTIAL, suffix=final.suffix)
        os.close(handle)
        try:
            _write_bytes(Path(temporary), raw)
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
        return self.write(name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")

    def write_lines(self, name: str, records: Iterable[dict[str, Any]]) -> Path:
        """One JSON object a line."""
        return self.write(name, "".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in records))

    def remove(self, name: str) -> None:
        """Remove a file, where it is there."""
        self.inside(name).unlink(missing_ok=True)

    def check(self, name: str) -> Path:
        """The path of a file that somebody else is going to open; raises as `read_bytes`."""
        self._regular(name, lambda path: check_regular(path, links=False))
        return self.path / name

    def read_bytes(self, name: str, most: int = MOST_TENSORS) -> bytes:
        """The contents of a file; RunFolderError when it is missing, no regular file, reached by a
        link, or has more than `most` bytes. OSError where the disk does not give it."""
        return self._regular(name, lambda path: read_file(path, most, links=False))

    def _regular(self, name: str, use: Callable[[Path], T]) -> T:
        path = self.inside(name)
        try:
            return use(path)
        except FileNotFoundError as error:
            raise RunFolderError(f"run folder {self.path} has no {name}") from error
        except ValueError as error:
            raise RunFolderError(f"{path} {error}") from error

    def read_json(self, name: str) -> Any:
        """The contents of a JSON file; RunFolderError when it is missing or broken."""
        return self._parsed(name, MOST_JSON, parse_json, "JSON")

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """The records of a JSON-lines file; none when it is missing."""
        if not self.has(name):
            return []
        records: list[dict[str, Any]] = self._parsed(name, MOST_LINES, _lines, "JSON lines")
        return records

    def read_config(self) -> dict[str, Any]:
        """The settings of the run, as plain values; a model or data set they name is not run."""
        config = self._parsed(CONFIG, MOST_CONFIG, parse_yaml, "YAML")
        if not isinstance(config, dict):
            raise RunFolderError(f"{self.path / CONFIG} must hold settings")
        return config

    def _parsed(self, name: str, most: int, parse: Callable[[str], Any], what: str) -> Any:
        raw = self.read_bytes(name, most)
        try:
            return parse(raw.decode())
        except ValueError as error:
            raise RunFolderError(f"{self.path / name} is not readable {what}: {str(error)[:200]}") from error

    @property
    def command(self) -> str | None:
        """The command that began the run; None where the folder does not say."""
        try:
            said = self.read_json(MARK)
        except RunFolderError:
            return None
        command = said.get("command") if isinstance(said, dict) else None
        return command if isinstance(command, str) else None

    def begin(self, command: str, config: dict[str, Any], device: torch.device) -> None:
        """Clear away an earlier run here, then write what this one is: settings and surroundings.
        """
        import yaml

        self.clear()
        self.write(MARK, json.dumps({"command": command, "device": str(device), **environment()}, indent=1) + "\n")
        self.write(CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    def clear(self) -> None:
        """Remove all that an earlier run left here and in run folders inside, but for `MARK`, which
        says that the folder is ours. Raises RunFolderError before anything is removed where a link
        stands in the way."""
        names = [name for pattern in INNER.get(self.command or "", ()) for name in self.names(pattern)]
        inner = [RunFolder(self.below(name)) for name in names if self.has(f"{name}/{MARK}")]
        for file in [path for run in (self, *inner) for path in run._files()]:
            file.unlink(missing_ok=True)
        for run in inner:
            run._vanish()

    def _files(self) -> list[Path]:
        """What commands wrote here, but for `MARK` and the lock."""
        paths = [self.inside(name) for pattern in WRITTEN for name in self.names(pattern)]
        for path in paths:  # of a link, itself is removed
            _refuse_unless(path, lambda mode: not stat.S_ISDIR(mode), "file")
        _refuse_unless(self.path / MARK, stat.S_ISREG, "file")
        return paths

    def tidy(self) -> None:
        """Remove what is left of writing where a command was killed.

        Only for who holds the folder.
        """
        for folder in ("", *(f"{name}/" for name in FOLDERS)):
            for name in self.names(f"{folder}{PARTIAL}*"):
                self.remove(name)

    def _vanish(self) -> None:
        """Remove the folder, too, unless something of somebody else is in it."""
        for name in FOLDERS:
            with suppress(OSError):
                (self.path / name).rmdir()
        if [path.name for path in self.path.iterdir()] == [MARK]:
            (self.path / MARK).unlink()
            self.path.rmdir()


def check_writable(folder: Path) -> None:
    """Raises RunFolderError where a path is no folder, or a folder that holds something else than a
    run."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise RunFolderError(f"out {folder} is a file, must be a folder")
    above = next((p for p in folder.absolute().parents if p.exists()), None)
    if above is not None and not above.is_dir():
        raise RunFolderError(f"out {folder} lies below {above}, which is a file")
    if holds_something(folder) and not os.path.lexists(folder / MARK):
        raise RunFolderError(f"out {folder} exists and is not a run folder; name a new or empty folder")


def holds_something(folder: Path) -> bool:
    """Whether a folder is there and holds more than a command leaves behind that was killed before
    it began."""
    return folder.is_dir() and any(p.name != LOCK and not p.name.startswith(PARTIAL) for p in folder.iterdir())


def _refuse_unless(path: Path, kind: Callable[[int], bool], what: str, links: bool = False) -> None:
    """RunFolderError where there is something and it is no folder, or file. links: whether a link
    to one will do."""
    with suppress(FileNotFoundError):
        mode = path.stat(follow_symlinks=links).st_mode
        if not kind(mode):
            found = "a link" if stat.S_ISLNK(mode) else f"no {what}"
            raise RunFolderError(f"{path} is {found}; nothing is read or written through it")


def _lines(text: str) -> list[Any]:
    return [_line(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]


def _line(number: int, line: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from error


def _write_bytes(path: Path, raw: bytes) -> None:
    with path.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
