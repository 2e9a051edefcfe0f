"""Trials are run: in this process, or in several that share the study."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from multiprocessing import connection, get_context, parent_process
from statistics import median
from typing import TYPE_CHECKING, Any

from blankcheck.errors import RunFolderError
from blankcheck.sweep import study as of_study
from blankcheck.sweep.study import REASON, RESULT, ROUNDS, Job, Run, Seen, open_study, settled
from blankcheck.text import one_line

if TYPE_CHECKING:
    from optuna import Trial

POLL = 0.5
"""Seconds between looks at the study."""


def sweep(job: Job, workers: int, look: Callable[[], object]) -> None:
    """Work on a study until it has its trials, in this process or in several.

    Args:
        look: called now and then, and after each trial.

    Raises:
        RunFolderError: All workers ended before that.
    """
    if workers == 1:
        work(job, look)
        return
    study, at_work = open_study(job), []
    left = job.options.trials - settled(study.get_trials(deepcopy=False))
    context = get_context("spawn")  # a forked process that has used torch may stand still
    try:
        for _ in range(min(workers, left)):
            process = context.Process(target=_worker, args=(job,))
            process.start()
            at_work.append(process)
        while alive := [process.sentinel for process in at_work if process.is_alive()]:
            connection.wait(alive, timeout=POLL)
            look()
    finally:
        for process in at_work:
            process.terminate()
        for process in at_work:
            process.join()
    codes = [str(process.exitcode) for process in at_work if process.exitcode]
    if codes and settled(study.get_trials()) < job.options.trials:
        said = f"all workers ended, with exit codes {', '.join(codes)}"
        raise RunFolderError(f"{said}; the same command goes on")


def _worker(job: Job) -> None:
    # the command that started it hears Ctrl-C, and ends it so that its trial is tried again
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        work(job)


def work(job: Job, look: Callable[[], object] = lambda: None) -> None:
    """Run one trial after the other, those that lost their process first, until all have ended."""
    import optuna

    study, run, wanted = open_study(job), job.make(job), job.options.trials
    while settled(trials := study.get_trials(deepcopy=False)) < wanted:
        if sum(of_study.counted(t) and t.state.name != "WAITING" for t in trials) < wanted:
            # ValueError: it was given up for lost while this process stood still
            with suppress(ValueError):
                study.optimize(lambda trial: _objective(trial, run, job), 1, catch=(Exception,))
            look()
        elif "://" in job.storage:  # what runs elsewhere may be lost
            time.sleep(POLL)
            optuna.storages.fail_stale_trials(study)
            # which overlooks a trial whose process died before the first sign of life
            old = datetime.now() - timedelta(seconds=job.grace)
            for trial in (t for t in trials if t.state.name == "RUNNING" and not t.user_attrs):
                if trial.datetime_start is not None and trial.datetime_start < old:
                    with suppress(ValueError):
                        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        else:  # a journal knows no signs of life
            return


def _objective(trial: Trial, run: Run, job: Job) -> tuple[float, float]:
    """Run a trial, and keep with it what it reached and why it ended."""
    import optuna

    tries = trial.study.get_trials(deepcopy=False)[trial.number]
    try:
        # all that is drawn hangs on the sweep's seed, the number, and the trials that have ended
        seed = of_study.trial_seed(job.options.seed, [*of_study.history(tries), trial.number][0])
        trial.study.sampler = optuna.samplers.TPESampler(seed=seed)
        trial.set_user_attr("seed", seed)
        settings = job.space.settings(_suggested(trial, job), seed)
        found = run(settings, of_study.folder_of(tries), lambda seen: _watch(trial, seen, job))
        trial.set_user_attr(ROUNDS, found.pop(ROUNDS))
        trial.set_user_attr(RESULT, found)
        trial.set_constraint("right and confident", job.options.min_confident - found["confident"])
        return found["accuracy"], found["fooled"] / found["attempts"]
    except KeyboardInterrupt:
        of_study.try_again(trial.study, trial.study.get_trials()[trial.number])
        raise
    except Exception as error:  # networks and data of users raise anything
        pruned = isinstance(error, optuna.TrialPruned)
        why = str(error) if pruned else f"{type(error).__name__}: {error}"
        trial.set_user_attr(REASON, one_line(why, 300))
        raise


def _suggested(trial: Trial, job: Job) -> dict[str, Any]:
    for name, values in job.space.search.items():
        if hasattr(values, "choices"):
            trial.suggest_categorical(name, values.choices)
        elif isinstance(values.low, int):
            trial.suggest_int(name, values.low, values.high, log=values.log)
        else:
            trial.suggest_float(name, values.low, values.high, log=values.log)
    return {name: trial.params[name] for name in job.space.search}


def _watch(trial: Trial, seen: Seen | None, job: Job) -> None:
    from optuna import TrialPruned

    parent = parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)  # killed with the command; what it had reached is on the disk
    if seen is None:
        return
    before = [s for s in trial.user_attrs.get(ROUNDS, []) if s["share"] < seen["share"]]
    trial.set_user_attr(ROUNDS, [*before, seen])
    trials = trial.study.get_trials(deepcopy=False)
    ended = [t.user_attrs[ROUNDS] for t in trials if t.state.name == "COMPLETE"]
    if not job.options.finish_all and (why := why_end(seen, ended)):
        raise TrialPruned(why)


def why_end(now: Seen, others: Sequence[Sequence[Seen]]) -> str | None:
    """Why a trial is not worth finishing, in a sentence; else None. Optuna's pruners know one aim.
    Differences that count are two standard errors of that of two rates of fifty attempts.

    Args:
        now: the trial after its latest round.
        others: the rounds of each trial that ran to its end. Each is seen where it had trained for
            as large a share, or a little less, so that learning rates are alike.
    """
    before = [[s for s in rounds if s["share"] <= now["share"] + 1e-9] for rounds in others]
    peers = [rounds[-1] for rounds in before if rounds]
    if not 0.5 <= now["share"] < 1 or len(peers) < 4:
        return None
    after, accuracy = f"after {now['share']:.0%} of its training", now["accuracy"]
    middle = median(peer["accuracy"] for peer in peers)
    if accuracy < middle - 0.1:
        far = f"was far below the median of {len(peers)} finished trials, {middle:.1%}"
        return f"{after} its validation accuracy of {accuracy:.1%} {far}"
    surer = [p for p in peers if p["accuracy"] >= accuracy + 0.01]
    ahead = sum(p["rate"] <= now["rate"] - 0.2 for p in surer)
    if ahead < 3:
        return None
    better = f"{ahead} finished trials had been clearly more accurate than its {accuracy:.1%}"
    return f"{after} {better} and fooled clearly less often than its {now['rate']:.0%}"
