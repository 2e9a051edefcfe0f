"""Other people's attacks in an audit: how they see the network, and what they hand back.

Such an attack looks for the image nearest to its start that the network calls the target. What it
sees is the network's log-odds less those of the confidence asked for, beside an output that is 0:
its own test of success is then that confidence. The libraries are neither needed nor known here; a
`ThirdPartyAttack` brings a function that imports its own.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from blankcheck.fooling import Goal
from blankcheck.outputs import as_logits, log_odds, run
from blankcheck.seeds import own_random_numbers
from blankcheck.text import one_line
from blankcheck.types import Classifier, stored

UNSURE = 1e4
"""Stands for infinite log-odds: attacks multiply what they see, and infinity x 0 is NaN."""


@dataclass
class Asked:
    """A classifier, the form of its outputs, and the confidence an attack is asked to reach.

    forwards, backwards: how many images went through the classifier, forward and backward.
    """

    classifier: Classifier
    form: str
    confidence: float
    forwards: int = 0
    backwards: int = 0

    @property
    def target_log_odds(self) -> float:
        """The confidence as log-odds."""
        return math.log(self.confidence / (1 - self.confidence))

    def logits(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, m), counted."""
        self.forwards += len(images)
        outputs = run(self.classifier, images)
        if outputs.requires_grad:
            # torch has no types for hooks
            outputs.register_hook(self._back)  # type: ignore[no-untyped-call]
        return as_logits(outputs, self.form)

    def _back(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


class _View(nn.Module):
    """What an attack holds instead of the classifier: without parameters or submodules that a
    library could move, change or freeze. device: where the classifier is."""

    def __init__(self, asked: Asked, device: torch.device) -> None:
        super().__init__()
        self.asked, self.device = asked, device

    def forward(self, images: Tensor) -> Tensor:
        odds = self._odds(self.asked.logits(images.to(self.device)))
        lacking = (odds - self.asked.target_log_odds).nan_to_num(-UNSURE, UNSURE, -UNSURE)
        return torch.cat([lacking, lacking.new_zeros(len(lacking), 1)], 1).to(images.device)

    def _odds(self, logits: Tensor) -> Tensor:
        raise NotImplementedError


class EachClass(_View):
    """Every output's log-odds less those asked for, and last a 0: (n, c, h, w) -> (n, m + 1).

    From a confidence of 0.5 up, the largest is a class exactly when that class has it.
    """

    def _odds(self, logits: Tensor) -> Tensor:
        likely = logits.log_softmax(dim=1)
        top = likely.argmax(dim=1, keepdim=True)
        # log(1 - p) is exact up to p = 1/2, and only the largest output can lie above
        odds = likely - torch.log1p(-likely.exp().clamp_max(0.5))
        return odds.scatter(1, top, log_odds(logits, top.squeeze(1))[:, None])


class OneClass(_View):
    """Log-odds of each row's own target less those asked for, and a 0: (n, c, h, w) -> (n, 2).

    For attacks that can only leave a class: leaving the second is reaching the confidence.
    """

    def __init__(self, asked: Asked, device: torch.device, targets: Tensor) -> None:
        super().__init__(asked, device)
        self.targets = targets

    def _odds(self, logits: Tensor) -> Tensor:
        return log_odds(logits, self.targets)[:, None]


Run = Callable[[Asked, Tensor, Tensor], Any]
"""From a classifier, start images (n, c, h, w) and targets (n,) to what the library found: a
tensor, an array, or a sequence of those with None where nothing was found."""


@dataclass(frozen=True)
class ThirdPartyAttack:
    """One attack of one library.

    Args:
        name: under which it is reported.
        library: the distribution it belongs to.
        install: the command that installs it.
        make: imports the library, and raises ImportError where it is missing.
    """

    name: str
    library: str
    install: str
    make: Callable[[], Run]


@dataclass(frozen=True)
class ThirdPartyResult:
    """What an attack handed back, on the CPU; what the images are worth is not measured.

    images: (n, c, h, w) float32 in stored form, the start where it has none. targets: (n,).
    forwards, backwards: passes of all n images together. error: why it broke off, empty if not.
    """

    images: Tensor
    targets: Tensor
    forwards: int
    backwards: int
    error: str = ""


def run_third_party(
    attack: ThirdPartyAttack,
    classifier: Classifier,
    form: str,
    start: Tensor,
    targets: Tensor,
    confidence: float,
    seed: int = 0,
) -> ThirdPartyResult:
    """Let an attack of another library search for images with this confidence in their targets.

    Like our own searches it is asked for a hair more (`Goal.target_confidence`), so that an image
    on the edge is not lost when it is scored again. It computes where `start` lies. The global
    generators of torch, numpy and Python are left as found.

    Args:
        attack: its library has to be there.
        classifier: what is searched.
        form: of its outputs.
        start: (n, c, h, w) in [0, 1].
        targets: (n,) classes.
        confidence: in (0, 1).
        seed: of all random numbers.

    Returns:
        Its images; whatever it raises is the `error`.
    """
    asked, images, error = Asked(classifier, form, Goal(confidence).target_confidence), start, ""
    targets = targets.to(start.device)
    with _own_random_numbers(seed, start.device), warnings.catch_warnings(), torch.enable_grad():
        warnings.simplefilter("ignore")
        try:
            images = cleaned(attack.make()(asked, start.clone(), targets.clone()), start)
        except Exception as raised:
            error = _told(raised)
    images, passes = stored(images.float().cpu()), (asked.forwards, asked.backwards)
    return ThirdPartyResult(images, targets.cpu(), *passes, error)


def cleaned(found: Any, start: Tensor) -> Tensor:
    """What an attack handed back as float32 images in [0, 1] in the shape of `start`.

    Images that are None, and values that are not finite, are those of the start. Raises ValueError
    for another number of images or another shape.
    """
    rows = [None] * len(start) if found is None else list(found)
    if len(rows) != len(start):
        raise ValueError(f"handed back {len(rows)} images instead of {len(start)}")
    whole = start.detach().float()
    return torch.stack([_one_cleaned(*pair) for pair in zip(rows, whole, strict=True)])


def _one_cleaned(found: Any, before: Tensor) -> Tensor:
    if found is None:
        return before
    image = torch.as_tensor(found).detach().to(before)
    if image.shape != before.shape:
        shapes = f"{tuple(image.shape)} instead of {tuple(before.shape)}"
        raise ValueError(f"handed back an image of shape {shapes}")
    return torch.where(image.isfinite(), image, before).clamp(0, 1)


Usable = tuple[list[ThirdPartyAttack], dict[str, str]]


def available(attacks: Sequence[ThirdPartyAttack]) -> Usable:
    """The attacks whose library can be imported; why others cannot, and what installs them."""
    usable, lacking = [], {}
    for attack in attacks:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                attack.make()
            except Exception as raised:  # a library at odds with another's version raises anything
                lacking[attack.library] = f"cannot be imported ({_told(raised)}); {attack.install}"
            else:
                usable.append(attack)
    return usable, lacking


def _told(raised: Exception) -> str:
    return one_line(f"{type(raised).__name__}: {raised}", 240)


@contextmanager
def _own_random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Inside: global generators seeded. After: as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    with own_random_numbers(seed, [device]):
        random.seed(seed)
        np.random.seed(seed % 2**32)  # all that NumPy takes
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
