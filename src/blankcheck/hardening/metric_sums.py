"""What is summed up while a network is trained, over batches and over processes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from blankcheck.errors import ModelError
from blankcheck.parallel.peers import Peers


@dataclass
class MetricSums:
    """Sums of some named values of images, by class, and their means batch by batch.

    Args:
        names: of the values.
        sums: (K, values + 1); the last column counts images.
        each: means of every batch, (values,) each.
        counts: images of every batch.
    """

    names: tuple[str, ...]
    sums: Tensor
    each: list[Tensor] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, names: tuple[str, ...], classes: int, device: torch.device) -> MetricSums:
        """Of nothing yet."""
        return cls(names, torch.zeros(classes, len(names) + 1, device=device, dtype=torch.float64))

    def add(self, values: list[Tensor], classes: Tensor) -> None:
        """One batch: a tensor (n,) for every name, and the class (n,) of each image."""
        ones = torch.ones_like(classes, dtype=torch.float32)
        rows = torch.stack([*(v.detach().float() for v in values), ones], dim=1)
        self.sums.index_add_(0, classes, rows.double())
        self.each.append(rows.mean(dim=0)[:-1])  # NaN of no images
        self.counts.append(len(rows))

    def of_all(self, peers: Peers) -> MetricSums:
        """The same over the images of all processes."""
        if peers.size == 1:
            return self
        counts = torch.tensor(self.counts, dtype=torch.float64)[:, None]
        means = torch.stack(self.each).double().cpu()
        summed = peers.all_reduce_sum(torch.where(counts > 0, counts * means, 0.0))
        together = peers.all_reduce_sum(counts)
        numbers = together.flatten().int().tolist()
        sums = peers.all_reduce_sum(self.sums)
        return MetricSums(self.names, sums, list(summed / together), numbers)

    def means(self) -> dict[str, Any]:
        """Of all images, and under `per_class` of those of each class that has any."""
        sums = self.sums.cpu()
        per_class = {str(k): self._mean(row) for k, row in enumerate(sums) if row[-1] > 0}
        return {**self._mean(sums.sum(dim=0)), "per_class": per_class}

    def _mean(self, row: Tensor) -> dict[str, Any]:
        n = int(row[-1])
        values = (row[:-1] / n).tolist() if n else [None] * len(self.names)
        return {"images": n, **dict(zip(self.names, values, strict=True))}

    def by_batch(self) -> list[dict[str, float | None]]:
        """The means of every batch; None where it had no image."""
        table = torch.stack(self.each).cpu().tolist() if self.each else []
        finite = [[v if math.isfinite(v) else None for v in row] for row in table]
        return [dict(zip(self.names, row, strict=True)) for row in finite]


@dataclass
class Trained:
    """What a round of training saw, in this process until `of_all`.

    Args:
        real: of the real images.
        fooling: of the fooling images.
        shown: images (n, c, h, w) and targets (n,) of some of the fooling images of every batch;
            one pair of all of them in the end.
        seen: fooling images looked at.
        penalties: on what is not proved.
    """

    real: MetricSums
    fooling: MetricSums
    shown: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    seen: int = 0
    penalties: list[Tensor] = field(default_factory=list)

    @property
    def penalty(self) -> float | None:
        """The mean of the penalty over batches; None without one."""
        return float(torch.stack(self.penalties).mean()) if self.penalties else None

    def of_all(self, keep: int, peers: Peers, common: torch.Generator) -> Trained:
        """The same of all processes, and at most `keep` images shown."""
        real, fooling = self.real.of_all(peers), self.fooling.of_all(peers)
        if not bool(torch.cat([real.sums.flatten(), fooling.sums.flatten()]).isfinite().all()):
            raise ModelError("hardening loss became NaN or infinite")
        shown = [pair for each in peers.all_gather(self.shown) for pair in each]
        images, targets = (torch.cat(parts) for parts in zip(*shown, strict=True))
        some = torch.randperm(len(targets), generator=common)[:keep]
        seen = sum(peers.all_gather(self.seen))
        return Trained(real, fooling, [(images[some], targets[some])], seen, self.penalties)
