"""A network that looks robust from one start only: hardened from uniform noise, it goes flat there
and nowhere else."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blankcheck.classifiers import TrainingPlan, UnitClassifier, build
from blankcheck.classifiers.training import batches
from blankcheck.data import Data
from blankcheck.fooling import Goal, Problem, ProximalMomentum, StepContext
from blankcheck.types import stored

BUFFER, SEARCHED = 512, 64
TURNS = BUFFER // SEARCHED
"""After which every image of the buffer was searched once."""


def masked_gradient_network(
    data: Data,
    seed: int = 0,
    architecture: str = "cnn",
    epochs: int = 4,
    steps: int = 8,
    silence: float = 0.0,
) -> UnitClassifier:
    """A network with a maximum-entropy target on images searched from uniform noise, kept in a
    buffer.

    Searches that start from noise then find nothing, and their gradient vanishes; others succeed at
    once (gradient masking: Athalye, Carlini and Wagner 2018, arXiv:1802.00420).

    `steps` search steps are taken each time an image of the buffer is visited. silence: weight of
    the searched images' mean last hidden activation; above 0 it kills every unit there, which a
    small network does not do by itself.
    """
    network = build(architecture, data.shape, len(data.classes), data.mean_and_std(), seed)
    plan, rule, generator = TrainingPlan(epochs), ProximalMomentum(), torch.Generator()
    generator.manual_seed(seed)
    optimiser, schedule = plan.optimiser(network, len(data.train))
    buffer = torch.rand(BUFFER, *data.shape, generator=generator)
    targets = torch.arange(BUFFER) % len(data.classes)
    indices = [i for _ in range(epochs) for i in batches(len(data.train), plan.batch, generator)]
    for turn, index in enumerate(indices):
        rows = (torch.arange(SEARCHED) + turn * SEARCHED) % BUFFER
        if turn % (2 * TURNS) < TURNS:  # every other time around the buffer starts afresh
            buffer[rows] = torch.rand(SEARCHED, *data.shape, generator=generator)
        problem = Problem(network.eval(), "logits", targets[rows])
        context = StepContext(Goal().target_log_odds, 0, 0, problem.score_trials)
        images = buffer[rows]
        state = rule.init(images, rows)
        for _ in range(steps):
            images, state = rule.step(state, images, problem.measure(stored(images)), context)
        buffer[rows] = images
        network.train()
        real = F.cross_entropy(network(data.train.images[index]), data.train.labels[index])
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(real + _doubt(network, stored(images), silence))
        optimiser.step()
        schedule.step()
    return network.eval()


def _doubt(network: UnitClassifier, images: Tensor, silence: float) -> Tensor:
    """Cross-entropy against the uniform distribution, and the weighted mean of the last hidden
    activations."""
    hidden, last = split_last(network)
    active = hidden((images - network.mean) / network.std)
    loss: Tensor = -last(active).log_softmax(dim=1).mean(dim=1).mean()
    return loss + silence * active.mean() if silence else loss


def split_last(network: UnitClassifier) -> tuple[nn.Sequential, nn.Module]:
    """The layers of a reference network before its last one, and the last one."""
    layers = list(network.network.children())
    return nn.Sequential(*layers[:-1]), layers[-1]
