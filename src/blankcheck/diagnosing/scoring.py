"""What a network answers to real images in one form, and whether one form is better."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.diagnosing.forms import Form
from blankcheck.judging.metrics import lower_bound_95, upper_bound_95
from blankcheck.outputs import as_logits, out_of_memory, output_form, run
from blankcheck.text import one_line
from blankcheck.types import images_at_once

Network = Callable[[Tensor], Tensor]

BATCH = 250
LEVEL = 0.01
"""Two-sided level at which one form counts as better than another."""
MATERIAL = 0.02
"""A likelihood that is better by a smaller part is not better: with enough images every difference
is beyond chance."""


class UnusableError(Exception):
    """The network has no usable answer; the message is one line. outputs: how many it has, where
    these are too few."""

    def __init__(self, said: str, outputs: int | None = None) -> None:
        super().__init__(said)
        self.outputs = outputs


@torch.no_grad()
def ask(
    network: Network, form: Form, images: Tensor, device: torch.device, most: int = BATCH
) -> Tensor:
    """Outputs (n, m), float32 on the CPU, for images (n, c, h, w), at most `most` at once. Raises
    UnusableError whatever the network raises."""
    batch = min(most, images_at_once(images.shape[1:]))
    try:
        # a copy, since a network may write into what it is given
        pieces = (piece.to(device, copy=True) for piece in torch.split(images, batch))
        return torch.cat([run(network, form.view(piece)).float().cpu() for piece in pieces])
    except Exception as error:  # a user's network raises whatever it likes
        if out_of_memory(error) and batch > 1:
            return ask(network, form, images, device, batch // 2)
        raise UnusableError(in_one_line(error)) from error


def in_one_line(error: BaseException) -> str:
    """An error's own words, after its name where that says more than they do."""
    said = one_line(error, 240)
    if isinstance(error, RuntimeError | ValueError) or said == type(error).__name__:
        return said
    return f"{type(error).__name__}: {said}"


@dataclass(frozen=True)
class Scored:
    """Answers to the same n images in one form.

    outputs: (n, m). kind: logits, log-probabilities or probabilities. right: (n,) bool. loss: (n,)
    negative log-likelihood in nats after temperature scaling. temperature: what the logits are
    divided by to be most likely; above 1 the network is surer than it is right.
    """

    form: Form
    outputs: Tensor
    kind: str
    right: Tensor
    loss: Tensor
    temperature: float

    @property
    def accuracy(self) -> float:
        """Share of the images that are right."""
        return float(self.right.float().mean())

    @property
    def mean_loss(self) -> float:
        """In nats; what the forms are ranked by."""
        return float(self.loss.mean())

    @property
    def numbers(self) -> dict[str, float]:
        """The accuracy with one-sided 95 % bounds (Clopper and Pearson 1934); the temperature."""
        found, n = int(self.right.sum()), len(self.right)
        return {
            "accuracy": self.accuracy,
            "accuracy_lower_95": lower_bound_95(found, n),
            "accuracy_upper_95": upper_bound_95(found, n),
            "temperature": self.temperature,
        }

    @property
    def probabilities(self) -> Tensor:
        """(n, m), as the network reports them."""
        return as_logits(self.outputs, self.kind).softmax(dim=1)


def score(form: Form, outputs: Tensor, labels: Tensor) -> Scored:
    """Score outputs (n, m) by labels (n,). Rows that are not numbers count as wrong, and as
    unlikely as an answer can be.

    The likelihood is taken after temperature scaling (Guo et al. 2017, arXiv:1706.04599). Else a
    network trained with smoothed labels, which is less sure than it is right, would seem to prefer
    any form that makes its outputs larger.
    """
    finite = usable(outputs)
    if not bool(finite.any()):
        nothing = torch.full((len(labels),), torch.inf)
        return Scored(form, outputs, "logits", torch.zeros_like(finite), nothing, 1.0)
    numbers = outputs[finite]
    kind = output_form(lambda _: numbers, numbers)
    logits = as_logits(numbers, kind).log_softmax(dim=1).clamp_min(-1e4)
    temperature = best_temperature(logits, labels[finite])
    loss = torch.full((len(labels),), 1e4)
    loss[finite] = F.cross_entropy(logits / temperature, labels[finite], reduction="none")
    right = finite & (answers_of(outputs) == labels)
    return Scored(form, outputs, kind, right, loss, temperature)


def answers_of(outputs: Tensor) -> Tensor:
    """(n,) the output that is largest."""
    return outputs.nan_to_num(-torch.inf).argmax(dim=1)


def usable(outputs: Tensor) -> Tensor:
    """(n,) bool: rows without NaN or infinity; the -inf of a log-probability of exactly 0 is a
    number here."""
    zero = (outputs == -torch.inf) & ((outputs.exp().sum(dim=1, keepdim=True) - 1).abs() < 1e-3)
    return (outputs.isfinite() | zero).all(dim=1)


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature in [0.05, 1e6] under which the labels are most likely. The mean negative
    log-likelihood is convex in 1/temperature, so its slope is bisected. Where every answer is
    right, colder is always likelier: hence the bound."""
    own = logits.gather(1, labels[:, None]).squeeze(1).mean()
    low, high = math.log10(0.05), 6.0
    for _ in range(30):
        middle = (low + high) / 2
        slope = (torch.softmax(logits / 10**middle, dim=1) * logits).sum(dim=1).mean() - own
        low, high = (middle, high) if slope > 0 else (low, middle)
    return float(10 ** ((low + high) / 2))


def better(one: Scored, other: Scored) -> bool:
    """Whether one form is surely better than the other on the same images: in accuracy (McNemar's
    exact test) or in likelihood (paired t-test), and not worse in the other of the two."""
    gained, lost = disagreements(one.right, other.right)
    sure = 2 * more_than_half(max(gained, lost), gained + lost) <= LEVEL
    accuracy = (1 if gained > lost else -1) if sure else 0
    likelihood = _likelihood_sign(one.loss, other.loss)
    return accuracy + likelihood > 0 and min(accuracy, likelihood) >= 0


def disagreements(one: Tensor, other: Tensor) -> tuple[int, int]:
    """How many images only the one (n,) gets right, and how many only the other."""
    return int((one & ~other).sum()), int((other & ~one).sum())


def _likelihood_sign(one: Tensor, other: Tensor) -> int:
    """1 where `one` is more likely; infinite losses are more than any finite ones."""
    first, second = float(one.mean()), float(other.mean())
    if not (one.isfinite().all() and other.isfinite().all()):
        return int(second == torch.inf) - int(first == torch.inf)
    if abs(first - second) <= MATERIAL * max(first, second):
        return 0
    from scipy.stats import t

    apart, n = (other - one).double(), len(one)
    spread = float(apart.std()) / n**0.5 if n > 1 else torch.inf
    if spread and 2 * t.sf(abs(float(apart.mean())) / spread, n - 1) > LEVEL:
        return 0
    return 1 if first < second else -1


def more_than_half(found: int, tries: int, chance: float = 0.5) -> float:
    """Probability of at least so many of so many tries, each with this chance; 1 without tries."""
    from scipy.stats import binom

    return float(binom.sf(found - 1, tries, chance)) if tries else 1.0
