"""The study of a sweep in Optuna's storage: opening it, and where its trials stand."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from blankcheck.errors import ArgumentError
from blankcheck.text import short

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

JOURNALS = (".journal", ".log")
DIRECTIONS: tuple[Literal["maximize"], Literal["minimize"]] = ("maximize", "minimize")
"""Of accuracy and of the share of attempts that fool."""
IDENTITY = "blankcheck-sweep"
REASON, SURPLUS, RETRY_OF, FIRST, TRY = "reason", "surplus", "retry_of", "first", "try"
"""What a trial says of itself: why it ended early, that nobody needs it; which trial it repeats,
which the first of these was, and how often its parameters have been tried."""
MOST_TRIES = 3
"""Of the same parameters: a trial that kills every worker is given up."""


def need_optuna() -> None:
    """Raises ArgumentError with the line that installs it where Optuna is missing."""
    if importlib.util.find_spec("optuna") is None:
        raise ArgumentError('sweep needs the package optuna: pip install "blankcheck[sweep]"')


def check_storage(storage: str) -> None:
    """Raises ArgumentError where the text names neither a journal file nor a database."""
    if "://" not in storage and not storage.endswith(JOURNALS):
        raise ArgumentError(
            "storage must be a file that ends in .journal or .log, or the address of a database such as "
            f"sqlite:///sweep.db, got {short(storage)}"
        )


def without_password(storage: str) -> str:
    """The address of a database as files and messages may show it."""
    return re.sub(r"(://[^:/@]*):[^@]*@", r"\1:***@", storage)


def open_study(storage: str, name: str, identity: dict[str, Any]) -> Study:
    """The study of this name, new or to be gone on with. identity: what tells this sweep from
    others.

    Raises ArgumentError where the storage cannot be opened, or where the study is another one.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(
            storage=_storage(storage),
            study_name=name,
            directions=list(DIRECTIONS),
            load_if_exists=True,
        )
        known = study.user_attrs.get(IDENTITY)
        if known is None and not study.get_trials(deepcopy=False):
            study.set_user_attr(IDENTITY, identity)
            known = study.user_attrs[IDENTITY]
        directions = tuple(d.name.lower() for d in study.directions)
    except Exception as error:  # drivers of databases raise anything; what they name is wrong input
        words = " ".join(str(error).split())[:200] or type(error).__name__
        raise ArgumentError(
            f"storage {without_password(storage)} cannot be opened: {words.replace(storage, without_password(storage))}"
        ) from error
    if known is None or directions != DIRECTIONS:
        raise ArgumentError(
            f"study {short(name)} in {without_password(storage)} is no sweep of blankcheck; name another"
        )
    refuse_other(known, identity, f"study {short(name)}")
    return study


def _storage(storage: str) -> BaseStorage:
    from optuna.storages import JournalStorage, RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    if "://" in storage:
        return RDBStorage(storage)
    Path(storage).parent.mkdir(parents=True, exist_ok=True)
    # symbolic links, the default lock, need a privilege on Windows
    lock = JournalFileOpenLock(storage) if os.name == "nt" else None
    return JournalStorage(JournalFileBackend(storage, lock))


def refuse_other(was: Any, now: dict[str, Any], where: str) -> None:
    """ArgumentError with the differences where a sweep is gone on with under other options."""
    before, after = _flat(was), _flat(now)
    differ = [
        f"{name} was {before.get(name, 'not there')}, is {after.get(name, 'not there')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
    if differ:
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise ArgumentError(
            f"{where} belongs to a sweep with other options: {'; '.join(differ[:3])}{more}; "
            "name another --study, --storage or --out"
        )


def _flat(tree: Any, path: str = "") -> dict[str, str]:
    """Leaves of nested tables by their path, each as JSON, so that 1 and 1.0 are told apart only by
    value."""
    if isinstance(tree, dict) and path.count(".") < 2:
        return {
            k: v
            for name, sub in tree.items()
            for k, v in _flat(sub, f"{path}.{name}" if path else str(name)).items()
        }
    return {path: json.dumps(tree, ensure_ascii=False, sort_keys=True)}


@dataclass(frozen=True)
class Counts:
    """How far a study is. wanted: trials asked for; settled: those that ended, whichever way, and
    are not tried again."""

    wanted: int
    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int

    @property
    def settled(self) -> int:
        """Trials that ended."""
        return self.complete + self.pruned + self.failed

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return self.settled >= self.wanted

    @property
    def to_start(self) -> int:
        """Trials that a worker may begin now."""
        return self.waiting + max(0, self.wanted - self.settled - self.running - self.waiting)


def killed(trial: FrozenTrial) -> bool:
    """Whether a trial lost its worker: one that fails on its own says why."""
    return (
        trial.state.name == "FAIL"
        and REASON not in trial.user_attrs
        and SURPLUS not in trial.user_attrs
    )


def tried_again(trial: FrozenTrial) -> bool:
    """Whether the parameters of a killed trial are tried once more."""
    return killed(trial) and trial.user_attrs.get(TRY, 1) < MOST_TRIES


def counted(trial: FrozenTrial) -> bool:
    """Whether a trial counts as one of those asked for: not when it is tried again, or was one too
    many."""
    return not tried_again(trial) and SURPLUS not in trial.user_attrs


def count(trials: Sequence[FrozenTrial], wanted: int) -> Counts:
    """How far a study with these trials is."""
    states = [t.state.name for t in trials if counted(t)]
    return Counts(
        wanted, *(states.count(s) for s in ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING"))
    )


def rank(trials: Sequence[FrozenTrial], number: int) -> int:
    """How many counted trials came before this one: two workers may begin a last trial at once, the
    later one is surplus."""
    return sum(counted(t) for t in trials if t.number < number)
