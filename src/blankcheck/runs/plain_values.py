"""JSON and YAML from files that anybody may have written: plain values, finite and not deep."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import yaml

from blankcheck.text import one_line

MOST_DEPTH = 64
"""Lists and tables inside each other. Our own files have five."""
MOST_DIGITS = 19
"""Of a whole number: 64 bits."""
DEEP = f"more than {MOST_DEPTH} lists and tables stand inside each other"
TWICE = "a key stands twice in one table, so that readers may differ in what it says"


def _whole(text: str) -> int:
    if len(text.lstrip("-")) > MOST_DIGITS:
        raise ValueError(f"a whole number has {len(text)} digits, at most {MOST_DIGITS} are read")
    return int(text)


def _real(text: str) -> float:
    return number if math.isfinite(number := float(text)) else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no finite number")


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError(TWICE)
    return table


_JSON = json.JSONDecoder(
    parse_int=_whole, parse_float=_real, parse_constant=_refuse, object_pairs_hook=_table
)


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError with words where it is none, is deep, or holds a
    number that is not finite or has endless digits."""
    try:
        value = _JSON.decode(text)
    except RecursionError as error:
        raise ValueError(DEEP) from error
    level = [value] if text.count("[") + text.count("{") > MOST_DEPTH else []
    for _ in range(MOST_DEPTH):
        tables = [each.values() if isinstance(each, dict) else each for each in level]
        level = [inner for table in tables for inner in table if isinstance(inner, dict | list)]
    if level:
        raise ValueError(DEEP)
    return value


class _Plain(yaml.SafeLoader):
    """Builds no value from another's name, so that a short text cannot become a large value."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One node more; refuses aliases and depth."""
        if self.check_event(yaml.AliasEvent):
            raise ValueError("an alias (*name) stands for another value; write the value")
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise ValueError(DEEP)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if len(set(keys)) < len(keys):
                raise ValueError(TWICE)
        return node


def parse_yaml(text: str, values: bool = True) -> Any:
    """The value of a YAML text. Raises ValueError with words where it is none, has aliases or a key
    twice, or is deep. values: False only checks it: its reader may read numbers differently."""
    try:
        return yaml.load(text, _Plain) if values else yaml.compose(text, _Plain)
    except yaml.YAMLError as error:
        raise ValueError(one_line(error)) from error
