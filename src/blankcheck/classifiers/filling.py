"""A file of weights and a network: which tensor fills which, and whether they fit."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from blankcheck.classifiers.names import Pairs, fits, nearest, pairs_of
from blankcheck.classifiers.weights import Weights
from blankcheck.classifiers.wrapper import UnitClassifier
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.users import calling

NORM = ("mean", "std")
WHOLE = (*NORM, "network")
"""What names begin with in the files of weights that blankcheck writes."""


def into(classifier: UnitClassifier, given: Weights, model: str) -> tuple[nn.Module, Pairs]:
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


def fill(classifier: UnitClassifier, given: Weights, model: str, asked: bool) -> None:
    """Put the tensors of a file into a network that is called `model`; ModelError where they do not
    fit. asked: whether a normalisation was asked for, which must be that of the weights then."""
    tensors, path = given.read(), given.path
    try:
        target, pairs = into(classifier, given, model)
    except ModelError:
        if not _takes_other_names(classifier.network, tensors):
            raise
        return
    state = {name: tensors[of] for name, of in pairs.items()}
    if target is classifier:
        _take_normalisation(classifier, state["mean"], state["std"], str(path), asked)
    own = target.state_dict()
    for name, tensor in state.items():
        if own[name].is_floating_point() and not tensor.is_floating_point():
            kinds = f"{tensor.dtype}, where the network has {own[name].dtype}"
            raise ModelError(f"weights {path} do not fit {model}: {pairs[name]!r} is {kinds}")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(f"weights {path} hold NaN or infinity")
    with calling(f"weights {path} do not fit {model}:", ModelError):
        target.load_state_dict(state, strict=False)  # all that may be missing are counts


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
