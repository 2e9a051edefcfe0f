"""What blending found, as plain text."""

from __future__ import annotations

from blankcheck.blending.blending import FOOLING, KINDS
from blankcheck.runs.blend_record import Blends
from blankcheck.text import limit, number, percent

NAMES = dict(
    zip(KINDS, ("fooling image", "real image of its class", "its pixels, shuffled"), strict=True)
)
"""What is added to the real image."""
OTHER = "The network is not the one that was audited: its fingerprint differs."


def finding(blends: Blends) -> str:
    """The finding in one sentence, at the first alpha at which half of the pairs are taken, or at
    the last one."""
    fooling, real, shuffled = (blends.shares(kind) for kind in NAMES)
    at = next((i for i, share in enumerate(fooling) if share and share >= 0.5), -1)
    said = {
        "a real image of that class in its place": real[at],
        "its pixels shuffled": shuffled[at],
    }
    known = [f"{percent(s, 0)} with {words}" for words, s in said.items() if s is not None]
    added, lost = blends.record["alphas"][at], blends.shares(FOOLING, "lost")[at]
    taken = f"{percent(fooling[at], 0)} of real images are taken for its class"
    against = f"({'; '.join(known)}); {percent(lost, 0)} lose their own."
    return f"With {percent(added, 0)} of a fooling image added, {taken} {against}"


def half(blends: Blends, kind: str) -> str:
    """The alpha at which half of the pairs of a kind are taken."""
    smallest = blends.record["kinds"][kind]["smallest"]
    return "none up to 1" if smallest is None else f"{smallest:.3f}"


def lines(blends: Blends) -> list[str]:
    """One line for each kind of image, for the terminal."""
    alphas = ", ".join(f"{alpha:g}" for alpha in blends.record["alphas"])
    said = [f"taken at alpha {alphas}, and half of the pairs at:"]
    for kind, words in NAMES.items():
        shares = ", ".join(percent(share, 0) for share in blends.shares(kind))
        said.append(f"{words}: {shares}; {half(blends, kind)}")
    return said if blends.record["same_network"] else [*said, OTHER]


def method(blends: Blends) -> str:
    """What was blended with what."""
    r, real = blends.record, blends.record["real"]
    return (
        f"{number(r['kinds'][FOOLING]['pairs'])} pairs: at most {number(r['per_pair'])} for every "
        f"two classes, of {number(real['confident'])} validation images that are right and at "
        f"least {limit(r['confidence'])} sure (of {number(real['images'])}; test images are read "
        f"once, by the audit) and {number(r['witnesses']['used'])} different fooling images "
        f"(median {number(r['median_lit'])} lit). Taken means: given the fooling image's class "
        "with that confidence. The smallest alpha is looked for in steps of 0.05 up to 1 and "
        "refined to 0.001."
    )
