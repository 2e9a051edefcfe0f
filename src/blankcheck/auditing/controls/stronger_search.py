"""Controls that search harder, or elsewhere, where the fixed attempts found nothing.

What they find is a witness.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from blankcheck.auditing.attack_run import Job, merged, scored_once
from blankcheck.auditing.attempts import run_attempts
from blankcheck.auditing.controls.setting import Experiment, Setting, Twin, not_applicable, searched
from blankcheck.auditing.portfolio import Attack, always, within
from blankcheck.classifiers import evaluate
from blankcheck.fooling import MAX_STEPS, DifferentialEvolution, RandomSearch, SigmaZero, TabuSearch
from blankcheck.fooling.solvers import AnnealedTopK, ProjectedAdam, ProximalMomentum, Solver
from blankcheck.judging.check_rules import POSITIVE, TWIN_CONFIDENT, WITHOUT_TWIN
from blankcheck.judging.evidence import Control, OnTwin
from blankcheck.types import Fooling

Rule = tuple[str, str, Callable[[int, int], Solver]]
"""A kind of start, the name of a step rule, and what makes the rule from (steps, max_lit)."""
RESTARTS = 5
WEIGHTS = (0.3, 3.0, 30.0)
"""Of the fixed L1 penalty. One suits most networks; none suits all."""
SURE = 0.99
"""Confidence asked of images to be transferred: a twin's border lies elsewhere."""
FEWEST_STEPS = 20
FEWEST_ON_TWIN = 40
"""Least attempts of the positive control."""
HARDER = 3
"""So many times the steps, and as many attempts, where a twin that is seldom sure is not fooled."""


def _again(setting: Setting, job: Job, code: str, words: str, share: int = 1) -> Experiment:
    """Another job for a sample of the attempts that failed. share: of so many samples."""
    return searched(code, job, setting.some_failed(share * setting.sample, code), words)


