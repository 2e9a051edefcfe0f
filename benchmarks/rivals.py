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
from blankcheck.fooling import Goal, Problem, ProjectedAdam, search


def classic(steps: int) -> Run:
    def run(asked: Asked, black: Tensor, targets: Tensor) -> Tensor:
        start = torch.rand(black.shape, generator=torch.Generator().manual_seed(0))
        problem = Problem(asked.logits, "logits", targets)
        return search(problem, start, ProjectedAdam(), Goal(until="sparsest"), steps).images

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
    "projected Adam, fixed L1 weight 1, 1000 steps": lambda: classic(1000),
}
