"""How the command line explains itself: grouped options, defaults that say something, examples,
completion scripts."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, DefaultHelpFormatter  # type: ignore[attr-defined]

from blankcheck.errors import ArgumentError
from blankcheck.files import read_file
from blankcheck.runs.folder import MOST_CONFIG
from blankcheck.runs.plain_values import check_yaml

SHELLS = ("bash", "zsh", "tcsh")
FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""What a completion script offers for options that have no choices, most of which are files or
folders."""
INPUT = ("data", "data_dir", "model", "weights", "normalize", "unsafe_pickle")
RUN = ("out", "overwrite", "seed", "device", "devices", "nodes", "tracker", "json", "quiet")
TITLES = {
    "input": "data and network",
    "AuditSettings": "conditions and search",
    "TrainSettings": "training",
    "HardeningOptions": "hardening",
    "HardenSettings": "hardening",
    "CertifySettings": "proof, and the search beside it",
    "GateSettings": "gate",
    "run": "run",
}
OWN = "of this command"
FIRST = """\
A first session, on small data that need no download:
  blankcheck demo                                   the whole story in a minute or two
  blankcheck doctor --model net.py:make --weights net.pt --data mnist
  blankcheck audit  --model net.py:make --weights net.pt --data mnist --out runs/mine
  blankcheck verify runs/mine --model net.py:make   score what was found again

Exit codes: 0 done (audit: resisted or certified), 10 fooled, 11 inconclusive, 12 a witness was not confirmed,
2 wrong usage or bad input, 130 Ctrl-C, 1 what the machine refuses (disk, memory) and anything unexpected.
$BLANKCHECK_DATA: folder of named data sets. $BLANKCHECK_CACHE: where downloads and twins are kept."""


EXAMPLES = {
    "demo": ("", "--tracker tensorboard --out runs/first"),
    "doctor": (
        "--data mnist --model net.py:make --weights net.pt",
        "--data npz:images.npz --model net.py:make --weights net.pt --normalize 0.5/0.5",
    ),
    "train": (
        "--data mnist --model cnn --out runs/plain",
        "--data npz:images.npz --model net.py:make --epochs 20 --tracker tensorboard --out runs/plain",
    ),
    "audit": (
        "--data mnist --model cnn --weights runs/plain/model.safetensors --out runs/a",
        "--data mnist --model net.py:make --weights net.pt --normalize 0.1307/0.3081 --preset smoke --out runs/a",
        "--data npz:images.npz --model timm:resnet18 --preset proof --devices 4 --json",
    ),
    "harden": (
        "--data mnist --model cnn --out runs/h",
        "--data mnist --model net.py:make --weights net.pt --normalize 0.1307/0.3081 --out runs/h",
        "--data mnist --model cnn --out runs/h --resume",
        "--data mnist --model cnn --out runs/h --overwrite",
    ),
    "report": ("runs/a", "runs/h --before runs/a"),
    "verify": ("runs/a", "runs/a --model net.py:make --weights net.pt"),
    "compare": ("runs/before runs/after --out runs/compare", "runs/* --sort accuracy --json"),
    "blend": ("runs/a", "runs/a --model net.py:make --weights net.pt --alphas 0.1,0.3"),
    "certify": (
        "--data mnist --model net.py:make --weights net.pt --normalize 0.1307/0.3081 --out runs/c",
        "--data digits --model mlp --weights runs/plain/model.safetensors --audit-preset standard --out runs/c",
    ),
    "gate": (
        "--data mnist --model cnn --weights runs/plain/model.safetensors --k 30 --out runs/g",
        "--data mnist --model net.py:make --weights net.pt --normalize 0.1307/0.3081 --k 30 --out runs/g",
    ),
    "sweep": ("--config sweep.yaml --trials 40 --workers 4 --out runs/sweep",),
}


class Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help with one spelling per option, and with defaults only where there is something to say."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        options = action.option_strings
        if len(options) < 2 or not options[0].startswith("--"):
            # jsonargparse puts a backspace before what --print_config may be given
            return super()._format_action_invocation(action).replace(" \b", "")
        # the second spelling, with underscores, is that of configuration files
        return (
            options[0]
            if action.nargs == 0
            else f"{options[0]} {self._format_args(action, self._get_default_metavar_for_optional(action))}"
        )

    def _get_help_string(self, action: argparse.Action) -> str:
        words = action.help or ""
        silent = any(action.default is nothing for nothing in (None, False, argparse.SUPPRESS))
        return words if silent or not action.option_strings else f"{words} (default: %(default)s)"


def title_of(settings: type, name: str) -> str:
    """The heading under which an option of a command stands."""
    if name in INPUT:
        return TITLES["input"]
    if name in RUN:
        return TITLES["run"]
    for cls in reversed(settings.__mro__):
        if name in getattr(cls, "__annotations__", {}):
            return TITLES.get(cls.__name__, OWN)
    return OWN


def in_groups(settings: type) -> list[tuple[str, list[Any]]]:
    """The fields of a settings class under their headings: what goes in first, how it is run last."""
    groups: dict[str, list[Any]] = {TITLES["input"]: []}
    for field in fields(settings):
        groups.setdefault(title_of(settings, field.name), []).append(field)
    last = groups.pop(TITLES["run"], [])
    groups[TITLES["run"]] = last
    return [(title, members) for title, members in groups.items() if members]


def examples(name: str) -> str:
    """The end of a command's help."""
    return "\n".join(
        ["Examples:", *(f"  blankcheck {name} {line}".rstrip() for line in EXAMPLES[name])]
    )


class CheckedConfig(ActionConfigFile):
    """`--config FILE`: a file that is neither endless nor deep, and whose values are written out."""

    def __call__(
        self, parser: Any, cfg: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Raises ArgumentError with one line for any other."""
        try:
            # without a file of this name, the text itself may be a configuration
            check_yaml(
                read_file(Path(values), MOST_CONFIG).decode() if os.path.lexists(values) else values
            )
        except ValueError as error:
            raise ArgumentError(f"config {values[:200]} cannot be used: {error}") from error
        super().__call__(parser, cfg, values, option_string)  # type: ignore[no-untyped-call]


class PrintCompletion(argparse.Action):
    """`--print-completion SHELL`: write a completion script to stdout and end."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Raises ArgumentError where the package that writes such scripts is missing."""
        if importlib.util.find_spec("shtab") is None:
            raise ArgumentError(
                "--print-completion needs the package shtab: pip install 'blankcheck[completion]'"
            )
        sys.stdout.write(f"{parser.get_completion_script(f'shtab-{values}')}\n")
        raise SystemExit(0)
