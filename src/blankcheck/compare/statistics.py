"""Which differences between two audits are beyond chance: tests, intervals and effect sizes of
plain numbers.

Everywhere a difference is the second run's value minus the first's, p-values are two-sided, and a
lit count of None (no fooling image was found) stands for more lit features than any image has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.05
"""A difference is called beyond chance when its corrected p-value is at most this.

Intervals hold in 95 of 100 cases.
"""
Z = 1.959963984540054
"""The 97.5 % quantile of the normal distribution."""
FISHER, MCNEMAR = "Fisher's exact test", "McNemar's exact test"
MANN_WHITNEY, SIGN = "Mann-Whitney test", "sign test"

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """How two runs differ in one measure.

    estimate: for shares the second minus the first, in [-1, 1]; for lit counts the probability of
    superiority, in [0, 1]: how often the second run needs more, ties counted half, 0.5 where
    neither does. low, high: of the 95 % interval of a difference of shares; None for lit counts. p:
    two-sided, not corrected.
    """

    test: str
    estimate: float
    p: float
    low: float | None = None
    high: float | None = None


def compare_successes(first: Sequence[bool], second: Sequence[bool], paired: bool) -> Difference:
    """Two series of attempts, True where one fooled. paired: attempt i of one belongs to attempt i
    of the other."""
    if not paired:
        return compare_shares(sum(first), len(first), sum(second), len(second))
    both, only_first, only_second, neither = pair_counts(first, second)
    low, high = newcombe_paired(both, only_first, only_second, neither)
    estimate = (only_second - only_first) / len(first)
    return Difference(MCNEMAR, estimate, sign_test(only_first, only_second), low, high)


def compare_shares(
    found_first: int, of_first: int, found_second: int, of_second: int
) -> Difference:
    """Two independent shares, each of at least one."""
    low, high = newcombe(found_first, of_first, found_second, of_second)
    p = fisher(found_first, of_first, found_second, of_second)
    return Difference(FISHER, found_second / of_second - found_first / of_first, p, low, high)


def compare_lit(
    first: Sequence[int | None], second: Sequence[int | None], paired: bool
) -> Difference:
    """Lit features of the fooling images of two series of attempts; paired as in
    `compare_successes`."""
    if paired:
        less, same, more = signs(first, second)
        return Difference(SIGN, (more + same / 2) / len(first), sign_test(less, more))
    p, superiority = rank_test(first, second)
    return Difference(MANN_WHITNEY, superiority, p)


def wilson(found: int, of: int) -> Interval:
    """The 95 % score interval of a share (Wilson 1927); (0, 1) of nothing."""
    if of == 0:
        return 0.0, 1.0
    share, spread = found / of, Z * math.sqrt(found * (of - found) / of + Z * Z / 4)
    middle, width = found + Z * Z / 2, of + Z * Z
    low, high = (middle - spread) / width, (middle + spread) / width
    # rounding must not put the share itself outside
    return min(max(0.0, low), share), max(min(1.0, high), share)


def newcombe(found_first: int, of_first: int, found_second: int, of_second: int) -> Interval:
    """The 95 % hybrid score interval of a difference of independent shares (Newcombe 1998,
    Statistics in Medicine 17:873, method 10)."""
    return _square_and_add(found_first, of_first, found_second, of_second, 0.0)


def newcombe_paired(both: int, only_first: int, only_second: int, neither: int) -> Interval:
    """The same for paired shares (Newcombe 1998, Statistics in Medicine 17:2635, method 10): the
    two score intervals are joined with the correlation phi of the pairs, which is made smaller by
    half a pair where it is positive."""
    n = both + only_first + only_second + neither
    first, second = both + only_first, both + only_second
    spread = math.sqrt(first) * math.sqrt(n - first) * math.sqrt(second) * math.sqrt(n - second)
    excess = both * neither - only_first * only_second
    excess_corrected = max(excess - n / 2, 0.0) if excess > 0 else float(excess)
    return _square_and_add(first, n, second, n, excess_corrected / spread if spread else 0.0)


def _square_and_add(
    found_first: int, of_first: int, found_second: int, of_second: int, phi: float
) -> Interval:
    first, second = found_first / of_first, found_second / of_second
    low_first, high_first = wilson(found_first, of_first)
    low_second, high_second = wilson(found_second, of_second)

    def reach(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))

    down, up = (
        reach(second - low_second, high_first - first),
        reach(high_second - second, first - low_first),
    )
    difference = second - first
    return max(-1.0, difference - down), min(1.0, difference + up)


def fisher(found_first: int, of_first: int, found_second: int, of_second: int) -> float:
    """p-value of Fisher's exact test (1935): were both shares the same, tables as rare as this one
    or rarer."""
    from scipy.stats import fisher_exact

    table = [[found_first, of_first - found_first], [found_second, of_second - found_second]]
    return min(1.0, float(fisher_exact(table)[1]))


def sign_test(less: int, more: int) -> float:
    """p-value of the sign test; of the pairs that differ, each way is as likely. On pairs of which
    one succeeded and the other failed this is the exact test of McNemar (1947). 1.0 where no pair
    differs."""
    from scipy.stats import binom

    return min(1.0, 2 * float(binom.cdf(min(less, more), less + more, 0.5))) if less + more else 1.0


def rank_test(first: Sequence[int | None], second: Sequence[int | None]) -> tuple[float, float]:
    """(p-value, probability of superiority) of the rank test of Mann and Whitney (1947): how often
    a random value of the second is larger than one of the first, ties counted half (Vargha and
    Delaney 2000)."""
    from scipy.stats import mannwhitneyu

    a, b = _counts(first), _counts(second)
    if len(set(a.tolist()) | set(b.tolist())) == 1:  # nothing to rank
        return 1.0, 0.5
    statistic, p = mannwhitneyu(b, a, alternative="two-sided")
    return min(1.0, float(p)), float(statistic) / (len(a) * len(b))


def pair_counts(first: Sequence[bool], second: Sequence[bool]) -> tuple[int, int, int, int]:
    """Of paired attempts how many succeeded in both, in the first alone, in the second alone, in
    neither."""
    pairs = list(zip(first, second, strict=True))
    return (
        pairs.count((True, True)),
        pairs.count((True, False)),
        pairs.count((False, True)),
        pairs.count((False, False)),
    )


def signs(first: Sequence[int | None], second: Sequence[int | None]) -> tuple[int, int, int]:
    """In how many pairs the second is less than the first, the same, more."""
    a, b = _counts(first), _counts(second)
    if len(a) != len(b):
        raise ValueError(f"pairs need as many values on both sides, got {len(a)} and {len(b)}")
    return int((b < a).sum()), int((b == a).sum()), int((b > a).sum())


def _counts(values: Sequence[int | None]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([math.inf if v is None else float(v) for v in values])


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value corrected for the number of tests (Holm 1979): calling those at most `LEVEL`
    beyond chance is wrong even once in at most that share of pages, whatever the tests depend on.
    In the order given."""
    n, largest = len(p_values), 0.0
    corrected = [0.0] * n
    for rank, index in enumerate(sorted(range(n), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (n - rank) * p_values[index]))
        corrected[index] = largest
    return corrected
