"""Attempts that ended with the image of another attempt look for one of their own."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from blankcheck.auditing.attack_run import Batch, Job, merged, run_attack
from blankcheck.auditing.portfolio import BEST, Attack, reserve
from blankcheck.fooling import FORWARDS_PER_STEP, Goal, Problem, TabuSearch
from blankcheck.types import Fooling, count_lit

MIN_STEPS = 4
"""Steps below which going on from a changed image finds nothing new."""
DIM, TRIES = 0.25, 4
"""How bright is the one feature more that makes an image different, beside the one tried before,
and how many are tried. A dim one changes the answer least; the last is twice what counts as lit."""


def repeats(found: Fooling) -> Tensor:
    """(m,) rows that met their goal with the target and the lit features of an earlier row."""
    known: set[bytes] = set()
    rows = []
    lit = (found.images.flatten(1) > 0).to(torch.uint8)
    for row in found.met.nonzero().squeeze(1).tolist():
        pattern = f"{int(found.targets[row])}:".encode() + lit[row].numpy().tobytes()
        if pattern in known:
            rows.append(row)
        known.add(pattern)
    return torch.tensor(rows, dtype=torch.int64)


def deduplicated(
    job: Job, found: Fooling, mask: Tensor | None, generator: torch.Generator
) -> tuple[Fooling, int]:
    """The same rows, where repeated images have other lit features if such are found.

    A repeated image loses one of its lit features, drawn at random and forbidden from then on, and
    goes on from there for the steps in reserve. Where that ends in a repeat again, or the image has
    no lit feature to lose (a network can be sure of black), one more random feature is lit, dimmer
    with each try, as long as the forward passes of an attempt last. mask: (n, c, h, w) bool or
    None. Second: how often a batch was halved for want of memory.
    """
    everywhere = torch.ones_like(found.images, dtype=torch.bool)
    allowed = everywhere if mask is None else mask.expand_as(found.images)
    # drawn for all rows, so that what an attempt gets does not depend on which others are repeats
    draw = torch.rand(len(found), found.images[0].numel(), generator=generator)
    keys = torch.randint(2**62, (len(found),), generator=generator)
    rows, splits, steps = repeats(found), 0, reserve(job.budget)
    rows = rows[found.lit[rows] > 0]
    if len(rows) and steps >= MIN_STEPS:
        attack = Attack(BEST, "exchange", lambda steps, max_lit: TabuSearch(), steps)
        start, still = _without_one(found.images[rows], allowed[rows], draw[rows])
        batch = Batch(found.targets[rows], start, keys[rows], still)
        other, splits = run_attack(job, attack, batch)
        found = merged(found, rows, other, other.met)
    dark = (allowed & (found.images == 0)).flatten(1)
    order = torch.where(dark, draw, 2.0).argsort(dim=1)
    for turn in range(min(TRIES, order.shape[1])):
        rows = repeats(found)
        rows = rows[found.forwards[rows] < FORWARDS_PER_STEP * job.budget]
        if len(rows) == 0:
            break
        other = _with_one_more(job, found.rows(rows), allowed[rows], order[rows, turn], turn)
        found = merged(found, rows, other, other.met)
    return found, splits


def _without_one(images: Tensor, allowed: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """The images without one lit feature each, and what may be lit from there on."""
    at = (draw * (images.flatten(1) > 0)).argmax(dim=1, keepdim=True)
    start, still = images.flatten(1).scatter(1, at, 0.0), allowed.flatten(1).scatter(1, at, False)
    return start.view_as(images), still.view_as(images)


def _with_one_more(job: Job, found: Fooling, allowed: Tensor, at: Tensor, turn: int) -> Fooling:
    """The same rows with the feature `at` (n,) lit, met where that meets the goal."""
    want, bright = job.conditions, DIM ** (turn + 1)
    images = found.images.flatten(1).scatter(1, at[:, None], bright)
    images = images.view_as(found.images) * allowed
    problem = Problem(job.classifier, job.form, found.targets.to(job.device))
    confidence, lit = problem.score(images.to(job.device))[0].cpu(), count_lit(images)
    met = (confidence >= Goal(want.confidence).target_confidence) & (lit <= want.max_lit)
    if job.accept is not None and bool(met.any()):
        met[met.clone()] = job.accept(images[met].to(job.device)).cpu()
    none, outcome = torch.zeros_like(found.steps), torch.where(met, found.outcome, -1)
    spent = {"steps": none, "forwards": none + 1, "found_at": none}
    return replace(found, images=images, confidence=confidence, lit=lit, outcome=outcome, **spent)
