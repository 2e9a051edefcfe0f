"""Everything that will be asked of a network is asked once, before anything long begins."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.nn.parameter import is_lazy

from blankcheck.classifiers.weights import PROGRAM
from blankcheck.classifiers.wrapper import (
    Tempered,
    UnitClassifier,
    device_of,
    fingerprint,
    left_as_found,
)
from blankcheck.data.variants import variant_for
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.outputs import ON_A_COPY, WRITES, output_form, run
from blankcheck.types import Classifier, images_at_once
from blankcheck.users import calling

FORM_IMAGES = 64
"""Images that the form of the outputs is told by."""
SIZES = (1, 2, 7)
MOST = 1000
"""Images of the largest batch that is tried; searches score about as many trials at once."""
EXPORT = "torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim('n')},))"
OF_A_RESHAPE = re.compile(r"shape '\[.*\]' is invalid for input")
OF_THE_BATCH = re.compile(r"shape\[0\]|size\(\)\[0\]")


def check_classifier(model: object) -> None:
    """Raises ArgumentError for what is no network and cannot be called as one."""
    if isinstance(model, type) or not callable(model):
        got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        words = "model must be a network, or a callable from images to outputs"
        raise ArgumentError(f"{words}, got {got}; bc.load_model makes one of a name")


def try_out(classifier: Classifier, images: Tensor) -> str:
    """Ask a classifier for one image, a few and many, and for a gradient; it is left as it was.

    Args:
        classifier: from images (n, c, h, w) in [0, 1] to outputs (n, m).
        images: some of these, of which it is given copies.

    Returns:
        The form of its outputs, one of `outputs.OUTPUT_FORMS`.

    Raises:
        ModelError: it fails, or writes into what it is given; in one line that says how to mend it.
    """
    with left_as_found(classifier), torch.no_grad():
        try:
            with calling("model.state_dict() raised", ModelError):
                fingerprint(classifier)
            given = images[:FORM_IMAGES].to(device_of(classifier))
            form = output_form(classifier, given.clone())
            _check_tempered(classifier, given)
            _others(classifier, given)
            _gradient(classifier, given[:2])
        except ModelError as error:
            raise ModelError(f"{error}{_advice(classifier, str(error))}") from error
    return form


def other_images(classifier: Classifier, images: Tensor) -> str:
    """What to put behind the name of the data where a classifier takes no images of this size or of
    so many channels, or what is wrong with its normalisation, as the end of a line; empty where
    nothing usual helps."""

    def takes(made: Tensor) -> bool:
        try:
            run(classifier, made.to(device_of(classifier)))
        except ModelError:
            return False
        return True

    with left_as_found(classifier), torch.no_grad():
        if takes(images[:2].clone()):
            return ""
        variant = variant_for(images[:2], takes)
    if variant:
        where = f"behind the name of the data, or data.variant({variant!r})"
        return f"; it takes them with {variant} {where}"
    constants, channels = getattr(classifier, "normalisation", None), images.shape[1]
    means = len(constants[0]) if constants else 1
    if means in (1, channels):
        return ""
    return f"; normalize has {means} means for images of {channels} channel{'s'[: channels - 1]}"


def _check_tempered(classifier: Classifier, given: Tensor) -> None:
    """Raises ModelError where a temperature divides what are no logits."""
    inside = getattr(classifier, "network", None)
    if not isinstance(inside, Tempered):
        return
    before = inside.output_temperature
    if output_form(lambda images: run(classifier, images) * before, given) == "probabilities":
        log = "network.register_forward_hook(lambda _, x, y: y.log())"
        words = "temperature divides logits, and this model gives probabilities"
        raise ModelError(f"{words}: add to its factory {log}")


@torch.no_grad()
def writes(classifier: Classifier, images: Tensor) -> bool:
    """Whether a classifier writes into the images that it is given; it is given a copy. False where
    it cannot take them."""
    given = images.to(device_of(classifier), copy=True)
    before, version = given.clone(), given._version
    try:
        with left_as_found(classifier), calling("model raised", ModelError):
            classifier(given)
    except ModelError:
        return False
    return given._version != version or not torch.equal(given, before)


def _others(classifier: Classifier, given: Tensor) -> None:
    """Batches of other sizes than that of `given`, and whether any image of it was written into
    where torch does not count that."""
    most = min(MOST, images_at_once(given.shape[1:]))
    many = given.repeat(-(-most // len(given)), 1, 1, 1)[:most]
    width = run(classifier, many).shape[1]
    if not torch.equal(many[: len(given)], given[:most]):
        raise ModelError(f"{WRITES}: {ON_A_COPY}")
    for n in SIZES:
        own = run(classifier, many[:n].clone()).shape[1]
        if own != width:
            wrong = f"gives {own} outputs for a batch of {n}, {width} for one of {most}"
            raise ModelError(f"model {wrong}: they must be as many for every batch")


def _gradient(classifier: Classifier, given: Tensor) -> None:
    with torch.enable_grad():
        leaf = given.clone().requires_grad_(True)
        outputs = run(classifier, leaf)
        if outputs.requires_grad:  # else it is flat, which an audit has a check for
            with calling("model gives no gradient for images:", ModelError):
                torch.autograd.grad(outputs.sum(), leaf, allow_unused=True)
    if not torch.equal(leaf.detach(), given):
        raise ModelError(f"{WRITES}: {ON_A_COPY}")


def _advice(classifier: Classifier, words: str) -> str:
    """What mends a network that failed so, as far as it can be seen."""
    if not isinstance(classifier, nn.Module):
        return ""
    if _program(classifier) == PROGRAM and OF_THE_BATCH.search(words):
        return f"; it was exported for one size of batch: {EXPORT} takes any"
    inside = classifier.network if isinstance(classifier, UnitClassifier) else None
    if isinstance(inside, GraphModule) and OF_A_RESHAPE.search(words):
        axes = "torch.onnx.export takes any with dynamic_axes={'images': {0: 'n'}}"
        return f"; it may have been exported for one size of batch: {axes}"
    kinds = {p.dtype for p in classifier.parameters() if p.is_floating_point()}
    if other := sorted(str(kind) for kind in kinds - {torch.float32}):
        kinds_said = f"images are torch.float32, its parameters {' and '.join(other)}"
        return f"; {kinds_said}: return network.float() from the factory"
    return ""


def check_ready(network: nn.Module) -> None:
    """Raises ModelError where parameters or buffers of a network hold nothing yet."""
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if is_lazy(tensor):
            make = "run an image through it in the factory, or give its weights"
            raise ModelError(f"model has a lazy layer, whose {name!r} has no size yet: {make}")
        if tensor.is_meta:
            words = "is on the meta device and holds no numbers"
            raise ModelError(f"model's {name!r} {words}: build it on a real one, or load weights")


def frozen_words(network: nn.Module) -> str:
    """What training leaves as it is, for a line that says what is trained; mostly nothing."""
    parameters = list(network.parameters())
    frozen = sum(p.numel() for p in parameters if not p.requires_grad)
    whole = sum(p.numel() for p in parameters)
    return f"; {frozen:,} of {whole:,} parameters are frozen and stay so" if frozen else ""


def _program(classifier: Classifier) -> str | None:
    """What a network is that cannot be trained; None for a module of Python."""
    return classifier.describe.get("program") if isinstance(classifier, UnitClassifier) else None


def check_trainable(network: nn.Module) -> None:
    """Raises ModelError where training could change nothing."""
    if kind := _program(network):
        raise ModelError(f"model is a {kind}, which can be audited but not trained or hardened")
    parameters = list(network.parameters())
    if not parameters:
        held = "its weights are constants, which no training changes"
        listed = "layers in a list belong into nn.ModuleList or nn.Sequential"
        inside = network.network if isinstance(network, UnitClassifier) else network
        words = held if next(inside.buffers(), None) is not None else listed
        raise ModelError(f"model cannot be trained: it has no parameters: {words}")
    if not any(p.requires_grad for p in parameters):
        words = "all its parameters are frozen; let some require gradients in its factory"
        raise ModelError(f"model cannot be trained: {words}")
