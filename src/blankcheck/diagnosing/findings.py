"""What the images and classes should be, as findings: what was measured, and the option or the line
that puts it right."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from blankcheck.diagnosing.choosing import Choice
from blankcheck.diagnosing.forms import PLAIN, RANGE, UNDONE, option_of
from blankcheck.diagnosing.scoring import Scored

GOOD, NOTE, PROBLEM = "good", "note", "problem"
WHERE = "Add to the factory, before it returns the network:"
AS_GOOD = 3
"""Forms that are named where several fit as well."""


@dataclass(frozen=True)
class Finding:
    """One finding. status: good, note or problem. finding: what was measured. what_to_do: in words,
    with the exact option where one helps; empty where nothing is to be done. line: code for the
    factory that builds the network, or empty."""

    code: str
    status: str
    finding: str
    what_to_do: str = ""
    line: str = ""


def good(code: str, finding: str) -> Finding:
    """Nothing is to be done."""
    return Finding(code, GOOD, finding)


def note(code: str, finding: str, what_to_do: str = "", line: str = "") -> Finding:
    """Something to know."""
    return Finding(code, NOTE, finding, what_to_do, line)


def problem(code: str, finding: str, what_to_do: str, line: str = "") -> Finding:
    """Something that would make an audit worthless, or one of another network than was meant."""
    return Finding(code, PROBLEM, finding, what_to_do, line)


def percent(share: float) -> str:
    """A share as people read it; only a whole is 100 %."""
    shown = f"{100 * share:.1f}"
    return f"{'99.9' if shown == '100.0' and share < 1 else shown.removesuffix('.0')} %"


def after(expression: str) -> str:
    """A line for the network's factory that changes its outputs y."""
    return f"network.register_forward_hook(lambda _, x, y: {expression})"


def against(best: Scored, now: Scored | None, so: str) -> str:
    """What the form to use gives, named `so`, and what the given one does."""
    said = f"{percent(best.accuracy)} right {so}"
    if now is None:
        return said
    lost = f"loss {best.mean_loss:.3g} against {now.mean_loss:.3g} nats"
    return f"{said}, {percent(now.accuracy)} with {now.form.normalisation}, {lost}"


def image_findings(choice: Choice, shape: tuple[int, int, int], fixed: bool) -> Iterator[Finding]:
    """Whether the network takes the images, and in which form it wants them."""
    best, current = choice.best.form, choice.current
    arrangement, size = best.arrangement, "x".join(map(str, shape))
    if choice.refused is None:
        yield good("forward", f"takes {size} images in [0, 1]")
    elif arrangement.code:
        yield _repair(
            choice, f"It takes {arrangement.words} and refuses {size} images: {choice.refused}"
        )
    if not choice.plausible:
        return
    if choice.refused is None and arrangement.code:
        so = "so" if best.same_normalisation(current) else "so and normalised as said below"
        wants = f"It wants {arrangement.words}: {against(choice.best, choice.now, so)}."
        yield problem(arrangement.code, wants, WHERE, arrangement.hook)
    if best.same_normalisation(current):
        yield _kept(choice, fixed)
    elif choice.refused is None or arrangement.hook or not arrangement.code:
        yield _other_normalisation(choice)


def _repair(choice: Choice, said: str) -> Finding:
    form = choice.best.form
    if form.arrangement.hook:
        return problem(form.arrangement.code, f"{said}.", WHERE, form.arrangement.hook)
    given = f"Give {option_of(form.normalize)}: three constants make three channels of one."
    return problem(form.arrangement.code, f"{said}.", given)


def _kept(choice: Choice, fixed: bool) -> Finding:
    said = (
        "/".join(
            ",".join(f"{v:.4g}" for v in values) for values in choice.best.form.normalize or ()
        )
        or "none"
    )
    others = [s for s in choice.equals if not s.form.same_normalisation(choice.current)]
    if fixed:
        return good("normalisation", f"{said}, which it carries itself")
    if not others:
        return good("normalisation", f"{said}; none of {choice.tried - 1} other forms is as likely")
    fits = against(choice.best, None, f"with {choice.best.form.normalisation}")
    undecided = f"Undecided on {len(choice.labels)} images: {fits}; as likely: {_as_good(others)}."
    return note("normalisation", undecided, "Give the one it was trained with.")


def _as_good(others: list[Scored]) -> str:
    named = [f"{s.form.words}, {percent(s.accuracy)}" for s in others[:AS_GOOD]]
    more = [f"{len(others) - AS_GOOD} more"] if len(others) > AS_GOOD else []
    return "; ".join([*named, *more])


def _other_normalisation(choice: Choice) -> Finding:
    best = choice.best.form
    others = [s for s in choice.equals if not s.form.same_normalisation(best)]
    said = f"{against(choice.best, choice.now, f'with {best.normalisation}')}."
    if others:
        said += f" Undecided between it and {_as_good(others)}."
    give = f"Give {option_of(best.normalize)}."
    if best.kind == PLAIN:
        return problem(
            "double-normalisation",
            f"It normalises for itself, or not at all: {said}",
            "Leave --normalize out.",
        )
    if best.kind == UNDONE:
        why = f"Its own code normalises, which its weights are not used to: {said}"
        return problem(
            "double-normalisation", why, f"Take the normalisation out of the network, or: {give}"
        )
    if best.kind == RANGE:
        return problem("value-range", f"It wants other values than [0, 1]: {said}", give)
    missing = "is missing" if choice.current.normalize is None else "is another"
    return problem(
        "normalisation", f"The normalisation it was trained with {missing}: {said}", give
    )


def class_findings(choice: Choice, classes: tuple[str, ...]) -> Iterator[Finding]:
    """Whether the outputs stand in the order of the data's classes."""
    if choice.order is None or not choice.plausible:
        return
    order = [
        *choice.order,
        *(i for i in range(choice.best.outputs.shape[1]) if i not in choice.order),
    ]
    moved = [(name, i) for k, (name, i) in enumerate(zip(classes, order, strict=False)) if k != i]
    answers = choice.best.outputs.nan_to_num().argmax(dim=1).tolist()
    before = sum(
        order[answer] == label
        for answer, label in zip(answers, choice.labels.tolist(), strict=True)
    )
    name, place = moved[0]
    said = (
        f"{len(moved)} of {len(classes)} outputs stand in other places, that of {name!r} at {place}: "
        f"{percent(choice.best.accuracy)} right in another order, {percent(before / len(answers))} in this one."
    )
    yield problem("class-order", said, WHERE, after(f"y[:, {order}]"))


def accuracy_finding(choice: Choice, explained: bool) -> Finding:
    """Whether the accuracy is plausible. explained: another finding says already why it is not."""
    best, measure = choice.best, choice.measure
    low, high = best.bounds
    said = (
        f"{percent(best.accuracy)} of {len(choice.labels)} validation images right (95 % bounds {percent(low)} and "
        f"{percent(high)}); chance {percent(measure.chance)}, nearest class mean {percent(measure.centroid)}"
    )
    if choice.plausible:
        return good("accuracy", said)
    tried = (
        f"No form of {choice.tried} makes the accuracy plausible. With {best.form.words}: {said}."
    )
    if explained:
        return note("accuracy", tried)
    if measure.above_chance(best.right):
        return problem(
            "accuracy",
            tried,
            "Look whether these weights were trained on this data, and to the end.",
        )
    return problem(
        "untrained",
        tried,
        "Give the --weights of a trained network, and the --data it was trained on.",
    )
