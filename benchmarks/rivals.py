"""Other searches, each given what it takes to look for p >= 0.9 of a target from black. A library,
run by search.py.

Foolbox (3.3), adversarial-library (adv-lib 0.2) and the Adversarial Robustness Toolbox (1.20) are
no dependency of
blankcheck: install them into an environment of their own, `pip install --no-deps foolbox eagerpy
adv-lib adversarial-robustness-toolbox six tqdm GitPython gitdb smmap`. A method whose library is
missing is left out and said so.

How each library is called, and what it sees of a network, is `blankcheck.api.third_party`; here is
which attacks, with which budgets.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from blankcheck.api.third_party import adversarial_library, foolbox, toolbox
from blankcheck.auditing.third_party import Asked, Run
from blankcheck.fooling import Goal, Problem, ProjectedAdam, SparsePGD, search
from blankcheck.fooling.solvers import Solver


def own(make: Callable[[int], Solver], steps: int, noise: bool = False) -> Run:
    """A published search that no library offers for a target, as written here.

    make: the rule, from the number of features. noise: starts from uniform noise, not from black.
    """

    def run(asked: Asked, black: Tensor, targets: Tensor) -> Tensor:
        drawn = torch.rand(black.shape, generator=torch.Generator().manual_seed(0))
        problem, rule = Problem(asked.logits, "logits", targets), make(black[0].numel())
        goal = Goal(until="sparsest", max_lit=black[0].numel())
        return search(problem, drawn if noise else black, rule, goal, steps).images

    return run


RIVALS: dict[str, Callable[[], Run]] = {
    **{
        f"sigma-zero (adversarial-library), {n} steps": lambda n=n: adversarial_library(
            "sigma_zero", leave=True, num_steps=n
        )
        for n in (10, 30, 100, 300, 1000)
    },
    **{
        f"FMN-L0 (adversarial-library), {n} steps": lambda n=n: adversarial_library(
            "fmn", norm=0, steps=n
        )
        for n in (30, 100, 300, 1000)
    },
    **{
        f"PDPGD-L0 (adversarial-library), {n} steps": lambda n=n: adversarial_library(
            "pdpgd", norm=0, num_steps=n, proximal_operator=23
        )
        for n in (100, 1000)
    },
    "FMN-L0 (Foolbox), 100 steps": lambda: foolbox("L0FMNAttack", steps=100),
    "EAD (Foolbox), 4 x 250 steps": lambda: foolbox(
        "EADAttack", binary_search_steps=4, steps=250, initial_const=1.0
    ),
    "saliency map (ART)": lambda: toolbox("SaliencyMapMethod", theta=1.0, gamma=0.4, batch_size=10),
    "elastic net (ART), 4 x 100 steps": lambda: toolbox(
        "ElasticNet",
        targeted=True,
        max_iter=100,
        binary_search_steps=4,
        initial_const=1.0,
        learning_rate=0.1,
        decision_rule="L1",
        batch_size=10,
    ),
    **{
        f"sPGD ({kind}), {n} steps": lambda n=n, free=free: own(
            lambda d: SparsePGD(features=d // 8, unprojected=free), n
        )
        for n in (30, 100, 300, 1000)
        for kind, free in (("unprojected", True), ("projected", False))
    },
    "projected Adam, fixed L1 weight 1, 1000 steps": lambda: own(
        lambda d: ProjectedAdam(), 1000, noise=True
    ),
}
