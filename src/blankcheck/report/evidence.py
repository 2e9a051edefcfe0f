"""What a report says of the evidence: the three conditions, the checks, the search on trial."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from blankcheck.judging.check_rules import FAILED, NOT_APPLICABLE, PASSED
from blankcheck.judging.evidence import CONFIDENT, OUT_OF_DISTRIBUTION, SPARSE, Attempt
from blankcheck.report.wording import unit
from blankcheck.runs.contents import Miss, RunContents
from blankcheck.text import limit, number, one_line, percent
from blankcheck.types import Conditions

LACKING = {SPARSE: "too many lit", CONFIDENT: "not sure enough", OUT_OF_DISTRIBUTION: "looks real"}
CONTROLS = {
    "positive-control": "a plain twin, known to be foolable",
    "planted-control": "patterns hidden in a copy of this network",
}


MOST_LEVELS = 8


class Count(NamedTuple):
    """`found` of `tries`, with its words. failed: whether so few are bad news."""

    words: str
    found: int
    tries: int
    failed: bool = False

    @property
    def share(self) -> float:
        """In [0, 1], whatever a file says."""
        return min(1.0, max(0.0, self.found / self.tries)) if self.tries > 0 else 0.0


class Row(NamedTuple):
    """A sentence with its label. levels: (a level, how often, rate) where it tells of several."""

    label: str
    text: str
    levels: tuple[tuple[str, str, str], ...] = ()


def conditions(contents: RunContents) -> list[tuple[str, str, Count]]:
    """The three conditions of an audit and all at once: a name, what is asked, and how many
    attempts met it with their best image."""
    verdict, attempts = contents.verdict, contents.attempts
    if verdict is None:
        return []
    want = verdict["conditions"]
    lit, features = number(want["max_lit"]), number(contents.features)
    level = f"p\u00a0\u2264\u00a0{want['ood_level']:g}"
    sparse = sum(a.lit <= want["max_lit"] for a in attempts)
    confident = sum(a.confidence >= want["confidence"] for a in attempts)
    unreal = sum(a.ood_p <= want["ood_level"] for a in attempts)
    rows = [
        ("Sparse", f"at most {lit} of {features} {unit(contents)} lit", sparse),
        ("Confident", f"at least {limit(want['confidence'])} sure", confident),
        ("Out of distribution", f"unlike real shapes, {level}", unreal),
        ("All three", "of one image: the attempt is fooled", verdict["fooled"]),
    ]
    return [(name, asked, Count(name, met, len(attempts))) for name, asked, met in rows]


def _alarms(verdict: dict[str, Any]) -> str:
    said = "A calibrated test, fitted on real training images without this classifier."
    test = verdict.get("out_of_distribution_test")
    if not test:
        return said
    keys = ("rate", "lower_95", "upper_95")
    rate, low, high = (percent(test[f"false_alarm_{key}"], 2) for key in keys)
    alarms = f"{number(test['false_alarms'])} of {number(test['real_images'])} real test images"
    bounds, guarantee = f"95% bounds {low} to {high}", one_line(test["guarantee"], 80)
    return f"{said} Its false alarms: {alarms} ({rate}; {bounds}). Guarantee: {guarantee}."


def trials(contents: RunContents) -> list[Count]:
    """What the same search found here and where something is known to be there: the picture of a
    verdict without a witness. Nothing for older folders."""
    verdict = contents.verdict
    controls = verdict.get("controls") if verdict else None
    if verdict is None or not controls:
        return []
    status = {c.get("code"): c["status"] for c in verdict["checks"]}
    rows = [Count("this network", verdict["fooled"], verdict["attempts"])]
    for code, words in CONTROLS.items():
        made = controls.get(code)
        if made and made["tries"] > 0:
            rows.append(Count(words, made["found"], made["tries"], status.get(code) == FAILED))
    return rows if len(rows) > 1 else []


def alike(verdict: dict[str, Any]) -> str:
    """That the attempts at all classes ended alike; nothing where some were fooled more often."""
    rows = [*verdict["targets"].values()]
    if len({row["rate"] for row in rows}) > 1 or not rows:
        return ""
    bound = percent(max(row["rate_upper_95"] for row in rows))
    of = f"{percent(rows[0]['rate'])} of attempts fooled, at most {bound} (95% bound)"
    return f"All {number(len(rows))} classes alike: {of}."


def misses(contents: RunContents) -> list[Miss]:
    """The nearest misses of the classes without any witness, the closest first."""
    want = contents.conditions
    if want is None:
        return []
    found = {witness.target for witness in contents.witnesses}
    left = (miss for miss in contents.misses if miss.attempt.target not in found)
    return sorted(left, key=lambda miss: miss.attempt.lacks(want))


def lacking(attempt: Attempt, want: Conditions) -> list[str]:
    """What an image lacks to be a fooling image: in words, with its number and the limit."""
    sure, asked = _apart(attempt.confidence, want.confidence, percent)
    p, level = _apart(attempt.ood_p, want.ood_level, lambda x, digits: f"{x:.{digits + 2}g}")
    numbers = {
        SPARSE: f"{number(attempt.lit)} > {number(want.max_lit)}",
        CONFIDENT: f"{sure} < {asked}",
        OUT_OF_DISTRIBUTION: f"p = {p} > {level}",
    }
    return [f"{LACKING[name]}: {numbers[name]}" for name in attempt.violates(want)]


def _apart(value: float, limit: float, spell: Callable[[float, int], str]) -> tuple[str, str]:
    """A number and its limit, with as many digits as it takes to tell them apart."""
    pairs = ((spell(value, digits), spell(limit, digits)) for digits in range(16))
    return next((pair for pair in pairs if pair[0] != pair[1]), (spell(value, 0), spell(limit, 0)))


def level_why(verdict: dict[str, Any]) -> str:
    """The level of the third condition, and why that; nothing for older folders."""
    test = verdict.get("out_of_distribution_test") or {}
    why, level = test.get("level_why"), verdict["conditions"]["ood_level"]
    return f"p-values of at most {level:g}. {one_line(why, 300)}" if why else ""


def looks_real(verdict: dict[str, Any]) -> list[Row]:
    """How the conditions are measured, and how much of the rate hangs on the third."""
    keys = ("out_of_distribution_test", "second_opinion", "odd_in_any_way", "eight_bit")
    test, second, odd, eight = map(verdict.get, keys)
    sparse = verdict["sparse_confident"]
    lit = "" if sparse["median_lit"] is None else f", median {number(sparse['median_lit'])} lit"
    without = (
        f"{number(sparse['fooled'])} of {number(verdict['attempts'])} attempts met a sparse and "
        f"confident image, whether or not it looks real{lit}."
    )
    said = [Row("The test of shape", _alarms(verdict))]
    said += [Row("The level, and why", why)] if (why := level_why(verdict)) else []
    said += [*_by_level(verdict), Row("Without it", without)]
    if second and second["attempts"]:
        words = "Judged by other scores, which hardening never sees"
        said.append(Row("A second opinion", f"{words}, {_fooled(second)}."))
    if odd and odd["attempts"]:
        words = "Judged by whatever is unusual, also by how thick, how bright and how much"
        said.append(Row("Odd in any way", f"{words}, {_fooled(odd)}. It decides nothing."))
    if test and verdict["fooled"]:
        still = f"{number(test['fooled_all_at_once'])} of {number(verdict['fooled'])}"
        words = "are still out of distribution when all attempts share the level"
        by = "(Benjamini and Hochberg)"
        said.append(Row("All attempts at once", f"{still} fooling images {words} {by}."))
    if eight and eight["witnesses"]:
        still = f"{number(eight['survive'])} of {number(eight['witnesses'])}"
        words = "still meet all conditions when their values are rounded to 8 bits"
        said.append(Row("As 8-bit files", f"{still} witnesses {words}, as a PNG file does."))
    return said


def _fooled(judged: dict[str, Any]) -> str:
    found = f"{number(judged['fooled'])} of {number(judged['attempts'])} attempts are fooled"
    return f"{found} ({percent(judged['rate'])})"


def _by_level(verdict: dict[str, Any]) -> list[Row]:
    """The rate of these attempts against the level."""
    levels = verdict.get("by_level")
    if not levels:
        return []
    rows = [(one_line(k, 40), number(r["fooled"]), percent(r["rate"])) for k, r in levels.items()]
    words = (
        f"Attempts were made for level {verdict['conditions']['ood_level']:g}. A search made for "
        "another one would find more, so the other rates are lower bounds."
    )
    return [Row("Against the level", words, tuple(rows[:MOST_LEVELS]))]


def checks(verdict: dict[str, Any]) -> dict[str, Any]:
    """The checks in groups: `failed`, `needed` and `others` that passed, and `idle`, which do not
    apply, those for the same reason in one row. `summary` says in a sentence how many passed."""
    rows = [{"means": "", **c} for c in verdict["checks"]]
    kinds = (FAILED, PASSED, NOT_APPLICABLE)
    failed, passed, idle = ([c for c in rows if c["status"] == kind] for kind in kinds)
    needed = [c for c in passed if c["mandatory"]]
    others = [c for c in passed if not c["mandatory"]]
    asked = sum(c["mandatory"] for c in rows)
    among = f"among them {len(needed)} of the {asked} that RESISTED needs"
    summary = f"{len(passed)} of {len(rows) - len(idle)} checks that apply passed, {among}."
    reasons: dict[str, dict[str, Any]] = {}
    for row in idle:
        if first := reasons.get(row["finding"]):
            first["title"] += f" \N{MIDDLE DOT} {row['title']}"
            first["mandatory"] |= row["mandatory"]
        else:
            reasons[row["finding"]] = {**row, "means": ""}
    passes = {"needed": needed, "others": others}
    return {"failed": failed, **passes, "idle": list(reasons.values()), "summary": summary}
