"""Which trials are worth having: the front, the best point of it, and which trials are not worth
finishing. Pure.

A trial has two aims: accuracy on real images, the more the better, and the share of attempts that
fool, the less the better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from blankcheck.hardening import harmonic

FROM_SHARE = 0.5
"""Share of the training after which a trial may be ended."""
PEERS = 4
"""Finished trials without which nothing is far below anything."""
FAR_BELOW = 0.1
"""Accuracy below the median of the others at which a trial is ended."""
DOMINATORS = 3
BETTER_ACCURACY, BETTER_RATE = 0.01, 0.2
"""Differences that count: two standard errors of the difference between two rates of fifty attempts
are 0.2."""
RULE = (
    "Of the points of the front, the one with the largest harmonic mean of accuracy and resistance, which is 1 minus the "
    "share of attempts that fool; among equals the more accurate, then the one that is confident of more real images."
)


@dataclass(frozen=True)
class Point:
    """What a finished trial reached, on validation images and by fresh attempts; shares in [0, 1].
    confident: of real images that are right and sure."""

    number: int
    accuracy: float
    rate: float
    confident: float = 1.0

    @property
    def score(self) -> float:
        """The harmonic mean of accuracy and resistance."""
        return harmonic(self.accuracy, [1 - self.rate])


@dataclass(frozen=True)
class Seen:
    """A trial after one of its rounds. share: of its training, in (0, 1]."""

    share: float
    accuracy: float
    confident: float
    rate: float


def eligible(points: Sequence[Point], min_confident: float) -> list[Point]:
    """Those that are not timid; all, where every one is."""
    return [p for p in points if p.confident >= min_confident] or list(points)


def front(points: Sequence[Point]) -> list[Point]:
    """The points that no other is better than: at least as good in both aims and better in one.
    Most resistant first.

    Of points with the same values all are kept.
    """
    found: list[Point] = []
    for point in sorted(points, key=lambda p: (p.rate, -p.accuracy, p.number)):
        last = found[-1] if found else None
        if (
            last is None
            or point.accuracy > last.accuracy
            or (point.accuracy, point.rate) == (last.accuracy, last.rate)
        ):
            found.append(point)
    return found


def best(points: Sequence[Point]) -> Point:
    """The point to use, by `RULE`."""
    return max(front(points), key=lambda p: (p.score, p.accuracy, p.confident, -p.number))


def why_end(now: Seen, others: Sequence[Sequence[Seen]]) -> str | None:
    """Why a trial is not worth finishing, in a sentence; None where it is.

    others: the rounds of each trial that ran to its end. Each is seen where it had trained for as
    large a share as this one now, or a little less, so that learning rates are alike.
    """
    if not FROM_SHARE <= now.share < 1:
        return None
    peers = [
        rounds[-1]
        for each in others
        if (rounds := [s for s in each if s.share <= now.share + 1e-9])
    ]
    if len(peers) < PEERS:
        return None
    middle = median(p.accuracy for p in peers)
    if now.accuracy < middle - FAR_BELOW:
        return (
            f"after {now.share:.0%} of its training its validation accuracy of {now.accuracy:.1%} was far below the "
            f"median of {len(peers)} finished trials, {middle:.1%}"
        )
    ahead = [
        p
        for p in peers
        if p.accuracy >= now.accuracy + BETTER_ACCURACY and p.rate <= now.rate - BETTER_RATE
    ]
    if len(ahead) >= DOMINATORS:
        return (
            f"after {now.share:.0%} of its training {len(ahead)} finished trials had been clearly more accurate than "
            f"its {now.accuracy:.1%} and fooled clearly less often than its {now.rate:.0%}"
        )
    return None
