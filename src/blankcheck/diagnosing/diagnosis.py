"""What a network is and what it wants, before any long work: facts, findings, and how to load it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.wrapper import Normalisation, device_of, left_as_found
from blankcheck.data import Data
from blankcheck.diagnosing import health
from blankcheck.diagnosing.answers import answer_findings, broken, count_finding
from blankcheck.diagnosing.batch_norms import unfilled_statistics
from blankcheck.diagnosing.choosing import MOST_NUMBERS, Choice, Note, choose
from blankcheck.diagnosing.findings import (
    GOOD,
    NOTE,
    PROBLEM,
    Finding,
    accuracy_finding,
    class_findings,
    image_findings,
    problem,
)
from blankcheck.diagnosing.forms import PLAIN, STATISTICS, Form
from blankcheck.diagnosing.scoring import Network, UnusableError, ask, in_one_line
from blankcheck.errors import ArgumentError
from blankcheck.types import Classifier, images_at_once

ORDER = (PROBLEM, NOTE, GOOD)
PROBED, NOISY, TIMED_IMAGES = 64, 32, 100


@dataclass(frozen=True)
class Facts:
    """Plain numbers. shape: (channels, height, width). value_range: of the images looked at.
    outputs, output_form, accuracy and costs are None where the network has no usable answer.
    Accuracies are shares of `images` validation images."""

    shape: tuple[int, int, int]
    value_range: tuple[float, float]
    classes: int
    parameters: int
    parameter_bytes: int
    device: str
    images: int
    outputs: int | None = None
    output_form: str | None = None
    accuracy: float | None = None
    accuracy_lower_95: float | None = None
    accuracy_upper_95: float | None = None
    chance: float | None = None
    nearest_mean_accuracy: float | None = None
    temperature: float | None = None
    forward_ms: float | None = None
    gradient_ms: float | None = None
    activation_bytes: int | None = None


@dataclass(frozen=True)
class Diagnosis:
    """What was found. findings: problems first. normalize: the normalisation to load the network
    with. plausible: the network, loaded so and with the lines of the findings, answers real images
    as a trained network does. carried: the normalisation is its own, no option changes it. forms:
    how each form that was compared to the end did, the likeliest first."""

    facts: Facts
    findings: tuple[Finding, ...]
    normalize: Normalisation | None
    plausible: bool
    carried: bool
    forms: tuple[dict[str, Any], ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that are problems."""
        return tuple(f for f in self.findings if f.status == PROBLEM)

    @property
    def lines(self) -> tuple[str, ...]:
        """Code that the network's factory needs, and that no option can stand for."""
        return tuple(f.line for f in self.problems if f.line)


def diagnose(
    model: nn.Module | Classifier,
    data: Data,
    *,
    images: int = 1000,
    seed: int = 0,
    fixed: bool = False,
    note: Note = lambda stage, done, all_, words: None,
) -> Diagnosis:
    """Say what `model` is, whether it answers real images as a trained network does, and what it
    wants where it does not.

    model: a network; where `load_model` put a normalisation before it, other ones are tried in its
    place, unless `fixed`.
    images: validation images that the likeliest forms are compared on, five times as many where
    these do not decide; test images are never looked at. note(stage, done, all, words) is told how
    far it is.

    The network is left as it was found, and whatever it raises becomes a finding. Raises
    ArgumentError for `images` < 20.
    """
    if images < 20:
        raise ArgumentError(f"images must be at least 20, got {images}")
    with left_as_found(model):
        return _Examination(model, data, images, seed, fixed, note).result()


