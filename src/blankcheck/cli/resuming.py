"""`--resume`: the run folder to go on in, with the settings that it was begun with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from blankcheck.api.audit import MODEL
from blankcheck.cli.parser import command_parser
from blankcheck.errors import ArgumentError, RunFolderError
from blankcheck.factories import is_factory
from blankcheck.parallel.team import rank_of_process
from blankcheck.runs.claims import RUNS, latest
from blankcheck.runs.folder import CONFIG, HARDENING, MARK, VERDICT, RunFolder
from blankcheck.runs.state import PIECES, STATE

CHANGEABLE = (
    "config",
    "out",
    "resume",
    "overwrite",
    "json",
    "quiet",
    "junit",
    "data_dir",
    "tracker",
)
PROCESSES = ("devices", "nodes")
"""Settings that may differ when a run goes on: they do not change what it does. (Other numbers of
processes draw other random numbers.)"""
CODE = ("model", "data", "unsafe_pickle")
"""Settings that can name code, or allow it, which a run folder never does."""


def resumed(command: str, options: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """The options of a run that goes on: those of its folder, and what was given beside them.

    Args:
        command: `audit` or `harden`.
        options: the words of the command line behind it.
        given: all options, those included that were not given.

    Raises:
        ArgumentError, RunFolderError: there is nothing to go on from, an option contradicts what
            the run was begun with, or code is not named again.
    """
    if given["overwrite"]:
        raise ArgumentError("resume goes on where overwrite begins anew; give one of the two")
    folder = Path(given["out"]) if given["out"] is not None else latest(RUNS / command)
    if rank_of_process() != 0 and not (folder / MARK).is_file():
        return given  # another machine, which is told all options
    run = RunFolder.open(folder)
    _refuse_others(run, command)
    parser = command_parser(command)
    begun = parser.parse_args(["--config", str(run.check(CONFIG))]).as_dict()
    said = parser.parse_args(options, defaults=False).as_dict()
    # with a state, data are compared by what they are, once they are read
    free = {*CHANGEABLE, *PROCESSES, *(["data"] if run.has(STATE) or run.names(PIECES) else [])}
    other = {name: new for name, new in said.items() if name not in free and new != begun[name]}
    if other:
        pairs = (f"{name} was {begun[name]!r}, is {new!r}" for name, new in other.items())
        raise ArgumentError(
            f"--resume goes on with the settings of {run.path}: {'; '.join(pairs)}; leave that out"
        )
    if lacking := [words for name, words in _code(begun).items() if name not in said]:
        raise ArgumentError(f"a run folder runs no code: give {' '.join(lacking)} again")
    speaks = {name: given[name] for name in ("json", "quiet", "overwrite")}
    return begun | said | speaks | {"out": str(run.path), "resume": True}


def _refuse_others(run: RunFolder, command: str) -> None:
    """Whatever is no run of this command that can go on. One that was stopped before it kept
    anything begins again, nothing is lost."""
    begun, kept = run.command, run.has(STATE)
    if command == "audit" and begun == command and run.has(VERDICT):
        words = "its audit has ended, nothing is left to go on with"
        raise RunFolderError(f"run folder {run.path} has a {VERDICT}: {words}")
    ended = command == "harden" and any(run.has(n) for n in (MODEL, HARDENING))
    if begun != command or (ended and not kept):
        lacks = f", and has no {STATE}" if begun == command else ""
        none = f"no state of {'a hardening' if command == 'harden' else 'an audit'} to go on from"
        raise RunFolderError(f"run folder {run.path} has {none}: it is a run of {begun}{lacks}")


def _code(config: dict[str, Any]) -> dict[str, str]:
    """The words that name code again, by setting."""
    named = {name: str(config.get(name)) for name in CODE}
    words = {
        name: f"--{name} {shlex.quote(text)}"
        for name, text in named.items()
        if is_factory(text) or text.endswith(".pt2")
    }
    return words | ({"unsafe_pickle": "--unsafe-pickle"} if config.get("unsafe_pickle") else {})


def way_on(command: str, run: RunFolder) -> str:
    """The command that goes on with a run that was stopped, for a shell."""
    words = ["blankcheck", command, "--resume", "--out", shlex.quote(str(run.path))]
    return " ".join([*words, *_code(run.read_config()).values()])
