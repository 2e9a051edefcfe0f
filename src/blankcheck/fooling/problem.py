"""What is asked of a classifier, and what a search sees of it in one pass for a whole batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.errors import ArgumentError, ModelError
from blankcheck.fooling.tensor_ops import lit_features
from blankcheck.outputs import as_logits, log_odds, log_odds_and_slope, run
from blankcheck.types import Accept, Classifier, Rows
from blankcheck.users import is_no_fault, said

UNTIL = ("met", "sparsest")


@dataclass(frozen=True)
class Goal:
    """What is wanted of each image.

    Args:
        confidence: least probability of the target, in (0, 1).
        max_lit: most lit features.
        until: `met` stops an image once all of it holds; `sparsest` goes on for fewer lit.
        accept: a further condition, asked of images that meet the others.
    """

    confidence: float = 0.9
    max_lit: int = 300
    until: str = "met"
    accept: Accept | None = None

    def __post_init__(self) -> None:
        if self.until not in UNTIL:
            raise ArgumentError(f"until must be one of {', '.join(UNTIL)}, got {self.until!r}")

    @property
    def target_confidence(self) -> float:
        """The confidence asked for inside the loop: a hair more, so that scoring again elsewhere,
        which moves a probability by about 1e-5, does not lose it."""
        return self.confidence + 1e-3 * (1 - self.confidence)

    @property
    def target_log_odds(self) -> float:
        """`target_confidence` as log-odds."""
        return math.log(self.target_confidence / (1 - self.target_confidence))


@dataclass(frozen=True)
class Measurement(Rows):
    """What was seen of a batch; every number belongs to that row's image alone.

    Args:
        log_odds: (n,) of the target; NaN outputs give -inf.
        lit: (n,) lit features.
        gradient: (n, c, h, w) of the log-odds, 0 at masked features.
        finite: (n,) bool, False where an output is NaN or a gradient NaN or infinite, which is the
            end. A log-probability of -inf is a saturated answer, whose lost gradient counts as 0.
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
    """Make a classifier sure of a target for each image.

    Args:
        classifier: its parameters should be frozen, so that only the images' gradient is computed.
        form: of its outputs, one of `outputs.OUTPUT_FORMS`.
        targets: (n,) classes.
        mask: (n, c, h, w), True or 1 where features may be lit; None for everywhere.
    """

    classifier: Classifier
    form: str
    targets: Tensor
    mask: Tensor | None = None

    def score(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(confidence, log-odds), each (n,), of stored images (n, c, h, w). One forward pass."""
        odds = _or_minus_infinity(self._log_odds(images, self.targets))
        return odds.sigmoid(), odds

    def score_trials(self, trials: Tensor) -> Tensor:
        """Log-odds (k, n) of k trial images per row, (k, n, c, h, w): k forward passes at once."""
        odds = self._log_odds(trials.flatten(0, 1), self.targets.repeat(len(trials)))
        return _or_minus_infinity(odds).view(len(trials), -1)

    def measure_without_gradient(self, images: Tensor) -> Measurement:
        """See stored images (n, c, h, w) with one forward pass; the gradient is 0."""
        odds, flat = self._log_odds(images, self.targets), torch.zeros_like(images)
        return Measurement(_or_minus_infinity(odds), lit_features(images), flat, ~odds.isnan())

    def measure(self, images: Tensor) -> Measurement:
        """See stored images (n, c, h, w) with one forward and one backward pass.

        The gradient of each image is that of its own log-odds: nothing is averaged over the batch.
        """
        with torch.enable_grad():
            leaf = images.detach().requires_grad_(True)
            outputs = run(self.classifier, leaf)
        odds, slope = log_odds_and_slope(outputs.detach(), self.form, self.targets)
        gradient = None  # where the classifier cuts the graph: as flat as a constant
        if outputs.requires_grad:
            try:
                (gradient,) = torch.autograd.grad(outputs, leaf, slope, allow_unused=True)
            except BaseException as error:  # a user's layer may have a backward pass of its own
                if is_no_fault(error):
                    raise
                raise ModelError(f"model gives no gradient for images: {said(error)}") from error
        gradient = torch.zeros_like(images) if gradient is None else gradient
        gradient = gradient if self.mask is None else gradient * self.mask
        # log-odds of +inf are certainty, whose gradient may be broken; finite sums have finite
        # terms
        broken = ~gradient.flatten(1).sum(dim=1).isfinite()
        saturated = (outputs.detach() == -torch.inf).any(dim=1)
        gradient = torch.where((broken & saturated)[:, None, None, None], 0.0, gradient)
        finite = ~odds.isnan() & (~broken | saturated)
        return Measurement(_or_minus_infinity(odds), lit_features(images), gradient, finite)

    @torch.no_grad()
    def _log_odds(self, images: Tensor, targets: Tensor) -> Tensor:
        return log_odds(as_logits(run(self.classifier, images), self.form), targets)


def _or_minus_infinity(odds: Tensor) -> Tensor:
    return torch.where(odds.isnan(), -torch.inf, odds)
