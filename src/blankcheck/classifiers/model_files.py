"""Networks out of files that hold all of one: ONNX, TorchScript, torch.export, whole pickles."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from blankcheck.classifiers.weights import (
    PROGRAM,
    SCRIPT,
    USUAL,
    check_file,
    kind_of_archive,
    unpickled,
)
from blankcheck.classifiers.wrapper import Normalisation, UnitClassifier
from blankcheck.errors import ModelError
from blankcheck.outputs import in_silence
from blankcheck.users import calling

ENDINGS = (".onnx", ".pt2", ".pt", ".pth", ".ts", ".jit", ".ckpt", ".pkl", ".bin", ".safetensors")
"""What the names of such files end with; what a file is, its contents say."""

ONLY_WEIGHTS = "holds no whole network: give it as --weights, and its factory as --model"


def is_model_file(model: str) -> bool:
    """Whether the text is the name of a file that holds a network, or may be thought to."""
    return model.lower().endswith(ENDINGS)


def from_file(model: str, normalize: Normalisation | None, unsafe_pickle: bool) -> UnitClassifier:
    """The network in a file, which carries its weights; what cannot be trained says so in
    `describe`. unsafe_pickle: also where reading it runs what is in it.

    Raises ModelError with one line.
    """
    path = Path(model)
    check_file(path, "model")
    what = f"model file {path}"
    if path.suffix.lower() == ".onnx":
        return UnitClassifier(_onnx(path, what), normalize)
    if path.suffix.lower() == ".safetensors":
        raise ModelError(f"{what} {ONLY_WEIGHTS}")
    kind = kind_of_archive(path, what)
    if kind == SCRIPT:
        made = _read_by(partial(torch.jit.load, map_location="cpu"), path, what, f"a {kind}")
    elif kind == PROGRAM or path.suffix.lower() == ".pt2":
        if not unsafe_pickle:
            words = f"is a {PROGRAM}, which is unpickled, and that can run code"
            raise ModelError(f"{what} {words}; trust it with --unsafe-pickle")
        made = _read_by(lambda path: torch.export.load(path).module(), path, what, f"a {PROGRAM}")
        kind = PROGRAM
    else:
        return UnitClassifier(_whole(unpickled(path, what, unsafe_pickle), what), normalize)
    return UnitClassifier(made, normalize, {"program": kind})


def _read_by(read: Any, path: Path, what: str, kind: str) -> nn.Module:
    # torch prints what it raises as well
    with calling(f"{what} cannot be read as {kind}:", ModelError), in_silence():
        made: nn.Module = read(path)
        return made


def _whole(loaded: Any, what: str) -> nn.Module:
    """The network that was pickled, perhaps under one of the usual names of a checkpoint."""
    known = [loaded.get(name) for name in USUAL] if isinstance(loaded, Mapping) else [loaded]
    for found in known:
        if isinstance(found, nn.Module):
            return found.float()  # some are saved in half precision
    raise ModelError(f"{what} {ONLY_WEIGHTS}")


def _onnx(path: Path, what: str) -> nn.Module:
    try:
        with _without_torchvision(), in_silence():
            from onnx2torch import convert
    except Exception as error:  # ImportError, or whatever a library of another torch raises
        missing = getattr(error, "name", None) or "onnx2torch"
        words = f"needs the package {missing}, which cannot be imported"
        raise ModelError(f"{what} {words}; pip install 'blankcheck[onnx]'") from error
    made: nn.Module = _read_by(convert, path, what, "an ONNX model that onnx2torch knows")
    return made.float()


@contextmanager
def _without_torchvision() -> Iterator[None]:
    """Inside, modules that import torchvision get an empty one where there is none that fits this
    torch: onnx2torch wants it for two operations of detectors, which no classifier has."""
    try:
        # to see whether it can be imported
        import torchvision  # noqa: F401
    except Exception:  # one built for another torch raises RuntimeError
        empty = {name: ModuleType(name) for name in ("torchvision", "torchvision.ops")}
        vars(empty["torchvision.ops"])["roi_align"] = None
        sys.modules.update(empty)
    else:
        empty = {}
    try:
        yield
    finally:
        for name in empty:
            del sys.modules[name]
