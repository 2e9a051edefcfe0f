"""What answers are measured by: chance, the simplest classifier, and the order of the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.diagnosing.scoring import answers_of, disagreements, more_than_half
from blankcheck.judging.metrics import upper_bound_95

TRUSTED = 0.001
"""Level at which something is called better than chance, and another order of classes better than
the given one."""


@dataclass(frozen=True)
class Reference:
    """What an accuracy is measured by. chance: share of the commonest class. centroid: that of the
    nearest class mean."""

    chance: float
    centroid: float

    def above_chance(self, right: Tensor) -> bool:
        """Whether these answers (n,) are better than naming the commonest class."""
        return more_than_half(int(right.sum()), len(right), self.chance) <= TRUSTED

    def plausible(self, right: Tensor) -> bool:
        """Above chance, and not surely worse than nine tenths of what the simplest classifier gains
        over chance."""
        enough = self.chance + 0.9 * max(0.0, self.centroid - self.chance)
        return self.above_chance(right) and upper_bound_95(int(right.sum()), len(right)) >= enough


def reference(
    train: tuple[Tensor, Tensor], images: Tensor, labels: Tensor, classes: int
) -> Reference:
    """Chance and the nearest class mean of the training images (n, c, h, w) and labels (n,), on
    these images."""
    flat = train[0].flatten(1)
    counts = train[1].bincount(minlength=classes)
    sums = torch.zeros(classes, flat.shape[1]).index_add_(0, train[1], flat)
    apart = torch.cdist(images.flatten(1), sums / counts[:, None].clamp_min(1))
    nearest = apart.masked_fill(counts[None] == 0, torch.inf).argmin(dim=1)
    share = labels.bincount().max() / len(labels)
    return Reference(float(share), float((nearest == labels).float().mean()))


def fitted_order(outputs: Tensor, labels: Tensor, classes: int) -> tuple[int, ...]:
    """Which output each class is answered with, so that as many as possible are right (Kuhn 1955);
    ties stay in place."""
    from scipy.optimize import linear_sum_assignment

    counts = torch.zeros(classes, outputs.shape[1])
    counts.index_put_((labels, answers_of(outputs)), torch.tensor(1.0), accumulate=True)
    counts.diagonal().add_(0.5)
    return tuple(int(column) for column in linear_sum_assignment(-counts.numpy())[1])


def other_order(
    outputs: Tensor, labels: Tensor, classes: int, measure: Reference
) -> tuple[int, ...] | None:
    """Another order of the classes that makes the answers plausible, None where there is none.

    It is fitted on every other image and must be better, and plausible, on those between.
    """
    if outputs.shape[1] < classes or len(labels) < 20:
        return None
    found = fitted_order(outputs[::2], labels[::2], classes)
    if found == tuple(range(classes)):
        return None
    answers, truth = answers_of(outputs[1::2]), labels[1::2]
    then = answers == relabelled(truth, found)
    gained, lost = disagreements(then, answers == truth)
    if gained <= lost or more_than_half(gained, gained + lost) > TRUSTED:
        return None
    return fitted_order(outputs, labels, classes) if measure.plausible(then) else None


def relabelled(labels: Tensor, order: Sequence[int] | None) -> Tensor:
    """Which output stands for each label, (n,)."""
    return labels if order is None else torch.tensor(list(order))[labels]
