"""Logits, log-probabilities or probabilities: told apart by looking, then treated alike."""

from __future__ import annotations

import errno
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import torch
from torch import Tensor

from blankcheck.errors import ModelError
from blankcheck.text import one_line
from blankcheck.types import Classifier, images_at_once, in_pieces
from blankcheck.users import is_no_fault, out_of_memory
from blankcheck.users import said as said_by

OUTPUT_FORMS = ("logits", "log-probabilities", "probabilities")
WRITES = "model writes into the images it is given"
COPY = "network.register_forward_pre_hook(lambda _, x: (x[0].clone(),))"
ON_A_COPY = f"let it work on a copy, by a line in its factory: {COPY}"
TINY, LOWEST = torch.finfo(torch.float32).tiny, torch.finfo(torch.float32).min


def output_form(classifier: Classifier, images: Tensor) -> str:
    """Which of `OUTPUT_FORMS` the classifier gives on these images (n, c, h, w).

    Probabilities lie in [0, 1] and sum to 1; log-probabilities are at most 0 and their exponentials
    sum to 1; all else is logits. Logits that happen to sum to 1 on every image are as good as
    impossible with a few images. Raises ModelError when the outputs are not (n, m >= 2) finite
    numbers.
    """
    with torch.no_grad():
        outputs = run(classifier, images)
    if not bool(outputs.isfinite().all()):
        # log-probabilities of exactly 0 are -inf, and legitimate
        if bool((outputs <= 0).all()) and _sums_to_one(outputs.exp()):
            return "log-probabilities"
        raise ModelError("model outputs must be finite numbers, got NaN or infinity on real images")
    if bool((outputs >= 0).all()) and _sums_to_one(outputs):
        return "probabilities"
    if bool((outputs <= 1e-6).all()) and _sums_to_one(outputs.exp()):
        return "log-probabilities"
    return "logits"


def _sums_to_one(values: Tensor) -> bool:
    # half-precision networks sum to 1 only within 1e-2
    tolerance = 1e-3 if values.dtype in (torch.float32, torch.float64) else 1e-2
    return bool(((values.sum(dim=1) - 1).abs() < tolerance).all())


def logits_in(outputs: Any) -> Any:
    """The tensor of outputs in what a network answers with: `logits` of a record or dictionary,
    else the only tensor with a row for each image; what leaves a choice stays as it is."""
    if isinstance(outputs, Tensor):
        return outputs
    held: Mapping[Any, Any] = outputs if isinstance(outputs, Mapping) else {}
    named = held.get("logits", getattr(outputs, "logits", None))
    if isinstance(named, Tensor):
        return named
    # no union of types: strict torch.export of PyTorch 2.6 cannot read one
    parts = outputs if isinstance(outputs, (tuple, list)) else held.values()
    rows = [part for part in parts if isinstance(part, Tensor) and part.ndim in (1, 2)]
    return rows[0] if len(rows) == 1 else outputs


def run(classifier: Classifier, images: Tensor) -> Tensor:
    """The classifier's outputs, (n, m); every call of one goes through here.

    Raises:
        ModelError: it raises anything, writes into the images, or gives outputs of another shape;
            in one line.
    """
    version = -1 if images.is_inference() else images._version
    gradients, precision = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        outputs = logits_in(classifier(images))
    except BaseException as error:  # SystemExit, too
        if is_no_fault(error):
            raise
        shape = tuple(images.shape)
        raise ModelError(f"model cannot take images of shape {shape}: {said_by(error)}") from error
    finally:
        # a network may change both for good
        if torch.is_grad_enabled() != gradients:
            torch.set_grad_enabled(gradients)
        if torch.get_default_dtype() != precision:
            torch.set_default_dtype(precision)
    if version >= 0 and images._version != version:
        raise ModelError(f"{WRITES}: {ON_A_COPY}")
    if not isinstance(outputs, Tensor):
        raise ModelError(_unfit(outputs, len(images)))
    shape = tuple(outputs.shape)
    if len(shape) != 2 or shape[0] != len(images) or shape[1] < 2:
        raise ModelError(_unfit(outputs, len(images)))
    if outputs.layout != torch.strided or outputs.is_complex() or outputs.is_quantized:
        kind = outputs.dtype if outputs.layout == torch.strided else outputs.layout
        raise ModelError(f"model outputs must be plain real numbers, got {kind}")
    return outputs


