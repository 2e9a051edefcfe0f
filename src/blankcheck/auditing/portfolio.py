"""Named processes and presets: what tries to make a fooling image, in which order, within which budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from blankcheck.errors import ArgumentError
from blankcheck.fooling import AdaptiveWeight, AnnealedTopK, GreedyLighting, Solver

POLISH_BACKWARD = 2
"""Backward passes of a process's budget kept for polishing."""


@dataclass(frozen=True)
class Process:
    """A named way of making candidates: step rule + start + mask + stop.

    solver: makes the step rule from (steps, max_lit). steps: its share of the attempt's budget. mask_keep: range of the
    share of positions a random mask keeps for each image, or None. until: `met` for rules that stop by themselves.
    """

    start: str
    rule: str
    solver: Callable[[int, int], Solver]
    steps: int
    mask_keep: tuple[float, float] | None = None
    until: str = "sparsest"
    most: int | None = None
    """Steps beyond which the rule gains nothing."""

    @property
    def name(self) -> str:
        """For example `noise/adaptive`."""
        return f"{self.start}/{self.rule}"


def _greedy(steps: int, max_lit: int) -> Solver:
    # fewer steps need bolder ones
    return GreedyLighting(growth=1.3 if steps >= 18 else 1.6)


def _adaptive(steps: int, max_lit: int) -> Solver:
    return AdaptiveWeight()


def _top_k(share: float) -> Callable[[int, int], Solver]:
    return lambda steps, max_lit: AnnealedTopK(goal=max(1, round(share * max_lit)))


PROCESSES: tuple[Process, ...] = (
    Process("black", "greedy", _greedy, 30, (0.5, 1.0), "met", most=40),
    Process("noise", "top-k", _top_k(0.15), 70),
    Process("near-black", "adaptive", _adaptive, 70, (0.5, 1.0)),
    Process("real-target", "adaptive", _adaptive, 70),
    Process("sparse-noise", "adaptive", _adaptive, 70, (0.3, 1.0)),
    Process("masked-real", "adaptive", _adaptive, 70),
    Process("noise", "wide-top-k", _top_k(0.6), 60),
    Process("real-other", "adaptive", _adaptive, 60),
)
"""In order of what they find on plain networks per pass. No single one wins on every network: greedy lighting on plain
ones, top-k from noise on adversarially trained ones, real starts on hardened ones."""


@dataclass(frozen=True)
class Preset:
    """How hard an audit looks. attempts: in all; per_target: at least this many for each. steps: budget of an attempt."""

    attempts: int
    per_target: int
    steps: int

    def for_targets(self, targets: int) -> int:
        """Attempts per target class."""
        return max(self.per_target, self.attempts // targets)


PRESETS: dict[str, Preset] = {
    "smoke": Preset(attempts=100, per_target=2, steps=150),
    "standard": Preset(attempts=500, per_target=5, steps=500),
    "proof": Preset(attempts=2000, per_target=20, steps=5000),
}


def preset_named(name: str) -> Preset:
    """The preset, or ArgumentError."""
    if name not in PRESETS:
        raise ArgumentError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def within(steps: int, processes: tuple[Process, ...] = PROCESSES) -> tuple[Process, ...]:
    """The processes with their steps stretched or cut to a budget of `steps` backward passes per attempt.

    Below the sum, early processes keep their steps and late ones fall away; above it, all but those with a `most` are
    stretched alike.
    """
    base = sum(p.steps for p in processes)
    if steps < base:
        left = steps
        cut: list[Process] = []
        for process in processes:
            take = min(process.steps, left)
            # a process that could hardly move is worth less than longer earlier ones
            if take >= 20 or not cut:
                cut.append(replace(process, steps=take))
                left -= take
        if left and cut:
            cut[-1] = replace(cut[-1], steps=cut[-1].steps + left)
        return tuple(cut)
    fixed = sum(min(p.steps, p.most) for p in processes if p.most)
    stretch = (steps - fixed) / max(1, base - fixed)
    return tuple(p if p.most else replace(p, steps=int(p.steps * stretch)) for p in processes)
