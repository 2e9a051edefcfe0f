"""What a network is and wants, before any long work: facts, findings, and how to load it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from blankcheck.arguments import plain_arguments
from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.trial import check_classifier, other_images, try_out, writes
from blankcheck.classifiers.wrapper import Normalisation, device_of, left_as_found
from blankcheck.data import Data, check_data
from blankcheck.diagnosing import findings, health
from blankcheck.diagnosing.answers import answer_findings, broken, count_finding
from blankcheck.diagnosing.choosing import MOST_NUMBERS, Choice, Examined, Note, choose
from blankcheck.diagnosing.findings import GOOD, NOTE, PROBLEM, Finding, problem
from blankcheck.diagnosing.forms import PLAIN, STATISTICS, Form
from blankcheck.diagnosing.scoring import Network, Scored, UnusableError
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.outputs import COPY
from blankcheck.seeds import check_seed
from blankcheck.types import Classifier, images_at_once
from blankcheck.users import said

ORDER = (PROBLEM, NOTE, GOOD)
PROBED, NOISY, TIMED_IMAGES = 64, 32, 100


@dataclass(frozen=True)
class Facts:
    """Plain numbers; what hangs on answers is None where the network has no usable ones. shape:
    (channels, height, width). value_range: of the images looked at. parameters: how many.
    images: validation images that the accuracies are shares of."""

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
    """What was found.

    Args:
        facts: plain numbers.
        findings: problems first.
        normalize: the normalisation to load the network with.
        plausible: the network, loaded so and with the lines of the findings, answers real images as
            a trained network does.
        carried: the normalisation is its own, no option changes it.
        forms: how each form that was compared to the end did, the likeliest first.
    """

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


@plain_arguments
def diagnose(
    model: nn.Module | Classifier,
    data: Data,
    *,
    images: int = 1000,
    seed: int = 0,
    fixed: bool = False,
    note: Note | None = None,
) -> Diagnosis:
    """Say what `model` is, whether it answers real images as a trained network does, and what it
    wants where it does not. It is left as it was found, and what it raises becomes a finding.

    Args:
        model: a network; where `load_model` put a normalisation before it, other ones are tried in
            its place, unless `fixed`.
        data: real images; test images are never looked at.
        images: validation images that the likeliest forms are compared on, at least 20; five times
            as many where these do not decide. Of a slow network fewer, so that it takes seconds.
        seed: of the draw of images.
        fixed: the normalisation is the network's own and stays.
        note: `note(stage, done, all, words)` is told how far it is.

    Returns:
        Facts, findings, and how to load the network.

    Raises:
        ArgumentError: `images` is less than 20.
    """
    check_classifier(model)
    check_data(data)
    if images < 20:
        raise ArgumentError(f"images must be at least 20, got {images}")
    check_seed(seed)
    note = note or _silence
    network, current = model, Form(None, "", PLAIN)
    if isinstance(model, UnitClassifier):
        network = model.network
        if model.normalised:
            mean, std = (tuple(t.flatten().tolist()) for t in (model.mean, model.std))
            current = Form((mean, std), "as given", STATISTICS)
    module = model if isinstance(model, nn.Module) else None
    wrote = writes(model, data.validation.images[:PROBED])
    if wrote:  # what else there is to say is said of it with the line that mends this
        network = health.on_copies(network)
    steady = health.with_same_noise(network)
    asked = Examined(steady, module, current, data, device_of(model), fixed, images, seed, note)
    with left_as_found(model):
        facts = _facts(asked)
        try:
            choice = choose(asked)
        except UnusableError as error:
            finding = _refused(str(error), data.shape, _advice(model, data))
            if error.outputs is not None:
                finding = count_finding(error.outputs, len(data.classes))
            facts = replace(facts, outputs=error.outputs)
            return Diagnosis(facts, (finding,), current.normalize, False, fixed, ())
        note("health", 0, 1, "")
        found = _examined(asked, network, choice, facts)
        note("health", 1, 1, "answers, gradients and costs looked at")
    if wrote:
        said = "It writes into the images it is given, which are not its own."
        finding = problem("writes", said, findings.WHERE, COPY)
        found = replace(found, findings=(finding, *found.findings))
    elif not found.problems and (refused := _refusal(model, data)):
        found = replace(found, findings=(problem("forward", refused, ""), *found.findings))
    return found


def _silence(stage: str, done: int, all_: int, words: str) -> None:
    """Who asked wants to be told nothing."""


def _refusal(model: Classifier, data: Data) -> str:
    """Why an audit would refuse the network, as it is, before it begins."""
    try:
        try_out(model, data.validation.images[:PROBED])
    except ModelError as error:
        return f"{error}."
    return ""


def _examined(asked: Examined, network: Network, choice: Choice, facts: Facts) -> Diagnosis:
    """The network, with its noise, in the chosen form."""
    unfilled = health.unfilled_statistics(asked, choice)
    if unfilled is not None:
        choice = replace(choice, best=choice.now or choice.best, plausible=False)
    best, data = choice.best, asked.data
    meaningless = broken(best.outputs)
    fault = meaningless or unfilled
    looked_at = list(_health(asked, network, choice))
    unsteady = ("repeatable", "batch-independent")
    steady = not any(f.status == PROBLEM and f.code in unsteady for f in looked_at)
    found = [
        *findings.image_findings(choice, data.shape, asked.fixed, steady),
        count_finding(best.outputs.shape[1], len(data.classes)),
        findings.accuracy_finding(choice, fault is not None),
        *findings.class_findings(choice, data.classes),
        *filter(None, [fault]),
        *([] if meaningless else answer_findings(best, choice.plausible)),
        *looked_at,
    ]
    spent: dict[str, Any] = {}
    with suppress(Exception):  # that it answers only sometimes is said by a finding
        spent = health.cost(_in_form(network, best), _real(asked, TIMED_IMAGES), best.kind)
    wanted = (choice.plausible and steady) or choice.refused is not None
    normalize = best.form.normalize if wanted else choice.current.normalize
    ordered = tuple(sorted(found, key=lambda f: ORDER.index(f.status)))
    facts, forms = replace(facts, **_measured(choice), **spent), tuple(_rows(choice))
    return Diagnosis(facts, ordered, normalize, choice.plausible, asked.fixed, forms)


def _probes(asked: Examined) -> Tensor:
    """Real images first, then noise: a network may answer only some of them at random."""
    draw = torch.Generator().manual_seed(asked.seed)
    noise = torch.rand((_at_once(asked, NOISY), *asked.data.shape), generator=draw)
    return torch.cat([_real(asked, PROBED), noise.to(asked.device)])


def _real(asked: Examined, most: int) -> Tensor:
    return asked.data.validation.images[: _at_once(asked, most)].to(asked.device)


def _at_once(asked: Examined, most: int) -> int:
    """Images that fit into one batch, gradients and all."""
    return min(most, max(2, images_at_once(asked.data.shape) // 4))


def _in_form(network: Network, scored: Scored) -> Network:
    return lambda images: network(scored.form.view(images.clone()))


def _health(asked: Examined, network: Network, choice: Choice) -> Iterator[Finding]:
    best, probes = choice.best, _probes(asked)
    # another form may make the noise inside a network look smaller
    given = choice.now or best
    try:
        in_form = _in_form(network, given)
        same = list(health.same_answers(in_form, asked.module, probes, given.kind))
        yield from same
        if broken(best.outputs) is None:
            used = health.with_same_noise(_in_form(network, best))
            found = health.gradient_finding(used, probes, best.kind)
            # an audit meets the noise in them, and cannot follow them
            if found.status == PROBLEM or all(f.status == GOOD for f in same):
                yield found
    except Exception as error:  # a user's network raises whatever it likes
        yield _refused(said(error), asked.data.shape)


def _refused(said: str, shape: tuple[int, ...], advice: str = "") -> Finding:
    said = f"It takes images of {'x'.join(map(str, shape))} in no form that was tried: {said}."
    make = "Make it take (n, c, h, w) images and give (n, classes) outputs."
    return problem("forward", said, advice or make)


def _advice(model: Classifier, data: Data) -> str:
    """What to put behind the name of the data, where that helps."""
    said = other_images(model, data.validation.images[:2]).removeprefix("; ")
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def _facts(asked: Examined) -> Facts:
    parameters = list(asked.module.parameters()) if asked.module is not None else []
    split = asked.data.validation.sample(asked.images, asked.seed)
    some = split.at_most(MOST_NUMBERS).loaded()
    count = sum(p.numel() for p in parameters)
    size = sum(p.numel() * p.element_size() for p in parameters)
    values, shape = (float(some.min()), float(some.max())), asked.data.shape
    return Facts(shape, values, asked.classes, count, size, str(asked.device), len(some))


def _measured(choice: Choice) -> dict[str, Any]:
    """The facts that hang on the chosen form."""
    best, measure = choice.best, choice.measure
    return best.numbers | {
        "images": len(choice.labels),
        "outputs": best.outputs.shape[1],
        "output_form": best.kind,
        "chance": measure.chance,
        "nearest_mean_accuracy": measure.centroid,
    }


def _rows(choice: Choice) -> Iterator[dict[str, Any]]:
    equal = {id(s) for s in choice.equals}
    for s in choice.scored:
        yield {
            "form": s.form.words,
            "normalize": s.form.option,
            "line": s.form.arrangement.hook,
            **s.numbers,
            "loss": s.mean_loss if s.mean_loss < float("inf") else None,
            "as_good_as_the_likeliest": id(s) in equal,
            "used": s is choice.best,
        }
