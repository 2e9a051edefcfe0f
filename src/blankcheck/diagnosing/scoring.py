"""What a network answers to real images in one form, whether one form is better, and what answers
are measured by: chance, the simplest classifier, and the order of the classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from blankcheck.data import Split
from blankcheck.diagnosing.forms import Form
from blankcheck.judging.metrics import lower_bound_95, upper_bound_95
from blankcheck.outputs import as_logits, output_form, run
from blankcheck.types import images_at_once
from blankcheck.users import out_of_memory, said

Network = Callable[[Tensor], Tensor]
Order = tuple[int, ...]

BATCH = 250
LEVEL = 0.01
"""Two-sided level at which one form counts as better than another."""
TRUSTED = 0.001
"""Level at which answers are better than chance, and an order of classes than the given one."""
MATERIAL = 0.02
"""A smaller gain in likelihood is none: with enough images every difference is beyond chance."""


class UnusableError(Exception):
    """The network has no usable answer, said in one line. outputs: how many, if too few."""

    def __init__(self, said: str, outputs: int | None = None) -> None:
        super().__init__(said)
        self.outputs = outputs


@torch.no_grad()
def ask(
    network: Network, form: Form, images: Tensor, device: torch.device, most: int = BATCH
) -> Tensor:
    """Outputs (n, m), float32 on the CPU, for images (n, c, h, w), at most `most` at once; or
    UnusableError, whatever the network raises."""
    batch = min(most, images_at_once(images.shape[1:]))
    try:
        # a copy, since a network may write into what it is given
        pieces = (piece.to(device, copy=True) for piece in torch.split(images, batch))
        return torch.cat([run(network, form.view(piece)).float().cpu() for piece in pieces])
    except Exception as error:  # a user's network raises whatever it likes
        if out_of_memory(error) and batch > 1:
            return ask(network, form, images, device, batch // 2)
        raise UnusableError(said(error)) from error


@dataclass(frozen=True)
class Scored:
    """Answers to the same n images in one form. outputs: (n, m). kind: logits, log-probabilities or
    probabilities. right: (n,) bool. loss: (n,) negative log-likelihood in nats after temperature
    scaling. temperature: what the logits are divided by to be most likely; above 1 the network is
    surer than it is right."""

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
    """(n,) bool: rows without NaN or infinity; -inf, as the logarithm of exactly 0, is a number."""
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
    gained, lost = _disagreements(one.right, other.right)
    sure = 2 * _more_than_half(max(gained, lost), gained + lost) <= LEVEL
    accuracy = (1 if gained > lost else -1) if sure else 0
    likelihood = _likelihood_sign(one.loss, other.loss)
    return accuracy + likelihood > 0 and min(accuracy, likelihood) >= 0


def _disagreements(one: Tensor, other: Tensor) -> tuple[int, int]:
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


def _more_than_half(found: int, tries: int, chance: float = 0.5) -> float:
    """Probability of at least so many of so many tries, each with this chance; 1 without tries."""
    from scipy.stats import binom

    return float(binom.sf(found - 1, tries, chance)) if tries else 1.0


@dataclass(frozen=True)
class Reference:
    """What an accuracy is measured by: the commonest class, and the nearest class mean."""

    chance: float
    centroid: float

    def above_chance(self, right: Tensor) -> bool:
        """Whether these answers (n,) are better than naming the commonest class."""
        return _more_than_half(int(right.sum()), len(right), self.chance) <= TRUSTED

    def plausible(self, right: Tensor) -> bool:
        """Above chance, and not surely worse than nine tenths of the simplest classifier's gain."""
        enough = self.chance + 0.9 * max(0.0, self.centroid - self.chance)
        return self.above_chance(right) and upper_bound_95(int(right.sum()), len(right)) >= enough


def reference(train: Split, seen: Split, classes: int) -> Reference:
    """Chance, and the nearest class mean of the training images, on other images."""
    flat = train.loaded().flatten(1)
    counts = train.labels.bincount(minlength=classes)
    sums = torch.zeros(classes, flat.shape[1]).index_add_(0, train.labels, flat)
    apart = torch.cdist(seen.loaded().flatten(1), sums / counts[:, None].clamp_min(1))
    nearest = apart.masked_fill(counts[None] == 0, torch.inf).argmin(dim=1)
    share = seen.labels.bincount().max() / len(seen)
    return Reference(float(share), float((nearest == seen.labels).float().mean()))


def fitted_order(outputs: Tensor, labels: Tensor, classes: int) -> Order:
    """The output of each class with which most are right (Kuhn 1955); ties stay in place."""
    from scipy.optimize import linear_sum_assignment

    counts = torch.zeros(classes, outputs.shape[1])
    counts.index_put_((labels, answers_of(outputs)), torch.tensor(1.0), accumulate=True)
    counts.diagonal().add_(0.5)
    return tuple(int(column) for column in linear_sum_assignment(-counts.numpy())[1])


def other_order(outputs: Tensor, labels: Tensor, classes: int, measure: Reference) -> Order | None:
    """Another order of the classes that makes the answers plausible, or None. It is fitted on every
    other image and must be better, and plausible, on those between."""
    if outputs.shape[1] < classes or len(labels) < 20:
        return None
    found = fitted_order(outputs[::2], labels[::2], classes)
    if found == tuple(range(classes)):
        return None
    answers, truth = answers_of(outputs[1::2]), labels[1::2]
    then = answers == relabelled(truth, found)
    gained, lost = _disagreements(then, answers == truth)
    if gained <= lost or _more_than_half(gained, gained + lost) > TRUSTED:
        return None
    return fitted_order(outputs, labels, classes) if measure.plausible(then) else None


def relabelled(labels: Tensor, order: Sequence[int]) -> Tensor:
    """Which output stands for each label, (n,)."""
    return torch.tensor(list(order))[labels]
