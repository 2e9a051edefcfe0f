"""What benchmarks/hardening.py measures of one trained network.

A library; everything is a plain dictionary for JSON.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from ood import archive
from sklearn.metrics import roc_auc_score
from torch import Tensor

import blankcheck as bc
from blankcheck.api.third_party import ATTACKS
from blankcheck.auditing import Job, level_of, ood_test, run_attempts, within
from blankcheck.auditing.third_party import (
    ThirdPartyAttack,
    ThirdPartyResult,
    available,
    run_third_party,
)
from blankcheck.classifiers import UnitClassifier, probabilities
from blankcheck.classifiers.wrapper import left_as_found
from blankcheck.data.arrays import as_unit_images
from blankcheck.figures import style
from blankcheck.fooling import Goal, Problem, RandomSearch, search
from blankcheck.hardening.measures import real_record
from blankcheck.judging import ODD, upper_bound_95
from blankcheck.judging.metrics import lit_thresholds
from blankcheck.report.charts.images import show_image
from blankcheck.types import NEVER, count_lit, default_max_lit, stored

LOW_LIT_STEPS = 200
"""Backward passes of an attempt to be confident with few lit features."""
UNSEEN = (
    "sigma-zero (adversarial-library)",
    "FMN-L0 (adversarial-library)",
    "FMN-L0 (Foolbox)",
    "saliency map (ART)",
)
"""Rivals that no training here uses.

