"""Controls that search harder, or elsewhere, where the fixed attempts found nothing.

What they find is a witness.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from blankcheck.auditing.attempts import Job, run_attempts
from blankcheck.auditing.controls.setting import EVERY_ATTEMPT_FOOLED, Experiment, Setting, Twin
from blankcheck.auditing.portfolio import Attack, within
from blankcheck.classifiers import probabilities
from blankcheck.fooling import (
    MAX_STEPS,
    AnnealedTopK,
    DifferentialEvolution,
    ProjectedAdam,
    ProximalMomentum,
    RandomSearch,
    SigmaZero,
    Solver,
    TabuSearch,
)
from blankcheck.judging.evidence import Attempt, Control, OnTwin
from blankcheck.types import NEVER, Fooling, Outcome, count_lit

Rule = tuple[str, str, Callable[[int, int], Solver]]
"""A kind of start, the name of a step rule, and what makes the rule from (steps, max_lit)."""
RESTARTS = 5
WEIGHTS = (0.3, 3.0, 30.0)
"""Of the fixed L1 penalty. One suits most networks; none suits all."""
SURE = 0.99
"""Confidence asked of images that are to be transferred: a twin's border lies elsewhere than the
network's."""
FEWEST_STEPS = 20
POSITIVE = 40
"""Least attempts of the positive control."""


def more_steps(setting: Setting) -> Experiment:
    """Ten times the steps (at most 10,000 an attempt) on a sample of the attempts that failed."""
    steps, ten = setting.preset.steps, min(10 * setting.preset.steps, MAX_STEPS)
    harder = setting.job_for("more-steps", attacks=within(ten), more=0)
    return _again(
        "more-steps", harder, setting, setting.sample, f"With {ten} steps instead of {steps}"
    )


def more_restarts(setting: Setting) -> Experiment:
    """Several fresh attempts for each of a sample of the attempts that failed."""
    restarted = setting.job_for("more-restarts")
    targets = [
        t for t in setting.some_failed(setting.sample, "more-restarts") for _ in range(RESTARTS)
    ]
    return _searched("more-restarts", restarted, targets, f"Starting {RESTARTS} times afresh")


def more_starts(setting: Setting) -> Experiment:
    """Kinds of start the portfolio does not have, and fresh draws of those that work best on
    hardened networks."""
    kinds = ("gaussian", "bright", "sparse-noise", "blend", "real-target", "real-other")
    job = _other(
        setting,
        [(start, "adaptive-weight", _adaptive) for start in kinds],
        setting.preset.steps,
        "more-starts",
    )
    return _again(
        "more-starts",
        job,
        setting,
        2 * setting.sample,
        "From Gaussian noise, bright, blended and real images",
    )


def penalty_weights(setting: Setting) -> Experiment:
    """The classic recipe, projected Adam, over a range of its one hyperparameter."""
    rules = [
        (start, "fixed-weight", _fixed(weight))
        for weight in WEIGHTS
        for start in ("real-target", "noise")
    ]
    job = _other(setting, rules, 2 * setting.preset.steps, "penalty-weights")
    words = "Projected Adam with L1 weights " + ", ".join(f"{w:g}" for w in WEIGHTS)
    return _again("penalty-weights", job, setting, setting.sample, words)


