"""Pictures of Pillow as arrays: grey or colour, of 8 bits or more, whole or their middle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blankcheck.data.variants import Crop
from blankcheck.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

DEPTHS = {"I;16": 65535, "I;16L": 65535, "I;16B": 65535, "I;16N": 65535, "F": 1}
"""Modes of files of one channel with more than 8 bits, and what stands for white in them."""
GREY = ("1", "L", "I", *DEPTHS)
"""Modes of files that are read as one channel; all others as red, green and blue."""


def decoded(image: Image, what: str, crop: Crop | None, grey: bool | None = None) -> NDArray[Any]:
    """(h, w, 1) or (h, w, 3): bytes, or floats of what has more than 8 bits.

    Args:
        image: the picture.
        what: what error messages call it.
        crop: what is cut out of it, None for all of it.
        grey: one channel, three, or None for as many as the picture has.
    """
    grey = image.mode in GREY if grey is None else grey
    whole = _unit(image, what) if image.mode in ("I", *DEPTHS) else None
    if whole is None:
        whole = image.convert("L" if grey else "RGB")
    cut = np.asarray(whole if crop is None else cropped(whole, crop))
    wide = cut if cut.ndim == 3 else cut[:, :, None]
    return wide if grey or wide.shape[2] == 3 else wide.repeat(3, axis=2)


def _unit(image: Image, what: str) -> Image:
    """An image of more than 8 bits as floats, in which 1 is white."""
    from PIL import Image

    white = DEPTHS.get(image.mode)
    if white is None and image.format == "PNG":
        white = 65535  # of which no other depth is opened so
    if white is None:
        words = "has 32 bits to a pixel, of which nothing says what is white"
        raise DataError(f"{what} {words}; save it as floats in [0, 1]")
    return Image.fromarray(np.asarray(image).astype(np.float32) / white)


def stacked(images: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """(n, h, w, c); where some are floats, all of them."""
    if any(image.dtype != np.uint8 for image in images):
        images = [i / np.float32(255) if i.dtype == np.uint8 else i for i in images]
    return np.stack(images)


def cropped(image: Image, crop: Crop) -> Image:
    """The square in the middle whose side is `crop.side` when the image's shorter side is made
    `crop.of`: bilinear, and averaged over the source where it is made smaller."""
    from PIL.Image import Resampling

    side = min(image.size) * crop.side / crop.of
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((crop.side, crop.side), Resampling.BILINEAR, box=box)
