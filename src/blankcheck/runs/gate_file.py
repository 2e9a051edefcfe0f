"""`gate.safetensors`: a gate and what builds it again around its classifier."""

from __future__ import annotations

import io
from typing import Any, NamedTuple
from zipfile import BadZipFile, ZipFile

import torch
from torch import nn

from blankcheck.certifying import Gated, gate_network
from blankcheck.certifying.record import GATE_CERTIFIED
from blankcheck.classifiers import OUTPUT_FORMS, UnitClassifier
from blankcheck.classifiers.wrapper import device_of, left_as_found
from blankcheck.data import Data
from blankcheck.errors import ArgumentError, RunFolderError
from blankcheck.files import pack, unpack
from blankcheck.outputs import in_silence
from blankcheck.runs.folder import MARK, RunFolder
from blankcheck.runs.plain_values import parse_json
from blankcheck.text import one_line

GATE, PROGRAM, RECORD = "gate.safetensors", "gated.pt2", "certificate.json"
SERIAL = "/.data/serialization_id"
"""A part of a program that hangs on the rest of the file."""
MOST_TEXT = 10_000_000
"""Bytes by which the source lines of a program may differ, as folders have longer names elsewhere.
"""
MOST = 1_000_000
"""Features, classes or channels that a file may ask for."""


def gate_bytes(gated: UnitClassifier, shape: tuple[int, int, int]) -> bytes:
    """The contents of the file: the gate alone; the classifier inside has a file of its own."""
    inner = gated.network
    assert isinstance(inner, Gated) and isinstance(inner.gate, nn.Sequential)
    bright, filters, last = inner.gate[0], inner.gate[1], inner.gate[-1]
    sizes = {"classes": last.out_features, "tau": bright.tau, "channels": filters.out_channels}
    described = {"shape": ",".join(map(str, shape)), "form": inner.form}
    described |= {name: str(size) for name, size in sizes.items()}
    return pack(inner.gate.state_dict(), described)


def program_bytes(gated: UnitClassifier, data: Data) -> bytes:
    """The contents of `PROGRAM`: the whole as a program that torch.export.load reads. torch.export
    raises whatever it meets in the classifier."""
    example, buffer = data.validation.images[:2].to(device_of(gated)), io.BytesIO()
    with in_silence(), left_as_found(gated):
        sizes = ({0: torch.export.Dim("n")},)
        program = torch.export.export(gated, (example,), dynamic_shapes=sizes, strict=False)
        torch.export.save(program, buffer)
    return buffer.getvalue()


def same_program(one: bytes, other: bytes) -> bool:
    """Whether two such files hold the same program: all but the lines of source code that
    operations come from. Beyond the size of the other nothing of the first one is unpacked."""
    try:
        with ZipFile(io.BytesIO(one)) as a, ZipFile(io.BytesIO(other)) as b:
            if a.namelist() != b.namelist():
                return False
            return all(_same_part(a, b, name) for name in b.namelist() if not name.endswith(SERIAL))
    # whatever a forged file raises
    except (BadZipFile, ValueError, OSError, EOFError, NotImplementedError, RuntimeError):
        return False


def _same_part(a: ZipFile, b: ZipFile, name: str) -> bool:
    text = name.endswith(".json")
    sizes = [archive.getinfo(name).file_size for archive in (a, b)]
    if sizes[0] > sizes[1] + text * MOST_TEXT:
        return False
    if not text:
        return a.read(name) == b.read(name)
    said, made = (parse_json(archive.read(name).decode()) for archive in (a, b))
    return bool(_without_origins(said) == _without_origins(made))


def _without_origins(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_origins(inner) for key, inner in value.items() if key != "metadata"}
    return [_without_origins(inner) for inner in value] if isinstance(value, list) else value


class StoredGate(NamedTuple):
    """A gate read back. shape: (c, h, w) of its images. form: of the outputs of the classifier
    inside, as the file says."""

    gate: nn.Sequential
    shape: tuple[int, int, int]
    form: str


def is_gate_run(run: RunFolder) -> bool:
    """Whether a run folder is one of `blankcheck gate` with the certificate that such a run ends
    with. A gate that lies in any other folder is no part of its network."""
    if not run.has(RECORD):
        return False
    command, proof = run.read_json(MARK), run.read_json(RECORD)
    said = isinstance(command, dict) and isinstance(proof, dict)
    return said and command.get("command") == "gate" and proof.get("means") == GATE_CERTIFIED


def read_gate(run: RunFolder) -> StoredGate:
    """The gate of a run folder. Raises RunFolderError with one line."""
    try:
        state, said = unpack(run.read_bytes(GATE))
        c, h, w = (int(size) for size in said["shape"].split(","))
        classes, channels, form = int(said["classes"]), int(said["channels"]), said["form"]
        sizes = (c, h, w, classes, channels, c * h * w * channels)
        if form not in OUTPUT_FORMS or not all(0 < n <= MOST for n in sizes):
            raise ArgumentError("sizes or form of outputs are out of range")
        gate = gate_network((c, h, w), classes, float(said["tau"]), channels)
        gate.load_state_dict(state)
    except (ValueError, KeyError, RuntimeError, ArgumentError) as error:
        words = f"is not a gate that blankcheck wrote: {one_line(error)}"
        raise RunFolderError(f"{run / GATE} {words}") from error
    return StoredGate(gate.requires_grad_(False), (c, h, w), form)
