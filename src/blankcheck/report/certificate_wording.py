"""What a report and the terminal say about a certificate: what is proved, and what is not."""

from __future__ import annotations

import math
from typing import Any

GATE = "gate-certified"


def unit_of(proof: dict[str, Any]) -> str:
    """What its k counts."""
    return "lit pixels" if proof["unit"] == "pixels" else "lit features"


def of_what(proof: dict[str, Any]) -> str:
    """Which of the two carries the proof: a report must say so."""
    return "the classifier with its gate" if proof["means"] == GATE else "this classifier"


def claim(proof: dict[str, Any]) -> str:
    """The theorem in one sentence, or that there is none."""
    k, lit = proof["smallest"], unit_of(proof)
    if not k:
        return f"Nothing is proved of all classes together for images with {lit}."
    which = f"No image with at most {k} {lit}, whichever they are and however bright,"
    sure = f"is given any class with a probability of {proof['confidence']:g} or more"
    proved = "This is proved of all such images; none was sampled."
    return f"{which} {sure} by {of_what(proof)}. {proved}"


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
    """What a result block says of the proof; `count` writes what is not known as none."""
    proof = verdict["certificate"]
    k, unit, below = proof["smallest"], unit_of(proof), f"with {proof['confidence']:g} or more"
    proved = f"{proof['means']}: at most {k} {unit} give no class {below}"
    none = "proof: nothing of all classes together"
    return [
        f"{proved if k else none} (k = {count(k)}, in {proof['seconds']:.1f} s)",
        f"proved k for each class: {' '.join(map(count, proof['k']))}",
        f"fewest lit found for each: {' '.join(map(count, proof['found']))}",
    ]


def at_most(bound: float | None) -> str:
    """A bound of a probability, never rounded down."""
    return "" if bound is None else f"{math.ceil(bound * 1000) / 1000:.3f}"


def count(value: int | None) -> str:
    """A number of lit features."""
    return "none" if value is None else str(value)
