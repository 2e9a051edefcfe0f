"""The parsers of the command line, made from the settings of the commands."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from dataclasses import MISSING, Field
from pathlib import Path
from typing import Any, Literal, get_origin, get_type_hints

from docstring_parser import parse

# jsonargparse hands on what it does not list in __all__
from jsonargparse import SUPPRESS, ActionConfigFile, ArgumentParser  # type: ignore[attr-defined]

from blankcheck import __version__
from blankcheck.cli.commands.registry import COMMANDS
from blankcheck.cli.help import FIRST, Formatter, examples, in_groups
from blankcheck.errors import ArgumentError

FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""What a completion script offers for options without choices, most of which are files or folders.
"""
FORM: dict[str, Any] = {"formatter_class": Formatter, "exit_on_error": False}


def parser(options: bool = True) -> ArgumentParser:
    """The parser of the whole command line.

    Args:
        options: with the options of every command; without, it is quicker and knows only their
            names and summaries.
    """
    words = "Is your classifier sure of what it sees, or just sure?"
    named: dict[str, Any] = {"prog": "blankcheck", "version": __version__, **FORM}
    top = ArgumentParser(description=words, epilog=FIRST, **named)
    words = "print a completion script for a shell, and end"
    shells: dict[str, Any] = {"choices": ("bash", "zsh", "tcsh"), "action": PrintCompletion}
    top.add_argument("--print-completion", help=words, default=SUPPRESS, dest=SUPPRESS, **shells)
    labels: dict[str, Any] = {"title": "commands", "description": None, "metavar": "COMMAND"}
    commands = top.add_subcommands(required=True, dest="command", **labels)
    for name, command in COMMANDS.items():
        sub = command_parser(name) if options else ArgumentParser(exit_on_error=False)
        commands.add_subcommand(name, sub, help=command.summary)
    return top


def command_parser(name: str) -> ArgumentParser:
    """The parser of one command: a field of its settings without a default is positional."""
    settings, usage = COMMANDS[name].settings, f"blankcheck {name} [options]"
    hints, helps = get_type_hints(settings), dict[str, str]()
    for cls in reversed(settings.__mro__):
        helps |= {p.arg_name: p.description or "" for p in parse(cls.__doc__ or "").params}
    one = ArgumentParser(description=COMMANDS[name].summary, epilog=examples(name), **FORM)
    words = "a YAML file of these options, such as a run folder's config.yaml"
    one.add_argument("--config", action=CheckedConfig, help=words)
    for title, members in in_groups(settings).items():
        group = one.add_argument_group(title)
        for field in members:
            _add_option(group, field, hints[field.name], " ".join(helps[field.name].split()))
            usage += f" {field.name.upper()}" if field.default is MISSING else ""
    one.usage = usage
    return one


def _add_option(group: Any, field: Field[Any], hint: Any, words: str) -> None:
    if field.default is MISSING:
        many = {"nargs": "+"} if hint == list[str] else {}
        group.add_argument(field.name, type=str, help=words, **many).complete = FILES
        return
    spellings = dict.fromkeys((f"--{field.name.replace('_', '-')}", f"--{field.name}"))
    if hint is bool:
        # the type is asked for values from configuration files alone
        group.add_argument(*spellings, action="store_true", help=words).type = _true_or_false
        return
    action = group.add_argument(*spellings, type=hint, default=field.default, help=words)
    if get_origin(hint) is not Literal:
        action.complete = FILES


def _true_or_false(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"expected true or false, got {value!r}")


class CheckedConfig(ActionConfigFile):
    """`--config FILE`: a file that is neither endless nor deep, with its values written out."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option: str | None = None) -> None:
        """Raises ArgumentError with one line for any other."""
        from blankcheck.files import read_file
        from blankcheck.runs.plain_values import parse_yaml
        from blankcheck.runs.safe_folder import MOST_CONFIG

        try:
            # without a file of this name, the text itself may be a configuration
            is_file = os.path.lexists(values)
            text = read_file(Path(values), MOST_CONFIG).decode() if is_file else values
            parse_yaml(text, values=False)
        except ValueError as error:
            raise ArgumentError(f"config {values[:200]} cannot be used: {error}") from error
        # jsonargparse has no types for its actions
        super().__call__(parser, cfg, values, option)  # type: ignore[no-untyped-call]


class PrintCompletion(argparse.Action):
    """`--print-completion SHELL`: write a completion script to stdout and end."""

    def __call__(self, given: Any, space: Any, values: Any, option: str | None = None) -> None:
        """Raises ArgumentError where the package that writes such scripts is missing."""
        if importlib.util.find_spec("shtab") is None:
            install = "pip install 'blankcheck[completion]'"
            raise ArgumentError(f"--print-completion needs the package shtab: {install}")
        sys.stdout.write(f"{parser().get_completion_script(f'shtab-{values}')}\n")
        raise SystemExit(0)
