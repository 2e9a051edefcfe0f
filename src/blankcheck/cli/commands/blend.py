"""`blankcheck blend`: fooling images of a run folder, added to real ones a little at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from blankcheck.api.audit import WITNESSES
from blankcheck.api.reopen import data_again, model_again
from blankcheck.auditing import check_fits
from blankcheck.blending import blending
from blankcheck.blending.blending import FOOLING, KINDS, Blended, Pairs, Pool
from blankcheck.classifiers import UnitClassifier, probabilities
from blankcheck.classifiers.wrapper import fingerprint, left_as_found
from blankcheck.cli.settings import BlendSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data
from blankcheck.errors import ArgumentError, DataError, RunFolderError
from blankcheck.files import pack
from blankcheck.judging.metrics import median
from blankcheck.parallel.devices import choose_threads, resolve
from blankcheck.report.blend_wording import finding, lines
from blankcheck.report.page import write_report
from blankcheck.runs.blend_record import IMAGES, MOST_EXAMPLES, RECORD, SCHEMA, read_blends
from blankcheck.runs.claims import held
from blankcheck.runs.contents import read_run
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.witnesses import TOLERANCE, Stored, unpack
from blankcheck.types import count_lit

PER_PAIR, ABOUT = 20, 2000
"""Pairs of images for two classes, and about how many in all where that would be more."""
MOST_CLASSES = 100
MOST_REAL, MOST_NUMBERS = 5000, 200_000_000
"""Validation images that are looked at, and images x features."""
Ask = Callable[[Tensor], Tensor]
"""From images to the probabilities of their classes."""


def blend_command(settings: BlendSettings, terminal: Terminal) -> int:
    """Blend, write `blend.json` and `blend.safetensors` into the run folder, draw its report."""
    alphas = parse_alphas(settings.alphas)
    if settings.per_pair is not None and settings.per_pair < 1:
        raise ArgumentError(f"per_pair must be at least 1, got {settings.per_pair}")
    device = resolve(settings.device)
    run = RunFolder.open(settings.run)
    with held(run):
        record, images = _blend(settings, alphas, device, run, terminal)
        run.write(IMAGES, pack(images))
        run.write_json(RECORD, record)
        blends = read_blends(run)
        assert blends is not None, "it was just written"
        report = str(write_report(run))
    said = [finding(blends), *lines(blends)]
    terminal.result("BLENDED", said, report, {**record, "report": report})
    return 0


def parse_alphas(text: str) -> tuple[float, ...]:
    """The numbers of a text in order, each once; ArgumentError unless each lies in (0, 1]."""
    try:
        alphas = [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        form = "numbers in (0, 1] separated by commas"
        raise ArgumentError(f"alphas must be {form}, got {text!r}") from error
    for alpha in alphas:
        if not 0 < alpha <= 1:
            raise ArgumentError(f"alphas must lie in (0, 1], got {alpha:g}")
    if not alphas:
        raise ArgumentError("alphas must name at least one share")
    return tuple(sorted(set(alphas)))


def _blend(
    settings: BlendSettings,
    alphas: tuple[float, ...],
    device: torch.device,
    run: RunFolder,
    terminal: Terminal,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The record and the images of its examples."""
    confidence, stored = _audited(run)
    data, classifier = _subject(settings, run, device)
    form = check_fits(classifier, data)

    def ask(images: Tensor) -> Tensor:
        with left_as_found(classifier):
            return probabilities(classifier, images, form)

    looked_at, sure = _real(ask, data, confidence, settings.seed)
    real, fooling = map(_fewer_classes, (sure, _fooling(ask, data, stored, run, confidence)))
    many = ABOUT // (len(real.present) * len(fooling.present))
    per_pair = settings.per_pair or max(1, min(PER_PAIR, many))
    pairs = blending.choose_pairs(real, fooling, per_pair, settings.seed)
    rows, columns = real.classes[pairs.real], fooling.classes[pairs.fooling]
    met = f"{len(real)} validation images and {len(fooling)} fooling images"
    terminal.note(f"{len(rows)} pairs of {met}; device {device}")
    subject = (classifier, form, real, fooling, pairs, alphas, confidence)
    with terminal.progress() as bar:
        made = blending.blend(*subject, lambda done, total: bar("blend", done, total, ""))
    examples, images = _examples(ask, real, fooling, pairs, made[FOOLING])
    return {
        "schema": SCHEMA,
        "seed": settings.seed,
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


def _subject(
    settings: BlendSettings, run: RunFolder, device: torch.device
) -> tuple[Data, UnitClassifier]:
    config = run.read_config()
    data = data_again(config, settings.data, settings.data_dir)
    if data is None:
        what = f"the data set of run folder {run.path}"
        raise DataError(f"{what} is not at hand; name it with --data")
    choose_threads(data.shape)
    named = (settings.model, settings.weights, settings.normalize, settings.unsafe_pickle)
    return data, model_again(run, config, data, *named).to(device)


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
