"""The command line: `blankcheck COMMAND ...`, also `python -m blankcheck`.

The exit codes stand in `help.FIRST`. Every error that can be foreseen is one line; anything
unexpected shows a traceback.

Nothing here imports torch before the options of a command are known to be good.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from shutil import get_terminal_size
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError

from blankcheck.cli.commands.registry import COMMANDS
from blankcheck.cli.parser import command_parser, parser
from blankcheck.errors import BlankcheckError
from blankcheck.text import filled, one_line

if TYPE_CHECKING:
    from blankcheck.parallel.team import Started

UNEXPECTED, USAGE, INTERRUPTED = 1, 2, 130
MOST_LETTERS = 4000
"""Of an error line."""
__all__ = ["entry", "main", "parser"]


def entry() -> None:
    """The console command."""
    sys.exit(main())


def main(arguments: Sequence[str] | None = None, started: Started | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the words of the command line; default those of this process.
        started: what `parallel.team` gives a process that it starts for the same command.
    """
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments), started)
        if sys.stdout is not None:  # as it is where it was closed beforehand
            sys.stdout.flush()
        return code
    except BlankcheckError as error:
        if "TORCHELASTIC_RUN_ID" in os.environ:
            from blankcheck.parallel.team import let_first_speak

            let_first_speak()
        return _refuse(str(error))
    except (OSError, MemoryError, RuntimeError) as error:
        from blankcheck.outputs import refused_by_machine

        words = refused_by_machine(error)
        if words is None:
            raise
        try:
            sys.stdout.flush()
        except (OSError, ValueError):
            # or Python would try again when it ends, and complain
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _refuse(words, UNEXPECTED)
    except KeyboardInterrupt as error:
        # a command whose work is kept says what goes on with it
        sys.stderr.write("; ".join(["blankcheck: interrupted", *_notes(error)]) + "\n")
        return INTERRUPTED


def _notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


def _run(arguments: list[str], started: Started | None) -> int:
    name, *options = arguments or [""]
    try:
        if name not in COMMANDS:
            parser(options=False).parse_args(arguments)  # which ends for --help and --version
            raise ArgumentError(None, "the first word must be a command")
        given = command_parser(name).parse_args(options).as_dict()
        if given.get("resume"):
            from blankcheck.cli.resuming import resumed

            given = resumed(name, options, given)
    except ArgumentError as error:
        raise BlankcheckError(_in_words(str(error), name)) from error
    except (TypeError, ValueError, OverflowError) as error:
        # of values that no option can have, such as endless numbers
        raise BlankcheckError(str(error)) from error
    command = COMMANDS[name]
    settings = command.settings(**{k: v for k, v in given.items() if k != "config"})
    from blankcheck.cli.junit import check_junit
    from blankcheck.cli.terminal import Terminal, stdout_apart

    junit = getattr(settings, "junit", None)
    if junit is not None:
        check_junit(junit)

    shared = getattr(settings, "devices", 1) * getattr(settings, "nodes", 1) > 1
    with stdout_apart(started is not None or not shared) as results, _users_are_not_us(settings):
        terminal = Terminal(settings.quiet, settings.json, arguments, started, results, junit)
        if started is None:
            terminal.working(f"{name}: loading")
        try:
            return command.run(settings, terminal)
        finally:
            terminal.settle()


@contextmanager
def _users_are_not_us(settings: Any) -> Iterator[None]:
    """What code of the factories raises where nothing foresees it is wrong input as well, and only
    we end a command; of anything else the traceback is shown."""
    try:
        yield
    except SystemExit as error:
        from blankcheck.parallel.team import Ended
        from blankcheck.users import place_of

        if isinstance(error, Ended):
            raise
        where = place_of(error) or "code that was called"
        raise BlankcheckError(f"{where} ended the program by {error!r}") from error
    except Exception as error:
        from blankcheck.factories import folder_of
        from blankcheck.users import is_no_fault, place_of, said

        named = (str(getattr(settings, name, "")) for name in ("model", "data"))
        folders = [folder for text in named if (folder := folder_of(text)) is not None]
        if is_no_fault(error) or not place_of(error, folders):
            raise
        raise BlankcheckError(
            f"code of the model or the data raised {said(error, True)}"
        ) from error


def _in_words(message: str, name: str) -> str:
    """What jsonargparse says, and what was probably meant."""
    if not name:
        return f"a command is missing: {', '.join(COMMANDS)}; see blankcheck --help"
    if name not in COMMANDS:
        near = difflib.get_close_matches(name.lower(), COMMANDS, n=1)
        return f"{message}; {f'did you mean {near[0]}?' if near else 'see blankcheck --help'}"
    hints = get_type_hints(COMMANDS[name].settings)
    _, found, said = message.partition('arser key "')
    key, _, said = said.partition('":')
    if found:
        kind, got = said.rpartition("alue: ")[::2]
        if kind and key in hints:
            said = f" expected {_kind(hints[key])}, got {got.strip() or 'nothing'}"
        return f"--{key.replace('_', '-')}:{said}"
    wrong = message.partition("unrecognized arguments: --")[2].split()
    if not wrong:
        return message
    option = wrong[0].partition("=")[0]
    other = {f.name for each in COMMANDS.values() for f in fields(each.settings)} - set(hints)
    if option.replace("-", "_") in other:
        return f"{message}; {name} has no such option"
    near = difflib.get_close_matches(option, [known.replace("_", "-") for known in hints], n=1)
    return f"{message}; did you mean --{near[0]}?" if near else f"{message}; see --help"


def _kind(hint: Any) -> str:
    if get_origin(hint) is Literal:
        words = get_args(hint)
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_kind(each) for each in get_args(hint) if each is not NoneType)
    names = {int: "a whole number", float: "a number", str: "a text", list[str]: "a list of texts"}
    return names.get(hint, str(hint))


def _refuse(message: str, code: int = USAGE) -> int:
    line = f"blankcheck: error: {one_line(message, MOST_LETTERS)}"
    with suppress(OSError, ValueError):
        shown = filled(line, get_terminal_size().columns) if sys.stderr.isatty() else line
        sys.stderr.write(f"{shown}\n")
    return code
