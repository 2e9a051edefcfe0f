"""The controls of an audit, one after another or shared by several processes, and what remains of
each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from blankcheck.auditing.controls import probes
from blankcheck.auditing.controls import stronger_search as harder
from blankcheck.auditing.controls.planted import planted_control
from blankcheck.auditing.controls.setting import Experiment, Setting
from blankcheck.auditing.controls.third_party import rivals as rival_control
from blankcheck.auditing.third_party import ThirdPartyAttack
from blankcheck.auditing.witnesses import Scored, judged
from blankcheck.judging import OODTest
from blankcheck.judging.check_rules import MIN_CONTROL_RATE
from blankcheck.judging.evidence import Control, OnTwin
from blankcheck.parallel.spread import Spread
from blankcheck.seeds import own_random_numbers, seed_of

PROBES = (
    probes.gradient_health,
    probes.repeatable,
    probes.batch_independent,
    probes.best_kept,
    probes.saturation,
)
SEARCHES = (
    planted_control,
    harder.more_steps,
    harder.more_restarts,
    harder.more_starts,
    harder.penalty_weights,
    harder.tighter_limit,
    harder.close_calls,
    harder.gradient_free,
    harder.unbounded,
)
Tell = Callable[[int, int, str], None]
"""Called as tell(done, all, words) after each control that this process ran."""


@dataclass(frozen=True)
class Finished:
    """What remains of an experiment: plain numbers and images. extra: what its searches of the
    audited network ended with;
    rules: their first step rules. forward, backward: passes spent. twin: what it was, where there
    was one."""

    control: Control
    extra: tuple[Scored, ...]
    rules: tuple[str, ...]
    forward: int
    backward: int
    oom_splits: int
    twin_seconds: float
    twin: str | None
    on_twin: OnTwin | None

    @classmethod
    def of(
        cls, experiment: Experiment, setting: Setting, judge: OODTest, second: OODTest
    ) -> Finished:
        """Its images are scored here, by the process that made them."""
        found = [tried for _, tried in experiment.searches]
        spent = [*(tried.best for tried in found), *experiment.spent]
        want, code = setting.job.conditions, experiment.control.code
        return cls(
            control=experiment.control,
            extra=tuple(
                judged(job, tried, judge, second, label=code, want=want)
                for job, tried in experiment.searches
            ),
            rules=tuple(job.attacks[0].rule for job, _ in experiment.searches),
            forward=sum(int(f.forwards.sum()) for f in spent),
            backward=sum(int(f.steps.sum()) for f in spent),
            oom_splits=sum(tried.oom_splits for tried in found),
            twin_seconds=experiment.twin_seconds,
            twin=experiment.twin.what if experiment.twin is not None else None,
            on_twin=experiment.on_twin,
        )


def run_experiments(
    setting: Setting,
    judge: OODTest,
    second: OODTest,
    rivals: Sequence[ThirdPartyAttack],
    lacking: str,
    tell: Tell,
    spread: Spread,
) -> list[Finished]:
    """Every control, in the order of the report.

    Those that take longest begin first, so that processes that share them end at about the same
    time.
    """
    pieces = _pieces(setting, rivals, lacking)
    steps = sum(len(names) for names, _ in pieces)
    done = 0
    tell(0, steps, "")

    def run(index: int) -> list[Finished]:
        nonlocal done
        names, experiment = pieces[index]
        # for networks that draw random numbers: theirs belong to the experiment, not to whoever
        # runs it
        with own_random_numbers(
            seed_of(setting.job.seed, *names), [torch.device(setting.job.device)]
        ):
            ended = [Finished.of(e, setting, judge, second) for e in experiment()]
        done += len(names)
        tell(done, steps, names[-1])
        return ended

    ended = [finished for part in spread(len(pieces), run) for finished in part]
    if done < steps:
        tell(steps, steps, "of other processes")
    order = {code: place for place, code in enumerate(ORDER)}
    return sorted(ended, key=lambda finished: order[finished.control.code])


def _pieces(
    setting: Setting, rivals: Sequence[ThirdPartyAttack], lacking: str
) -> list[tuple[list[str], Callable[[], list[Experiment]]]]:
    """(words, how to run them). The twin's images are shown by whoever has the twin."""

    def with_twin() -> list[Experiment]:
        control = harder.positive_control(setting, MIN_CONTROL_RATE)
        return [control, harder.transfer(setting, control.twin)]

    single = [*SEARCHES, *PROBES]
    return [
        (["a plain twin", "images of the twin"], with_twin),
        *(([each.__name__.replace("_", " ")], _one(each, setting)) for each in single),
        (["rivals" if rivals else "no rivals"], lambda: [rival_control(setting, rivals, lacking)]),
    ]


def _one(run: Callable[[Setting], Experiment], setting: Setting) -> Callable[[], list[Experiment]]:
    return lambda: [run(setting)]


ORDER = (
    "gradient-health",
    "repeatable",
    "batch-independent",
    "best-kept",
    "saturation",
    "positive-control",
    "planted-control",
    "more-steps",
    "more-restarts",
    "more-starts",
    "penalty-weights",
    "tighter-limit",
    "close-calls",
    "gradient-free",
    "unbounded",
    "transfer",
    "rivals",
)
"""Codes in the order in which the report speaks of them."""
