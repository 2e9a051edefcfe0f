"""Improve classifiers: train on real images and on the fooling images found against them."""

from typing import TYPE_CHECKING

from blankcheck.lazily import exported

if TYPE_CHECKING:
    from blankcheck.hardening.history import Round as Round
    from blankcheck.hardening.history import harmonic as harmonic
    from blankcheck.hardening.objectives import OBJECTIVES as OBJECTIVES
    from blankcheck.hardening.objectives import Objective as Objective
    from blankcheck.hardening.objectives import objective_named as objective_named
    from blankcheck.hardening.plan import HardeningOptions as HardeningOptions
    from blankcheck.hardening.plan import HardeningPlan as HardeningPlan
    from blankcheck.hardening.rounds import Hardening as Hardening

__getattr__ = exported(
    __name__,
    history="Round harmonic",
    objectives="OBJECTIVES Objective objective_named",
    plan="HardeningOptions HardeningPlan",
    rounds="Hardening",
)
