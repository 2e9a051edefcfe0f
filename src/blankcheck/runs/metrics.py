"""The records of `metrics.jsonl` that are read again, one struct for each kind."""
# ruff: noqa: D101

from __future__ import annotations

from typing import Any

from msgspec import Struct

from blankcheck.runs.folder import METRICS, RunFolder
from blankcheck.runs.schema import Count, Index, Median, Share, checked

Records = tuple[dict[str, Any], ...]


class Epoch(Struct, tag_field="kind", tag="epoch"):
    epoch: Count
    real_loss: float


class Trained(Struct, tag_field="kind", tag="train"):
    real_accuracy: Share
    real_confident: Share
    seconds: float


class Round(Struct, tag_field="kind", tag="round"):
    index: Index
    real_loss: float
    fooling_loss: float
    validation_accuracy: Share
    validation_confident: Share
    fresh_attempts: Count
    fresh_rate: Share
    fresh_confident: Share
    fresh_fewest: Count | None
    fresh_upper_95: Share | None = None
    backward: Count | None = None
    training_seconds: float | None = None
    looking_seconds: float | None = None


class ImageSet(Struct, tag_field="kind", tag="set"):
    what: str
    round: Index
    images: Count
    fooled: Share | None
    set_round: Index | None = None

    def __post_init__(self) -> None:
        if self.images and self.fooled is None:
            raise ValueError("fooled must be a number, got null")
        if self.what in ("trained", "fresh") and self.set_round is None:
            raise ValueError("lacks 'set_round'")


class RealImages(Struct, tag_field="kind", tag="real"):
    split: str
    round: Index
    accuracy: Share | None = None
    confident: Share | None = None
    taken_for_fake: Share | None = None
    calibration_error: Share | None = None


class Quantiles(Struct):
    q10: Median
    q50: Median
    q90: Median


class Search(Struct, tag_field="kind", tag="search"):
    """How a search of the network of a round went; no image was confident where `lit` is null."""

    what: str
    round: Index
    lit: Quantiles | None = None


KINDS: dict[str, type[Struct]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (Epoch, Trained, Round, ImageSet, RealImages, Search)
}
"""By `kind`; records of other kinds are for people."""


def read_metrics(run: RunFolder) -> dict[str, Records]:
    """The records of each kind. Raises RunFolderError."""
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for number, record in enumerate(run.read_lines(METRICS), 1):
        where = f"{run / METRICS} line {number}"
        kind = checked(record, dict[str, Any], where).get("kind")
        if isinstance(kind, str) and kind in KINDS:
            checked(record, KINDS[kind], where)
            found[kind].append(record)
    return {kind: tuple(records) for kind, records in found.items()}
