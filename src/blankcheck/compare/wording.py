"""What a comparison of runs says, as plain text: the finding first, then numbers, and what they do
not mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from blankcheck.compare.pairs import Comparison, Pair, Tested
from blankcheck.compare.run import ACCURACY, CONFIDENT, LIT, RATE, Side
from blankcheck.report.wording import unit
from blankcheck.text import NOTHING, number, percent

MINUS = "\N{MINUS SIGN}"
LABELS = {
    RATE: "Attempts fooled",
    LIT: "Lit in fooling images",
    ACCURACY: "Real images right",
    CONFIDENT: "Right and confident",
}
MORE = {
    RATE: "fooled more often",
    LIT: "needs more lit",
    ACCURACY: "more often right",
    CONFIDENT: "more often right and sure",
}
LESS = {
    RATE: "fooled less often",
    LIT: "needs fewer lit",
    ACCURACY: "less often right",
    CONFIDENT: "less often right and sure",
}
GOOD = {RATE: -1, LIT: 1, ACCURACY: 1, CONFIDENT: 1}
"""Which direction is the better one."""
SAME, UNTESTED = "no difference beyond chance", "not tested"


@dataclass(frozen=True)
class Row:
    """One test as a table shows it. tone: `better`, `worse` or nothing, for the second run."""

    label: str
    first: str
    second: str
    change: str
    p: str
    finding: str
    tone: str
    test: str
    why_not: str


def headline(made: Comparison) -> str:
    """The finding in one sentence: who is fooled less often than the reference."""
    pairs, reference = made.with_reference, made.reference.name
    if len(pairs) == 1:
        other, tested = pairs[0].second.name, pairs[0].measure(RATE)
        if tested.difference is None:
            return f"{other} and {reference} cannot be compared"
        if not tested.beyond_chance:
            return (
                f"{other} and {reference} do not differ beyond chance in how often they are fooled"
            )
        return f"{other} is {_said(tested)} than {reference}"
    counts = [
        (sum(finding(p.measure(RATE)) == words for p in pairs), words)
        for words in (LESS[RATE], MORE[RATE], SAME, UNTESTED)
    ]
    said = [
        f"{count} {words if words != SAME else 'with ' + SAME}" for count, words in counts if count
    ]
    return f"{len(pairs)} runs against {reference}: {', '.join(said)}"


def summary(made: Comparison) -> str:
    """The numbers behind the headline."""
    if len(made.sides) > 2:
        found = sum(t.beyond_chance for p in made.pairs for t in p.measures)
        return f"{found} of {made.tests[0]} tested differences are beyond chance."
    pair = made.pairs[0]
    tested = pair.measure(RATE)
    shares = f"{percent(tested.second)} of attempts against {percent(tested.first)}"
    if tested.difference is None:
        return f"{shares}; not tested, because of {tested.why_not}."
    return f"{shares}: {change(tested)}, {tested.difference.test}, {p_value(tested.p)} after Holm's correction."


def tone(made: Comparison) -> str:
    """`better` when every run is fooled less often than the reference, `worse` when every one is
    more often, or nothing."""
    tones = {tone_of(p.measure(RATE)) for p in made.with_reference}
    return tones.pop() if len(tones) == 1 else ""


def warnings(made: Comparison) -> list[str]:
    """One line for each way in which some runs are no match for the reference."""
    reference, said = made.reference.name, []
    by_kind: dict[tuple[str, ...], list[str]] = {}
    for pair in made.with_reference:
        if pair.unlike:
            by_kind.setdefault(pair.unlike, []).append(pair.second.name)
    for different, names in by_kind.items():
        verb = "differs" if len(names) == 1 else "differ"
        said.append(
            f"{listed(names)} {verb} from {reference} in {listed(different)}. These audits asked different "
            "questions: their numbers stand side by side, but what depends on that is not tested."
        )
    return said


def listed(words: Sequence[str], most: int = 6) -> str:
    """Words as a sentence lists them."""
    shown = [*words[:most], f"{len(words) - most} more"] if len(words) > most else list(words)
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def rows(pair: Pair) -> list[Row]:
    """What was tested of a pair, measure by measure."""
    return [_row(LABELS[t.what], t) for t in pair.measures]


def _row(label: str, tested: Tested) -> Row:
    shown = _lit if tested.what == LIT else percent
    test = tested.difference.test if tested.difference is not None else ""
    return Row(
        label,
        shown(tested.first),
        shown(tested.second),
        change(tested),
        p_value(tested.p, ""),
        finding(tested),
        tone_of(tested),
        test,
        tested.why_not,
    )


def _lit(value: float | None) -> str:
    return "none found" if value is None else number(value)


def change(tested: Tested) -> str:
    """The effect: points with their interval, or how often more features are needed."""
    found = tested.difference
    if found is None:
        return NOTHING
    if tested.what == LIT:
        return f"more lit in {percent(found.estimate, 0)} of comparisons"
    return f"{points(found.estimate)} points ({points(found.low)} to {points(found.high)})"


def points(share: float | None) -> str:
    """A difference of shares in percentage points."""
    rounded = round(100 * (share or 0.0), 1)
    return f"{rounded:+.1f}".replace("-", MINUS) if rounded else "0"


def p_value(p: float | None, prefix: str = "p ") -> str:
    """A p-value as tables and sentences show it."""
    if p is None:
        return NOTHING
    value = "< 0.0001" if p < 1e-4 else f"= {p:.2g}" if p < 0.095 else f"= {p:.2f}"
    return f"{prefix}{value}" if prefix else value.removeprefix("= ")


def finding(tested: Tested) -> str:
    """What the second run does differently, beyond chance."""
    if tested.difference is None:
        return UNTESTED
    if not tested.beyond_chance or not tested.direction:
        return SAME
    return f"{_said(tested)}, hardly" if _negligible(tested) else _said(tested)


def _negligible(tested: Tested) -> bool:
    """Beyond chance is not yet much: probabilities of superiority from 0.44 to 0.56 count as no
    effect (Vargha and Delaney 2000)."""
    return (
        tested.what == LIT
        and tested.difference is not None
        and abs(tested.difference.estimate - 0.5) < 0.06
    )


def _said(tested: Tested) -> str:
    return (MORE if tested.direction > 0 else LESS).get(tested.what, "")


def tone_of(tested: Tested) -> str:
    """`better` or `worse` for the second run where the difference is beyond chance, else nothing."""
    if not tested.beyond_chance or not tested.direction or _negligible(tested):
        return ""
    return "better" if tested.direction == GOOD.get(tested.what, -1) else "worse"


def differences(made: Comparison, side: Side) -> list[tuple[str, str]]:
    """(finding, tone) of a run against the reference, those beyond chance only."""
    return [
        (finding(t), tone_of(t))
        for p in made.with_reference
        if p.second is side
        for t in p.measures
        if t.beyond_chance
    ]


def against(made: Comparison, side: Side) -> str:
    """The same as one phrase."""
    if side is made.reference:
        return "reference"
    tested = next(p for p in made.with_reference if p.second is side)
    if all(t.difference is None for t in tested.measures):
        return UNTESTED
    found = ", ".join(words for words, _ in differences(made, side))
    return found or (f"{UNTESTED} for fooling" if tested.measure(RATE).difference is None else SAME)


def sentences(made: Comparison) -> list[str]:
    """Every difference beyond chance as a sentence with its numbers."""
    return [
        f"{p.second.name}, against {p.first.name}: {finding(t)} ({_numbers(t)}; {change(t)}; {p_value(t.p)})"
        for p in made.pairs
        for t in p.measures
        if t.beyond_chance
    ]


def _numbers(tested: Tested) -> str:
    if tested.what == LIT:
        return f"median {_lit(tested.first)} to {_lit(tested.second)}"
    return f"{percent(tested.first)} to {percent(tested.second)}"


def differing_classes(made: Comparison) -> str:
    """Which classes differ from the reference, in one sentence; nothing where none was tested."""
    said = []
    for pair in made.with_reference:
        found = [
            pair.first.contents.class_name(int(t.what)) for t in pair.classes if t.beyond_chance
        ]
        if pair.classes:
            every = len(found) == len(pair.classes)
            named = (
                ""
                if every or not found
                else f" ({listed([f'“{name[:20]}”' for name in found], 12)})"
            )
            said.append(
                f"{pair.second.name}: {'all' if every else f'{len(found)} of'} {len(pair.classes)} classes{named}"
            )
    return (
        f"Fooled at another rate than {made.reference.name}, beyond chance: {'; '.join(said)}."
        if said
        else ""
    )


def lit_unit(made: Comparison) -> str:
    """What is lit; features where runs differ."""
    units = {unit(s.contents) for s in made.sides}
    return units.pop() if len(units) == 1 else "features"
