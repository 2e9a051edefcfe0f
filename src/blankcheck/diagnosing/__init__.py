"""Say what a network is and what it wants, before anything is searched: a few seconds instead of a
wasted audit."""

from blankcheck.diagnosing.diagnosis import Diagnosis, diagnose
from blankcheck.diagnosing.facts import Facts
from blankcheck.diagnosing.findings import GOOD, NOTE, PROBLEM, Finding
from blankcheck.diagnosing.forms import alike, spelled

__all__ = [
    "GOOD",
    "NOTE",
    "PROBLEM",
    "Diagnosis",
    "Facts",
    "Finding",
    "alike",
    "diagnose",
    "spelled",
]
