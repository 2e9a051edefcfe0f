"""Training in lower precision: passes through torch.autocast, everything else in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from blankcheck.errors import ArgumentError, ModelError
from blankcheck.users import calling

TYPES = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}
FIRST_SCALE = 2.0**12
"""Factor that a loss in half precision begins with; it grows while gradients stay finite."""


def check_precision(name: str, device: torch.device | None = None) -> None:
    """Raises ArgumentError where nothing can be trained in this precision (on this device)."""
    if name not in TYPES:
        raise ArgumentError(f"precision must be one of {', '.join(TYPES)}, got {name!r}")
    if name == "16" and device is not None and device.type == "cpu":
        raise ArgumentError("precision 16 needs a GPU; on the CPU take 32 or bf16")


class Precision:
    """Passes of training as `name` says: `32` in float32; `bf16` and `16` what bears it in bfloat16
    or half precision, while parameters, losses and steps stay float32.

    Small gradients vanish in half precision; so the loss is scaled up, the gradients down again,
    and a step that overflows is left out (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2).
    """

    def __init__(self, name: str, device: torch.device) -> None:
        check_precision(name, device)
        self.name, self.device = name, device
        half = name == "16"
        self.scaler = torch.amp.GradScaler(device.type, FIRST_SCALE) if half else None

    def passes(self) -> AbstractContextManager[Any]:
        """For forward passes."""
        plain = self.name == "32"
        return nullcontext() if plain else torch.autocast(self.device.type, TYPES[self.name])

    def outputs(self, given: Tensor) -> Tensor:
        """A network's outputs as a loss wants them."""
        return given if self.name == "32" else given.float()

    def descend(self, loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
        """One step down the loss."""
        optimiser.zero_grad()
        with calling("model cannot be trained:", ModelError):  # by gradients of its own layers
            torch.autograd.backward(loss if self.scaler is None else self.scaler.scale(loss))
        if self.scaler is None:
            optimiser.step()
            return
        self.scaler.step(optimiser)
        self.scaler.update()

    def state(self) -> dict[str, Any]:
        """What changes."""
        return self.scaler.state_dict() if self.scaler is not None else {}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        if self.scaler is not None:
            self.scaler.load_state_dict(state)
