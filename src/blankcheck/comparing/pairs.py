"""Audited runs set side by side: which pairs may be tested, and what the tests say."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from blankcheck.comparing import statistics as stats
from blankcheck.comparing.run import Run
from blankcheck.comparing.statistics import Contrast
from blankcheck.text import short

ALL_PAIRS_UP_TO = 4
"""Runs; of more, each is compared with the reference only."""
MEASURES = {
    "rate": ("Attempts fooled", "fooled less often", "fooled more often"),
    "lit": ("Lit in fooling images", "needs fewer lit", "needs more lit"),
    "accuracy": ("Real images right", "less often right", "more often right"),
    "confident": ("Right and confident", "less often right and sure", "more often right and sure"),
}
"""What each measure is called, and what is said of the second run where it has less or more."""
SAME, UNTESTED = "no difference beyond chance", "not tested"


@dataclass(frozen=True)
class Pair:
    """Two runs. unlike: in what the audits differ that makes them other questions. unpaired: why
    their attempts do not belong together one by one; empty where they do. measures: a contrast for
    each of `MEASURES`. classes: contrasts of the rate at each target class."""

    first: Run
    second: Run
    unlike: tuple[str, ...]
    unpaired: str
    measures: dict[str, Contrast]
    classes: dict[str, Contrast]

    @property
    def record(self) -> dict[str, Any]:
        """What `compare.json` says of the pair."""
        return {
            "first": self.first.record["run"],
            "second": self.second.record["run"],
            "unlike": list(self.unlike),
            "paired": not self.unpaired,
            "why_not_paired": self.unpaired or None,
            **{what: asdict(contrast) for what, contrast in self.measures.items()},
            "classes": {target: asdict(contrast) for target, contrast in self.classes.items()},
        }


@dataclass(frozen=True)
class Comparison:
    """All runs in the order they are shown, the one they are compared with, every pair that was
    looked at, and how many tests there were of measures and of classes."""

    runs: Sequence[Run]
    reference: Run
    pairs: Sequence[Pair]
    tests: dict[str, int]

    def __repr__(self) -> str:
        names = ", ".join(run.name for run in self.runs)
        return f"Comparison({names}; the reference is {self.reference.name})"

    @property
    def with_reference(self) -> list[Pair]:
        """The pairs of the reference and each other run, in the order shown."""
        return [pair for pair in self.pairs if pair.first is self.reference]


def compare_runs(runs: Sequence[Run], reference: Run) -> Comparison:
    """Test every pair that counts: each run against the reference, and all pairs of a few."""
    others = [run for run in runs if run is not reference]
    couples = [(reference, run) for run in others]
    if len(runs) <= ALL_PAIRS_UP_TO:
        couples += [(a, b) for i, a in enumerate(others) for b in others[i + 1 :]]
    pairs = [_pair(a, b) for a, b in couples]
    measures = stats.correct([c for pair in pairs for c in pair.measures.values()])
    classes = stats.correct([c for pair in pairs for c in pair.classes.values()])
    for pair in pairs:
        for what, contrast in pair.measures.items():
            contrast.finding = _finding(what, contrast)
    return Comparison(runs, reference, pairs, {"measures": measures, "classes": classes})


def _finding(what: str, contrast: Contrast) -> str:
    if contrast.test is None:
        return UNTESTED
    if not contrast.beyond_chance or not contrast.step:
        return SAME
    _, less, more = MEASURES[what]
    return (more if contrast.step > 0 else less) + (", hardly" if contrast.negligible else "")


def _pair(first: Run, second: Run) -> Pair:
    unlike = tuple(key for key in first.asked if first.asked[key] != second.asked[key])
    apart = _unpaired(first, second)
    why, why_real = "", ""
    if unlike:
        why = f"other {', '.join(unlike)}"
    elif not (first.fooled and second.fooled):
        why = "one of the two made no attempt"
    if "data" in unlike:
        why_real = "other data"
    elif None in (first.record["test_images"], second.record["test_images"]):
        why_real = "a folder does not say how many test images there were"
    why_sure = why_real or ("other confidence" if "confidence" in unlike else "")
    paired = not apart
    tests: dict[str, tuple[str, Callable[[], Contrast]]] = {
        "rate": (why, lambda: stats.compare_successes(first.fooled, second.fooled, paired)),
        "median_lit": (why, lambda: stats.compare_lit(first.lit, second.lit, paired)),
        "real_accuracy": (why_real, lambda: _real("real_accuracy", first, second)),
        "real_confident": (why_sure, lambda: _real("real_confident", first, second)),
    }
    measures = {}
    for what, (value, (why_not, compare)) in zip(MEASURES, tests.items(), strict=True):
        made = Contrast(why_not_tested=why_not) if why_not else compare()
        made.first, made.second = first.record[value], second.record[value]
        measures[what] = made
    classes = {} if why else dict(_by_class(first, second, paired))
    return Pair(first, second, unlike, apart, measures, classes)


def _unpaired(first: Run, second: Run) -> str:
    """Empty where attempt i of both audits of one question began from the same random numbers, as
    it does with the same seed and targets."""
    one, other = (run.contents.config.get("seed") for run in (first, second))
    if one is None or other is None:
        return "a folder does not say its seed"
    if one != other:
        return f"their seeds differ ({short(one)} and {short(other)})"
    if [a.target for a in first.contents.attempts] != [a.target for a in second.contents.attempts]:
        return "their attempts are not at the same targets"
    return ""


def _real(key: str, first: Run, second: Run) -> Contrast:
    """Shares of real test images. The folders do not say which images were right, so that they
    cannot be paired; taking them for separate draws makes the test more careful, since networks
    tend to stumble over the same images."""
    images = first.record["test_images"], second.record["test_images"]
    right = (round(run.record[key] * n) for run, n in zip((first, second), images, strict=True))
    return stats.compare_shares(next(right), images[0], next(right), images[1])


def _by_class(first: Run, second: Run, paired: bool) -> Iterator[tuple[str, Contrast]]:
    targets = ({a.target for a in run.contents.attempts} for run in (first, second))
    for target in sorted(set.intersection(*targets)):
        one, other = first.of_class(target), second.of_class(target)
        yield str(target), stats.compare_successes(one, other, paired)
