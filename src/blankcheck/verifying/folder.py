"""The files of a run folder, as `verify` reads them: what is missing is said, what cannot be read
is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blankcheck.errors import RunFolderError
from blankcheck.judging.evidence import Attempt
from blankcheck.runs.contents import read_attempts, read_verdict
from blankcheck.runs.folder import (
    ATTEMPTS,
    CONFIG,
    MARK,
    PACKAGES,
    VERDICT,
    WITNESSES,
    RunFolder,
    environment,
)
from blankcheck.runs.schema import Environment, check_version, checked
from blankcheck.runs.witnesses import Stored, unpack
from blankcheck.verifying.findings import Findings

Plain = str | int | float | bool | None


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


def read_folder(found: Findings, run: RunFolder) -> Folder | None:
    """The files of a folder; None where `verdict.json` or the attempts are not of the right form.

    Raises RunFolderError where it has no verdict, and for files that cannot be read at all.
    """
    check_version(run.read_json(VERDICT), str(run / VERDICT))
    around = checked(run.read_json(MARK), Environment, str(run / MARK))
    config: dict[str, Any] = {}
    if run.has(CONFIG):
        config = run.read_config()
    else:
        found.fail(CONFIG, "is missing")
    stored = _stored(found, run)
    ours = around.packages.get(PACKAGES[0]) == environment()["packages"][PACKAGES[0]]
    found.current = ours and (stored is None or "conditions" in stored.metadata)
    attempts: tuple[Attempt, ...] = ()
    records = run.read_lines(ATTEMPTS)
    try:
        verdict = read_verdict(run)
        if run.has(ATTEMPTS):
            attempts, records = read_attempts(run)
        else:
            found.fail(ATTEMPTS, "is missing")
    except RunFolderError as error:
        found.fail(error)
        return None
    assert verdict is not None, "it was just read"
    plain = {k: v for k, v in config.items() if v is None or isinstance(v, str | int | float)}
    return Folder(run, found, verdict, plain, around, stored, attempts, records)


def _stored(found: Findings, run: RunFolder) -> Stored | None:
    if not run.has(WITNESSES):
        found.fail(WITNESSES, "is missing")
        return None
    try:
        return unpack(run.read_bytes(WITNESSES), WITNESSES)
    except RunFolderError as error:
        found.fail(error)
        return None
