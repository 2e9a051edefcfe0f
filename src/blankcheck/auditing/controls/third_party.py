"""Attacks of other libraries as a control: what they find where the fixed attempts did not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from blankcheck.auditing.attack_run import Job, scored_once
from blankcheck.auditing.attempts import AttemptResults
from blankcheck.auditing.controls.setting import Experiment, Setting
from blankcheck.auditing.portfolio import Attack, always
from blankcheck.auditing.third_party import ThirdPartyAttack, run_third_party
from blankcheck.fooling import TabuSearch
from blankcheck.judging.evidence import Control
from blankcheck.seeds import seed_of, seeded

CODE = "rivals"
MOST_TARGETS = 20


def third_party_control(
    setting: Setting, attacks: Sequence[ThirdPartyAttack], lacking: str = ""
) -> Experiment:
    """Each attack once per class (of many, some). lacking: what could not be asked, and why."""
    if not attacks:
        why = lacking or "other libraries were not asked for (--rivals)"
        return Experiment(Control(CODE, why_not=why))
    order = torch.randperm(setting.classes, generator=seeded(setting.job.seed, CODE))[:MOST_TARGETS]
    targets = order.sort().values
    fooled = {a.target for a in setting.attempts if a.fooled}
    resisting = torch.tensor([int(t) not in fooled for t in targets])
    searches, errors = [], []
    for attack in attacks:
        shown, made, error = _search(setting.job, attack, targets)
        searches.append((shown, made))
        errors += [f"{attack.name} broke off: {error}"] if error else []
    tries = int(resisting.sum()) * len(attacks)
    if not tries:
        why = "every class was fooled already"
        return Experiment(Control(CODE, why_not=why), tuple(searches))
    more = sum(int((made.best.met & resisting).sum()) for _, made in searches)
    broken = "; ".join([*errors, *([lacking] if lacking else [])])
    words = f"{len(attacks)} attacks of other libraries" + (f" ({broken})" if broken else "")
    return Experiment(Control(CODE, more, tries, words), tuple(searches))


def _search(job: Job, attack: ThirdPartyAttack, targets: Tensor) -> tuple[Job, AttemptResults, str]:
    """What one attack found, in the form of our own attempts."""
    start, seed = torch.zeros(len(targets), *job.shape), seed_of(job.seed, CODE, attack.name)
    subject, want = (job.classifier, job.form, start.to(job.device)), job.conditions
    found = run_third_party(attack, *subject, targets, want.confidence, seed)
    forwards = torch.full_like(targets, found.forwards // len(targets))
    steps = torch.full_like(targets, found.backwards // len(targets))
    best = scored_once(job, found.images, targets)
    best = replace(best, steps=steps, forwards=forwards, found_at=steps)
    # the rule only gives the attack a name: it has searched already
    shown = replace(job, attacks=(Attack("black", attack.name, always(TabuSearch()), 1),))
    return shown, AttemptResults.of(best), found.error
