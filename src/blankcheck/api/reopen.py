"""The data and the network of a run folder, opened again. The folder itself runs no code."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from blankcheck.api.audit import MODEL
from blankcheck.api.fool import PROBE_IMAGES
from blankcheck.auditing import check_fits
from blankcheck.certifying import Gated
from blankcheck.certifying.record import MOST_FEATURES
from blankcheck.classifiers import ARCHITECTURES, UnitClassifier, load_model
from blankcheck.classifiers.loading import parse_normalize
from blankcheck.classifiers.wrapper import Normalisation, left_as_found
from blankcheck.data import Data, load_data
from blankcheck.data.loading import runs_code
from blankcheck.errors import ArgumentError, ModelError, RunFolderError
from blankcheck.outputs import output_form
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.gate_file import is_gate_run, read_gate
from blankcheck.types import images_at_once


def data_again(
    config: Mapping[str, Any], source: Data | str | None = None, data_dir: str | None = None
) -> Data | None:
    """The data set of a run.

    Args:
        config: the settings of the run.
        source: the data set, where it is named now; what the settings name is not loaded then.
        data_dir: where the files of named data sets are looked for first.

    Returns:
        None where the data set is not at hand, or is code that only the settings name.
    """
    if source is not None:
        return source if isinstance(source, Data) else load_data(source, data_dir)
    source = text_of(config, "data")
    try:
        folder = data_dir or text_of(config, "data_dir") or None
        return None if runs_code(source) else load_data(source, folder)
    except Exception:  # not at hand is an answer here, and the result says so
        return None


def model_again(
    run: RunFolder,
    config: Mapping[str, Any],
    data: Data | None,
    model: nn.Module | str | None = None,
    weights: str | None = None,
    normalize: Normalisation | str | None = None,
    unsafe_pickle: bool = False,
) -> UnitClassifier:
    """The network of a run: one that is named now, or a built-in network from safetensors.

    Args:
        run: the folder, and `config` its settings.
        data: the data set, where it is at hand.
        model: a network, its name or its factory in place of what the settings name, and likewise
            `weights` and `normalize`.
        unsafe_pickle: load .pt files that hold more than tensors.

    Returns:
        The network, inside its gate where the run is one of `blankcheck gate`.

    Raises:
        ArgumentError: where the settings name code.
        ModelError: where the network cannot be built or loaded.
        RunFolderError: where a file of the folder cannot be read.
    """
    if isinstance(model, nn.Module):
        handed = normalize if not isinstance(normalize, str) else parse_normalize(normalize)
        network = load_model(model, weights, data, handed, unsafe_pickle=unsafe_pickle)
        return with_gate(run, network, data)
    name = model or text_of(config, "model")
    if model is None and name not in ARCHITECTURES:
        said = f"names the model {name!r}; run folders run no code" if name else "names no model"
        how = "name it with --model, or give it as model=... from Python"
        raise ArgumentError(f"run folder {run.path} {said}: {how}")
    named_here = weights is not None
    if weights is None and (name in ARCHITECTURES or run.has(MODEL)):
        weights = str(run.check(MODEL))  # of a hardening these, and not the ones that it began with
    elif weights is None:
        weights = text_of(config, "weights") or None
    if normalize is None or isinstance(normalize, str):
        normalize = parse_normalize(normalize or text_of(config, "normalize"))
    held = config.get("temperature", 1.0)  # a stranger's folder may hold anything
    temperature = float(held) if isinstance(held, int | float) else 1.0
    named = name, weights, data, normalize
    try:
        network = load_model(*named, unsafe_pickle=unsafe_pickle, temperature=temperature)
    except ModelError as error:
        if named_here or not isinstance(error.__cause__, FileNotFoundError):
            raise
        how = "name its weights with --weights, or give them as weights=... from Python"
        raise ModelError(f"{error}, as run folder {run.path} names it; {how}") from error
    return with_gate(run, network, data)


def text_of(config: Mapping[str, Any], key: str) -> str:
    """A setting that is text; empty for anything else, which a folder from a stranger may hold."""
    said = config.get(key)
    return said if isinstance(said, str) else ""


def with_gate(run: RunFolder, network: UnitClassifier, data: Data | None = None) -> UnitClassifier:
    """The network, with the gate around it where the run is one of `blankcheck gate`.

    The form of the outputs inside is found by looking, not taken from the file.
    """
    if not is_gate_run(run):
        return network
    stored = read_gate(run)
    form = form_again(network, stored.shape, data)
    return UnitClassifier(Gated(network, stored.gate, form)).eval()


def form_again(classifier: UnitClassifier, shape: tuple[int, int, int], data: Data | None) -> str:
    """Which form the outputs (of images of this shape) have: on real images where they are at hand,
    else on noise."""
    if data is not None:
        return check_fits(classifier, data)
    if math.prod(shape) > MOST_FEATURES:
        raise RunFolderError(f"images of shape {shape} are larger than any network here takes")
    n = min(PROBE_IMAGES, images_at_once(shape))
    noise = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))
    with left_as_found(classifier):
        return output_form(classifier, noise)
