"""Which differences between two audits are beyond chance: tests, intervals and effect sizes.

Everywhere a difference is the second run's value minus the first's, p-values are two-sided, and a
lit count of None (no fooling image was found) stands for more lit features than any image has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05
"""A difference is called beyond chance when its corrected p-value is at most this; intervals hold
in 95 of 100 cases."""
FISHER, MCNEMAR = "Fisher's exact test", "McNemar's exact test"
MANN_WHITNEY, SIGN = "Mann-Whitney test", "sign test"

Counts = Sequence[int | None]


@dataclass
class Contrast:
    """One measure of two runs, as `compare.json` holds it.

    difference: of shares, in [-1, 1], with its 95 % interval. superiority: of lit counts, in
    [0, 1], how often the second run needs more, ties counted half. test: None where nothing was
    tested, and why_not_tested says why. p_holm: p corrected for all tests of its kind.
    """

    first: float | None = None
    second: float | None = None
    test: str | None = None
    why_not_tested: str | None = None
    difference: float | None = None
    low_95: float | None = None
    high_95: float | None = None
    superiority: float | None = None
    p: float | None = None
    p_holm: float | None = None
    beyond_chance: bool = False
    finding: str | None = None

    @property
    def step(self) -> float:
        """How far the second run lies above the first; 0 where nothing was tested."""
        return (self.difference or 0.0) if self.superiority is None else self.superiority - 0.5

    @property
    def negligible(self) -> bool:
        """Beyond chance is not yet much: probabilities of superiority from 0.44 to 0.56 count as
        no effect (Vargha and Delaney 2000)."""
        return self.superiority is not None and abs(self.step) < 0.06


def compare_successes(first: Sequence[bool], second: Sequence[bool], paired: bool) -> Contrast:
    """Two series of attempts, True where one fooled. paired: attempt i of one belongs to attempt i
    of the other."""
    if not paired:
        return compare_shares(sum(first), len(first), sum(second), len(second))
    pairs = list(zip(first, second, strict=True))
    lost, gained = pairs.count((True, False)), pairs.count((False, True))
    low, high = newcombe_paired(pairs.count((True, True)), lost, gained, len(pairs))
    shares = sum(first) / len(pairs), sum(second) / len(pairs)
    step, p = (gained - lost) / len(pairs), sign_test(lost, gained)
    return Contrast(*shares, MCNEMAR, difference=step, low_95=low, high_95=high, p=p)


def compare_shares(found_1: int, of_1: int, found_2: int, of_2: int) -> Contrast:
    """Compare two independent shares, `found` of `of` each, by Fisher's test and Newcombe's hybrid
    score interval (1998, Statistics in Medicine 17:873, method 10)."""
    from scipy.stats import fisher_exact
    from statsmodels.stats.proportion import confint_proportions_2indep

    p = min(1.0, float(fisher_exact([[found_1, of_1 - found_1], [found_2, of_2 - found_2]])[1]))
    low, high = map(float, confint_proportions_2indep(found_2, of_2, found_1, of_1, "newcomb"))
    one, other = found_1 / of_1, found_2 / of_2
    return Contrast(one, other, FISHER, difference=other - one, low_95=low, high_95=high, p=p)


def compare_lit(first: Counts, second: Counts, paired: bool) -> Contrast:
    """Compare the lit features of the fooling images of two series of attempts."""
    from scipy.stats import mannwhitneyu

    a, b = (np.array([math.inf if k is None else k for k in run]) for run in (first, second))
    if paired:
        less, more = int((b < a).sum()), int((b > a).sum())
        superiority = 0.5 + (more - less) / (2 * len(a))
        return Contrast(test=SIGN, superiority=superiority, p=sign_test(less, more))
    found = mannwhitneyu(b, a, alternative="two-sided")
    superiority = float(found.statistic) / (len(a) * len(b))
    return Contrast(test=MANN_WHITNEY, superiority=superiority, p=min(1.0, float(found.pvalue)))


def sign_test(less: int, more: int) -> float:
    """p-value of the sign test, 1.0 where no pair differs. On pairs of which one succeeded and the
    other failed this is the exact test of McNemar (1947)."""
    from scipy.stats import binomtest

    return float(binomtest(less, less + more).pvalue) if less + more else 1.0


def wilson(found: int, of: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927); (0, 1) of nothing."""
    from statsmodels.stats.proportion import proportion_confint

    if of == 0:
        return 0.0, 1.0
    low, high = proportion_confint(found, of, method="wilson")
    return min(float(low), found / of), max(float(high), found / of)  # against rounding


def newcombe_paired(both: int, only_1: int, only_2: int, pairs: int) -> tuple[float, float]:
    """The 95 % interval of a difference of paired shares (Newcombe 1998, Statistics in Medicine
    17:2635, method 10), which statsmodels does not have: two score intervals are joined with the
    correlation phi of the pairs, made smaller by half a pair where it is positive."""
    found_1, found_2 = both + only_1, both + only_2
    excess = float(both * (pairs - found_1 - only_2) - only_1 * only_2)
    corrected = max(excess - pairs / 2, 0.0) if excess > 0 else excess
    spread = math.sqrt(found_1 * (pairs - found_1)) * math.sqrt(found_2 * (pairs - found_2))
    phi = corrected / spread if spread else 0.0
    (low_1, high_1), (low_2, high_2) = wilson(found_1, pairs), wilson(found_2, pairs)
    share_1, share_2 = found_1 / pairs, found_2 / pairs

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    down, up = reach(share_2 - low_2, high_1 - share_1), reach(high_2 - share_2, share_1 - low_1)
    return max(-1.0, share_2 - share_1 - down), min(1.0, share_2 - share_1 + up)


def correct(contrasts: Sequence[Contrast]) -> int:
    """Fill in p-values corrected for the number of tests (Holm 1979), and return that number."""
    from statsmodels.stats.multitest import multipletests

    tested = [contrast for contrast in contrasts if contrast.p is not None]
    p_values = multipletests([c.p for c in tested], method="holm")[1] if tested else []
    for contrast, p in zip(tested, p_values, strict=True):
        contrast.p_holm, contrast.beyond_chance = float(p), bool(p <= LEVEL)
    return len(tested)
