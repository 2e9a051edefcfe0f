"""The networks that the members of the zoo are made from, each trained when first asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from torch import nn

from blankcheck.classifiers import TrainingPlan, UnitClassifier, build, train_plainly
from blankcheck.data import Data
from blankcheck.testing.honest import InkGate, ink_gate
from blankcheck.testing.masked_gradients import masked_gradient_network

SMALL = 256
"""Images of at most this many features are given an mlp."""
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Networks:
    """Networks trained on `data` when first asked for, frozen, and then shared. epochs: None for
    the usual number."""

    data: Data
    seed: int = 0
    architecture: str = "mlp"
    epochs: int | None = None

    @cached_property
    def plain(self) -> UnitClassifier:
        """The plain network that most members are wrapped around."""
        return self._trained(self._fresh(self.architecture))

    @cached_property
    def honest(self) -> InkGate:
        """What planted members are planted on."""
        return ink_gate(self.plain, self.data)

    def another(self, architecture: str, salt: int = 0) -> UnitClassifier:
        """A plain network of this architecture; another `salt`, another network."""
        if (architecture, salt) == (self.architecture, 0):
            return self.plain
        return self._trained(self._fresh(architecture, salt))

    def inside(self, wrap: Callable[[UnitClassifier], Module]) -> Module:
        """A network trained inside its wrapper, for wrappers that a plain network would lose its
        accuracy in."""
        return self._trained(wrap(self._fresh(self.architecture)))

    def masked(self) -> UnitClassifier:
        """Masked gradients on this data; small images need help to go flat, and more epochs."""
        small, common = math.prod(self.data.shape) <= SMALL, (self.data, self.seed)
        more = (60, 2, 1.0) if small else ()
        made = masked_gradient_network(*common, self.architecture, *more)
        return made.requires_grad_(False)

    def _fresh(self, architecture: str, salt: int = 0) -> UnitClassifier:
        data, seed = self.data, self.seed + 1000 * salt
        return build(architecture, data.shape, len(data.classes), data.mean_and_std(), seed)

    def _trained(self, network: Module) -> Module:
        plan = TrainingPlan.default(len(self.data.train), self.epochs)
        train_plainly(network, self.data.train, plan, self.seed)
        return network.requires_grad_(False)
