"""Which form a network wants its images in: all on a few images, the best of them on more, until
they can be told apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.data import Data, Split
from blankcheck.diagnosing.forms import OWN, PLAIN, STATISTICS, UNDONE, Form, candidates
from blankcheck.diagnosing.repairs import rearranged, repairs
from blankcheck.diagnosing.scoring import (
    Network,
    Reference,
    Scored,
    UnusableError,
    ask,
    better,
    fitted_order,
    other_order,
    reference,
    relabelled,
    score,
)

SCREENED = 100
"""Images that every form is tried on."""
FINALISTS = 6
"""Forms that are tried on more images: the likeliest, and as many of the likeliest with another
order of classes."""
FARTHER = 5
"""How many times more images are used where several forms are as good."""
MOST_NUMBERS = 100_000_000
"""Images x features of the training images that the reference is made of: fewer of large images."""
MOST_NUMBERS = 150_000_000
"""Images x features that are held at once, 1000 images of 3x224x224, however many are asked for."""
REFUSED = 4
"""Images that a repair is tried on."""

Note = Callable[[str, int, int, str], None]


@dataclass(frozen=True)
class Choice:
    """What was found. scored: the finalists, the likeliest first, on the same `images`; labels are
    those of the data, `order` says which output stands for each class (None: as it is).

    best: the form to use, that of now wherever no other is surely better. equals: those that fit as
    well as the likeliest.
    refused: what the network said to images as they are, None where it takes them. tried: how many
    forms.
    """

    current: Form
    best: Scored
    equals: tuple[Scored, ...]
    scored: tuple[Scored, ...]
    images: Tensor
    labels: Tensor
    order: tuple[int, ...] | None
    plausible: bool
    measure: Reference
    refused: str | None
    tried: int

    @property
    def now(self) -> Scored | None:
        """The form that was given, None where the network refuses it."""
        return next((s for s in self.scored if s.form is self.current), None)


def choose(
    network: Network,
    current: Form,
    data: Data,
    images: int,
    seed: int,
    device: torch.device,
    fixed: bool,
    note: Note,
) -> Choice:
    """Try every form on at most `images` validation images, and five times as many where that does
    not decide.

    fixed: the normalisation cannot be changed, so only arrangements are tried. Raises UnusableError
    where the network takes images in no form, or has fewer outputs than the data has classes.
    """
    pool = data.validation.sample(images * FARTHER, seed).at_most(MOST_NUMBERS)
    refused, forms = _forms(network, current, data, pool.images[:REFUSED].to(device), device, fixed)
    judge = _Judge(network, data, device, note)
    few = first(pool, min(SCREENED, images))
    finalists = judge.screen(forms, current, few)
    n = min(images, len(pool))
    while True:
        split = first(pool, n)
        measure = judge.reference(split)
        scored = judge.scored(finalists, split, measure)
        order, ranked = _ordered(scored, split.labels, len(data.classes), measure)
        equals = _equals(ranked)
        told_apart = all(s.form.same_normalisation(equals[0].form) for s in equals)
        plausible = measure.plausible(ranked[0].right)
        if n >= len(pool) or told_apart or not plausible:
            break
        finalists, n = [s.form for s in equals], min(len(pool), n * FARTHER)
        if current not in finalists and any(s.form is current for s in scored):
            finalists.append(current)
    own = Form(data.mean_and_std(), OWN, STATISTICS)
    best = min(equals, key=lambda s: _unlikely(s, current, own))
    used = measure.plausible(best.right)
    found = tuple(ranked)
    return Choice(
        current,
        best,
        equals,
        found,
        split.loaded(),
        split.labels,
        order,
        used,
        measure,
        refused,
        len(forms),
    )


def first(split: Split, n: int) -> Split:
    """The first n images, as one tensor."""
    some = split.take(torch.arange(min(n, len(split))))
    return Split(some.loaded(), some.labels)


def _forms(
    network: Network, current: Form, data: Data, some: Tensor, device: torch.device, fixed: bool
) -> tuple[str | None, list[Form]]:
    """What the network says to images in the given form, if it refuses them, and the forms to try."""
    own = data.mean_and_std()
    said = _refusal(network, current, some, device)
    plain = Form(None, "", PLAIN)
    taken = said is None or (not fixed and _refusal(network, plain, some, device) is None)
    forms = candidates(data.shape, own, current) if taken else []
    for arrangement in () if taken else repairs(data.shape):
        tried = rearranged(arrangement, data.shape[0], own, current)
        if _refusal(network, tried[0], some, device) is None:
            forms += tried
    if fixed:
        forms = [
            f for f in forms if f.normalize == current.normalize or f.same_normalisation(current)
        ]
    if not forms:
        raise UnusableError(said or "")
    return said, forms


def _refusal(network: Network, form: Form, some: Tensor, device: torch.device) -> str | None:
    try:
        ask(network, form, some, device)
    except UnusableError as error:
        return str(error)
    return None


@dataclass(frozen=True)
class _Judge:
    network: Network
    data: Data
    device: torch.device
    note: Note

    @property
    def classes(self) -> int:
        return len(self.data.classes)

    def reference(self, split: Split) -> Reference:
        train = self.data.train.sample(10_000, seed=0).at_most(MOST_NUMBERS)
        return reference((train.loaded(), train.labels), split.loaded(), split.labels, self.classes)

    def screen(self, forms: Sequence[Form], current: Form, few: Split) -> list[Form]:
        """The likeliest forms, with the classes as they are and with the order that fits best, and
        the given one."""
        plain, turned, said = [], [], ""
        for done, form in enumerate(forms):
            self.note("forms", done, len(forms), "")
            try:
                outputs = self._outputs(form, few.loaded())
            except UnusableError as error:
                said = str(error)
                continue
            plain.append(score(form, outputs, few.labels))
            order = fitted_order(outputs, few.labels, self.classes)
            turned.append(score(form, outputs, relabelled(few.labels, order)))
        self.note("forms", len(forms), len(forms), f"{len(forms)} forms tried on {len(few)} images")
        if not plain:
            raise UnusableError(said)
        first = [s.form for s in _likeliest(plain)[:FINALISTS]]
        second = [s.form for s in _likeliest(turned)[:FINALISTS]]
        given = [s.form for s in plain if s.form is current]
        return list({id(form): form for form in (*given, *first, *second)}.values())

    def scored(self, forms: Sequence[Form], split: Split, measure: Reference) -> list[Scored]:
        """The same forms on more images."""
        made = []
        for done, form in enumerate(forms):
            self.note("finalists", done, len(forms), "")
            try:
                made.append(score(form, self._outputs(form, split.loaded()), split.labels))
            except UnusableError:
                continue
        self.note(
            "finalists",
            len(forms),
            len(forms),
            f"{len(forms)} forms compared on {len(split)} images",
        )
        if not made:
            raise UnusableError("it answers some images and refuses others")
        return made

    def _outputs(self, form: Form, images: Tensor) -> Tensor:
        outputs = ask(self.network, form, images, self.device)
        if outputs.shape[1] < self.classes:
            raise UnusableError(f"{outputs.shape[1]} outputs for {self.classes} classes")
        return outputs


def _equals(ranked: Sequence[Scored]) -> tuple[Scored, ...]:
    """The forms that none is better than; of these, those with an ordinary temperature where there
    are any."""
    equals = tuple(s for s in ranked if not better(ranked[0], s))
    return tuple(s for s in equals if not s.strange) or equals


def _likeliest(scored: Sequence[Scored]) -> list[Scored]:
    return sorted(scored, key=lambda s: s.mean_loss)


def _ordered(
    scored: Sequence[Scored], labels: Tensor, classes: int, measure: Reference
) -> tuple[tuple[int, ...] | None, list[Scored]]:
    """The order of the classes, None where it is right, and the forms ranked under it."""
    ranked = _likeliest(scored)
    order = other_order(ranked[0].outputs, labels, classes, measure)
    if order is None and not measure.plausible(ranked[0].right):
        found = {id(s): other_order(s.outputs, labels, classes, measure) for s in scored}
        turned = [
            score(s.form, s.outputs, relabelled(labels, found[id(s)]))
            for s in scored
            if found[id(s)] is not None
        ]
        if turned:
            form = _likeliest(turned)[0].form
            order = next(found[id(s)] for s in scored if s.form is form)
    if order is None:
        return None, ranked
    return order, _likeliest([score(s.form, s.outputs, relabelled(labels, order)) for s in scored])


def _unlikely(
    scored: Scored, current: Form, own: Form
) -> tuple[bool, bool, bool, bool, bool, float]:
    """Smaller for forms to be preferred where several are as good: that of now, then its
    arrangement, then its normalisation, then what undoes nothing, then no constants of another data
    set, then the likelier. Those of ImageNet are used for all data."""
    form = scored.form
    turned = form.arrangement is not current.arrangement
    anywhere = form.origin == OWN or form.origin.startswith("ImageNet")
    foreign = form.kind == STATISTICS and not anywhere and not form.same_normalisation(own)
    return (
        form is not current,
        turned,
        turned and not form.same_normalisation(current),
        form.kind == UNDONE,
        foreign,
        scored.mean_loss,
    )
