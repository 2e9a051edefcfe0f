"""Photographs of parts on a belt, drawn rather than taken: parts.npz.

And a network trained on them as usual: net.pt.
"""

import numpy as np
import torch
from net import make
from torch import nn

CLASSES = ["ring", "cross", "square", "triangle"]
MEAN, STD = 0.2, 0.2


def draw(label: int, random: np.random.Generator) -> np.ndarray:
    """One 16x16 image in [0, 1]: a bright outline somewhere on a dim, grainy background."""
    y, x = np.mgrid[:16, :16].astype(float)
    y, x, size = (
        y - random.uniform(6.5, 8.5),
        x - random.uniform(6.5, 8.5),
        random.uniform(4.5, 6.0),
    )
    distance = [
        np.abs(np.hypot(x, y) - size),
        np.where(np.maximum(abs(x), abs(y)) < size, np.minimum(abs(x), abs(y)), 9),
        np.abs(np.maximum(abs(x), abs(y)) - size * 0.85),
        np.abs(np.maximum(y - size * 0.6, 0.87 * abs(x) - 0.5 * y - size * 0.6)),
    ][label]
    outline = random.uniform(0.6, 0.9) * np.clip(1.3 - distance, 0, 1)
    return np.clip(outline + random.uniform(0.02, 0.25, (16, 16)), 0, 1)


random = np.random.default_rng(0)
y = np.arange(4000) % 4
x = np.stack([draw(label, random) for label in y]).astype(np.float32)
np.savez(
    "parts.npz",
    x_train=x[:3200],
    y_train=y[:3200],
    x_test=x[3200:],
    y_test=y[3200:],
    class_names=CLASSES,
)

torch.manual_seed(0)
network, images, labels = (
    make(),
    (torch.tensor(x[:3200])[:, None] - MEAN) / STD,
    torch.tensor(y[:3200]),
)
adam = torch.optim.Adam(network.parameters(), 1e-3)
for _ in range(12):
    for batch in torch.randperm(3200).split(64):
        adam.zero_grad()
        nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
        adam.step()
torch.save(network.state_dict(), "net.pt")
