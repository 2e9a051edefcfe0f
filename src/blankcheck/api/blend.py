"""Fooling images of a run folder, added to real ones a little at a time, and the record of it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from blankcheck.api.audit import WITNESSES
from blankcheck.api.bars import told
from blankcheck.api.reopen import data_again, model_again
from blankcheck.arguments import plain_arguments
from blankcheck.auditing import check_fits
from blankcheck.auditing.attempts import Note
from blankcheck.blending import blending
from blankcheck.blending.blending import FOOLING, KINDS, Blended, Pairs, Pool
from blankcheck.classifiers import UnitClassifier, probabilities
from blankcheck.classifiers.wrapper import Normalisation, fingerprint, left_as_found
from blankcheck.data import Data
from blankcheck.errors import ArgumentError, DataError, RunFolderError
from blankcheck.files import pack
from blankcheck.judging.metrics import median
from blankcheck.parallel.devices import resolve
from blankcheck.report.page import write_report
from blankcheck.runs.blend_record import (
    IMAGES,
    MOST_EXAMPLES,
    RECORD,
    SCHEMA,
    Blends,
    read_blends,
)
from blankcheck.runs.claims import held
from blankcheck.runs.contents import read_run
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.witnesses import TOLERANCE, Stored, unpack
from blankcheck.seeds import check_seed
from blankcheck.types import count_lit

ALPHAS = (0.1, 0.2, 0.3, 0.4, 0.5)
PER_PAIR, ABOUT = 20, 2000
"""Pairs of images for two classes, and about how many in all where that would be more."""
MOST_CLASSES = 100
MOST_REAL, MOST_NUMBERS = 5000, 200_000_000
"""Validation images that are looked at, and images x features."""
Ask = Callable[[Tensor], Tensor]
"""From images to the probabilities of their classes."""


# what is blended comes from the folder or is named, and each choice is one of its own
@plain_arguments
def blend(
    run: RunFolder | str | os.PathLike[str],
    *,
    alphas: Sequence[float] = ALPHAS,
    per_pair: int | None = None,
    seed: int = 0,
    device: str = "auto",
    model: nn.Module | str | None = None,
    weights: str | None = None,
    normalize: Normalisation | str | None = None,
    data: Data | str | None = None,
    data_dir: str | None = None,
    unsafe_pickle: bool = False,
    progress: bool | None = None,
    note: Note | None = None,
) -> Blends:
    """Add the fooling images of a run folder to real images, say how little of one turns the
    answer, and write that into the folder and its report.

    Args:
        run: the folder of an audit that found some.
        alphas: shares of the fooling image that are added, each in (0, 1].
        per_pair: pairs of a real and a fooling image for each two classes; default 20, less where
            there are many classes.
        seed: of the draw of pairs.
        device: auto takes a GPU where there is one.
        model: the network, its name or its factory, in place of what the settings of the run name;
            likewise `weights`, `normalize`, `data` and `data_dir`.
        weights: a file of weights.
        normalize: (means, standard deviations).
        data: the data set or its name.
        data_dir: where the files of named data sets are looked for first.
        unsafe_pickle: load .pt files that hold more than tensors.
        progress: show bars; None where a terminal or a notebook shows them.
        note: told in their place how far it is, as note(stage, done, all, words).

    Raises:
        ArgumentError, DataError, ModelError, RunFolderError: with one line.
    """
    shares = shares_of(alphas)
    if per_pair is not None and per_pair < 1:
        raise ArgumentError(f"per_pair must be at least 1, got {per_pair}")
    check_seed(seed)
    where = resolve(device)
    run = run if isinstance(run, RunFolder) else RunFolder.open(run)
    with held(run), told(note, progress) as tell:
        confidence, stored = _audited(run)
        config = run.read_config()
        loaded = data_again(config, data, data_dir)
        if loaded is None:
            what = f"the data set of run folder {run.path}"
            raise DataError(f"{what} is not at hand; name it with --data")
        classifier = model_again(run, config, loaded, model, weights, normalize, unsafe_pickle)
        subject = classifier.to(where), loaded, stored, confidence
        record, images = _blend(run, *subject, shares, per_pair, seed, tell)
        run.write(IMAGES, pack(images))
        run.write_json(RECORD, record)
        blends = read_blends(run)
        assert blends is not None, "it was just written"
        write_report(run)
    return blends


def shares_of(alphas: Sequence[float]) -> tuple[float, ...]:
    """The alphas in order, each once; ArgumentError unless each lies in (0, 1]."""
    for alpha in alphas:
        if not 0 < alpha <= 1:
            raise ArgumentError(f"alphas must lie in (0, 1], got {alpha:g}")
    if not alphas:
        raise ArgumentError("alphas must name at least one share")
    return tuple(sorted(set(alphas)))


def _blend(
    run: RunFolder,
    classifier: UnitClassifier,
    data: Data,
    stored: Stored,
    confidence: float,
    alphas: tuple[float, ...],
    per_pair: int | None,
    seed: int,
    tell: Note,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The record and the images of its examples."""
    form = check_fits(classifier, data)

    def ask(images: Tensor) -> Tensor:
        with left_as_found(classifier):
            return probabilities(classifier, images, form)

    looked_at, sure = _real(ask, data, confidence, seed)
    real, fooling = map(_fewer_classes, (sure, _fooling(ask, data, stored, run, confidence)))
    many = ABOUT // (len(real.present) * len(fooling.present))
    per_pair = per_pair or max(1, min(PER_PAIR, many))
    pairs = blending.choose_pairs(real, fooling, per_pair, seed)
    rows, columns = real.classes[pairs.real], fooling.classes[pairs.fooling]
    met = f"{len(real)} validation images and {len(fooling)} fooling images"
    said = f"{len(rows)} pairs of {met}"
    subject = (classifier, form, real, fooling, pairs, alphas, confidence)
    made = blending.blend(*subject, lambda done, total: tell("blend", done, total, said))
    examples, images = _examples(ask, real, fooling, pairs, made[FOOLING])
    return {
        "schema": SCHEMA,
        "seed": seed,
        "confidence": confidence,
        "alphas": list(alphas),
        "per_pair": per_pair,
        "same_network": stored.metadata.get("fingerprint") == fingerprint(classifier),
        "classes": list(data.classes),
        "real": {"split": "validation", "images": looked_at, "confident": len(sure)},
        "witnesses": {"stored": len(stored), "used": len(fooling)},
        "median_lit": median(count_lit(fooling.images).tolist()),
        "rows": torch.unique(rows).tolist(),
        "columns": torch.unique(columns).tolist(),
        "kinds": {kind: blending.tabulate(made[kind], rows, columns) for kind in KINDS},
        "examples": examples,
    }, images


