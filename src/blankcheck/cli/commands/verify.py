"""`blankcheck verify`: a run folder, derived anew and compared."""

from __future__ import annotations

from dataclasses import asdict

from blankcheck.cli.settings import VerifySettings
from blankcheck.cli.terminal import Terminal
from blankcheck.verifying.folder import CONFIRMED, IN_PART, NOT_CONFIRMED
from blankcheck.verifying.verify import verify

CODES = {CONFIRMED: 0, NOT_CONFIRMED: 12, IN_PART: 13}
MOST_SHOWN = 100
"""In the JSON record; the others are counted."""


def verify_command(settings: VerifySettings, terminal: Terminal) -> int:
    """0 where everything is confirmed, 12 where something is not, 13 where what is at hand confirms
    a part."""
    given = asdict(settings)
    run, *_ = (given.pop(name) for name in ("run", "json", "quiet", "junit"))
    found = verify(run, **given)
    shown = {"failures": found.failures[:MOST_SHOWN], "not_confirmed": found.lacking[:MOST_SHOWN]}
    record = {**found.record, "failed": len(found.failures), **shown}
    terminal.result(found.word, found.lines(), None, record)
    return CODES[found.word]
