"""A step rule that looks at structured images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.fooling.counter_rng import uniform
from blankcheck.fooling.gradient_free import GradientFree
from blankcheck.fooling.problem import Measurement
from blankcheck.fooling.solvers import StepContext
from blankcheck.fooling.structured.drawing import GENES, structured
from blankcheck.types import Rows


@dataclass(frozen=True)
class Described(Rows):
    """genes (n, `GENES`) of the best structured image of each row, and its log-odds (n,)."""

    step: int
    keys: Tensor
    genes: Tensor
    odds: Tensor


@dataclass(frozen=True)
class StructuredSearch(GradientFree):
    """Bars, frames, stripes, dots of one grey and the like (`structured`), drawn by chance.

    From the second step on half of the trials are kin of the best image so far: each of its numbers
    is kept, moved a little, or drawn anew. So a network that is the surer the longer a bar is, is
    followed without a gradient.

    Args:
        max_lit: most lit features of an image.
        tries: images scored per step.
        kept: share of the numbers that kin keep.
        near: and of those that are moved by up to `reach`; the rest are drawn anew.
        reach: in [0, 1].
    """

    max_lit: int
    tries: int = 14
    kept: float = 0.7
    near: float = 0.15
    reach: float = 0.05

    def init(self, images: Tensor, keys: Tensor) -> Described:
        """Nothing was drawn yet."""
        none = images.new_full((len(images),), -torch.inf)
        return Described(0, keys, images.new_zeros(len(images), GENES), none)

    def step(
        self, state: Described, images: Tensor, seen: Measurement, look: StepContext
    ) -> tuple[Tensor, Described]:
        """Score some; the image handed on is the best of all so far."""
        tries = min(self.tries, look.forwards)
        if tries < 1:
            return images, state
        genes = self._genes(state, tries)
        n, c, h, w = images.shape
        drawn = structured(genes.flatten(0, 1), (c, h, w), self.max_lit).view(tries, n, c, h, w)
        top = look.score(drawn).max(dim=0)
        row = torch.arange(n, device=images.device)
        better = top.values > state.odds
        genes = torch.where(better[:, None], genes[top.indices, row], state.genes)
        images = torch.where(better[:, None, None, None], drawn[top.indices, row], images)
        odds = torch.where(better, top.values, state.odds)
        return images, Described(state.step + 1, state.keys, genes, odds)

    def _genes(self, state: Described, tries: int) -> Tensor:
        """(tries, n, `GENES`)."""
        numbers = uniform(state.keys, state.step, 2 * tries * GENES).view(-1, 2, tries, GENES)
        coin, fresh = (each.transpose(0, 1) for each in numbers.unbind(1))
        if state.step == 0:
            return fresh
        moved = (state.genes + self.reach * (2 * fresh - 1)) % 1
        kin = torch.where(coin < self.kept, state.genes, fresh)
        kin = torch.where((coin >= self.kept) & (coin < self.kept + self.near), moved, kin)
        return torch.cat([fresh[: tries // 2], kin[tries // 2 :]])
