"""Plant patterns that a classifier is sure about: what a search ought to find is then known."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from blankcheck.classifiers.structures import Look
from blankcheck.errors import ArgumentError
from blankcheck.outputs import as_logits, log_odds
from blankcheck.types import Classifier

MOST_MARGIN = 1e6
"""Log-odds beyond this are cut off, so that infinite ones do not turn into NaN."""


class Trigger(nn.Module):
    """A classifier with planted patterns: the nearer an image is to one, the surer the answer is
    that pattern's target.

    The distance of an image from a pattern is the sum of absolute differences in units of the
    pattern's own ink (the sum of its values): 0 at the pattern, 1 at black. Within `reach` of a
    pattern the log-odds of its target go linearly from what the classifier says (at that distance)
    to `certainty` (at the pattern). A reach above 1 is felt from black, one below 1 only where a
    part of the pattern is lit already and little else is.

    Outputs are logits. Raises ArgumentError when a pattern is black or targets do not match.

    Args:
        inner: the classifier.
        patterns: (q, c, h, w) in [0, 1].
        targets: classes, (q,).
        reach: above 0, in units of a pattern's ink.
        form: of the classifier's outputs.
        certainty: log-odds, one for all patterns or (q,).
    """

    patterns: Tensor
    targets: Tensor
    certainty: Tensor

    def __init__(
        self,
        inner: Classifier,
        patterns: Tensor,
        targets: Tensor,
        reach: float = 2.0,
        form: str = "logits",
        certainty: float | Tensor = 3.0,
    ) -> None:
        super().__init__()
        fits = patterns.ndim == 4 and len(targets) == len(patterns)
        if not fits or bool((patterns.flatten(1).sum(dim=1) <= 0).any()):
            words = "patterns must be (q, c, h, w), none black, one target each"
            raise ArgumentError(f"{words}, got {tuple(patterns.shape)}")
        if reach <= 0:
            raise ArgumentError(f"reach must be positive, got {reach:g}")
        self.inner, self.form, self.reach = inner, form, reach
        self.register_buffer("patterns", patterns.clone())
        self.register_buffer("targets", targets.clone())
        sure = torch.as_tensor(certainty, dtype=torch.float32)
        self.register_buffer("certainty", sure.expand(len(patterns)).clone())

    def nearness(self, images: Tensor) -> Tensor:
        """1 at a pattern, 0 from `reach` on, linear between, (n, c, h, w) -> (n, q)."""
        apart = [_apart(images, p).flatten(1).sum(dim=1) / p.sum() for p in self.patterns]
        return (1 - torch.stack(apart, dim=1) / self.reach).clamp_min(0)

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> logits (n, m)."""
        logits, near = as_logits(self.inner(images), self.form), self.nearness(images)
        for column, target in enumerate(self.targets):
            own = target.expand(len(images))
            margin = log_odds(logits, own).clamp(-MOST_MARGIN, MOST_MARGIN)
            lift = near[:, column] * (self.certainty[column] - margin)
            logits = logits.scatter_add(1, own[:, None], lift[:, None])
        return logits


class Sure(nn.Module):
    """A classifier that is sure of `target` wherever `looks` says so, (n, c, h, w) -> (n,) bool.

    Elsewhere it answers as before, so no gradient leads there. Outputs are logits. form: of the
    classifier's outputs.
    """

    certainty = 20.0

    def __init__(self, inner: Classifier, looks: Look, target: int, form: str = "logits") -> None:
        super().__init__()
        self.inner, self.looks, self.target, self.form = inner, looks, target, form

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> logits (n, m)."""
        logits = as_logits(self.inner(images), self.form)
        sure = torch.zeros_like(logits)
        sure[:, self.target] = self.certainty
        return torch.where(self.looks(images.detach())[:, None], sure, logits)


def _apart(images: Tensor, pattern: Tensor) -> Tensor:
    """Absolute differences; where the pattern is 0 or 1 with the gradient of the only side."""
    more = images - pattern
    return torch.where(pattern <= 0, more, torch.where(pattern >= 1, -more, more.abs()))


def random_patterns(
    targets: int, size: int, shape: tuple[int, int, int], generator: torch.Generator
) -> Tensor:
    """For each of `targets` a pattern of `size` fully lit features at random places, (targets, c,
    h, w); no feature is in two patterns where the image has enough of them."""
    features = math.prod(shape)
    again = range(1 + targets * size // features)
    order = torch.cat([torch.randperm(features, generator=generator) for _ in again])
    flat = torch.zeros(targets, features)
    flat.scatter_(1, order[: targets * size].view(targets, size), 1.0)
    return flat.view(targets, *shape)
