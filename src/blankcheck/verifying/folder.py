"""The files of a run folder, as `verify` reads them: what is missing is said, what cannot be read
is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from blankcheck.api.audit import WITNESSES
from blankcheck.errors import RunFolderError
from blankcheck.judging.evidence import Attempt
from blankcheck.runs.contents import SCHEMA, read_attempts, read_verdict
from blankcheck.runs.environment import PACKAGES, environment
from blankcheck.runs.folder import CONFIG, MARK, RunFolder
from blankcheck.runs.witnesses import Stored, unpack
from blankcheck.verifying.findings import Findings

VERDICT, ATTEMPTS = "verdict.json", "attempts.jsonl"
Plain = str | int | float | bool | None


@dataclass(frozen=True)
class Folder:
    """What was read. config: settings that are plain values; lists and tables decide nothing here.
    stored: None where there is no such witness file. attempts, records: empty where they are
    missing."""

    run: RunFolder
    verdict: dict[str, Any]
    config: dict[str, Plain]
    command: str
    stored: Stored | None
    attempts: tuple[Attempt, ...]
    records: list[dict[str, Any]]

    @property
    def metadata(self) -> dict[str, str]:
        """What the witness file says of itself."""
        return {} if self.stored is None else self.stored.metadata

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(c, h, w) of the images in the witness file, which tells it even when it holds none."""
        if self.stored is None:
            return None
        c, h, w = self.stored.tensors["images"].shape[1:]
        return int(c), int(h), int(w)


def read_folder(found: Findings, run: RunFolder) -> Folder | None:
    """The files of a folder; None where `verdict.json` is not of the right form. Raises
    RunFolderError where it has none, and for files that cannot be read at all."""
    raw = run.read_json(VERDICT)
    if isinstance(raw, dict) and isinstance(raw.get("schema"), int) and raw["schema"] != SCHEMA:
        read_verdict(run)  # which says that it is of another version
    around = run.read_json(MARK)
    around = around if isinstance(around, dict) else {}
    config: dict[str, Plain] = {}
    if run.has(CONFIG):
        config = {
            k: v
            for k, v in run.read_config().items()
            if v is None or isinstance(v, str | int | float)
        }
    else:
        found.fail(CONFIG, "is missing")
    stored = _stored(found, run)
    packages, own = around.get("packages"), PACKAGES[0]
    version = packages.get(own) if isinstance(packages, dict) else None
    found.current = version == environment()["packages"][own] and (
        stored is None or "conditions" in stored.metadata
    )
    attempts: tuple[Attempt, ...] = ()
    records: list[dict[str, Any]] = []
    known = run.has(ATTEMPTS)
    if not known:
        found.fail(ATTEMPTS, "is missing")
    run.read_lines(ATTEMPTS)
    try:
        verdict = read_verdict(run)
        if known:
            attempts, records = read_attempts(run)
    except RunFolderError as error:
        found.fails(str(error))
        return None
    assert verdict is not None, "it was just read"
    return Folder(run, verdict, config, str(around.get("command")), stored, attempts, records)


def _stored(found: Findings, run: RunFolder) -> Stored | None:
    if not run.has(WITNESSES):
        found.fail(WITNESSES, "is missing")
        return None
    try:
        return unpack(run.read_bytes(WITNESSES), WITNESSES)
    except RunFolderError as error:
        found.fails(str(error))
        return None
