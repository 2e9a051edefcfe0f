"""From the texts after `--model`, `--weights` and `--normalize` to a classifier."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from blankcheck.classifiers.hubs import from_hub, is_hub_name
from blankcheck.classifiers.reference import ARCHITECTURES, Shape, build
from blankcheck.classifiers.weights import Weights, check_file, read_weights
from blankcheck.classifiers.wrapper import Normalisation, UnitClassifier
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.factories import call_factory, is_factory
from blankcheck.files import pack
from blankcheck.text import one_line

if TYPE_CHECKING:
    from blankcheck.data import Data

MOST_FEATURES, MOST_WIDE = 1_000_000_000, 100_000
"""Features of an image, and channels or outputs, that a file of weights may speak of."""


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
            `package.module:factory`, a `.pt2` file of torch.export (which can be audited, not
            trained), or `timm:NAME` or `hf:NAME` of a model hub, with its published weights unless
            others are given and with the normalisation stated there.
        weights: a `.safetensors` file or a `.pt`/`.pth` state dict.
        data: states a built-in network's shape, classes and normalisation where no weights do.
        normalize: ((means), (stds)) put inside; default none.
        unsafe_pickle: load files that hold more than tensors, which can run code.

    Returns:
        The classifier; what is loaded by name is in evaluation mode.

    Raises:
        ModelError: anything does not fit, in one line.
    """
    given = read_weights(Path(weights), unsafe_pickle) if weights is not None else None
    if isinstance(model, nn.Module):
        classifier = _wrapped(model, normalize)
    elif model in ARCHITECTURES:
        classifier = _built_in(model, given, data, normalize)
    elif model.endswith(".pt2"):
        classifier = UnitClassifier(_exported(Path(model)), normalize, {"exported": "true"})
    elif is_hub_name(model):
        own = given is None
        classifier = from_hub(model, normalize, pretrained=own, unsafe_pickle=unsafe_pickle)
    elif is_factory(model):
        made = call_factory(model, "model", ModelError)
        if not isinstance(made, nn.Module):
            words = f"model factory {model!r} must return an nn.Module, got {type(made).__name__}"
            raise ModelError(words)
        classifier = _wrapped(made, normalize)
    else:
        known = f"{', '.join(ARCHITECTURES)}, file.py:factory, package.module:factory, a .pt2 file"
        raise ModelError(f"model must be one of {known}, timm:NAME or hf:NAME, got {model!r}")
    if isinstance(model, str) and not classifier.describe.get("exported"):
        # what is loaded is asked; a network that was handed over stays in the mode it is in
        classifier.eval()
    if given is not None:
        if classifier.describe.get("exported"):
            raise ArgumentError("weights cannot be given with a .pt2 model: it carries its own")
        _fill(classifier, given, f"model {model!r}" if isinstance(model, str) else "the model")
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
    if len(means) != len(stds) or min(stds) <= 0:
        raise ArgumentError(f"normalize must have as many positive stds as means, got {text!r}")
    return tuple(means), tuple(stds)


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
            _into(build(name, shape, outputs, norm), given, f"model {name!r}")
    return build(name, shape, outputs, norm)


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


def _exported(path: Path) -> nn.Module:
    check_file(path, "model")
    try:
        return torch.export.load(path).module()
    except MemoryError:
        raise
    except Exception as error:  # torch.export raises whatever it meets
        words = f"model file {path} cannot be read as a torch.export program: {one_line(error)}"
        raise ModelError(words) from error


def _plain(name: str) -> str:
    """A parameter's name without what torch puts before it in wrapped or compiled networks."""
    return name.removeprefix("module.").removeprefix("_orig_mod.")


def _into(classifier: UnitClassifier, given: Weights, model: str) -> nn.Module:
    """What the weights fill: the classifier with its normalisation, or the network inside."""
    shapes = {_plain(name): shape for name, shape in given.shapes.items()}
    whole = all(name in ("mean", "std") or name.startswith("network.") for name in shapes)
    whole = whole and {"mean", "std"} <= shapes.keys()
    into: nn.Module = classifier if whole else classifier.network
    own = {name: tuple(t.shape) for name, t in into.state_dict().items() if isinstance(t, Tensor)}
    if whole:  # a saved normalisation is taken as it is
        own |= {name: (1, math.prod(shapes[name]), 1, 1) for name in ("mean", "std")}
    missing, extra = sorted(own.keys() - shapes.keys()), sorted(shapes.keys() - own.keys())
    wrong = sorted(name for name in own.keys() & shapes.keys() if own[name] != shapes[name])
    if missing or extra or wrong:
        faults = (("missing", missing), ("unexpected", extra), ("wrong shape of", wrong))
        parts = [f"{what} {names[0]!r} ({len(names)} in all)" for what, names in faults if names]
        raise ModelError(f"weights {given.path} do not fit {model}: {'; '.join(parts)}")
    return into


def _fill(classifier: UnitClassifier, given: Weights, model: str) -> None:
    path, into = given.path, _into(classifier, given, model)
    state = {_plain(name): tensor for name, tensor in given.read().items()}
    if into is classifier:
        _take_normalisation(classifier, state["mean"], state["std"], str(path))
    if not all(bool(t.isfinite().all()) for t in state.values() if t.is_floating_point()):
        raise ModelError(f"weights {path} hold NaN or infinity")
    into.load_state_dict(state)


def _take_normalisation(classifier: UnitClassifier, mean: Tensor, std: Tensor, path: str) -> None:
    """Those that a saved classifier carries; a built-in one's stand in place of the data's."""
    pairs = ((mean, classifier.mean), (std, classifier.std))
    same = mean.numel() == classifier.mean.numel()
    same = same and all(torch.allclose(a.flatten(), b.flatten()) for a, b in pairs)
    if classifier.normalised and not same and not classifier.describe.get("architecture"):
        words = f"normalize differs from the normalisation saved in weights {path}"
        raise ArgumentError(f"{words}; leave one of the two out")
    classifier.normalise_by(mean, std)
