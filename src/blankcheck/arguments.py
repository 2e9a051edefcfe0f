"""Arguments of the Python face: numbers and words of the wrong type are said in one line."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from numbers import Integral, Real
from typing import Any, ParamSpec, TypeVar

from blankcheck.errors import ArgumentError
from blankcheck.text import short

P = ParamSpec("P")
R = TypeVar("R")
KINDS: dict[str, tuple[type, str]] = {
    "int": (Integral, "a whole number"),
    "float": (Real, "a number"),
    "str": (str, "a text"),
    "bool": (bool, "True or False"),
    "os.PathLike[str]": (os.PathLike, "a path"),
    "None": (type(None), "None"),
}
"""Annotations that are checked, what they take, numbers of numpy too, and the words for it."""


def check_plain(annotations: Mapping[str, str], given: Mapping[str, Any]) -> None:
    """Raises ArgumentError for a value that its annotation does not take; others than `KINDS` take
    anything."""
    for name, value in given.items():
        kinds = annotations.get(name, "").split(" | ")
        if not KINDS.keys() >= set(kinds):
            continue
        if not isinstance(value, tuple(KINDS[kind][0] for kind in kinds)):
            must = " or ".join(KINDS[kind][1] for kind in kinds)
            raise ArgumentError(f"{name} must be {must}, got {short(value)}")


def plain_arguments(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, whose plain arguments are checked first. Its module has its annotations as
    they are written (`from __future__ import annotations`)."""
    signature = inspect.signature(function)

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        check_plain(function.__annotations__, signature.bind(*args, **kwargs).arguments)
        return function(*args, **kwargs)

    return checked


def options_of(kind: type[Any]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes help and tooltips show the fields of a dataclass among the keyword arguments of a
    function that takes them as `**options`, so that each is written once."""

    def shown(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        *own, rest = signature.parameters.values()
        known = set(signature.parameters)
        named = [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default)
            for f in fields(kind)
            if f.name not in known
        ]
        # inspect reads this attribute, of which the types of functions do not tell
        function.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*own, *named, rest]
        )
        return function

    return shown
