"""What the search for fooling images has to know: the network as it is now, the plan, the data."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.wrapper import device_of, left_as_found
from blankcheck.fooling import Goal, Problem, Structures
from blankcheck.fooling.starts import Real
from blankcheck.hardening.plan import HardeningPlan
from blankcheck.hardening.structures import DRAWN, Structured
from blankcheck.judging import OODTest
from blankcheck.parallel.peers import ALONE, Peers
from blankcheck.types import Conditions, count_lit

GATE = 0.03
"""The p-value up to which images are trained on, unless another share of the level is asked for."""


@dataclass
class SourceContext:
    """What every source of fooling images searches.

    Args:
        classifier: the network as it is now.
        classes: real classes, and `targets` (k,) those of them that have images.
        shape: (c, h, w) of an image.
        conditions: of a fooling image.
        plan: of the hardening.
        ood_filter: the out-of-distribution test of hardening.
        generator: of draws for fooling images; every process makes its own.
        real: images that starts are made of.
        peers: the processes that share the work.
        anneal: factor of the penalty weights of new searches.
        passes: backward passes of images so far, of this process.
        structures: structured images of this round.
    """

    classifier: UnitClassifier
    classes: int
    shape: tuple[int, int, int]
    conditions: Conditions
    plan: HardeningPlan
    ood_filter: OODTest
    generator: torch.Generator
    real: Real
    targets: Tensor
    peers: Peers = ALONE
    anneal: float = 1.0
    passes: int = 0
    structures: Structured = field(init=False)

    def __post_init__(self) -> None:
        self.structures = Structured.none(self.shape)

    @property
    def fooling_batch(self) -> int:
        """This process's part of the fooling images beside each batch."""
        return self.peers.own_number(self.plan.fooling_batch)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return device_of(self.classifier)

    @property
    def needed(self) -> float:
        """The confidence asked for, as log-odds."""
        return Goal(self.conditions.confidence).target_log_odds

    @property
    def asked(self) -> float:
        """The p-value of a fooling image, or what few calibration images can show."""
        return max(self.conditions.ood_level, self.ood_filter.smallest_p)

    @property
    def strict(self) -> float:
        """The p-value up to which an image is trained on."""
        share = self.plan.gate_level
        if share is None:
            return max(GATE, self.asked)
        return max(share * self.conditions.ood_level, self.ood_filter.smallest_p)

    def problem(self, targets: Tensor) -> Problem:
        """The search of these targets (n,)."""
        return Problem(self.classifier, "logits", targets.to(self.device))

    def draw_structures(self) -> None:
        """New structured images for a round."""
        seed = int(torch.randint(2**31, (1,), generator=self.generator))
        pool = Structures(DRAWN, self.shape, self.conditions.max_lit, seed)
        asked = self.classifier, self.classes, self.generator
        self.structures = Structured.drawn(pool, self.counts, *asked)

    def counts(self, images: Tensor) -> Tensor:
        """(n,) bool: those far enough from real images to be trained on."""
        if self.plan.prune == "none":
            return torch.ones(len(images), dtype=torch.bool)
        return self.ood_filter.p_values(images) <= self.strict

    def weights(self, images: Tensor, targets: Tensor) -> Tensor:
        """How much each of these images (n, c, h, w) counts in the fooling loss, (n,) on the CPU;
        0: it is not trained on. Those at the level of the conditions count `far_weight` times; the
        others, up to the filter's level, are a margin, for the judge's test is another one."""
        if self.plan.prune == "none":
            return torch.ones(len(images))
        p = self.ood_filter.p_values(images)
        far = torch.where(p <= self.asked, self.plan.far_weight, 1.0)
        weights = (p <= self.strict) * far
        if self.plan.prune == "all":
            with left_as_found(self.classifier):
                margin = self.problem(targets).score(images)[1]
            sparse = count_lit(images) <= self.conditions.max_lit
            weights *= ((margin >= self.needed) & sparse).cpu()
        return weights
