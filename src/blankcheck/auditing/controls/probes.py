"""Controls that ask the network itself: are its answers and its gradients to be trusted?"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from blankcheck.auditing.attack_run import Job
from blankcheck.auditing.controls.setting import Experiment, Setting
from blankcheck.classifiers.planting import random_patterns
from blankcheck.fooling import NEED_REAL, STARTS, Measurement, Problem
from blankcheck.fooling.gradient_check import contradicted
from blankcheck.judging.evidence import Control
from blankcheck.outputs import run
from blankcheck.seeds import seeded
from blankcheck.types import stored

HEALTH_IMAGES = 20
FEW = 10
"""Lit features of images that have few."""
MOVES, MOVED_SHARE = 8, 0.03
"""Random changes tried of an image without a gradient, and the share of features in each."""
SATURATED = 64
"""Images of each kind that are looked at for saturation."""
SAME_IN_BATCH = 1e-2
"""Largest change of a probability that counts as none; batch sizes change rounding a little."""


def gradient_health(setting: Setting) -> Experiment:
    """Gradients at starts, sparse images, and ends of attempts, against finite differences.

    For each kind of place the share of its images whose gradient is not finite, is flat (zero), is
    hidden (flat, although the answer moves), or is contradicted.
    """
    numbers: dict[str, float] = {}
    flat, places = 0, _places(setting)
    for name, (targets, images) in places.items():
        shares = _health(setting.job, images, targets, seeded(setting.job.seed, "moves", name))
        numbers |= {f"{kind}:{name}": share for kind, share in shares.items()}
        if name in ("real-target", "real-other"):
            numbers[f"dead:{name}"] = shares["flat"]
        flat += shares["flat"] > 0.5
    return Experiment(Control("gradient-health", flat, len(places), numbers=numbers))


def _start_images(setting: Setting, name: str, salt: str, targets: Tensor) -> Tensor:
    job = setting.job
    return STARTS[name](targets, job.shape, seeded(job.seed, salt, name), job.real)


def _places(setting: Setting) -> dict[str, tuple[Tensor, Tensor]]:
    """Where gradients are looked at: name -> targets (n,), images (n, c, h, w) in stored form."""
    job, best = setting.job, setting.tried.best
    targets = torch.tensor(setting.every_class(HEALTH_IMAGES))
    places = {
        name: (targets, stored(_start_images(setting, name, "health", targets)))
        for name in STARTS
        if name != "black" and (job.real is not None or name not in NEED_REAL)
    }
    size = max(1, min(FEW, job.conditions.max_lit // 3))
    few = random_patterns(len(targets), size, job.shape, seeded(job.seed, "few"))
    some = torch.randperm(len(best), generator=seeded(job.seed, "ends"))[:HEALTH_IMAGES]
    ends = best.rows(some)
    return places | {"few-lit": (targets, few), "ends of attempts": (ends.targets, ends.images)}


def _health(job: Job, images: Tensor, targets: Tensor, generator: Generator) -> dict[str, float]:
    images = images.to(job.device)
    problem = Problem(job.classifier, job.form, targets.to(job.device))
    seen = problem.measure(images)
    flat = seen.finite & (seen.gradient.flatten(1).abs().amax(dim=1) == 0)
    kinds = {
        "not-finite": ~seen.finite,
        "hidden": flat & _moves(problem, images, seen, generator),
        "wrong": seen.finite & ~flat & contradicted(problem, images, seen),
        "flat": flat,
    }
    return {kind: float(where.float().mean()) for kind, where in kinds.items()}


def _moves(problem: Problem, images: Tensor, seen: Measurement, generator: Generator) -> Tensor:
    """(n,) bool: at least half of a few random changes of a few features change the log-odds."""
    changed = torch.zeros_like(seen.log_odds)
    for _ in range(MOVES):
        where = (torch.rand(images.shape, generator=generator) < MOVED_SHARE).to(images.device)
        values = torch.rand(images.shape, generator=generator).to(images.device)
        _, after = problem.score(stored(torch.where(where, values, images)))
        changed += (after - seen.log_odds).abs() > 1e-3 * (1 + seen.log_odds.abs())
    return changed >= MOVES / 2


def best_kept(setting: Setting) -> Experiment:
    """Whether the best image on each attempt's path is, scored again, what it was."""
    again = torch.tensor([a.confidence for a in setting.attempts])
    moved = ~((setting.tried.best.confidence - again).abs() <= SAME_IN_BATCH)
    return Experiment(Control("best-kept", int(moved.sum()), len(again)))


@torch.no_grad()
def saturation(setting: Setting) -> Experiment:
    """Images whose outputs leave no odds to follow: exactly 0, or nothing for all others."""
    job, bad = setting.job, 0
    targets = torch.tensor(setting.every_class(SATURATED))
    kinds = ["noise", "sparse-noise", *(["real-other"] if job.real is not None else [])]
    none = 0.0 if job.form == "probabilities" else -torch.inf
    for name in kinds:
        images = _start_images(setting, name, "saturation", targets)
        outputs = run(job.classifier, images.to(job.device)).float().cpu()
        others = outputs.scatter(1, targets[:, None], none).amax(dim=1)
        own = outputs.gather(1, targets[:, None]).squeeze(1)
        bad += int(((own == none) | (others == none) | ~outputs.isfinite().any(dim=1)).sum())
    words = f"its outputs are {job.form}"
    return Experiment(Control("saturation", bad, len(kinds) * SATURATED, words))
