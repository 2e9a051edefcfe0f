"""What is logged while a network is hardened: arithmetic on probabilities, in all and per class.

`docs/metrics.md` lists the records and their fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from blankcheck.classifiers import UnitClassifier, probabilities
from blankcheck.classifiers.wrapper import left_as_found
from blankcheck.hardening.objectives import Objective
from blankcheck.judging import calibration_error
from blankcheck.types import Conditions, Fooling, Images, Rows

QUANTILES = (0.1, 0.5, 0.9)
TINY = 1e-12
Values = Mapping[str, Tensor]


@dataclass(frozen=True)
class FoolingSet(Rows):
    """Images that were searched.

    Args:
        images: (n, c, h, w).
        targets: (n,).
        counts: which are sparse and out of distribution, (n,) bool; no answer to others is wrong.
    """

    images: Tensor
    targets: Tensor
    counts: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def state(self) -> list[Tensor]:
        """Its tensors."""
        return [self.images, self.targets, self.counts]


def per_class(
    measure: Callable[[Values], dict[str, Any]], rows: Values, classes: Tensor, count: int
) -> dict[str, Any]:
    """`measure` of all rows, and under `per_class` of those of each class (n,) that has any."""
    those = {k: classes == k for k in range(count) if bool((classes == k).any())}
    parts = {k: {name: values[mine] for name, values in rows.items()} for k, mine in those.items()}
    return {**measure(rows), "per_class": {str(k): measure(part) for k, part in parts.items()}}


def quantiles(values: Tensor) -> dict[str, float] | None:
    """Mean and the quantiles 0.1, 0.5, 0.9 of (n,) numbers; None of nothing."""
    if len(values) == 0:
        return None
    numbers = values.double()
    spread = {f"q{round(100 * q)}": float(numbers.quantile(q)) for q in QUANTILES}
    return {"mean": float(numbers.mean()), **spread}


def answers(
    p: Tensor, targets: Tensor, objective: Objective, classes: int, confidence: float
) -> dict[str, Tensor]:
    """What probabilities (n, m) say of fooling images of these targets, one value an image, (n,)
    each.

    confident: in any real class. confidence: probability of the target, and loss: -log of it.
    entropy: of all outputs, nats. Where the objective has fake outputs, fake_probability and
    fake_loss of the right one, right_fake: whether it is the answer, non_real: whether any output
    beyond the real classes is.
    """
    own = p.gather(1, targets[:, None]).squeeze(1)
    said = {
        "confident": (p[:, :classes].amax(dim=1) >= confidence).float(),
        "confidence": own,
        "loss": -own.clamp_min(TINY).log(),
        "entropy": -(p * p.clamp_min(TINY).log()).sum(dim=1),
    }
    if objective.fake is not None:
        wanted, answer = objective.fake(targets, classes), p.argmax(dim=1)
        fake = p.gather(1, wanted[:, None]).squeeze(1)
        said |= {
            "fake_probability": fake,
            "fake_loss": -fake.clamp_min(TINY).log(),
            "right_fake": (answer == wanted).float(),
            "non_real": (answer >= classes).float(),
        }
    return said


def set_record(
    classifier: UnitClassifier, shown: FoolingSet, goal: Objective, classes: int, confidence: float
) -> dict[str, Any]:
    """How the classifier answers the images of a set.

    fooled: the share that meets all three conditions in any real class. handled: the accuracy
    A_adv, the share that does not count, or is answered as it should be: with any output beyond the
    real classes, or, under maximum entropy, without confidence in a real class.
    """
    with left_as_found(classifier):
        p = probabilities(classifier, shown.images)
    said = answers(p, shown.targets, goal, classes, confidence)
    said["fooled"] = said["confident"] * shown.counts
    right = said["non_real"] if "non_real" in said else 1 - said["confident"]
    said["handled"] = torch.maximum(right, (~shown.counts).float())
    return per_class(_means, said, shown.targets, classes)


def _means(rows: Values) -> dict[str, Any]:
    n = len(next(iter(rows.values())))
    means = {name: float(values.mean()) if n else None for name, values in rows.items()}
    return {"images": n, **means}


def search_record(
    found: Fooling, p_values: Tensor, want: Conditions, classes: int
) -> dict[str, Any]:
    """How a search went, (0) and (1) of the catalogue: success, and mean and quantiles of
    confidence, steps, and the lit features and p-values (n,) of confident images."""
    rows = {
        "success": found.met.float(),
        "sparse_confident": (found.fewest <= want.max_lit).float(),
        "confidence": found.confidence,
        "lit": found.lit.float(),
        "steps": found.steps.float(),
        "p": p_values,
    }

    def measure(part: Values) -> dict[str, Any]:
        sure = part["confidence"] >= want.confidence
        outside = (part["p"][sure] <= want.ood_level).float()
        return {
            "attempts": len(sure),
            "success": float(part["success"].mean()),
            "sparse_confident": float(part["sparse_confident"].mean()),
            "confidence": quantiles(part["confidence"]),
            "lit": quantiles(part["lit"][sure]),
            "steps": quantiles(part["steps"]),
            "ood_p": quantiles(part["p"][sure]),
            "out_of_distribution": float(outside.mean()) if len(outside) else None,
        }

    return per_class(measure, rows, found.targets, classes)


def real_record(
    classifier: UnitClassifier, images: Images, labels: Tensor, classes: int, confidence: float
) -> dict[str, Any]:
    """How the classifier does on real images, (10) of the catalogue."""
    with left_as_found(classifier):
        p = probabilities(classifier, images)
    top, answer = p.max(dim=1)
    own = p.gather(1, labels[:, None]).squeeze(1)
    rows = {
        "accuracy": (answer == labels).float(),
        "confident": ((answer == labels) & (top >= confidence)).float(),
        "taken_for_fake": (answer >= classes).float(),
        "loss": -own.clamp_min(TINY).log(),
        "probability": own,
        "top": top,
    }

    def measure(part: Values) -> dict[str, Any]:
        error = calibration_error(part["top"].tolist(), part["accuracy"].tolist())
        means = _means({name: values for name, values in part.items() if name != "top"})
        return {**means, "calibration_error": error}

    return per_class(measure, rows, labels, classes)
