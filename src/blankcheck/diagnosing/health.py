"""Does a network answer for itself, can its gradients be followed, and what does a pass cost?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from blankcheck.classifiers.wrapper import left_as_found
from blankcheck.diagnosing.choosing import Choice, Examined
from blankcheck.diagnosing.findings import Finding, good, problem
from blankcheck.diagnosing.scoring import UnusableError, better, score
from blankcheck.fooling import Problem
from blankcheck.fooling.gradient_check import contradicted
from blankcheck.outputs import as_logits, run
from blankcheck.seeds import own_random_numbers
from blankcheck.text import percent
from blankcheck.types import Classifier, stored
from blankcheck.users import out_of_memory
from blankcheck.users import said as saying

ASKED, GRADIENTS, TIMED = 5, 20, 3
SAME, SAME_IN_BATCH = 1e-3, 1e-2
"""Largest change of a probability that counts as none, as in audits; arithmetic differs a little
between batch sizes."""
FEW = 7
MANY = 0.5
"""Share of the images from which broken gradients are a problem."""
UNFOLLOWED = {
    "Gradients are NaN or infinite": "Look for a square root or a logarithm of zero; hand out "
    "logits.",
    "No gradient reaches the image": "Take rounding, argmax, no_grad and detach out of its "
    "forward; hand out logits.",
    "Gradients contradict finite differences": "Take rounding and thresholds out of its forward, "
    "or audit the network underneath.",
}


@torch.no_grad()
def answers(classifier: Classifier, images: Tensor, kind: str, batch: int) -> Tensor:
    """Probabilities (n, m)."""
    parts = [as_logits(run(classifier, part), kind) for part in torch.split(images, batch)]
    return torch.cat(parts).softmax(dim=1)


def same_answers(
    classifier: Classifier, module: nn.Module | None, images: Tensor, kind: str
) -> Iterator[Finding]:
    """The same images again, and among other neighbours. module: where layers are looked for."""

    def moved(batch: int) -> float:
        return float((answers(classifier, images, kind, batch) - first).abs().nan_to_num().max())

    n = len(images)
    first = answers(classifier, images, kind, n)
    layers = dict(module.named_modules()) if module is not None else {}
    awake = [name for name, layer in layers.items() if layer.training and name]
    apart = max(moved(n) for _ in range(ASKED - 1))
    if apart > SAME:
        said = f"Asked {ASKED} times, its probabilities for one image differ by up to {apart:.2g}"
        off = "Switch dropout and noise off: F.dropout wants training=self.training."
        yield problem("repeatable", f"{said}{_at_work(awake, layers)}.", off)
        return
    yield good("repeatable", f"asked {ASKED} times, the same answers to {n} images")
    apart = moved(FEW)
    if apart <= SAME_IN_BATCH:
        yield _alone(classifier, images[:1], kind)
        return
    norms = {name: layer for name, layer in layers.items() if isinstance(layer, _BatchNorm)}
    unfixed = [name for name, norm in norms.items() if norm.running_mean is None]
    differ = f"Its probabilities for one image differ by up to {apart:.2g}"
    said = f"{differ} with other images beside it{_at_work(awake or unfixed, layers)}."
    look = "Look for numbers of the whole batch in its forward, such as a quantisation's scale."
    if norms:
        look = "Batch norm must use the statistics of training: track_running_stats=True."
    yield problem("batch-independent", said, look)


def _alone(classifier: Classifier, image: Tensor, kind: str) -> Finding:
    try:
        answers(classifier, image, kind, 1)
    except Exception as error:  # a user's network raises whatever it likes
        said = f"It takes {FEW} images at once, but not one alone: {saying(error)}."
        return problem("batch-independent", said, "Give .squeeze() and reshapes their axes.")
    return good("batch-independent", f"the same answers in batches of {FEW}")


def _at_work(names: list[str], layers: dict[str, nn.Module]) -> str:
    said = ", ".join(f"{type(layers[name]).__name__} {name!r}" for name in names[:2])
    return f" ({said}{' and others' if len(names) > 2 else ''} at work)" if names else ""


def unfilled_statistics(asked: Examined, choice: Choice) -> Finding | None:
    """Batch norms that hold the statistics they were made with, where those of a batch of real
    images do better than any form of the input; None where there is no such fault."""
    module = asked.module
    norms = [] if module is None else [n for n in module.modules() if _is_unfilled(n)]
    if module is None or not norms:
        return None
    with left_as_found(module):
        for norm in norms:
            norm.training = True
        try:
            outputs = asked.answers(choice.current, choice.images)
        except UnusableError:
            return None
    now = score(choice.current, outputs, choice.labels)
    if not choice.measure.plausible(now.right) or not better(now, choice.best):
        return None
    said = f"{len(norms)} batch norms hold no statistics of any data (mean 0, variance 1)"
    before, after = percent(choice.best.accuracy), percent(now.accuracy)
    said = f"{said}: {before} right, {after} with those of the batch."
    save = "Save and load state_dict() as a whole: running statistics are buffers."
    return problem("batch-norm", said, save)


def _is_unfilled(norm: nn.Module) -> bool:
    if not isinstance(norm, _BatchNorm) or norm.running_mean is None or norm.running_var is None:
        return False
    return bool((norm.running_mean == 0).all() and (norm.running_var == 1).all())


def with_same_noise(classifier: Classifier) -> Classifier:
    """The classifier with the same noise in every call: finite differences would measure it."""

    def answer(images: Tensor) -> Tensor:
        with own_random_numbers(0, [images.device]):
            return classifier(images)

    return answer


def on_copies(classifier: Classifier) -> Classifier:
    """The classifier, which is given copies of the images."""
    return lambda images: classifier(images.clone())


def gradient_finding(classifier: Classifier, images: Tensor, kind: str) -> Finding:
    """Whether gradients of the log-odds at real images (n, c, h, w) are there, and true."""
    images = stored(images[:GRADIENTS])
    n = len(images)
    try:
        with torch.no_grad():
            targets = run(classifier, images).argmax(dim=1)
        asked = Problem(classifier, kind, targets)
        seen = asked.measure(images)
    except Exception as error:  # a user's network raises whatever it likes
        if out_of_memory(error):
            said, look = f"No memory for the gradients of {n} images.", "Use a larger device."
        else:
            said = f"Asked for a gradient, it says: {saying(error)}."
            look = "Take .detach(), .numpy() and in-place changes out of its forward."
        return problem("gradient", said, look)
    flat = seen.finite & (seen.gradient.flatten(1).abs().amax(dim=1) == 0)
    wrong = seen.finite & ~flat & contradicted(asked, images, seen)
    faults = [int(where.sum()) for where in (~seen.finite, flat, wrong)]
    for count, (said, look) in zip(faults, UNFOLLOWED.items(), strict=True):
        if count > MANY * n:
            return problem("gradient", f"{said} at {count} of {n} real images.", look)
    fine = n - sum(faults)
    return good("gradient", f"as finite differences have it at {fine} of {n} real images")


def cost(classifier: Classifier, images: Tensor, kind: str) -> dict[str, Any]:
    """Milliseconds of an image of one batch (n, c, h, w) in a forward pass, and in both; bytes that
    the forward pass keeps for the backward one. The last two need a gradient."""
    n = len(images)
    forward = _milliseconds(lambda: answers(classifier, images, kind, n)) / n
    try:
        asked = Problem(classifier, kind, torch.zeros(n, dtype=torch.int64, device=images.device))
        both = _milliseconds(lambda: asked.measure(images)) / n
        kept = _kept_bytes(classifier, images) // n
    except Exception:  # that there is no gradient is said by a finding
        return {"forward_ms": forward}
    return {"forward_ms": forward, "gradient_ms": both, "activation_bytes": kept}


def _milliseconds(work: Callable[[], object]) -> float:
    from torch.utils.benchmark import Timer  # takes half a second to import

    threads = torch.get_num_threads()
    timer = Timer("work()", globals={"work": work}, num_threads=threads)
    return 1000 * timer.timeit(TIMED).median


def _kept_bytes(classifier: Classifier, images: Tensor) -> int:
    """Bytes of the distinct tensors with a row for each image that autograd keeps."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.shape[:1] == images.shape[:1]:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run(classifier, images.detach().requires_grad_(True))
    return sum(kept.values())
