"""Which device a run uses. Said at the start of a run; a GPU is never taken without saying so."""

from __future__ import annotations

import torch

from blankcheck.errors import ArgumentError

DEVICES = ("auto", "cpu", "cuda", "mps")
SMALL_IMAGE = 256
"""Features up to which a second thread costs more than it saves."""


def choose_threads(shape: tuple[int, int, int]) -> None:
    """One thread for small images, whose layers end before a second one wakes; else torch's."""
    if shape[0] * shape[1] * shape[2] <= SMALL_IMAGE:
        torch.set_num_threads(1)


def resolve(name: str) -> torch.device:
    """The device of a name in `DEVICES` (`auto`: a GPU if any); ArgumentError: it is not there."""
    if name not in DEVICES:
        raise ArgumentError(f"device must be one of {', '.join(DEVICES)}, got {name!r}")
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind, present in there.items() if present), "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if not there[name]:
        raise ArgumentError(f"device {name!r} is not available on this machine")
    from lightning_fabric import Fabric

    return Fabric(accelerator=name, devices=1).device
