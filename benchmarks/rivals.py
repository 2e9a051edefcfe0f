"""Fewest lit features at p >= 0.9: our search and others, on the same freshly trained networks, 10 searches per class.

    python benchmarks/rivals.py --seeds 3

Needs Foolbox (3.3) and adversarial-library (adv-lib 0.2); they are no dependency of blankcheck, so install them into an
environment of their own (`pip install --no-deps foolbox eagerpy adv-lib`). A method whose library is missing is left out
and said so. Every method sees a network whose outputs are log-odds less log 9, beside one output that is 0: the largest
output is then a class exactly when that class has p >= 0.9, so each method's own success test is the one asked for.
Images are put into stored form and scored again by the plain network before they count.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import blankcheck as bc
from blankcheck.classifiers import TrainingPlan, build, train_plainly
from blankcheck.fooling import FixedWeight, Goal, Problem, search
from blankcheck.outputs import log_odds
from blankcheck.types import count_lit, stored

TARGETS = torch.arange(10).repeat_interleave(10)


class AtNine(nn.Module):
    """(n, 10) log-odds less log 9, and a last output that is 0."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.forwards = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        logits = self.inner(x)
        each = [log_odds(logits, torch.full((len(x),), k)) for k in range(10)]
        return torch.cat([torch.stack(each, 1) - math.log(9), torch.zeros(len(x), 1)], 1)


def ours(steps: int) -> Callable[[nn.Module], Tensor]:
    return lambda model: bc.fool(model, range(10), 10, shape=(1, 28, 28), steps=steps, until="sparsest").images


def classic(steps: int) -> Callable[[nn.Module], Tensor]:
    def run(model: nn.Module) -> Tensor:
        start = torch.rand(100, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        return search(Problem(model, "logits", TARGETS), start, FixedWeight(), Goal(until="sparsest"), steps).images

    return run


def foolbox_attack(name: str, **options: Any) -> Callable[[nn.Module], Tensor]:
    import foolbox

    def run(model: nn.Module) -> Tensor:
        wrapped = foolbox.PyTorchModel(AtNine(model).eval(), bounds=(0, 1), device="cpu")
        attack = getattr(foolbox.attacks, name)(**options)
        goal = foolbox.criteria.TargetedMisclassification(TARGETS)
        extra = {"starting_points": None} if "FMN" in name else {}
        _, images, _ = attack(wrapped, torch.zeros(100, 1, 28, 28), goal, epsilons=None, **extra)
        return images

    return run


def library(name: str) -> Callable[..., Tensor]:
    # plotting and pretrained models: imported by the package, not used by these attacks
    for unused, names in (("visdom", ["Visdom"]), ("torchvision", ["models"])):
        stand_in = sys.modules.setdefault(unused, types.ModuleType(unused))
        for attribute in names:
            vars(stand_in).setdefault(attribute, object)
    from adv_lib import attacks

    return getattr(attacks, name)


def library_attack(name: str, **options: Any) -> Callable[[nn.Module], Tensor]:
    attack = library(name)
    return lambda model: attack(AtNine(model).eval(), torch.zeros(100, 1, 28, 28), TARGETS, targeted=True, **options)


class AwayFromNotT(nn.Module):
    """Two outputs per row: log-odds of that row's target less log 9, and 0 = "not the target". For attacks that only know
    how to leave a class: leaving the second one is reaching p >= 0.9 of the target."""

    def __init__(self, inner: nn.Module, targets: Tensor) -> None:
        super().__init__()
        self.inner, self.targets = inner, targets

    def forward(self, x: Tensor) -> Tensor:
        own = log_odds(self.inner(x), self.targets) - math.log(9)
        return torch.stack([own, torch.zeros(len(x))], 1)


def untargeted_library_attack(name: str, **options: Any) -> Callable[[nn.Module], Tensor]:
    attack = library(name)

    def run(model: nn.Module) -> Tensor:
        wrapped = AwayFromNotT(model, TARGETS).eval()
        return attack(wrapped, torch.zeros(100, 1, 28, 28), torch.ones(100, dtype=torch.int64), **options)

    return run


def methods() -> dict[str, Callable[[], Callable[[nn.Module], Tensor]]]:
    made: dict[str, Callable[[], Callable[[nn.Module], Tensor]]] = {}
    for steps in (10, 30, 100):
        made[f"blankcheck, {steps} steps"] = lambda s=steps: ours(s)
    for steps in (30, 100, 1000):
        made[f"sigma-zero, {steps} steps"] = lambda s=steps: untargeted_library_attack("sigma_zero", num_steps=s)
    for steps in (30, 100):
        made[f"FMN-L0 (adversarial-library), {steps} steps"] = lambda s=steps: library_attack("fmn", norm=0, steps=s)
    made["FMN-L0 (Foolbox), 100 steps"] = lambda: foolbox_attack("L0FMNAttack", steps=100)
    made["EAD (Foolbox), 4 x 250 steps"] = lambda: foolbox_attack(
        "EADAttack", binary_search_steps=4, steps=250, initial_const=1.0
    )
    made["projected Adam, fixed L1 weight 1, 1000 steps"] = lambda: classic(1000)
    return made


def measure(model: nn.Module, run: Callable[[nn.Module], Tensor]) -> dict[str, float]:
    began = time.monotonic()
    images = stored(run(model).detach().float())
    seconds = time.monotonic() - began
    with torch.no_grad():
        sure = log_odds(model(images), TARGETS).sigmoid() >= 0.9 - 1e-5
    lit = count_lit(images)[sure].tolist()
    patterns = {bytes(row.to(torch.uint8).numpy()) for row in (images[sure].flatten(1) > 0)}
    return {
        "success %": 100.0 * len(lit) / 100,
        "median lit": statistics.median(lit) if lit else math.nan,
        "distinct": len(patterns),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["cnn", "mlp"])
    chosen = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True,
                            cwd=Path(__file__).parent).stdout.strip()  # fmt: skip
    print(f"commit {commit}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    data = bc.load_data("mnist")
    for name in chosen.models:
        networks = []
        for seed in range(chosen.seeds):
            network = build(name, data.shape, 10, data.mean_and_std(), seed)
            train_plainly(network, data.train, TrainingPlan(3), seed)
            networks.append(network.eval().requires_grad_(False))
        print(f"\n### mnist, {name}, seeds 0-{chosen.seeds - 1}: median (least-most) over the seeds\n")
        print("| method | success % | median lit | distinct of 100 | seconds |\n|---|---|---|---|---|")
        for label, make in methods().items():
            try:
                run = make()
            except ImportError as error:
                print(f"| {label} | not installed: {error.name} | | | |")
                continue
            rows = [measure(network, run) for network in networks]
            cells = [
                f"{statistics.median(v):.4g} ({min(v):.4g}-{max(v):.4g})" for k in rows[0] for v in [[r[k] for r in rows]]
            ]
            print(f"| {label} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
