"""From the texts after `--model`, `--weights` and `--normalize` to a classifier."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from blankcheck.classifiers.hubs import from_hub, is_hub_name
from blankcheck.classifiers.reference import ARCHITECTURES, Shape, build
from blankcheck.classifiers.wrapper import Normalisation, UnitClassifier
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.factories import call_factory, is_factory

if TYPE_CHECKING:
    from blankcheck.data import Data


def load_model(
    model: nn.Module | str,
    weights: str | os.PathLike[str] | None = None,
    data: Data | None = None,
    normalize: Normalisation | None = None,
    *,
    unsafe_pickle: bool = False,
) -> UnitClassifier:
    """A classifier from images in [0, 1] to outputs.

    model: an `nn.Module`, a built-in name (`mlp`, `cnn`, `resnet`), `file.py:factory` or `package.module:factory`, a
    `.pt2` file of torch.export (which can be audited, not trained), or `timm:NAME` or `hf:NAME` of a model hub, with its
    published weights unless others are given and with the normalisation stated there. weights: a `.safetensors` file or a
    `.pt`/`.pth` state dict, loaded with `weights_only=True` unless `unsafe_pickle`. data: where a built-in network's
    shape, classes and normalisation come from when the weights do not say. normalize: ((means), (stds)) put inside;
    default none.

    What is loaded by name is in evaluation mode. Raises ModelError with one line when anything does not fit.
    """
    state, metadata = _read_weights(Path(weights), unsafe_pickle) if weights is not None else (None, {})
    if isinstance(model, nn.Module):
        classifier = model if isinstance(model, UnitClassifier) else UnitClassifier(model, normalize)
    elif model in ARCHITECTURES:
        classifier = _built_in(model, state, metadata, data, normalize)
    elif model.endswith(".pt2"):
        classifier = UnitClassifier(_exported(Path(model)), normalize, {"exported": "true"})
    elif is_hub_name(model):
        classifier = from_hub(model, normalize, pretrained=state is None, unsafe_pickle=unsafe_pickle)
    elif is_factory(model):
        made = call_factory(model, "model", ModelError)
        if not isinstance(made, nn.Module):
            raise ModelError(f"model factory {model!r} must return an nn.Module, got {type(made).__name__}")
        classifier = made if isinstance(made, UnitClassifier) else UnitClassifier(made, normalize)
    else:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"model must be one of {known}, file.py:factory, package.module:factory, a .pt2 file, "
                         f"timm:NAME or hf:NAME, got {model!r}")  # fmt: skip
    if isinstance(model, str) and not classifier.describe.get("exported"):
        classifier.eval()  # what is loaded is asked; a network that was handed over stays in the mode it is in
    if state is not None:
        if classifier.describe.get("exported"):
            raise ArgumentError("weights cannot be given with a .pt2 model: it carries its own")
        _fill(classifier, state, str(weights), f"model {model!r}" if isinstance(model, str) else "the model")
    return classifier


def save_model(classifier: UnitClassifier, path: Path) -> None:
    """Write parameters and buffers, and for built-in networks what is needed to build them again."""
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in classifier.state_dict().items()}
    save_file(state, path, metadata=classifier.describe)


def parse_normalize(text: str | None) -> Normalisation | None:
    """`none`, or `m1,m2,m3/s1,s2,s3` (one number per channel), in units of [0, 1] pixel values."""
    if text is None or text.strip().lower() in ("", "none"):
        return None
    try:
        means, stds = ([float(v) for v in part.split(",")] for part in text.strip("()[] ").split("/"))
    except ValueError as error:
        raise ArgumentError(f"normalize must be none or MEANS/STDS such as 0.1307/0.3081, got {text!r}") from error
    if len(means) != len(stds) or min(stds) <= 0:
        raise ArgumentError(f"normalize must have as many positive stds as means, got {text!r}")
    return tuple(means), tuple(stds)


def _built_in(
    name: str, state: dict[str, Tensor] | None, metadata: dict[str, str], data: Data | None, norm: Normalisation | None
) -> UnitClassifier:
    kind = metadata.get("architecture", name)
    if kind != name:
        raise ModelError(f"weights are those of a {kind!r}, model is {name!r}")
    shape: Shape
    if "shape" in metadata and "outputs" in metadata:
        c, h, w = (int(v) for v in metadata["shape"].split(","))
        shape, outputs = (c, h, w), int(metadata["outputs"])
        if data is not None and data.shape != shape:
            raise ModelError(f"weights are for images of shape {shape}, data has {data.shape}")
    elif data is not None:
        shape = data.shape
        outputs = _outputs_of(state) or len(data.classes)
    else:
        raise ArgumentError(f"model {name!r} needs data or weights written by blankcheck to know its image shape")
    if norm is None and data is not None:
        norm = data.mean_and_std()
    return build(name, shape, outputs, norm)


def _outputs_of(state: dict[str, Tensor] | None) -> int | None:
    """The length of the last bias: the number of outputs of the reference networks."""
    biases = [t for n, t in (state or {}).items() if n.endswith(".bias") and t.ndim == 1]
    return len(biases[-1]) if biases else None


def _exported(path: Path) -> nn.Module:
    if not path.is_file():
        raise ModelError(f"model file {path} does not exist")
    try:
        return torch.export.load(path).module()
    except Exception as error:  # torch.export raises whatever it meets
        raise ModelError(f"model file {path} cannot be read as a torch.export program: {_brief(error)}") from error


def _read_weights(path: Path, unsafe_pickle: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise ModelError(f"weights file {path} does not exist")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
            return load_file(path), metadata
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"weights file {path} is not a readable safetensors file: {_brief(error)}") from error
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=not unsafe_pickle)
    except pickle.UnpicklingError as error:
        if path.read_bytes()[:2] not in (b"PK", b"\x80\x02"):  # neither of the two formats torch.save writes
            raise ModelError(f"weights file {path} is not a readable PyTorch file") from error
        raise ModelError(
            f"weights file {path} holds more than tensors; save model.state_dict(), or trust it with --unsafe-pickle"
        ) from error
    except Exception as error:  # a damaged file raises whatever unpickling meets
        raise ModelError(f"weights file {path} is not a readable PyTorch file: {_brief(error)}") from error
    return _state_dict(loaded, path), {}


def _state_dict(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The dictionary of tensors in a checkpoint: itself, or under one of the usual names."""
    if isinstance(loaded, nn.Module):
        return dict(loaded.state_dict())
    if isinstance(loaded, dict):
        for name in ("state_dict", "model_state_dict", "model", "net"):
            if isinstance(loaded.get(name), dict):
                loaded = loaded[name]
                break
        tensors = {str(k): v for k, v in loaded.items() if isinstance(v, Tensor)}
        if tensors:
            return tensors
    raise ModelError(f"weights file {path} must hold a state dict, got {type(loaded).__name__}")


