"""Say what a network is and what it wants, before anything is searched: a few seconds instead of a
wasted audit."""

from blankcheck.diagnosing.diagnosis import Diagnosis, Facts, diagnose
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
