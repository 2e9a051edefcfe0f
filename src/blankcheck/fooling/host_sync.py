"""How often the host looks at numbers of a device.

Between two looks it only gives the device work and never waits.
"""

from __future__ import annotations

import torch

LEAVE_EVERY = {"cpu": 1}
"""Iterations between looks at who has finished.

On the CPU looking is free; elsewhere it makes the host wait.
"""
SELDOM = 8
"""As `LEAVE_EVERY`, for every device that does not stand there."""


def turns_between_looks(device: torch.device) -> int:
    """Turns of a loop from one look of the host at numbers of this device to the next."""
    return LEAVE_EVERY.get(device.type, SELDOM)


def looks_always(device: torch.device) -> bool:
    """Whether asking costs less than selecting what may be nothing."""
    return turns_between_looks(device) == 1
