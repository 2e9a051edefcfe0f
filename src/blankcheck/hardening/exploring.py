"""The searches that end a round: on the network as it is, by other means, and against a twin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from blankcheck.auditing import Attack, AttemptResults, Job, Twin, run_attempts, within
from blankcheck.auditing.third_party import ThirdPartyAttack, run_third_party
from blankcheck.classifiers.wrapper import device_of, left_as_found
from blankcheck.fooling import DifferentialEvolution, GreedyLighting, RandomSearch
from blankcheck.fooling.starts import Real
from blankcheck.hardening.measures import FoolingSet
from blankcheck.judging import OODTest
from blankcheck.parallel.spread import Spread, alone
from blankcheck.types import Classifier, Conditions, Fooling, count_lit


def _random_search(steps: int, max_lit: int) -> RandomSearch:
    return RandomSearch(features=max(1, round(0.2 * max_lit)))


def _evolution(steps: int, max_lit: int) -> DifferentialEvolution:
    return DifferentialEvolution(max(1, max_lit // 10))


OTHERS: tuple[Attack, ...] = (
    Attack("black", "random-search", _random_search, 60),
    Attack("black", "differential-evolution", _evolution, 60),
    Attack("black", "saliency", lambda steps, max_lit: GreedyLighting(), 30),
)
"""What hardening never trains on: Sparse-RS, differential evolution and a saliency map."""
T = TypeVar("T")


@dataclass(frozen=True)
class Explorer:
    """Searches under the three conditions.

    Args:
        shape: (c, h, w) of an image.
        classes: real classes, and `targets` those of them that have images.
        conditions: of a fooling image.
        ood_filter: the out-of-distribution test, in the place of the judge.
        real: validation images, for starts.
        steps: of an attempt.
        attempts: of a search.
        rivals: attacks of other libraries to run as well.
        spread: by which processes share the work; searching a twin is one piece for all of them.
    """

    shape: tuple[int, int, int]
    classes: int
    conditions: Conditions
    ood_filter: OODTest
    real: Real
    steps: int
    attempts: int
    targets: tuple[int, ...]
    rivals: Sequence[ThirdPartyAttack] = ()
    spread: Spread = alone

    def fresh(
        self, classifier: Classifier, form: str, seed: int, attempts: int | None = None
    ) -> AttemptResults:
        """The portfolio of an audit against this network."""
        return self._run(classifier, form, within(self.steps), seed, attempts or self.attempts)

    def others(self, classifier: Classifier, form: str, seed: int) -> dict[str, AttemptResults]:
        """What hardening never trains on, by name; a fifth as many attempts, or one a class."""
        attempts, single = max(len(self.targets), self.attempts // 5), replace(self, spread=alone)

        def one(index: int) -> AttemptResults:
            return single._run(classifier, form, (OTHERS[index],), seed, attempts)

        found = self.spread(len(OTHERS), one)
        return {process.rule: tried for process, tried in zip(OTHERS, found, strict=True)}

    def rival_images(self, classifier: Classifier, form: str, seed: int) -> dict[str, FoolingSet]:
        """What attacks of other libraries hand back that do not break off, one search a class."""
        return self.once(lambda: self._rival_images(classifier, form, seed)) if self.rivals else {}

    def once(self, do: Callable[[], T]) -> T:
        """What `do` gives, done by one process for all."""
        result: T = self.spread(1, lambda _: do())[0]
        return result

    def _rival_images(self, classifier: Classifier, form: str, seed: int) -> dict[str, FoolingSet]:
        targets, sure = torch.tensor(self.targets), self.conditions.confidence
        start = torch.zeros(len(targets), *self.shape, device=device_of(classifier))
        sets = {}
        for rival in self.rivals:
            found = run_third_party(rival, classifier, form, start, targets, sure, seed)
            if not found.error:
                sets[rival.name] = self.as_set(found.images, found.targets)
        return sets

    def as_set(self, images: Tensor, targets: Tensor) -> FoolingSet:
        """With the word of the out-of-distribution test on each image."""
        outside = self.ood_filter.p_values(images) <= self.conditions.ood_level
        return FoolingSet(images, targets, (count_lit(images) <= self.conditions.max_lit) & outside)

    def set_of(self, tried: AttemptResults) -> FoolingSet:
        """The best image of every attempt."""
        return self.as_set(tried.best.images, tried.best.targets)

    def twin_sets(self, make: Callable[[], Twin | None], seed: int) -> dict[str, FoolingSet]:
        """What the same search (`twin`) and others (`twin:NAME`) make against the twin, if there is
        one. Processes may not agree whether there is, so one of them does it all."""
        return self.once(lambda: replace(self, spread=alone)._twin_sets(make(), seed))

    def _twin_sets(self, twin: Twin | None, seed: int) -> dict[str, FoolingSet]:
        if twin is None:
            return {}
        subject = twin.classifier, twin.form, seed
        with left_as_found(twin.classifier):
            made = {"twin": self.fresh(*subject)}
            made |= {f"twin:{name}": tried for name, tried in self.others(*subject).items()}
            found = {name: self.set_of(tried) for name, tried in made.items()}
            rivals = self.rival_images(*subject).items()
        return found | {f"twin:{name}": images for name, images in rivals}

    def _run(
        self, classifier: Classifier, form: str, by: tuple[Attack, ...], seed: int, attempts: int
    ) -> AttemptResults:
        job = Job(
            *(classifier, form, self.shape, self.conditions, by),
            stop_at_lit=self.conditions.max_lit,
            real=self.real,
            accept=self.ood_filter.accepts,
            seed=seed,
            device=device_of(classifier),
        )
        targets = [self.targets[i % len(self.targets)] for i in range(attempts)]
        with left_as_found(classifier):
            return run_attempts(job, targets, spread=self.spread)


def together(first: AttemptResults, second: AttemptResults) -> AttemptResults:
    """Two searches as one."""
    attack, ran = torch.cat([first.attack, second.attack]), torch.cat([first.ran, second.ran])
    return replace(first, best=Fooling.cat([first.best, second.best]), attack=attack, ran=ran)
