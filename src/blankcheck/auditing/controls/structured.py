"""Structured images: thousands that no search comes by, shown to the network one by one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from blankcheck.auditing.attack_run import Job
from blankcheck.auditing.attempts import AttemptResults, run_attempts
from blankcheck.auditing.controls.setting import Experiment, Setting, not_applicable
from blankcheck.auditing.portfolio import BEST, Attack, always
from blankcheck.classifiers import probabilities
from blankcheck.fooling import SigmaZero, Structures, TabuSearch
from blankcheck.judging.evidence import Control
from blankcheck.seeds import seeded

START = "structured"
DRAWN_PER_STEP = 20
"""Images drawn per step of an attempt: 3,000 in `smoke`, 10,000 in `standard`."""
LOOKED_AT = 20
"""Of each class the images with most of its confidence, from which starts are chosen."""
STEPS = 40
"""Of each search that goes on from one."""


def structured(setting: Setting) -> Experiment:
    """Bars, frames, stripes, dots of one grey and the like, and searches from the nearest ones."""
    code, targets = "structured", _targets(setting, 2 * setting.sample)
    if not targets:
        return not_applicable(code)
    job, tried, shown = among_structures(setting, setting.job_for(code), targets)
    words = f"From the nearest of {shown:,} bars, frames, stripes, dots of one grey and so on"
    control = Control(code, int(tried.best.met.sum()), len(targets), words)
    return Experiment(control, ((job, tried),), forward=shown)


def among_structures(
    setting: Setting, job: Job, targets: list[int]
) -> tuple[Job, AttemptResults, int]:
    """Structured images are shown to the job's classifier, one forward pass each for all classes at
    once, and for each target a search goes on from one of the nearest; the job of these searches,
    what they end with, and how many images were shown."""
    drawn = DRAWN_PER_STEP * setting.preset.steps
    images = Structures(drawn, job.shape, job.conditions.max_lit, job.seed)
    p = probabilities(job.classifier, images, job.form)
    attacks = (
        Attack(START, "exchange", always(TabuSearch()), STEPS),
        Attack(BEST, "sigma-zero", always(SigmaZero(step_size=0.1)), STEPS),
    )
    starts: dict[str, Tensor] = {START: _nearest(job, images, p, targets)}
    job = replace(job, attacks=attacks, starts=starts, real=None)
    return job, run_attempts(job, targets), len(images)


def _targets(setting: Setting, n: int) -> list[int]:
    """`n` classes of failed attempts: each of them in turn, or some where there are more."""
    classes = sorted({setting.attempts[i].target for i in setting.failed})
    order = torch.randperm(len(classes), generator=seeded(setting.job.seed, "structured"))
    return [classes[order[i % len(order)]] for i in range(n)] if classes else []


def _nearest(job: Job, images: Structures, p: Tensor, targets: list[int]) -> Tensor:
    """For each target the image that gives it most confidence, out of distribution before others;
    for one that comes again the next one. p: (n, m)."""
    accept, order = job.accept, dict[int, Tensor]()
    for target in set(targets):
        most = p[:, target].topk(min(LOOKED_AT, len(p))).indices
        odd = torch.ones_like(most) if accept is None else accept(images[most]).to(most)
        order[target] = most[odd.argsort(descending=True, stable=True)]
    turn, chosen = Counter[int](), list[int]()
    for target in targets:
        chosen.append(int(order[target][turn[target] % len(order[target])]))
        turn[target] += 1
    return images[torch.tensor(chosen)]
