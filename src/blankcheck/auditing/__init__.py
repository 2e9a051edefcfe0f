"""Gather the evidence: searches of a classifier, the out-of-distribution test, the controls."""

from blankcheck.auditing.attack_run import Job as Job
from blankcheck.auditing.attempts import CHUNK as CHUNK
from blankcheck.auditing.attempts import AttemptResults as AttemptResults
from blankcheck.auditing.attempts import run_attempts as run_attempts
from blankcheck.auditing.controls.setting import Twin as Twin
from blankcheck.auditing.controls.setting import Twins as Twins
from blankcheck.auditing.gather import Gathered as Gathered
from blankcheck.auditing.gather import check_fits as check_fits
from blankcheck.auditing.gather import gather as gather
from blankcheck.auditing.judges import Judges as Judges
from blankcheck.auditing.judges import check_enough as check_enough
from blankcheck.auditing.judges import level_of as level_of
from blankcheck.auditing.judges import ood_test as ood_test
from blankcheck.auditing.portfolio import ATTACKS as ATTACKS
from blankcheck.auditing.portfolio import PRESETS as PRESETS
from blankcheck.auditing.portfolio import Attack as Attack
from blankcheck.auditing.portfolio import Preset as Preset
from blankcheck.auditing.portfolio import preset_named as preset_named
from blankcheck.auditing.portfolio import within as within
from blankcheck.auditing.witnesses import Witnesses as Witnesses
