"""Gather the evidence: searches of a classifier, the out-of-distribution test, the controls."""

from blankcheck.auditing.attack_run import Job
from blankcheck.auditing.attempts import CHUNK, AttemptResults, run_attempts
from blankcheck.auditing.controls.setting import Twin, Twins
from blankcheck.auditing.fool import fool
from blankcheck.auditing.gather import Gathered, check_fits, gather, ood_test
from blankcheck.auditing.portfolio import ATTACKS, PRESETS, Attack, Preset, preset_named, within
from blankcheck.auditing.witnesses import Witnesses

__all__ = [
    "ATTACKS",
    "CHUNK",
    "PRESETS",
    "Attack",
    "AttemptResults",
    "Gathered",
    "Job",
    "Preset",
    "Twin",
    "Twins",
    "Witnesses",
    "check_fits",
    "fool",
    "gather",
    "ood_test",
    "preset_named",
    "run_attempts",
    "within",
]
