"""The JSON of a run folder: one struct for each kind of file, record or part of one.

Keys without a struct field are kept and ignored. A field with a default is one that older folders
lack. `docs/schema.py` writes the JSON schema of the documentation from these structs.
"""
# ruff: noqa: D101

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from blankcheck.errors import RunFolderError
from blankcheck.judging import Verdict
from blankcheck.text import one_line, short

T = TypeVar("T")

SCHEMA = 1

Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Lit = Annotated[int, Meta(ge=0, le=1_000_000_000)]
"""Features of an image; a chart has room for no more."""
Index = Annotated[int, Meta(ge=0, le=1_000_000)]
"""A round, or how many attempts were made on a twin."""
Share = Annotated[float, Meta(ge=0, le=1)]
Median = Annotated[float, Meta(ge=0, le=1e9)]
ByNumber = Annotated[str, Meta(pattern="^[0-9]{1,19}$")]
"""A target class or a number of lit features, as a key."""


class Attempts(Struct):
    attempts: Count
    fooled: Count
    rate: Share | None


class Rate(Attempts):
    """Of attempts. Without any there is no rate, and without a fooled one no lit features."""

    rate_upper_95: Share
    median_lit: Median | None
    min_lit: Lit | None


class Violated(Struct):
    sparse: Count
    confident: Count
    out_of_distribution: Count


class Target(Rate):
    violated: Violated | UnsetType = UNSET


class Found(Struct):
    attempts: Count
    fooled: Count
    median_lit: Median | None


class Conditions(Struct):
    confidence: Share
    max_lit: Count
    ood_level: Share
    unit: str


class SparseConfident(Struct):
    """Attempts that met a sparse and confident image, whatever real data look like."""

    fooled: Count
    median_lit: Median | None
    at_most: dict[ByNumber, Share]


class Distinct(Struct):
    """Witnesses with equal images counted once: all of them, and those of the fixed attempts."""

    witnesses: Count
    fooled: Count
    median_lit: Median | None


class Black(Struct):
    """The class that the network gives the black image."""

    target: Index
    confidence: Share
    confident: bool


class Extra(Struct):
    """Witnesses outside the fixed allocation of attempts."""

    fooled: Count
    min_lit: Lit | None


class Check(Struct):
    title: str
    status: str
    finding: str
    what_to_do: str
    mandatory: bool
    code: str | UnsetType = UNSET
    means: str | UnsetType = UNSET


class Cost(Struct):
    forward: Count
    backward: Count
    seconds: float
    twin_seconds: float


class EightBit(Struct):
    witnesses: Count
    survive: Count


class Twin(Found):
    attempts: Index
    what: str
    lit: list[Lit]

    def __post_init__(self) -> None:
        if len(self.lit) != self.fooled or self.fooled > self.attempts:
            raise ValueError("lit must have a number for each fooled attempt")


class AtLevel(Struct):
    fooled: Count
    rate: Share | None


class OODTest(Struct):
    guarantee: str
    real_images: Count
    false_alarms: Count
    false_alarm_rate: Share | None
    false_alarm_lower_95: Share
    false_alarm_upper_95: Share
    fooled_all_at_once: Count
    scores: list[str] | UnsetType = UNSET
    second_scores: list[str] | UnsetType = UNSET
    smallest_p: Share | UnsetType = UNSET
    asked: Count | UnsetType = UNSET
    unusual_starts: Count | UnsetType = UNSET
    calibration_images: Count | UnsetType = UNSET
    odd_scores: list[str] | UnsetType = UNSET
    level: Share | UnsetType = UNSET
    level_chosen: Literal["auto", "given"] | UnsetType = UNSET
    level_why: str | UnsetType = UNSET


class Proof(Struct):
    k: list[Lit | None]
    probability: list[Share | None]
    found: list[Lit | None]
    smallest: Lit | None
    confidence: Share
    unit: str
    means: str
    fingerprint: str
    seconds: float


class VerdictFile(Rate):
    """`verdict.json`."""

    schema: int
    verdict: Verdict
    conditions: Conditions
    real_accuracy: Share
    real_confident: Share
    real_taken_for_fake: Share
    sparse_confident: SparseConfident
    targets: dict[ByNumber, Target]
    classes: list[str]
    violated: Violated
    processes: dict[str, Found]
    extra: Extra
    checks: list[Check]
    cost: Cost
    real_renormalised_confident: Share | UnsetType = UNSET
    distinct: Distinct | None = None
    black: Black | None = None
    lit_curve: dict[str, list[float]] | None = None
    second_opinion: Attempts | None = None
    odd_in_any_way: Attempts | None = None
    by_level: dict[str, AtLevel] | None = None
    rivals: dict[str, Found] | None = None
    twin: Twin | None = None
    eight_bit: EightBit | None = None
    out_of_distribution_test: OODTest | None = None
    controls: dict[str, dict[str, int | float]] | None = None
    certificate: Proof | None = None
    notes: dict[str, str] | None = None

    def __post_init__(self) -> None:
        for name, control in (self.controls or {}).items():
            if not all(isinstance(control.get(key), int) for key in ("found", "tries")):
                raise ValueError(f"controls: {name}: found must be int, and tries, too")
        proof = self.certificate
        for row in () if proof is None else (proof.k, proof.probability, proof.found):
            if len(row) != len(self.classes):
                raise ValueError("certificate must have one entry for each class")


class AttemptLine(Struct):
    target: Lit
    fooled: bool
    process: str
    lit: Lit
    confidence: Share
    ood_p: Share
    fewest: Lit | None
    second_p: Share | UnsetType | None = UNSET
    step: Lit | UnsetType = UNSET
    survives_8bit: bool | UnsetType = UNSET
    odd_p: Share | UnsetType | None = UNSET
    image: str | UnsetType = UNSET
    violated: list[str] | UnsetType = UNSET


class Hardening(Struct):
    kept_round: Count | None


class Environment(Struct):
    command: str | None = None
    command_line: list[str] | None = None
    date: str | None = None
    device: str | None = None
    python: str | None = None
    system: str | None = None
    threads: Count | None = None
    packages: dict[str, str] = {}


_WORDS = {
    "Expected `object`": "must be an object",
    "Expected": "must be",
    "Object missing required field `(.*)`": r"lacks '\1'",
    "Invalid enum value": "has an invalid value",
    "`": "",
}
"""From the words of msgspec to ours."""


def checked(value: Any, kind: type[T], where: str) -> T:
    """A plain value as a `kind`. Raises RunFolderError that names where and the key."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        said = re.fullmatch(r"(.*?)(?: - at `(key` in `)?\$\.?(.*)`)?", str(error), re.DOTALL)
        assert said is not None, "everything is optional"
        words, is_key, place = said.groups(default="")
        for old, new in _WORDS.items():
            words = re.sub(old, new, words)
        if place:
            where, words = f"{where}:", f"{'a key of ' * bool(is_key)}{place} {words}"
        raise RunFolderError(f"{where} {one_line(words, 300)}") from error


def checked_version(value: Any, kind: type[T], where: str) -> T:
    """The same, of a file that names its schema."""
    check_version(value, where)
    return checked(value, kind, where)


def check_version(value: Any, where: str) -> None:
    """Raises RunFolderError where a file names another schema than ours."""
    version = value.get("schema") if isinstance(value, dict) else None
    if isinstance(version, int) and version != SCHEMA:
        ours = f"this version reads schema {SCHEMA}"
        raise RunFolderError(f"{where} has schema {short(version)}, {ours}")
