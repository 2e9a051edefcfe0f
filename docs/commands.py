"""Write docs/commands.md, and a page for each command with its examples and options, from the
command line's own parser."""

from __future__ import annotations

import re
import shutil
from argparse import Action
from dataclasses import fields
from pathlib import Path
from textwrap import dedent
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from blankcheck.cli.commands.registry import COMMANDS
from blankcheck.cli.help import INPUT, RUN, heading, in_groups
from blankcheck.cli.parser import command_parser
from blankcheck.cli.settings import Common

HERE = Path(__file__).parent
HIDDEN = {"help", "config", "print_config"}
"""What every command has; the page says it once."""
WRITTEN = "<!-- written by `make docs` from the command line; changes made here are lost -->"
OPENING = """{written}

# Commands

`blankcheck COMMAND [OPTIONS]`, or `python -m blankcheck COMMAND [OPTIONS]`.

{table}

Every command also has `--help`; `--config FILE`, a YAML file of its options, without the dashes and
with `_` for `-`; and `--print_config`, which prints such a file. What is given on the command line
wins over the file. The `config.yaml` of a run folder is such a file: it repeats the run. Options
may be spelt with `-` or with `_`.

The result is on stdout: the word first, and the path of the report alone on a line at the end. All
else is on stderr.

| exit code | means |
| --- | --- |
| 0 | done; of `audit`: RESISTED or CERTIFIED; of `verify`: everything confirmed |
| 10 | `audit` says FOOLED |
| 11 | `audit` says INCONCLUSIVE |
| 12 | `verify`: something was not confirmed; the first lines say what |
| 13 | `verify`: confirmed as far as what is at hand allows; the lines say what was not |
| 2 | wrong usage or bad input, such as a missing file, or a folder that holds a run; in one line |
| 130 | Ctrl-C |
| 1 | what the machine refuses (full disk, no permission, no memory), in one line; the unexpected |

No command writes over the results of another: an `--out` that holds a run is refused, unless
`--overwrite` is given, which removes first what is there, or `--resume`, with which `harden` goes
on. Without `--out`, a command takes `runs/` and its name, or the next free of `runs/NAME-2`,
`runs/NAME-3`, ... While a command writes a folder, a second one is refused.

```{{toctree}}
:hidden:

{names}
```
"""


def pages() -> dict[str, str]:
    """Every page, by its path in this folder."""
    rows = [f"| [`{n}`](commands/{n}.md) | {words(c.summary)} |" for n, c in COMMANDS.items()]
    table = "\n".join(["| command | what it does |", "| --- | --- |", *rows])
    names = "\n".join(f"commands/{name}" for name in COMMANDS)
    first = OPENING.format(written=WRITTEN, table=table, names=names)
    return {"commands.md": first, **{f"commands/{name}.md": page(name) for name in COMMANDS}}


def page(name: str) -> str:
    """One command: what it does, its example, its own options, and those it shares with others."""
    sub, settings = command_parser(name), COMMANDS[name].settings
    common = {field.name for field in fields(Common)}
    titles = [title for title in in_groups(settings) if title not in (INPUT, RUN)]

    def rank(action: Action) -> int:
        title = heading(settings, action.dest)
        return -titles.index(title) if title in titles else 1

    options = sorted((a for a in sub._actions if a.dest not in HIDDEN), key=rank)
    own = [row(a) for a in options if a.dest not in common]
    shared = [row(a) for a in options if a.dest in common]
    parts = [
        WRITTEN,
        f"# {name}",
        words(sub.description or ""),
        code(dedent((sub.epilog or "").removeprefix("Examples:\n"))),
    ]
    if own:
        parts.append("\n".join([HEAD, *own]))
    if shared:
        parts += ["Shared with other commands:" if own else "", "\n".join([HEAD, *shared])]
    return "\n\n".join(part for part in parts if part) + "\n"


HEAD = "| option | default | meaning |\n| --- | --- | --- |"


def row(action: Action) -> str:
    """One option."""
    name = f"`{spelled(action)}`"
    return f"| {name} | {default(action)} | {words(action.help or '')} |"


def spelled(action: Action) -> str:
    """As it is typed: `--max-lit INT`."""
    if not action.option_strings:
        return str(action.metavar or action.dest).upper()
    option = action.option_strings[0]
    return option if action.nargs == 0 else f"{option} {value(action)}"


def value(action: Any) -> str:
    """What stands behind the option: its choices, or the kind of value."""
    kind = getattr(action, "_typehint", str)
    if get_origin(kind) in (Union, UnionType):
        kinds = [each for each in get_args(kind) if each is not type(None)]
        return "/".join(dict.fromkeys(map(_name, kinds)))
    return _name(kind)


def _name(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind))) + "}"
    return "INT" if kind is int else "NUMBER" if kind is float else "TEXT"


def default(action: Action) -> str:
    """What holds without the option."""
    if not action.option_strings:
        return "needed"
    if action.nargs == 0:
        return "off"
    return "" if action.default is None else f"`{action.default}`"


def words(text: str) -> str:
    """Plain text as Markdown in a table; options in it are shown as code."""
    escaped = re.sub(r"([\\`*\[\]<>|])", r"\\\1", " ".join(text.split()))
    return re.sub(r"(?<![\w-])(--[a-z][\w-]*)", r"`\1`", escaped)


def code(text: str) -> str:
    """A line to type."""
    return f"```sh\n{text}\n```" if text else ""


if __name__ == "__main__":
    shutil.rmtree(HERE / "commands", ignore_errors=True)
    (HERE / "commands").mkdir()
    for path, text in pages().items():
        (HERE / path).write_text(text, encoding="utf-8")
