"""Files of weights: what they hold, first without making room for it."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from blankcheck.errors import ModelError
from blankcheck.files import check_digest, check_regular, read_header
from blankcheck.text import one_line
from blankcheck.users import calling

USUAL = ("state_dict", "model_state_dict", "model", "net")
"""Names under which checkpoints hold their state dict, or the network itself."""
PROGRAM = ("serialized_exported_program.json", "models/model.json")
"""What an archive of torch.export has in it."""


@dataclass(frozen=True)
class Weights:
    """A file of weights.

    Args:
        path: of the file.
        shapes: of its tensors, known before there is room for them.
        read: gives the tensors.
        metadata: that the file carries.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[], dict[str, Tensor]]
    metadata: Mapping[str, str] = field(default_factory=dict)


def check_file(path: Path, what: str) -> None:
    """Raises ModelError where there is no regular file; what: `weights` or `model`."""
    try:
        check_regular(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ModelError(f"{what} file {path} does not exist") from error
    except ValueError as error:
        raise ModelError(f"{what} file {path} {error}") from error


def read_weights(path: Path, unsafe_pickle: bool) -> Weights:
    """What a `.safetensors` file, or a `.pt` or `.pth` state dict, holds.

    Raises ModelError with one line.
    """
    check_file(path, "weights")
    if path.suffix == ".safetensors":
        try:
            metadata, shapes = read_header(path)
        except ValueError as error:
            raise ModelError(f"weights file {path} {error}") from error
        return Weights(path, shapes, lambda: _tensors(path, metadata), metadata)
    state = _pickled(path, unsafe_pickle)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    return Weights(path, shapes, lambda: state)


def _tensors(path: Path, metadata: Mapping[str, str]) -> dict[str, Tensor]:
    try:
        tensors = load_file(path)
        check_digest(tensors, metadata)
    except SafetensorError as error:
        words = f"weights file {path} is not a readable safetensors file: {one_line(error)}"
        raise ModelError(words) from error
    except ValueError as error:
        raise ModelError(f"weights file {path} {error}") from error
    return tensors


def _pickled(path: Path, unsafe_pickle: bool) -> dict[str, Tensor]:
    what = f"weights file {path}"
    _check_archive(path, what, unsafe_pickle)
    try:
        with (
            warnings.catch_warnings(),
            calling(f"{what} is not a readable PyTorch file:", UnreadError),
        ):
            warnings.simplefilter("ignore")  # of files that are refused in one line
            loaded: Any = torch.load(path, map_location="cpu", weights_only=not unsafe_pickle)
            return _state_dict(loaded, what)
    except UnreadError as error:
        cause = error.__cause__
        if isinstance(cause, AttributeError | ImportError):  # a class that is not at hand
            instead = "save its state_dict() instead, and give its factory as --model"
            words = f"{what} holds a whole network, whose code is not at hand: {one_line(cause)}"
            raise ModelError(f"{words}; {instead}") from cause
        if isinstance(cause, pickle.UnpicklingError):
            with path.open("rb") as file:
                begins = file.read(2)
            if begins not in (b"PK", b"\x80\x02"):  # neither of the formats torch.save writes
                raise ModelError(f"{what} is not a readable PyTorch file") from cause
            advice = "save model.state_dict(), or trust it with --unsafe-pickle"
            raise ModelError(f"{what} holds more than tensors; {advice}") from cause
        raise ModelError(str(error)) from cause


def _check_archive(path: Path, what: str, unsafe_pickle: bool) -> None:
    """Raises ModelError where a file is an archive of another kind, or a part of one."""
    with path.open("rb") as file:
        begins = file.read(2)
    if begins != b"PK":
        return
    if not zipfile.is_zipfile(path):
        raise ModelError(f"{what} is damaged: its end is missing")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith(PROGRAM) for name in names):
        raise ModelError(
            f"{what} is a program of torch.export; give it as --model, with ending .pt2"
        )
    if not unsafe_pickle and any("/code/" in name for name in names):
        words = "is a TorchScript archive; let a factory return torch.jit.load(FILE), and give that"
        raise ModelError(f"{what} {words} as --model")


class UnreadError(ModelError):
    """What unpickling a file met, before it is known what that means."""


def _state_dict(loaded: Any, what: str) -> dict[str, Tensor]:
    """The dictionary of tensors in a checkpoint: itself, under one of the usual names, or the only
    one in it."""
    if isinstance(loaded, Mapping):
        known = (loaded.get(name) for name in USUAL)
        loaded = next((inner for inner in known if isinstance(inner, Mapping | nn.Module)), loaded)
    if isinstance(loaded, nn.Module):
        return dict(loaded.state_dict())
    if not isinstance(loaded, Mapping):
        words = f"must hold a state dict, got {type(loaded).__name__}"
        raise ModelError(f"{what} {words}; save model.state_dict()")
    inner = [value for value in loaded.values() if _is_state(value)]
    if len(inner) == 1:
        loaded = inner[0]
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if tensors and len(inner) < 2:
        return tensors
    keys = one_line(", ".join(repr(key) for key in loaded)) or "nothing in it"
    words = "must hold a state dict, got a dictionary with"
    raise ModelError(f"{what} {words} {keys}; save the state dict of the network alone")


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and all(isinstance(t, Tensor) for t in value.values())
        and (len(value) > 0)
    )
