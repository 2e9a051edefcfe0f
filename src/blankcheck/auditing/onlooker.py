"""Every answer of the audited network is looked at, whoever asked for it.

A search has one target, but an image on its way may make the network sure of another class, or be
met by a probe, by a trial of a rule, or in a copy of the network: a witness as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from blankcheck.fooling import Goal
from blankcheck.fooling.tensor_ops import turns_between_syncs
from blankcheck.outputs import as_logits
from blankcheck.parallel.spread import Spread
from blankcheck.types import Accept, Classifier, Conditions, count_lit, stored

T = TypeVar("T")
ASKED_AT_ONCE = 100
"""Images about which the out-of-distribution test is asked at once; few cost as much."""


@dataclass(frozen=True)
class Met:
    """What was met in one piece of work: at most one image of each class, the sparsest of those
    that the out-of-distribution test was asked about when it first said yes.

    images: (n, c, h, w) in stored form. classes: (n,). asked: images that the test was asked about.
    """

    images: Tensor
    classes: Tensor
    asked: int


class Onlooker(nn.Module):
    """The audited network, whose every answer is looked at for images that meet all conditions for
    any class. That changes no answer, and happens in pieces of work given out by `over`.

    Args:
        network: the classifier.
        form: of its outputs.
        classes: of the data.
        want: the conditions.
        accept: the out-of-distribution test.

    `calls` is how often it was called in this process.
    """

    def __init__(
        self, network: Classifier, form: str, classes: int, want: Conditions, accept: Accept
    ) -> None:
        super().__init__()
        self.network, self.form, self.classes = network, form, classes
        self.want, self.accept, self.sure = want, accept, Goal(want.confidence).target_confidence
        self.looking, self.asked, self.calls = False, 0, 0
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._candidates: list[tuple[Tensor, Tensor]] = []
        self._met: dict[int, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        """The network's answer."""
        self.calls += 1
        outputs = self.network(images)
        if self.looking and len(self._met) < self.classes:
            self._look(images.detach(), outputs.detach())
        return outputs

    def accepts(self, images: Tensor) -> Tensor:
        """What the out-of-distribution test says, (n, c, h, w) -> (n,) bool; counted."""
        self.asked += len(images)
        return self.accept(images)

    def over(self, spread: Spread, met: list[Met]) -> Spread:
        """The same spread, whose pieces are watched; what each met is added to the list. A piece
        starts from nothing, so that what it meets does not depend on which process does it."""

        def watched(n: int, do: Callable[[int], T]) -> list[T]:
            ended = spread(n, lambda index: self._watched(do, index))
            met.extend(seen for _, seen in ended)
            return [result for result, _ in ended]

        return watched

    def _watched(self, do: Callable[[int], T], index: int) -> tuple[T, Met]:
        self._met, self.asked, self.looking = {}, 0, True
        try:
            result = do(index)
            self._sift()
            self._ask()
        finally:
            self.looking = False
            self._pending.clear()
            self._candidates.clear()
        images = torch.stack(list(self._met.values())) if self._met else torch.zeros(0, 0, 0, 0)
        return result, Met(images, torch.tensor(list(self._met)).long(), self.asked)

    @torch.no_grad()
    def _look(self, images: Tensor, outputs: Tensor) -> None:
        p = as_logits(outputs, self.form).softmax(dim=1)[:, : self.classes]
        self._pending.append((images, p >= self.sure))
        # on a device asking makes the host wait
        if len(self._pending) >= turns_between_syncs(images.device):
            self._sift()
            if sum(len(images) for images, _ in self._candidates) >= ASKED_AT_ONCE:
                self._ask()

    def _sift(self) -> None:
        """Keep what is sparse in stored form and confident for a class not met yet."""
        for images, sure in self._pending:
            sure[:, list(self._met)] = False
            rows = sure.any(dim=1).nonzero().squeeze(1)
            if len(rows):
                found, sure = stored(images[rows]), sure[rows]
                sparse = (count_lit(found) <= self.want.max_lit).nonzero().squeeze(1)
                if len(sparse):
                    self._candidates.append((found[sparse], sure[sparse]))
        self._pending.clear()

    def _ask(self) -> None:
        """Of the candidates that are out of distribution the sparsest of each class is met."""
        if self._candidates:
            images, sure = (torch.cat(parts) for parts in zip(*self._candidates, strict=True))
            odd = self.accepts(images).nonzero().squeeze(1)
            for place in odd[count_lit(images[odd]).argsort(stable=True)].tolist():
                for target in sure[place].nonzero().squeeze(1).tolist():
                    self._met.setdefault(target, images[place].cpu())
        self._candidates.clear()
