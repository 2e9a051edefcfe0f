"""`fool`: fooling images of one classifier, without judging it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from blankcheck.api.bars import told
from blankcheck.arguments import plain_arguments
from blankcheck.auditing.attack_run import Job
from blankcheck.auditing.attempts import Note, run_attempts, told_as
from blankcheck.auditing.portfolio import ATTACKS, BEST, Attack, always, reserve, within
from blankcheck.classifiers.trial import check_classifier, other_images
from blankcheck.classifiers.wrapper import device_of, left_as_found
from blankcheck.data import check_data
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.fooling import MAX_STEPS, NEED_REAL, STARTS, UNTIL, ProximalMomentum, TabuSearch
from blankcheck.fooling.masks import KINDS
from blankcheck.fooling.starts import Real
from blankcheck.outputs import output_form, run
from blankcheck.seeds import check_seed
from blankcheck.text import one_line
from blankcheck.types import Accept, Classifier, Conditions, Fooling, default_max_lit

if TYPE_CHECKING:
    from blankcheck.data import Data

PROBE_IMAGES = 32
GIVEN = "given"
"""The start of attacks that begin with images of the caller's."""


# the arguments are what a script may choose of a search
@plain_arguments
def fool(
    model: Classifier,
    targets: Iterable[int],
    per_target: int,
    *,
    shape: Sequence[int] | None = None,
    data: Data | None = None,
    start: str | Tensor = "auto",
    steps: int = 1000,
    until: str = "met",
    confidence: float = 0.9,
    max_lit: int | None = None,
    mask: Tensor | str | None = None,
    seed: int = 0,
    accept: Accept | None = None,
    progress: bool | None = None,
    note: Note | None = None,
) -> Fooling:
    """Search for sparse images of each target class that the model is sure about.

    Attempts that would end with the lit features of another one look for others.

    Args:
        model: any callable from images (n, c, h, w) in [0, 1] to logits, log-probabilities or
            probabilities (n, m). It is left as it was found.
        targets: classes, in 0..m-1.
        per_target: attempts for each.
        shape: (c, h, w), where `data` does not give it.
        data: real images for the starts that need them.
        start: `auto` (the whole portfolio), the name of a start, or images (n, c, h, w) for all n =
            len(targets) * per_target attempts, target by target.
        steps: most backward passes per image, 1..10,000; forward passes stay within three times
            that.
        until: `met` ends an image as soon as it has the confidence with at most `max_lit` lit
            features and is accepted; `sparsest` spends the budget on fewer.
        confidence: least probability of the target, in (0, 1).
        max_lit: most lit features; None: 300, less for small images.
        mask: features that may be lit, bool, broadcast to (n, c, h, w), or a kind of random mask
            (`pixels`, `blocks`, `half-planes`; with `:features` added one for each channel) that
            keeps 50 to 100 % of them, drawn for each image.
        seed: of all random numbers.
        accept: a further condition, from images to booleans.
        progress: show a bar; None where a terminal or a notebook shows it.
        note: told in its place how far the search is, as note(stage, done, all, words).

    Returns:
        One row per attempt, target by target; `outcome` says which met the goal.

    Raises:
        ArgumentError: an argument is out of its range.
    """
    check_classifier(model)
    try:
        wanted = [int(t) for t in targets]
    except (TypeError, ValueError) as error:
        words = "targets must be whole numbers, one a class, as range(10)"
        raise ArgumentError(f"{words}, got {one_line(targets, 40)}") from error
    if data is not None:
        check_data(data)
    image_shape = _shape(shape, data)
    limit = max_lit if max_lit is not None else default_max_lit(image_shape)
    conditions = Conditions(confidence, limit)
    check_seed(seed)
    _check(wanted, per_target, steps, until)
    device, n, at_once = device_of(model), len(wanted) * per_target, until == "met"
    real = (data.validation.images, data.validation.labels) if data is not None else None
    with left_as_found(model, seed):
        probe = _probe(image_shape, data, seed).to(device)
        form, outputs = _form(model, probe), run(model, probe[:2]).shape[1]
        low, high = min(wanted), max(wanted)
        if low < 0 or high >= outputs:
            raise ArgumentError(f"targets must lie in 0..{outputs - 1}, got {low}..{high}")
        attacks = _attacks(start, steps - reserve(steps), real, (n, *image_shape))
        job = Job(
            model,
            form,
            image_shape,
            conditions,
            attacks,
            stop_at_lit=conditions.max_lit if at_once else 0,
            more=0 if at_once else len(attacks),
            budget=steps,
            real=real,
            accept=accept,
            starts={GIVEN: start.detach().cpu().float()} if isinstance(start, Tensor) else None,
            mask=_mask(mask, (n, *image_shape)),
            seed=seed,
            device=device,
        )
        with told(note, progress) as tell:
            asked = [t for t in wanted for _ in range(per_target)]
            return run_attempts(job, asked, told_as(tell)).best


