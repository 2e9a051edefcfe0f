"""Improve classifiers: train on real images and on the fooling images found against them."""

from blankcheck.hardening.history import Round
from blankcheck.hardening.objectives import OBJECTIVES, Objective, objective_named
from blankcheck.hardening.plan import HardeningPlan, default_plan
from blankcheck.hardening.rounds import Hardening
from blankcheck.hardening.selection import harmonic

__all__ = [
    "OBJECTIVES",
    "Hardening",
    "HardeningPlan",
    "Objective",
    "Round",
    "default_plan",
    "harmonic",
    "objective_named",
]
