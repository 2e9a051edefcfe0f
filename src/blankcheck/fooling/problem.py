"""What a search sees of a classifier: one forward and one backward for a batch at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.outputs import as_logits, log_odds, run
from blankcheck.types import Classifier, Rows, count_lit


@dataclass(frozen=True)
class Seen(Rows):
    """One measurement of a batch; every number belongs to that row's image alone.

    confidence: (n,) probability of the target among all outputs. margin: (n,) log-odds of the target. lit: (n,).
    gradient: (n, c, h, w) of the margin; masked features have 0. finite: (n,) bool, False where an output or gradient
    is NaN or infinite (their margin and gradient are then replaced by numbers that move nothing).
    """

    confidence: Tensor
    margin: Tensor
    lit: Tensor
    gradient: Tensor
    finite: Tensor


@dataclass(frozen=True)
class Problem(Rows):
    """Make `classifier` sure of `targets` (n,) under `mask` (n, c, h, w) bool, True where features may be lit.

    The classifier's parameters should be frozen, so that only the gradient of the images is computed.
    """

    classifier: Classifier
    form: str
    targets: Tensor
    mask: Tensor | None = None

    def score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(confidence, margin), each (n,), of stored images (n, c, h, w). One forward pass."""
        with torch.no_grad():
            margin = log_odds(as_logits(run(self.classifier, images), self.form), self.targets)
        return margin.sigmoid(), margin

    def measure(self, images: Tensor) -> Seen:
        """See stored images (n, c, h, w) with one forward and one backward pass.

        Margins are summed, not averaged, before the gradient: an image's gradient does not depend on its neighbours.
        """
        with torch.enable_grad():
            leaf = images.detach().requires_grad_(True)
            margin = log_odds(as_logits(run(self.classifier, leaf), self.form), self.targets)
            if margin.requires_grad:
                (gradient,) = torch.autograd.grad(margin.sum(), leaf, allow_unused=True)
            else:
                gradient = None  # the classifier cut the graph: as flat as a constant
        margin = margin.detach()
        gradient = torch.zeros_like(images) if gradient is None else gradient
        # +inf margin is certainty, not an error; its gradient is what may be broken
        finite = ~margin.isnan() & gradient.flatten(1).isfinite().all(dim=1)
        gradient = torch.where(finite[:, None, None, None], gradient, 0.0)
        if self.mask is not None:
            gradient = gradient * self.mask
        margin = torch.where(margin.isnan(), -torch.inf, margin)
        return Seen(margin.sigmoid(), margin, count_lit(images), gradient, finite)