def tighter_limit(setting: Setting) -> Experiment:
    """A third of the lit features allowed: what is found under it was there to be found under the
    wider limit."""
    want = setting.job.conditions
    limit = max(1, want.max_lit // 3)
    tight = replace(want, max_lit=limit)
    job = setting.job_for("tighter-limit", conditions=tight, stop_at_lit=max(1, limit // 10))
    return _again(
        "tighter-limit", job, setting, setting.sample, f"With at most {limit} lit features"
    )


def gradient_free(setting: Setting) -> Experiment:
    """Searches that never ask for a gradient: what they find, gradients have missed."""
    limit = setting.job.conditions.max_lit
    few, many = max(1, limit // 5), max(1, 3 * limit // 5)
    rules: list[Rule] = [
        ("black", "random-search", lambda steps, k: RandomSearch(features=few)),
        ("black", "random-search", lambda steps, k: RandomSearch(features=many)),
        (
            "black",
            "differential-evolution",
            lambda steps, k: DifferentialEvolution(pixels=min(20, limit)),
        ),
    ]
    job = _other(setting, rules, 3 * setting.preset.steps, "gradient-free")
    return _again(
        "gradient-free", job, setting, setting.sample, "By random search and differential evolution"
    )


def close_calls(setting: Setting) -> Experiment:
    """Go on from the images of the failed attempts that came closest: those that lack the fewest
    conditions, by least."""
    if not setting.failed:
        return Experiment(Control("close-calls", why_not=EVERY_ATTEMPT_FOOLED))
    want = setting.job.conditions

    def lacks(attempt: Attempt) -> tuple[int, float]:
        missing = attempt.violates(want)
        return (
            len(missing),
            attempt.ood_p
            if "out_of_distribution" in missing
            else want.confidence - attempt.confidence,
        )

    closest = sorted(setting.failed, key=lambda i: lacks(setting.attempts[i]))[: 2 * setting.sample]
    given: list[Rule] = [
        ("given", "sigma-zero", lambda steps, k: SigmaZero(step_size=0.1)),
        ("given", "exchange", lambda steps, k: TabuSearch()),
        ("given", "adaptive-weight", _adaptive),
    ]
    job = _other(setting, given, setting.preset.steps, "close-calls")
    job = replace(job, starts={"given": setting.tried.best.images[closest]}, real=None)
    targets = [setting.attempts[i].target for i in closest]
    return _searched("close-calls", job, targets, "Going on from the images that came closest")


def transfer(setting: Setting, twin: Twin | None) -> Experiment:
    """Images that fool a plain twin, shown to the audited network."""
    code = "transfer"
    if twin is None:
        return Experiment(Control(code, why_not="there is no twin"))
    if not setting.failed:
        return Experiment(Control(code, why_not=EVERY_ATTEMPT_FOOLED))
    job, targets = setting.job, setting.some_failed(2 * setting.sample, code)
    sure = replace(job.conditions, confidence=max(SURE, job.conditions.confidence))
    classifier, form = twin.classifier, twin.form
    on_twin = setting.job_for(
        code, classifier=classifier, form=form, conditions=sure, stop_at_lit=sure.max_lit
    )
    made = run_attempts(on_twin, targets)
    processes = tuple(replace(p, start=f"twin:{p.start}") for p in job.attacks)
    shown = setting.job_for(code, attacks=processes)
    tried = replace(made, best=scored_once(shown, made.best.images, made.best.targets))
    words = f"Images made against {twin.what} and shown to this network"
    return Experiment(
        Control(code, int(tried.best.met.sum()), len(targets), words),
        ((shown, tried),),
        spent=(made.best,),
    )


def scored_once(job: Job, images: Tensor, targets: Tensor) -> Fooling:
    """Images (n, c, h, w) that somebody else made, as if the job's own search had met each with one
    forward pass."""
    want, lit = job.conditions, count_lit(images)
    p = probabilities(job.classifier, images, job.form).gather(1, targets[:, None]).squeeze(1)
    sure = p >= want.confidence
    good = sure & (lit <= want.max_lit)
    if job.accept is not None and bool(good.any()):
        good[good.clone()] = job.accept(images[good])
    none = torch.zeros_like(targets)
    outcome = torch.where(good, int(Outcome.MET), int(Outcome.OUT_OF_STEPS))
    fewest = torch.where(sure, lit, NEVER)
    return Fooling(images, targets, p, lit, none, none + 1, outcome, fewest, none)


def _other(setting: Setting, rules: list[Rule], steps: int, code: str) -> Job:
    """The same job with one process for each (start, rule), which share `steps`."""
    each = max(FEWEST_STEPS, steps // len(rules))
    processes = tuple(Attack(start, name, rule, each) for start, name, rule in rules)
    return setting.job_for(code, attacks=processes, more=0)


def _again(code: str, job: Job, setting: Setting, n: int, words: str) -> Experiment:
    return _searched(code, job, setting.some_failed(n, code), words)


def _searched(code: str, job: Job, targets: list[int], words: str) -> Experiment:
    if not targets:
        return Experiment(Control(code, why_not=EVERY_ATTEMPT_FOOLED))
    tried = run_attempts(job, targets)
    return Experiment(
        Control(code, int(tried.best.met.sum()), len(targets), words), ((job, tried),)
    )


def _adaptive(steps: int, max_lit: int) -> Solver:
    return ProximalMomentum()


def _fixed(weight: float) -> Callable[[int, int], Solver]:
    return lambda steps, max_lit: ProjectedAdam(weight=weight)


def unbounded(setting: Setting) -> Experiment:
    """From real images of other classes, confidence in the target with as many lit features as it
    takes.

    A network that is flat between its classes stops a descent half-way; such attempts start again
    from an image into which one of the target was mixed. How many got there directly is said.
    """
    code, job = "unbounded", setting.job
    if job.real is None:
        return Experiment(Control(code, why_not="there are no real images to start from"))
    features = job.shape[0] * job.shape[1] * job.shape[2]
    free = replace(job.conditions, max_lit=features)
    rules: list[Rule] = [
        ("real-other", "adaptive-weight", lambda steps, k: ProximalMomentum(weight=0.0)),
        ("real-other", "annealed-top-k", lambda steps, k: AnnealedTopK(goal=k)),
        ("real-other", "fixed-weight", lambda steps, k: ProjectedAdam(weight=0.0)),
        *(
            ("blend", "adaptive-weight", lambda steps, k: ProximalMomentum(weight=0.0))
            for _ in range(RESTARTS)
        ),
    ]
    job = replace(
        _other(setting, rules, 4 * setting.preset.steps, code),
        conditions=free,
        accept=None,
        stop_at_lit=features,
    )
    targets = setting.every_class(2 * setting.sample)
    tried = run_attempts(job, targets)
    direct = tried.best.met & (tried.attack < len(rules) - RESTARTS)
    control = Control(
        code, int(tried.best.met.sum()), len(targets), numbers={"direct": int(direct.sum())}
    )
    return Experiment(control, spent=(tried.best,))


def positive_control(setting: Setting, enough: float) -> Experiment:
    """The same portfolio against networks known to be foolable, which must be in at least `enough`
    of the attempts.

    A twin that is as good as never fooled says nothing of the search: its architecture itself may
    resist. Then the next one stands in. One that is fooled now and then shows that the search is
    too weak.
    """
    code, targets = "positive-control", setting.every_class(max(POSITIVE, setting.sample))
    seconds, missed = 0.0, list[str]()
    control, twin, on_twin = Control(code, why_not="no twin could be made"), None, None
    for number, twin in enumerate(setting.twins()):
        seconds += twin.seconds
        own = setting.job_for(
            f"{code} {number}", classifier=twin.classifier, form=twin.form, more=0
        )
        tried = run_attempts(own, targets)
        found = int(tried.best.met.sum())
        before = f" (after {', '.join(missed)})" if missed else ""
        control = Control(code, found, len(targets), twin.what + before)
        on_twin = OnTwin(twin.what, len(targets), tuple(tried.best.lit[tried.best.met].tolist()))
        if found > (1 - enough) * len(targets):
            break
        missed.append(f"{found} of {len(targets)} on {twin.what}")
    return Experiment(control, twin_seconds=seconds, twin=twin, on_twin=on_twin)
