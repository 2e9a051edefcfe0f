"""Searches without gradients: they find what networks with misleading gradients still show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from blankcheck.fooling.counter_rng import uniform
from blankcheck.fooling.problem import Measurement
from blankcheck.fooling.solvers import StepContext
from blankcheck.types import Rows


class GradientFree:
    """Common to the rules of this module: they score trial images and nothing else."""

    gradient: ClassVar[bool] = False
    trials: ClassVar[bool] = True


@dataclass(frozen=True)
class SparseRSState(Rows):
    """keys (n,); budget (n,): how many lit features the image is to have."""

    step: int
    keys: Tensor
    budget: Tensor


@dataclass(frozen=True)
class RandomSearch(GradientFree):
    """Keep a number of features lit, move some of them to random places, follow what is better.

    Sparse-RS (Croce et al. 2022, arXiv:2006.12834, algorithm 1) on black: the share of features
    that moves falls as the budget goes, a moved feature is fully lit. An image that is confident
    goes on with a tenth fewer lit features.

    Args:
        features: lit features of an image at first.
        share: of the lit features, moved in the first step.
        tries: images scored per step.
    """

    features: int = 30
    share: float = 0.5
    tries: int = 4

    def init(self, images: Tensor, keys: Tensor) -> SparseRSState:
        """`features` for every image."""
        return SparseRSState(0, keys, torch.full_like(keys, min(self.features, images[0].numel())))

    def step(
        self, state: SparseRSState, images: Tensor, seen: Measurement, look: StepContext
    ) -> tuple[Tensor, SparseRSState]:
        """Try a few rearrangements of each image."""
        tries = min(self.tries, look.forwards)
        if tries < 1:
            return images, state
        flat, confident = images.flatten(1), seen.log_odds >= look.target_log_odds
        lit = (flat > 0).sum(dim=1)
        fewer = (lit - (lit // 10).clamp_min(1)).clamp_min(1)
        budget = torch.where(confident, fewer, state.budget)
        moving = (self.share * (1 - look.progress) ** 2 * budget).long().clamp_min(1)
        first = state.step * self.tries
        draws = [uniform(state.keys, first + i, flat.shape[1]) for i in range(tries)]
        trials = torch.stack([_rearranged(flat, draw, moving, budget - lit) for draw in draws])
        top = look.score(trials.view(tries, *images.shape)).max(dim=0)
        best = trials[top.indices, torch.arange(len(flat), device=flat.device)]
        # an image that had to give features up is followed wherever it goes
        take = confident | (lit != budget) | (top.values > seen.log_odds)
        moved = torch.where(take[:, None], best, flat).view_as(images)
        return moved, SparseRSState(state.step + 1, state.keys, budget)


def _rearranged(flat: Tensor, draw: Tensor, moving: Tensor, more: Tensor) -> Tensor:
    """`moving` random lit features go dark, as many dark ones light up, plus `more`; (n, d)."""
    lit = flat > 0
    down = moving + (-more).clamp_min(0)
    up = moving + more.clamp_min(0)
    dark_order = torch.where(lit, draw, 2.0).argsort(dim=1).argsort(dim=1)
    light_order = torch.where(lit, 2.0, draw).argsort(dim=1).argsort(dim=1)
    off = lit & (dark_order < down[:, None])
    on = ~lit & (light_order < up[:, None])
    return torch.where(off, 0.0, torch.where(on, 1.0, flat))


@dataclass(frozen=True)
class Population(Rows):
    """members (n, p, k * (2 + c)): row, column, values of k pixels in [0, 1]. fitness (n, p)."""

    step: int
    keys: Tensor
    members: Tensor
    fitness: Tensor


@dataclass(frozen=True)
class DifferentialEvolution(GradientFree):
    """Breed descriptions of sparse images: where their lit pixels are and how bright.

    The one-pixel attack (Su et al. 2019, arXiv:1710.08864, section III) with more pixels: a child
    is a member plus the scaled difference of two others (Storn and Price 1997, DE/rand/1 without
    crossover), and takes the place of its parent where it is better.

    Args:
        pixels: lit pixels of an image.
        members: size of the population, scored whole at every step.
        scale: of the difference.
    """

    pixels: int = 20
    members: int = 20
    scale: float = 0.5

    def init(self, images: Tensor, keys: Tensor) -> Population:
        """Random members that nobody has scored."""
        shape = (len(images), self.members, self.pixels * (2 + images.shape[1]))
        members = uniform(keys, 0, shape[1] * shape[2]).view(shape)
        return Population(1, keys, members, images.new_full(shape[:2], -torch.inf))

    def step(
        self, state: Population, images: Tensor, seen: Measurement, look: StepContext
    ) -> tuple[Tensor, Population]:
        """One generation. The image handed on is that of the best member."""
        if look.forwards < self.members:
            return images, state
        children = state.members if state.step == 1 else self._children(state)
        fitness = look.score(_drawn(children, images.shape).transpose(0, 1)).T
        better = fitness > state.fitness
        members = torch.where(better[:, :, None], children, state.members)
        fitness = torch.where(better, fitness, state.fitness)
        best = members[torch.arange(len(images), device=images.device), fitness.argmax(dim=1)]
        after = Population(state.step + 1, state.keys, members, fitness)
        return _drawn(best[:, None], images.shape)[:, 0], after

    def _children(self, state: Population) -> Tensor:
        n, p, size = state.members.shape
        draw = (uniform(state.keys, state.step, 3 * p).view(n, 3, p) * (p - 1)).long()
        # every member but the parent itself, as positions counted on from it
        other = (torch.arange(p, device=draw.device) + 1 + draw) % p
        at = other[..., None].expand(-1, -1, -1, size)
        a, b, c = (state.members.gather(1, at[:, i]) for i in range(3))
        return (a + self.scale * (b - c)).clamp(0, 1)


def _drawn(members: Tensor, shape: torch.Size) -> Tensor:
    """Images (n, p, c, h, w) of members (n, p, k * (2 + c)); the brightest pixel wins."""
    c, h, w = shape[-3:]
    n, p = members.shape[:2]
    parts = members.view(n, p, -1, 2 + c)
    row = (parts[..., 0] * h).long().clamp_max(h - 1)
    column = (parts[..., 1] * w).long().clamp_max(w - 1)
    place = (row * w + column)[:, :, None, :].expand(-1, -1, c, -1)
    blank = members.new_zeros(n, p, c, h * w)
    values = parts[..., 2:].transpose(2, 3)
    return blank.scatter_reduce(3, place, values, "amax").view(n, p, c, h, w)
