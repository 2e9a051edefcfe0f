"""Make images: pure functions of tensors, one value per image."""

from blankcheck.fooling.masks import random_mask
from blankcheck.fooling.polish import polish
from blankcheck.fooling.problem import Problem, Seen
from blankcheck.fooling.search import MAX_STEPS, UNTIL, Goal, search
from blankcheck.fooling.solvers import AdaptiveWeight, AnnealedTopK, FixedWeight, GreedyLighting, Solver
from blankcheck.fooling.starts import NEED_REAL, STARTS

__all__ = [
    "MAX_STEPS", "NEED_REAL", "STARTS", "UNTIL", "AdaptiveWeight", "AnnealedTopK", "FixedWeight", "Goal",
    "GreedyLighting", "Problem", "Seen", "Solver", "polish", "random_mask", "search",
]  # fmt: skip
