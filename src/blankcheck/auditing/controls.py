"""Control experiments: was the search that found nothing able to find something?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from blankcheck.auditing.attempts import Job, Tried, run_attempts, seeded
from blankcheck.auditing.portfolio import BEST, PROCESSES, Process, within
from blankcheck.fooling import STARTS, AdaptiveWeight, Problem
from blankcheck.fooling.starts import Real, Start, real_other, real_target
from blankcheck.judging.evidence import Control
from blankcheck.types import Classifier, stored

REPEATED = 64
HEALTH_IMAGES = 20


@dataclass(frozen=True)
class Twin:
    """A plainly trained network that stands in for "surely foolable". seconds: what its training took, 0 if cached."""

    classifier: Classifier
    form: str
    what: str
    seconds: float = 0.0


def blend(targets: Tensor, shape: tuple[int, int, int], generator: torch.Generator, real: Real | None) -> Tensor:
    """A random mixture of an image of the target class and one of another class."""
    share = torch.rand(len(targets), 1, 1, 1, generator=generator)
    return share * real_target(targets, shape, generator, real) + (1 - share) * real_other(targets, shape, generator, real)


def gaussian(targets: Tensor, shape: tuple[int, int, int], generator: torch.Generator, real: Real | None) -> Tensor:
    """Normal noise with the mean and deviation of real images, clamped: the classic start."""
    mean, std = (float(real[0].mean()), float(real[0].std())) if real is not None else (0.5, 0.25)
    return (mean + std * torch.randn(len(targets), *shape, generator=generator)).clamp(0, 1)


OTHER_STARTS: dict[str, Start] = {**STARTS, "blend": blend, "gaussian": gaussian}
OTHER_PROCESSES: tuple[Process, ...] = tuple(
    Process(start, "adaptive", lambda steps, max_lit: AdaptiveWeight(), 80)
    for start in ("gaussian", "blend", "real-target", "real-other")
)


def positive_control(job: Job, targets: list[int], get_twin: Callable[[], Twin]) -> tuple[Control, Twin]:
    """The same portfolio against a network known to be foolable."""
    twin = get_twin()
    tried = run_attempts(replace(job, classifier=twin.classifier, form=twin.form, more=0), targets)
    return Control("positive-control", int(tried.best.met.sum()), len(targets), twin.what), twin


def more_steps(job: Job, steps: int, failed: list[int], sample: int) -> tuple[Control, tuple[Job, Tried] | None]:
    """Ten times the steps (at most 10,000 a process) on a sample of the attempts that failed."""
    code, ten = "more-steps", min(10 * steps, 10_000)
    if not failed:
        return Control(code, why_not="every attempt was fooled already"), None
    chosen = _sample(failed, sample, job.seed)
    harder = replace(job, processes=within(ten), seed=job.seed + 1, more=0)
    tried = run_attempts(harder, chosen)
    return Control(code, int(tried.best.met.sum()), len(chosen), f"With {ten} steps instead of {steps}"), (
        harder,
        tried,
    )


def more_starts(job: Job, steps: int, failed: list[int], sample: int) -> tuple[Control, tuple[Job, Tried] | None]:
    """Kinds of start the portfolio does not have, and fresh draws of those that work best on hardened networks."""
    code = "more-starts"
    if not failed:
        return Control(code, why_not="every attempt was fooled already"), None
    chosen = _sample(failed, sample, job.seed + 1)
    each = max(20, steps // len(OTHER_PROCESSES))
    processes = tuple(replace(p, steps=each) for p in OTHER_PROCESSES)
    other = replace(job, processes=processes, starts=OTHER_STARTS, seed=job.seed + 2, more=0)
    tried = run_attempts(other, chosen)
    detail = "From Gaussian noise, blends and fresh real images"
    return Control(code, int(tried.best.met.sum()), len(chosen), detail), (other, tried)


def _sample(failed: list[int], n: int, seed: int) -> list[int]:
    order = torch.randperm(len(failed), generator=seeded(seed, "sample"))[:n]
    return [failed[i] for i in sorted(order.tolist())]


def gradient_health(job: Job, targets: list[int]) -> Control:
    """Share of finite, non-zero gradients from each kind of start."""
    few = torch.tensor((targets * HEALTH_IMAGES)[:HEALTH_IMAGES])
    healthy, names = 0, []
    starts = [name for name in dict.fromkeys(p.start for p in PROCESSES) if name not in ("black", BEST)]
    for name in starts:
        start = STARTS[name](few, job.shape, seeded(job.seed, "health", name), job.real)
        problem = Problem(job.classifier, job.form, few.to(job.device))
        seen = problem.measure(stored(start).to(job.device))
        good = seen.finite & (seen.gradient.flatten(1).abs().amax(dim=1) > 0)
        share = float(good.float().mean())
        healthy += share >= 0.9
        if share < 0.9:
            names.append(f"{name} {share:.0%}")
    return Control("gradient-health", healthy, len(starts), ", ".join(names) if names else "all of them")


def repeatable(job: Job, images: Tensor) -> Control:
    """Score the same real images twice, and once more with other neighbours in the batch."""
    some = images[:REPEATED].to(job.device)
    targets = torch.zeros(len(some), dtype=torch.int64, device=job.device)
    first, _ = Problem(job.classifier, job.form, targets).score(some)
    again, _ = Problem(job.classifier, job.form, targets).score(some)
    half = len(some) // 2
    alone, _ = Problem(job.classifier, job.form, targets[:half]).score(some[:half])
    moved = ((first - again).abs() > 1e-3) | torch.cat([(first[:half] - alone).abs() > 1e-3, first[half:] < -1])
    how = "alone and among others" if half else "twice"
    return Control("repeatable", int(moved.sum()), len(some), how)
