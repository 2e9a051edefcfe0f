"""What a search sees of a classifier: one forward and one backward for a batch at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.fooling.tensor_ops import lit_features
from blankcheck.outputs import as_logits, log_odds, log_odds_and_slope, run
from blankcheck.types import Classifier, Rows


@dataclass(frozen=True)
class Measurement(Rows):
    """One measurement of a batch; every number belongs to that row's image alone.

    log_odds: (n,) log-odds of the target; NaN outputs give -inf. lit: (n,). gradient: (n, c, h, w) of
    the margin, 0 at masked features. finite: (n,) bool, False where an output is NaN or a gradient
    NaN or infinite: such an image can go no further. A log-probability of -inf is a saturated
    answer, behind which the gradient is lost and counts as 0.
    """

    log_odds: Tensor
    lit: Tensor
    gradient: Tensor
    finite: Tensor

    @property
    def confidence(self) -> Tensor:
        """(n,) probability of the target among all outputs."""
        return self.log_odds.sigmoid()


@dataclass(frozen=True)
class Problem(Rows):
    """Make `classifier` sure of `targets` (n,) under `mask` (n, c, h, w) bool, True where features
    may be lit.

    The classifier's parameters should be frozen, so that only the gradient of the images is
    computed.
    """

    classifier: Classifier
    form: str
    targets: Tensor
    mask: Tensor | None = None

    def score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(confidence, margin), each (n,), of stored images (n, c, h, w). One forward pass."""
        with torch.no_grad():
            margin = log_odds(as_logits(run(self.classifier, images), self.form), self.targets)
        margin = torch.where(margin.isnan(), -torch.inf, margin)
        return margin.sigmoid(), margin

    def score_trials(self, trials: Tensor) -> Tensor:
        """Margins (k, n) of k trial images per row, (k, n, c, h, w). k forward passes of the batch,
        in one call."""
        flat = trials.flatten(0, 1)
        with torch.no_grad():
            logits = as_logits(run(self.classifier, flat), self.form)
            margin = log_odds(logits, self.targets.repeat(len(trials)))
        return torch.where(margin.isnan(), -torch.inf, margin).view(len(trials), -1)

    def measure_without_gradient(self, images: Tensor) -> Measurement:
        """See stored images (n, c, h, w) without a gradient: one forward pass; the gradient is 0."""
        with torch.no_grad():
            margin = log_odds(as_logits(run(self.classifier, images), self.form), self.targets)
        return _seen(
            images, margin, torch.zeros_like(images), torch.zeros_like(margin, dtype=torch.bool)
        )

    def measure(self, images: Tensor) -> Measurement:
        """See stored images (n, c, h, w) with one forward and one backward pass.

        The gradient of each image is that of its own margin: nothing is averaged over the batch.
        """
        with torch.enable_grad():
            leaf = images.detach().requires_grad_(True)
            outputs = run(self.classifier, leaf)
        margin, slope = log_odds_and_slope(outputs.detach(), self.form, self.targets)
        gradient = None  # where the classifier cuts the graph: as flat as a constant
        if outputs.requires_grad:
            (gradient,) = torch.autograd.grad(outputs, leaf, slope, allow_unused=True)
        gradient = torch.zeros_like(images) if gradient is None else gradient
        saturated = (outputs.detach() == -torch.inf).any(dim=1)
        return _seen(
            images, margin, gradient if self.mask is None else gradient * self.mask, saturated
        )


def _seen(images: Tensor, margin: Tensor, gradient: Tensor, saturated: Tensor) -> Measurement:
    # +inf margin is certainty, not an error; its gradient is what may be broken. A sum is finite
    # when every term is.
    wrong, broken = margin.isnan(), ~gradient.flatten(1).sum(dim=1).isfinite()
    gradient = torch.where((broken & saturated)[:, None, None, None], 0.0, gradient)
    finite = ~wrong & (~broken | saturated)
    return Measurement(
        torch.where(wrong, -torch.inf, margin), lit_features(images), gradient, finite
    )
