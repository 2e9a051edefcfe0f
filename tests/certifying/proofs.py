"""What tests of proofs share: small networks, what is proved of them, and what they answer."""

from __future__ import annotations

import math

import torch
from torch import nn

from blankcheck.certifying import (
    Sparse,
    bound_layers,
    log_odds_bounds,
    read_network,
    rounding_slack,
)
from blankcheck.outputs import log_odds

LIKE = torch.zeros((), dtype=torch.float64)
READ = {}


class Net(nn.Module):
    """A function of itself and the image, and the layers it calls."""

    def __init__(self, call, **layers):
        super().__init__()
        self.call = call
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self.call(self, x)


def dense(*layers, n=32, hidden=6):
    """A hidden layer of n features, then further ones."""
    return nn.Sequential(nn.Flatten(), nn.Linear(n, hidden), *layers)


def flattened(*layers, last, outputs=2):
    """Layers, and a linear one of so many values behind them."""
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(last, outputs))


def read(key, make, shape):
    """A network that is exported once; its weights are drawn again for every case."""
    if (key, shape) not in READ:
        READ[key, shape] = read_network(make().eval(), shape)
    return READ[key, shape]


def shuffled(network, seed, size=1.0):
    """Random weights and running statistics for a network; the generator that they came from."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in (*network.module.named_parameters(), *network.module.named_buffers()):
            if not tensor.is_floating_point() or name.split(".")[-1] in ("mean", "std"):
                continue
            spread = size / math.sqrt(tensor[0].numel()) * 3 if tensor.ndim > 1 else 0.5
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * spread)
            if "var" in name:
                tensor.abs_().add_(0.1)
    return generator


@torch.no_grad()
def proved(network, k, unit="features", slope_steps=0, classes=2):
    """What no image with at most k lit exceeds, (classes,)."""
    made = bound_layers(network.layers(), Sparse(k, unit), LIKE)
    return log_odds_bounds(made, classes, slope_steps) + rounding_slack(made, classes)


@torch.no_grad()
def truth(network, images, classes=2):
    """The largest log-odds of each class among images, of the outputs of float32."""
    outputs = network.module(images.float()).double()
    targets = (torch.full((len(images),), t) for t in range(classes))
    return torch.stack([log_odds(outputs, target).max() for target in targets])
