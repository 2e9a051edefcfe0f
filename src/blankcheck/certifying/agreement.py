"""Whether a classifier answers as the layers say that are proved: the last line of defence.

The operations of a network are what torch.export saw in one call. Hooks, a call of its own, state
in Python, modes of
autograd, other numbers of images: whatever makes the network answer otherwise than its layers
compute is found here by running both, or at least looked for. More than rounding explains is a
refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import count

import torch
from torch import Tensor, nn

from blankcheck.certifying.layers import Layer
from blankcheck.certifying.reading import BATCH, in_one_line
from blankcheck.certifying.rounding import SOFTMAX_TERMS, TINY, gamma, of_softmax, slack
from blankcheck.classifiers.wrapper import device_of, left_as_found
from blankcheck.errors import ModelError
from blankcheck.outputs import run
from blankcheck.seeds import own_random_numbers

BATCHES = (1, 1, 2, 2, 7, 7, BATCH)
"""How many images at once; twice in a row, because some answer from memory; and as many as were
exported."""
DENSITIES = (0.0, 0.01, 0.05, 0.2, 0.5)
"""Shares of features that are lit; of the first, one feature is."""

Expected = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From the places of some images among all that are tried, and these images, to the answers that
are expected and how far off they can be, each (n, m) in float64."""


def check_agreement(classifier: nn.Module, images: Tensor, expected: Expected, form: str) -> None:
    """ModelError with one line where a classifier answers otherwise than expected.

    images: `trial_images`. form: of the answers, for the message. Asked in batches of several
    sizes, with and without gradients, with parameters frozen and not, always with other images. The
    classifier is left as it was found.
    """
    device, places = device_of(classifier), count()
    with (
        in_one_line("model cannot be run as it was read"),
        left_as_found(classifier),
        _in_float32(device),
    ):
        for frozen in (True, False):
            for parameter in classifier.parameters():
                parameter.requires_grad_(
                    not frozen and parameter.is_floating_point() and not parameter.is_inference()
                )
            for words, mode in _modes():
                for size in BATCHES:
                    rows = torch.tensor([next(places) % len(images) for _ in range(size)])
                    with mode():
                        # what may be random is the classifier inside a gate, and then it is so
                        # twice in the same way
                        asked = (
                            images[rows]
                            .to(device, copy=True)
                            .requires_grad_(words == "with gradients")
                        )
                        with own_random_numbers(int(rows[0]), [device]):
                            answers = (
                                run(classifier, asked).detach().to("cpu", torch.float64, copy=True)
                            )
                        with own_random_numbers(int(rows[0]), [device]):
                            wanted, tolerance = (
                                t.cpu() for t in expected(rows, images[rows].to(device))
                            )
                    _compare(answers, wanted, tolerance, f"{form} of {size} images {words}")


def _in_float32(device: torch.device) -> AbstractContextManager[object]:
    """Convolutions on a GPU, which compute in TF32 unless told otherwise: no certificate covers
    that."""
    if device.type != "cuda":
        return nullcontext()
    exact: AbstractContextManager[object] = torch.backends.cudnn.flags(
        enabled=True, allow_tf32=False
    )
    return exact


def _modes() -> Iterator[tuple[str, Callable[[], AbstractContextManager[object]]]]:
    yield "without gradients", torch.no_grad
    yield "with gradients", torch.enable_grad
    yield "in inference mode", torch.inference_mode


def _compare(answers: Tensor, wanted: Tensor, tolerance: Tensor, what: str) -> None:
    if answers.shape == wanted.shape and bool(((answers - wanted).abs() <= tolerance).all()):
        return
    if answers.shape != wanted.shape:
        how = f"are {tuple(answers.shape)} and not {tuple(wanted.shape)}"
    elif not bool(answers.isfinite().all()):
        how = "are not finite"
    else:
        over = ((answers - wanted).abs() - tolerance).flatten().argmax()
        off, most = (answers - wanted).abs().flatten()[over], tolerance.flatten()[over]
        how = f"differ by {float(off):.3g} where rounding explains {float(most):.3g}"
    raise ModelError(
        f"model answers otherwise than its operations, and cannot be certified: {what} {how}"
    )


def trial_images(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Black, white, grey and sparse images (n, c, h, w), always the same ones."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(2 + 2 * len(DENSITIES), *shape, generator=generator)
    made = [
        torch.zeros(shape),
        torch.ones(shape),
        torch.full(tuple(shape), 0.5),
        noise[0],
        noise[1].round(),
    ]
    for values, share in zip(noise[2:], (*DENSITIES, *DENSITIES), strict=True):
        order = (
            torch.rand(values.numel(), generator=generator).argsort().argsort().view(tuple(shape))
        )
        lit = order < max(1, round(share * values.numel()))
        made.append(torch.where(lit, values if len(made) % 2 else 1.0, 0.0))
    return torch.stack(made).to(dtype)


def run_layers(layers: Sequence[Layer], images: Tensor) -> tuple[Tensor, Tensor]:
    """What the layers give for images (n, c, h, w) in float64, and how far float32 can be off, each
    (n, outputs)."""
    values: list[Tensor] = []
    errors: list[Tensor] = []
    for layer in layers:
        values.append(_value(layer, values, images))
        if layer.kind == "input":
            errors.append(torch.full_like(values[-1], TINY))
        else:
            errors.append(slack(layer, errors, values, values))
    return values[-1], errors[-1]


def _value(layer: Layer, values: Sequence[Tensor], images: Tensor) -> Tensor:
    before = [values[i] for i in layer.inputs]
    if layer.kind == "input":
        return images
    if layer.kind == "relu":
        return before[0].clamp(min=0)
    if layer.kind == "sum":
        return torch.stack([s * x for s, x in zip(layer.signs, before, strict=True)]).sum(dim=0)
    assert layer.map is not None
    mapped = layer.map(before[0])
    return mapped if layer.bias is None else mapped + layer.bias


def answers_of(form: str, logits: Tensor, error: Tensor) -> tuple[Tensor, Tensor]:
    """The answers in this form that belong to logits (n, m), and how far off they can be if the
    logits are so by `error`."""
    if form == "logits":
        return logits, error
    moved, outputs = 2 * error.amax(dim=1, keepdim=True), logits.shape[1]
    if form == "probabilities":
        p = logits.softmax(dim=1)
        return p, p * torch.expm1(moved).clamp(max=1 / TINY) + of_softmax(outputs)
    below = logits.log_softmax(dim=1)
    reach = 1 + below.abs() + logits.abs().amax(dim=1, keepdim=True)
    return below, moved + 4 * gamma(outputs + SOFTMAX_TERMS) * reach
