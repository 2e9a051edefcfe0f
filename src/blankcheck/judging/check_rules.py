"""When a control experiment counts as passed: from what was measured to (status, one sentence)."""

from __future__ import annotations

import math
from collections.abc import Callable

from blankcheck.judging.conformal import CERTAINTY, MARGINAL
from blankcheck.judging.evidence import Control, Evidence
from blankcheck.judging.metrics import false_alarm_p_value, lower_bound_95

PASSED, FAILED, NOT_APPLICABLE = "passed", "failed", "not-applicable"
MOST_BELOW_TWIN, MIN_REAL_CONFIDENT = 0.03, 0.5
"""How much less often than its plain twin a network may be sure of real images, and how often it
must be at least."""
WITHOUT_TWIN = 0.9
"""How often, where no twin says what the data allow."""
MIN_CONTROL_RATE = 0.95
POSITIVE, TWIN_CONFIDENT = "positive-control", "twin_real_confident"
"""The control that has a twin, and its number for the share of real test images of which that is
right and sure."""
ANY = "any:"
"""Before the name of a kind of simple images, of which the planted control says whether any was
found."""
MOST_UNLIKE = 0.02
"""Share of attempts whose best image may be scored otherwise, since batch sizes differ."""
MOST_SATURATED = 0.1
MOST_WAYS = 2
"""Of asking a network that are named where it answers otherwise."""
MIN_DIRECT = 0.25
"""Share of unbounded searches that must reach their target without a real image of it mixed in."""
GRADIENT_FAULTS = {
    "not-finite": (0.01, "not finite"),
    "hidden": (0.25, "zero although the answer moves"),
    "wrong": (0.25, "contradicted by finite differences"),
    "dead": (0.1, "zero at real images"),
}
"""Shares of the images of one kind that may have such a gradient, at most, and what it is."""

Look = Callable[[Evidence, Control | None], tuple[str, str]]


def _controlled(look: Callable[[Control, int, int], tuple[bool, str]]) -> Look:
    """Not applicable without the control; else what `look` says of it, its `found` and `tries`."""

    def run(evidence: Evidence, control: Control | None) -> tuple[str, str]:
        if control is None:
            return NOT_APPLICABLE, "Not applicable, because the control was not run."
        if control.why_not:
            return NOT_APPLICABLE, f"Not applicable, because {control.why_not}."
        good, sentence = look(control, control.found, control.tries)
        return PASSED if good else FAILED, f"{sentence}."

    return run


def least_confident(twin: float | None) -> float:
    """The share of real images of which a network must be right and sure; twin: that of its plain
    twin on the same images, None where there is none."""
    if twin is None:
        return WITHOUT_TWIN
    return max(MIN_REAL_CONFIDENT, twin - MOST_BELOW_TWIN)


def real_confident(evidence: Evidence, control: Control | None) -> tuple[str, str]:
    """As many real test images must be right with the asked confidence as of the plain twin, but
    for 3 points, and at least half."""
    share, confidence = evidence.real.confident, evidence.conditions.confidence
    sentence = f"{share:.1%} of real test images are right with confidence >= {confidence:g}"
    positive = next((c for c in evidence.controls if c.code == POSITIVE), None)
    twin = None if positive is None else positive.numbers.get(TWIN_CONFIDENT)
    least = least_confident(twin)
    beside = "there is no twin to compare with" if twin is None else f"{twin:.1%} of its plain twin"
    asked = f"at least {least:.1%} are asked ({beside})"
    if share >= least:
        return PASSED, f"{sentence}; {asked}."
    return FAILED, f"{sentence}; {asked}: being timid is not being robust."


def false_alarms(evidence: Evidence, control: Control | None) -> tuple[str, str]:
    """No more real images may be called out of distribution than the level says, chance aside."""
    record, level = evidence.ood, evidence.conditions.ood_level
    if record is None or not record.real_images:
        return NOT_APPLICABLE, "Not applicable, because no real test images were judged."
    found, n, calibrating = record.false_alarms, record.real_images, record.calibration_images
    least = lower_bound_95(found, n)
    sentence = f"{found} of {n} real test images are called out of distribution at level {level:g}"
    if least <= level:
        return PASSED, f"{sentence}."
    if record.guarantee == MARGINAL:
        # with few to calibrate, this one test may exceed the level, which holds on average
        chance = false_alarm_p_value(found, n, calibrating, int(level * (calibrating + 1)))
        if chance >= 1 - CERTAINTY:
            by_chance = f"as can happen by chance ({chance:.0%}) where {calibrating} calibrate it"
            return PASSED, f"{sentence}, {by_chance}."
    why = "what is found may be no stranger than real data"
    return FAILED, f"{sentence}, surely at least {least:.1%}: {why}."


