"""Do gradients say what a network does? They are compared with finite differences."""

from __future__ import annotations

import torch
from torch import Tensor

from blankcheck.fooling.problem import Measurement, Problem
from blankcheck.fooling.tensor_ops import movable
from blankcheck.outputs import as_logits, run

DIFFERENCES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-1)
"""Changes of the log-odds, relative to 1 + their size, that finite differences aim at: small ones
for curved networks, a large one for those whose input, not gradient, is rounded."""
ROUNDING = 1e-5
"""Promised changes below this, relative to the logits, and a tenth of it relative to the logarithm
of the others' sum, drown in the rounding of 32-bit arithmetic and say nothing."""
LONGEST_STEP = 0.05
"""In pixel values: a network is curved."""
MOST_APART = 0.5
"""Relative difference between a gradient and a finite difference from which they disagree."""


def contradicted(problem: Problem, images: Tensor, seen: Measurement) -> Tensor:
    """Whether finite differences contradict the gradient, whatever the length of the step.

    Args:
        problem: the network and the target of each image.
        images: (n, c, h, w) in stored form.
        seen: what `problem.measure` saw of them.

    Returns:
        (n,) bool. False also where no step inside [0, 1] promises a change that could be measured.
    """
    drowned = _rounding_error(problem, images)
    direction = movable(images, seen.gradient)
    steepest = direction.flatten(1).abs().amax(dim=1).clamp_min(1e-30)
    direction = direction / steepest.view(-1, 1, 1, 1)
    slope = (seen.gradient * direction).flatten(1).double().sum(dim=1).clamp_min(1e-30)
    measured = agreed = torch.zeros_like(seen.finite)
    for relative in DIFFERENCES:
        length = (relative * (1 + seen.log_odds.abs()) / slope).clamp(max=LONGEST_STEP).float()
        there = (images + length.view(-1, 1, 1, 1) * direction).clamp(0, 1)
        promised = (seen.gradient.double() * (there.double() - images)).flatten(1).sum(dim=1)
        change = problem.score(there)[1] - seen.log_odds
        says = promised > drowned
        # infinite log-odds make NaN here, which does not agree
        agreed = agreed | (says & ((change - promised).abs() <= MOST_APART * promised))
        measured = measured | says
    return measured & ~agreed


@torch.no_grad()
def _rounding_error(problem: Problem, images: Tensor) -> Tensor:
    """(n,) what the log-odds may be off by in 32-bit arithmetic."""
    logits = as_logits(run(problem.classifier, images), problem.form)
    others = logits.scatter(1, problem.targets[:, None], -torch.inf).logsumexp(dim=1)
    return ROUNDING * logits.abs().amax(dim=1) + 0.1 * ROUNDING * others.abs()
