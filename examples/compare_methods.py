"""Compare step rules on one network, with one budget and one goal, each from the start it was made
for."""

import torch

import blankcheck as bc
from blankcheck.classifiers import TrainingPlan, build, train_plainly
from blankcheck.fooling import (
    STARTS,
    Goal,
    Problem,
    ProjectedAdam,
    ProximalMomentum,
    SigmaZero,
    Solver,
    TabuSearch,
    search,
)

RULES = {
    "exchange": ("black", TabuSearch()),
    "sigma-zero": ("noise", SigmaZero()),
    "adaptive weight": ("noise", ProximalMomentum()),
    "fixed weight": ("noise", ProjectedAdam()),
}

data = bc.load_data("digits")
model = build("mlp", data.shape, len(data.classes), data.mean_and_std())
train_plainly(model, data.train, TrainingPlan(epochs=20))
model.requires_grad_(False)  # only the images' gradients are wanted

targets = torch.arange(10).repeat(10)
goal = Goal(confidence=0.9, max_lit=12, until="sparsest")


def tried(start: str, rule: Solver) -> bc.Fooling:
    """A hundred searches, ten for each class, of 100 backward passes at most."""
    images = STARTS[start](targets, data.shape, torch.Generator().manual_seed(0), None)
    return search(Problem(model, "logits", targets), images, rule, goal, steps=100)


results = {name: tried(start, rule) for name, (start, rule) in RULES.items()}
for name, found in results.items():
    print(
        f"{name:>15}: {found.met.float().mean():.0%} met, median {found.lit.float().median():.0f} "
        "lit, "
        f"{found.steps.float().mean():.0f} backward and {found.forwards.float().mean():.0f} "
        "forward passes an image"
    )