def _other(setting: Setting, code: str, steps: int, rules: list[Rule]) -> Job:
    """The same job with one attack for each rule, which share `steps`."""
    each = max(FEWEST_STEPS, steps // len(rules))
    attacks = tuple(Attack(start, name, rule, each) for start, name, rule in rules)
    return setting.job_for(code, attacks=attacks, more=0)


def more_steps(setting: Setting) -> Experiment:
    """Ten times the steps (at most 10,000 an attempt) on a sample of the attempts that failed."""
    steps, ten = setting.preset.steps, min(10 * setting.preset.steps, MAX_STEPS)
    job = setting.job_for("more-steps", attacks=within(ten), more=0)
    return _again(setting, job, "more-steps", f"With {ten} steps instead of {steps}")


def more_restarts(setting: Setting) -> Experiment:
    """Several fresh attempts for each of a sample of the attempts that failed."""
    code = "more-restarts"
    targets = [t for t in setting.some_failed(setting.sample, code) for _ in range(RESTARTS)]
    return searched(code, setting.job_for(code), targets, f"Starting {RESTARTS} times afresh")


def more_starts(setting: Setting) -> Experiment:
    """Kinds of start the portfolio lacks, and fresh draws of the best on hardened networks."""
    kinds = ("gaussian", "bright", "sparse-noise", "blend", "real-target", "real-other")
    adaptive = always(ProximalMomentum())
    rules: list[Rule] = [(start, "adaptive-weight", adaptive) for start in kinds]
    job = _other(setting, "more-starts", setting.preset.steps, rules)
    words = "From Gaussian noise, bright, blended and real images"
    return _again(setting, job, "more-starts", words, share=2)


def penalty_weights(setting: Setting) -> Experiment:
    """The classic recipe, projected Adam, over a range of its one hyperparameter."""
    rules: list[Rule] = [
        (start, "fixed-weight", always(ProjectedAdam(weight=weight)))
        for weight in WEIGHTS
        for start in ("real-target", "noise")
    ]
    job = _other(setting, "penalty-weights", 2 * setting.preset.steps, rules)
    words = "Projected Adam with L1 weights " + ", ".join(f"{w:g}" for w in WEIGHTS)
    return _again(setting, job, "penalty-weights", words)


def tighter_limit(setting: Setting) -> Experiment:
    """A third of the lit features: what is found so was there under the wider limit, too."""
    limit = max(1, setting.job.conditions.max_lit // 3)
    tight = replace(setting.job.conditions, max_lit=limit)
    job = setting.job_for("tighter-limit", conditions=tight, stop_at_lit=max(1, limit // 10))
    return _again(setting, job, "tighter-limit", f"With at most {limit} lit features")


def gradient_free(setting: Setting) -> Experiment:
    """Searches that never ask for a gradient: what they find, gradients have missed."""
    limit = setting.job.conditions.max_lit
    rules: list[Rule] = [
        ("black", "random-search", always(RandomSearch(features=max(1, limit // 5)))),
        ("black", "random-search", always(RandomSearch(features=max(1, 3 * limit // 5)))),
        ("black", "differential-evolution", always(DifferentialEvolution(min(20, limit)))),
    ]
    job = _other(setting, "gradient-free", 3 * setting.preset.steps, rules)
    words = "By random search and differential evolution"
    return _again(setting, job, "gradient-free", words)


def close_calls(setting: Setting) -> Experiment:
    """Go on from the failed attempts that came closest: fewest conditions lacking, by least."""
    want, attempts = setting.job.conditions, setting.attempts
    closest = sorted(setting.failed, key=lambda i: attempts[i].lacks(want))[: 2 * setting.sample]
    given: list[Rule] = [
        ("given", "sigma-zero", always(SigmaZero(step_size=0.1))),
        ("given", "exchange", always(TabuSearch())),
        ("given", "adaptive-weight", always(ProximalMomentum())),
    ]
    job = _other(setting, "close-calls", setting.preset.steps, given)
    job = replace(job, starts={"given": setting.tried.best.images[closest]}, real=None)
    targets = [attempts[i].target for i in closest]
    return searched("close-calls", job, targets, "Going on from the images that came closest")


def transfer(setting: Setting, twin: Twin | None) -> Experiment:
    """Images that fool a plain twin, shown to the audited network."""
    code, job = "transfer", setting.job
    if twin is None:
        return not_applicable(code, "there is no twin")
    targets = setting.some_failed(2 * setting.sample, code)
    if not targets:
        return not_applicable(code)
    sure = replace(job.conditions, confidence=max(SURE, job.conditions.confidence))
    stop = {"conditions": sure, "stop_at_lit": sure.max_lit}
    against = setting.job_for(code, classifier=twin.classifier, form=twin.form, **stop)
    made = run_attempts(against, targets)
    attacks = tuple(replace(attack, start=f"twin:{attack.start}") for attack in job.attacks)
    shown = setting.job_for(code, attacks=attacks)
    tried = replace(made, best=scored_once(shown, made.best.images, made.best.targets))
    words = f"Images made against {twin.what} and shown to this network"
    control = Control(code, int(tried.best.met.sum()), len(targets), words)
    return Experiment(control, ((shown, tried),), spent=(made.best,))


def unbounded(setting: Setting) -> Experiment:
    """From real images of other classes, confidence in the target without a limit.

    A network that is flat between its classes stops a descent half-way; such attempts start again
    from an image into which one of the target was mixed. How many got there directly is said.
    """
    code, features = "unbounded", math.prod(setting.job.shape)
    if setting.job.real is None:
        return not_applicable(code, "there are no real images to start from")
    adaptive = always(ProximalMomentum(weight=0.0))
    direct: list[Rule] = [
        ("real-other", "adaptive-weight", adaptive),
        ("real-other", "annealed-top-k", lambda steps, k: AnnealedTopK(goal=k)),
        ("real-other", "fixed-weight", always(ProjectedAdam(weight=0.0))),
    ]
    mixed: list[Rule] = [("blend", "adaptive-weight", adaptive)] * RESTARTS
    job = _other(setting, code, 4 * setting.preset.steps, direct + mixed)
    free = replace(job.conditions, max_lit=features)
    job = replace(job, conditions=free, accept=None, stop_at_lit=features)
    targets = setting.every_class(2 * setting.sample)
    tried = run_attempts(job, targets)
    met = tried.best.met
    numbers = {"direct": int((met & (tried.attack < len(direct))).sum())}
    control = Control(code, int(met.sum()), len(targets), numbers=numbers)
    return Experiment(control, spent=(tried.best,))


def positive_control(setting: Setting, least_rate: float) -> Experiment:
    """The same portfolio against networks that must be fooled in this share of attempts.

    A twin that is as good as never fooled says nothing of the search: its architecture may resist.
    Then the next one stands in. One that is fooled now and then shows a weak search, unless it is
    seldom sure of real images either: then as many more attempts and steps are made as it takes.
    How often the first twin is sure of real test images is noted.
    """
    code, targets = POSITIVE, setting.every_class(max(FEWEST_ON_TWIN, setting.sample))
    seconds, missed, numbers = 0.0, list[str](), dict[str, float]()
    made = not_applicable(code, "no twin could be made")
    for number, twin in enumerate(setting.twins()):
        seconds += twin.seconds
        asked = setting.classes, setting.job.conditions.confidence, twin.form
        sure = evaluate(twin.classifier, setting.test, *asked).confident
        numbers.setdefault(TWIN_CONFIDENT, sure)
        subject = {"classifier": twin.classifier, "form": twin.form}
        best = run_attempts(setting.job_for(f"{code} {number}", more=0, **subject), targets).best
        steps = setting.preset.steps
        while sure < WITHOUT_TWIN and steps < MAX_STEPS and best.met.float().mean() < least_rate:
            steps = min(HARDER * steps, MAX_STEPS)
            best = _once_more(setting, best, f"{code} {number} {steps}", steps, subject)
            if not best.met.any():
                break  # not once even so: its architecture may resist
        harder = {"steps": float(steps)} if steps > setting.preset.steps else {}
        found, before = int(best.met.sum()), f" (after {', '.join(missed)})" if missed else ""
        counts = found, len(targets)
        control = Control(code, *counts, twin.what + before, numbers=numbers | harder)
        on_twin = OnTwin(twin.what, len(targets), tuple(best.lit[best.met].tolist()))
        made = Experiment(control, twin_seconds=seconds, twin=twin, on_twin=on_twin)
        if found > (1 - least_rate) * len(targets):
            break
        missed.append(f"{found} of {len(targets)} on {twin.what}")
    return made


def _once_more(
    setting: Setting, best: Fooling, salt: str, steps: int, subject: dict[str, Any]
) -> Fooling:
    """The attempts that failed made again, `HARDER` times each and with so many steps; what they
    find stands in for these. Passes add up."""
    rows = (~best.met).nonzero().squeeze(1)
    job = setting.job_for(salt, attacks=within(steps), more=0, **subject)
    again = run_attempts(job, best.targets[rows].repeat(HARDER).tolist()).best
    for found in (again.rows(part) for part in torch.arange(len(again)).chunk(HARDER)):
        best = merged(best, rows, found, found.met & ~best.met[rows])
    return best
