"""What a network is and wants, said in seconds, before anything is searched."""

from blankcheck.diagnosing.diagnosis import Diagnosis, diagnose
from blankcheck.diagnosing.findings import GOOD, NOTE, PROBLEM, Finding
from blankcheck.diagnosing.forms import alike, spelled

__all__ = ["GOOD", "NOTE", "PROBLEM", "Diagnosis", "Finding", "alike", "diagnose", "spelled"]
