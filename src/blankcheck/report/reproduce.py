"""What a report says of doing the run again: the command, its settings and the versions it ran
with, as plain text."""

from __future__ import annotations

import shlex
from dataclasses import MISSING, Field, fields
from typing import Any

from blankcheck.classifiers.hubs import is_hub_name
from blankcheck.cli.settings import AuditSettings, DemoSettings, HardenSettings, TrainSettings
from blankcheck.factories import is_factory
from blankcheck.runs.contents import RunContents
from blankcheck.text import NOTHING

SETTINGS: dict[str, type] = {
    "demo": DemoSettings,
    "train": TrainSettings,
    "audit": AuditSettings,
    "harden": HardenSettings,
}
UNSAID = frozenset({"json", "quiet", "resume"})
"""Settings that change how a run speaks or where it went on, not what it makes."""
MOST_LETTERS = 20_000
"""Of the settings on a page."""


def command_line(contents: RunContents) -> str | None:
    """The command that made the run, with every setting that is not the default; None where the
    folder does not hold all settings, as for runs made from Python."""
    settings = SETTINGS.get(contents.command)
    if settings is None or "seed" not in contents.config:
        return None
    words = [
        word
        for field in fields(settings)
        if field.name not in UNSAID
        for word in _option(field, contents.config)
    ]
    return " ".join(["blankcheck", contents.command, *words])


def _option(field: Field[Any], config: dict[str, Any]) -> list[str]:
    value = config.get(field.name)
    default = None if field.default is MISSING else field.default
    # without --seed a reader would have to know the default
    if (
        value is None
        or isinstance(value, dict | list)
        or (value == default and field.name not in ("seed", "data", "model"))
    ):
        return []
    name = f"--{field.name.replace('_', '-')}"
    if isinstance(value, bool):
        return [name] if value else []
    said = shlex.quote(str(value))
    return [f"{name}={said}" if str(value).startswith("-") else f"{name} {said}"]


MOST_NAMED = 300
"""Letters of a model and its weights in a command."""


def commands(contents: RunContents) -> list[tuple[str, str]]:
    """How to repeat the run and check it: command, and what it does."""
    folder = shlex.quote(str(contents.run.path))
    exact = command_line(contents)
    said = (
        [(exact, "makes it again, with the same seed; on the same machine to the same bits")]
        if exact
        else []
    )
    if contents.verdict is not None:
        said.append(
            (
                f"blankcheck verify {folder}{named_again(contents)}",
                "scores every witness again, from its file",
            )
        )
    said.append((f"blankcheck report {folder}", "draws this page again, from the folder alone"))
    return [(printable(command), what) for command, what in said]


def named_again(contents: RunContents) -> str:
    """The options that `verify` needs where the network is a user's: run folders run no code."""
    model, weights = (str(contents.config.get(name) or "") for name in ("model", "weights"))
    if (
        not (is_factory(model) or is_hub_name(model) or model.endswith(".pt2"))
        or len(model + weights) > MOST_NAMED
    ):
        return ""
    return f" --model {shlex.quote(model)}" + (
        f" --weights {shlex.quote(weights)}" if weights else ""
    )


def printable(text: str) -> str:
    """Text for a block of code: letters that would not be seen, or would turn the others round, are
    shown as blanks."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def settings_text(contents: RunContents) -> str:
    """The settings as a configuration file; the rest of very long ones is left out."""
    import yaml

    text = printable(
        str(yaml.safe_dump(contents.config, sort_keys=False, allow_unicode=True))
    ).strip()
    return (
        text
        if len(text) <= MOST_LETTERS
        else f"{text[:MOST_LETTERS]}\n# ... and more, in config.yaml"
    )


def versions(contents: RunContents) -> list[tuple[str, str]]:
    """What the run was made with, as (name, version or value)."""
    known = dict(contents.environment)
    packages = known.pop("packages", {})
    named = packages.items() if isinstance(packages, dict) else []
    rows = [
        *named,
        *((key, value) for key, value in known.items() if key != "command"),
        ("seed", contents.config.get("seed")),
    ]
    return [
        (str(key), NOTHING if value is None else " ".join(str(value).split()))
        for key, value in rows
    ]
