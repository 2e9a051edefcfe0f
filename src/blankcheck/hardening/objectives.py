"""What a classifier should answer to a fooling image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.errors import ArgumentError
from blankcheck.outputs import log_odds

SPARE = 1.0
"""Log-odds beyond the confidence asked for that real images are pushed to."""


@dataclass(frozen=True)
class Objective:
    """What a network is trained to answer to fooling images.

    Args:
        name: as in `OBJECTIVES`.
        outputs: from the number K of real classes to the number of outputs.
        loss: (logits (n, m), targets (n,), K) -> (n,) nats, for fooling images of these targets.
        fake: (targets (n,), K) -> (n,) the output that each should get; None where there is none.
    """

    name: str
    outputs: Callable[[int], int]
    loss: Callable[[Tensor, Tensor, int], Tensor]
    fake: Callable[[Tensor, int], Tensor] | None


def max_entropy(logits: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Cross-entropy against the uniform distribution over the real classes, less its least value
    log K (outlier exposure, Hendrycks et al. 2019, arXiv:1812.04606, section 4.3)."""
    return -logits.log_softmax(dim=1)[:, :classes].mean(dim=1) - torch.tensor(float(classes)).log()


def fake_classes(logits: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Cross-entropy against the fake class K + t of each target t."""
    return F.cross_entropy(logits, targets + classes, reduction="none")


def reject_class(logits: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Cross-entropy against the one class K that means "none of these"."""
    return F.cross_entropy(logits, torch.full_like(targets, classes), reduction="none")


def confidence_margin_loss(logits: Tensor, labels: Tensor, wanted: float) -> Tensor:
    """For real images: softplus of what their log-odds lack to `wanted` and `SPARE` more, (n, m),
    (n,) -> (n,) nats. Fooling images pull every confidence down, and the cross-entropy hardly minds
    whether an image that is right has 0.88 or 0.92; this does, and vanishes for sure images."""
    return F.softplus(wanted + SPARE - log_odds(logits, labels))


_ALL = (
    Objective("max-entropy", lambda k: k, max_entropy, None),
    Objective("fake-classes", lambda k: 2 * k, fake_classes, lambda t, k: t + k),
    Objective("reject-class", lambda k: k + 1, reject_class, torch.full_like),
)
OBJECTIVES: dict[str, Objective] = {each.name: each for each in _ALL}


def objective_named(name: str) -> Objective:
    """The objective, or ArgumentError."""
    if name not in OBJECTIVES:
        raise ArgumentError(f"objective must be one of {', '.join(OBJECTIVES)}, got {name!r}")
    return OBJECTIVES[name]
