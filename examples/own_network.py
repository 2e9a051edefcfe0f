"""Audit a network of your own: a function that builds it, a .pt file with its weights, an .npz file
with real images.

    python own_network.py                                                        the Python way, all
    of it blankcheck audit --model own_network.py:make --weights net.pt \\ --normalize 0.305/0.376
    --data npz:digits.npz --preset smoke             the same from the command line
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

import blankcheck as bc

NORMALIZE = (
    (0.305,),
    (0.376,),
)  # mean and standard deviation that the network was trained with; pixels in [0, 1]


def make() -> nn.Module:
    """Your network, untrained. blankcheck calls this and fills in the weights."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def train_as_you_always_did() -> None:
    """Stands for your own training script: it leaves digits.npz and net.pt behind, and knows
    nothing of blankcheck."""
    torch.manual_seed(0)
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32).reshape(-1, 8, 8)
    np.savez("digits.npz", x_train=x[:1400], y_train=y[:1400], x_test=x[1400:], y_test=y[1400:])
    images = (torch.tensor(x[:1400])[:, None] - NORMALIZE[0][0]) / NORMALIZE[1][0]
    network, labels = make(), torch.tensor(y[:1400])
    adam = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(100):
        adam.zero_grad()
        nn.functional.cross_entropy(network(images), labels).backward()
        adam.step()
    torch.save(network.state_dict(), "net.pt")


if __name__ == "__main__":
    train_as_you_always_did()
    model = bc.load_model(f"{Path(__file__)}:make", weights="net.pt", normalize=NORMALIZE)
    data = bc.load_data("npz:digits.npz")
    audit = bc.audit(model, data, preset="smoke")
    print(
        f"{audit.verdict}: {audit.rate:.0%} of attempts, fewest lit {audit.json['min_lit']} of 64"
    )
    audit.save("runs/own", overwrite=True)  # open runs/own/report.html
