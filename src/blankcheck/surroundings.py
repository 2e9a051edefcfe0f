"""What is nobody's mistake: the machine refuses a file, room, or memory."""

from __future__ import annotations

import errno

from blankcheck.outputs import out_of_memory


def refused_by_machine(error: BaseException) -> str | None:
    """One line for an error of disk, pipe, network or memory; None for any other."""
    if out_of_memory(error) or getattr(error, "errno", None) == errno.ENOMEM:
        words = " ".join(str(error).split())[:200]
        return f"out of memory{f': {words}' if words else ''}"
    if isinstance(error, BrokenPipeError):
        return "whoever reads the output has gone"
    if isinstance(error, OSError):
        what = f"{error.filename}: " if error.filename else ""
        return f"{what}{error.strerror or error or type(error).__name__}"
    return None
