"""Make images: pure functions of tensors, one value per image."""

from blankcheck.fooling.gradient_free import DifferentialEvolution, RandomSearch
from blankcheck.fooling.masks import random_mask
from blankcheck.fooling.polish import polish
from blankcheck.fooling.problem import UNTIL, Goal, Measurement, Problem
from blankcheck.fooling.search import FORWARDS_PER_STEP, MAX_STEPS, search
from blankcheck.fooling.solvers import (
    AnnealedTopK,
    GreedyLighting,
    ProjectedAdam,
    ProximalMomentum,
    Rule,
    Solver,
    StepContext,
)
from blankcheck.fooling.starts import NEED_REAL, STARTS
from blankcheck.fooling.surrogates import FastMinimumNorm, SigmaZero
from blankcheck.fooling.tabu import TabuSearch

__all__ = [
    "FORWARDS_PER_STEP",
    "MAX_STEPS",
    "NEED_REAL",
    "STARTS",
    "UNTIL",
    "AnnealedTopK",
    "DifferentialEvolution",
    "FastMinimumNorm",
    "Goal",
    "GreedyLighting",
    "Measurement",
    "Problem",
    "ProjectedAdam",
    "ProximalMomentum",
    "RandomSearch",
    "Rule",
    "SigmaZero",
    "Solver",
    "StepContext",
    "TabuSearch",
    "polish",
    "random_mask",
    "search",
]
