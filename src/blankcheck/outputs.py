"""Logits, log-probabilities or probabilities: told apart by looking, then treated alike."""

from __future__ import annotations

import errno
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO

import torch
from torch import Tensor

from blankcheck.errors import ModelError
from blankcheck.text import one_line
from blankcheck.types import Classifier, images_at_once, in_pieces

OUTPUT_FORMS = ("logits", "log-probabilities", "probabilities")
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


def run(classifier: Classifier, images: Tensor) -> Tensor:
    """The classifier's outputs, (n, m); ModelError with one line when they have another shape or it
    raises."""
    try:
        outputs = classifier(images)
    except (RuntimeError, TypeError, ValueError, IndexError, NotImplementedError) as error:
        if out_of_memory(error):
            raise
        brief = one_line(error, 240)
        raise ModelError(
            f"model cannot take images of shape {tuple(images.shape)}: {brief}"
        ) from error
    got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
    if not isinstance(got, tuple) or len(got) != 2 or got[0] != len(images) or got[1] < 2:
        raise ModelError(f"model outputs must be (n, classes) with at least 2 classes, got {got}")
    return outputs


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


NO_MEMORY = ("can't allocate memory", "Cannot allocate memory", "not enough memory")
"""What torch says where memory runs out on the CPU, and where a file finds no room in it."""


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device; the CPU's allocator has no
    class of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in NO_MEMORY)


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
