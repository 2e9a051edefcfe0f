"""What an audit gathered, as plain numbers: everything a verdict may rest on, savable and re-checkable."""

from __future__ import annotations

from dataclasses import dataclass, field

from blankcheck.types import Conditions


@dataclass(frozen=True)
class Attempt:
    """One attempt: its target and the best image that was found for it.

    process: the process that found it. lit, confidence, ood_p belong to that image. fewest: fewest lit features of
    any confident image met, None when none was.
    """

    target: int
    fooled: bool
    process: str
    lit: int
    confidence: float
    ood_p: float
    fewest: int | None


@dataclass(frozen=True)
class RealData:
    """How the classifier does on the full test set; shares in [0, 1]."""

    accuracy: float
    confident: float
    taken_for_fake: float
    renormalised_confident: float
    per_class: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Control:
    """A control experiment: `found` of `tries`. `why_not` says why it could not run."""

    code: str
    found: int = 0
    tries: int = 0
    detail: str = ""
    why_not: str = ""


@dataclass(frozen=True)
class Cost:
    """Passes and seconds; `twin_seconds` (training the twin) is not part of `seconds`."""

    forward: int
    backward: int
    seconds: float
    twin_seconds: float = 0.0


@dataclass(frozen=True)
class Evidence:
    """The fixed allocation of attempts, extra witnesses found by controls, real data, controls and cost."""

    conditions: Conditions
    classes: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    tried_by: dict[str, int]
    """Attempts each process was run for."""
    real: RealData
    controls: tuple[Control, ...]
    cost: Cost
    extra: tuple[Attempt, ...] = ()
    """Fooled attempts outside the fixed allocation: they can only add FOOLED, never change a rate."""
    notes: dict[str, str] = field(default_factory=dict)
