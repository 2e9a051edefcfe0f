"""What the command line says of itself: headings of options, examples, and their layout."""

from __future__ import annotations

import argparse
from dataclasses import Field, fields
from typing import Any

from jsonargparse import DefaultHelpFormatter

INPUT, RUN = "data and network", "run"
HEADINGS = {
    **dict.fromkeys(("data", "data_dir", "model", "weights", "normalize", "unsafe_pickle"), INPUT),
    **dict.fromkeys(("out", "overwrite", "seed", "device", "devices", "nodes"), RUN),
    **dict.fromkeys(("tracker", "junit", "json", "quiet"), RUN),
}
"""Of options that many commands take; the others stand under that of the class they come from."""
HEADINGS_OF_CLASSES = {
    "AuditSettings": "conditions and search",
    "TrainSettings": "training",
    "HardeningOptions": "hardening",
    "HardenSettings": "hardening",
    "CertifySettings": "proof, and the search beside it",
    "GateSettings": "gate",
}
FIRST = """\
A first session, on small data that need no download:
  blankcheck demo                                   the whole story in a few minutes
  blankcheck doctor --model net.py:make --weights net.pt --data mnist
  blankcheck audit  --model net.py:make --weights net.pt --data mnist --out runs/mine
  blankcheck verify runs/mine --model net.py:make   score what was found again

Exit codes: 0 done (audit: resisted or certified), 10 fooled, 11 inconclusive, 12 a witness was not
confirmed, 13 confirmed in part, 2 wrong usage or bad input, 130 Ctrl-C, 1 what the machine refuses
(disk, memory), anything unexpected, and problems found by doctor --strict.
$BLANKCHECK_DATA: the folder of named data sets.
$BLANKCHECK_CACHE: where downloads and twins are kept."""

EXAMPLES = """\
demo
demo --tracker tensorboard --out runs/first
doctor --data mnist --model net.py:make --weights net.pt
doctor --data npz:images.npz --model net.py:make --weights net.pt --normalize 0.5/0.5 --strict
train --data mnist --model cnn --out runs/plain
train --data npz:images.npz --model net.py:make --epochs 20 --tracker tensorboard --out runs/plain
audit --data mnist --model cnn --weights runs/plain/model.safetensors --out runs/a
audit --data mnist --model net.py:make --weights net.pt --normalize 0.1307/0.3081 \
--preset smoke --out runs/mine
audit --data npz:images.npz --model timm:resnet18 --preset proof --devices 4 --json
harden --data mnist --model cnn --out runs/h
harden --data mnist --model net.py:make --weights net.pt --normalize 0.1307/0.3081 \
--out runs/mine-hardened
harden --data mnist --model cnn --out runs/h --resume
harden --data mnist --model cnn --out runs/h --overwrite
report runs/a
report runs/h --before runs/a
verify runs/a
verify runs/mine --model net.py:make --weights net.pt
compare runs/before runs/after --out runs/compare
compare runs/* --sort accuracy --json
blend runs/a
blend runs/mine --model net.py:make --weights net.pt --alphas 0.1,0.3
certify --data mnist --model net.py:make --weights net.pt --normalize 0.1307/0.3081 --out runs/c
certify --data mnist --model cnn --weights runs/plain/model.safetensors \
--audit-preset standard --out runs/c
gate --data mnist --model cnn --weights runs/plain/model.safetensors --k 30 --out runs/g
gate --data mnist --model net.py:make --weights net.pt --normalize 0.1307/0.3081 --k 30 \
--out runs/g
sweep --config sweep.yaml --trials 40 --workers 4 --out runs/sweep
"""


class Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help with one spelling per option, and with defaults only where there is something to say."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        options = action.option_strings
        if len(options) < 2 or not options[0].startswith("--"):
            # jsonargparse puts a backspace before what --print_config may be given
            return super()._format_action_invocation(action).replace(" \b", "")
        # the second spelling, with underscores, is that of configuration files
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{options[0]} {value}".rstrip()

    def _get_help_string(self, action: argparse.Action) -> str:
        words = action.help or ""
        silent = any(action.default is nothing for nothing in (None, False, argparse.SUPPRESS))
        return words if silent or not action.option_strings else f"{words} (default: %(default)s)"


def heading(settings: type, name: str) -> str:
    """The heading under which an option of a command stands."""
    owners = [c.__name__ for c in settings.__mro__ if name in vars(c).get("__annotations__", ())]
    return HEADINGS.get(name) or HEADINGS_OF_CLASSES.get(owners[-1], "of this command")


def in_groups(settings: type) -> dict[str, list[Field[Any]]]:
    """The fields of a settings class under their headings: what goes in first, how it runs last."""
    groups: dict[str, list[Field[Any]]] = {INPUT: []}
    for field in fields(settings):
        groups.setdefault(heading(settings, field.name), []).append(field)
    groups[RUN] = groups.pop(RUN)
    return {title: members for title, members in groups.items() if members}


def examples(name: str) -> str:
    """The end of a command's help."""
    own = [line for line in EXAMPLES.splitlines() if line.split()[0] == name]
    return "\n".join(["Examples:", *(f"  blankcheck {line}" for line in own)])
