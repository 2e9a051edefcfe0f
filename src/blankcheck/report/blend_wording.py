"""What blending found, as plain text."""

from __future__ import annotations

from blankcheck.blending.blending import FOOLING, REAL, SHUFFLED
from blankcheck.runs.blend_record import Blends
from blankcheck.text import NOTHING, number, percent

NAMES = {
    FOOLING: "fooling image",
    REAL: "real image of its class",
    SHUFFLED: "its pixels, shuffled",
}
"""What is added to the real image."""


def _quoted(blends: Blends) -> int:
    """Position of the alpha that a sentence quotes: the first at which half of the pairs are taken,
    else the last."""
    return next((i for i, share in enumerate(blends.shares(FOOLING)) if share and share >= 0.5), -1)


def finding(blends: Blends) -> str:
    """The finding in one sentence."""
    at = _quoted(blends)
    fooling, real, shuffled = (blends.shares(kind)[at] for kind in (FOOLING, REAL, SHUFFLED))
    in_place = [
        (real, "a real image of that class in its place"),
        (shuffled, "its pixels shuffled"),
    ]
    against = "; ".join(
        f"{percent(share, 0)} with {words}" for share, words in in_place if share is not None
    )
    return (
        f"With {percent(blends.record['alphas'][at], 0)} of a fooling image added, {percent(fooling, 0)} of real images are "
        f"taken for its class ({against}); {percent(blends.shares(FOOLING, 'lost')[at], 0)} lose their own."
    )


def half(blends: Blends, kind: str) -> str:
    """The alpha at which half of the pairs of a kind are taken."""
    smallest = blends.record["kinds"][kind]["smallest"]
    return "none up to 1" if smallest is None else small(smallest)


def halves(blends: Blends) -> str:
    """The same for each kind, in one sentence."""
    said = ", ".join(f"{half(blends, kind)} ({words})" for kind, words in NAMES.items())
    return f"Half of the pairs are taken at alpha {said}."


def lines(blends: Blends) -> list[str]:
    """One line for each kind of image, for the terminal."""
    alphas = ", ".join(f"{alpha:g}" for alpha in blends.record["alphas"])
    said = [f"taken at alpha {alphas}, and half of the pairs at:"]
    for kind, words in NAMES.items():
        shares = ", ".join(percent(share, 0) for share in blends.shares(kind))
        said.append(f"{words}: {shares}; {half(blends, kind)}")
    return said + warnings(blends)


def warnings(blends: Blends) -> list[str]:
    """What a reader must know before the numbers."""
    if blends.record["same_network"]:
        return []
    return ["The network is not the one that was audited: its fingerprint differs."]


def method(blends: Blends) -> str:
    """What was blended with what."""
    r, pairs = blends.record, blends.record["kinds"][FOOLING]["pairs"]
    return (
        f"{number(pairs)} pairs: at most {number(r['per_pair'])} for every two classes, of {number(r['real']['confident'])} "
        f"validation images that are right with a confidence of at least {r['confidence']:g} (of "
        f"{number(r['real']['images'])}; test images are read once, by the audit) and {number(r['witnesses']['used'])} "
        f"different fooling images (median {number(r['median_lit'])} lit). Taken means: given the fooling image's class "
        "with that confidence. The smallest alpha is looked for in steps of 0.05 up to 1 and refined to 0.001."
    )


def cell(blends: Blends, alpha: int, row: int, column: int) -> str:
    """Count and share of a class pair at one alpha."""
    cells = blends.record["kinds"][FOOLING]["cells"]
    taken, pairs = cells["taken"][alpha][row][column], cells["pairs"][row][column]
    return f"{taken} of {pairs}" if pairs else NOTHING


def small(value: float | None) -> str:
    """A smallest alpha."""
    return NOTHING if value is None else f"{value:.3f}"