@_controlled
def positive_control(control: Control, found: int, tries: int) -> tuple[bool, str]:
    """A plain network must be fooled in 95 % of attempts; where it is itself not sure of real
    images, with more attempts and steps."""
    most = control.numbers.get("steps")
    harder = f", again and with up to {most:g} steps where it failed," if most else ""
    sentence = f"The same search{harder} fools {found} of {tries} attempts on {control.detail}"
    good = tries > 0 and found / tries >= MIN_CONTROL_RATE
    return good, sentence if good else f"{sentence}; it should fool 95 %"


@_controlled
def planted_control(control: Control, found: int, tries: int) -> tuple[bool, str]:
    """Every pattern that is felt from black, and every kind of simple image, must be found; how
    narrow other patterns may be, and what nothing is known of, is said."""
    sentence = f"{found} of {tries} planted in copies of this network are found: {control.detail}"
    numbers, narrowest = control.numbers, control.numbers.get("narrowest_reach")
    missed = [name.removeprefix(ANY) for name in numbers if name.startswith(ANY)]
    missed = [name for name in missed if not numbers[ANY + name]]
    if missed:
        sentence += f"; not found: {', '.join(missed)}"
    if narrowest is not None:
        some = f"more than {1 - narrowest:.0%} of one" if narrowest < 1 else "any part of one"
        by = "black itself" if narrowest > 1 else f"an image that holds {some} and nothing else"
        felt = f"the narrowest are felt within {narrowest:g} times their own ink, so by {by}"
        unknown = "nothing is said of narrower ones, or of other images to which nothing leads"
        sentence += f"; {felt}; {unknown}"
    return tries > 0 and found == tries, sentence


@_controlled
def finds_no_more(control: Control, found: int, tries: int) -> tuple[bool, str]:
    """Looking harder, or elsewhere, must find nothing where the fixed attempts found nothing."""
    return found == 0, f"{control.detail}: {found} of {tries} searches that should fail succeed"


@_controlled
def unbounded(control: Control, found: int, tries: int) -> tuple[bool, str]:
    """Without a limit the target must be reached from every image, and from most directly."""
    direct = control.numbers.get("direct", found)
    reach = f"{found} of {tries} searches without a limit on lit features reach their target"
    sentence = f"From real images of other classes, {reach}, {direct:g} of them directly"
    return found == tries and direct >= MIN_DIRECT * tries, sentence


@_controlled
def same_answers(control: Control, found: int, tries: int) -> tuple[bool, str]:
    """The same image must get the same answer."""
    if found == 0:
        return True, f"The same {tries} images got the same answers {control.detail}"
    return False, f"{found} of {tries} images got other answers {control.detail}"


@_controlled
def watched(control: Control, found: int, tries: int) -> tuple[bool, str]:
    """However the network is asked, the same image must get the same answer, and calls must leave
    the network as it was."""
    moved, of = {name: n for name, n in control.numbers.items() if n}, f"of {tries} images"
    ways = [name.removeprefix("moved:") for name in moved if name.startswith("moved:")]
    more = len(ways) - MOST_WAYS
    named = " and ".join([*ways[:MOST_WAYS], *([f"in {more} other ways"] if more > 0 else [])])
    faults = [f"{found} {of} get other answers {named}"] if found else []
    if fooling := control.numbers.get("fooling"):
        faults.append(f"{fooling:g} of them are fooling images there")
    if n := control.numbers.get("changed"):
        faults.append(f"calls change {n:g} of its parameters, buffers and modes")
    if faults:
        return False, f"{'; '.join(faults)} ({control.detail})"
    return True, f"The same {tries} images got the same answers however asked ({control.detail})"


@_controlled
def best_kept(control: Control, found: int, tries: int) -> tuple[bool, str]:
    """The image handed back must be as good, scored again, as the best on the path was."""
    sentence = f"{found} of {tries} best images on the path were scored otherwise when scored again"
    return found <= MOST_UNLIKE * tries, sentence


@_controlled
def saturation(control: Control, found: int, tries: int) -> tuple[bool, str]:
    """Odds that are exactly 0 or infinite leave nothing to follow."""
    sentence = f"On {found} of {tries} images the target's odds are exactly 0 or infinite"
    return found <= MOST_SATURATED * tries, f"{sentence} ({control.detail})"


@_controlled
def gradient_health(control: Control, found: int, tries: int) -> tuple[bool, str]:
    """At every kind of image gradients must be numbers, must not be zero where the answer moves,
    and must agree with finite differences; at real images they must not be zero at all. Elsewhere a
    network may be flat: that is what not being sure of anything looks like, and other checks look
    at such places without gradients."""
    faults = []
    for name, share in control.numbers.items():
        kind, _, where = name.partition(":")
        most, words = GRADIENT_FAULTS.get(kind, (math.inf, ""))
        if share > most:
            faults.append(f"{where} {share:.0%} {words}")
    sentence = f"Gradients at {tries} kinds of image, {found} of them flat for most"
    if faults:
        return False, f"{sentence}: {'; '.join(faults)}"
    return True, f"{sentence}, agree with finite differences"
