"""What a sweep varies: the options of `harden` that stay as they are, and those that are searched.
Pure.

base:   {data: digits, epochs: 20}
search: {fooling_weight: {low: 0.1, high: 2.0, log: true}, objective: [max-entropy, reject-class]}
"""

from __future__ import annotations

import itertools
import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from blankcheck.cli.settings import HardenSettings
from blankcheck.errors import ArgumentError
from blankcheck.text import short

OF_THE_SWEEP = ("seed", "out", "json", "quiet")
NOT_OF_A_TRIAL = ("resume", "tracker")
FIXED = (
    "data",
    "data_dir",
    "device",
    "weights",
    "normalize",
    "unsafe_pickle",
    "preset",
    "confidence",
    "max_lit",
    "ood_level",
    "rivals",
    "evaluate",
    "hold_out_twin",
)
"""Options under which trials are compared, so that they are the same for all."""
ELSEWHERE = ("data_dir", "device")
"""Options that may differ from machine to machine without making another sweep of it."""
RANGE_KEYS = ("low", "high", "log", "int")
MOST_COMBINATIONS = 4096
"""Of extreme values that are tried at the door."""
HINTS: dict[str, Any] = get_type_hints(HardenSettings)

T = TypeVar("T")


@dataclass(frozen=True)
class Choices:
    """One of these values."""

    values: tuple[Any, ...]

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Every value that must be possible."""
        return self.values


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, both included; `log`: evenly on a logarithmic scale; `whole`: whole
    numbers."""

    low: float
    high: float
    log: bool
    whole: bool

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The ends."""
        return (self.low, self.high)


@dataclass(frozen=True)
class Space:
    """base: what every trial shares. search: what varies, by the names of `HardenSettings`."""

    base: HardenSettings
    search: Mapping[str, Choices | Range]

    def settings(self, params: Mapping[str, Any], seed: int) -> HardenSettings:
        """The settings of one trial, which `harden --config` takes as they are.

        Raises ArgumentError where a parameter is none of the search, as when a stranger wrote into
        the storage.
        """
        if set(params) != set(self.search):
            raise ArgumentError(
                f"a trial must have the parameters {', '.join(self.search)}, got {short(dict(params))}"
            )
        values = {name: _typed(name, value) for name, value in params.items()}
        return replace(self.base, **values, seed=seed)

    def extremes(self) -> Iterator[HardenSettings]:
        """Settings with extreme values of everything that varies, in every combination up to
        `MOST_COMBINATIONS`."""
        sides = [values.extremes for values in self.search.values()]
        for values in itertools.islice(itertools.product(*sides), MOST_COMBINATIONS):
            yield self.settings(dict(zip(self.search, values, strict=True)), seed=0)

    def identity(self) -> dict[str, Any]:
        """Plain values that tell two sweeps apart."""
        base = {
            f.name: getattr(self.base, f.name)
            for f in fields(self.base)
            if f.name not in (*OF_THE_SWEEP, *NOT_OF_A_TRIAL, *ELSEWHERE, *self.search)
        }
        return {
            "base": base,
            "search": {name: _plain(values) for name, values in self.search.items()},
        }


def read_space(base: Any, search: Any) -> Space:
    """The space that `base` and `search` of a sweep file describe.

    Raises ArgumentError with one line.
    """
    given, varied = _table("base", base or {}), _table("search", search)
    if not varied:
        raise ArgumentError(
            "search must name at least one option of harden that varies, as in search: {epochs: [10, 20]}"
        )
    for name in given:
        _known("base", name)
        if name in varied:
            raise ArgumentError(f"{name!r} stands in both base and search")
    settings = replace(
        HardenSettings(), **{name: _value(f"base: {name}", name, v) for name, v in given.items()}
    )
    found = {name: _values(name, values) for name, values in varied.items()}
    if "model" in found and settings.weights is not None:
        raise ArgumentError(
            "search: model may not vary where base names weights, which belong to one model"
        )
    return Space(settings, found)


def trial_seed(seed: int, number: int) -> int:
    """The seed of a trial, from the sweep's seed and the number of the trial: in 0..2**31-1."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0] >> 1)


