"""Whether a classifier answers as the layers say that are proved: the last line of defence.

The operations of a network are what torch.export saw in one call. Hooks, a call of its own, state
in Python, modes of autograd, other numbers of images: whatever makes it answer otherwise than its
layers is looked for by running both. More than rounding explains is a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import cycle, islice, product

import torch
from torch import Tensor, nn

from blankcheck.certifying.layers import Layer, uncertifiable
from blankcheck.certifying.rounding import SOFTMAX_TERMS, TINY, gamma, of_softmax, slack
from blankcheck.certifying.trace import BATCH
from blankcheck.classifiers.wrapper import device_of, left_as_found
from blankcheck.errors import ModelError
from blankcheck.outputs import run
from blankcheck.seeds import own_random_numbers
from blankcheck.users import calling

BATCHES = (1, 1, 2, 2, 7, 7, BATCH)
"""Images at once; twice in a row, as some answer from memory; and as many as were exported."""
MODES = {
    "without gradients": torch.no_grad,
    "with gradients": torch.enable_grad,
    "in inference mode": torch.inference_mode,
}
DENSITIES = (0.0, 0.01, 0.05, 0.2, 0.5)
"""Shares of features that are lit; of the first, one feature is."""

Expected = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From the places of some images among all that are tried, and these images, to the answers that
are expected and how far off they can be, each (n, m) in float64."""


def check_agreement(classifier: nn.Module, images: Tensor, expected: Expected, form: str) -> None:
    """ModelError with one line where a classifier answers otherwise than expected.

    It is asked in batches of several sizes, with and without gradients, with parameters frozen and
    not, always with other images, and left as it was found.

    Args:
        classifier: from images to answers (n, m).
        images: `trial_images`.
        expected: says what it should answer.
        form: of the answers, for the message.
    """
    device, places = device_of(classifier), cycle(range(len(images)))
    broken = "model cannot be run as it was read:"
    with calling(broken, ModelError), left_as_found(classifier), _in_float32(device):
        for frozen, (words, mode), size in product((True, False), MODES.items(), BATCHES):
            for parameter in classifier.parameters():
                free = parameter.is_floating_point() and not parameter.is_inference()
                parameter.requires_grad_(free and not frozen)
            rows = torch.tensor(list(islice(places, size)))
            with mode():
                asked = images[rows].to(device, copy=True)
                asked.requires_grad_(mode is torch.enable_grad)
                # the classifier inside a gate may be random, and is so twice in the same way
                with own_random_numbers(int(rows[0]), [device]):
                    said = run(classifier, asked).detach().to("cpu", torch.float64, copy=True)
                with own_random_numbers(int(rows[0]), [device]):
                    wanted, tolerance = expected(rows, images[rows].to(device))
                _compare(said, wanted.cpu(), tolerance.cpu(), f"{form} of {size} images {words}")


def _in_float32(device: torch.device) -> AbstractContextManager[object]:
    """Convolutions on a GPU without TF32, which no certificate covers."""
    if device.type != "cuda":
        return nullcontext()
    exact: AbstractContextManager[object]
    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    return exact


def _compare(answers: Tensor, wanted: Tensor, tolerance: Tensor, what: str) -> None:
    if answers.shape != wanted.shape:
        how = f"are {tuple(answers.shape)} and not {tuple(wanted.shape)}"
    elif bool(((answers - wanted).abs() <= tolerance).all()):
        return
    elif not bool(answers.isfinite().all()):
        how = "are not finite"
    else:
        off = (answers - wanted).abs()
        at = (off - tolerance).argmax()
        most, off = tolerance.flatten()[at], off.flatten()[at]
        how = f"differ by {float(off):.3g} where rounding explains {float(most):.3g}"
    other = "model answers otherwise than its operations, and cannot be certified"
    raise ModelError(f"{other}: {what} {how}")


def trial_images(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Black, white, grey and sparse images (n, c, h, w), always the same ones."""
    generator, size = torch.Generator().manual_seed(0), tuple(shape)
    noise = torch.rand(2 + 2 * len(DENSITIES), *size, generator=generator)
    made = [torch.zeros(size), torch.ones(size), torch.full(size, 0.5), noise[0], noise[1].round()]
    for values, share in zip(noise[2:], 2 * DENSITIES, strict=True):
        order = torch.rand(values.numel(), generator=generator).argsort().argsort().view(size)
        lit = order < max(1, round(share * values.numel()))
        made.append(torch.where(lit, values if len(made) % 2 else 1.0, 0.0))
    return torch.stack(made).to(dtype)


def run_layers(layers: Sequence[Layer], images: Tensor) -> tuple[Tensor, Tensor]:
    """What layers give for images (n, c, h, w), and how far float32 can be off; (n, outputs).

    Raises ModelError where most of the images meet a comparison that rounding may turn: so much
    would be explained by it that running both shows nothing.
    """
    values, errors, exact = list[Tensor](), list[Tensor](), torch.full_like(images, TINY)
    decided = torch.ones(len(images), dtype=torch.bool, device=images.device)
    for layer in layers:
        values.append(_value(layer, values, images))
        errors.append(slack(layer, errors, values, values) if errors else exact)
        if layer.jumps:
            decided &= (errors[-1] == 0).flatten(1).all(dim=1)
    if 2 * int(decided.sum()) < len(images):
        raise uncertifiable("compares numbers that rounding decides about for most images")
    return values[-1], errors[-1]


def _value(layer: Layer, values: Sequence[Tensor], images: Tensor) -> Tensor:
    before = [values[i] for i in layer.inputs]
    if layer.kind == "input":
        return images
    if layer.kind == "relu":
        return before[0].clamp(min=0)
    if layer.curve is not None:
        return layer.curve.value(before[0])
    if layer.kind == "product":
        return before[0] * before[1]
    if layer.kind == "sum":
        return torch.stack([s * x for s, x in zip(layer.signs, before, strict=True)]).sum(dim=0)
    return layer.affine(before[0])


def answers_of(form: str, logits: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """Answers in this form for logits (n, m) that are off by `error`, and how far they are off."""
    if form == "logits":
        return logits, error
    moved, outputs = 2 * error.amax(dim=1, keepdim=True), logits.shape[1]
    if form == "probabilities":
        p = logits.softmax(dim=1)
        return p, p * torch.expm1(moved).clamp(max=1 / TINY) + of_softmax(outputs)
    below = logits.log_softmax(dim=1)
    reach = 1 + below.abs() + logits.abs().amax(dim=1, keepdim=True)
    return below, moved + 4 * gamma(outputs + SOFTMAX_TERMS) * reach
