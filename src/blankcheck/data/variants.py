"""Variants of a data set, named behind its own name: `mnist+lift` or `mnist+lift=0.2`.

Digits on black ground are sparse themselves, so that a fooling image has real relatives. Lifted images have no black left:
every sparse image is then surely out of distribution, while lit features are still counted against 0.
"""

from __future__ import annotations

import re
from dataclasses import replace

from torch import Tensor

from blankcheck.data.splits import Data, Split
from blankcheck.errors import DataError

LIFT = 0.3
SUFFIX = re.compile(r"^(?P<source>.*)\+lift(?:=(?P<by>[^+=/\\]*))?$", re.DOTALL)


def split_variant(source: str) -> tuple[str, float | None]:
    """The name of the data set itself, and by how much it is to be lifted; None for as it is."""
    found = SUFFIX.match(source)
    if found is None:
        return source, None
    text = found["by"]
    try:
        by = LIFT if text is None else float(text)
    except ValueError as error:
        raise DataError(f"data {source!r}: lift must be a number above 0 and below 1, got {text!r}") from error
    if not 0 < by < 1:  # also refuses NaN
        raise DataError(f"data {source!r}: lift must be above 0 and below 1, got {text}")
    return found["source"], by


def lifted(data: Data, by: float = LIFT) -> Data:
    """The same data with every feature raised: x' = min(x + by, 1).

    by: above 0 and below 1. Raises DataError otherwise.
    """
    if not 0 < by < 1:
        raise DataError(f"lift must be above 0 and below 1, got {by}")
    return replace(
        data,
        source=f"{data.source}+lift={by:g}",
        train=_raised(data.train, by),
        validation=_raised(data.validation, by),
        test=_raised(data.test, by),
    )


def _raised(split: Split, by: float) -> Split:
    images: Tensor = (split.images + by).clamp_max(1.0)
    return Split(images, split.labels)