def _table(what: str, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise ArgumentError(f"{what} must be a table of options of harden, got {short(given)}")
    return given


def _known(where: str, name: str) -> None:
    if name not in HINTS:
        raise ArgumentError(f"{where}: harden has no option {short(name)}")
    if name in OF_THE_SWEEP:
        raise ArgumentError(
            f"{where}: {name} is an option of the sweep itself and stands beside base"
        )
    if name in NOT_OF_A_TRIAL:
        raise ArgumentError(f"{where}: {name} has no meaning for a trial")


def _values(name: str, given: Any) -> Choices | Range:
    where = f"search: {name}"
    _known("search", name)
    if name in FIXED:
        raise ArgumentError(
            f"{where} may not vary, because trials are compared under it; set it in base"
        )
    if isinstance(given, list):
        return _choices(where, name, given)
    if isinstance(given, dict):
        return _range(where, name, given)
    raise ArgumentError(
        f"{where} must be a list of values or {{low: ..., high: ...}}, got {short(given)}"
    )


def _choices(where: str, name: str, given: list[Any]) -> Choices:
    values = tuple(_value(where, name, value) for value in given)
    if not values:
        raise ArgumentError(f"{where} must have at least one value, got an empty list")
    if len(set(values)) < len(values):
        raise ArgumentError(f"{where} has a value twice: {short(given)}")
    return Choices(values)


def _range(where: str, name: str, given: dict[Any, Any]) -> Range:
    unknown = [key for key in given if key not in RANGE_KEYS]
    if unknown:
        raise ArgumentError(
            f"{where}: a range has {', '.join(RANGE_KEYS)}, got {short(unknown[0])}"
        )
    if not {"low", "high"} <= set(given):
        raise ArgumentError(f"{where}: a range needs low and high, got {short(given)}")
    numeric = [kind for kind in _kinds(HINTS[name]) if kind in (int, float)]
    if not numeric:
        raise ArgumentError(
            f"{where} is no number, so it needs a list of values; it may be {_said(HINTS[name])}"
        )
    for key in ("log", "int"):
        if not isinstance(given.get(key, False), bool):
            raise ArgumentError(f"{where}: {key} must be true or false, got {short(given[key])}")
    whole = given.get("int", float not in numeric)
    if float not in numeric and not whole:
        raise ArgumentError(f"{where} takes whole numbers only, so int may not be false")
    low, high = (_bound(f"{where}: {key}", given[key], whole) for key in ("low", "high"))
    log = given.get("log", False)
    if not low < high:
        raise ArgumentError(f"{where}: low must be less than high, got {low:g} and {high:g}")
    if log and low < (1 if whole else math.ulp(0.0)):
        raise ArgumentError(
            f"{where}: low must be {'at least 1' if whole else 'positive'} where log is true, got {low:g}"
        )
    return Range(low, high, log, whole)


def _bound(where: str, value: Any, whole: bool) -> float:
    if not _is_a(value, int) and not (_is_a(value, float) and not whole):
        raise ArgumentError(
            f"{where} must be a {'whole ' if whole else ''}number, got {short(value)}"
        )
    return int(value) if whole else float(value)


def _value(where: str, name: str, value: Any) -> Any:
    """The value as the option's type holds it."""
    hint = HINTS[name]
    if not any(
        value in get_args(kind) if get_origin(kind) is Literal else _is_a(value, kind)
        for kind in _kinds(hint)
    ):
        raise ArgumentError(f"{where} must be {_said(hint)}, got {short(value)}")
    return _typed(name, value)


def _typed(name: str, value: Any) -> Any:
    return float(value) if float in _kinds(HINTS[name]) and _is_a(value, int) else value


def _kinds(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _is_a(value: Any, kind: Any) -> bool:
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if kind is float:
        return isinstance(value, int | float) and math.isfinite(value)
    return isinstance(kind, type) and isinstance(value, kind)


def _said(hint: Any) -> str:
    words = {
        bool: "true or false",
        int: "a whole number",
        float: "a number",
        str: "text",
        type(None): "null",
    }
    return " or ".join(
        f"one of {', '.join(get_args(kind))}" if get_origin(kind) is Literal else words[kind]
        for kind in _kinds(hint)
    )


def _plain(values: Choices | Range) -> Any:
    if isinstance(values, Choices):
        return list(values.values)
    return {"low": values.low, "high": values.high, "log": values.log, "int": values.whole}
