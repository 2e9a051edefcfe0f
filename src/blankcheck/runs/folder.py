"""A run folder, whose files are written under temporary names and renamed, so that all are whole.

A folder may come from anybody: nothing is read, written or removed through a link in it, and
nothing endless is read.
"""

from __future__ import annotations

import json
import os
import platform
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from blankcheck.errors import RunFolderError
from blankcheck.files import MOST_TENSORS, check_regular, read_file
from blankcheck.runs.plain_values import parse_json, parse_yaml
from blankcheck.text import one_line

MARK, CONFIG = "environment.json", "config.yaml"
VERDICT, ATTEMPTS, METRICS = "verdict.json", "attempts.jsonl", "metrics.jsonl"
WITNESSES, CERTIFICATE = "witnesses.safetensors", "certificate.json"
HARDENING = "hardening.json"
EVENTS = "tensorboard"
"""The folder of TensorBoard's event files, where there are any."""
LOCK, PARTIAL = ".lock", ".partial-"
"""Of a command that writes here, and the beginning of temporary names; both may be left by one that
was killed."""
_NAMES = """
config.yaml verdict.json witnesses.safetensors attempts.jsonl metrics.jsonl hardening.json
report.html report.md figures/*.svg figures/*.png model.safetensors state/state.pt trackers.json
tensorboard/events.out.tfevents.* blend.json blend.safetensors
certificate.json gate.safetensors gated.pt2 doctor.json compare.html compare.md compare.json
sweep.html sweep.md sweep.json sweep.journal sweep.journal.lock best.yaml front/*.yaml
"""
WRITTEN = tuple(_NAMES.split())
"""All that commands write beside `MARK`; what else stands in a folder belongs to somebody else, and
stays."""
FOLDERS = tuple(dict.fromkeys(pattern.partition("/")[0] for pattern in WRITTEN if "/" in pattern))
INNER = {"demo": ("plain", "audit", "hardened"), "sweep": ("trials/*",)}
"""Run folders inside the folder of a command."""
MOST_LINES, MOST_JSON, MOST_CONFIG = 2 << 30, 256 << 20, 256 << 10
"""Bytes of a file of JSON lines, of JSON, and of a configuration."""
PACKAGES = ("blankcheck", "torch", "numpy", "scikit-learn", "safetensors")
"""Whose versions a run records."""


class RunFolder:
    """The folder of one run. Reading never executes anything it names.

    Names of files are paths below it, with `/` between their parts. Each of the `listeners` is
    called with the name of every file, once it stands under its final name.
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
        return sorted(
            f"{head}{slash}{path.name}" for path in place.iterdir() if fnmatchcase(path.name, last)
        )

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
        """The contents of a file of at most `most` bytes.

        Raises:
            RunFolderError: where it is missing, no regular file, reached by a link, or larger.
            OSError: where the disk does not give it.
        """
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

    def read_config(self) -> dict[str, Any]:
        """The settings of the run, as plain values; a model or data set they name is not run."""
        raw = self.read_bytes(CONFIG, MOST_CONFIG)
        with self._reading(CONFIG, "is not readable YAML: "):
            config = parse_yaml(raw.decode())
        if not isinstance(config, dict):
            raise RunFolderError(f"{self.path / CONFIG} must hold settings")
        return config

    @property
    def command(self) -> str | None:
        """The command that began the run; None where the folder does not say."""
        try:
            said = self.read_json(MARK)
        except RunFolderError:
            return None
        command = said.get("command") if isinstance(said, dict) else None
        return command if isinstance(command, str) else None

    def begin(
        self,
        command: str,
        config: dict[str, Any],
        device: torch.device,
        command_line: Sequence[str] | None = None,
    ) -> None:
        """Clear away an earlier run here, then write what this one is.

        Args:
            command: its name.
            config: its settings, as plain values.
            device: where it computes.
            command_line: the words that make the run again.
        """
        import yaml

        self.clear()
        words = {} if command_line is None else {"command_line": list(command_line)}
        said = {"command": command, **words, "device": str(device), **environment()}
        self.write_json(MARK, said)
        self.write(CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))

    def clear(self) -> None:
        """Remove all that an earlier run left here and in run folders inside, but for `MARK`, which
        says that the folder is ours.

        Raises RunFolderError before anything is removed where a link stands in the way.
        """
        names = [
            name for pattern in INNER.get(self.command or "", ()) for name in self.names(pattern)
        ]
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


def environment() -> dict[str, Any]:
    """Versions and machine, without names of people or paths."""
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "threads": torch.get_num_threads(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def check_writable(folder: Path) -> None:
    """Raises RunFolderError where a path is no folder, or a folder that holds something else than a
    run."""
    if os.path.lexists(folder) and not folder.is_dir():
        raise RunFolderError(f"out {folder} is a file, must be a folder")
    above = next((p for p in folder.absolute().parents if p.exists()), None)
    if above is not None and not above.is_dir():
        raise RunFolderError(f"out {folder} lies below {above}, which is a file")
    if holds_something(folder) and not os.path.lexists(folder / MARK):
        raise RunFolderError(
            f"out {folder} exists and is not a run folder; name a new or empty folder"
        )


def holds_something(folder: Path) -> bool:
    """Whether a folder is there and holds more than a command leaves behind that was killed before
    it began."""
    return folder.is_dir() and any(
        p.name != LOCK and not p.name.startswith(PARTIAL) for p in folder.iterdir()
    )


def _refuse_unless(path: Path, kind: Callable[[int], bool], what: str, links: bool = False) -> None:
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
