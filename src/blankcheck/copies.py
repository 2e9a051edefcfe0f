"""Images that occur more than once in a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from blankcheck.types import Images, images_at_once

MOST_COPIES, MOST_SHARE = 20, 0.01
"""Up to so many equal images, or up to this share of all, are copies of one; more are a value that
the data often take."""


def first_copies(images: Images, index: Tensor | None = None) -> Tensor:
    """For each image the position of the first one with the same values.

    Args:
        images: (n, c, h, w). Those that are read only as they are asked for count as all different:
            reading them for this would take too long.
        index: positions (k,) of the images to look at; all if None.

    Returns:
        (k,) positions in the index. Images of which there are very many (`MOST_COPIES`,
        `MOST_SHARE`) count as different: a blank tile that is a tenth of all data belongs into
        every part.
    """
    wanted = torch.arange(len(images)) if index is None else index
    if not isinstance(images, Tensor):
        return torch.arange(len(wanted))
    known: dict[bytes, int] = {}
    firsts: list[int] = []
    for part in torch.split(wanted, images_at_once(images.shape[1:])):
        for row in images[part].contiguous().flatten(1).numpy():
            digest = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
            firsts.append(known.setdefault(digest, len(firsts)))
    found = torch.tensor(firsts, dtype=torch.int64)
    often = found.bincount(minlength=len(found))[found] > max(MOST_COPIES, MOST_SHARE * len(found))
    return torch.where(often, torch.arange(len(found)), found)


def digest_of(image: Tensor) -> str:
    """Sixteen hex digits of the values of an image (c, h, w): equal images have equal ones."""
    return hashlib.blake2b(image.contiguous().numpy().tobytes(), digest_size=8).hexdigest()


def cut_together(order: Tensor, firsts: Tensor, borders: Sequence[int]) -> list[Tensor]:
    """Cut a random order of images; copies of an image all go where the first of them falls.

    Otherwise images that a test was fitted on would calibrate it as well, and it would find all
    others unusual.

    Args:
        order: (n,) positions of images.
        firsts: (n,) from `first_copies`.
        borders: where to cut. Where no image occurs twice, the parts are order[:b0], order[b0:b1],
            and so on.
    """
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    part = torch.bucketize(rank[firsts[order]], torch.tensor(list(borders)), right=True)
    return [order[part == i] for i in range(len(borders) + 1)]
