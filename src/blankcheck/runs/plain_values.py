"""JSON and YAML from files that anybody may have written: plain values, neither deep nor endless."""

from __future__ import annotations

import json
from typing import Any

import yaml

MOST_DEPTH = 64
"""Lists and tables inside each other. Our own files have five."""
MOST_DIGITS = 19
"""Of a whole number: 64 bits."""


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"a whole number has {len(text)} digits, at most {MOST_DIGITS} are read")
    return int(text)


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError(
            "a key stands twice in one table, so that readers may differ in what it says"
        )
    return table


_JSON = json.JSONDecoder(parse_int=_whole, object_pairs_hook=_table)


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises ValueError with words where it is none, or deep, or holds an endless number.
    """
    try:
        value = _JSON.decode(text)
    except RecursionError as error:
        raise ValueError(_deep()) from error
    if text.count("[") + text.count("{") > MOST_DEPTH:
        _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return
    raise ValueError(_deep())


def _deep() -> str:
    return f"more than {MOST_DEPTH} lists and tables stand inside each other"


class _Plain(yaml.SafeLoader):
    """Builds no value from another's name, so that a short text cannot become a large value."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One node more; refuses aliases and depth."""
        if self.check_event(yaml.AliasEvent):
            raise ValueError("an alias (*name) stands for another value; write the value")
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise ValueError(_deep())
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(keys)) < len(keys):
                raise ValueError("a key stands twice in one table")
        return node


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises ValueError with words where it is none, has aliases, or is deep.
    """
    try:
        return yaml.load(text, _Plain)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error


def check_yaml(text: str) -> None:
    """Raises ValueError as `parse_yaml` does, but makes no values: whoever reads the text may read
    numbers differently."""
    try:
        yaml.compose(text, _Plain)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())[:200]) from error
