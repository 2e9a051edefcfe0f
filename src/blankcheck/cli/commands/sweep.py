"""`blankcheck sweep`: many hardenings, and the best compromises of accuracy and resistance."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from blankcheck.cli.commands.shared import tell
from blankcheck.cli.settings import HardenSettings, SweepSettings, recorded
from blankcheck.cli.terminal import Terminal
from blankcheck.errors import ArgumentError, BlankcheckError, RunFolderError
from blankcheck.runs.claims import OVERWRITE, RUNS, Claim, held, latest, next_free
from blankcheck.runs.folder import RunFolder
from blankcheck.sweep.results import BEST, Record, fooled_of, results, trial_of, write_results
from blankcheck.sweep.space import read_space
from blankcheck.sweep.study import JOURNALS, Job, open_study, refuse_other, without_password
from blankcheck.sweep.trial import HardenTrial
from blankcheck.sweep.working import sweep
from blankcheck.text import percent

STUDY = "sweep.db"
SAME = ("base", "search", "seed", "attempts", "min_confident", "study", "storage")
"""Settings that a sweep keeps when it goes on."""


def sweep_command(settings: SweepSettings, terminal: Terminal) -> int:
    """Run or go on with a sweep; writes `sweep.html`, `sweep.md`, `sweep.json`, `best.yaml` and
    `front/`."""
    job = _job(settings)
    data = HardenTrial(job).check()
    images = f"{len(data.train)} training images, {len(data.validation)} for validation"
    with _opened(settings, job) as (out, job):
        varied, place = ", ".join(job.space.search), without_password(job.storage)
        terminal.note(f"{data.source}: {images}; model {job.space.base.model}")
        tell(data, terminal)
        study = f"study {settings.study} in {place}"
        terminal.note(f"{settings.trials} trials; varied: {varied}; {study}")
        news = News(job, out, terminal)
        with terminal.progress() as news.bar:
            try:
                sweep(job, settings.workers, news)
            except KeyboardInterrupt as error:
                news.finish()
                error.add_note("the same command goes on")
                raise
        page = news.finish()
        counts, trials = news.found["counts"], news.found["trials"]
        if not counts["finished"]:
            first = next((t["reason"] for t in trials if t["reason"]), "nothing was said")
            raise ArgumentError(f"none of {len(trials)} trials finished; the first: {first}")
        terminal.result("SWEPT", lines(news.found, out), page, {**news.found, "report": page})
    return 0


def _job(settings: SweepSettings) -> Job:
    """The work of a sweep; ArgumentError for anything wrong with what was given."""
    if importlib.util.find_spec("optuna") is None:
        raise ArgumentError('sweep needs the package optuna: pip install "blankcheck[sweep]"')
    for name in ("trials", "workers", "attempts"):
        if getattr(settings, name) < 1:
            raise ArgumentError(f"{name} must be at least 1, got {getattr(settings, name)}")
    if settings.seed < 0:
        raise ArgumentError(f"seed must be at least 0, got {settings.seed}")
    if not 0 <= settings.min_confident <= 1:
        raise ArgumentError(f"min_confident must lie in [0, 1], got {settings.min_confident:g}")
    storage = settings.storage or ""
    if storage and "://" not in storage and not storage.endswith(JOURNALS):
        must = "storage must be the address of a database such as sqlite:///sweep.db, or a file"
        raise ArgumentError(f"{must} that ends in .journal or .log, got {storage[:80]!r}")
    space = read_space(settings.base, settings.search, HardenSettings)
    return Job(settings, space, storage, Path(), HardenTrial)


@contextmanager
def _opened(settings: SweepSettings, job: Job) -> Iterator[tuple[RunFolder, Job]]:
    """The folder and the study, new or gone on with, held inside; refuses those of other sweeps
    before anything is written."""
    shown = settings.storage and without_password(settings.storage)
    config = recorded(settings) | {"storage": shown}
    out = Path(settings.out) if settings.out is not None else None
    old = None if settings.overwrite else _begun(out, config, settings)
    if old is None:
        claim = Claim(out, "sweep", settings.overwrite, (settings.storage,))
    if job.storage:
        open_study(job)
    with held(old) if old is not None else claim.opened() as run:
        if not job.storage and "?" in str(run.path):  # which ends the path in an address
            raise ArgumentError(f"no study can be kept in {run.path}; name a --storage")
        if old is None:
            run.begin("sweep", config, torch.device("cpu"))
        if run.has(STUDY):
            run.check(STUDY)  # which SQLite would follow wherever it leads
        yield run, replace(job, out=run.path, storage=job.storage or f"sqlite:///{run / STUDY}")


def _begun(out: Path | None, config: Record, settings: SweepSettings) -> RunFolder | None:
    """The folder of this very sweep, to go on in; None where there is none. Without --out, a free
    folder is taken in place of one of another sweep."""
    run = RunFolder(out if out is not None else latest(RUNS / "sweep"))
    if run.command != "sweep":
        return None
    try:
        before = run.read_config()
        was, now = ({name: each.get(name) for name in SAME} for each in (before, config))
        refuse_other(was, now, f"out {run.path}")
        if settings.storage is None and not run.has(STUDY) and run.names("trials/*"):
            raise RunFolderError(f"run folder {run.path} has trials, but no {STUDY} to go on from")
    except BlankcheckError as error:
        if out is None:
            return None
        raise type(error)(f"{error}; {OVERWRITE}, and {next_free(run.path)} is free") from error
    return run


class News:
    """Looks at the study, says what has changed since, and writes what was found whenever a trial
    ends. Of trials of an earlier command it says nothing."""

    bar: Any

    def __init__(self, job: Job, out: RunFolder, terminal: Terminal) -> None:
        self.job, self.out, self.terminal = job, out, terminal
        self.study = open_study(job)
        self.found = self._found()
        self.said = self._ended()

    def _found(self) -> Record:
        return results(self.study.get_trials(deepcopy=False), self.job)

    def _ended(self) -> dict[int, Record]:
        trials = self.found["trials"]
        return {t["number"]: t for t in trials if t["state"] not in ("running", "waiting")}

    def __call__(self) -> None:
        """Called at every look."""
        self.found = self._found()
        ended = self._ended()
        for number in sorted(ended.keys() - self.said.keys()):
            self.terminal.note(sentence(ended[number]))
        if ended.keys() != self.said.keys():
            write_results(self.found, self.job, self.out)
        self.said, counts = ended, self.found["counts"]
        done = sum(counts[state] for state in ("finished", "pruned", "failed"))
        self.bar("sweep", done, counts["wanted"], far(self.found))

    def finish(self) -> str:
        """Write all that was found, and return the path of the page."""
        from blankcheck.sweep.page import write_pages  # drawing takes half a second to import

        self.found = self._found()
        write_results(self.found, self.job, self.out)
        return str(write_pages(self.found, self.job, self.study, self.out))


def far(found: Record) -> str:
    """How far a sweep is, for a progress bar."""
    counts, best = found["counts"], trial_of(found, found["best"])
    words = f"{counts['running']} running, {counts['pruned']} pruned"
    if best is None:
        return words
    return f"{words}; best {best['accuracy']:.1%} right, {best['rate']:.0%} fooled"


def sentence(trial: Record) -> str:
    """How a trial ended."""
    what = f"trial {trial['number']}: {trial['state']}"
    if trial["state"] != "finished":
        return f"{what}, {trial['reason']}{', tried again' * (trial['state'] == 'killed')}"
    return f"{what}, {percent(trial['accuracy'])} right, {fooled_of(trial)}"


def lines(found: Record, out: RunFolder) -> list[str]:
    """The lines of the result."""
    c, best = found["counts"], trial_of(found, found["best"])
    ended = {state: c[state] for state in ("finished", "pruned", "failed")}
    counts = ", ".join(f"{count} {state}" for state, count in ended.items())
    said = [f"{sum(ended.values())} trials: {counts}; {len(found['front'])} on the front"]
    if best is not None:
        right = f"{percent(best['accuracy'])} of validation images right"
        sure = f"{percent(best['confident'])} right and confident"
        fooled = f"{fooled_of(best)} (95 % bound {best['rate_upper_95']:.1%})"
        said += [f"best: trial {best['number']}, {right}, {sure}, {fooled}"]
        said += [f"configuration: {out / BEST}"]
    if found["front_is_timid"]:
        few = f"every network was right and confident on fewer than {found['min_confident']:.0%} of"
        only = "an audit of one can only be FOOLED or INCONCLUSIVE"
        said.append(f"{few} validation images; {only}")
    return said
