"""Say what images mean: arithmetic on tensors and plain numbers."""

from blankcheck.judging.checks import Finding as Finding
from blankcheck.judging.checks import run_checks as run_checks
from blankcheck.judging.evidence import Control as Control
from blankcheck.judging.evidence import Evidence as Evidence
from blankcheck.judging.evidence import RealData as RealData
from blankcheck.judging.metrics import benjamini_hochberg as benjamini_hochberg
from blankcheck.judging.metrics import calibration_error as calibration_error
from blankcheck.judging.metrics import upper_bound_95 as upper_bound_95
from blankcheck.judging.odd import ODD as ODD
from blankcheck.judging.ood import OODTest as OODTest
from blankcheck.judging.scores import Score as Score
from blankcheck.judging.scores import features as features
from blankcheck.judging.shape import FILTER as FILTER
from blankcheck.judging.shape import FIRST as FIRST
from blankcheck.judging.shape import SECOND as SECOND
from blankcheck.judging.verdict import Verdict as Verdict
from blankcheck.judging.verdict import judge as judge
from blankcheck.judging.verdict import verdict_json as verdict_json
