"""The twin: a network of the audited architecture, trained plainly on half B of the data, and kept
in the cache."""

from __future__ import annotations

import copy
import hashlib
import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from blankcheck.auditing import Twin
from blankcheck.auditing.attempts import Note
from blankcheck.classifiers import ARCHITECTURES, UnitClassifier, build, evaluate
from blankcheck.classifiers.training import TrainingPlan, train_plainly
from blankcheck.classifiers.wrapper import devices_of
from blankcheck.data import Data, Split
from blankcheck.data.named import cache_folder
from blankcheck.data.split import fingerprint
from blankcheck.errors import DataError, ModelError
from blankcheck.files import MOST_TENSORS, pack, read_file, unpack
from blankcheck.outputs import output_form
from blankcheck.seeds import own_random_numbers, seed_of
from blankcheck.text import one_line
from blankcheck.types import Classifier
from blankcheck.users import calling

TWIN_SEED = seed_of("twin")
TWIN_EPOCHS = 3
MAX_TWIN_PARAMETERS = 5_000_000
"""Larger networks take too long to train on the spot; a reference network stands in."""
MIN_TWIN_ACCURACY = 0.5
"""A twin that learned less stands for nothing."""
MOST_NUMBERS, MOST_WORK = 1_000_000_000, 6_000_000_000
"""Images x features that a twin is trained on, and scored on, at most (6,643 images of 3x224x224),
and of all its epochs."""
FEWEST_PER_CLASS = 20
"""Images of each class, on average, below which these limits leave no twin that has learnt
anything."""


def get_twins(
    classifier: Classifier,
    data: Data,
    device: torch.device,
    note: Note = lambda stage, done, all_, words: None,
) -> Iterator[Twin]:
    """The trained twin, from the cache where it is there, and after it reference networks that
    stand in for it. note: told how far training one is.

    There is no twin of networks whose parameters cannot all be drawn anew (exported programs, own
    parameter classes), that are too large, or that do not learn in a few epochs. Of large images
    few are trained on, not for long; where that would be next to none of each class, there is no
    twin at all.
    """
    half = data.halves[1].at_most(MOST_NUMBERS)
    limited = half is not data.halves[1] or _plan(half, None) != _plan(half)
    if limited and len(half) < FEWEST_PER_CLASS * len(data.classes):
        return
    fresh = _fresh_copy(classifier, data)
    how = data, half, device, note
    twin = _trained(fresh, *how, "a plain twin") if fresh is not None else None
    if twin is not None:
        yield twin
    known = classifier.describe if isinstance(classifier, UnitClassifier) else {}
    for name in ("cnn", "mlp") if min(data.shape[1:]) >= 8 else ("mlp",):
        if name != known.get("architecture") or twin is None:
            stand_in = _built(name, data)
            made = _trained(stand_in, *how, f"a plain reference {name}")
            if made is not None:
                yield made


def _built(name: str, data: Data) -> UnitClassifier:
    return build(name, data.shape, len(data.classes), data.mean_and_std(), TWIN_SEED)


def _fresh_copy(classifier: Classifier, data: Data) -> UnitClassifier | None:
    if not isinstance(classifier, UnitClassifier) or classifier.describe.get("program"):
        return None
    name = classifier.describe.get("architecture", "")
    if name in ARCHITECTURES:
        return _built(name, data)
    parameters = sum(p.numel() for p in classifier.parameters())
    try:
        with calling("model cannot be copied:", ModelError):  # users' modules may hold anything
            fresh = copy.deepcopy(classifier)
            made = 0 < parameters <= MAX_TWIN_PARAMETERS and _draw_anew(fresh)
    except Exception:
        return None
    return fresh if made else None


def _draw_anew(network: nn.Module) -> bool:
    """Reset every module that holds parameters of its own; False when one cannot be."""
    with own_random_numbers(TWIN_SEED, devices_of(network)):
        for module in network.modules():
            if next(module.parameters(recurse=False), None) is None:
                continue
            reset = getattr(module, "reset_parameters", None)
            if not callable(reset):
                return False
            reset()
    network.requires_grad_(True)
    return True


def _plan(half: Split, work: int | None = MOST_WORK) -> TrainingPlan:
    """work: most images x features of all epochs, of which there are `TWIN_EPOCHS` at least."""
    plan = TrainingPlan(TWIN_EPOCHS) if len(half) >= 5000 else TrainingPlan.default(len(half))
    most = math.inf if work is None else max(TWIN_EPOCHS, work // math.prod(half.images.shape))
    return plan if most >= plan.epochs else replace(plan, epochs=int(most))


def _trained(
    fresh: UnitClassifier, data: Data, half: Split, device: torch.device, note: Note, what: str
) -> Twin | None:
    """The twin out of a network with fresh weights; None where it does not learn."""
    plan = _plan(half)

    def watch(epoch: int, loss: float) -> None:
        note("twin", epoch + 1, plan.epochs, f"training {what}, loss {loss:.3f}")

    path = cache_folder() / "twins" / f"{_key(fresh, data, half, plan)}.safetensors"
    began = time.monotonic()
    fresh = fresh.to(device)
    known, broken = _cached(path, fresh)
    if broken:
        what = f"{what}, made again because its file in the cache {broken},"
    try:
        with calling("model cannot be trained:", ModelError):
            if known is not None:
                fresh.load_state_dict(known)
                began = time.monotonic()
            form = output_form(fresh.eval(), data.validation.images[:64].to(device))
            if known is None:
                note("twin", 0, plan.epochs, f"training {what}")
                train_plainly(fresh, half, plan, TWIN_SEED, watch, form=form)
                _keep(fresh, path)
    except DataError:
        raise
    except Exception:  # a user's network may refuse to train in any way; a reference stands in
        return None
    fresh.eval().requires_grad_(False)
    real = evaluate(fresh, data.validation.at_most(MOST_NUMBERS), len(data.classes), 0.9, form)
    if real.accuracy < MIN_TWIN_ACCURACY:
        return None
    return Twin(fresh, form, f"{what} ({real.accuracy:.1%} accurate)", time.monotonic() - began)


def _key(fresh: UnitClassifier, data: Data, half: Split, plan: TrainingPlan) -> str:
    shapes = [(name, tuple(t.shape)) for name, t in fresh.state_dict().items()]
    seen = data.fingerprint if half is data.halves[1] else fingerprint([half])
    text = f"{fresh}{shapes}{seen}{plan}{TWIN_SEED}{torch.__version__}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _cached(path: Path, network: nn.Module) -> tuple[dict[str, Tensor] | None, str]:
    """The parameters of a twin in the cache, and what is wrong with their file, if anything is."""
    try:
        known, _ = unpack(read_file(path, MOST_TENSORS))
    except FileNotFoundError:
        return None, ""
    except (ValueError, OSError) as error:
        return None, one_line(error) if isinstance(error, ValueError) else "cannot be read"
    one, other = ({n: t.shape for n, t in each.items()} for each in (known, network.state_dict()))
    return (known, "") if one == other else (None, "is that of another network")


def _keep(network: nn.Module, path: Path) -> None:
    """Written beside its name and renamed: several audits may train the same twin at once. A twin
    that cannot be kept, for a full disk or another's folder, is trained again by the next audit."""
    temporary, raw = path.with_suffix(f".{os.getpid()}.part"), pack(network.state_dict())
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(raw)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
