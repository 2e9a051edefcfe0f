"""Audited runs set side by side: what each says, which pairs may be tested, and what the tests say.

Data only: no model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from blankcheck.compare.run import ACCURACY, CONFIDENT, LIT, MEASURES, RATE, Side
from blankcheck.compare.statistics import (
    LEVEL,
    Difference,
    compare_lit,
    compare_shares,
    compare_successes,
    holm,
)
from blankcheck.text import short

ALL_PAIRS_UP_TO = 4
"""Runs; of more, each is compared with the reference only."""


@dataclass(frozen=True)
class Tested:
    """One measure of two runs. what: one of `MEASURES`, or a class. difference: None where nothing
    can be tested, and why_not says why. p: corrected for all tests of its kind."""

    what: str
    first: float | None
    second: float | None
    difference: Difference | None
    why_not: str = ""
    p: float | None = None

    @property
    def beyond_chance(self) -> bool:
        """Whether the corrected p-value says so."""
        return self.p is not None and self.p <= LEVEL

    @property
    def direction(self) -> int:
        """1 where the second run has more, -1 where it has less, 0 where neither does or nothing
        was tested."""
        if self.difference is None:
            return 0
        step = self.difference.estimate - (0.5 if self.what == LIT else 0.0)
        return (step > 0) - (step < 0)


@dataclass(frozen=True)
class Pair:
    """Two runs. unlike: in what the audits differ that makes them other questions. unpaired: why
    their attempts do not belong together one by one; empty where they do. measures: in the order of
    `MEASURES`. classes: rates by class."""

    first: Side
    second: Side
    unlike: tuple[str, ...]
    unpaired: str
    measures: tuple[Tested, ...]
    classes: tuple[Tested, ...]

    def measure(self, what: str) -> Tested:
        """The test of one measure."""
        return self.measures[MEASURES.index(what)]


@dataclass(frozen=True)
class Comparison:
    """All runs in the order they are shown, the one they are compared with, and every pair that was
    looked at."""

    sides: tuple[Side, ...]
    reference: Side
    pairs: tuple[Pair, ...]

    @property
    def with_reference(self) -> tuple[Pair, ...]:
        """The pairs of the reference and each other run, in the order shown."""
        return tuple(p for p in self.pairs if p.first is self.reference)

    @property
    def tests(self) -> tuple[int, int]:
        """How many tests the p-values of measures, and those of classes, are corrected for."""
        return (
            sum(t.difference is not None for p in self.pairs for t in p.measures),
            sum(t.difference is not None for p in self.pairs for t in p.classes),
        )


def compare_sides(sides: Sequence[Side], reference: Side) -> Comparison:
    """Test every pair that counts: each run against the reference, and all pairs of a few."""
    others = [s for s in sides if s is not reference]
    couples = [(reference, s) for s in others]
    if len(sides) <= ALL_PAIRS_UP_TO:
        couples += [(a, b) for i, a in enumerate(others) for b in others[i + 1 :]]
    pairs = [_pair(a, b) for a, b in couples]
    measures = iter(_corrected([t for p in pairs for t in p.measures]))
    classes = iter(_corrected([t for p in pairs for t in p.classes]))
    return Comparison(
        tuple(sides),
        reference,
        tuple(
            replace(
                p,
                measures=tuple(next(measures) for _ in p.measures),
                classes=tuple(next(classes) for _ in p.classes),
            )
            for p in pairs
        ),
    )


def _corrected(tested: Sequence[Tested]) -> Iterator[Tested]:
    corrected = iter(holm([t.difference.p for t in tested if t.difference is not None]))
    return (t if t.difference is None else replace(t, p=next(corrected)) for t in tested)


def unlike(first: Side, second: Side) -> tuple[str, ...]:
    """In which settings two audits differ that make their numbers answers to different questions."""
    a, b = first.verdict, second.verdict
    keys = ("confidence", "max_lit", "ood_level", "unit")
    different = [key for key in keys if a["conditions"][key] != b["conditions"][key]]
    if (
        first.contents.config.get("data") != second.contents.config.get("data")
        or a["classes"] != b["classes"]
        or (first.contents.features != second.contents.features)
    ):
        different.append("data")
    if first.contents.config.get("preset") != second.contents.config.get("preset"):
        different.append("preset")
    return tuple(different)


def unpaired(first: Side, second: Side) -> str:
    """Why the attempts of two audits of one question do not belong together one by one; empty where
    they do.

    With data, seed, preset and targets the same, attempt i of both began from the same random
    numbers.
    """
    seeds = [s.contents.config.get("seed") for s in (first, second)]
    if None in seeds:
        return "a folder does not say its seed"
    if seeds[0] != seeds[1]:
        return f"their seeds differ ({short(seeds[0])} and {short(seeds[1])})"
    if [a.target for a in first.contents.attempts] != [a.target for a in second.contents.attempts]:
        return "their attempts are not at the same targets"
    return ""


def _pair(first: Side, second: Side) -> Pair:
    different, apart = unlike(first, second), unpaired(first, second)
    searches, other_data = ", ".join(different), "data" in different
    nothing = "" if first.attempts and second.attempts else "one of the two made no attempt"
    why_attempts = f"other {searches}" if different else nothing
    why_real = "other data" if other_data else _why_no_images(first, second)
    why_confident = why_real or ("other confidence" if "confidence" in different else "")
    paired = not apart
    measures = (
        _tested(
            RATE,
            first,
            second,
            why_attempts,
            lambda: compare_successes(first.fooled, second.fooled, paired),
        ),
        _tested(
            LIT, first, second, why_attempts, lambda: compare_lit(first.lit, second.lit, paired)
        ),
        _tested(ACCURACY, first, second, why_real, lambda: _real(ACCURACY, first, second)),
        _tested(CONFIDENT, first, second, why_confident, lambda: _real(CONFIDENT, first, second)),
    )
    classes = () if why_attempts else tuple(_by_class(first, second, paired))
    return Pair(first, second, different, apart, measures, classes)


def _tested(
    what: str, first: Side, second: Side, why_not: str, test: Callable[[], Difference]
) -> Tested:
    return Tested(what, first.value(what), second.value(what), None if why_not else test(), why_not)


def _why_no_images(first: Side, second: Side) -> str:
    silent = first.test_images is None or second.test_images is None
    return "a folder does not say how many test images there were" if silent else ""


def _real(measure: str, first: Side, second: Side) -> Difference:
    """Shares of real test images. The folders do not say which images were right, so that they
    cannot be paired; taking them for separate draws makes the test more careful, since networks
    tend to stumble over the same images."""
    found = [
        (round((s.value(measure) or 0.0) * (s.test_images or 0)), s.test_images or 0)
        for s in (first, second)
    ]
    return compare_shares(*found[0], *found[1])


def _by_class(first: Side, second: Side, paired: bool) -> Iterator[Tested]:
    targets = sorted(
        {a.target for a in first.contents.attempts} & {a.target for a in second.contents.attempts}
    )
    for target in targets:
        a, b = first.of_class(target), second.of_class(target)
        yield Tested(str(target), sum(a) / len(a), sum(b) / len(b), compare_successes(a, b, paired))
