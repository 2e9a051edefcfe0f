"""The study of a sweep in Optuna's storage; its heartbeat finds trials without a process."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote_plus

import numpy as np

from blankcheck.errors import ArgumentError
from blankcheck.sweep.space import Space
from blankcheck.text import one_line

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

JOURNALS = (".journal", ".log")
IDENTITY = "blankcheck-sweep"
SECRETS = re.compile(
    r"(?P<before>://[^:/?#]*:|[?&][^=&#]*(?:pass|pwd)[^=&#]*=)"
    r"(?P<secret>(?<=:)[^/?#]*(?=@)|(?<==)[^&#]*)(?P<after>@?)",
    re.IGNORECASE,
)
"""Passwords in the address of a database: before its host, or as an option."""
FEWEST_LETTERS = 4
"""Of a password that is looked for in other words than the address; it stands in any."""
REASON, ROUNDS, RESULT = "reason", "rounds", "result"  # what a trial says of itself
AIMS: list[Literal["maximize", "minimize"]] = ["maximize", "minimize"]  # accuracy, share that fools
MOST_TRIES = 3
"""Of the same parameters: a trial that kills every worker is given up."""

Seen = Mapping[str, float]
"""A trial after a round, in shares: `share` of its training, `accuracy`, `confident`, `rate`."""
Run = Callable[[Any, str, Callable[[Seen | None], None]], dict[str, Any]]
"""Runs a trial: run(settings, name of its folder, watch) -> what was measured. watch(seen) is to be
called after each round, and watch(None) in between; it may raise."""


@dataclass(frozen=True)
class Job:
    """All that a worker needs; it is sent to its process.

    Args:
        options: the settings of the sweep, as its command has them.
        storage: where the study is kept.
        out: the folder of the sweep.
        make: called once in each worker, gives what runs trials.
        beat, grace: seconds between signs of life, and without one after which a trial is lost.
    """

    options: Any
    space: Space
    storage: str
    out: Path
    make: Callable[[Job], Run]
    beat: int = 10
    grace: int = 60

    @property
    def identity(self) -> dict[str, Any]:
        """Plain values that tell this sweep from others."""
        own = {name: getattr(self.options, name) for name in ("seed", "attempts", "min_confident")}
        return self.space.identity() | own


def without_password(storage: str) -> str:
    """The address of a database as files and messages may show it."""
    return SECRETS.sub(r"\g<before>***\g<after>", storage)


def _without_secrets(words: str, storage: str) -> str:
    """What a database says, without its address and without the passwords in that."""
    said = words.replace(storage, without_password(storage))
    secrets = {match["secret"] for match in SECRETS.finditer(storage)}
    for secret in sorted(secrets | set(map(unquote_plus, secrets)), key=len, reverse=True):
        said = said.replace(secret, "***") if len(secret) >= FEWEST_LETTERS else said
    return one_line(said)


def open_study(job: Job) -> Study:
    """The study of a sweep, new or gone on with; ArgumentError where it is another one or cannot be
    opened."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    shown, name = without_password(job.storage), job.options.study
    try:
        study = optuna.create_study(
            storage=_storage(job), study_name=name, directions=AIMS, load_if_exists=True
        )
        if not study.user_attrs and not study.get_trials(deepcopy=False):
            study.set_user_attr(IDENTITY, job.identity)
        known = study.user_attrs.get(IDENTITY)
    except Exception as error:  # drivers of databases raise anything; what they name is wrong input
        words = _without_secrets(one_line(error, 10_000), job.storage)
        raise ArgumentError(f"storage {shown} cannot be opened: {words}") from error
    if known is None:
        raise ArgumentError(f"study {name!r} in {shown} is no sweep of blankcheck")
    refuse_other(known, job.identity, f"study {name!r}")
    return study


def _storage(job: Job) -> BaseStorage:
    from optuna import storages

    if "://" not in job.storage:
        from blankcheck.sweep.journal import Journal

        Path(job.storage).parent.mkdir(parents=True, exist_ok=True)
        return storages.JournalStorage(Journal(job.storage))
    # SQLite makes others wait while one writes
    engine = {"connect_args": {"timeout": 60}} if job.storage.startswith("sqlite") else None
    return storages.RDBStorage(
        job.storage,
        engine,
        heartbeat_interval=job.beat,
        grace_period=job.grace,
        heartbeat_stale_trial_callback=try_again,
    )


def try_again(study: Study, trial: FrozenTrial) -> None:
    """Queue a trial that lost its process once more, unless it has been tried too often."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    RetryHeartbeatStaleTrialCallback(max_retry=MOST_TRIES - 1)(study, trial)


def refuse_other(was: Any, now: dict[str, Any], where: str) -> None:
    """ArgumentError with the differences where a sweep is gone on with under other options."""
    before, after = _flat(was), _flat(now)
    both = [(n, before.get(n), after.get(n)) for n in sorted(before.keys() | after.keys())]
    differ = "; ".join(f"{name} was {old}, is {new}" for name, old, new in both if old != new)
    if differ:
        said = f"{where} belongs to a sweep with other options: {one_line(differ, 300)}"
        raise ArgumentError(f"{said}; name another --study, --storage or --out")


def _flat(tree: Any, path: str = "") -> dict[str, Any]:
    """Leaves of nested tables by their path."""
    if not isinstance(tree, dict):
        return {path.lstrip("."): tree}
    parts = [_flat(part, f"{path}.{name}") for name, part in tree.items()]
    return {name: leaf for part in parts for name, leaf in part.items()}


def history(trial: FrozenTrial) -> list[int]:
    """The earlier tries of a trial, by their numbers."""
    return list(trial.system_attrs.get("retry_history", []))


def killed(trial: FrozenTrial) -> bool:
    """Whether a trial lost its process: one that fails on its own says why."""
    return trial.state.name == "FAIL" and REASON not in trial.user_attrs


def counted(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those asked for, and not one that is tried again."""
    return not killed(trial) or len(history(trial)) >= MOST_TRIES - 1


def settled(trials: Sequence[FrozenTrial]) -> int:
    """How many trials of those asked for have ended."""
    return sum(counted(t) and t.state.is_finished() for t in trials)


def trial_seed(seed: int, number: int) -> int:
    """The seed of a trial, from the sweep's seed and the number of the trial: in 0..2**31-1."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)


def folder_of(trial: FrozenTrial) -> str:
    """The run folder of a trial and all its tries, seen from the folder of the sweep."""
    return f"trials/{[*history(trial), trial.number][0]:04d}"
