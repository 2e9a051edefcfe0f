"""The state of a hardening that can go on: one file of a run folder."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import torch

from blankcheck.errors import RunFolderError
from blankcheck.runs.folder import RunFolder

STATE = "state/state.pt"
HEAD = b"blankcheck state sha256:"


def state_bytes(state: dict[str, Any]) -> bytes:
    """The contents of `STATE`: a line with the digest of the rest, then what torch writes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    rest = buffer.getvalue()
    return b"%s%s\n%s" % (HEAD, hashlib.sha256(rest).hexdigest().encode(), rest)


def read_state(run: RunFolder) -> dict[str, Any]:
    """The state of a run folder; RunFolderError where it is missing, damaged, or something else."""
    line, _, rest = run.read_bytes(STATE).partition(b"\n")
    if line != HEAD + hashlib.sha256(rest).hexdigest().encode():
        words = "is damaged, or is no state that this version of blankcheck wrote"
        raise RunFolderError(f"{run / STATE} {words}")
    state: dict[str, Any] = torch.load(io.BytesIO(rest), map_location="cpu", weights_only=True)
    return state
