"""The folder of one run: what commands write there, and how a run begins."""

from __future__ import annotations

import os
import platform
import stat
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from blankcheck.errors import RunFolderError
from blankcheck.runs.safe_folder import PARTIAL, SafeFolder, refuse_unless

MARK, CONFIG = "environment.json", "config.yaml"
VERDICT, ATTEMPTS, METRICS = "verdict.json", "attempts.jsonl", "metrics.jsonl"
WITNESSES, MISSES = "witnesses.safetensors", "misses.safetensors"
CERTIFICATE = "certificate.json"
HARDENING = "hardening.json"
EVENTS = "tensorboard"
"""The folder of TensorBoard's event files, where there are any."""
LOCK = ".lock"
"""Of a command that writes here; left by one that was killed."""
_NAMES = """
config.yaml verdict.json witnesses.safetensors misses.safetensors attempts.jsonl metrics.jsonl
hardening.json report.html report.md before-after.html before-after.md model.safetensors
state/state.pt state/piece-*.pt trackers.json tensorboard/events.out.tfevents.* blend.json
blend.safetensors
certificate.json gate.safetensors gated.pt2 doctor.json compare.html compare.md compare.json
sweep.html sweep.md sweep.json sweep.journal sweep.journal.lock sweep.db best.yaml front/*.yaml
"""
FIGURES = """
lit-curve lit-curves confidence per-class witnesses witnesses-before misses misses-before success
real sparsity losses calibration forgetting training blend certificate compare-lit compare-rates
sweep-front sweep-accuracy sweep-rate sweep-options
"""
"""Every figure that a page of a command shows, or showed; older pages had PNG files."""
_FIGURES = (f"figures/{name}.{kind}" for name in FIGURES.split() for kind in ("svg", "png"))
WRITTEN = (*_NAMES.split(), *_FIGURES)
"""All that commands write beside `MARK`; what else stands in a folder belongs to somebody else, and
stays."""
FOLDERS = tuple(dict.fromkeys(pattern.partition("/")[0] for pattern in WRITTEN if "/" in pattern))
INNER = {"demo": ("plain", "audit", "hardened"), "sweep": ("trials/*",)}
"""Run folders inside the folder of a command."""
PACKAGES = ("blankcheck", "torch", "numpy", "scikit-learn", "safetensors")
"""Whose versions a run records."""


class RunFolder(SafeFolder):
    """The folder of one run. Reading never executes anything it names."""

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

    def read_config(self) -> dict[str, Any]:
        """The settings of the run, as plain values; a model or data set they name is not run."""
        config = self.read_yaml(CONFIG)
        if not isinstance(config, dict):
            raise RunFolderError(f"{self / CONFIG} must hold settings")
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
        """Clear away an earlier run here, then write what this one is: its command, its settings
        as plain values, where it computes, and the words that make the run again."""
        import yaml

        self.clear()
        words = {} if command_line is None else {"command_line": list(command_line)}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        here = {"date": now, "device": str(device), **environment()}
        said = {"command": command, **words, **here}
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
            refuse_unless(path, lambda mode: not stat.S_ISDIR(mode), "file")
        refuse_unless(self.path / MARK, stat.S_ISREG, "file")
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
