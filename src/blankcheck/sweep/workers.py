"""Workers: processes that claim a trial, run it and tell the study; and the command that starts
them and watches."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from blankcheck.cli.settings import HardenSettings
from blankcheck.errors import RunFolderError
from blankcheck.runs.folder import RunFolder
from blankcheck.sweep.alive import BEAT, GRACE, OWNER, Alive, Lost
from blankcheck.sweep.choosing import Seen, why_end
from blankcheck.sweep.space import Choices, Range, Space, trial_seed
from blankcheck.sweep.study import FIRST, REASON, RETRY_OF, SURPLUS, Counts, count, open_study, rank

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

POLL = 0.5
"""Seconds between looks at the study."""
ROUNDS, RESULT = "rounds", "result"
CONFIDENT = "right and confident"
"""The constraint of the study: timid networks resist everything."""
MOST_DEATHS = 10
"""Workers that end one after the other without a trial that ends."""


class Ended(Exception):  # noqa: N818 - an outcome, no error
    """A trial that is not worth finishing; the message says why."""


@dataclass(frozen=True)
class Task:
    """One trial to run. folder: its run folder. earlier: that of the same trial before its worker
    was killed."""

    settings: HardenSettings
    folder: Path
    earlier: Path | None
    seed: int


@dataclass(frozen=True)
class Measured:
    """What a trial reached. rounds: all of them. more: plain values to be kept with it."""

    accuracy: float
    confident: float
    fooled: int
    attempts: int
    rounds: tuple[Seen, ...]
    more: dict[str, Any]


class Run(Protocol):
    """Runs a trial; calls watch after each round, which may raise `Ended`."""

    def __call__(self, task: Task, watch: Callable[[Seen], None]) -> Measured:
        """The measurements."""


@dataclass(frozen=True)
class Job:
    """All that a worker needs; it is sent to its process. make: called once there, gives what runs
    a trial."""

    storage: str
    study: str
    out: Path
    space: Space
    identity: dict[str, Any]
    trials: int
    seed: int
    min_confident: float
    finish_all: bool
    make: Callable[[Job], Run]
    beat: float = BEAT
    grace: float = GRACE


def _worker(job: Job) -> None:
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # the command that started it hears Ctrl-C and decides
    work(job)


def work(job: Job) -> None:
    """The life of a worker: one trial after the other until nothing is left to begin."""
    study = open_study(job.storage, job.study, job.identity)
    run = job.make(job)
    parent = parent_process()
    while (parent is None or parent.is_alive()) and (trial := claim(study, job)) is not None:
        attempt(study, trial, run, job)


def claim(study: Study, job: Job) -> Trial | None:
    """The next trial, those first whose worker was killed; None where enough are under way."""
    from optuna.trial import TrialState

    if not count(study.get_trials(deepcopy=False), job.trials).to_start:
        return None
    trial = study.ask()
    if (
        trial.user_attrs.get(RETRY_OF) is None
        and rank(study.get_trials(deepcopy=False), trial.number) >= job.trials
    ):
        trial.set_user_attr(SURPLUS, True)
        study.tell(trial, state=TrialState.FAIL)
        return None
    return trial


def attempt(study: Study, trial: Trial, run: Run, job: Job) -> None:
    """Run one trial and tell the study how it ended; a trial that breaks says why, and the sweep
    goes on."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    with Alive(trial, job.beat):
        try:
            task = _task(study, trial, job)
            found = run(task, lambda seen: _look(study, trial, seen, job))
            trial.set_user_attr(ROUNDS, [vars(s) for s in found.rounds])
            trial.set_user_attr(
                RESULT,
                {
                    "confident": found.confident,
                    "fooled": found.fooled,
                    "attempts": found.attempts,
                    **found.more,
                },
            )
            trial.set_constraint(CONFIDENT, job.min_confident - found.confident)
        except UpdateFinishedTrialError:
            return  # given up for lost while this process stood still, and tried again elsewhere
        except Ended as ended:
            trial.set_user_attr(REASON, str(ended))
            study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
        except (
            Exception
        ) as error:  # networks and data of users raise anything; one bad trial is no end of a sweep
            trial.set_user_attr(REASON, " ".join(f"{type(error).__name__}: {error}".split())[:300])
            study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
        else:
            study.tell(
                trial, [found.accuracy, found.fooled / found.attempts], skip_if_finished=True
            )


