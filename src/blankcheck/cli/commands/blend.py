"""`blankcheck blend`: fooling images of a run folder, added to real ones a little at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from blankcheck.api.audit import WITNESSES
from blankcheck.api.reopen import data_again, model_again
from blankcheck.auditing import check_fits
from blankcheck.blending.blending import (
    FOOLING,
    KINDS,
    Blended,
    Pairs,
    Pool,
    blend,
    blend_images,
    check_alphas,
    choose_pairs,
)
from blankcheck.blending.table import examples, tabulate
from blankcheck.classifiers import UnitClassifier, probabilities
from blankcheck.classifiers.wrapper import fingerprint, left_as_found
from blankcheck.cli.settings import BlendSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data, Split
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
from blankcheck.types import Conditions, Images, count_lit

PER_PAIR, ABOUT = 20, 2000
"""Pairs of images for two classes, and about how many in all where that would be more."""
MOST_CLASSES = 100
MOST_REAL, MOST_NUMBERS = 5000, 200_000_000
"""Validation images that are looked at, and images x features."""


def blend_command(settings: BlendSettings, terminal: Terminal) -> int:
    """Blend; writes `blend.json` and `blend.safetensors` into the run folder, and draws its report
    again."""
    alphas = parse_alphas(settings.alphas)
    if settings.per_pair is not None and settings.per_pair < 1:
        raise ArgumentError(f"per_pair must be at least 1, got {settings.per_pair}")
    device = resolve(settings.device)
    run = RunFolder.open(settings.run)
    with held(run):
        return _blend(settings, alphas, device, run, terminal)


def _blend(
    settings: BlendSettings,
    alphas: Sequence[float],
    device: torch.device,
    run: RunFolder,
    terminal: Terminal,
) -> int:
    want, stored = _audited(run)
    config = run.read_config()
    data = data_again(config, settings.data, settings.data_dir)
    if data is None:
        raise DataError(
            f"the data set of run folder {run.path} is not at hand; name it with --data"
        )
    choose_threads(data.shape)
    named = (settings.model, settings.weights, settings.normalize, settings.unsafe_pickle)
    classifier = model_again(run, config, data, *named).to(device)
    form = check_fits(classifier, data)
    # a sample of the validation images where there are very many
    looked_at = data.validation.sample(
        max(1, min(MOST_REAL, MOST_NUMBERS // math.prod(data.shape))), settings.seed
    )
    sure = _real(classifier, form, looked_at, want)
    real, fooling = (
        _fewer_classes(sure),
        _fewer_classes(_fooling(classifier, form, data, want, stored, run)),
    )
    per_pair = settings.per_pair or _per_pair(real, fooling)
    pairs = choose_pairs(real, fooling, per_pair, settings.seed)
    terminal.note(
        f"{len(pairs)} pairs of {len(real)} validation images and {len(fooling)} fooling images; device {device}"
    )
    with terminal.progress() as bar:
        made = blend(
            classifier,
            form,
            real,
            fooling,
            pairs,
            alphas,
            want.confidence,
            lambda done, total: bar("blend", done, total, ""),
        )
    said, images = _examples(classifier, form, real, fooling, pairs, made[FOOLING])
    record = {
        "schema": SCHEMA,
        "seed": settings.seed,
        "confidence": want.confidence,
        "alphas": list(alphas),
        "per_pair": per_pair,
        "same_network": stored.metadata.get("fingerprint") == fingerprint(classifier),
        "classes": list(data.classes),
        "real": {"split": "validation", "images": len(looked_at), "confident": len(sure)},
        "witnesses": {"stored": len(stored), "used": len(fooling)},
        "median_lit": median(count_lit(fooling.images).tolist()),
        **_tables(real, fooling, pairs, made),
        "examples": said,
    }
    return _finish(run, record, images, terminal)


def _audited(run: RunFolder) -> tuple[Conditions, Stored]:
    """The conditions and the fooling images of a run folder, all of which must be whole: its report
    is drawn at the end."""
    verdict = read_run(run, blends=False).verdict
    if verdict is None:
        raise RunFolderError(
            f"run folder {run.path} has no verdict.json, so it has no fooling images to blend"
        )
    stored = unpack(run.read_bytes(WITNESSES), str(run / WITNESSES))
    if not len(stored):
        raise RunFolderError(
            f"run folder {run.path} holds no fooling image, so there is nothing to blend"
        )
    asked = verdict["conditions"]
    return Conditions(
        asked["confidence"], asked["max_lit"], asked["ood_level"], asked["unit"]
    ), stored


def parse_alphas(text: str) -> tuple[float, ...]:
    """Numbers in (0, 1] separated by commas; ArgumentError for anything else."""
    try:
        return check_alphas([float(part) for part in text.split(",") if part.strip()])
    except ValueError as error:
        raise ArgumentError(
            f"alphas must be numbers in (0, 1] separated by commas, got {text!r}"
        ) from error


def _real(classifier: UnitClassifier, form: str, looked_at: Split, want: Conditions) -> Pool:
    """Validation images that are right with the asked confidence.

    Test images are read once, by the audit.
    """
    images, labels = looked_at.loaded(), looked_at.labels
    sure = _confident(classifier, form, images, labels, want.confidence)
    if not bool(sure.any()):
        raise DataError(
            f"no validation image is right with a confidence of {want.confidence:g}: nothing to blend into"
        )
    return Pool(images[sure], labels[sure])


def _fooling(
    classifier: UnitClassifier,
    form: str,
    data: Data,
    want: Conditions,
    stored: Stored,
    run: RunFolder,
) -> Pool:
    """The witnesses that this network is sure of, none twice."""
    images, targets = stored.tensors["images"].float(), stored.tensors["targets"].long()
    if tuple(images.shape[1:]) != data.shape:
        raise DataError(
            f"run folder {run.path} holds images of shape {tuple(images.shape[1:])}, data has {data.shape}"
        )
    if not bool(((targets >= 0) & (targets < len(data.classes))).all()):
        raise RunFolderError(f"{run / WITNESSES}: targets must lie in 0..{len(data.classes) - 1}")
    sure = _confident(classifier, form, images, targets, want.confidence - TOLERANCE)
    first: dict[tuple[int, bytes], int] = {}
    for i, image in enumerate(images):
        first.setdefault((int(targets[i]), image.numpy().tobytes()), i)
    kept = torch.tensor([i for i in first.values() if sure[i]], dtype=torch.int64)
    if not len(kept):
        raise RunFolderError(
            f"none of the {len(stored)} fooling images of run folder {run.path} fools this network"
        )
    return Pool(images[kept], targets[kept])


def _confident(
    classifier: UnitClassifier, form: str, images: Images, classes: Tensor, least: float
) -> Tensor:
    """(n,) bool: the class of each image has at least this probability."""
    with left_as_found(classifier):
        return (
            probabilities(classifier, images, form).gather(1, classes[:, None]).squeeze(1) >= least
        )


def _fewer_classes(pool: Pool) -> Pool:
    """Of very many classes those with most images, so that a table stays a table."""
    kept = sorted(pool.present, key=lambda target: -len(pool.of(target)))[:MOST_CLASSES]
    rows = torch.isin(pool.classes, torch.tensor(kept))
    return Pool(pool.images[rows], pool.classes[rows])


def _per_pair(real: Pool, fooling: Pool) -> int:
    return max(1, min(PER_PAIR, ABOUT // (len(real.present) * len(fooling.present))))


def _tables(real: Pool, fooling: Pool, pairs: Pairs, made: dict[str, Blended]) -> dict[str, Any]:
    rows, columns = real.classes[pairs.real], fooling.classes[pairs.fooling]
    classes = sorted(set(rows.tolist())), sorted(set(columns.tolist()))
    kinds = {kind: tabulate(made[kind], rows, columns, classes) for kind in KINDS}
    return {"rows": classes[0], "columns": classes[1], "kinds": kinds}


def _examples(
    classifier: UnitClassifier, form: str, real: Pool, fooling: Pool, pairs: Pairs, made: Blended
) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """What to show, and its images: those taken at the smallest alpha."""
    rows, columns = real.classes[pairs.real], fooling.classes[pairs.fooling]
    shown = examples(made, rows, columns, MOST_EXAMPLES)
    at = torch.tensor(shown, dtype=torch.int64)
    q, r, alphas = real.images[pairs.real[at]], fooling.images[pairs.fooling[at]], made.smallest[at]
    said = []
    if shown:
        with left_as_found(classifier):
            p = probabilities(classifier, blend_images(q, r, alphas.float()), form)
        said = [
            {
                "row": int(rows[i]),
                "column": int(columns[i]),
                "alpha": round(float(alphas[k]), 4),
                "confidence": float(p[k, columns[i]]),
            }
            for k, i in enumerate(shown)
        ]
    return said, {"real": q.contiguous(), "fooling": r.contiguous()}


def _finish(
    run: RunFolder, record: dict[str, Any], images: dict[str, Tensor], terminal: Terminal
) -> int:
    run.write(IMAGES, pack(images))
    run.write_json(RECORD, record)
    blends = read_blends(run)
    assert blends is not None, "it was just written"
    report = str(write_report(run))
    terminal.result(
        "BLENDED", [finding(blends), *lines(blends)], report, {**record, "report": report}
    )
    return 0
