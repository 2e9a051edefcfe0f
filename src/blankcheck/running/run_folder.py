"""A run folder: everything is written under a temporary name and renamed, so no file is ever half there."""

from __future__ import annotations

import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from blankcheck.errors import RunFolderError

MARK = "environment.json"
CONFIG = "config.yaml"
EVENTS = "tensorboard"
"""The folder of TensorBoard's event files, where there are any."""
RESULTS = (
    "verdict.json", "witnesses.safetensors", "attempts.jsonl", "metrics.jsonl", "hardening.json", "report.html", "report.md",
    "state/state.pt", "blend.json", "blend.safetensors", "compare.html", "compare.md", "compare.json",
    "trackers.json", "certificate.json", "gate.safetensors", "gated.pt2",
)  # fmt: skip
"""What a run says; networks are left until they are written again."""
PACKAGES = ("blankcheck", "torch", "numpy", "scikit-learn", "safetensors")


class RunFolder:
    """The folder of one run. Reading never executes anything it names.

    listeners: each is called with the name of every file, once it stands under its final name.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.listeners: list[Callable[[str], object]] = []

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> RunFolder:
        """A new run folder, or an old one to be written again. Raises RunFolderError when it holds something else."""
        folder = Path(path)
        if folder.exists() and not folder.is_dir():
            raise RunFolderError(f"out {folder} is a file, must be a folder")
        if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
            raise RunFolderError(f"out {folder} exists and is not a run folder; name a new or empty folder")
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

    def write(self, name: str, content: str | bytes) -> Path:
        """Write a file under its final name, whole or not at all."""
        raw = content.encode(errors="replace") if isinstance(content, str) else content
        return self.write_with(name, lambda path: _write_bytes(path, raw))

    def write_with(self, name: str, writer: Callable[[Path], object]) -> Path:
        """The same for a writer that wants a path."""
        final = self.path / name
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=final.parent, prefix=f".{final.stem}-", suffix=final.suffix)
        os.close(handle)
        try:
            writer(Path(temporary))
            Path(temporary).chmod(0o644)
            Path(temporary).replace(final)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
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

    def read_json(self, name: str) -> Any:
        """The contents of a JSON file; RunFolderError when it is missing or broken."""
        try:
            return json.loads((self.path / name).read_text())
        except FileNotFoundError as error:
            raise RunFolderError(f"run folder {self.path} has no {name}") from error
        except (ValueError, OSError) as error:
            raise RunFolderError(f"{self.path / name} is not readable JSON") from error

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """The records of a JSON-lines file; none when it is missing."""
        path = self.path / name
        if not path.is_file():
            return []
        try:
            return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        except (ValueError, OSError) as error:
            raise RunFolderError(f"{path} is not readable JSON lines") from error

    def read_config(self) -> dict[str, Any]:
        """The settings of the run, as plain values; a model or data set they name is not run."""
        import yaml

        try:
            config = yaml.safe_load((self.path / CONFIG).read_text())
        except FileNotFoundError as error:
            raise RunFolderError(f"run folder {self.path} has no {CONFIG}") from error
        except (yaml.YAMLError, OSError, ValueError) as error:
            raise RunFolderError(f"{self.path / CONFIG} is not readable YAML") from error
        if not isinstance(config, dict):
            raise RunFolderError(f"{self.path / CONFIG} must hold settings")
        return config

    def begin(self, command: str, config: dict[str, Any], device: torch.device) -> None:
        """Clear away the results of an earlier run here, then write what this one is: settings and surroundings."""
        import yaml

        for name in RESULTS:
            (self.path / name).unlink(missing_ok=True)
        for figure in (self.path / "figures").glob("*.png"):
            figure.unlink()
        for events in (self.path / EVENTS).glob("events.out.tfevents.*"):
            events.unlink()
        self.write(MARK, json.dumps({"command": command, "device": str(device), **environment()}, indent=1) + "\n")
        self.write(CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


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


def _write_bytes(path: Path, raw: bytes) -> None:
    with path.open("wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())
