"""Real images: one [0, 1] tensor and its labels per split."""

from blankcheck.data.loading import NAMED, load_data
from blankcheck.data.splits import Data, Split

__all__ = ["NAMED", "Data", "Split", "load_data"]
