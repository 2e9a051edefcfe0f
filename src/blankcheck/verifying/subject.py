"""What `verify` checks a run folder against: the data set and the network, loaded again.

The folder runs no code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from blankcheck.api.audit import MODEL, WITNESSES
from blankcheck.auditing import check_fits
from blankcheck.auditing.fool import PROBE_IMAGES
from blankcheck.certifying import Gated
from blankcheck.classifiers import ARCHITECTURES, UnitClassifier, load_model, probabilities
from blankcheck.classifiers.loading import parse_normalize
from blankcheck.classifiers.wrapper import fingerprint, left_as_found
from blankcheck.cli.settings import VerifySettings
from blankcheck.data import Data, load_data
from blankcheck.data.loading import runs_code
from blankcheck.data.variants import split_variants
from blankcheck.errors import ArgumentError, DataError, RunFolderError
from blankcheck.outputs import output_form
from blankcheck.runs.environment import environment
from blankcheck.runs.folder import CONFIG, MARK, RunFolder
from blankcheck.runs.gate_file import (
    GATE,
    PROGRAM,
    is_gate_run,
    program_bytes,
    read_gate,
    same_program,
)
from blankcheck.runs.witnesses import data_fingerprint
from blankcheck.text import one_line
from blankcheck.types import images_at_once
from blankcheck.verifying.findings import Findings, value
from blankcheck.verifying.folder import VERDICT, Folder

MOST_FEATURES = 10_000_000
"""Of an image that a network is shown because a file says that its images have this shape."""


def data_again(settings: VerifySettings, config: Mapping[str, Any]) -> Data | None:
    """The data set of the run: as named now, else as configured unless that is code; None when it
    is not at hand."""
    if settings.data is not None:
        return load_data(settings.data, settings.data_dir)
    source, named_then = _text(config, "data"), _text(config, "data_dir")
    try:
        return (
            None
            if runs_code(source)
            else load_data(source, settings.data_dir or named_then or None)
        )
    except Exception:  # not at hand is an answer here, and the result says so
        return None


def model_again(
    settings: VerifySettings, config: Mapping[str, Any], run: RunFolder, data: Data | None
) -> UnitClassifier:
    """The audited network: a factory named now, or a built-in network from safetensors.

    Nothing else is ever run.
    """
    name = settings.model or _text(config, "model")
    normalize = parse_normalize(settings.normalize or _text(config, "normalize"))
    if settings.model is None and name not in ARCHITECTURES:
        raise ArgumentError(
            f"run folder {run.path} names the model {name!r}; run folders run no code: name it with --model"
        )
    weights = settings.weights
    if weights is None and (name in ARCHITECTURES or run.has(MODEL)):
        weights = str(run.check(MODEL))  # of a hardening these, and not the ones that it began with
    elif weights is None:
        weights = _text(config, "weights") or None
    return with_gate(
        run, load_model(name, weights, data, normalize, unsafe_pickle=settings.unsafe_pickle), data
    )


def _text(config: Mapping[str, Any], key: str) -> str:
    """A setting that is text; empty for anything else, which a folder from a stranger may hold."""
    said = config.get(key)
    return said if isinstance(said, str) else ""


def with_gate(
    run: RunFolder, classifier: UnitClassifier, data: Data | None = None
) -> UnitClassifier:
    """The classifier with the gate of the run folder around it where the run is one of `blankcheck
    gate`, else as it is. The form of the outputs inside is found by looking, not taken from the
    file."""
    if not is_gate_run(run):
        return classifier
    stored = read_gate(run)
    return UnitClassifier(
        Gated(classifier, stored.gate, form_again(classifier, stored.shape, data))
    ).eval()


def form_again(classifier: UnitClassifier, shape: tuple[int, int, int], data: Data | None) -> str:
    """Which form the outputs have: on real images where they are at hand, else on noise of this
    shape (c, h, w)."""
    if data is not None:
        return check_fits(classifier, data)
    if math.prod(shape) > MOST_FEATURES:
        raise RunFolderError(f"images of shape {shape} are larger than any network here takes")
    n = min(PROBE_IMAGES, images_at_once(shape))
    with left_as_found(classifier):
        return output_form(
            classifier, torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))
        )


def check_data(found: Findings, settings: VerifySettings, folder: Folder) -> Data | None:
    """The data of the run; None where it is not at hand, or is other data."""
    configured, metadata = _text(folder.config, "data"), folder.metadata
    source, then = settings.data or configured, metadata.get("data")
    data = data_again(settings, folder.config)
    found.record |= {"data": source, "data_fingerprint": None}
    # a factory may give its data any name; their fingerprint tells
    if then is not None and not runs_code(configured) and _plain(then) != _plain(configured):
        found.fail(WITNESSES, f"data is {value(then)}, {CONFIG} says {value(configured)}")
    if data is None:
        found.not_at_hand(
            "p-values were taken from the file, not checked, and no real image was looked at: the data set "
            f"{one_line(repr(source), 80)} is not at hand; name it with --data"
        )
        return None
    seen = data_fingerprint(data)
    found.record["data_fingerprint"] = seen
    found.facts.append(f"data: {one_line(source, 80)}, fingerprint {seen}")
    if list(data.classes) != folder.verdict["classes"]:
        found.fail(VERDICT, "classes are not those of the data")
    other = []
    if (said := metadata.get("data_fingerprint")) is not None and said != seen:
        other.append(
            f"data_fingerprint is {value(said)}, that of {one_line(repr(source), 80)} is {seen}"
        )
    if folder.shape is not None and folder.shape != data.shape:
        other.append(f"images have shape {folder.shape}, those of the data {data.shape}")
    for fault in other:
        found.fail(WITNESSES, fault)
    return None if other else data


def _plain(source: str) -> str:
    """A data set without its variants, which may be spelt in several ways."""
    try:
        return split_variants(source)[0]
    except DataError:
        return source


def check_network(
    found: Findings,
    settings: VerifySettings,
    folder: Folder,
    classifier: UnitClassifier,
    data: Data | None,
    shape: tuple[int, int, int],
) -> tuple[str, int]:
    """Form and number of the outputs, by looking; a file that says otherwise is wrong. shape: (c,
    h, w) of images."""
    form, mark = form_again(classifier, shape, data), fingerprint(classifier)
    with left_as_found(classifier):
        outputs = probabilities(classifier, torch.zeros(1, *shape), form).shape[1]
    inner = classifier.network
    gated = isinstance(inner, Gated)
    behind = f", scored behind the gate of the run folder ({GATE})" if gated else ""
    found.facts.append(
        f"network: {one_line(settings.model or _text(folder.config, 'model'), 80)}, normalisation "
        f"{_normalisation(classifier)}, outputs {form}, fingerprint {mark}{behind}"
    )
    said = folder.metadata.get("fingerprint")
    if folder.stored is not None and said != mark:
        found.fail(
            WITNESSES,
            f"the network is not the one that was audited: its fingerprint differs, {mark} here, "
            f"{value(said)} in the file",
        )
    forms = {
        WITNESSES: folder.metadata.get("output_form"),
        VERDICT: (folder.verdict.get("notes") or {}).get("output_form"),
    }
    for file, its in forms.items():
        if its is not None and its != form:
            found.fail(file, f"output_form is {value(its)}, the network gives {form}")
    if isinstance(inner, Gated) and (its := read_gate(folder.run).form) != inner.form:
        found.fail(GATE, f"form is {value(its)}, the classifier inside gives {inner.form}")
    found.record |= {
        "network": mark,
        "same_network": said == mark,
        "output_form": form,
        "gate": gated,
    }
    return form, outputs


def check_program(
    found: Findings, run: RunFolder, classifier: UnitClassifier, data: Data | None
) -> None:
    """The program beside a gate is what its network exports to.

    It is compared and not loaded, which could run code.
    """
    if not isinstance(classifier.network, Gated):
        return
    around = run.read_json(MARK)
    made = around.get("packages", {}).get("torch"), around.get("device")
    if data is None or made != (environment()["packages"]["torch"], "cpu"):
        found.not_at_hand(
            f"{PROGRAM} was not looked at, which takes the data and the torch that exported it, on a CPU"
        )
        return
    try:
        program = program_bytes(classifier, data)
    except Exception:  # torch.export raises whatever it meets in the classifier
        program = None
    there = run.read_bytes(PROGRAM) if run.has(PROGRAM) else None
    if there is None or program is None or not same_program(there, program):
        found.fail(PROGRAM, "is not the program that the network exports to")


def _normalisation(classifier: UnitClassifier) -> str:
    inner = classifier.network.inner if isinstance(classifier.network, Gated) else classifier
    if not isinstance(inner, UnitClassifier) or not inner.normalised:
        return "none"
    return "/".join(
        ",".join(f"{v:.4g}" for v in each.flatten().tolist()) for each in (inner.mean, inner.std)
    )
