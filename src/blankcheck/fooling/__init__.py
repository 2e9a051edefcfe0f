"""Make images: pure functions of tensors, one value per image."""

from blankcheck.fooling.gradient_free import DifferentialEvolution as DifferentialEvolution
from blankcheck.fooling.gradient_free import RandomSearch as RandomSearch
from blankcheck.fooling.masks import random_mask as random_mask
from blankcheck.fooling.polish import polish as polish
from blankcheck.fooling.problem import UNTIL as UNTIL
from blankcheck.fooling.problem import Goal as Goal
from blankcheck.fooling.problem import Measurement as Measurement
from blankcheck.fooling.problem import Problem as Problem
from blankcheck.fooling.search import FORWARDS_PER_STEP as FORWARDS_PER_STEP
from blankcheck.fooling.search import MAX_STEPS as MAX_STEPS
from blankcheck.fooling.search import search as search
from blankcheck.fooling.solvers import AnnealedTopK as AnnealedTopK
from blankcheck.fooling.solvers import GreedyLighting as GreedyLighting
from blankcheck.fooling.solvers import ProjectedAdam as ProjectedAdam
from blankcheck.fooling.solvers import ProximalMomentum as ProximalMomentum
from blankcheck.fooling.solvers import Rule as Rule
from blankcheck.fooling.solvers import Solver as Solver
from blankcheck.fooling.solvers import StepContext as StepContext
from blankcheck.fooling.sparse_pgd import SparsePGD as SparsePGD
from blankcheck.fooling.starts import NEED_REAL as NEED_REAL
from blankcheck.fooling.starts import STARTS as STARTS
from blankcheck.fooling.structured.drawing import Structures as Structures
from blankcheck.fooling.structured.search import StructuredSearch as StructuredSearch
from blankcheck.fooling.surrogates import FastMinimumNorm as FastMinimumNorm
from blankcheck.fooling.surrogates import SigmaZero as SigmaZero
from blankcheck.fooling.tabu import TabuSearch as TabuSearch
