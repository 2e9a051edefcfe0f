"""Other searches, each given what it takes to look for p >= 0.9 of a target from black. A library, run by search.py.

Foolbox (3.3), adversarial-library (adv-lib 0.2) and the Adversarial Robustness Toolbox (1.20) are no dependency of
blankcheck: install them into an environment of their own, `pip install --no-deps foolbox eagerpy adv-lib
adversarial-robustness-toolbox six tqdm GitPython gitdb smmap`. A method whose library is missing is left out and said so.

Every method sees a network whose outputs are log-odds less log 9, beside one output that is 0: the largest output is then
a class exactly when that class has p >= 0.9, so each method's own success test is the one asked for.
"""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from blankcheck.fooling import FixedWeight, Goal, Problem, search
from blankcheck.outputs import log_odds


class Counted(nn.Module):
    """The network as a rival sees it: how many images went forward and backward through it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.forwards, self.backwards = inner, 0, 0

    def logits(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        outputs: Tensor = self.inner(x)
        if outputs.requires_grad:
            outputs.register_hook(self._back)
        return outputs

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


class AtNine(Counted):
    """(n, 10) log-odds less log 9, and a last output that is 0."""

    def forward(self, x: Tensor) -> Tensor:
        logits = self.logits(x)
        each = [log_odds(logits, torch.full((len(x),), k)) for k in range(logits.shape[1])]
        return torch.cat([torch.stack(each, 1) - math.log(9), torch.zeros(len(x), 1)], 1)


class AwayFromNotT(Counted):
    """Two outputs per row: log-odds of that row's target less log 9, and 0 = "not the target". For attacks that only know
    how to leave a class: leaving the second one is reaching p >= 0.9 of the target."""

    def __init__(self, inner: nn.Module, targets: Tensor) -> None:
        super().__init__(inner)
        self.targets = targets

    def forward(self, x: Tensor) -> Tensor:
        own = log_odds(self.logits(x), self.targets) - math.log(9)
        return torch.stack([own, torch.zeros(len(x))], 1)


Run = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Counted]]
"""From a network, black images and targets to images found and the counted network."""


def foolbox(name: str, **options: Any) -> Run:
    import foolbox as library

    def run(model: nn.Module, black: Tensor, targets: Tensor) -> tuple[Tensor, Counted]:
        counted = AtNine(model).eval()
        wrapped = library.PyTorchModel(counted, bounds=(0, 1), device="cpu")
        attack = getattr(library.attacks, name)(**options)
        goal = library.criteria.TargetedMisclassification(targets)
        extra = {"starting_points": None} if "FMN" in name else {}
        return attack(wrapped, black, goal, epsilons=None, **extra)[1], counted

    return run


def adversarial_library(name: str, leave: bool = False, **options: Any) -> Run:
    # plotting and pretrained models: imported by the package, not used by these attacks
    for unused, names in (("visdom", ["Visdom"]), ("torchvision", ["models"])):
        stand_in = sys.modules.setdefault(unused, types.ModuleType(unused))
        for attribute in names:
            vars(stand_in).setdefault(attribute, object)
    from adv_lib import attacks

    attack = getattr(attacks, name)

    def run(model: nn.Module, black: Tensor, targets: Tensor) -> tuple[Tensor, Counted]:
        counted: Counted = AwayFromNotT(model, targets).eval() if leave else AtNine(model).eval()
        labels = torch.ones_like(targets) if leave else targets
        return attack(counted, black, labels, **({} if leave else {"targeted": True}), **options), counted

    return run


def toolbox(name: str, **options: Any) -> Run:
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    def run(model: nn.Module, black: Tensor, targets: Tensor) -> tuple[Tensor, Counted]:
        counted = AtNine(model).eval()
        shape, outputs = tuple(black.shape[1:]), counted(black[:1]).shape[1]
        counted.forwards = 0
        loss = nn.CrossEntropyLoss()
        classifier = PyTorchClassifier(counted, loss, shape, outputs, clip_values=(0, 1), device_type="cpu")
        attack = getattr(evasion, name)(classifier, verbose=False, **options)
        wanted = nn.functional.one_hot(targets, outputs).numpy()
        return torch.from_numpy(attack.generate(black.numpy(), wanted)), counted

    return run


def classic(steps: int) -> Run:
    def run(model: nn.Module, black: Tensor, targets: Tensor) -> tuple[Tensor, Counted]:
        counted = Counted(model)
        start = torch.rand(black.shape, generator=torch.Generator().manual_seed(0))
        problem = Problem(counted.logits, "logits", targets)
        return search(problem, start, FixedWeight(), Goal(until="sparsest"), steps).images, counted

    return run


RIVALS: dict[str, Callable[[], Run]] = {
    **{
        f"sigma-zero (adversarial-library), {n} steps": lambda n=n: adversarial_library(
            "sigma_zero", leave=True, num_steps=n
        )
        for n in (10, 30, 100, 300, 1000)
    },
    **{
        f"FMN-L0 (adversarial-library), {n} steps": lambda n=n: adversarial_library("fmn", norm=0, steps=n)
        for n in (30, 100, 300, 1000)
    },
    **{
        f"PDPGD-L0 (adversarial-library), {n} steps": lambda n=n: adversarial_library(
            "pdpgd", norm=0, num_steps=n, proximal_operator=23
        )
        for n in (100, 1000)
    },
    "FMN-L0 (Foolbox), 100 steps": lambda: foolbox("L0FMNAttack", steps=100),
    "EAD (Foolbox), 4 x 250 steps": lambda: foolbox("EADAttack", binary_search_steps=4, steps=250, initial_const=1.0),
    "saliency map (ART)": lambda: toolbox("SaliencyMapMethod", theta=1.0, gamma=0.4, batch_size=10),
    "elastic net (ART), 4 x 100 steps": lambda: toolbox(
        "ElasticNet", targeted=True, max_iter=100, binary_search_steps=4, initial_const=1.0, learning_rate=0.1,
        decision_rule="L1", batch_size=10,
    ),
    "projected Adam, fixed L1 weight 1, 1000 steps": lambda: classic(1000),
}  # fmt: skip