@dataclass(frozen=True)
class _Examination:
    model: nn.Module | Classifier
    data: Data
    images: int
    seed: int
    fixed: bool
    note: Note

    @property
    def module(self) -> nn.Module | None:
        return self.model if isinstance(self.model, nn.Module) else None

    @property
    def network(self) -> Network:
        """The network without the normalisation put before it."""
        return self.model.network if isinstance(self.model, UnitClassifier) else self.model

    @property
    def current(self) -> Form:
        if isinstance(self.model, UnitClassifier) and self.model.normalised:
            mean, std = (tuple(t.flatten().tolist()) for t in (self.model.mean, self.model.std))
            return Form((mean, std), "as given" if not self.fixed else "its own", STATISTICS)
        return Form(None, "", PLAIN)

    def result(self) -> Diagnosis:
        device = device_of(self.model)
        facts = self._facts(device)
        few = self._outputs_of_few(device)
        if few is not None and few < len(self.data.classes):
            return self._without_choice(
                replace(facts, outputs=few), count_finding(few, len(self.data.classes))
            )
        try:
            choice = choose(
                health.with_same_noise(self.network),
                self.current,
                self.data,
                self.images,
                self.seed,
                device,
                self.fixed,
                self.note,
            )
        except UnusableError as error:
            return self._without_choice(facts, _refused(str(error), self.data.shape))
        self.note("health", 0, 1, "")
        unfilled = unfilled_statistics(self.module, self.network, choice, device)
        if unfilled is not None:
            choice = replace(choice, best=choice.now or choice.best, plausible=False)
        findings = [*self._findings(choice, unfilled, device)]
        found = replace(facts, **self._measured(choice, device))
        self.note("health", 1, 1, "answers, gradients and costs looked at")
        order = sorted(findings, key=lambda f: ORDER.index(f.status))
        use = choice.best.form if choice.plausible or choice.refused is not None else choice.current
        return Diagnosis(
            found, tuple(order), use.normalize, choice.plausible, self.fixed, tuple(_rows(choice))
        )

    def _without_choice(self, facts: Facts, finding: Finding) -> Diagnosis:
        return Diagnosis(facts, (finding,), self.current.normalize, False, self.fixed, ())

    def _facts(self, device: torch.device) -> Facts:
        parameters = list(self.module.parameters()) if self.module is not None else []
        some = self.data.validation.sample(self.images, self.seed).at_most(MOST_NUMBERS).loaded()
        size = sum(p.numel() * p.element_size() for p in parameters)
        span = (float(some.min()), float(some.max()))
        count = sum(p.numel() for p in parameters)
        return Facts(
            self.data.shape, span, len(self.data.classes), count, size, str(device), len(some)
        )

    def _outputs_of_few(self, device: torch.device) -> int | None:
        try:
            return ask(self.network, self.current, self.data.validation.images[:4], device).shape[1]
        except UnusableError:
            return None

    def _findings(
        self, choice: Choice, unfilled: Finding | None, device: torch.device
    ) -> Iterator[Finding]:
        best, classes = choice.best, self.data.classes
        yield from image_findings(choice, self.data.shape, self.fixed)
        yield count_finding(best.outputs.shape[1], len(classes))
        fault = broken(best.outputs) or unfilled
        yield accuracy_finding(choice, fault is not None)
        yield from class_findings(choice, classes)
        if fault is not None:
            yield fault
        answers = fault is None or fault is unfilled
        if answers:
            yield from answer_findings(best, choice.plausible)
        used, probes = self._as_used(choice), self._probes(device)
        try:
            yield from health.same_answers(used, self.module, probes, best.kind)
            if answers:
                yield health.gradient_finding(health.with_same_noise(used), probes, best.kind)
        except Exception as error:  # a user's network raises whatever it likes
            yield _refused(in_one_line(error), self.data.shape)

    def _as_used(self, choice: Choice) -> Network:
        network, form = self.network, choice.best.form
        return lambda images: network(form.view(images))

    def _probes(self, device: torch.device) -> Tensor:
        """Real images first, then noise: a network may answer only some of them at random."""
        noise = torch.rand(
            (self._at_once(NOISY), *self.data.shape),
            generator=torch.Generator().manual_seed(self.seed),
        )
        return torch.cat([self.data.validation.images[: self._at_once(PROBED)], noise]).to(device)

    def _at_once(self, most: int) -> int:
        """How many images are shown to the network in one batch, gradients and all."""
        return min(most, max(2, images_at_once(self.data.shape) // 4))

    def _measured(self, choice: Choice, device: torch.device) -> dict[str, Any]:
        best = choice.best
        low, high = best.bounds
        said: dict[str, Any] = {
            "images": len(choice.labels),
            "outputs": best.outputs.shape[1],
            "output_form": best.kind,
            "accuracy": best.accuracy,
            "accuracy_lower_95": low,
            "accuracy_upper_95": high,
            "chance": choice.measure.chance,
            "nearest_mean_accuracy": choice.measure.centroid,
            "temperature": best.temperature,
        }
        try:
            some = self.data.validation.images[: self._at_once(TIMED_IMAGES)].to(device)
            spent = health.cost(self._as_used(choice), some, best.kind)
        except Exception:  # that it answers only sometimes is said by a finding
            return said
        return {
            **said,
            "forward_ms": spent.forward_ms,
            "gradient_ms": spent.gradient_ms,
            "activation_bytes": spent.activation_bytes,
        }


def _refused(said: str, shape: tuple[int, int, int]) -> Finding:
    said = f"It takes images of {'x'.join(map(str, shape))} in no form that was tried: {said}."
    return problem(
        "forward", said, "Make it take (n, c, h, w) images and give (n, classes) outputs."
    )


def _rows(choice: Choice) -> Iterator[dict[str, Any]]:
    equal = {id(s) for s in choice.equals}
    for s in choice.scored:
        low, high = s.bounds
        loss = s.mean_loss if s.mean_loss < float("inf") else None
        yield {
            "form": s.form.words,
            "normalize": s.form.option,
            "line": s.form.arrangement.hook,
            "accuracy": s.accuracy,
            "accuracy_lower_95": low,
            "accuracy_upper_95": high,
            "loss": loss,
            "temperature": s.temperature,
            "as_good_as_the_likeliest": id(s) in equal,
            "used": s is choice.best,
        }
