"""Which form a network wants its images in: all on a few images, the best of them on more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blankcheck.data import Data, Split
from blankcheck.diagnosing import forms as form_lists
from blankcheck.diagnosing import scoring
from blankcheck.diagnosing.forms import OWN, PLAIN, STATISTICS, UNDONE, Form
from blankcheck.diagnosing.scoring import Network, Order, Reference, Scored, UnusableError, ask

SCREENED, FEWEST_SCREENED = 100, 25
"""Images that every form is tried on, and of slow networks at least."""
FINALISTS = 6
"""Forms that are tried on more images, and as many with another order of classes."""
FEWEST = 200
"""Images that these are compared on at least."""
FARTHER = 5
"""Times as many images are used where several forms are as good."""
PATIENCE = 10.0
"""Seconds that each of these three steps may take, about; a slow network is asked about fewer
images."""
MOST_NUMBERS = 150_000_000
"""Images x features that are held at once, 1000 images of 3x224x224, however many are asked for."""
STRANGE = 15
"""Temperature that no trained network needs; those measured need 0.4 to 1.8."""
REFUSED = 4
"""Images that a repair is tried on."""

Note = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Choice:
    """What was found. current: the form that was given. best: the form to use. equals: those that
    fit as well as the likeliest. scored: the finalists, the likeliest first, on the same `images`.
    order: which output stands for each class (None: as it is). refused: what the network said to
    images as they are, None where it takes them. tried: how many forms."""

    current: Form
    best: Scored
    equals: tuple[Scored, ...]
    scored: tuple[Scored, ...]
    images: Tensor
    labels: Tensor
    order: Order | None
    plausible: bool
    measure: Reference
    refused: str | None
    tried: int

    @property
    def now(self) -> Scored | None:
        """The form that was given, None where the network refuses it."""
        return next((s for s in self.scored if s.form is self.current), None)


@dataclass(frozen=True)
class Examined:
    """A network and what it is examined with. module: it, where it has layers. current: the form it
    was given. fixed: its normalisation cannot be changed, so only arrangements are tried. images:
    validation images to compare forms on. note(stage, done, all, words) is told how far it is."""

    network: Network
    module: nn.Module | None
    current: Form
    data: Data
    device: torch.device
    fixed: bool
    images: int
    seed: int
    note: Note

    @property
    def classes(self) -> int:
        """How many classes the data has."""
        return len(self.data.classes)

    def answers(self, form: Form, images: Tensor) -> Tensor:
        """Outputs (n, m) in a form; UnusableError where there are none."""
        return ask(self.network, form, images, self.device)

    def refusal(self, form: Form, some: Tensor) -> str | None:
        """What the network says to images that it does not take; None where it does."""
        try:
            self.answers(form, some)
        except UnusableError as error:
            return str(error)
        return None

    def affordable(self, forms: Sequence[Form], most: int, least: int) -> int:
        """About how many images of each form the patience reaches for."""
        some, began = self.data.validation.images[:REFUSED], time.monotonic()
        self.refusal(forms[0], some)
        for_one = (time.monotonic() - began) / len(some)
        return max(min(most, int(PATIENCE / (for_one * len(forms)))), min(most, least))

    def outputs(self, forms: Sequence[Form], split: Split, stage: str) -> list[tuple[Form, Tensor]]:
        """The outputs in each form that has usable ones. Raises UnusableError where none has."""
        made, last = [], UnusableError("it answers some images and refuses others")
        for done, form in enumerate(forms):
            self.note(stage, done, len(forms), "")
            try:
                outputs = self.answers(form, split.loaded())
                if (n := outputs.shape[1]) < self.classes:
                    raise UnusableError(f"{n} outputs for {self.classes} classes", n)
                made.append((form, outputs))
            except UnusableError as error:
                last = error
        self.note(stage, len(forms), len(forms), f"{len(forms)} on {len(split)} images")
        if not made:
            raise last
        return made


def choose(asked: Examined) -> Choice:
    """Try every form on validation images, and the likeliest on five times as many where that does
    not decide and the network is quick enough. Raises UnusableError where no form gives an output
    for each class."""
    data, current = asked.data, asked.current
    pool = data.validation.sample(asked.images * FARTHER, asked.seed).at_most(MOST_NUMBERS)
    refused, forms = _forms(asked, pool.images[:REFUSED])
    screened = asked.affordable(forms, min(SCREENED, asked.images), FEWEST_SCREENED)
    finalists = _screened(asked, forms, _first(pool, screened))
    train = data.train.sample(10_000, seed=0).at_most(MOST_NUMBERS)
    n = min(asked.affordable(finalists, asked.images, FEWEST), len(pool))
    while True:
        seen = _first(pool, n)
        measure = scoring.reference(train, seen, asked.classes)
        answers = asked.outputs(finalists, seen, "finalists")
        scored = [scoring.score(form, outputs, seen.labels) for form, outputs in answers]
        order, ranked = _ordered(scored, seen.labels, asked.classes, measure)
        equals = _equals(ranked)
        told_apart = all(s.form.same_normalisation(equals[0].form) for s in equals)
        if n >= len(pool) or told_apart or not measure.plausible(ranked[0].right):
            break
        finalists = _forms_of([*equals, *(s for s in scored if s.form is current)])
        if asked.affordable(finalists, n * FARTHER, n) < n * FARTHER:
            break
        n = min(len(pool), n * FARTHER)
    own = Form(data.mean_and_std(), OWN, STATISTICS)
    best = min(equals, key=lambda s: _unlikely(s, current, own))
    found = current, best, equals, tuple(ranked), seen.loaded(), seen.labels, order
    return Choice(*found, measure.plausible(best.right), measure, refused, len(forms))


def _first(split: Split, n: int) -> Split:
    """The first n images, as one tensor."""
    some = split.take(torch.arange(min(n, len(split))))
    return Split(some.loaded(), some.labels)


def _forms(asked: Examined, some: Tensor) -> tuple[str | None, list[Form]]:
    """What the network says to images in the given form, if it refuses them; the forms to try."""
    shape, own, current = asked.data.shape, asked.data.mean_and_std(), asked.current
    said = asked.refusal(current, some)
    forms: list[Form] = []
    if said is None or (not asked.fixed and asked.refusal(Form(None, "", PLAIN), some) is None):
        forms = form_lists.candidates(shape, own, current)
    else:
        for arrangement in form_lists.repairs(shape):
            tried = form_lists.rearranged(arrangement, shape[0], own, current)
            forms += tried if asked.refusal(tried[0], some) is None else []
    if asked.fixed:
        forms = [form for form in forms if form.same_normalisation(current)]
    if not forms:
        raise UnusableError(said or "")
    return said, forms


def _screened(asked: Examined, forms: Sequence[Form], few: Split) -> list[Form]:
    """The given form, and the likeliest, with the classes as they are and in the best order."""
    plain, turned = [], []
    for form, outputs in asked.outputs(forms, few, "forms"):
        plain.append(scoring.score(form, outputs, few.labels))
        order = scoring.fitted_order(outputs, few.labels, asked.classes)
        turned.append(scoring.score(form, outputs, scoring.relabelled(few.labels, order)))
    likeliest = [*_likeliest(plain)[:FINALISTS], *_likeliest(turned)[:FINALISTS]]
    return _forms_of([*(s for s in plain if s.form is asked.current), *likeliest])


def _forms_of(scored: Iterable[Scored]) -> list[Form]:
    """Each form once."""
    return list({id(s.form): s.form for s in scored}.values())


def _equals(ranked: Sequence[Scored]) -> tuple[Scored, ...]:
    """The forms that none is better than, of ordinary temperature where there are such."""
    equals = tuple(s for s in ranked if not scoring.better(ranked[0], s))
    return tuple(s for s in equals if s.temperature <= STRANGE) or equals


def _likeliest(scored: Sequence[Scored]) -> list[Scored]:
    return sorted(scored, key=lambda s: s.mean_loss)


def _ordered(
    scored: Sequence[Scored], labels: Tensor, classes: int, measure: Reference
) -> tuple[Order | None, list[Scored]]:
    """The order of the classes, None where it is right, and the forms ranked under it."""

    def under(order: Order, some: Sequence[Scored]) -> list[Scored]:
        turned = scoring.relabelled(labels, order)
        return _likeliest([scoring.score(s.form, s.outputs, turned) for s in some])

    def other(s: Scored) -> Order | None:
        return scoring.other_order(s.outputs, labels, classes, measure)

    ranked = _likeliest(scored)
    order = other(ranked[0])
    if order is None and not measure.plausible(ranked[0].right):
        found = [(other(s), s) for s in scored]
        turned = [(order, under(order, [s])[0]) for order, s in found if order is not None]
        order = min(turned, key=lambda pair: pair[1].mean_loss, default=(None,))[0]
    return (None, ranked) if order is None else (order, under(order, scored))


def _unlikely(scored: Scored, current: Form, own: Form) -> tuple[bool | float, ...]:
    """Smaller for forms to prefer where several are as good: that of now, its arrangement, its
    normalisation, what undoes nothing, no constants of other data (ImageNet's are used for all)."""
    form, turned = scored.form, scored.form.arrangement is not current.arrangement
    anywhere = form.origin == OWN or form.origin.startswith("ImageNet")
    foreign = form.kind == STATISTICS and not anywhere and not form.same_normalisation(own)
    normalised, undone = turned and not form.same_normalisation(current), form.kind == UNDONE
    return form is not current, turned, normalised, undone, foreign, scored.mean_loss
