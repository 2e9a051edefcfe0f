"""Improve classifiers: train on real images and on the fooling images found against them."""

from blankcheck.hardening.objectives import OBJECTIVES, Objective, objective_named
from blankcheck.hardening.rounds import Hardening, HardeningPlan, Round, default_plan
from blankcheck.hardening.selection import best_round, harmonic

__all__ = [
    "OBJECTIVES", "Hardening", "HardeningPlan", "Objective", "Round", "best_round", "default_plan", "harmonic",
    "objective_named",
]  # fmt: skip
