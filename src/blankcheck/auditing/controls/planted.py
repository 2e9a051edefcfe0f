"""The planted control: what is hidden in a copy of the audited network must be found.

Patterns of single pixels, to which a gradient leads from afar or from near, and whole kinds of
simple images, to which none leads.
"""

from __future__ import annotations

import torch
from torch import Tensor

from blankcheck.auditing.attack_run import Job
from blankcheck.auditing.attempts import run_attempts
from blankcheck.auditing.controls.setting import Experiment, Setting, not_applicable
from blankcheck.auditing.controls.structured import among_structures
from blankcheck.classifiers.planting import MOST_MARGIN, Sure, Trigger, random_patterns
from blankcheck.classifiers.structures import Look, bars, blocks, grey_dots
from blankcheck.fooling import Goal
from blankcheck.judging.check_rules import ANY
from blankcheck.judging.evidence import Control
from blankcheck.outputs import as_logits, log_odds, run
from blankcheck.seeds import seeded
from blankcheck.types import Fooling

REACHES = (2.0, 1.25, 1.0, 0.8)
"""How far each kind of pattern is felt, in units of its ink. Only the widest must be found."""
MOST_FEATURES = 12
MOST_PATTERNS = 10
SLACK = 0.25
"""Share of a pattern's ink by which an image may miss it and still be confident."""
TRIES = 3
"""Attempts for each pattern that must be found, of which one has to find it. Others get one."""
FOUND = 0.9
"""Share of the patterns of one reach from which they count as found."""
STRUCTURES: dict[str, Look] = {"bars": bars, "blocks": blocks, "grey dots": grey_dots}
"""Planted as a whole: a copy is sure of all such images, and no gradient leads to one."""
ROOM = 4
"""Pixels of the smallest ones, at least, all channels lit; with a tighter limit none is planted."""


def planted_control(setting: Setting) -> Experiment:
    """A pattern for each of a few classes never fooled, and bars, blocks and grey dots for some of
    these, found again as the audit looks for them."""
    code, job = "planted-control", setting.job
    fooled = {a.target for a in setting.attempts if a.fooled}
    classes = [t for t in setting.targets if t not in fooled]
    if not classes:
        return not_applicable(code, "every class was fooled without a planted pattern")
    draw = torch.randperm(len(classes), generator=seeded(job.seed, code))[:MOST_PATTERNS]
    chosen = [classes[i] for i in sorted(draw.tolist())]
    size = max(1, min(MOST_FEATURES, job.conditions.max_lit // 3))
    found = {reach: _search(setting, chosen, size, reach) for reach in REACHES}
    met = {reach: best.met.view(len(chosen), -1).any(dim=1) for reach, best in found.items()}
    shares = {reach: float(each.float().mean()) for reach, each in met.items()}
    numbers = {f"reach:{reach:g}": share for reach, share in shares.items()}
    for reach, share in shares.items():
        if share < FOUND:
            break
        numbers["narrowest_reach"] = reach
    simple, shown = _structures(setting, chosen)
    seen = {ANY + name: float(best.met.any()) for name, best in simple.items()}
    words = f"patterns of {size} lit features, of which a search from black sees the first traces"
    if simple:
        words += f", and any of all {', any of all '.join(simple)}, to which no gradient leads"
    count = int(met[REACHES[0]].sum()) + int(sum(seen.values())), len(chosen) + len(seen)
    control = Control(code, *count, words, numbers=numbers | seen)
    return Experiment(control, spent=(*found.values(), *simple.values()), forward=shown)


def _structures(setting: Setting, chosen: list[int]) -> tuple[dict[str, Fooling], int]:
    """For each of `STRUCTURES` what is found on a copy that is sure of it, as the check for
    structured images looks for it; and how many were shown. A copy has as many of them as there are
    classes, one for each, so that what is found is known to be of its kind."""
    job, names, found, shown = setting.job, list(STRUCTURES), dict[str, Fooling](), 0
    if job.conditions.max_lit < ROOM * job.shape[0]:
        return found, shown
    for first in range(0, len(names), len(chosen)):
        pairs = list(zip(names[first:], chosen, strict=False))
        copy, form = job.classifier, job.form
        for name, target in pairs:
            copy, form = Sure(copy, STRUCTURES[name], target, form), "logits"
        planted = setting.job_for(f"planted-control {first}", classifier=copy, form=form)
        _, tried, images = among_structures(setting, planted, [t for _, t in pairs])
        shown += images
        found |= {name: tried.best.rows(torch.tensor([i])) for i, (name, _) in enumerate(pairs)}
    return found, shown


def _search(setting: Setting, chosen: list[int], size: int, reach: float) -> Fooling:
    job, targets = setting.job, torch.tensor(chosen)
    patterns = random_patterns(len(targets), size, job.shape, seeded(job.seed, "patterns", reach))
    certainty = _certainty(job, patterns, targets, reach)
    copy = Trigger(job.classifier, patterns, targets, reach, job.form, certainty).to(job.device)
    planted = setting.job_for(f"planted-control {reach:g}", classifier=copy, form="logits", more=0)
    tries = TRIES if reach == REACHES[0] else 1
    return run_attempts(planted, [t for t in chosen for _ in range(tries)]).best


@torch.no_grad()
def _certainty(job: Job, patterns: Tensor, targets: Tensor, reach: float) -> Tensor:
    """(q,) log-odds at each pattern that reach those asked for even `SLACK` away from it."""
    logits = as_logits(run(job.classifier, patterns.to(job.device)), job.form)
    own = log_odds(logits, targets.to(job.device)).cpu().clamp(-MOST_MARGIN, MOST_MARGIN)
    lost = SLACK / reach
    return (Goal(job.conditions.confidence).target_log_odds - lost * own) / (1 - lost)
