"""The files of a run folder, as `verify` reads them, and what they are checked against.

What is missing is said, what cannot be read is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from blankcheck.api.reopen import form_again
from blankcheck.classifiers import UnitClassifier, probabilities
from blankcheck.classifiers.wrapper import left_as_found
from blankcheck.data import Data
from blankcheck.errors import RunFolderError
from blankcheck.judging.evidence import Attempt
from blankcheck.runs import folder as names
from blankcheck.runs.contents import read_attempts, read_verdict
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.schema import Environment, check_version, checked
from blankcheck.runs.witnesses import Stored, unpack
from blankcheck.types import Conditions
from blankcheck.verifying.findings import Findings

Plain = str | int | float | bool | None
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Folder:
    """What was read.

    Args:
        found: what `verify` finds out.
        around: what began the run, and on what.
        config: settings that are plain values; lists and tables decide nothing here.
        stored: None where there is no such witness file.
        attempts: empty where they are missing, and so are the `records` that they were read from.
    """

    run: RunFolder
    found: Findings
    verdict: dict[str, Any]
    config: dict[str, Plain]
    around: Environment
    stored: Stored | None
    attempts: tuple[Attempt, ...]
    records: list[dict[str, Any]]

    @property
    def metadata(self) -> dict[str, str]:
        """What the witness file says of itself."""
        return {} if self.stored is None else self.stored.metadata


@dataclass(frozen=True)
class Subject:
    """The network, loaded by its `name`, the data where they are at hand, (c, h, w) of images, and
    the conditions."""

    classifier: UnitClassifier
    name: str
    data: Data | None
    shape: Shape
    want: Conditions

    @cached_property
    def form(self) -> str:
        """Of the network's outputs, by looking."""
        return form_again(self.classifier, self.shape, self.data)

    @cached_property
    def outputs(self) -> int:
        """How many outputs the network has."""
        with left_as_found(self.classifier):
            return probabilities(self.classifier, torch.zeros(1, *self.shape), self.form).shape[1]


def read_folder(found: Findings, run: RunFolder) -> Folder | None:
    """The files of a folder; None where `verdict.json` or the attempts are not of the right form.

    Raises RunFolderError where it has no verdict, and for files that cannot be read at all.
    """
    check_version(run.read_json(names.VERDICT), str(run / names.VERDICT))
    around = checked(run.read_json(names.MARK), Environment, str(run / names.MARK))
    missing = [name for name in (names.CONFIG, names.WITNESSES) if not run.has(name)]
    for name in missing:
        found.fail(name, "is missing")
    config = {} if names.CONFIG in missing else run.read_config()
    stored = None if names.WITNESSES in missing else _stored(found, run)
    package = names.PACKAGES[0]
    ours = around.packages.get(package) == names.environment()["packages"][package]
    found.current = ours and (stored is None or "conditions" in stored.metadata)
    attempts: tuple[Attempt, ...] = ()
    records = run.read_lines(names.ATTEMPTS)
    try:
        verdict = read_verdict(run)
        if run.has(names.ATTEMPTS):
            attempts, records = read_attempts(run)
        else:
            found.fail(names.ATTEMPTS, "is missing")
    except RunFolderError as error:
        found.fail(error)
        return None
    assert verdict is not None, "it was just read"
    plain = {k: v for k, v in config.items() if v is None or isinstance(v, str | int | float)}
    return Folder(run, found, verdict, plain, around, stored, attempts, records)


def _stored(found: Findings, run: RunFolder) -> Stored | None:
    try:
        return unpack(run.read_bytes(names.WITNESSES), names.WITNESSES)
    except RunFolderError as error:
        found.fail(error)
        return None