def _fill(classifier: UnitClassifier, state: dict[str, Tensor], path: str, model: str) -> None:
    state = {name.removeprefix("module.").removeprefix("_orig_mod."): tensor for name, tensor in state.items()}
    whole = all(name in ("mean", "std") or name.startswith("network.") for name in state)
    whole = whole and {"mean", "std"} <= state.keys()
    if whole:
        _take_normalisation(classifier, state["mean"], state["std"], path)
    into: nn.Module = classifier if whole else classifier.network
    own = into.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = sorted(name for name in own.keys() & state.keys() if own[name].shape != state[name].shape)
    if missing or extra or wrong:
        faults = (("missing", missing), ("unexpected", extra), ("wrong shape of", wrong))
        parts = [f"{what} {names[0]!r} ({len(names)} in all)" for what, names in faults if names]
        raise ModelError(f"weights {path} do not fit {model}: {'; '.join(parts)}")
    if not all(bool(t.isfinite().all()) for t in state.values() if t.is_floating_point()):
        raise ModelError(f"weights {path} hold NaN or infinity")
    into.load_state_dict(state)


def _take_normalisation(classifier: UnitClassifier, mean: Tensor, std: Tensor, path: str) -> None:
    """A saved classifier carries its normalisation; a built-in one's stands in place of that of the data."""
    same = mean.numel() == classifier.mean.numel() and torch.allclose(
        torch.cat([mean.flatten(), std.flatten()]), torch.cat([classifier.mean.flatten(), classifier.std.flatten()])
    )
    if classifier.normalised and not same and not classifier.describe.get("architecture"):
        raise ArgumentError(f"normalize differs from the normalisation saved in weights {path}; leave one of the two out")
    classifier.normalise_by(mean, std)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
