"""Which attempt came closest, by known answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers import attempt

from blankcheck.judging.evidence import nearest_misses
from blankcheck.types import Conditions

WANT = Conditions(confidence=0.9, max_lit=10, ood_level=0.01)
MET = attempt(True, 9, 0.95, 0.01)


@pytest.mark.parametrize(
    ("missed", "lacks"),
    [
        (MET, (0, 0.0)),
        (replace(MET, confidence=0.4), (1, 0.5)),
        (replace(MET, ood_p=0.21), (1, 0.2)),
        (replace(MET, lit=40), (1, 0.75)),
        (replace(MET, lit=20, confidence=0.8, ood_p=0.11), (3, 0.5 + 0.1 + 0.1)),
    ],
)
def test_what_an_attempt_lacks_is_counted_and_measured(missed, lacks):
    many, by = missed.lacks(WANT)
    assert (many, by) == (lacks[0], pytest.approx(lacks[1]))


def test_the_nearest_miss_of_a_class_lacks_least():
    attempts = (
        attempt(target=1, lit=5, confidence=0.8, p=0.5),
        attempt(target=1, lit=5, confidence=0.3, p=0.01),
        attempt(target=1, lit=5, confidence=0.3, p=0.01),
        attempt(target=1, lit=5, confidence=0.2, p=0.01),
        attempt(target=0, lit=5, confidence=0.95, p=0.02),
        attempt(target=0, lit=5, confidence=0.99, p=0.019),
    )
    assert nearest_misses(attempts, WANT) == {0: 5, 1: 1}, "one condition rather than two"
    assert list(nearest_misses(attempts, WANT)) == [0, 1]
    assert nearest_misses((), WANT) == {}


def test_a_class_that_was_fooled_has_no_miss():
    missed = attempt(target=0, lit=5, confidence=0.2, p=0.5)
    assert nearest_misses((missed, MET), WANT) == {}
    assert nearest_misses((missed, replace(MET, target=1)), WANT) == {0: 0}
    # a witness that another scoring did not confirm is none, and no miss either
    assert nearest_misses((missed, replace(MET, fooled=False)), WANT) == {}
