"""Arithmetic every figure rests on."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence


def upper_bound_95(found: int, tries: int) -> float:
    """One-sided 95 % upper bound of a rate (Clopper and Pearson 1934).

    The largest rate under which at most `found` of `tries` has probability 0.05; 1.0 without tries.
    """
    if tries == 0 or found >= tries:
        return 1.0
    from scipy.stats import beta

    return float(beta.ppf(0.95, found + 1, tries - found))


def lower_bound_95(found: int, tries: int) -> float:
    """One-sided 95 % lower bound of a rate (Clopper and Pearson 1934); 0.0 without tries."""
    return 1 - upper_bound_95(tries - found, tries) if tries and found else 0.0


def benjamini_hochberg(p_values: Sequence[float], level: float) -> list[bool]:
    """Which hypotheses to reject so that at most `level` of the rejections are expected to be wrong
    (Benjamini and Hochberg 1995): the k smallest, k the largest rank with p <= level * k / n."""
    n = len(p_values)
    passing = [p for k, p in enumerate(sorted(p_values), start=1) if p <= level * k / n]
    return [bool(passing) and p <= passing[-1] for p in p_values]


def false_alarm_p_value(alarms: int, tried: int, calibrating: int, rank: int) -> float:
    """The probability of at least so many false alarms by chance (hypergeometric).

    Args:
        alarms: that were seen.
        tried: images, which are like the calibration images.
        calibrating: calibration images.
        rank: an image above the `rank`-th largest of these is an alarm. So of the alarms + rank - 1
            largest of all images fewer than `rank` are calibration images.
    """
    if not alarms:
        return 1.0
    from scipy.stats import hypergeom

    return float(hypergeom.sf(alarms - 1, tried + calibrating, tried, alarms + rank - 1))


def calibration_error(
    confidences: Sequence[float], right: Sequence[float], bins: int = 15
) -> float:
    """Expected calibration error (Guo et al. 2017, arXiv:1706.04599, equation 3): over `bins`
    ranges the mean distance of share right and mean confidence, weighted by counts; 0 of none."""
    sums = [[0.0, 0.0] for _ in range(bins)]
    for confidence, correct in zip(confidences, right, strict=True):
        each = sums[min(bins - 1, int(confidence * bins))]
        each[0] += confidence
        each[1] += correct
    return sum(abs(sure - correct) for sure, correct in sums) / max(1, len(confidences))


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
    """Sparsity levels a report quotes: 33 (no digit has fewer), 100, 300, or thirds."""
    fixed = [k for k in (33, 100, 300) if k <= max_lit]
    if max_lit < 100:
        fixed = [max(1, max_lit // 3), max(1, 2 * max_lit // 3)]
    return sorted({*fixed, max_lit})


def lit_levels(max_lit: int) -> list[int]:
    """Where a curve over lit features is read: 1, 2, 3, 5, 7, 10 ... and what a report quotes."""
    powers = range(len(str(max_lit)))
    round_numbers = (digit * 10**power for power in powers for digit in (1, 2, 3, 5, 7))
    return sorted({k for k in round_numbers if k <= max_lit} | set(lit_thresholds(max_lit)))
