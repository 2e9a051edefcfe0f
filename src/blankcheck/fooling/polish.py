"""Remove lit features while the image stays confident."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blankcheck.fooling.host_sync import turns_between_syncs
from blankcheck.fooling.problem import Problem
from blankcheck.fooling.search import Goal
from blankcheck.types import Fooling, Outcome, Rows, count_lit


@dataclass(frozen=True)
class _Trial(Rows):
    """order: (n, d) features by rising influence. at: (n,) next position to try in it. size: (n,)
    how many to try."""

    images: Tensor
    confidence: Tensor
    order: Tensor
    at: Tensor
    size: Tensor
    dropped: Tensor


SWEEPS = 2
"""Backward passes one polish may use."""


def polish(
    problem: Problem, found: Fooling, goal: Goal, forwards: Tensor | int, sweeps: int = SWEEPS
) -> Fooling:
    """Try to darken the lit features of confident images, least influence first, a few at a time.

    Influence is the first-order loss of log-odds, gradient x value, from one backward pass. A block
    whose removal keeps the confidence is gone; else the block is halved; a single feature that
    cannot go stays. Sweeps repeat until one changes nothing (the image is then a local minimum: no
    single lit feature can be removed), or `sweeps` backward or
    `forwards` forward passes are spent: one number, or one for each image (n,). No image's budget
    depends on the others. Images that were not confident, and rows whose goal would be lost, come
    back as they are.
    """
    chosen = (found.confidence >= goal.target_confidence).nonzero().squeeze(1)
    spent = torch.zeros_like(found.forwards)
    room = torch.as_tensor(forwards, device=spent.device).expand_as(spent)
    images, confidence, backwards = (
        found.images.clone(),
        found.confidence.clone(),
        torch.zeros_like(found.steps),
    )
    for _ in range(sweeps):
        chosen = chosen[spent[chosen] + 1 < room[chosen]]
        if len(chosen) == 0:
            break
        part = problem.rows(chosen)
        seen = part.measure(images[chosen])
        spent[chosen] += 1
        backwards[chosen] += 1
        left = (room - spent)[chosen]
        trial, tried = _sweep(
            part, images[chosen], confidence[chosen], seen.gradient, goal.target_confidence, left
        )
        images[chosen], confidence[chosen] = trial.images, trial.confidence
        spent[chosen] += tried
        chosen = chosen[trial.dropped]
    sparser = replace(
        found,
        images=images,
        confidence=confidence,
        lit=count_lit(images),
        steps=found.steps + backwards,
        forwards=found.forwards + spent,
        fewest=torch.minimum(
            found.fewest,
            torch.where(
                found.confidence >= goal.target_confidence, count_lit(images), found.fewest
            ),
        ),
    )
    return _goal_kept(found, sparser, goal)


def _sweep(
    problem: Problem,
    images: Tensor,
    confidence: Tensor,
    gradient: Tensor,
    wanted: float,
    forwards: Tensor,
) -> tuple[_Trial, Tensor]:
    """One pass over the lit features of every image; returns the rows in their order and the
    forwards each used, at most its own of `forwards` (n,)."""
    flat = images.flatten(1)
    lit = flat > 0
    influence = torch.where(lit, gradient.flatten(1) * flat, torch.inf)
    counts = lit.sum(dim=1)
    width = int(counts.max()) if len(counts) else 0
    order = influence.argsort(dim=1)[:, : max(1, width)]
    start = torch.zeros_like(counts)
    whole = _Trial(
        flat.clone(), confidence.clone(), order, start, (counts // 4).clamp_min(1), start.bool()
    )
    tried = torch.zeros_like(counts)
    live = (counts > 1).nonzero().squeeze(1)
    every = turns_between_syncs(images.device)
    for turn in range(max(0, int(forwards.max()))):
        if len(live) == 0:
            break
        row = whole.rows(live)
        # rows that are through may still be there until the next look
        busy = (row.at < counts[live]) & (tried[live] < forwards[live])
        block = torch.arange(order.shape[1], device=flat.device)[None, :] - row.at[:, None]
        inside = (block >= 0) & (block < row.size[:, None])
        kept = row.images.gather(1, row.order) * ~inside
        trial = row.images.scatter(1, row.order, kept)
        seen, _ = problem.rows(live).score(trial.view(-1, *images.shape[1:]))
        tried[live] += busy
        good = busy & (seen >= wanted)
        whole.images[live] = torch.where(good[:, None], trial, row.images)
        whole.confidence[live] = torch.where(good, seen, row.confidence)
        whole.dropped[live] = row.dropped | good
        stuck = busy & ~good & (row.size == 1)
        at = row.at + torch.where(good, row.size, stuck.long())
        size = torch.where(good, row.size, (row.size // 2).clamp_min(1))
        whole.at[live] = at
        whole.size[live] = torch.minimum(size, (counts[live] - at).clamp_min(1))
        if (turn + 1) % every == 0:
            live = live[((at < counts[live]) & (tried[live] < forwards[live])).nonzero().squeeze(1)]
    return replace(whole, images=whole.images.view_as(images)), tried


def _goal_kept(found: Fooling, sparser: Fooling, goal: Goal) -> Fooling:
    """Take the sparser image unless it loses the goal; one that gains the goal is met."""
    met = sparser.lit <= goal.max_lit
    if goal.accept is not None:
        ask = met & (sparser.lit < found.lit)
        keep = found.met & ~ask
        if bool(ask.any()):
            keep[ask] = goal.accept(sparser.images[ask])
        met = keep
    met &= sparser.confidence >= goal.target_confidence
    take = met | ~found.met
    wide = take[:, None, None, None]
    outcome = torch.where(met, int(Outcome.MET), found.outcome)
    return replace(
        sparser,
        images=torch.where(wide, sparser.images, found.images),
        confidence=torch.where(take, sparser.confidence, found.confidence),
        lit=torch.where(take, sparser.lit, found.lit),
        found_at=torch.where(take & (sparser.lit < found.lit), sparser.steps, found.found_at),
        outcome=outcome,
    )
