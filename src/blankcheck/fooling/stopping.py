"""When an image is done: conditions on what was seen of it, and their combinations."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from blankcheck.fooling.problem import Seen

Until = Callable[[Seen], Tensor]
"""From a measurement to booleans (n,), True where the image is done."""


def confident(confidence: float) -> Until:
    """The target has at least this probability, in (0, 1)."""
    return lambda seen: seen.confidence >= confidence


def sparse(max_lit: int) -> Until:
    """At most this many features are lit."""
    return lambda seen: seen.lit <= max_lit


def both(first: Until, second: Until) -> Until:
    """Both hold."""
    return lambda seen: first(seen) & second(seen)
