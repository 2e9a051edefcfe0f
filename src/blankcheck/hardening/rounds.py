"""The schedule: each round trains on real images and on fooling images searched meanwhile, then searches afresh."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.auditing import Job, run_attempts, within
from blankcheck.classifiers import TrainingPlan, UnitClassifier, evaluate
from blankcheck.classifiers.training import batches
from blankcheck.classifiers.wrapper import device_of, left_as_found
from blankcheck.data import Data
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.fooling import Goal, Problem
from blankcheck.hardening.objectives import Objective
from blankcheck.hardening.replay import Replay
from blankcheck.hardening.selection import harmonic
from blankcheck.judging import OODTest
from blankcheck.outputs import run
from blankcheck.types import NEVER, Conditions, default_max_lit


@dataclass(frozen=True)
class HardeningPlan:
    """How a network is hardened.

    rounds: the epochs are spread over so many. inner_steps: search steps on `fooling_batch` images for every real batch.
    buffer: images being searched. life: most visits of an image, so its search has up to life x inner_steps steps.
    weight: of the fooling loss against the cross-entropy on real images. fresh_attempts, fresh_steps: the search on the new
    network at the end of a round. gate_images: most images that fit the gate's scores (its cost is theirs).
    gate_level: images are trained on at this share of the audit's level, so that unusual real images stay confident.
    """

    training: TrainingPlan
    rounds: int = 10
    inner_steps: int = 4
    fooling_batch: int = 64
    buffer: int = 1024
    life: int = 20
    weight: float = 0.18
    fresh_attempts: int = 50
    fresh_steps: int = 200
    gate_images: int = 1000
    gate_level: float = 0.2

    def __post_init__(self) -> None:
        numbers = (self.rounds, self.inner_steps, self.fooling_batch, self.buffer, self.life)
        if min(numbers) < 1 or self.weight < 0:
            raise ArgumentError(f"rounds, inner steps, fooling batch, buffer and life must be positive, got {numbers}")


@dataclass(frozen=True)
class Round:
    """What a round ended with. All shares in [0, 1], on validation images and on fresh attempts.

    fresh_confident: share of fresh attempts with a confident image of at most `max_lit` lit features; fresh_rate: those
    the gate calls out of distribution too. trained_share: share of buffer images that were out of distribution and so
    trained on. fooling_confidence: mean largest probability they got.
    """

    index: int
    epochs: int
    real_loss: float
    fooling_loss: float
    trained_share: float
    fooling_confidence: float
    validation_accuracy: float
    validation_confident: float
    fresh_attempts: int
    fresh_rate: float
    fresh_confident: float
    fresh_fewest: int | None
    harmonic: float
    forward: int
    backward: int

    def metrics(self) -> dict[str, Any]:
        """The record for `metrics.jsonl`."""
        return {"kind": "round", **{name: getattr(self, name) for name in self.__dataclass_fields__}}


Watch = Callable[[int, int, str], None]
"""Called as watch(batch, batches of the round, words)."""


class Hardening:
    """Hardens `classifier` in place, round by round. Its whole state can be taken and put back between rounds."""

    def __init__(
        self,
        classifier: UnitClassifier,
        data: Data,
        objective: Objective,
        plan: HardeningPlan,
        conditions: Conditions | None = None,
        seed: int = 0,
    ) -> None:
        self.classifier, self.data, self.objective, self.plan, self.seed = classifier, data, objective, plan, seed
        self.conditions = conditions or Conditions(max_lit=default_max_lit(data.shape))
        self.classes = len(data.classes)
        # half A only: the audit's judge is fitted on half B
        self.gate = OODTest.fit(data.halves[0].images, self.conditions.ood_level, most=plan.gate_images)
        # with few calibration images even the most unusual image cannot have a smaller p-value
        self.strict = max(self.conditions.ood_level * plan.gate_level, self.gate.smallest_p)
        self.real = (data.train.images, data.train.labels)
        self.generator = torch.Generator().manual_seed(seed)
        self.optimiser, self.schedule = plan.training.optimiser(classifier, len(data.train))
        self.replay = Replay.fill(plan.buffer, self.classes, data.shape, self._some_real(), plan.life, self.generator)
        self.next_round = 0
        self.history: list[Round] = []

    def rounds(self, watch: Watch = lambda batch, batches_, words: None) -> Iterator[Round]:
        """The rounds that are left."""
        while self.next_round < self.plan.rounds:
            # the stream of a round is its own, so that going on after a stop equals not stopping
            self.generator.manual_seed(self.seed * 1_000_003 + self.next_round)
            epochs = self._epochs(self.next_round)
            totals = self._train(epochs, watch)
            made = self._look(epochs, totals)
            self.next_round += 1
            self.history.append(made)
            yield made

    def _epochs(self, index: int) -> int:
        total, rounds = self.plan.training.epochs, self.plan.rounds
        return total * (index + 1) // rounds - total * index // rounds

    def _some_real(self) -> tuple[Tensor, Tensor]:
        """Real images for starts: a random thousand, redrawn by each caller."""
        index = torch.randperm(len(self.real[0]), generator=self.generator)[:1000]
        return self.real[0][index], self.real[1][index]

    def _train(self, epochs: int, watch: Watch) -> dict[str, float]:
        plan, totals = self.plan, dict.fromkeys(("n", "real", "fooling", "trained", "seen", "top", "passes"), 0.0)
        real, done = self._some_real(), 0
        count = epochs * math.ceil(len(self.real[0]) / plan.training.batch)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed + self.next_round)  # dropout
            for _ in range(epochs):
                for index in batches(len(self.real[0]), plan.training.batch, self.generator):
                    rows = self.replay.next_rows(plan.fooling_batch)
                    images, targets = self._fooling_images(rows, totals)
                    self._learn(index, images, targets, totals)
                    self.replay.refresh(self.replay.expired(rows), self.classes, real, plan.life, self.generator)
                    done += 1
                    if done % 50 == 0:
                        watch(done, count, f"real loss {totals['real'] / totals['n']:.3f}")
        if not math.isfinite(totals["real"] + totals["fooling"]):
            raise ModelError("hardening loss became NaN or infinite")
        return totals

    def _fooling_images(self, rows: Tensor, totals: dict[str, float]) -> tuple[Tensor, Tensor]:
        """Search a few steps on these rows and return those that are out of distribution, sparse yet or not."""
        device = device_of(self.classifier)
        targets = self.replay.targets[rows].to(device)
        with left_as_found(self.classifier):
            problem = Problem(self.classifier, "logits", targets)
            needed = Goal(self.conditions.confidence).needed
            images = self.replay.search(rows, problem, needed, self.plan.inner_steps)
        wanted = (self.gate.p_values(images) <= self.strict).to(device)
        totals["seen"] += len(rows)
        totals["trained"] += int(wanted.sum())
        totals["passes"] += len(rows) * self.plan.inner_steps
        return images[wanted], targets[wanted]

    def _learn(self, index: Tensor, fooling: Tensor, targets: Tensor, totals: dict[str, float]) -> None:
        device = fooling.device
        images, labels = self.real[0][index].to(device), self.real[1][index].to(device)
        self.classifier.train()
        outputs = run(self.classifier, torch.cat([images, fooling]))
        real_loss = F.cross_entropy(outputs[: len(index)], labels)
        answers = outputs[len(index) :]
        # divided by the full batch, so that the weight of one fooling image does not rise as they become rare
        fooling_loss = self.objective.loss(answers, targets, self.classes).sum() / self.plan.fooling_batch
        loss = real_loss + self.plan.weight * fooling_loss
        self.optimiser.zero_grad()
        torch.autograd.backward(loss)
        self.optimiser.step()
        self.schedule.step()
        totals["n"] += 1
        totals["real"] += float(real_loss.detach())
        totals["fooling"] += float(fooling_loss.detach())
        if len(fooling):
            totals["top"] += float(answers.detach().softmax(dim=1)[:, : self.classes].amax(dim=1).sum())

    def _look(self, epochs: int, totals: dict[str, float]) -> Round:
        """Validation accuracy, and a fresh search against the network as it is now."""
        want, plan, data = self.conditions, self.plan, self.data
        self.classifier.eval()
        real = evaluate(self.classifier, data.validation, self.classes, want.confidence)
        targets = [i % self.classes for i in range(plan.fresh_attempts)]
        job = Job(
            self.classifier, "logits", data.shape, want, within(plan.fresh_steps), enough=want.max_lit,
            real=(data.validation.images, data.validation.labels), accept=self.gate.accepts,
            seed=self.seed + 7919 * (self.next_round + 1), device=device_of(self.classifier),
        )  # fmt: skip
        with left_as_found(self.classifier):
            tried = run_attempts(job, targets)
        sparse = tried.best.fewest <= want.max_lit
        rate, confident = float(tried.best.met.float().mean()), float(sparse.float().mean())
        fewest = int(tried.best.fewest.min())
        batches_ = max(1.0, totals["n"])
        return Round(
            index=self.next_round,
            epochs=epochs,
            real_loss=totals["real"] / batches_,
            fooling_loss=totals["fooling"] / batches_,
            trained_share=totals["trained"] / max(1.0, totals["seen"]),
            fooling_confidence=totals["top"] / max(1.0, totals["trained"]),
            validation_accuracy=real.accuracy,
            validation_confident=real.confident,
            fresh_attempts=len(targets),
            fresh_rate=rate,
            fresh_confident=confident,
            fresh_fewest=None if fewest >= NEVER else fewest,
            harmonic=harmonic(real.accuracy, 1 - rate),
            forward=int(totals["passes"]) + int(tried.best.forwards.sum()),
            backward=int(totals["passes"]) + int(tried.best.steps.sum()),
        )

    def state(self) -> dict[str, Any]:
        """Tensors and plain numbers only, so that `torch.load(weights_only=True)` reads it back."""
        return {
            "classifier": self.classifier.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": {k: v for k, v in self.schedule.state_dict().items() if isinstance(v, int | float | list)},
            "replay": self.replay.state(),
            "next_round": self.next_round,
            "history": [{n: getattr(r, n) for n in r.__dataclass_fields__} for r in self.history],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a state taken between two rounds."""
        self.classifier.load_state_dict(state["classifier"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.replay = Replay.of(state["replay"])
        self.next_round = int(state["next_round"])
        self.history = [Round(**r) for r in state["history"]]


def default_plan(n: int, epochs: int | None = None, rounds: int | None = None) -> HardeningPlan:
    """The plan for `n` training images, with as many epochs as plain training has."""
    training = TrainingPlan.default(n, epochs)
    return replace(HardeningPlan(training), rounds=min(training.epochs, rounds if rounds is not None else 10))