def _unfit(outputs: object, n: int) -> str:
    """What is wrong with the outputs for n images, and the line that mends it where one does."""
    got, line = type(outputs).__name__, ""
    if isinstance(outputs, Tensor):
        got = str(tuple(outputs.shape))
        if outputs.shape == (n, 1) or (outputs.ndim == 1 and len(outputs) == n > 1):
            two = "torch.cat([{}, y.view(-1, 1)], 1)"
            of = _after(two.format("1 - y.view(-1, 1)")), _after(two.format("0 * y.view(-1, 1)"))
            line = f"; of one probability for two classes make two: {of[0]}; of a logit: {of[1]}"
        elif n == 1 and outputs.ndim == 1:
            line = "; give .squeeze() and reshapes their axes"
    elif isinstance(outputs, tuple | list | Mapping) and outputs:
        name = 0 if not isinstance(outputs, Mapping) else next(iter(outputs))
        line = f"; where the first is meant: {_after(f'y[{name!r}]')}"
    images = "1 image" if n == 1 else f"{n} images"
    wanted = "model outputs must be (n, classes) with at least 2 classes"
    return f"{wanted}, got {got} for a batch of {images}{line}"


def _after(expression: str) -> str:
    return f"network.register_forward_hook(lambda _, x, y: {expression})"


@contextmanager
def in_silence() -> Iterator[None]:
    """Inside, torch says nothing of what it meets in the code of others, by warning, logging or
    printing; what it raises is told by who asked."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def in_small_passes(classifier: Classifier) -> Classifier:
    """The same classifier, which takes many images in several passes where it needs no gradient."""

    def answer(images: Tensor) -> Tensor:
        most = images_at_once(images.shape[1:])
        if len(images) <= most or torch.is_grad_enabled():
            return classifier(images)
        return torch.cat([run(classifier, piece) for piece in in_pieces(images, most)])

    return answer


def refused_by_machine(error: BaseException) -> str | None:
    """One line for an error of disk, pipe, network or memory, which is nobody's mistake; None for
    any other."""
    if out_of_memory(error) or getattr(error, "errno", None) == errno.ENOMEM:
        return f"out of memory: {one_line(error)}" if str(error).strip() else "out of memory"
    if isinstance(error, BrokenPipeError):
        return "whoever reads the output has gone"
    if isinstance(error, OSError):
        what = f"{error.filename}: " if error.filename else ""
        return f"{what}{error.strerror or one_line(error)}"
    return None


def as_logits(outputs: Tensor, form: str) -> Tensor:
    """Numbers whose softmax is the probability the classifier reports, float32, (n, m) -> (n, m).

    Log-probabilities are such numbers already (softmax of log p is p).
    """
    outputs = outputs.float()
    return outputs.clamp_min(TINY).log() if form == "probabilities" else outputs


def log_odds(logits: Tensor, targets: Tensor) -> Tensor:
    """log p_t - log(1 - p_t) of each image's target t, (n, m), (n,) -> (n,).

    Its gradient does not vanish where the softmax saturates, at neither end, unlike that of the
    cross-entropy.
    """
    own = logits.gather(1, targets[:, None]).squeeze(1)
    others = logits.scatter(1, targets[:, None], -torch.inf).logsumexp(dim=1)
    return own - others


def log_odds_and_slope(outputs: Tensor, form: str, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The log-odds (n,) of the targets and their gradient (n, m) with respect to the classifier's
    outputs of this form.

    Written out because the loop of a search needs it for every pass: d log-odds / dz is 1 at the
    target and minus the softmax over the others elsewhere, and d log p / dp is 1 / p.
    """
    with torch.no_grad():
        logits = as_logits(outputs, form)
        own = targets[:, None]
        others = logits.scatter(1, own, -torch.inf)
        # where nothing is left for the others, their sum is 0 and its logarithm -inf, and none of
        # them has a slope
        top = others.amax(dim=1, keepdim=True).clamp_min(LOWEST)
        total = (others - top).exp_().sum(dim=1, keepdim=True).log_() + top
        margin = (logits.gather(1, own) - total).squeeze(1)
        slope = (others - total.clamp_min(LOWEST)).exp_().neg_().scatter_(1, own, 1.0)
        if form == "probabilities":
            slope = slope / outputs.float().clamp_min(TINY) * (outputs > TINY)
        return margin, slope.to(outputs.dtype)
