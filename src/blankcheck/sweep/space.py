"""What a sweep varies: options of `harden` that all trials share, and those that are searched.

base:   {data: digits, epochs: 20}
search: {fooling_weight: {low: 0.1, high: 2.0, log: true}, objective: [max-entropy, reject-class]}
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args, get_type_hints

import msgspec

from blankcheck.errors import ArgumentError
from blankcheck.text import one_line

REFUSED = {
    "is an option of the sweep itself and stands beside base": ("seed", "out", "json", "quiet"),
    "has no meaning for a trial": ("resume", "tracker", "junit"),
}
FIXED = (
    *("data", "data_dir", "device", "devices", "nodes", "weights", "normalize", "unsafe_pickle"),
    *("preset", "confidence", "max_lit", "ood_level", "rivals", "evaluate", "hold_out_twin"),
    "overwrite",
)
"""Options under which trials are compared, so that they are the same for all."""
ELSEWHERE = ("data_dir", "device")
"""Options that may differ from machine to machine without making another sweep of it."""
MOST_COMBINATIONS = 4096
Number = int | float


class Range(msgspec.Struct, forbid_unknown_fields=True):
    """Numbers from low to high, both included, as a sweep file says it."""

    low: Number
    high: Number
    log: bool = False
    int: bool = False


@dataclass(frozen=True)
class Space:
    """What trials share, the settings of `harden`; and Optuna's distribution of what varies."""

    base: Any
    search: Mapping[str, Any]

    def settings(self, params: Mapping[str, Any], seed: int) -> Any:
        """The settings of one trial, which `harden --config` takes as they are."""
        return msgspec.convert(asdict(self.base) | {**params, "seed": seed}, type(self.base))

    def extremes(self) -> Iterator[Any]:
        """Settings with extreme values of all that varies, in up to `MOST_COMBINATIONS` ways."""
        sides = [getattr(v, "choices", None) or (v.low, v.high) for v in self.search.values()]
        for values in itertools.islice(itertools.product(*sides), MOST_COMBINATIONS):
            yield self.settings(dict(zip(self.search, values, strict=True)), seed=0)

    def identity(self) -> dict[str, Any]:
        """Plain values that tell two sweeps apart."""
        apart = {*itertools.chain(*REFUSED.values()), *ELSEWHERE, *self.search}
        base = {name: value for name, value in asdict(self.base).items() if name not in apart}
        return {"base": base, "search": {name: plain(v) for name, v in self.search.items()}}


def plain(values: Any) -> Any:
    """A distribution as a sweep file writes it."""
    if hasattr(values, "choices"):
        return list(values.choices)
    whole = isinstance(values.low, int)
    return {"low": values.low, "high": values.high, "log": values.log, "int": whole}


def read_space(base: Any, search: Any, settings: type) -> Space:
    """The space that a sweep file describes; ArgumentError with one line for anything wrong.

    Args:
        base: a table of options and their values.
        search: a table of options, each with a list of values or a range.
        settings: the dataclass of the options of `harden`.
    """
    hints, base = get_type_hints(settings), base or {}
    for where, table in (("base", base), ("search", search)):
        if not isinstance(table, dict) or not all(isinstance(name, str) for name in table):
            said = one_line(repr(table), 80)
            raise ArgumentError(f"{where} must be a table of options of harden, got {said}")
        for name in table:
            _check_name(where, name, hints)
    if not search:
        example = "search: {epochs: [10, 20]}"
        raise ArgumentError(f"search must name at least one option that varies, as in {example}")
    if both := sorted(set(base) & set(search)):
        raise ArgumentError(f"{both[0]!r} stands in both base and search")
    given = {name: _value(f"base: {name}", hints[name], value) for name, value in base.items()}
    if "model" in search and given.get("weights") is not None:
        raise ArgumentError("search: model may not vary where base names weights, made for one")
    varied = {name: _distribution(name, hints[name], values) for name, values in search.items()}
    return Space(settings(**given), varied)


def _check_name(where: str, name: str, hints: Mapping[str, Any]) -> None:
    reasons = [reason for reason, names in REFUSED.items() if name in names]
    if name not in hints:
        reasons = ["is no option of harden"]
    elif where == "search" and name in FIXED:
        reasons.append("may not vary, because trials are compared under it; set it in base")
    if reasons:
        raise ArgumentError(f"{where}: {one_line(name, 80)} {reasons[0]}")


def _value(where: str, hint: Any, value: Any) -> Any:
    try:
        return msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        raise ArgumentError(f"{where}: {error}; it is {one_line(repr(value), 80)}") from error


def _distribution(name: str, hint: Any, given: Any) -> Any:
    from optuna import distributions

    where, kinds = f"search: {name}", {hint, *get_args(hint)}
    try:
        if isinstance(given, list):
            values = [_value(where, hint, value) for value in given]
            return distributions.CategoricalDistribution(values)
        if not kinds & {int, float}:
            raise ArgumentError(f"{where} is no number, so it needs a list of values")
        ends = _value(where, Range, given)
        if ends.int or float not in kinds:
            low, high = (_value(where, int, end) for end in (ends.low, ends.high))
            return distributions.IntDistribution(low, high, log=ends.log)
        return distributions.FloatDistribution(ends.low, ends.high, log=ends.log)
    except ValueError as error:  # Optuna's, of what makes no range
        raise ArgumentError(f"{where}: {one_line(error)}") from error
