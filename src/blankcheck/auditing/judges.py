"""The out-of-distribution tests of an audit: the one that decides, and those that only report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from blankcheck.data import Data
from blankcheck.errors import ArgumentError, DataError
from blankcheck.judging import FIRST, ODD, SECOND, OODTest, Score
from blankcheck.judging.ood import AUTO, check_size, fewest_images, usual_level
from blankcheck.parallel.spread import Spread, alone
from blankcheck.text import short

Level = float | Literal["auto"]
"""A level that was asked for, or the one that suits the data."""


def ood_test(
    data: Data, level: float, scores: Sequence[Score] = FIRST, spread: Spread = alone
) -> OODTest:
    """The out-of-distribution test that judges audits: fitted and calibrated on half B of the
    training images. spread: by which processes share that.

    Hardening's gate uses half A, so that nothing is trained against the judge.
    """
    return OODTest.fit(data.halves[1].images, level, scores=scores, spread=spread)


def level_of(data: Data, asked: Level = "auto") -> float:
    """The level asked for; of `auto` the one whose guarantee the data carry (`usual_level`)."""
    if asked == AUTO:
        return usual_level(data.halves[1].images)
    if isinstance(asked, str):
        raise ArgumentError(f"ood_level must be a number or {AUTO}, got {short(asked)}")
    return float(asked)


def check_enough(data: Data, level: float) -> None:
    """DataError, in the numbers of whoever brought the data, where either half of the training
    images is too few for a test at this level."""
    try:
        for half in data.halves:
            check_size(len(half), level)
    except DataError as error:
        n, whole = len(data.train), sum(map(len, (data.train, data.validation, data.test)))
        has = f"data {data.source!r} has {n} training images ({whole} in all)"
        needs = f"ood_level {level:g} needs at least {2 * fewest_images(level)} of them"
        two = "half for hardening, half to calibrate the out-of-distribution test"
        ways = "give more data or a larger ood_level"
        raise DataError(f"{has}; {needs}, {two}; {ways}") from error


@dataclass(frozen=True)
class Judges:
    """Three tests, fitted on the same images.

    Args:
        first: whose word the third condition is.
        second: of shape as well, by other scores, which no hardening uses.
        odd: whether anything about an image is unusual; decides nothing.
    """

    first: OODTest
    second: OODTest
    odd: OODTest

    @classmethod
    def fit(
        cls, data: Data, level: float, scores: Sequence[Score] = FIRST, spread: Spread = alone
    ) -> Judges:
        """All on half B. scores: of the first."""
        return cls(*(ood_test(data, level, each, spread) for each in (scores, SECOND, ODD)))
