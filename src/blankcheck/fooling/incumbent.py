"""The best image of each row so far, and what is compared with it. Nothing here makes the host wait
for a device, but asking whether images are accepted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blankcheck.fooling.host_sync import sync_is_free
from blankcheck.types import NEVER, Accept, Rows, stored


@dataclass(frozen=True)
class Best(Rows):
    """The best image so far. rank: 0 not confident, 1 confident, 2 also sparse, 3 also accepted.
    done: rows that are finished, or broken (finite False), and change no more. steps, forwards:
    backward and forward passes used by rows that are done. found_at: backward passes used when the
    image was met."""

    images: Tensor
    log_odds: Tensor
    lit: Tensor
    rank: Tensor
    fewest: Tensor
    finite: Tensor
    done: Tensor
    steps: Tensor
    forwards: Tensor
    found_at: Tensor


@dataclass(frozen=True)
class Candidates:
    """Images in stored form (n, c, h, w) that were scored, and when: after so many backward and
    forward passes. finite: as in `Measurement`, of images that were measured."""

    images: Tensor
    log_odds: Tensor
    lit: Tensor
    finite: Tensor | None
    steps: int
    forwards: int


def nothing(images: Tensor) -> Best:
    """Before the first measurement of images (n, c, h, w)."""
    zero = images.new_zeros(len(images))
    whole = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    return Best(
        stored(images),
        zero - torch.inf,
        whole,
        whole - 1,
        whole + NEVER,
        whole == 0,
        whole > 0,
        *[whole] * 3,
    )


def ranks_of(
    waiting: list[Candidates], best: Best, needed: float, max_lit: int, accept: Accept | None
) -> list[Tensor]:
    """The ranks (n,), as in `Best`, of everything that waits. The acceptance test costs as much as
    a pass: it is asked once, about all images that may become the best of their rows, and about no
    others."""
    ranks = []
    for shown in waiting:
        rank = (shown.log_odds >= needed).long()
        ranks.append(rank + (rank > 0) * (shown.lit <= max_lit))
    if accept is None or not waiting:
        return [torch.where(rank == 2, 3, rank) for rank in ranks]
    asks = torch.stack(
        [
            (rank == 2) & ((best.rank < 3) | (shown.lit < best.lit)) & ~best.done
            for shown, rank in zip(waiting, ranks, strict=True)
        ]
    )
    many = asks.sum(dim=1).tolist()
    if not any(many):
        return ranks
    rows = torch.split(asks.nonzero()[:, 1], many)
    images = torch.cat([shown.images[index] for shown, index in zip(waiting, rows, strict=True)])
    answers = torch.split(accept(images).to(ranks[0].dtype), many)
    return [
        rank.index_add(0, index, answer)
        for rank, index, answer in zip(ranks, rows, answers, strict=True)
    ]


def still_asked(rank: Tensor, shown: Candidates, best: Best) -> Tensor:
    """The ranks (n,) of images that were asked about together with earlier ones, as if one had been
    asked about after the
    other: where an earlier one was accepted and has no more lit features, nobody would have
    asked."""
    return torch.where((rank == 3) & (best.rank == 3) & (shown.lit >= best.lit), 2, rank)


def better_of(best: Best, shown: Candidates, rank: Tensor, needed: float) -> Best:
    """The better one of each row, of these images of this `rank` (n,) and the best so far."""
    margin, lit = shown.log_odds, shown.lit
    fewer = (lit < best.lit) | ((lit == best.lit) & (margin > best.log_odds))
    better = (rank > best.rank) | (
        (rank == best.rank) & torch.where(rank > 0, fewer, margin > best.log_odds)
    )
    better &= ~best.done & ((margin > -torch.inf) | (best.rank < 0))
    met = (margin >= needed) & ~best.done
    fewest = torch.where(met, torch.minimum(lit, best.fewest), best.fewest)
    if sync_is_free(shown.images.device) and not bool(better.any()):
        return replace(best, fewest=fewest)
    return replace(
        best,
        images=torch.where(better[:, None, None, None], shown.images, best.images),
        log_odds=torch.where(better, margin, best.log_odds),
        lit=torch.where(better, lit, best.lit),
        rank=torch.where(better, rank, best.rank),
        fewest=fewest,
        found_at=torch.where(better, shown.steps, best.found_at),
    )
