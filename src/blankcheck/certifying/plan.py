"""What is chosen of a proof and of a gate; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

SLOPE_STEPS = 20
"""Of optimising the relaxation where it does not succeed at once."""


@dataclass(frozen=True)
class GatePlan:
    """How a gate is trained. steps: batches of real images, with one bound each."""

    steps: int = 600
    tau: float = 0.1
    channels: int = 16
    seed: int = 0
