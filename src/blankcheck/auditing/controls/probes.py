"""Controls that put questions to the network itself: is what it answers, and what its gradients
say, to be trusted?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.auditing.attempts import Job
from blankcheck.auditing.controls.setting import Experiment, Setting
from blankcheck.classifiers import probabilities
from blankcheck.classifiers.planting import random_patterns
from blankcheck.fooling import NEED_REAL, STARTS, Problem
from blankcheck.fooling.gradient_check import contradicted
from blankcheck.judging.evidence import Control
from blankcheck.outputs import run
from blankcheck.seeds import seeded
from blankcheck.types import stored

HEALTH_IMAGES = 20
FEW = 10
"""Lit features of images that have few."""
MOVES, MOVED_SHARE = 8, 0.03
"""Random changes tried of an image without a gradient, and the share of the features that each
changes."""
REPEATED, ASKED = 64, 10
SAME, SAME_IN_BATCH = 1e-3, 1e-2
"""Largest change of a probability that counts as none; arithmetic differs a little between batch
sizes."""
BATCH = 7


@dataclass(frozen=True)
class _Health:
    """Shares of the images at one kind of place. flat: the gradient is zero. hidden: although the
    answer moves."""

    not_finite: float
    flat: float
    hidden: float
    wrong: float


def gradient_health(setting: Setting) -> Experiment:
    """Gradients from every kind of start, at images with few lit features, and where attempts
    ended, against finite differences."""
    job = setting.job
    numbers: dict[str, float] = {}
    flat = 0
    places = _places(setting)
    for name, (targets, images) in places.items():
        health = _health(job, images, targets, seeded(job.seed, "moves", name))
        numbers |= {
            f"not-finite:{name}": health.not_finite,
            f"hidden:{name}": health.hidden,
            f"wrong:{name}": health.wrong,
            f"flat:{name}": health.flat,
        }
        if name in ("real-target", "real-other"):
            numbers[f"dead:{name}"] = health.flat
        flat += health.flat > 0.5
    return Experiment(Control("gradient-health", flat, len(places), numbers=numbers))


def _places(setting: Setting) -> dict[str, tuple[Tensor, Tensor]]:
    """Where gradients are looked at: name -> targets (n,) and images (n, c, h, w) in stored form."""
    job, best = setting.job, setting.tried.best
    targets = torch.tensor(setting.every_class(HEALTH_IMAGES))
    names = [
        name
        for name in STARTS
        if name != "black" and (job.real is not None or name not in NEED_REAL)
    ]
    starts = {
        name: STARTS[name](targets, job.shape, seeded(job.seed, "health", name), job.real)
        for name in names
    }
    size = max(1, min(FEW, job.conditions.max_lit // 3))
    few = random_patterns(len(targets), size, job.shape, seeded(job.seed, "few"))
    some = torch.randperm(len(best), generator=seeded(job.seed, "ends"))[:HEALTH_IMAGES]
    return {
        **{name: (targets, stored(images)) for name, images in starts.items()},
        "few-lit": (targets, few),
        "ends of attempts": (best.targets[some], best.images[some]),
    }


def _health(job: Job, images: Tensor, targets: Tensor, generator: torch.Generator) -> _Health:
    images = images.to(job.device)
    problem = Problem(job.classifier, job.form, targets.to(job.device))
    seen = problem.measure(images)
    steepest = seen.gradient.flatten(1).abs().amax(dim=1)
    flat = seen.finite & (steepest == 0)
    hidden = flat & _moves(problem, images, seen.log_odds, generator)
    wrong = seen.finite & ~flat & contradicted(problem, images, seen)
    return _Health(*(float(kind.float().mean()) for kind in (~seen.finite, flat, hidden, wrong)))


def _moves(problem: Problem, images: Tensor, margin: Tensor, generator: torch.Generator) -> Tensor:
    """(n,) bool: at least half of a few random changes of a few features change the log-odds."""
    changed = torch.zeros_like(margin)
    for _ in range(MOVES):
        where = (torch.rand(images.shape, generator=generator) < MOVED_SHARE).to(images.device)
        values = torch.rand(images.shape, generator=generator).to(images.device)
        _, after = problem.score(stored(torch.where(where, values, images)))
        changed += (after - margin).abs() > 1e-3 * (1 + margin.abs())
    return changed >= MOVES / 2


def repeatable(setting: Setting) -> Experiment:
    """Score the same images again and again: one of a few networks drawn by lot may answer several
    times running."""
    images = _images(setting)
    answers = torch.stack(
        [probabilities(setting.job.classifier, images, setting.job.form) for _ in range(ASKED)]
    )
    moved = ~((answers - answers[0]).abs().amax(dim=(0, 2)) <= SAME)
    return Experiment(
        Control("repeatable", int(moved.sum()), len(images), f"when asked {ASKED} times")
    )


def batch_independent(setting: Setting) -> Experiment:
    """Score the same images among other neighbours, in other numbers."""
    images = _images(setting)
    together = probabilities(setting.job.classifier, images, setting.job.form)
    order = torch.randperm(len(images), generator=seeded(setting.job.seed, "neighbours"))
    apart = probabilities(setting.job.classifier, images[order], setting.job.form, BATCH)
    moved = ~((together[order] - apart).abs().amax(dim=1) <= SAME_IN_BATCH)
    return Experiment(
        Control(
            "batch-independent",
            int(moved.sum()),
            len(images),
            "among other neighbours in the batch",
        )
    )


def _images(setting: Setting) -> Tensor:
    """Real images, noise, and what the search ended with: a network may answer only some of them at
    random."""
    job, best = setting.job, setting.tried.best.images
    targets = torch.tensor(setting.every_class(REPEATED // 2))
    made = [
        STARTS[name](targets, job.shape, seeded(job.seed, "same", name), job.real)
        for name in ("noise", "sparse-noise")
    ]
    some = torch.randperm(len(best), generator=seeded(job.seed, "some"))[:REPEATED]
    return torch.cat([setting.validation[:REPEATED], *made, best[some]])


def best_kept(setting: Setting) -> Experiment:
    """Whether the best image on each attempt's path is, scored again, what it was."""
    said, again = (
        setting.tried.best.confidence,
        torch.tensor([a.confidence for a in setting.attempts]),
    )
    moved = ~((said - again).abs() <= SAME_IN_BATCH)
    return Experiment(Control("best-kept", int(moved.sum()), len(again)))


@torch.no_grad()
def saturation(setting: Setting) -> Experiment:
    """Images on which the classifier's own numbers leave no odds to follow: exactly 0, or nothing
    for all others."""
    job = setting.job
    targets = torch.tensor(setting.every_class(REPEATED))
    kinds = [
        name
        for name in ("noise", "sparse-noise", "real-other")
        if job.real is not None or name not in NEED_REAL
    ]
    bad = 0
    for name in kinds:
        images = STARTS[name](targets, job.shape, seeded(job.seed, "saturation", name), job.real)
        outputs = run(job.classifier, images.to(job.device)).float().cpu()
        none = 0.0 if job.form == "probabilities" else -torch.inf
        others = outputs.scatter(1, targets[:, None], none).amax(dim=1)
        own = outputs.gather(1, targets[:, None]).squeeze(1)
        bad += int(((own == none) | (others == none) | ~outputs.isfinite().any(dim=1)).sum())
    return Experiment(
        Control("saturation", bad, len(kinds) * REPEATED, f"its outputs are {job.form}")
    )
