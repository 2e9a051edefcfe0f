"""Files of weights: what they hold, first without making room for it."""

from __future__ import annotations

import pickle
import warnings
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
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that are refused in one line
            loaded: Any = torch.load(path, map_location="cpu", weights_only=not unsafe_pickle)
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            begins = file.read(2)
        if begins not in (b"PK", b"\x80\x02"):  # neither of the two formats torch.save writes
            raise ModelError(f"weights file {path} is not a readable PyTorch file") from error
        advice = "save model.state_dict(), or trust it with --unsafe-pickle"
        raise ModelError(f"weights file {path} holds more than tensors; {advice}") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file raises whatever unpickling meets
        words = f"weights file {path} is not a readable PyTorch file: {one_line(error)}"
        raise ModelError(words) from error
    return _state_dict(loaded, path)


def _state_dict(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The dictionary of tensors in a checkpoint: itself, or under one of the usual names."""
    if isinstance(loaded, nn.Module):
        return dict(loaded.state_dict())
    if isinstance(loaded, dict):
        usual = (loaded.get(n) for n in ("state_dict", "model_state_dict", "model", "net"))
        loaded = next((inner for inner in usual if isinstance(inner, dict)), loaded)
        tensors = {str(k): v for k, v in loaded.items() if isinstance(v, Tensor)}
        if tensors:
            return tensors
    raise ModelError(f"weights file {path} must hold a state dict, got {type(loaded).__name__}")