def _task(study: Study, trial: Trial, job: Job) -> Task:
    """The trial's parameters and seed hang on the sweep's seed and on its number, that of the first
    try where it is tried again; and parameters on the trials that ended before."""
    first, before = trial.user_attrs.get(FIRST, trial.number), trial.user_attrs.get(RETRY_OF)
    seed = trial_seed(job.seed, first)
    study.sampler = sampler(seed)
    for name, values in job.space.search.items():
        suggest(trial, name, values)
    trial.set_user_attr("seed", seed)
    folder = RunFolder(job.out).below(folder_of(trial.number))
    earlier = RunFolder(job.out).below(folder_of(before)) if before is not None else None
    settings = job.space.settings({name: trial.params[name] for name in job.space.search}, seed)
    return Task(settings, folder, earlier, job.seed)


def folder_of(number: int) -> str:
    """The run folder of a trial, seen from the folder of the sweep."""
    return f"trials/{number:04d}"


def sampler(seed: int) -> Any:
    """Optuna's multi-objective tree-structured Parzen estimator (Ozaki et al. 2022): ten trials at
    random, then those likely to be better."""
    from optuna.samplers import TPESampler

    return TPESampler(seed=seed)


def suggest(trial: Trial, name: str, values: Choices | Range) -> None:
    """Let the sampler propose one parameter."""
    if isinstance(values, Choices):
        trial.suggest_categorical(name, values.values)
    elif values.whole:
        trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
    else:
        trial.suggest_float(name, values.low, values.high, log=values.log)


def _look(study: Study, trial: Trial, seen: Seen, job: Job) -> None:
    """Keep what a round reached; raises `Ended` where the trial is not worth finishing.

    Optuna's pruners know one aim.
    """
    rounds = [*trial.user_attrs.get(ROUNDS, []), vars(seen)]
    trial.set_user_attr(ROUNDS, rounds)
    if job.finish_all:
        return
    others = [seen_of(t) for t in study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    why = why_end(seen, others)
    if why is not None:
        raise Ended(why)


def seen_of(trial: FrozenTrial) -> list[Seen]:
    """The rounds of a trial so far."""
    return [Seen(**kept) for kept in trial.user_attrs.get(ROUNDS, [])]


def supervise(
    study: Study, job: Job, workers: int, tell: Callable[[Sequence[FrozenTrial], Counts], None]
) -> None:
    """Keep up to so many workers at work until the study has its trials. tell(trials, counts):
    called at every look.

    Raises RunFolderError where workers end again and again without getting anywhere.
    """
    context = get_context("spawn")  # a forked copy of a process that has used torch may stand still
    lost = Lost(study, job.grace)
    at_work: list[SpawnProcess] = []
    deaths, settled = 0, -1
    try:
        while True:
            dead = [p for p in at_work if not p.is_alive()]
            at_work = [p for p in at_work if p not in dead]
            lost.pick_up()
            trials = study.get_trials(deepcopy=False)
            counts = count(trials, job.trials)
            tell(trials, counts)
            deaths = (deaths if counts.settled == settled else 0) + sum(
                p.exitcode != 0 for p in dead
            )
            settled = counts.settled
            if counts.done:
                return
            if deaths >= MOST_DEATHS:
                raise RunFolderError(
                    f"{deaths} workers of the sweep ended one after the other before a trial did, the last "
                    f"with exit code {dead[-1].exitcode if dead else 1}"
                )
            for _ in range(min(workers - len(at_work), counts.to_start - _idle(at_work, trials))):
                process = context.Process(target=_worker, args=(job,))
                process.start()
                at_work.append(process)
            _wait(at_work)
    finally:
        for process in at_work:
            process.terminate()
        for process in at_work:
            process.join()
        lost.pick_up()


def _idle(at_work: Sequence[SpawnProcess], trials: Sequence[FrozenTrial]) -> int:
    """Workers that are about to begin a trial."""
    busy = {t.user_attrs.get(OWNER, {}).get("pid") for t in trials if t.state.name == "RUNNING"}
    return sum(p.pid not in busy for p in at_work)


def _wait(at_work: Sequence[SpawnProcess]) -> None:
    """Until a worker ends, or for a moment."""
    if at_work:
        connection.wait([p.sentinel for p in at_work], timeout=POLL)
    else:
        time.sleep(POLL)