They start from black and draw nothing at random, so each runs once per class.
"""
ON_A_SHEET = 50
SPARSE_RS_FORWARDS = 1000
SPARSE_RS_SHARES = (1 / 15, 0.6)
"""Lit features that Sparse-RS begins with, as shares of the most allowed: 20 and 180 of 300."""
SPARSE_RS_SEEDS = 3
GREY = ("mnist", "fashion-mnist")

loaded = cache(bc.load_data)


@cache
def judge(name: str) -> bc.OODTest:
    """The test that audits on this data are judged by."""
    data = loaded(name)
    return ood_test(data, level_of(data))


def real_figures(model: UnitClassifier, data: bc.Data) -> dict[str, float]:
    """How the network does on real test images; shares in [0, 1]."""
    images, labels = data.test.images, data.test.labels
    said = real_record(model, images, labels, len(data.classes), bc.Conditions().confidence)
    return {
        name: said[name]
        for name in ("accuracy", "confident", "taken_for_fake", "calibration_error")
    }


def audit_figures(
    model: UnitClassifier, data: bc.Data, preset: str, seed: int, sheet: Path
) -> dict[str, Any]:
    """What a report quotes of one audit. sheet: where pictures of its witnesses go, without
    suffix."""
    audit = bc.audit(model, data, preset, seed)
    said = audit.json
    draw_witnesses(audit.witnesses, data.classes, sheet)
    sparse = said["sparse_confident"]
    level, share = next(iter(sparse["at_most"].items()))
    return {
        **{
            name: said[name]
            for name in (
                "verdict",
                "attempts",
                "fooled",
                "rate",
                "rate_upper_95",
                "median_lit",
                "min_lit",
            )
        },
        "sparse_confident": {
            "rate": sparse["fooled"] / said["attempts"],
            "min_lit": sparse["min_lit"],
        },
        "few_lit": {"limit": int(level), "share": share},
        **{name: said[name] for name in ("second_opinion", "odd_in_any_way", "by_level")},
        "ood_level": said["conditions"]["ood_level"],
        "failed_checks": [check["code"] for check in said["checks"] if check["status"] == "failed"],
        "extra_fooled": said["extra"]["fooled"],
        "seconds": said["cost"]["seconds"],
    }


def odd_figures(model: UnitClassifier, data: bc.Data, seed: int, sheet: Path) -> dict[str, Any]:
    """The same where the third condition asks for anything odd, at 0.01, as it did before it asked
    for shape: a contact sheet to compare with."""
    audit = bc.audit(model, data, "smoke", seed, ood_level=0.01, scores=ODD)
    draw_witnesses(audit.witnesses, data.classes, sheet.with_name(f"{sheet.name}-odd"))
    return {name: audit.json[name] for name in ("verdict", "attempts", "fooled", "median_lit")}


def draw_witnesses(found: dict[str, Tensor], classes: Sequence[str], sheet: Path) -> None:
    """At most `ON_A_SHEET` random witnesses, of attempts and controls, as a PNG image: for a person
    to read the target class in, or not."""
    count = len(found["targets"])
    chosen = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:ON_A_SHEET]
    if not len(chosen):
        sheet.with_suffix(".png").unlink(missing_ok=True)
        return
    rows = math.ceil(len(chosen) / 10)
    figure = style.blank(1.25 * rows, 10)
    for row, axes in enumerate(figure.subplots(rows, 10, squeeze=False).flat):
        axes.set_axis_off()
        if row < len(chosen):
            at = int(chosen[row])
            words = f"{classes[int(found['targets'][at])]}: {int(found['lit'][at])} lit"
            axes.set_title(words, fontsize=7)
            show_image(axes, found["images"][at])
    sheet.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(sheet.with_suffix(".png"), dpi=100)


def few_lit_figures(
    model: UnitClassifier, data: bc.Data, attempts: int, seed: int
) -> dict[str, Any]:
    """How many of `attempts`, from all starts, end with a confident image of few lit features,
    real-looking or not.

    Few is the first level that audits quote (33 of 784: no real digit has fewer). upper_95:
    one-sided, Clopper-Pearson.
    """
    limit = lit_thresholds(default_max_lit(data.shape))[0]
    job = Job(
        model,
        "logits",
        data.shape,
        bc.Conditions(max_lit=limit),
        within(LOW_LIT_STEPS),
        stop_at_lit=limit,
        real=(data.validation.images, data.validation.labels),
        seed=seed + 104_729,
    )
    began = time.monotonic()
    with left_as_found(model):
        best = run_attempts(job, [i % len(data.classes) for i in range(attempts)]).best
    found, fewest = int((best.fewest <= limit).sum()), int(best.fewest.min())
    return {
        "limit": limit,
        "attempts": attempts,
        "found": found,
        "upper_95": upper_bound_95(found, attempts),
        "fewest": None if fewest >= NEVER else fewest,
        "seconds": time.monotonic() - began,
    }


def rival_figures(model: UnitClassifier, data: bc.Data, seed: int) -> dict[str, Any]:
    """What searches that hardening has never seen find from black, for every class; missing:
    libraries not installed. Searches that the library broke off are no tries."""
    usable, lacking = available([r for r in ATTACKS if r.name in UNSEEN])
    targets = torch.arange(len(data.classes))
    black = torch.zeros(len(targets), *data.shape)
    with left_as_found(model):
        found: dict[str, Any] = {}
        for rival in usable:
            parts = one_rival(rival, model, black, targets, seed)
            whole = [part for part in parts if not part.error]
            errors = [part.error for part in parts if part.error]
            images = torch.cat([black[:0], *(part.images for part in whole)])
            made = judged(
                model, data, images, torch.cat([targets[:0], *(part.targets for part in whole)])
            )
            found[rival.name] = made | {
                "broke_off": len(errors),
                "error": errors[0] if errors else "",
            }
        found |= sparse_rs(model, data, seed)
    return {"found": found, "missing": sorted(lacking)}


def one_rival(
    rival: ThirdPartyAttack, model: UnitClassifier, black: Tensor, targets: Tensor, seed: int
) -> list[ThirdPartyResult]:
    """All classes at once; one by one where that breaks off, as Foolbox's FMN does for want of a
    single class."""
    asked = bc.Conditions().confidence
    whole = run_third_party(rival, model, "logits", black, targets, asked, seed)
    if not whole.error:
        return [whole]
    return [
        run_third_party(rival, model, "logits", black[i : i + 1], targets[i : i + 1], asked, seed)
        for i in range(len(black))
    ]


def judged(model: UnitClassifier, data: bc.Data, images: Tensor, targets: Tensor) -> dict[str, Any]:
    """Of images (n, c, h, w) made for targets (n,), put into stored form: how many are confident
    and sparse, and how many of those are out of distribution, too."""
    if len(images) == 0:
        return {"tries": 0, "fooled": 0, "sparse_confident": 0, "fewest_lit": None}
    want, images = bc.Conditions(max_lit=default_max_lit(data.shape)), stored(images)
    sure = probabilities(model, images).gather(1, targets[:, None]).squeeze(1) >= want.confidence
    lit = count_lit(images)
    sparse = sure & (lit <= want.max_lit)
    fooled = sparse & judge(data.source).accepts(images)
    return {
        "tries": len(images),
        "fooled": int(fooled.sum()),
        "sparse_confident": int(sparse.sum()),
        "fewest_lit": int(lit[sure].min()) if bool(sure.any()) else None,
    }


def sparse_rs(model: UnitClassifier, data: bc.Data, seed: int) -> dict[str, Any]:
    """Random search for sparse images (Croce et al. 2022, arXiv:2006.12834), our own
    `RandomSearch`, from black.

    It is told all three conditions and goes on until they are met or its forward passes are spent.
    """
    limit = default_max_lit(data.shape)
    targets = torch.arange(len(data.classes)).repeat(SPARSE_RS_SEEDS)
    keys = torch.randint(2**62, (len(targets),), generator=torch.Generator().manual_seed(seed))
    goal = Goal(bc.Conditions().confidence, limit, accept=judge(data.source).accepts)
    found = {}
    for share in SPARSE_RS_SHARES:
        k = max(1, round(share * limit))
        made = search(
            Problem(model, "logits", targets),
            torch.zeros(len(targets), *data.shape),
            RandomSearch(features=k),
            goal,
            SPARSE_RS_FORWARDS,
            keys,
            forwards=SPARSE_RS_FORWARDS,
        )
        found[f"Sparse-RS (ours), k = {k}"] = judged(model, data, made.images, made.targets) | {
            "broke_off": 0,
            "error": "",
        }
    return found


def auroc_figures(model: UnitClassifier, data: bc.Data) -> dict[str, float]:
    """For each other set: the area under the curve by which the largest probability of a real
    class, among all outputs, tells real test images from it."""

    def sure(images: Tensor) -> Tensor:
        return probabilities(model, images)[:, : len(data.classes)].amax(dim=1)

    with left_as_found(model):
        real = sure(data.test.images)
        areas = {}
        for name, images in other_sets(data).items():
            scores = torch.cat([real, sure(images)])
            areas[name] = float(roc_auc_score(torch.arange(len(scores)) < len(real), scores))
    return areas


def other_sets(data: bc.Data) -> dict[str, Tensor]:
    """Whole sets of other images (n, c, h, w) of the same shape; those of $BLANKCHECK_DATA/ood
    where they are found."""
    if data.source == "cifar10":
        stored_sets = {"CIFAR-100": ("cifar100_test", "x")}
    elif data.source in GREY:
        stored_sets = {"notMNIST": ("notmnist", "x"), "Omniglot": ("omniglot_small", "x28")}
    else:
        return {}
    made = {
        name: loaded(name).test.images
        for name in GREY
        if data.source in GREY and name != data.source
    }
    for name, (file, array) in stored_sets.items():
        if found := archive(file):
            made[name] = as_unit_images(name, found[array])
    return made
