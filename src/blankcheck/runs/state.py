"""What a run needs to go on after it was stopped: files below `state/` of its folder."""

from __future__ import annotations

import hashlib
import io
import pickle
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

import torch

from blankcheck.auditing.attempts import AttemptResults
from blankcheck.auditing.controls.run_all import Finished
from blankcheck.auditing.onlooker import Met
from blankcheck.auditing.witnesses import Scored
from blankcheck.errors import RunFolderError
from blankcheck.judging.evidence import Attempt, Control, OnTwin
from blankcheck.parallel.spread import Spread
from blankcheck.runs.folder import RunFolder
from blankcheck.text import one_line
from blankcheck.types import Fooling

STATE = "state/state.pt"
"""Of a hardening that can go on."""
PIECES = "state/piece-*.pt"
"""Finished pieces of an audit that has not ended."""
LEAST = 1.0
"""Seconds that a piece takes that is kept; others are as quickly done again."""
HEAD = b"blankcheck state sha256:"
OF_PIECES: list[Any] = [AttemptResults, Attempt, Control, Finished, Fooling, Met, OnTwin, Scored]
"""What pieces of an audit are made of, beside tensors and plain values. Reading one makes nothing
else, so that it runs no code."""


def state_bytes(state: dict[str, Any]) -> bytes:
    """The contents of a file: a line with the digest of the rest, then what torch writes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    rest = buffer.getvalue()
    return b"%s%s\n%s" % (HEAD, hashlib.sha256(rest).hexdigest().encode(), rest)


def read_state(run: RunFolder, name: str = STATE) -> dict[str, Any]:
    """The state of a run folder; RunFolderError where it is missing, damaged, or something else."""
    line, _, rest = run.read_bytes(name).partition(b"\n")
    if line != HEAD + hashlib.sha256(rest).hexdigest().encode():
        words = "is damaged, or is no state that this version of blankcheck wrote"
        raise RunFolderError(f"{run / name} {words}")
    state: dict[str, Any] = torch.load(io.BytesIO(rest), map_location="cpu", weights_only=True)
    return state


def _read_piece(run: RunFolder, name: str) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals(OF_PIECES):
            return read_state(run, name)
    except pickle.UnpicklingError as error:
        raise RunFolderError(f"{run / name} cannot be read: {one_line(error)}") from error


class Kept:
    """A `Spread` whose finished pieces are kept in a run folder, and not done again by an audit
    that goes on there. As a piece does not depend on who does it, nothing depends on the stop.

    Args:
        spread: by which processes share the pieces.
        run: the folder.
        of: what the audit is of. Pieces of anything else are refused, RunFolderError.
    """

    def __init__(self, spread: Spread, run: RunFolder, of: str) -> None:
        self.spread, self.run, self.of = spread, run, of
        self._calls = count()
        self.pieces = {name: _read_piece(run, name) for name in run.names(PIECES)}
        if any(piece["of"] != of for piece in self.pieces.values()):
            state = f"{run.path} has the state of an audit of another network, or of other images"
            raise RunFolderError(f"{state}; begin anew in another --out")

    @property
    def seconds(self) -> float:
        """What the pieces took that were there already."""
        return float(sum(piece["seconds"] for piece in self.pieces.values()))

    def __call__(self, n: int, do: Callable[[int], Any]) -> list[Any]:
        """The results of all pieces."""
        call = next(self._calls)
        return self.spread(n, lambda index: self._once(f"{call}-{index}", index, do))

    def _once(self, name: str, index: int, do: Callable[[int], Any]) -> Any:
        name = PIECES.replace("*", name)
        if name in self.pieces:
            return self.pieces[name]["result"]
        began = time.monotonic()
        result = do(index)
        seconds = time.monotonic() - began
        if seconds >= LEAST:
            piece = {"of": self.of, "seconds": seconds, "result": result}
            self.run.write(name, state_bytes(piece))
        return result


def forget_pieces(run: RunFolder) -> None:
    """Remove the pieces of an audit, once the whole of it stands in the folder."""
    for name in run.names(PIECES):
        run.remove(name)
    with suppress(OSError):  # where nothing was kept, or the state of a hardening is
        run.below("state").rmdir()
