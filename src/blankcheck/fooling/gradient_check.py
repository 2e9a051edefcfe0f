"""Do gradients say what a network does? They are compared with one-sided finite differences."""

from __future__ import annotations

import torch
from torch import Tensor

from blankcheck.fooling.problem import Measurement, Problem
from blankcheck.fooling.tensor_ops import movable
from blankcheck.outputs import as_logits, run
from blankcheck.seeds import seeded

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
BESIDE = (1e-4, 1e-3)
"""How far features are moved at random to get away from ties. Below 1/512, so that whoever counts
what is lit sees the same image; the larger one where the smaller drowns in rounding."""
DRAWS = 4
"""Places beside an image at each distance."""
ALIKE = (0.25, 4.0)
"""How far the gradient at a tie may go along the mean of those beside it, relative to how far each
of these goes along that of the rest: 1 for a branch taken at random (0.88 to 1.08 was seen on MNIST
with max pooling), 0 for an unrelated direction, -1 for the wrong sign. Small networks vary more."""


def contradicted(problem: Problem, images: Tensor, seen: Measurement) -> Tensor:
    """Whether finite differences contradict the gradient, whatever the length of the step.

    At a tie, as max pooling has them wherever neighbours are equally dark, a network has several
    gradients, one for each winner, and backward passes give one of them; a step in its direction
    lets others win. So where a difference contradicts, the places beside the image are asked, where
    there are no ties. The gradient stands if theirs are confirmed and it is one of their kind.

    Args:
        problem: the network and the target of each image.
        images: (n, c, h, w) in stored form.
        seen: what `problem.measure` saw of them.

    Returns:
        (n,) bool. False also where no step inside [0, 1] promises a change that could be measured.
    """
    measured, agreed = _compared(problem, images, seen)
    wrong = measured & ~agreed
    rows = wrong.nonzero().squeeze(1)
    if len(rows):
        wrong[rows] = ~_tied(problem.rows(rows), images[rows], seen.gradient[rows])
    return wrong


def _tied(problem: Problem, images: Tensor, gradient: Tensor) -> Tensor:
    """(n,) bool: gradients beside the images are confirmed, and these are of their kind."""
    tied = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    for distance in BESIDE:
        gradients, confirmed = [], torch.zeros(len(images), device=images.device)
        for draw in range(DRAWS):
            moves = torch.rand(images.shape, generator=seeded("beside", distance, draw))
            moves = distance * (2 * moves - 1).to(images.device)
            # into [0, 1] from its borders, where nearly all features of a sparse image are
            moves = torch.where(images <= 0, moves.abs(), moves)
            there = images + torch.where(images >= 1, -moves.abs(), moves)
            seen = problem.measure(there)
            measured, agreed = _compared(problem, there, seen)
            confirmed += measured & agreed & seen.finite
            gradients.append(seen.gradient.flatten(1))
        tied |= (confirmed > DRAWS / 2) & _of_their_kind(
            gradient.flatten(1), torch.stack(gradients)
        )
    return tied


def _of_their_kind(one: Tensor, others: Tensor) -> Tensor:
    """(n,) bool: a gradient (n, d) goes about as far along the mean of others (k, n, d) as each of
    those along the mean of the rest."""
    (k, least, most), total = (len(others), *ALIKE), others.sum(dim=0)
    along = (one * total).sum(dim=1) / k
    usual = (others * (total - others)).sum(dim=2).mean(dim=0) / (k - 1)
    return (along >= least * usual) & (along <= most * usual)


def _compared(problem: Problem, images: Tensor, seen: Measurement) -> tuple[Tensor, Tensor]:
    """(n,) bool each: some difference can be measured; one of these agrees with the gradient."""
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
    return measured, agreed


@torch.no_grad()
def _rounding_error(problem: Problem, images: Tensor) -> Tensor:
    """(n,) what the log-odds may be off by in 32-bit arithmetic."""
    logits = as_logits(run(problem.classifier, images), problem.form)
    others = logits.scatter(1, problem.targets[:, None], -torch.inf).logsumexp(dim=1)
    return ROUNDING * logits.abs().amax(dim=1) + 0.1 * ROUNDING * others.abs()
