"""The controls of an audit, run in order or shared by processes, and what remains of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from blankcheck.auditing.controls import probes, watched
from blankcheck.auditing.controls import stronger_search as harder
from blankcheck.auditing.controls.planted import planted_control
from blankcheck.auditing.controls.setting import Experiment, Setting
from blankcheck.auditing.controls.structured import structured
from blankcheck.auditing.controls.third_party import third_party_control
from blankcheck.auditing.judges import Judges
from blankcheck.auditing.third_party import ThirdPartyAttack
from blankcheck.auditing.witnesses import Scored, judged
from blankcheck.judging.check_rules import MIN_CONTROL_RATE
from blankcheck.judging.evidence import Control, OnTwin
from blankcheck.parallel.spread import Spread
from blankcheck.seeds import own_random_numbers, seed_of

PROBES: dict[str, Callable[[Setting], Experiment]] = {
    "gradient-health": probes.gradient_health,
    "best-kept": probes.best_kept,
    "saturation": probes.saturation,
}
LAST: dict[str, Callable[[Setting], Experiment]] = {
    "repeatable": watched.repeatable,
    "batch-independent": watched.batch_independent,
    "watched": watched.watched,
}
"""Run by one process once everything else has been asked: a network may change by being asked."""
SEARCHES: dict[str, Callable[[Setting], Experiment]] = {
    "planted-control": planted_control,
    "more-steps": harder.more_steps,
    "more-restarts": harder.more_restarts,
    "more-starts": harder.more_starts,
    "penalty-weights": harder.penalty_weights,
    "tighter-limit": harder.tighter_limit,
    "close-calls": harder.close_calls,
    "gradient-free": harder.gradient_free,
    "structured": structured,
    "unbounded": harder.unbounded,
}
ORDER = [*PROBES, *LAST, "positive-control", *SEARCHES, "transfer", "rivals"]
"""Codes in the order in which the report speaks of them."""
Piece = tuple[list[str], Callable[[], list[Experiment]]]
"""Words, on which its random numbers hang, and how to run it."""


@dataclass(frozen=True)
class Finished:
    """What remains of an experiment. extra: what its searches of the audited network ended with;
    rules: their first step rules. forward, backward: passes. twin: what it was, if any."""

    control: Control
    extra: tuple[Scored, ...]
    rules: tuple[str, ...]
    forward: int
    backward: int
    oom_splits: int
    twin_seconds: float
    twin: str | None
    on_twin: OnTwin | None


@dataclass(frozen=True)
class Runner:
    """Runs every control. third_party: attacks of other libraries; lacking: which are not had."""

    setting: Setting
    judges: Judges
    third_party: Sequence[ThirdPartyAttack]
    lacking: str

    def run(self, tell: Callable[[int, int, str], None], spread: Spread) -> list[Finished]:
        """Every control, in the order of the report.

        Those that take longest begin first, so that processes that share them end at about the same
        time. tell: called as tell(done, all, words) before each control that this process runs, and
        at the end.
        """
        pieces, last, job = self._pieces(), self._each(LAST), self.setting.job
        steps, done = sum(len(names) for names, _ in (*pieces, *last)), 0

        def run(piece: Piece) -> list[Finished]:
            nonlocal done
            names, experiment = piece
            tell(done, steps, names[0])
            # random numbers that a network draws belong to the experiment, not to whoever runs it
            with own_random_numbers(seed_of(job.seed, *names), [torch.device(job.device)]):
                ended = [self._finished(e) for e in experiment()]
            done += len(names)
            return ended

        parts = spread(len(pieces), lambda index: run(pieces[index]))
        parts += spread(1, lambda _: [finished for piece in last for finished in run(piece)])
        ended = [finished for part in parts for finished in part]
        tell(steps, steps, f"{steps} run")
        return sorted(ended, key=lambda finished: ORDER.index(finished.control.code))

    def _pieces(self) -> list[Piece]:
        """The twin's images are shown by whoever has the twin."""
        last = ["rivals" if self.third_party else "no rivals"]
        others = (self.setting, self.third_party, self.lacking)
        return [
            (["a plain twin", "images of the twin"], self._with_twin),
            *self._each(SEARCHES | PROBES),
            (last, lambda: [third_party_control(*others)]),
        ]

    def _each(self, made: dict[str, Callable[[Setting], Experiment]]) -> list[Piece]:
        return [
            ([code.replace("-", " ")], partial(self._single, make)) for code, make in made.items()
        ]

    def _single(self, make: Callable[[Setting], Experiment]) -> list[Experiment]:
        return [make(self.setting)]

    def _with_twin(self) -> list[Experiment]:
        control = harder.positive_control(self.setting, MIN_CONTROL_RATE)
        return [control, harder.transfer(self.setting, control.twin)]

    def _finished(self, experiment: Experiment) -> Finished:
        """Its images are scored here, by the process that made them."""
        want, code = self.setting.job.conditions, experiment.control.code
        searches = experiment.searches
        spent = [*(tried.best for _, tried in searches), *experiment.spent]
        return Finished(
            experiment.control,
            tuple(
                judged(job, tried, self.judges, label=code, want=want) for job, tried in searches
            ),
            tuple(job.attacks[0].rule for job, _ in searches),
            experiment.forward + sum(int(found.forwards.sum()) for found in spent),
            sum(int(found.steps.sum()) for found in spent),
            sum(tried.oom_splits for _, tried in searches),
            experiment.twin_seconds,
            experiment.twin.what if experiment.twin is not None else None,
            experiment.on_twin,
        )
