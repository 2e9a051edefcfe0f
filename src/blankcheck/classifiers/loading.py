"""From the texts after `--model`, `--weights` and `--normalize` to a classifier."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
from torch import nn

from blankcheck.arguments import plain_arguments
from blankcheck.classifiers.filling import fill, into
from blankcheck.classifiers.hubs import from_hub, is_hub_name
from blankcheck.classifiers.model_files import from_file, is_model_file
from blankcheck.classifiers.reference import ARCHITECTURES, Shape, build
from blankcheck.classifiers.trial import check_ready
from blankcheck.classifiers.weights import Weights, read_weights
from blankcheck.classifiers.wrapper import Normalisation, UnitClassifier
from blankcheck.data import Data, check_data
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.factories import call_factory, is_factory
from blankcheck.files import pack

MOST_FEATURES, MOST_WIDE = 1_000_000_000, 100_000
"""Features of an image, and channels or outputs, that a file of weights may speak of."""


@plain_arguments
def load_model(
    model: nn.Module | str,
    weights: str | os.PathLike[str] | None = None,
    data: Data | None = None,
    normalize: Normalisation | None = None,
    *,
    unsafe_pickle: bool = False,
) -> UnitClassifier:
    """A classifier from images in [0, 1] to outputs.

    Args:
        model: an `nn.Module`, a built-in name (`mlp`, `cnn`, `resnet`), `file.py:factory` or
            `package.module:factory`, a file that holds all of a network (`.onnx`; TorchScript and
            programs of torch.export, which can be audited, not trained; a pickled module), or
            `timm:NAME` or `hf:NAME` of a model hub, with its published weights unless others are
            given and with the normalisation stated there.
        weights: a `.safetensors` file or a `.pt`/`.pth`/`.ckpt` state dict; `FILE#2` or `FILE#ema`
            is one of several in it.
        data: states a built-in network's shape, classes and normalisation where no weights do.
        normalize: ((means), (stds)) put inside; default none.
        unsafe_pickle: load files that hold more than tensors, which can run code: pickled modules
            and programs of torch.export.

    Returns:
        The classifier; what is loaded by name is in evaluation mode.

    Raises:
        ModelError: anything does not fit, in one line.
    """
    brought: object = model
    if not isinstance(brought, nn.Module | str):
        got = type(brought).__name__
        raise ArgumentError(f"model must be a network, its name or its factory, got {got}")
    if data is not None:
        check_data(data)
    given = read_weights(weights, unsafe_pickle) if weights is not None else None
    if isinstance(model, nn.Module):
        classifier = _wrapped(model, normalize)
    elif model in ARCHITECTURES:
        classifier = _built_in(model, given, data, normalize)
    elif is_hub_name(model):
        own = given is None
        classifier = from_hub(model, normalize, pretrained=own, unsafe_pickle=unsafe_pickle)
    elif is_model_file(model):
        classifier = from_file(model, normalize, unsafe_pickle)
    elif is_factory(model):
        made = call_factory(model, "model", ModelError)
        if not isinstance(made, nn.Module):
            words = f"model factory {model!r} must return an nn.Module, got {type(made).__name__}"
            raise ModelError(words)
        classifier = _wrapped(made, normalize)
    else:
        known = f"{', '.join(ARCHITECTURES)}, file.py:factory, package.module:factory"
        others = "a file of a whole network (.onnx, .pt, .pt2), timm:NAME or hf:NAME"
        raise ModelError(f"model must be one of {known}, {others}, got {model!r}")
    if isinstance(model, str):
        # what is loaded is asked; a network that was handed over stays in the mode it is in
        classifier.eval()
    if given is not None:
        if kind := classifier.describe.get("program"):
            raise ArgumentError(f"weights cannot be given with a {kind}: it carries its own")
        named = f"model {model!r}" if isinstance(model, str) else "the model"
        fill(classifier, given, named, normalize is not None)
    check_ready(classifier)
    return classifier


def _wrapped(network: nn.Module, normalize: Normalisation | None) -> UnitClassifier:
    return network if isinstance(network, UnitClassifier) else UnitClassifier(network, normalize)


def model_bytes(classifier: UnitClassifier) -> bytes:
    """The contents of a weights file: the state, and what builds a built-in network again."""
    return pack(classifier.state_dict(), classifier.describe)


def save_model(classifier: UnitClassifier, path: Path) -> None:
    """Write a weights file."""
    path.write_bytes(model_bytes(classifier))


def parse_normalize(text: str | None) -> Normalisation | None:
    """`none`, or `m1,m2,m3/s1,s2,s3` (one number per channel), in units of [0, 1] pixel values."""
    if text is None or text.strip().lower() in ("", "none"):
        return None
    try:
        parts = text.strip("()[] ").split("/")
        means, stds = ([float(v) for v in part.split(",")] for part in parts)
    except ValueError as error:
        words = f"normalize must be none or MEANS/STDS such as 0.1307/0.3081, got {text!r}"
        raise ArgumentError(words) from error
    if not (len(means) == len(stds) and all(map(math.isfinite, (*means, *stds))) and min(stds) > 0):
        words = "normalize must have as many positive stds as means, all finite"
        raise ArgumentError(f"{words}, got {text!r}")
    return tuple(means), tuple(stds)


def refuse_normalize(model: str, normalize: str) -> None:
    """ArgumentError where a built-in network that is going to be trained is asked to normalise
    otherwise than by its training data."""
    if parse_normalize(normalize) is not None:
        words = f"model {model!r} normalises by the mean and deviation of its training data"
        raise ArgumentError(f"{words}; leave normalize out, got {normalize}")


def _built_in(
    name: str, given: Weights | None, data: Data | None, norm: Normalisation | None
) -> UnitClassifier:
    metadata = given.metadata if given is not None else {}
    kind = metadata.get("architecture", name)
    if kind != name:
        raise ModelError(f"weights are those of a {kind!r}, model is {name!r}")
    if given is not None and "shape" in metadata and "outputs" in metadata:
        shape, outputs = _stated(given)
        if data is not None and data.shape != shape:
            raise ModelError(f"weights are for images of shape {shape}, data has {data.shape}")
    elif data is not None:
        shape, outputs = data.shape, _outputs_of(given) or len(data.classes)
    else:
        words = "needs data or weights written by blankcheck to know its image shape"
        raise ArgumentError(f"model {name!r} {words}")
    if norm is None and data is not None:
        norm = data.mean_and_std()
    if given is not None:
        # a network as large as a file says needs no room before the file is known to fill it
        with torch.device("meta"):
            into(build(name, shape, outputs, norm), given, f"model {name!r}")
    return build(name, shape, outputs, norm)


def states_shape(weights: str, unsafe_pickle: bool) -> bool:
    """Whether a file of weights says which images a built-in network takes; ModelError where it
    cannot be read."""
    return {"shape", "outputs"} <= read_weights(weights, unsafe_pickle).metadata.keys()


def _stated(given: Weights) -> tuple[Shape, int]:
    """The image shape and the number of outputs that a file states."""
    try:
        c, h, w = (int(v) for v in given.metadata["shape"].split(","))
        outputs = int(given.metadata["outputs"])
    except ValueError as error:
        words = f"weights file {given.path} states no shape of images or number of outputs"
        raise ModelError(words) from error
    if min(c, h, w, outputs) < 1 or c * h * w > MOST_FEATURES or max(c, outputs) > MOST_WIDE:
        words = f"weights file {given.path} states images of {c}x{h}x{w} and {outputs} outputs"
        raise ModelError(words)
    return (c, h, w), outputs


def _outputs_of(given: Weights | None) -> int | None:
    """The length of the last bias: the number of outputs of the reference networks."""
    shapes = given.shapes.items() if given is not None else ()
    biases = [shape[0] for name, shape in shapes if name.endswith(".bias") and len(shape) == 1]
    return biases[-1] if biases else None
