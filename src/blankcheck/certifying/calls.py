"""One operation of an exported network, as those see it who write it down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from blankcheck.certifying.layers import Layers
from blankcheck.errors import ModelError


@dataclass(frozen=True)
class At:
    """A value that depends on the image: the position of its layer."""

    position: int


@dataclass(frozen=True)
class Call:
    """One operation. args, kwargs: its arguments, an `At` where they depend on the image. after: shape of its result for one
    image."""

    layers: Layers
    args: Sequence[Any]
    kwargs: dict[str, Any]
    after: tuple[int, ...]
    dtype: torch.dtype
    name: str

    def arg(self, index: int, default: Any = None) -> Any:
        """A positional argument, or its default."""
        found = self.args[index] if index < len(self.args) else None
        return default if found is None else found

    def image(self, index: int = 0) -> int:
        """The layer of an argument that must depend on the image; the other arguments of such an operation may not."""
        found = self.arg(index)
        others = [a for i, a in enumerate(self.args) if i != index and isinstance(a, At)]
        if not isinstance(found, At) or others:
            raise self.refused("with values that depend on the image on both sides")
        return found.position

    def constant(self, value: Any) -> Tensor:
        """A number or a tensor that broadcasts to (1, *after)."""
        tensor = value.to(self.dtype) if isinstance(value, Tensor) else torch.tensor(value, dtype=self.dtype)
        too_many = tensor.ndim > len(self.after) + 1 or (tensor.ndim == len(self.after) + 1 and len(tensor) > 1)
        if too_many:
            raise self.refused("with a constant for each image of a batch")
        return tensor

    def refused(self, how: str) -> ModelError:
        """One line."""
        return ModelError(f"model uses the operation {self.name} {how}, which cannot be certified")


def pair(value: Sequence[int] | int) -> tuple[int, int]:
    """A size given once or for both directions."""
    sizes = [value] if isinstance(value, int) else list(value)
    return (sizes[0], sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])
