"""Remove lit features while the image stays confident."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blankcheck.fooling.problem import Goal, Problem
from blankcheck.fooling.tensor_ops import turns_between_syncs
from blankcheck.types import Fooling, Outcome, Rows, count_lit

SWEEPS = 2
"""Backward passes one polish may use."""


@dataclass(frozen=True)
class _Trial(Rows):
    """order: (n, d) features by rising influence, of which `count` are lit. at: next position to
    try in it; size: how many. used, budget: forward passes. All but images and order are (n,)."""

    images: Tensor
    confidence: Tensor
    order: Tensor
    count: Tensor
    at: Tensor
    size: Tensor
    dropped: Tensor
    used: Tensor
    budget: Tensor


def polish(
    problem: Problem, found: Fooling, goal: Goal, forwards: Tensor | int, sweeps: int = SWEEPS
) -> Fooling:
    """Try to darken the lit features of confident images, least influence first, a few at a time.

    Influence is the first-order loss of log-odds, gradient x value, from one backward pass. A block
    whose removal keeps the confidence is gone; else the block is halved; a single feature that
    cannot go stays. Sweeps repeat until one changes nothing (the image is then a local minimum: no
    single lit feature can be removed), or the budget is spent. No image's budget depends on the
    others. Images that were not confident, and rows whose goal would be lost, come back as they
    are.

    Args:
        problem: what the images were searched for.
        found: what the search handed back.
        goal: what is wanted of each image.
        forwards: most forward passes, one number or one for each image (n,).
        sweeps: most backward passes.
    """
    confident = found.confidence >= goal.target_confidence
    chosen = confident.nonzero().squeeze(1)
    spent, backwards = torch.zeros_like(found.forwards), torch.zeros_like(found.steps)
    budget = torch.as_tensor(forwards, device=spent.device).expand_as(spent)
    images, confidence = found.images.clone(), found.confidence.clone()
    for _ in range(sweeps):
        chosen = chosen[spent[chosen] + 1 < budget[chosen]]
        if len(chosen) == 0:
            break
        part = problem.rows(chosen)
        gradient = part.measure(images[chosen]).gradient
        spent[chosen] += 1
        backwards[chosen] += 1
        trial = _started(images[chosen], confidence[chosen], gradient, (budget - spent)[chosen])
        _sweep(part, trial, images.shape, goal.target_confidence)
        images[chosen] = trial.images.view(-1, *images.shape[1:])
        confidence[chosen] = trial.confidence
        spent[chosen] += trial.used
        chosen = chosen[trial.dropped]
    lit = count_lit(images)
    fewest = torch.where(confident, torch.minimum(found.fewest, lit), found.fewest)
    used = {"steps": found.steps + backwards, "forwards": found.forwards + spent, "fewest": fewest}
    sparser = replace(found, images=images, confidence=confidence, lit=lit, **used)
    return _goal_kept(found, sparser, goal)


def _started(images: Tensor, confidence: Tensor, gradient: Tensor, budget: Tensor) -> _Trial:
    flat = images.flatten(1)
    lit = flat > 0
    influence = torch.where(lit, gradient.flatten(1) * flat, torch.inf)
    count = lit.sum(dim=1)
    order = influence.argsort(dim=1)[:, : max(1, int(count.max()))]
    none, size = torch.zeros_like(count), (count // 4).clamp_min(1)
    return _Trial(
        flat.clone(), confidence, order, count, none, size, none.bool(), none.clone(), budget
    )


def _sweep(problem: Problem, whole: _Trial, shape: torch.Size, target_confidence: float) -> None:
    """One pass over the lit features of every image, in place."""
    live = (whole.count > 1).nonzero().squeeze(1)
    every = turns_between_syncs(live.device)
    place = torch.arange(whole.order.shape[1], device=live.device)[None, :]
    for turn in range(max(0, int(whole.budget.max()))):
        if len(live) == 0:
            break
        row = whole.rows(live)
        # rows that are through may still be there until the next look
        busy = (row.at < row.count) & (row.used < row.budget)
        block = place - row.at[:, None]
        inside = (block >= 0) & (block < row.size[:, None])
        kept = row.images.gather(1, row.order) * ~inside
        trial = row.images.scatter(1, row.order, kept)
        confidence, _ = problem.rows(live).score(trial.view(-1, *shape[1:]))
        good = busy & (confidence >= target_confidence)
        stuck = busy & ~good & (row.size == 1)
        at = row.at + torch.where(good, row.size, stuck.long())
        size = torch.where(good, row.size, (row.size // 2).clamp_min(1))
        whole.images[live] = torch.where(good[:, None], trial, row.images)
        whole.confidence[live] = torch.where(good, confidence, row.confidence)
        whole.dropped[live] = row.dropped | good
        whole.used[live] = row.used + busy
        whole.at[live] = at
        whole.size[live] = torch.minimum(size, (row.count - at).clamp_min(1))
        if (turn + 1) % every == 0:
            left = (at < row.count) & (row.used + busy < row.budget)
            live = live[left.nonzero().squeeze(1)]


def _goal_kept(found: Fooling, sparser: Fooling, goal: Goal) -> Fooling:
    """Take the sparser image unless it loses the goal; one that gains the goal is met."""
    met = sparser.lit <= goal.max_lit
    if goal.accept is not None:
        ask = met & (sparser.lit < found.lit)
        met = found.met & ~ask
        if bool(ask.any()):
            met[ask] = goal.accept(sparser.images[ask])
    met &= sparser.confidence >= goal.target_confidence
    best = sparser.where(met | ~found.met, found)
    found_at = torch.where(best.lit < found.lit, sparser.steps, found.found_at)
    outcome = torch.where(met, int(Outcome.MET), found.outcome)
    used = {"steps": sparser.steps, "forwards": sparser.forwards, "fewest": sparser.fewest}
    return replace(best, outcome=outcome, found_at=found_at, **used)
