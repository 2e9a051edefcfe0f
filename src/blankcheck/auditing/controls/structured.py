"""Structured images: thousands that no search comes by, shown to the network one by one."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from blankcheck.auditing.attempts import run_attempts
from blankcheck.auditing.controls.setting import Experiment, Setting, not_applicable
from blankcheck.auditing.portfolio import BEST, Attack, always
from blankcheck.classifiers import probabilities
from blankcheck.fooling import SigmaZero, Structures, TabuSearch
from blankcheck.judging.evidence import Control
from blankcheck.seeds import seed_of, seeded

DRAWN_PER_STEP = 20
"""Images drawn per step of an attempt: 3,000 in `smoke`, 10,000 in `standard`."""
LOOKED_AT = 20
"""Of each class the images with most of its confidence, from which starts are chosen."""
STEPS = 40
"""Of each search that goes on from one."""


def structured(setting: Setting) -> Experiment:
    """Bars, frames, stripes, dots of one grey and the like; searches go on from the nearest ones.

    One forward pass each shows an image to all classes at once.
    """
    code, job = "structured", setting.job
    targets = _targets(setting, 2 * setting.sample)
    if not targets:
        return not_applicable(code)
    seed, drawn = seed_of(job.seed, code), DRAWN_PER_STEP * setting.preset.steps
    images = Structures(drawn, job.shape, job.conditions.max_lit, seed)
    p = probabilities(job.classifier, images, job.form)
    attacks = (
        Attack(code, "exchange", always(TabuSearch()), STEPS),
        Attack(BEST, "sigma-zero", always(SigmaZero(step_size=0.1)), STEPS),
    )
    starts: dict[str, Tensor] = {code: _nearest(setting, images, p, targets)}
    job = setting.job_for(code, attacks=attacks, starts=starts, real=None)
    tried = run_attempts(job, targets)
    words = f"From the nearest of {len(images):,} bars, frames, stripes, dots of one grey and so on"
    control = Control(code, int(tried.best.met.sum()), len(targets), words)
    return Experiment(control, ((job, tried),), forward=len(images))


def _targets(setting: Setting, n: int) -> list[int]:
    """`n` classes of failed attempts: each of them in turn, or some where there are more."""
    classes = sorted({setting.attempts[i].target for i in setting.failed})
    order = torch.randperm(len(classes), generator=seeded(setting.job.seed, "structured"))
    return [classes[order[i % len(order)]] for i in range(n)] if classes else []


def _nearest(setting: Setting, images: Structures, p: Tensor, targets: list[int]) -> Tensor:
    """For each target the image that gives it most confidence, out of distribution before others;
    for one that comes again the next one. p: (n, m)."""
    accept, order = setting.job.accept, dict[int, Tensor]()
    for target in set(targets):
        most = p[:, target].topk(min(LOOKED_AT, len(p))).indices
        odd = torch.ones_like(most) if accept is None else accept(images[most]).to(most)
        order[target] = most[odd.argsort(descending=True, stable=True)]
    turn, chosen = Counter[int](), list[int]()
    for target in targets:
        chosen.append(int(order[target][turn[target] % len(order[target])]))
        turn[target] += 1
    return images[torch.tensor(chosen)]
