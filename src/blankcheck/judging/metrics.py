"""Arithmetic every figure rests on."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence


def upper_bound_95(found: int, tries: int) -> float:
    """One-sided 95 % upper bound of a rate (Clopper and Pearson 1934): the largest rate under which
    at most `found` of `tries` still has probability 0.05. 1.0 without tries. Zero of n gives about
    3/n."""
    if tries == 0 or found >= tries:
        return 1.0
    from scipy.stats import beta

    return float(beta.ppf(0.95, found + 1, tries - found))


def benjamini_hochberg(p_values: Sequence[float], level: float) -> list[bool]:
    """Which of several hypotheses to reject so that of the rejections no more than `level` are
    expected to be wrong (Benjamini and Hochberg 1995): with k the largest rank whose p-value is at
    most level * k / n, the k smallest."""
    n = len(p_values)
    passing = [p for k, p in enumerate(sorted(p_values), start=1) if p <= level * k / n]
    return [bool(passing) and p <= passing[-1] for p in p_values]


def median(values: Iterable[int | float]) -> float | None:
    """The median, as a whole number where it is one; None of nothing."""
    listed = list(values)
    if not listed:
        return None
    middle = statistics.median(listed)
    return int(middle) if middle == int(middle) else float(middle)


def share_at_most(values: Sequence[int | None], limit: int) -> float:
    """Share of the values that are there and at most `limit`; 0 of nothing."""
    return sum(v is not None and v <= limit for v in values) / len(values) if values else 0.0


def lit_thresholds(max_lit: int) -> list[int]:
    """The sparsity levels a report quotes: 33 (no real digit has fewer), 100 and 300 where they
    fit, else thirds."""
    fixed = [k for k in (33, 100, 300) if k <= max_lit]
    if max_lit < 100:
        fixed = sorted({max(1, max_lit // 3), max(1, 2 * max_lit // 3)})
    return sorted({*fixed, max_lit})


def lower_bound_95(found: int, tries: int) -> float:
    """One-sided 95 % lower bound of a rate (Clopper and Pearson 1934); 0.0 without tries."""
    return 1 - upper_bound_95(tries - found, tries) if tries and found else 0.0


def alarms_by_chance(alarms: int, tried: int, calibrating: int, rank: int) -> float:
    """The probability of at least so many alarms among `tried` images that are like the
    `calibrating` ones, where an image above the `rank`-th largest of these is an alarm: of the
    alarms + rank - 1 largest of all, fewer than `rank` are then calibration images
    (hypergeometric)."""
    from scipy.stats import hypergeom

    return (
        float(hypergeom.sf(alarms - 1, tried + calibrating, tried, alarms + rank - 1))
        if alarms
        else 1.0
    )


def lit_levels(max_lit: int) -> list[int]:
    """Where a curve over the number of lit features is read: 1, 2, 3, 5, 7, 10, 20 ... and what a
    report quotes."""
    round_numbers = (
        digit * 10**power for power in range(len(str(max_lit))) for digit in (1, 2, 3, 5, 7)
    )
    return sorted({k for k in round_numbers if k <= max_lit} | set(lit_thresholds(max_lit)))


def calibration_error(
    confidences: Sequence[float], right: Sequence[float], bins: int = 15
) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv:1706.04599, equation 3): over `bins` equal
    ranges of confidence, the mean difference between the share that is right and the mean
    confidence, weighted by how many fall there."""
    sums = [[0.0, 0.0] for _ in range(bins)]
    for confidence, correct in zip(confidences, right, strict=True):
        range_ = sums[min(bins - 1, int(confidence * bins))]
        range_[0] += confidence
        range_[1] += correct
    return (
        sum(abs(sure - correct) for sure, correct in sums) / len(confidences)
        if confidences
        else 0.0
    )
