"""`blankcheck sweep`: many hardenings with different options, and the best compromises between
accuracy and resistance."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from blankcheck.cli.settings import SweepSettings, recorded
from blankcheck.cli.terminal import Bar, Terminal
from blankcheck.errors import ArgumentError, BlankcheckError, RunFolderError
from blankcheck.runs.claims import OVERWRITE, RUNS, Claim, held, latest, next_free
from blankcheck.runs.folder import RunFolder
from blankcheck.sweep.records import KILLED, Found, found_of, point_yaml, sweep_json
from blankcheck.sweep.space import Space, read_space
from blankcheck.sweep.study import (
    Counts,
    check_storage,
    need_optuna,
    open_study,
    refuse_other,
    without_password,
)
from blankcheck.sweep.workers import Job, Run, supervise
from blankcheck.text import percent, short

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

JOURNAL = "sweep.journal"
BEST, FRONT, RECORD = "best.yaml", "front", "sweep.json"


def sweep_command(settings: SweepSettings, terminal: Terminal) -> int:
    """Run or go on with a sweep; writes `sweep.html`, `sweep.md`, `sweep.json`, `best.yaml` and
    `front/`."""
    need_optuna()
    space = check(settings)
    data = _check_trials(space)
    with _opened(settings, space) as (out, job):
        terminal.note(
            f"{data}; model {space.base.model}; {settings.trials} trials, {settings.workers} workers"
        )
        terminal.note(
            f"varied: {', '.join(space.search)}; study {job.study} in {without_password(job.storage)}"
        )
        found = _run(settings, job, out, terminal)
        page = _finish(found, job, out)
        terminal.result(
            "SWEPT",
            lines(found, out),
            page,
            {**sweep_json(found, space, _names(job)), "report": page},
        )
    return 0


def check(settings: SweepSettings) -> Space:
    """The space of a sweep; ArgumentError for anything wrong with what was given."""
    for name in ("trials", "workers", "attempts"):
        if getattr(settings, name) < 1:
            raise ArgumentError(f"{name} must be at least 1, got {getattr(settings, name)}")
    if settings.seed < 0:
        raise ArgumentError(f"seed must be at least 0, got {settings.seed}")
    if not 0 <= settings.min_confident <= 1:
        raise ArgumentError(f"min_confident must lie in [0, 1], got {settings.min_confident:g}")
    if settings.storage is not None:
        check_storage(settings.storage)
    return read_space(settings.base, settings.search)


def _check_trials(space: Space) -> str:
    from blankcheck.sweep.trial import check_trials

    data = check_trials(space)
    return (
        f"{data.source}: {len(data.train)} training images, {len(data.validation)} for validation"
    )


def identity(settings: SweepSettings, space: Space) -> dict[str, Any]:
    """What must stay the same while a sweep goes on; as JSON hands it back."""
    own = {
        "seed": settings.seed,
        "attempts": settings.attempts,
        "min_confident": settings.min_confident,
    }
    known: dict[str, Any] = json.loads(json.dumps({**space.identity(), **own}))
    return known


@contextmanager
def _opened(settings: SweepSettings, space: Space) -> Iterator[tuple[RunFolder, Job]]:
    """The folder and the study, new or gone on with, held inside the block; refuses those of other
    sweeps before anything is written."""
    told = identity(settings, space)
    old = None if settings.overwrite else _begun(settings, told)
    if old is None:
        out = Path(settings.out) if settings.out is not None else None
        claim = Claim(out, "sweep", settings.overwrite, (settings.storage,))
    if settings.storage is not None:
        open_study(settings.storage, settings.study, told)
    with held(old) if old is not None else claim.opened() as run:
        if old is None:
            config = recorded(settings) | {
                "storage": settings.storage and without_password(settings.storage)
            }
            run.begin("sweep", config, torch.device("cpu"))
        yield run, _job(settings, space, told, run)


def _job(settings: SweepSettings, space: Space, told: dict[str, Any], run: RunFolder) -> Job:
    if run.has(JOURNAL):
        run.check(JOURNAL)  # which Optuna would follow wherever it leads
    storage = settings.storage if settings.storage is not None else str(run / JOURNAL)
    return Job(
        storage,
        settings.study,
        run.path,
        space,
        told,
        settings.trials,
        settings.seed,
        settings.min_confident,
        settings.finish_all,
        Maker(settings.attempts, settings.audit, _threads(settings.workers)),
    )


def _begun(settings: SweepSettings, told: dict[str, Any]) -> RunFolder | None:
    """The folder of this very sweep, to go on in; None where there is none. Raises ArgumentError or
    RunFolderError where --out names another sweep; without --out, a free folder is taken
    instead."""
    run = RunFolder(Path(settings.out) if settings.out is not None else latest(RUNS / "sweep"))
    if run.command != "sweep":
        return None
    try:
        _refuse_other_sweep(run, settings, told)
        if settings.storage is None and not run.has(JOURNAL) and run.names("trials/*"):
            raise RunFolderError(
                f"run folder {run.path} has trials, but no {JOURNAL} to go on from"
            )
    except BlankcheckError as error:
        if settings.out is None:
            return None
        raise type(error)(f"{error}; {OVERWRITE}, and {next_free(run.path)} is free") from error
    return run


def _threads(workers: int) -> int:
    return max(1, torch.get_num_threads() // workers)


def _refuse_other_sweep(run: RunFolder, settings: SweepSettings, told: dict[str, Any]) -> None:
    config = run.read_config()
    known = {name: config[name] for name in SweepSettings.__dataclass_fields__ if name in config}
    try:
        before = SweepSettings(**known)
        was = identity(before, read_space(before.base, before.search))
    except (ArgumentError, TypeError, ValueError) as error:
        raise RunFolderError(
            f"{run.path / 'config.yaml'} is not that of a sweep: {short(str(error))}"
        ) from error
    places = {
        "study": settings.study,
        "storage": settings.storage and without_password(settings.storage),
    }
    refuse_other(
        {**was, "study": before.study, "storage": before.storage},
        {**told, **places},
        f"out {run.path}",
    )


class Maker:
    """Makes what runs trials in a worker."""

    def __init__(self, attempts: int, audited: bool, threads: int) -> None:
        self.attempts, self.audited, self.threads = attempts, audited, threads

    def __call__(self, job: Job) -> Run:
        """Called once in each worker."""
        from blankcheck.sweep.trial import HardenTrial

        return HardenTrial(job.space, self.attempts, self.audited, self.threads)


def _run(settings: SweepSettings, job: Job, out: RunFolder, terminal: Terminal) -> Found:
    study = open_study(job.storage, job.study, job.identity)
    with terminal.progress() as bar:
        watcher = Watcher(job, bar, terminal.note, lambda found: write_results(found, job, out))
        try:
            supervise(study, job, settings.workers, watcher)
        except KeyboardInterrupt:
            _finish(
                found_of(study.get_trials(deepcopy=False), job.trials, job.min_confident), job, out
            )
            raise
    return found_of(study.get_trials(deepcopy=False), job.trials, job.min_confident)


class Watcher:
    """Says how far a sweep is, and writes what it has found whenever a trial ends.

    The first look says nothing of trials of an earlier command.
    """

    def __init__(
        self, job: Job, bar: Bar, note: Callable[[str], None], write: Callable[[Found], None]
    ) -> None:
        self._job, self._bar, self._note, self._write = job, bar, note, write
        self._said: set[int] | None = None

    def __call__(self, trials: Sequence[FrozenTrial], counts: Counts) -> None:
        """Called at every look at the study."""
        found = found_of(trials, self._job.trials, self._job.min_confident)
        ended = {t["number"]: t for t in found.trials if t["state"] not in ("running", "waiting")}
        new = ended.keys() - (self._said if self._said is not None else ended.keys())
        for number in sorted(new):
            self._note(sentence(ended[number]))
        if new:
            self._write(found)
        self._said = set(ended)
        self._bar("sweep", counts.settled, counts.wanted, far(found))


def far(found: Found) -> str:
    """How far a sweep is, for a progress bar."""
    c = found.counts
    best = (
        f"; best {found.best.accuracy:.1%} right, {found.best.rate:.0%} fooled"
        if found.best
        else ""
    )
    return f"{c.running} running, {c.pruned} pruned{best}"


def sentence(record: dict[str, Any]) -> str:
    """How a trial ended."""
    what = f"trial {record['number']}: {record['state']}"
    if record["state"] == "finished":
        return f"{what}, {percent(record['accuracy'])} right, {record['fooled']} of {record['attempts']} attempts fooled"
    return f"{what}, {record['reason']}{', tried again' if record['state'] == KILLED else ''}"


def write_results(found: Found, job: Job, out: RunFolder) -> None:
    """`sweep.json`, and a configuration for every point of the front and for the best."""
    out.write_json(RECORD, sweep_json(found, job.space, _names(job)))
    wanted = {f"{p.number:04d}.yaml": p.number for p in found.front}
    for old in out.names(f"{FRONT}/*.yaml"):
        if old.rpartition("/")[2] not in wanted:
            out.remove(old)
    for name, number in wanted.items():
        out.write(f"{FRONT}/{name}", point_yaml(found.record_of(number), job.space))
    if found.best is not None:
        out.write(BEST, point_yaml(found.record_of(found.best.number), job.space))


def _finish(found: Found, job: Job, out: RunFolder) -> str:
    from blankcheck.sweep.page import write_pages  # drawing takes half a second to import

    write_results(found, job, out)
    page = str(write_pages(found, job.space, _names(job), out))
    if found.counts.done and not found.counts.complete:
        first = next((t["reason"] for t in found.trials if t["reason"]), "nothing was said")
        raise ArgumentError(f"none of {found.counts.settled} trials finished; the first: {first}")
    return page


def _names(job: Job) -> dict[str, Any]:
    return {"study": job.study, "seed": job.seed}


def lines(found: Found, out: RunFolder) -> list[str]:
    """The lines of the result."""
    c, best = found.counts, found.best
    said = [
        f"{c.settled} trials: {c.complete} finished, {c.pruned} pruned, {c.failed} failed; {len(found.front)} on the front"
    ]
    if best is None:
        return said
    record = found.record_of(best.number)
    real = f"{percent(best.accuracy)} of validation images right, {percent(best.confident)} right and confident"
    fooled = f"{record['fooled']} of {record['attempts']} attempts fooled (95 % bound {record['rate_upper_95']:.1%})"
    said += [f"best: trial {best.number}, {real}, {fooled}", f"configuration: {out / BEST}"]
    if found.timid:
        said.append(
            f"every network was right and confident on fewer than {found.min_confident:.0%} of validation images; "
            "an audit of one can only be FOOLED or INCONCLUSIVE"
        )
    return said
