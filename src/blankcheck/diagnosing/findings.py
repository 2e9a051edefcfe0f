"""What the images and classes should be: what was measured, and the option or line that helps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from blankcheck.diagnosing.choosing import Choice
from blankcheck.diagnosing.forms import PLAIN, RANGE, STATISTICS, UNDONE, Form, spelled
from blankcheck.diagnosing.scoring import answers_of
from blankcheck.text import percent

GOOD, NOTE, PROBLEM = "good", "note", "problem"
WHERE = "Add to the factory, before it returns the network:"
AS_GOOD = 3
"""Forms that are named where several fit as well."""
NORMALISATIONS = {
    PLAIN: ("double-normalisation", "It normalises for itself, or not at all"),
    UNDONE: ("double-normalisation", "Its own code normalises, which its weights are not used to"),
    RANGE: ("value-range", "It wants other values than [0, 1]"),
    STATISTICS: ("normalisation", "The normalisation it was trained with is"),
}


@dataclass(frozen=True)
class Finding:
    """One finding.

    Args:
        code: names its kind.
        status: good, note or problem. A problem would make an audit worthless, or one of another
            network than was meant.
        finding: what was measured.
        what_to_do: in words, with the exact option where one helps; empty where nothing helps.
        line: code for the factory that builds the network, or empty.
    """

    code: str
    status: str
    finding: str
    what_to_do: str = ""
    line: str = ""


def good(code: str, finding: str) -> Finding:
    """Nothing is to be done."""
    return Finding(code, GOOD, finding)


def problem(code: str, finding: str, what_to_do: str, line: str = "") -> Finding:
    """Something to put right."""
    return Finding(code, PROBLEM, finding, what_to_do, line)


def after(expression: str) -> str:
    """A line for the network's factory that changes its outputs y."""
    return f"network.register_forward_hook(lambda _, x, y: {expression})"


def image_findings(
    choice: Choice, shape: tuple[int, int, int], fixed: bool, steady: bool
) -> Iterator[Finding]:
    """Whether the network takes the images, and in which form it wants them. steady: its answers
    are repeatable; else a form that makes noise smaller would seem better."""
    best, current = choice.best.form, choice.current
    arrangement, size = best.arrangement, "x".join(map(str, shape))
    code, hook = arrangement.code, arrangement.hook
    if choice.refused is None:
        yield good("forward", f"takes {size} images in [0, 1]")
    elif code:
        said = f"It takes {arrangement.words} and refuses {size} images: {choice.refused}."
        give = f"{_give(choice)[:-1]}: three constants make three channels of one."
        yield problem(code, said, WHERE if hook else give, hook)
    if not choice.plausible or not steady:
        return
    same = best.same_normalisation(current)
    if choice.refused is None and code:
        so = "so" if same else "so and normalised as said below"
        yield problem(code, f"It wants {arrangement.words}: {_against(choice, so)}.", WHERE, hook)
    if same:
        yield _kept(choice, fixed)
    elif choice.refused is None or hook or not code:
        yield _other_normalisation(choice)


def _against(choice: Choice, so: str) -> str:
    said = f"{percent(choice.best.accuracy)} right {so}"
    now = choice.now
    if now is None:
        return said
    lost = f"loss {choice.best.mean_loss:.3g} against {now.mean_loss:.3g} nats"
    return f"{said}, {percent(now.accuracy)} with {now.form.normalisation}, {lost}"


def _give(choice: Choice) -> str:
    return f"Give {_option(choice.best.form)}."


def _option(form: Form) -> str:
    said = spelled(form.normalize)  # one that begins with a minus needs the equals sign
    return f"--normalize{'=' if said.startswith('-') else ' '}{said}"


def _kept(choice: Choice, fixed: bool) -> Finding:
    best = choice.best
    constants = best.form.normalize or ()
    said = "/".join(",".join(f"{v:.4g}" for v in values) for values in constants) or "none"
    if fixed:
        return good("normalisation", f"{said}, which it carries itself")
    others = _as_good(choice)
    if not others:
        return good("normalisation", f"{said}; none of {choice.tried - 1} other forms is as likely")
    fits = f"{percent(best.accuracy)} right with {best.form.normalisation}"
    undecided = f"Undecided on {len(choice.labels)} images: {fits}; as likely: {others}."
    likeliest = f"by a little, the likeliest here is {_option(choice.equals[0].form)}"
    trained = f"Give the one it was trained with; {likeliest}."
    return Finding("normalisation", NOTE, undecided, trained)


def _as_good(choice: Choice) -> str:
    """Other normalisations that fit as well; nothing where there is none."""
    best = choice.best.form
    others = [s for s in choice.equals if not s.form.same_normalisation(best)]
    named, more = [f"{s.form.words}, {percent(s.accuracy)}" for s in others[:AS_GOOD]], len(others)
    return "; ".join(named + ([f"{more - AS_GOOD} more"] if more > AS_GOOD else []))


def _other_normalisation(choice: Choice) -> Finding:
    best, give, others = choice.best.form, _give(choice), _as_good(choice)
    code, wants = NORMALISATIONS[best.kind]
    if best.kind == PLAIN:
        give = "Leave --normalize out."
    elif best.kind == UNDONE:
        give = f"Take the normalisation out of the network, or: {give}"
    elif best.kind == STATISTICS:
        wants += " missing" if choice.current.normalize is None else " another"
    said = f"{wants}: {_against(choice, f'with {best.normalisation}')}."
    return problem(code, f"{said} Undecided between it and {others}." if others else said, give)


def class_findings(choice: Choice, classes: tuple[str, ...]) -> Iterator[Finding]:
    """Whether the outputs stand in the order of the data's classes."""
    if choice.order is None or not choice.plausible:
        return
    outputs = choice.best.outputs
    order = [*choice.order, *sorted(set(range(outputs.shape[1])) - set(choice.order))]
    moved = [(classes[k], i) for k, i in enumerate(order[: len(classes)]) if k != i]
    now = float((answers_of(outputs) == choice.labels).float().mean())
    (name, place), *_ = moved
    said = f"{len(moved)} of {len(classes)} outputs stand in other places, that of {name!r} at "
    said += f"{place}: {percent(choice.best.accuracy)} right in another order, "
    yield problem(
        "class-order", f"{said}{percent(now)} in this one.", WHERE, after(f"y[:, {order}]")
    )


def accuracy_finding(choice: Choice, explained: bool) -> Finding:
    """Whether the accuracy is plausible. explained: another finding says already why it is not."""
    best, measure = choice.best, choice.measure
    low, high = (percent(best.numbers[f"accuracy_{end}_95"]) for end in ("lower", "upper"))
    right = f"{percent(best.accuracy)} of {len(choice.labels)} validation images right"
    others = f"chance {percent(measure.chance)}, nearest class mean {percent(measure.centroid)}"
    said = f"{right} (95% bounds {low} and {high}); {others}"
    if choice.plausible:
        return good("accuracy", said)
    no = f"No form of {choice.tried} makes the accuracy plausible. With {best.form.words}: {said}."
    if explained:
        return Finding("accuracy", NOTE, no)
    look = "Look whether these weights were trained on this data, and to the end."
    give = "Give the --weights of a trained network, and the --data it was trained on."
    known = measure.above_chance(best.right)
    return problem("accuracy", no, look) if known else problem("untrained", no, give)
