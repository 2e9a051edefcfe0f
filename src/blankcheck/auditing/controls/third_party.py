"""Rivals as a control: what other libraries' attacks find where the fixed attempts found nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from blankcheck.auditing.attempts import AttemptResults, Job
from blankcheck.auditing.controls.setting import Experiment, Setting
from blankcheck.auditing.controls.stronger_search import scored_once
from blankcheck.auditing.portfolio import Attack
from blankcheck.auditing.third_party import ThirdPartyAttack, run_third_party
from blankcheck.fooling import TabuSearch
from blankcheck.judging.evidence import Control
from blankcheck.seeds import seed_of, seeded

MOST_TARGETS = 20


def rivals(setting: Setting, wanted: Sequence[ThirdPartyAttack], lacking: str = "") -> Experiment:
    """Each rival once per class, from black; of many classes, some. lacking: what could not be
    asked, and why."""
    code, job = "rivals", setting.job
    if not wanted:
        return Experiment(
            Control(code, why_not=lacking or "other libraries were not asked for (--rivals)")
        )
    order = torch.randperm(setting.classes, generator=seeded(job.seed, code))[:MOST_TARGETS]
    targets = order.sort().values
    fooled = {a.target for a in setting.attempts if a.fooled}
    resisting = torch.tensor([int(t) not in fooled for t in targets])
    searches, more, errors = [], 0, []
    for rival in wanted:
        shown, made, error = _search(job, rival, targets)
        searches.append((shown, made))
        more += int((made.best.met & resisting).sum())
        errors += [f"{rival.name} broke off: {error}"] if error else []
    broken = "; ".join([*errors, *([lacking] if lacking else [])])
    tries = int(resisting.sum()) * len(wanted)
    if not tries:
        return Experiment(Control(code, why_not="every class was fooled already"), tuple(searches))
    words = f"{len(wanted)} attacks of other libraries" + (f" ({broken})" if broken else "")
    return Experiment(Control(code, more, tries, words), tuple(searches))


def _search(
    job: Job, rival: ThirdPartyAttack, targets: torch.Tensor
) -> tuple[Job, AttemptResults, str]:
    """What one rival found, in the form of our own attempts."""
    start, seed = (
        torch.zeros(len(targets), *job.shape, device=job.device),
        seed_of(job.seed, "rivals", rival.name),
    )
    found = run_third_party(
        rival, job.classifier, job.form, start, targets, job.conditions.confidence, seed
    )
    n = len(targets)
    best = scored_once(job, found.images, targets)
    none, steps = torch.zeros_like(targets), torch.full_like(targets, found.backwards // n)
    best = replace(best, steps=steps, forwards=none + found.forwards // n, found_at=steps)
    # the rule only gives the process a name: the rival has searched already
    shown = replace(job, attacks=(Attack("black", rival.name, lambda s, k: TabuSearch(), 1),))
    return shown, AttemptResults(best, none, torch.ones(n, 1, dtype=torch.bool)), found.error
