"""Files of weights: what they hold, first without making room for it."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from blankcheck.errors import ModelError
from blankcheck.factories import importable
from blankcheck.files import check_digest, check_regular, read_header
from blankcheck.text import one_line
from blankcheck.users import calling, settings_kept

USUAL = ("state_dict", "model_state_dict", "model", "net")
"""Names under which checkpoints hold their state dict, or the network itself."""
PROGRAM, SCRIPT = "program of torch.export", "TorchScript archive"
PROGRAM_FILES = ("serialized_exported_program.json", "models/model.json")
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


def file_of(weights: str | os.PathLike[str]) -> tuple[Path, str]:
    """The file, and which of several state dicts in it is meant: `FILE`, or `FILE#PART`."""
    path = Path(weights)
    name, mark, part = os.fspath(path).rpartition("#")
    return (path, "") if not mark or path.exists() else (Path(name), part)


def read_weights(weights: str | os.PathLike[str], unsafe_pickle: bool) -> Weights:
    """What a `.safetensors` file, or a `.pt` or `.pth` state dict, holds.

    weights: the file; `FILE#2` is the second of a list of state dicts in it, `FILE#ema` the one
    under that name.

    Raises ModelError with one line.
    """
    path, part = file_of(weights)
    check_file(path, "weights")
    if path.suffix == ".safetensors":
        if part:
            raise ModelError(f"weights file {path} holds one state dict, leave out #{part}")
        try:
            metadata, shapes = read_header(path)
        except ValueError as error:
            raise ModelError(f"weights file {path} {error}") from error
        return Weights(path, shapes, lambda: _tensors(path, metadata), metadata)
    what = f"weights file {path}"
    loaded = unpickled(path, what, unsafe_pickle)
    with calling(f"{what}: its network raised", ModelError):
        state = _state_dict(loaded, what, part)
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


def unpickled(path: Path, what: str, unsafe_pickle: bool) -> Any:
    """What torch.save wrote, on the CPU; code that it names is looked for beside the file, too.

    what: the file, for the one line of a ModelError. unsafe_pickle: run what is in it.
    """
    _check_archive(path, what, unsafe_pickle)
    folder = str(path.resolve().parent)
    try:
        with (
            settings_kept(str(path)),
            importable(folder) if unsafe_pickle else nullcontext(),
            calling(f"{what} is not a readable PyTorch file:", UnreadError),
        ):
            warnings.simplefilter("ignore")  # of files that are refused in one line
            return torch.load(path, map_location="cpu", weights_only=not unsafe_pickle)
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


def kind_of_archive(path: Path, what: str) -> str:
    """What an archive holds, told by its contents: `PROGRAM`, `SCRIPT`, or nothing known; `what`
    stands for the file in the line of a ModelError where its end is missing."""
    with path.open("rb") as file:
        begins = file.read(2)
    if begins != b"PK":
        return ""
    if not zipfile.is_zipfile(path):
        raise ModelError(f"{what} is damaged: its end is missing")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any(name.endswith(PROGRAM_FILES) for name in names):
        return PROGRAM
    return SCRIPT if any("/code/" in name for name in names) else ""


def _check_archive(path: Path, what: str, unsafe_pickle: bool) -> None:
    """Raises ModelError where a file is a whole network without pickle."""
    kind = kind_of_archive(path, what)
    if kind == PROGRAM or (kind and not unsafe_pickle):
        raise ModelError(f"{what} is a {kind}; give it as --model")


class UnreadError(ModelError):
    """What unpickling a file met, before it is known what that means."""


def _state_dict(loaded: Any, what: str, part: str) -> dict[str, Tensor]:
    """The dictionary of tensors in a checkpoint: itself, under one of the usual names, or the only
    one in it; part: which of several."""
    if part and isinstance(loaded, Mapping) and part in loaded:
        loaded, part = loaded[part], ""
    if isinstance(loaded, Mapping):
        known = (loaded.get(name) for name in USUAL)
        held = (inner for inner in known if isinstance(inner, Mapping | nn.Module | list | tuple))
        loaded = next(held, loaded)
    if isinstance(loaded, list | tuple):
        loaded, part = _one_of(loaded, what, part), ""
    if part:
        raise ModelError(f"{what} has no {part!r} in it; leave out #{part}")
    if isinstance(loaded, nn.Module):
        return dict(loaded.state_dict())
    if not isinstance(loaded, Mapping):
        words = f"must hold a state dict, got {type(loaded).__name__}"
        raise ModelError(f"{what} {words}; save model.state_dict()")
    inner = {str(name): value for name, value in loaded.items() if _is_state(value)}
    if len(inner) == 1:
        (loaded,) = inner.values()
    tensors = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if tensors and len(inner) < 2:
        return tensors
    keys = one_line(", ".join(repr(key) for key in loaded)) or "nothing in it"
    words = f"must hold a state dict, got a dictionary with {keys}"
    if len(inner) > 1:
        raise ModelError(f"{what} {words}; pick one: FILE#{one_line(next(iter(inner)))}")
    raise ModelError(f"{what} {words}; save the state dict of the network alone")


def _one_of(several: Sequence[Any], what: str, part: str) -> Any:
    """The state dict, or the network, in a list of such; part: its number from 1."""
    count = len(several)
    if count == 1 and not part:
        return several[0]
    if part.isdecimal() and 1 <= int(part) <= count:
        return several[int(part) - 1]
    words = f"holds a list of {count}; pick one"
    raise ModelError(f"{what} {words}: FILE#1 to FILE#{count}" if count else f"{what} is empty")


def _is_state(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and all(isinstance(t, Tensor) for t in value.values())
        and (len(value) > 0)
    )
