"""Say what images mean: arithmetic on tensors and plain numbers."""

from blankcheck.judging.checks import Finding, run_checks
from blankcheck.judging.evidence import Control, Evidence, RealData
from blankcheck.judging.metrics import benjamini_hochberg, calibration_error, upper_bound_95
from blankcheck.judging.ood import OODTest
from blankcheck.judging.scores import FIRST, Score, features
from blankcheck.judging.second_scores import SECOND
from blankcheck.judging.verdict import Verdict, judge, verdict_json

__all__ = [
    "FIRST",
    "SECOND",
    "Control",
    "Evidence",
    "Finding",
    "OODTest",
    "RealData",
    "Score",
    "Verdict",
    "benjamini_hochberg",
    "calibration_error",
    "features",
    "judge",
    "run_checks",
    "upper_bound_95",
    "verdict_json",
]
