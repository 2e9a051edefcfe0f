"""`gate.safetensors`: a gate and what builds it again around its classifier."""

from __future__ import annotations

from torch import nn

from blankcheck.certifying import Gated, gate_network
from blankcheck.classifiers import OUTPUT_FORMS, UnitClassifier
from blankcheck.errors import ArgumentError, RunFolderError
from blankcheck.files import pack, unpack
from blankcheck.running.run_folder import RunFolder

GATE, PROGRAM = "gate.safetensors", "gated.pt2"
MOST = 1_000_000
"""Features, classes or channels that a file may ask for."""


def gate_bytes(gated: UnitClassifier, shape: tuple[int, int, int]) -> bytes:
    """The contents of the file: the gate alone; the classifier inside has a file of its own."""
    inner = gated.network
    assert isinstance(inner, Gated) and isinstance(inner.gate, nn.Sequential)
    bright, filters, last = inner.gate[0], inner.gate[1], inner.gate[-1]
    described = {"shape": ",".join(map(str, shape)), "classes": str(last.out_features), "tau": str(bright.tau),
                 "channels": str(filters.out_channels), "form": inner.form}  # fmt: skip
    return pack(inner.gate.state_dict(), described)


def with_gate(run: RunFolder, classifier: UnitClassifier) -> UnitClassifier:
    """The classifier with the gate of the run folder around it; the classifier itself where there is none."""
    if not run.has(GATE):
        return classifier
    try:
        state, said = unpack(run.read_bytes(GATE))
        c, h, w = (int(size) for size in said["shape"].split(","))
        classes, channels, form = int(said["classes"]), int(said["channels"]), said["form"]
        if form not in OUTPUT_FORMS or not all(0 < n <= MOST for n in (c, h, w, classes, channels, c * h * w * channels)):
            raise ArgumentError("sizes or form of outputs are out of range")
        gate = gate_network((c, h, w), classes, float(said["tau"]), channels)
        gate.load_state_dict(state)
    except (ValueError, KeyError, RuntimeError, ArgumentError) as error:
        words = " ".join(str(error).split())[:200]
        raise RunFolderError(f"{run / GATE} is not a gate that blankcheck wrote: {words}") from error
    return UnitClassifier(Gated(classifier, gate.requires_grad_(False), form))
