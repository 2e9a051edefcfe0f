"""`gate.safetensors`: a gate and what builds it again around its classifier."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from blankcheck.certifying import Gated, gate_network
from blankcheck.classifiers import OUTPUT_FORMS, UnitClassifier
from blankcheck.errors import ArgumentError, RunFolderError
from blankcheck.running.run_folder import RunFolder

GATE, PROGRAM = "gate.safetensors", "gated.pt2"
MOST = 1_000_000
"""Features, classes or channels that a file may ask for."""


def save_gate(gated: UnitClassifier, shape: tuple[int, int, int], path: Path) -> None:
    """Write the gate alone; the classifier inside has a file of its own."""
    inner = gated.network
    assert isinstance(inner, Gated) and isinstance(inner.gate, nn.Sequential)
    bright, filters, last = inner.gate[0], inner.gate[1], inner.gate[-1]
    described = {"shape": ",".join(map(str, shape)), "classes": str(last.out_features), "tau": str(bright.tau),
                 "channels": str(filters.out_channels), "form": inner.form}  # fmt: skip
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in inner.gate.state_dict().items()}
    save_file(state, path, metadata=described)


def with_gate(run: RunFolder, classifier: UnitClassifier) -> UnitClassifier:
    """The classifier with the gate of the run folder around it; the classifier itself where there is none."""
    path = run / GATE
    if not path.is_file():
        return classifier
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
        c, h, w = (int(size) for size in said["shape"].split(","))
        classes, channels, form = int(said["classes"]), int(said["channels"]), said["form"]
        if form not in OUTPUT_FORMS or not all(0 < n <= MOST for n in (c, h, w, classes, channels, c * h * w * channels)):
            raise ArgumentError("sizes or form of outputs are out of range")
        gate = gate_network((c, h, w), classes, float(said["tau"]), channels)
        gate.load_state_dict(load_file(path))
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError, ArgumentError) as error:
        raise RunFolderError(f"{path} is not a gate that blankcheck wrote: {' '.join(str(error).split())[:200]}") from error
    return UnitClassifier(Gated(classifier, gate.requires_grad_(False), form))
