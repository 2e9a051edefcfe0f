"""Real images: one [0, 1] tensor and its labels per split, or images that are read when they are
asked for."""

from blankcheck.data.lazy import LazyImages
from blankcheck.data.loading import NAMED, load_data
from blankcheck.data.splits import Data, Split

__all__ = ["NAMED", "Data", "LazyImages", "Split", "load_data"]