def _form(model: Classifier, probe: Tensor) -> str:
    try:
        return output_form(model, probe)
    except ModelError as error:
        raise ModelError(f"{error}{other_images(model, probe)}") from error


def _shape(shape: Sequence[int] | None, data: Data | None) -> tuple[int, int, int]:
    if shape is None:
        if data is None:
            raise ArgumentError("fool needs shape=(channels, height, width) or data=")
        return data.shape
    if len(shape) != 3 or min(shape) < 1:
        raise ArgumentError(f"shape must be (channels, height, width), got {tuple(shape)}")
    if data is not None and data.shape != tuple(shape):
        raise ArgumentError(f"shape {tuple(shape)} is not that of data, {data.shape}")
    c, h, w = shape
    return int(c), int(h), int(w)


def _check(targets: list[int], per_target: int, steps: int, until: str) -> None:
    if not targets:
        raise ArgumentError("targets must name at least one class, got none")
    if per_target < 1:
        raise ArgumentError(f"per_target must be at least 1, got {per_target}")
    if not 1 <= steps <= MAX_STEPS:
        raise ArgumentError(f"steps must lie in 1..{MAX_STEPS}, got {steps}")
    if until not in UNTIL:
        raise ArgumentError(f"until must be one of {', '.join(UNTIL)}, got {until!r}")


def _probe(shape: tuple[int, int, int], data: Data | None, seed: int) -> Tensor:
    if data is not None:
        return data.validation.images[:PROBE_IMAGES].clone()  # a network may write into it
    return torch.rand(PROBE_IMAGES, *shape, generator=torch.Generator().manual_seed(seed))


def _attacks(
    start: str | Tensor, steps: int, real: Real | None, shape: tuple[int, ...]
) -> tuple[Attack, ...]:
    """shape: (n, c, h, w) of the start images of all attempts."""
    if isinstance(start, Tensor):
        if tuple(start.shape) != shape:
            raise ArgumentError(f"start must be {shape}, got {tuple(start.shape)}")
        return _descent_and_exchange(GIVEN, steps)
    if start == "auto":
        return within(steps, tuple(a for a in ATTACKS if real or a.start not in NEED_REAL))
    if start not in STARTS:
        names = ", ".join(STARTS)
        raise ArgumentError(f"start must be auto, images, or one of {names}, got {start!r}")
    if start in NEED_REAL and real is None:
        raise ArgumentError(f"start {start!r} needs data=")
    if start == "black":
        return (replace(ATTACKS[0], steps=steps),)
    return _descent_and_exchange(start, steps)


def _descent_and_exchange(start: str, steps: int) -> tuple[Attack, ...]:
    """The adaptive weight from this start, and a third of the budget to make it sparser."""
    later = steps // 3
    first = Attack(start, "adaptive", always(ProximalMomentum()), steps - later)
    return (first, Attack(BEST, "exchange", always(TabuSearch()), later)) if later else (first,)


def _mask(mask: Tensor | str | None, shape: tuple[int, ...]) -> Tensor | str | None:
    if not isinstance(mask, Tensor | None) and mask not in KINDS:
        kinds = ", ".join(KINDS)
        raise ArgumentError(f"mask must be a bool tensor or one of {kinds}, got {mask!r}")
    if not isinstance(mask, Tensor):
        return mask
    try:
        return mask.detach().cpu().bool().expand(shape)
    except RuntimeError as error:
        got = tuple(mask.shape)
        raise ArgumentError(f"mask must broadcast to {shape}, got {got}") from error
