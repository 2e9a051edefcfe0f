"""Work that several processes can share: numbered pieces, each done by exactly one of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class Spread(Protocol):
    """`spread(n, do)` hands back do(0) ... do(n - 1), in this order, to every process taking part.

    Each piece is done by one of them, whichever is free. What it gives must not depend on which one
    that is, and is plain: tensors, numbers, texts and dataclasses of these. Every process must call
    it with the same pieces in the same order.
    """

    def __call__(self, n: int, do: Callable[[int], Any]) -> list[Any]:
        """The results of all pieces."""
        ...


def alone(n: int, do: Callable[[int], Any]) -> list[Any]:
    """The spread of one process, which does everything itself."""
    return [do(index) for index in range(n)]
