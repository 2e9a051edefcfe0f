"""From the texts after `--model`, `--weights` and `--normalize` to a classifier."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from blankcheck.arguments import plain_arguments
from blankcheck.classifiers.hubs import from_hub, is_hub_name
from blankcheck.classifiers.names import Pairs, fits, nearest, pairs_of
from blankcheck.classifiers.reference import ARCHITECTURES, Shape, build
from blankcheck.classifiers.trial import check_ready
from blankcheck.classifiers.weights import Weights, check_file, read_weights
from blankcheck.classifiers.wrapper import Normalisation, UnitClassifier
from blankcheck.data import Data, check_data
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.factories import call_factory, is_factory
from blankcheck.files import pack
from blankcheck.outputs import in_silence
from blankcheck.users import calling

NORM = ("mean", "std")
WHOLE = (*NORM, "network")
"""What names begin with in the files of weights that blankcheck writes."""
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
    brought: object = model
    if not isinstance(brought, nn.Module | str):
        got = type(brought).__name__
        raise ArgumentError(f"model must be a network, its name or its factory, got {got}")
    if data is not None:
        check_data(data)
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
        named = f"model {model!r}" if isinstance(model, str) else "the model"
        _fill(classifier, given, named, normalize is not None)
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
    words = f"model file {path} cannot be read as a torch.export program:"
    with calling(words, ModelError), in_silence():  # torch prints what it raises as well
        return torch.export.load(path).module()


def _into(classifier: UnitClassifier, given: Weights, model: str) -> tuple[nn.Module, Pairs]:
    """What the weights fill: the classifier with its normalisation, as blankcheck saves it, or the
    network inside; and which of them is which of its tensors."""
    inside, names = classifier.network.state_dict(), given.shapes.keys()
    whole = {"mean", "std"} <= names and all(n.partition(".")[0] in WHOLE for n in names)
    if whole and not fits(_tensors_of(inside), names):
        own = classifier.state_dict()
        # a saved normalisation is taken as it is
        shapes = _tensors_of(own) | {
            name: (1, math.prod(given.shapes[name]), 1, 1) for name in NORM
        }
        return classifier, _checked(shapes, given, model, dict(zip(names, names, strict=True)))
    shapes = _tensors_of(inside)
    return classifier.network, _checked(shapes, given, model, pairs_of(shapes, names))


def _tensors_of(state: Mapping[str, object]) -> dict[str, tuple[int, ...] | None]:
    """The shape of each tensor, None of one that a lazy layer has not made yet."""
    tensors = {name: t for name, t in state.items() if isinstance(t, Tensor)}
    return {name: None if is_lazy(t) else tuple(t.shape) for name, t in tensors.items()}


def _checked(
    own: Mapping[str, tuple[int, ...] | None], given: Weights, model: str, pairs: Pairs | None
) -> Pairs:
    fit = pairs is not None and fits(own, pairs)
    mine, theirs = nearest(own, given.shapes.keys())
    both = {mine[name]: theirs[name] for name in mine.keys() & theirs.keys()}
    found = pairs if pairs is not None and fit else both
    wrong = sorted(n for n, of in found.items() if own[n] not in (None, given.shapes[of]))
    if not fit or wrong:
        missing, extra = sorted(mine.keys() - theirs.keys()), sorted(theirs.keys() - mine.keys())
        missing, extra = ([], []) if fit else (missing, extra)
        faults = (("missing", missing), ("unexpected", extra), ("wrong shape of", wrong))
        parts = [f"{what} {names[0]!r} ({len(names)} in all)" for what, names in faults if names]
        raise ModelError(f"weights {given.path} do not fit {model}: {'; '.join(parts)}")
    return found


def _fill(classifier: UnitClassifier, given: Weights, model: str, asked: bool) -> None:
    """asked: whether a normalisation was asked for, which must be that of the weights then."""
    tensors, path = given.read(), given.path
    try:
        into, pairs = _into(classifier, given, model)
    except ModelError:
        if not _takes_other_names(classifier.network, tensors):
            raise
        return
    state = {name: tensors[of] for name, of in pairs.items()}
    if into is classifier:
        _take_normalisation(classifier, state["mean"], state["std"], str(path), asked)
    own = into.state_dict()
    for name, tensor in state.items():
        if own[name].is_floating_point() and not tensor.is_floating_point():
            kinds = f"{tensor.dtype}, where the network has {own[name].dtype}"
            raise ModelError(f"weights {path} do not fit {model}: {pairs[name]!r} is {kinds}")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(f"weights {path} hold NaN or infinity")
    with calling(f"weights {path} do not fit {model}:", ModelError):
        into.load_state_dict(state, strict=False)  # all that may be missing are counts


def _takes_other_names(network: nn.Module, tensors: dict[str, Tensor]) -> bool:
    """Whether a network's own hooks make something of names that are not its own."""
    try:
        network.load_state_dict(tensors)
    except Exception:  # RuntimeError, or whatever hooks raise
        return False
    return True


def _take_normalisation(
    classifier: UnitClassifier, mean: Tensor, std: Tensor, path: str, asked: bool
) -> None:
    """Those that a saved classifier carries; a built-in one's stand in place of the data's."""
    pairs = ((mean, classifier.mean), (std, classifier.std))
    same = mean.numel() == classifier.mean.numel()
    same = same and all(torch.allclose(a.flatten(), b.flatten()) for a, b in pairs)
    if asked and not same:
        words = f"normalize differs from the normalisation saved in weights {path}"
        raise ArgumentError(f"{words}; leave one of the two out")
    classifier.normalise_by(mean, std)
