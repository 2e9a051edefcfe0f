"""What a report and the terminal say about a certificate: what is proved, and what is not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from blankcheck.judging import Verdict
from blankcheck.text import limit, number

if TYPE_CHECKING:
    from blankcheck.runs.contents import RunContents

GATE = "gate-certified"
NAMED = 10
"""Classes, at most, that are named one by one."""


def unit_of(proof: dict[str, Any], channels: int | None = None) -> str:
    """What its k counts; the features of a grey image are its pixels."""
    return "lit pixels" if proof["unit"] == "pixels" or channels == 1 else "lit features"


def of_what(proof: dict[str, Any]) -> str:
    """Which of the two carries the proof: a report must say so."""
    return "the classifier with its gate" if proof["means"] == GATE else "this classifier"


def claim(proof: dict[str, Any], contents: RunContents) -> str:
    """The theorem in one sentence, or that there is none."""
    who = of_what(proof)
    if not proof["smallest"]:
        may = f"a single lit pixel may make {who} sure of some class"
        return f"Nothing is proved of all classes together: {unclaimed(proof) or may}."
    every, sure = number(_all(proof, contents)), limit(proof["confidence"])
    lit = f"{number(proof['smallest'])} of {every} {unit_of(proof, contents.channels)}"
    proved = "This is proved of all such images; none was sampled."
    return f"No image with at most {lit} makes {who} {sure} sure of any class. {proved}"


def headline(proof: dict[str, Any]) -> str:
    """What a proof comes to, where the verdict is not CERTIFIED."""
    return "PROVED" if proof["smallest"] else "NOTHING PROVED"


def unclaimed(proof: dict[str, Any]) -> str:
    """Of which classes nothing is claimed, not even that black is none of them; or nothing."""
    classes = [str(target) for target, k in enumerate(proof["k"]) if k is None]
    more = f" and {len(classes) - NAMED} more" if len(classes) > NAMED else ""
    named = f"class{'es' * (len(classes) > 1)} {', '.join(classes[:NAMED])}{more}"
    return f"no claim for {named}" if classes else ""


def _all(proof: dict[str, Any], contents: RunContents) -> int:
    """How many of what its k counts an image has."""
    one = (contents.channels or 1) if proof["unit"] == "pixels" else 1
    return (contents.features or 0) // one


def beside(verdict: dict[str, Any]) -> str:
    """What the search of an audit says beside the proof."""
    lit = f"at most {number(verdict['conditions']['max_lit'])} lit"
    found = f"{number(verdict['fooled'])} of {number(verdict['attempts'])} attempts fooled"
    return f"Beside it, the search of an audit ({lit}) says {verdict['verdict']}: {found}."


def key_numbers(proof: dict[str, Any], contents: RunContents) -> list[tuple[str, str, str]]:
    """The numbers of a proof that a reader wants first."""
    met = [found for found in proof["found"] if found is not None]
    lit, sure = unit_of(proof, contents.channels), limit(proof["confidence"])
    of = f"of {number(_all(proof, contents))}, for every class"
    least = number(min(met, default=None))
    return [
        (count(proof["smallest"]), f"{lit} proved too few", f"{of}; {proof['seconds']:,.1f} s"),
        (least, f"{lit}: the sparsest image found", f"with {sure} or more, real-looking or not"),
    ]


def scope(proof: dict[str, Any]) -> str:
    """What the claim does not say."""
    inside = "the classifier inside it, on its own, is as easily fooled as before"
    by_gate = f"The proof is one of the gate: {inside}. " if proof["means"] == GATE else ""
    return (
        f"{by_gate}Beyond k nothing is said in either direction: "
        "not certified never means unsafe, and ordinary networks get k = 0 from any such bound. "
        "The proof asks nothing of how real an image looks. It covers the network computed in "
        "float32, and not in reduced precision."
    )


def rows(proof: dict[str, Any]) -> list[dict[str, Any]]:
    """For each class what is proved, what was found, and how many counts lie between."""
    made = []
    for k, bound, found in zip(proof["k"], proof["probability"], proof["found"], strict=True):
        unknown = None if found is None else max(0, found - 1 - (-1 if k is None else k))
        made.append({"k": k, "bound": bound, "found": found, "unknown": unknown})
    return made


def lines_of(verdict: dict[str, Any]) -> list[str]:
    """What a result block says of the proof, with the word at the head of its report where that is
    not the verdict; `count` writes what is not known as none."""
    proof = verdict["certificate"]
    k, unit, below = proof["smallest"], unit_of(proof), f"with {proof['confidence']:g} or more"
    proved = f"{proof['means']}: at most {k} {unit} give no class {below}"
    missing = unclaimed(proof) or "one lit feature may be enough for some class"
    none = f"nothing of all classes together, {missing}"
    took = f"in {proof['seconds']:.1f} s"
    said = f"{proved} (k = {k}, {took})" if k else f"{none} ({took})"
    return [
        said if verdict["verdict"] == Verdict.CERTIFIED else f"{headline(proof)}: {said}",
        f"proved k for each class: {' '.join(map(count, proof['k']))}",
        f"fewest lit found for each: {' '.join(map(count, proof['found']))}",
    ]


def at_most(bound: float | None) -> str:
    """A bound of a probability, never rounded down."""
    return "" if bound is None else f"{math.ceil(bound * 1000) / 10:.1f}%"


def count(value: int | None) -> str:
    """A number of lit features."""
    return "none" if value is None else str(value)
