"""Plain numbers of a network, and of how it answers in each form of the images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from blankcheck.diagnosing.choosing import MOST_NUMBERS, Choice, Examined


@dataclass(frozen=True)
class Facts:
    """Plain numbers; what hangs on answers is None where the network has no usable ones.

    Args:
        shape: (channels, height, width).
        value_range: of the images looked at.
        classes: of the data.
        parameters: how many.
        parameter_bytes: what they take.
        device: where the network is.
        images: validation images that the accuracies are shares of.
    """

    shape: tuple[int, int, int]
    value_range: tuple[float, float]
    classes: int
    parameters: int
    parameter_bytes: int
    device: str
    images: int
    outputs: int | None = None
    output_form: str | None = None
    accuracy: float | None = None
    accuracy_lower_95: float | None = None
    accuracy_upper_95: float | None = None
    chance: float | None = None
    nearest_mean_accuracy: float | None = None
    temperature: float | None = None
    forward_ms: float | None = None
    gradient_ms: float | None = None
    activation_bytes: int | None = None


def facts_of(asked: Examined) -> Facts:
    """What is known before anything is asked."""
    parameters = list(asked.module.parameters()) if asked.module is not None else []
    split = asked.data.validation.sample(asked.images, asked.seed)
    some = split.at_most(MOST_NUMBERS).loaded()
    count = sum(p.numel() for p in parameters)
    size = sum(p.numel() * p.element_size() for p in parameters)
    values, shape = (float(some.min()), float(some.max())), asked.data.shape
    return Facts(shape, values, asked.classes, count, size, str(asked.device), len(some))


def measured(choice: Choice) -> dict[str, Any]:
    """The facts that hang on the chosen form."""
    best, measure = choice.best, choice.measure
    return best.numbers | {
        "images": len(choice.labels),
        "outputs": best.outputs.shape[1],
        "output_form": best.kind,
        "chance": measure.chance,
        "nearest_mean_accuracy": measure.centroid,
    }


def rows(choice: Choice) -> Iterator[dict[str, Any]]:
    """How each form that was compared to the end did."""
    equal = {id(s) for s in choice.equals}
    for s in choice.scored:
        yield {
            "form": s.form.words,
            "normalize": s.form.option,
            "line": s.form.arrangement.hook,
            **s.numbers,
            "loss": s.mean_loss if s.mean_loss < float("inf") else None,
            "as_good_as_the_likeliest": id(s) in equal,
            "used": s is choice.best,
        }
