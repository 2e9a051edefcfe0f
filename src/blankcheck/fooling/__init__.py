"""Make images: pure functions of tensors, one value per image."""

from blankcheck.fooling.gradient_free import DifferentialEvolution, RandomSearch
from blankcheck.fooling.masks import random_mask
from blankcheck.fooling.polish import polish
from blankcheck.fooling.problem import Problem, Seen
from blankcheck.fooling.search import FORWARDS_PER_STEP, MAX_STEPS, UNTIL, Goal, search
from blankcheck.fooling.solvers import (
    AdaptiveWeight,
    AnnealedTopK,
    FixedWeight,
    GreedyLighting,
    Look,
    Rule,
    Solver,
)
from blankcheck.fooling.starts import NEED_REAL, STARTS
from blankcheck.fooling.surrogates import FastMinimumNorm, SigmaZero
from blankcheck.fooling.tabu import Exchange

__all__ = [
    "FORWARDS_PER_STEP",
    "MAX_STEPS",
    "NEED_REAL",
    "STARTS",
    "UNTIL",
    "AdaptiveWeight",
    "AnnealedTopK",
    "DifferentialEvolution",
    "Exchange",
    "FastMinimumNorm",
    "FixedWeight",
    "Goal",
    "GreedyLighting",
    "Look",
    "Problem",
    "RandomSearch",
    "Rule",
    "Seen",
    "SigmaZero",
    "Solver",
    "polish",
    "random_mask",
    "search",
]
