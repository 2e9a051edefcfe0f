"""Does a network answer for itself, and can its gradients be followed?

And what does one pass cost?
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from blankcheck.diagnosing.findings import Finding, good, problem
from blankcheck.diagnosing.scoring import in_one_line
from blankcheck.fooling import Problem
from blankcheck.fooling.gradient_check import contradicted
from blankcheck.outputs import as_logits, out_of_memory, run
from blankcheck.seeds import own_random_numbers
from blankcheck.types import Classifier, stored

ASKED, GRADIENTS, TIMED = 5, 20, 3
SAME, SAME_IN_BATCH = 1e-3, 1e-2
"""Largest change of a probability that counts as none, as in audits; arithmetic differs a little
between batch sizes."""
FEW = 7
MANY = 0.5
"""Share of the images from which broken gradients are a problem."""


@torch.no_grad()
def answers(classifier: Classifier, images: Tensor, kind: str, batch: int) -> Tensor:
    """Probabilities (n, m)."""
    return torch.cat(
        [
            as_logits(run(classifier, part), kind).softmax(dim=1)
            for part in torch.split(images, batch)
        ]
    )


def same_answers(
    classifier: Classifier, module: nn.Module | None, images: Tensor, kind: str
) -> Iterator[Finding]:
    """The same images again and again, and among other neighbours. module: where layers are looked
    for."""
    first = answers(classifier, images, kind, len(images))
    again = [answers(classifier, images, kind, len(images)) for _ in range(ASKED - 1)]
    moved = max(float((other - first).abs().nan_to_num().max()) for other in again)
    awake = (
        [
            f"{type(layer).__name__} {name!r}"
            for name, layer in module.named_modules()
            if layer.training and name
        ]
        if module is not None
        else []
    )
    if moved > SAME:
        said = f"Asked {ASKED} times, its probabilities for one image differ by up to {moved:.2g}{_who(awake)}."
        yield problem(
            "repeatable",
            said,
            "Switch dropout and noise off: F.dropout wants training=self.training.",
        )
        return
    yield good("repeatable", f"asked {ASKED} times, the same answers to {len(images)} images")
    apart = float((answers(classifier, images, kind, FEW) - first).abs().nan_to_num().max())
    if apart > SAME_IN_BATCH:
        layers = _who(awake or _without_statistics(module))
        said = f"Its probabilities for one image differ by up to {apart:.2g} with other images beside it{layers}."
        yield problem(
            "batch-independent",
            said,
            "Batch norm must use the statistics of training: track_running_stats=True.",
        )
        return
    yield good("batch-independent", f"the same answers in batches of {FEW}")


def _who(layers: list[str]) -> str:
    return (
        f" ({', '.join(layers[:2])}{' and others' if len(layers) > 2 else ''} at work)"
        if layers
        else ""
    )


def _without_statistics(module: nn.Module | None) -> list[str]:
    norms = [
        (n, m) for n, m in (module.named_modules() if module is not None else ()) if _is_norm(m)
    ]
    return [
        f"{type(m).__name__} {n!r}" for n, m in norms if getattr(m, "running_mean", None) is None
    ]


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def with_same_noise(classifier: Classifier) -> Classifier:
    """The classifier with its dropout and noise the same in every call: else finite differences
    would measure these."""

    def answer(images: Tensor) -> Tensor:
        with own_random_numbers(0, [images.device]):
            return classifier(images)

    return answer


def gradient_finding(classifier: Classifier, images: Tensor, kind: str) -> Finding:
    """Gradients at real images (n, c, h, w) of the log-odds of the answer given: there, numbers,
    and as finite differences have them."""
    images = stored(images[:GRADIENTS])
    n = len(images)
    try:
        with torch.no_grad():
            targets = run(classifier, images).argmax(dim=1)
        asked = Problem(classifier, kind, targets)
        seen = asked.measure(images)
    except Exception as error:  # a user's network raises whatever it likes
        if out_of_memory(error):
            return problem(
                "gradient", f"No memory for the gradients of {n} images.", "Use a larger device."
            )
        said = f"Asked for a gradient, it says: {in_one_line(error)}."
        return problem(
            "gradient", said, "Take .detach(), .numpy() and in-place changes out of its forward."
        )
    flat = seen.finite & (seen.gradient.flatten(1).abs().amax(dim=1) == 0)
    wrong = seen.finite & ~flat & contradicted(asked, images, seen)
    broken, cut, lies = (int(kind.sum()) for kind in (~seen.finite, flat, wrong))
    if broken > MANY * n:
        look = "Look for a square root or a logarithm of zero; hand out logits."
        return problem(
            "gradient", f"Gradients are NaN or infinite at {broken} of {n} real images.", look
        )
    if cut > MANY * n:
        look = "Take rounding, argmax, no_grad and detach out of its forward; hand out logits."
        return problem(
            "gradient", f"No gradient reaches the image at {cut} of {n} real images.", look
        )
    if lies > MANY * n:
        look = "Take rounding and thresholds out of its forward, or audit the network underneath."
        return problem(
            "gradient",
            f"Gradients contradict finite differences at {lies} of {n} real images.",
            look,
        )
    return good(
        "gradient", f"as finite differences have it at {n - broken - cut - lies} of {n} real images"
    )


@dataclass(frozen=True)
class Cost:
    """What one image costs. forward_ms, gradient_ms: milliseconds of a forward pass, and of a
    forward and a backward one, in a batch. activation_bytes: what a forward pass keeps for the
    backward one. batch: images in the batch measured."""

    forward_ms: float
    gradient_ms: float | None
    activation_bytes: int | None
    batch: int


def cost(classifier: Classifier, images: Tensor, kind: str) -> Cost:
    """Measure one batch of images (n, c, h, w), the median of a few times; no gradient's cost where
    there is none."""
    n = len(images)
    forward = _milliseconds(lambda: answers(classifier, images, kind, n)) / n
    try:
        asked = Problem(classifier, kind, torch.zeros(n, dtype=torch.int64, device=images.device))
        gradient = _milliseconds(lambda: asked.measure(images)) / n
        return Cost(forward, gradient, _kept_bytes(classifier, images) // n, n)
    except Exception:  # that there is no gradient is said by a finding
        return Cost(forward, None, None, n)


def _milliseconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(TIMED + 1):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return 1000 * median(times[1:])


def _kept_bytes(classifier: Classifier, images: Tensor) -> int:
    """Bytes of the distinct tensors that autograd keeps, parameters left out."""
    own = (
        {p.data_ptr() for p in classifier.parameters()}
        if isinstance(classifier, nn.Module)
        else set()
    )
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own and tensor.shape[:1] == images.shape[:1]:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run(classifier, images.detach().requires_grad_(True))
    return sum(kept.values())
