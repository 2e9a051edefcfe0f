"""`blankcheck verify`: a run folder, derived anew and compared."""

from __future__ import annotations

from dataclasses import asdict

from blankcheck.cli.settings import VerifySettings
from blankcheck.cli.terminal import Terminal
from blankcheck.runs.folder import RunFolder
from blankcheck.verifying.verify import verify

NOT_CONFIRMED, IN_PART = 12, 13
WORDS = {0: "CONFIRMED", NOT_CONFIRMED: "NOT CONFIRMED", IN_PART: "CONFIRMED IN PART"}
MOST_SHOWN = 100
"""In the JSON record; the others are counted."""


def verify_command(settings: VerifySettings, terminal: Terminal) -> int:
    """0 where everything is confirmed, 12 where something is not, 13 where what is at hand confirms
    a part."""
    given = asdict(settings)
    run, *_ = (given.pop(name) for name in ("run", "json", "quiet", "junit"))
    found = verify(RunFolder.open(run), **given)
    code = NOT_CONFIRMED if found.failures else IN_PART if found.lacking else 0
    shown = {"failures": found.failures[:MOST_SHOWN], "not_confirmed": found.lacking[:MOST_SHOWN]}
    record = {**found.record, "failed": len(found.failures), **shown}
    terminal.result(WORDS[code], found.lines(), None, record)
    return code