def _audited(run: RunFolder) -> tuple[float, Stored]:
    """The asked confidence and the witnesses; all must be whole, for the report is drawn again."""
    verdict, folder = read_run(run, blends=False).verdict, f"run folder {run.path}"
    if verdict is None:
        raise RunFolderError(f"{folder} has no verdict.json, so it has no fooling images to blend")
    stored = unpack(run.read_bytes(WITNESSES), str(run / WITNESSES))
    if not len(stored):
        raise RunFolderError(f"{folder} holds no fooling image, so there is nothing to blend")
    return verdict["conditions"]["confidence"], stored


def _sure(ask: Ask, pool: Pool, least: float) -> Pool:
    """The images whose class has at least this probability."""
    return pool[ask(pool.images).gather(1, pool.classes[:, None]).squeeze(1) >= least]


def _real(ask: Ask, data: Data, confidence: float, seed: int) -> tuple[int, Pool]:
    """How many validation images were looked at (test images are read once, by the audit), and
    those that are right with the asked confidence."""
    most = max(1, min(MOST_REAL, MOST_NUMBERS // math.prod(data.shape)))
    looked_at = data.validation.sample(most, seed)
    sure = _sure(ask, Pool(looked_at.loaded(), looked_at.labels), confidence)
    if not len(sure):
        lacking = f"no validation image is right with a confidence of {confidence:g}"
        raise DataError(f"{lacking}: nothing to blend into")
    return len(looked_at), sure


def _fooling(ask: Ask, data: Data, stored: Stored, run: RunFolder, confidence: float) -> Pool:
    """The witnesses that this network is sure of, none twice."""
    images, targets = stored.tensors["images"].float(), stored.tensors["targets"].long()
    shape, folder = tuple(images.shape[1:]), f"run folder {run.path}"
    if shape != data.shape:
        raise DataError(f"{folder} holds images of shape {shape}, data has {data.shape}")
    if not bool(((targets >= 0) & (targets < len(data.classes))).all()):
        raise RunFolderError(f"{run / WITNESSES}: targets must lie in 0..{len(data.classes) - 1}")
    sure = _sure(ask, Pool(images, targets), confidence - TOLERANCE)
    first: dict[tuple[int, bytes], int] = {}
    for i, (image, target) in enumerate(zip(sure.images, sure.classes.tolist(), strict=True)):
        first.setdefault((target, image.numpy().tobytes()), i)
    if not first:
        images_of = f"the {len(stored)} fooling images of {folder}"
        raise RunFolderError(f"none of {images_of} fools this network")
    return sure[torch.tensor(list(first.values()))]


def _fewer_classes(pool: Pool) -> Pool:
    """Of very many classes those with most images, so that a table stays a table."""
    kept = sorted(pool.present, key=lambda target: -len(pool.of(target)))[:MOST_CLASSES]
    return pool[torch.isin(pool.classes, torch.tensor(kept))]


def _examples(
    ask: Ask, real: Pool, fooling: Pool, pairs: Pairs, made: Blended
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """What to show, and its images: those taken at the smallest alpha."""
    rows, columns = real.classes[pairs.real], fooling.classes[pairs.fooling]
    at = torch.tensor(blending.examples(made, rows, columns, MOST_EXAMPLES), dtype=torch.int64)
    q, r, alphas = real.images[pairs.real[at]], fooling.images[pairs.fooling[at]], made.smallest[at]
    images = {"real": q.contiguous(), "fooling": r.contiguous()}
    if not len(at):
        return [], images
    p = ask(blending.blend_images(q, r, alphas.float())).gather(1, columns[at, None]).squeeze(1)
    shown = zip(rows[at].tolist(), columns[at].tolist(), alphas.tolist(), p.tolist(), strict=True)
    return [
        {"row": row, "column": column, "alpha": round(alpha, 4), "confidence": sure}
        for row, column, alpha, sure in shown
    ], images
