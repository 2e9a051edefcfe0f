"""Real images: one [0, 1] tensor and its labels per split, or images that are read when needed."""

from typing import TYPE_CHECKING

from blankcheck.lazily import exported

if TYPE_CHECKING:
    from blankcheck.data.lazy import LazyImages as LazyImages
    from blankcheck.data.loading import NAMED as NAMED
    from blankcheck.data.loading import load_data as load_data
    from blankcheck.data.split import Split as Split
    from blankcheck.data.splits import Data as Data
    from blankcheck.data.splits import check_data as check_data

__getattr__ = exported(
    __name__, lazy="LazyImages", loading="NAMED load_data", split="Split", splits="Data check_data"
)
