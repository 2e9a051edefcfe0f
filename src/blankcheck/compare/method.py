"""How the runs of a comparison were tested, in words: what was paired and why, what was corrected,
what it does not mean."""

from __future__ import annotations

from blankcheck.compare.pairs import Comparison, Pair
from blankcheck.compare.run import RATE
from blankcheck.compare.statistics import LEVEL
from blankcheck.compare.wording import listed
from blankcheck.text import number

SCOPE = (
    "Beyond chance means beyond the chance in the search and in the draw of test images. It speaks of these networks: "
    "trained again with another seed, they may differ otherwise."
)


def pairings(made: Comparison) -> list[str]:
    """How attempts were compared, and why: one sentence for all pairs of a kind."""
    kinds: dict[str, dict[str, list[str]]] = {}
    for pair in made.pairs:
        kinds.setdefault(_pairing(pair), {}).setdefault(pair.first.name, []).append(
            pair.second.name
        )
    if len(kinds) == 1:
        return [f"Attempts {next(iter(kinds))}."]
    said = {
        how: "; ".join(f"{listed(others)} against {first}" for first, others in pairs.items())
        for how, pairs in kinds.items()
    }
    return [f"{names}: attempts {how}." for how, names in said.items()]


def _pairing(pair: Pair) -> str:
    if pair.measure(RATE).difference is None:
        return f"are not tested, because of {pair.measure(RATE).why_not}"
    if pair.unpaired:
        return f"are taken as separate draws, because {pair.unpaired}"
    return (
        "are paired, because data, seed, preset and targets are the same, so that attempt by attempt both searches began "
        "from the same random numbers"
    )


def method(made: Comparison) -> list[str]:
    """How to read the tests, sentence by sentence."""
    measures, classes = made.tests
    said = [
        f"“Beyond chance” means a p-value of at most {LEVEL:g} after Holm's correction for all {measures} tests of this page"
        + (f", and for all {classes} of the classes among themselves" if classes else "")
        + ". Intervals are 95% each, not corrected: Wilson's for a rate, Newcombe's for a difference of rates.",
        "An attempt without a fooling image counts as needing more lit features than any image has.",
        SCOPE,
    ]
    if any(t.difference is not None for p in made.pairs for t in p.measures[2:]):
        said.insert(
            2,
            "Folders do not say which real images were right, so those cannot be paired; as separate draws they "
            "are tested more carefully than need be." + _fewer_images(made),
        )
    return said


def _fewer_images(made: Comparison) -> str:
    counts = sorted({s.test_images for s in made.sides if s.at_least and s.test_images is not None})
    return (
        f" Test sets are counted as {number(counts[0])} images: the folders vouch for no more."
        if counts
        else ""
    )
