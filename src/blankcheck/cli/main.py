"""The command line: `blankcheck COMMAND ...`, also `python -m blankcheck`.

Exit codes: 0 done (audit: resisted or certified; verify: everything confirmed), 10 fooled, 11
inconclusive, 12 something in a run folder was not confirmed, 13 what is at hand confirms a part of
it, 2 wrong usage or bad input (also a file that was named and is not there, and a folder that must
not be written over), 130 Ctrl-C, 1 what the machine refuses (a full disk, no permission, no memory,
a pipe that nobody reads, in one line) and anything unexpected, which alone shows a traceback.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal, get_origin, get_type_hints

from jsonargparse import SUPPRESS, ArgumentError, ArgumentParser, Namespace

from blankcheck.cli.help import (
    EXAMPLES,
    FILES,
    FIRST,
    SHELLS,
    CheckedConfig,
    Formatter,
    PrintCompletion,
    examples,
    in_groups,
)

POSITIONAL = {"verify": "run", "report": "run", "compare": "runs", "blend": "run"}
UNEXPECTED, USAGE, INTERRUPTED = 1, 2, 130


def parser() -> ArgumentParser:
    """The parser of the whole command line."""
    from blankcheck.cli.commands.registry import COMMANDS

    top = ArgumentParser(
        prog="blankcheck",
        description="Is your classifier sure of what it sees, or just sure?",
        epilog=FIRST,
        formatter_class=Formatter,
        exit_on_error=False,
        version=_version(),
    )
    top.add_argument(
        "--print-completion",
        choices=SHELLS,
        action=PrintCompletion,
        default=SUPPRESS,
        dest=SUPPRESS,
        help="print a completion script for a shell, and end",
    )
    commands = top.add_subcommands(
        required=True, dest="command", title="commands", description=None, metavar="COMMAND"
    )
    for name, (settings, _) in COMMANDS.items():
        summary = (settings.__doc__ or "").strip().split("\n")[0]
        sub = ArgumentParser(
            description=summary,
            epilog=examples(name),
            formatter_class=Formatter,
            exit_on_error=False,
            usage=_usage(name),
        )
        sub.add_argument(
            "--config",
            action=CheckedConfig,
            help="a YAML file of these options, such as a run folder's config.yaml",
        )
        _add_options(sub, settings, POSITIONAL.get(name))
        commands.add_subcommand(name, sub, help=summary)
    return top


def _usage(name: str) -> str:
    given = POSITIONAL.get(name)
    return f"blankcheck {name} [options]" + (f" {given.upper()}" if given else "")


def _add_options(sub: ArgumentParser, settings: type, positional: str | None) -> None:
    """One option per field; a bool is a flag."""
    from docstring_parser import parse

    hints = get_type_hints(settings)
    helps: dict[str, str] = {}
    for cls in reversed(settings.__mro__):
        helps |= {p.arg_name: p.description or "" for p in parse(cls.__doc__ or "").params}
    for title, members in in_groups(settings):
        group = sub.add_argument_group(title)
        for field in members:
            words = " ".join(helps.get(field.name, "").split())
            if field.name == positional:
                many: dict[str, Any] = {"nargs": "+"} if hints[field.name] == list[str] else {}
                group.add_argument(field.name, type=str, help=words, **many).complete = FILES
                continue
            spelled = dict.fromkeys((f"--{field.name.replace('_', '-')}", f"--{field.name}"))
            if hints[field.name] is bool:
                group.add_argument(*spelled, action="store_true", help=words)
            else:
                action = group.add_argument(
                    *spelled, type=hints[field.name], default=field.default, help=words
                )
                if not action.choices and get_origin(hints[field.name]) is not Literal:
                    action.complete = FILES


def _version() -> str:
    from blankcheck import __version__

    return __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    from blankcheck.errors import BlankcheckError
    from blankcheck.parallel.team import let_first_speak
    from blankcheck.surroundings import refused_by_machine

    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        if sys.stdout is not None:  # as it is where it was closed beforehand
            sys.stdout.flush()
        return code
    except (ArgumentError, BlankcheckError) as error:
        let_first_speak()
        return _refuse(str(error))
    except (OSError, MemoryError, RuntimeError) as error:
        words = refused_by_machine(error)
        if words is None:
            raise
        _let_go_of_stdout()
        return _refuse(words, UNEXPECTED)
    except KeyboardInterrupt:
        sys.stderr.write(
            "blankcheck: interrupted; harden goes on with --resume, sweep with the same command\n"
        )
        return INTERRUPTED


def _run(arguments: list[str]) -> int:
    from blankcheck.cli.commands.registry import COMMANDS
    from blankcheck.cli.terminal import Terminal
    from blankcheck.errors import BlankcheckError

    try:
        chosen: Namespace = parser().parse_args(arguments)
    except (
        TypeError,
        ValueError,
        OverflowError,
    ) as error:  # of values that no option can have, such as endless numbers
        raise BlankcheckError(str(error)) from error
    make, command = COMMANDS[chosen.command]
    options: dict[str, Any] = {
        k: v for k, v in chosen[chosen.command].as_dict().items() if k != "config"
    }
    settings = make(**options)
    return command(settings, Terminal(settings.quiet, settings.json))


def _let_go_of_stdout() -> None:
    """What could not be written is not tried again, and complained about, when Python ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refuse(message: str, code: int = USAGE) -> int:
    """One line, whatever the message was."""
    line = " ".join(message.split())
    for name in EXAMPLES:  # jsonargparse names an option of a subcommand `command.option`
        line = line.replace(f" {name}.", " ")
    line = re.sub(r"Expected a typing\.Literal\[(.*?)\]", r"Expected one of \1", line)
    line = re.sub(r"<class '(\w+)'>", r"\1", line)
    line = re.sub(r'[Pp]arser key "(\w+)":', lambda found: f"--{found[1].replace('_', '-')}:", line)
    line += _meant(line)
    with suppress(OSError):
        sys.stderr.write(f"blankcheck: error: {line}\n")
    return code


def _meant(line: str) -> str:
    """What is likely to have been meant by a misspelt option, or where to look."""
    from dataclasses import fields

    from blankcheck.cli.commands.registry import COMMANDS

    wrong = re.search(r"nrecognized arguments: --([\w-]+)", line)
    if wrong is not None:
        known = {
            field.name.replace("_", "-")
            for settings, _ in COMMANDS.values()
            for field in fields(settings)
        }
        near = difflib.get_close_matches(wrong[1], sorted(known), n=1)
        if near and near[0] == wrong[1].replace("_", "-"):
            return "; this command has no such option"
        return f"; did you mean --{near[0]}?" if near else "; see --help"
    return "; see blankcheck --help" if 'expected "command"' in line else ""


def entry() -> None:
    """The console command."""
    sys.exit(main())
