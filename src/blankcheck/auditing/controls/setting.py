"""Control experiments: was the search that found nothing able to find something?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from blankcheck.auditing.attack_run import Job
from blankcheck.auditing.attempts import AttemptResults, run_attempts
from blankcheck.auditing.portfolio import Preset
from blankcheck.data import Split
from blankcheck.judging.evidence import Attempt, Control, OnTwin
from blankcheck.seeds import seed_of, seeded
from blankcheck.types import Classifier, Fooling, Images

SAMPLED = 25
"""A control looks at one attempt in so many, at least at `FEWEST`."""
FEWEST = 10


@dataclass(frozen=True)
class Twin:
    """A plainly trained network, surely foolable. seconds: of its training, 0 if cached."""

    classifier: Classifier
    form: str
    what: str
    seconds: float = 0.0


Twins = Callable[[], Iterator[Twin]]
"""Makes twins, the one most like the audited network first; later ones stand in for it."""


@dataclass(frozen=True)
class Began:
    """What a network was like when the audit began.

    images: (n, c, h, w), 8-bit values. answers: (n, m) probabilities. state: by name a digest of
    each parameter and buffer, and the mode of each module.
    """

    images: Tensor
    answers: Tensor
    state: Mapping[str, str]


@dataclass(frozen=True)
class Setting:
    """What a control may use.

    Args:
        job: how the fixed attempts were made.
        preset: how hard the audit looks.
        attempts: the fixed attempts as plain numbers.
        tried: what they ended with.
        validation: real images that searches may start from.
        test: other real images, to compare networks on.
        classes: how many there are.
        twins: makes plainly trained networks.
        began: what the network was like before anything was searched.
        of_these: the classes that are asked for, where not all are.
    """

    job: Job
    preset: Preset
    attempts: tuple[Attempt, ...]
    tried: AttemptResults
    validation: Images
    test: Split
    classes: int
    twins: Twins
    began: Began
    of_these: tuple[int, ...] = ()

    @property
    def targets(self) -> Sequence[int]:
        """The classes that are asked for."""
        return self.of_these or range(self.classes)

    @cached_property
    def failed(self) -> list[int]:
        """Positions of the attempts that were not fooled."""
        return [i for i, a in enumerate(self.attempts) if not a.fooled]

    def job_for(self, code: str, **changes: Any) -> Job:
        """The job of the fixed attempts for the control of this name, with other random numbers."""
        return replace(self.job, seed=seed_of(self.job.seed, code), **changes)

    @property
    def sample(self) -> int:
        """How many attempts a control looks at."""
        return max(FEWEST, len(self.attempts) // SAMPLED)

    def some_failed(self, n: int, salt: str) -> list[int]:
        """Targets of at most `n` of the failed attempts, drawn at random."""
        order = torch.randperm(len(self.failed), generator=seeded(self.job.seed, salt))[:n]
        return [self.attempts[self.failed[i]].target for i in sorted(order.tolist())]

    def every_class(self, n: int) -> list[int]:
        """`n` targets, the classes in turn."""
        return [self.targets[i % len(self.targets)] for i in range(n)]


@dataclass(frozen=True)
class Experiment:
    """What a control found.

    Args:
        control: as plain numbers.
        searches: of the audited network; their fooling images are extra witnesses.
        spent: searches of copies of it.
        forward: passes beside all searches.
        twin_seconds: what training twins took.
        twin: the last one tried.
        on_twin: what was found on it.
    """

    control: Control
    searches: tuple[tuple[Job, AttemptResults], ...] = ()
    spent: tuple[Fooling, ...] = ()
    forward: int = 0
    twin_seconds: float = 0.0
    twin: Twin | None = None
    on_twin: OnTwin | None = None


def not_applicable(code: str, why: str = "every attempt was fooled already") -> Experiment:
    """An experiment that could not be made."""
    return Experiment(Control(code, why_not=why))


def searched(code: str, job: Job, targets: list[int], words: str) -> Experiment:
    """An attempt for each of these targets."""
    if not targets:
        return not_applicable(code)
    tried = run_attempts(job, targets)
    control = Control(code, int(tried.best.met.sum()), len(targets), words)
    return Experiment(control, ((job, tried),))
