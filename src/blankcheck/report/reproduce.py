"""What a report says of doing the run again: the command, its settings and its versions."""

from __future__ import annotations

import shlex

import yaml

from blankcheck.classifiers.hubs import is_hub_name
from blankcheck.classifiers.model_files import is_model_file
from blankcheck.factories import is_factory
from blankcheck.runs.contents import RunContents
from blankcheck.runs.folder import PACKAGES
from blankcheck.text import NOTHING, one_line

MOST_LETTERS = 20_000
"""Of the settings on a page."""
MOST_WORDS, MOST_COMMAND = 200, 4000
"""Words of a stored command line, and letters of it on a page."""
MOST_NAMED = 300
"""Letters of a model and its weights in a command."""


def command_line(contents: RunContents) -> str:
    """The command that made the run, as it is stored; for older runs and those made from Python,
    the command with all settings from the file."""
    words = contents.environment.get("command_line") or []
    if not 0 < len(words) <= MOST_WORDS:
        words = ["blankcheck", contents.command, "--config", "config.yaml"]
    return one_line(shlex.join(words), MOST_COMMAND)


def commands(contents: RunContents) -> list[tuple[str, str]]:
    """How to repeat the run and check it: command, and what it does."""
    folder = shlex.quote(str(contents.run.path))
    again = "makes it again, with the same seed; on the same machine to the same bits"
    verify = f"blankcheck verify {folder}{named_again(contents)}"
    said = [(command_line(contents), again)]
    if contents.verdict is not None:
        said.append((verify, "scores every witness again, from its file"))
    said.append((f"blankcheck report {folder}", "draws this page again, from the folder alone"))
    return [(printable(command), what) for command, what in said]


def named_again(contents: RunContents) -> str:
    """The options that `verify` needs where the network is a user's: run folders run no code."""
    model, weights = (str(contents.config.get(name) or "") for name in ("model", "weights"))
    own = is_factory(model) or is_hub_name(model) or is_model_file(model)
    if not own or len(model + weights) > MOST_NAMED:
        return ""
    trusted = " --unsafe-pickle" if contents.config.get("unsafe_pickle") is True else ""
    named = f" --model {shlex.quote(model)}{trusted}"
    return f"{named} --weights {shlex.quote(weights)}" if weights else named


def printable(text: str) -> str:
    """Text for a block of code: letters that would not be seen, or would turn the others round, are
    shown as blanks."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def settings_text(contents: RunContents) -> str:
    """The settings as a configuration file; the rest of very long ones is left out."""
    written = str(yaml.safe_dump(contents.config, sort_keys=False, allow_unicode=True))
    text = printable(written).strip()
    more = "\n# ... and more, in config.yaml"
    return text if len(text) <= MOST_LETTERS else text[:MOST_LETTERS] + more


def facts(contents: RunContents) -> list[str]:
    """When, by what and of what a run was made, as far as its folder says."""
    said, config = contents.environment, contents.config
    made = [one_line(said.get("date") or "")[:10]]
    made += [f"blankcheck {one_line((said.get('packages') or {}).get(PACKAGES[0], NOTHING), 20)}"]
    keys = {"preset": "preset", "audit_preset": "preset", "seed": "seed"}
    made += [f"{words} {one_line(config[k], 20)}" for k, words in keys.items() if k in config]
    made += [f"{of} {mark}" for of, mark in contents.fingerprints.items()]
    return [fact for fact in made if fact]


def versions(contents: RunContents) -> list[tuple[str, str]]:
    """What the run was made with, as (name, version or value)."""
    known = dict(contents.environment)
    rows = {**(known.pop("packages", None) or {}), **known, "seed": contents.config.get("seed")}
    shown = [item for item in rows.items() if item[0] not in ("command", "command_line")]
    return [(key, NOTHING if v is None else " ".join(str(v).split())) for key, v in shown]
