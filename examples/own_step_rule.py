"""A step rule of your own: how an image moves once its gradient is known.

Ten lines, and the one loop does the rest.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.fooling import Goal, Measurement, Problem, StepContext, search
from blankcheck.fooling.solvers import Descent
from blankcheck.testing import Planted
from blankcheck.types import Rows


@dataclass(frozen=True)
class Weights(Rows):
    """What the rule remembers, one row per image: how hard the image's features are pulled towards
    black."""

    pull: Tensor


@dataclass(frozen=True)
class SignDescent(Descent):
    """Move every feature along the gradient's sign, then towards black; pull harder while the image
    is confident."""

    size: float = 0.1

    def init(self, images: Tensor, keys: Tensor) -> Weights:
        """The state before the first step."""
        return Weights(images.new_full((len(images), 1, 1, 1), 0.01))

    def step(
        self, state: Weights, images: Tensor, seen: Measurement, look: StepContext
    ) -> tuple[Tensor, Weights]:
        """Images (n, c, h, w) and what was seen of them -> the next images, and the next state."""
        confident = (seen.log_odds >= look.target_log_odds)[:, None, None, None]
        moved = images + self.size * seen.gradient.sign() - state.pull
        return moved.clamp(0, 1), Weights(state.pull * torch.where(confident, 1.1, 0.95))


# A classifier whose sparsest fooling image is known: class t needs its own five planted features,
# and no others.
model, targets = Planted(pixels=5), torch.tensor([0, 1, 2])
start = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
found = search(
    Problem(model, "logits", targets),
    start,
    SignDescent(),
    Goal(max_lit=12, until="sparsest"),
    steps=200,
)
print(f"met: {found.met.tolist()}, lit features: {found.lit.tolist()}")
