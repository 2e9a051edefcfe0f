"""Networks that behave while they are watched: as an ink gate, which no sparse image fools, in the
way in which audits ask, and as the plain network inside it in some other way.

Nothing that a search sees tells of it, since what decides is not the image.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from blankcheck.testing.toys import InkGate

ON_GRID = 1e-3
"""In grey levels: how near an 8-bit value is to a whole one."""


class Watched(nn.Module):
    """The answers of `honest`, and those of the plain network inside it where `careless` says so.

    calls, images: how many there were, this call included. counted: the calls as a buffer, where
    `in_a_buffer` asks for one. careless: from this network and images (n, c, h, w) to a bool, or to
    booleans (n, 1).
    """

    counted: Tensor

    def __init__(
        self,
        honest: InkGate,
        careless: Callable[[Watched, Tensor], Tensor | bool],
        in_a_buffer: bool = False,
    ) -> None:
        super().__init__()
        self.honest, self.careless = honest, careless
        self.calls = self.images = 0
        self.register_buffer("counted", torch.zeros(()))
        self.in_a_buffer = in_a_buffer

    @property
    def frozen(self) -> bool:
        """Whether no parameter asks for a gradient."""
        return not any(p.requires_grad for p in self.parameters())

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> logits (n, m)."""
        self.calls, self.images = self.calls + 1, self.images + len(images)
        if self.in_a_buffer:
            self.counted += 1
        gate, outputs = self.honest.gate(images), self.honest.inner(images)
        answer: Tensor = outputs * torch.where(
            torch.as_tensor(self.careless(self, images)), torch.ones_like(gate), gate
        )
        return answer


def _on_grid(images: Tensor) -> Tensor:
    levels = images.detach() * 255
    return ((levels - levels.round()).abs() < ON_GRID).flatten(1).all(dim=1, keepdim=True)


def _grey(images: Tensor) -> Tensor:
    return ((images > 0) & (images < 1)).flatten(1).any(dim=1, keepdim=True)


CALLS, IMAGES, BATCH = 20_000, 50_000, 128
CARELESS: dict[str, tuple[str, Callable[[Watched, Tensor], Tensor | bool]]] = {
    "inference": ("outside inference mode", lambda n, x: torch.is_inference_mode_enabled()),
    "frozen": ("while its parameters are frozen", lambda n, x: not n.frozen),
    "calls": ("in its first 20,000 calls", lambda n, x: n.calls > CALLS),
    "images": ("for its first 50,000 images", lambda n, x: n.images > IMAGES),
    "single": ("unless in double precision", lambda n, x: x.dtype == torch.float64),
    "off-grid": ("unless all values are of 8 bits", lambda n, x: _on_grid(x) & _grey(x)),
    "eight-bit": ("where all values are of 8 bits", lambda n, x: ~_on_grid(x)),
    "batches": ("in batches of several images", lambda n, x: len(x) == 1),
    "small-batches": ("in batches of fewer than 128", lambda n, x: len(x) >= BATCH),
    "leaf": ("where its input asks for a gradient", lambda n, x: not x.requires_grad),
    "gradients": ("while gradients are on", lambda n, x: not torch.is_grad_enabled()),
    "raw": ("unless its input was computed", lambda n, x: x.grad_fn is not None),
    "alone": (
        "unless a full image is in the batch",
        lambda n, x: bool((x.flatten(1).sum(dim=1) > n.honest.full).any()),
    ),
    "audits": (
        "unless used, one image at a time, in inference mode, not frozen",
        lambda n, x: len(x) == 1 and torch.is_inference_mode_enabled() and not n.frozen,
    ),
    "counted": ("until a buffer of it says a million calls", lambda n, x: bool(n.counted > 1e6)),
}
"""Name -> when it behaves, and when it does not."""
