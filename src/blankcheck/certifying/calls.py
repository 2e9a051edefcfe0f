"""One operation of an exported network, as those see it who write it down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from blankcheck.certifying.layers import Layers
from blankcheck.errors import ModelError


@dataclass(frozen=True)
class At:
    """A value that depends on the image: the position of its layer."""

    position: int


@dataclass(frozen=True)
class Call:
    """One operation. args, kwargs: its arguments, an `At` where they depend on the image. after:
    shape of its result for one image. one: the number 1, of the type and on the device of all
    layers."""

    layers: Layers
    args: Sequence[Any]
    kwargs: dict[str, Any]
    after: tuple[int, ...]
    one: Tensor
    name: str

    def arg(self, index: int, default: Any = None) -> Any:
        """A positional argument, or its default."""
        found = self.args[index] if index < len(self.args) else None
        return default if found is None else found

    def image(self, index: int = 0) -> int:
        """The layer of an argument that must depend on the image; the other arguments of such an
        operation may not."""
        found = self.arg(index)
        others = [
            a
            for i, a in enumerate((*self.args, *self.kwargs.values()))
            if i != index and isinstance(a, At)
        ]
        if not isinstance(found, At) or others:
            raise self.refused("with values that depend on the image on both sides")
        return found.position

    @property
    def before(self) -> tuple[int, ...]:
        """Shape of one image's values in the first argument."""
        return self.layers.shape(self.image())

    def dims(self, index: int) -> list[int]:
        """The axes that an argument names, those of a batch being 0 and refused; all where it names
        none."""
        given, ndim = self.arg(index), len(self.before) + 1
        dims = [d % ndim for d in ([given] if isinstance(given, int) else given) or range(ndim)]
        if 0 in dims:
            raise self.mixed()
        return dims

    def constant(self, value: Any) -> Tensor:
        """A number or a tensor that broadcasts to (1, *after)."""
        tensor = (
            value.to(self.one.dtype) if isinstance(value, Tensor) else self.one.new_tensor(value)
        )
        too_many = tensor.ndim > len(self.after) + 1 or (
            tensor.ndim == len(self.after) + 1 and len(tensor) > 1
        )
        if too_many:
            raise self.refused("with a constant for each image of a batch")
        return tensor

    def mixed(self) -> ModelError:
        """One line."""
        return ModelError(
            f"model mixes the images of a batch in the operation {self.name}, which cannot be certified"
        )

    def refused(self, how: str) -> ModelError:
        """One line."""
        return ModelError(f"model uses the operation {self.name} {how}, which cannot be certified")


def pair(value: Sequence[int] | int) -> tuple[int, int]:
    """A size given once or for both directions."""
    sizes = [value] if isinstance(value, int) else list(value)
    return (sizes[0], sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])
