"""What a comparison of runs says, as plain text: the finding first, then its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from blankcheck.comparing.pairs import MEASURES, SAME, UNTESTED, Comparison, Pair
from blankcheck.comparing.statistics import Contrast
from blankcheck.text import NOTHING, number, p_value, percent


def headline(made: Comparison) -> str:
    """The finding in one sentence: who is fooled less often than the reference."""
    pairs, reference = made.with_reference, made.reference.name
    if len(pairs) > 1:
        found = [pair.measures["rate"].finding for pair in pairs]
        kinds = (*MEASURES["rate"][1:], SAME, UNTESTED)
        counts = [(found.count(words), words) for words in kinds]
        said = [f"{n} {'with ' if words == SAME else ''}{words}" for n, words in counts if n]
        measure = "by how often they are fooled"
        return f"{len(pairs)} runs against {reference}, {measure}: {', '.join(said)}"
    rate, other = pairs[0].measures["rate"], pairs[0].second.name
    if rate.test is None:
        why = rate.why_not_tested
        return f"{other} and {reference} stand side by side; their rates are not tested: {why}"
    if not rate.beyond_chance:
        return f"{other} and {reference} do not differ beyond chance in how often they are fooled"
    return f"{other} is {rate.finding} than {reference}"


def warnings(made: Comparison) -> list[str]:
    """One line for each way in which some runs are no match for the reference."""
    by_kind: dict[tuple[str, ...], list[str]] = {}
    for pair in made.with_reference:
        by_kind.setdefault(pair.unlike, []).append(pair.second.name)
    return [
        f"{_listed(names)} {'differs' if len(names) == 1 else 'differ'} from "
        f"{made.reference.name} in {_listed(unlike)}. These audits asked different questions: "
        "their numbers stand side by side, but what depends on that is not tested."
        for unlike, names in by_kind.items()
        if unlike
    ]


def _listed(words: Sequence[str], most: int = 6) -> str:
    shown = [*words[:most], f"{len(words) - most} more"] if len(words) > most else list(words)
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if shown[1:] else shown)


def sentence(pair: Pair) -> str:
    """Every difference beyond chance between two runs, with its numbers."""
    said = [
        f"{c.finding} ({value(what, c.first)} to {value(what, c.second)}; {change(c)}; "
        f"{p_value(c.p_holm)})"
        for what, c in pair.measures.items()
        if c.beyond_chance
    ]
    rate = pair.measures["rate"]
    if rate.test is None:
        said.append(f"attempts not tested, because of {rate.why_not_tested}")
    return f"{pair.second.name}, against {pair.first.name}: {', '.join(said or [SAME])}"


def value(what: str, share_or_count: float | None) -> str:
    """The value of one run."""
    if what != "lit":
        return percent(share_or_count)
    return "none found" if share_or_count is None else f"median {number(share_or_count)}"


def change(contrast: Contrast) -> str:
    """The effect: points with their interval, or how often more features are needed."""
    if contrast.superiority is not None:
        return f"more lit in {percent(contrast.superiority, 0)} of comparisons"
    shares = (contrast.difference, contrast.low_95, contrast.high_95)
    points = [_points(share) for share in shares if share is not None]
    return "{} points ({} to {})".format(*points) if points else NOTHING


def _points(share: float) -> str:
    rounded = round(100 * share, 1)
    return f"{rounded:+.1f}".replace("-", "\N{MINUS SIGN}") if rounded else "0"


def tone(what: str, contrast: Contrast) -> str:
    """`better` or `worse` for the second run where the difference is beyond chance, or nothing."""
    if not contrast.beyond_chance or not contrast.step or contrast.negligible:
        return ""
    more_is_better = what in ("lit", "accuracy", "confident")
    return "better" if (contrast.step > 0) == more_is_better else "worse"
