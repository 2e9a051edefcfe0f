"""How often the host looks at numbers of a device, for which it has to wait."""

from __future__ import annotations

import torch

SYNC_EVERY = {"cpu": 1}
"""Turns of a loop between two looks: on the CPU looking is free, elsewhere the host waits."""
DEFAULT_SYNC_EVERY = 8
"""As `SYNC_EVERY`, for every device that does not stand there."""


def turns_between_syncs(device: torch.device) -> int:
    """Turns of a loop from one look of the host at numbers of this device to the next."""
    return SYNC_EVERY.get(device.type, DEFAULT_SYNC_EVERY)


def sync_is_free(device: torch.device) -> bool:
    """Whether asking costs less than selecting what may be nothing."""
    return turns_between_syncs(device) == 1
