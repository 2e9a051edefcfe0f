"""What kind of outputs a network has, and whether they can say how sure it is."""

from __future__ import annotations

import math
from collections.abc import Iterator

from torch import Tensor

from blankcheck.diagnosing.findings import NOTE, WHERE, Finding, after, good, problem
from blankcheck.diagnosing.scoring import Scored, usable
from blankcheck.judging.check_rules import MIN_REAL_CONFIDENT
from blankcheck.outputs import as_logits
from blankcheck.text import percent

INSTEAD = "To undo it in the factory instead:"
CONFIDENCE, WANTED = 0.9, 0.9
"""What an audit asks for by default, and the share of real images that must be right with it."""
TOUCHED, TOUCHED_OF_TWO = 0.9, 0.99
"""Value that a tenth of the images must reach to show that outputs are squashed into [0, 1] or
[-1, 1]; of two outputs, where being unsure looks like two softmaxes."""
NEVER = 0.05
"""Share of images up to which a network counts as sure of none."""
ROUNDING = 1e-3


def count_finding(outputs: int, classes: int) -> Finding:
    """Whether every class has an output."""
    if outputs < classes:
        said = f"It has {outputs} outputs, the data has {classes} classes."
        give = "Name the --data it was trained on, or train a last layer for these classes."
        return problem("outputs", said, give)
    said = f"{outputs} outputs for {classes} classes"
    if outputs == classes:
        return good("outputs", said)
    more = f"It has {said}; the last {outputs - classes} count as fake or reject classes."
    leave = "If they are none, leave them out in the factory:"
    return Finding("outputs", NOTE, more, leave, after(f"y[:, :{classes}]"))


def broken(outputs: Tensor) -> Finding | None:
    """Outputs (n, m) that are no numbers, or the same for every image."""
    n, lost = len(outputs), int((~usable(outputs)).sum())
    if lost:
        look = "Look for a division by zero, a logarithm of zero, or weights that diverged."
        return problem("finite", f"NaN or infinity for {lost} of {n} real images.", look)
    spread = float((outputs - outputs[:1]).nan_to_num().abs().max())
    if spread <= 1e-6 * (1 + float(outputs.nan_to_num(neginf=0.0).abs().max())):
        look = "Look for a layer whose weights are zero, or that every image saturates."
        return problem("constant", f"The same outputs for all of {n} real images.", look)
    return None


def answer_findings(best: Scored, plausible: bool, held: float) -> Iterator[Finding]:
    """The outputs in the form to use. plausible: it answers well enough to ask how sure it is.
    held: the temperature that it is loaded with."""
    yield good("finite", f"finite on all of {len(best.outputs)} real images")
    advice = "; logits would not saturate" if best.kind == "probabilities" else ""
    yield good("output-form", f"{best.kind}{advice}")
    if plausible:
        capped = _squashed(best) if best.kind == "logits" else _softmax_twice(best)
        yield capped or _confidence(best, held)


def _softmax_twice(best: Scored) -> Finding | None:
    """Probabilities that are the softmax of probabilities cannot be sure."""
    p = best.probabilities
    m = p.shape[1]
    # log p = q - log Z for the q with sum 1 whose softmax is p; the mean gives log Z
    logs = p.double().clamp_min(1e-300).log()
    before = logs - logs.mean(dim=1, keepdim=True) + 1 / m
    within = bool((before >= -ROUNDING).all() and (before <= 1 + ROUNDING).all())
    if not within or not _touches(before, TOUCHED if m > 2 else TOUCHED_OF_TWO):
        return None
    top, most = percent(float(p.max())), percent(_most(1, m))
    said = f"Two softmaxes in a row: no probability is above {top}, and none can be above {most}."
    y = "y.log()" if best.kind == "probabilities" else "y"
    undone = f"({y} - {y}.mean(1, keepdim=True) + {1 / m:.7g}).clamp(0, 1)"
    take = f"Take the last softmax out of the network. {INSTEAD}"
    return problem("softmax-twice", said, take, after(undone))


def _squashed(best: Scored) -> Finding | None:
    """Logits that a sigmoid or a tanh holds in a small range cannot be sure."""
    outputs = best.outputs
    low, high = float(outputs.min()), float(outputs.max())
    most = _most(1 if low >= 0 else 2, outputs.shape[1])
    if low < -1 or high > 1 or most >= CONFIDENCE or not _touches(outputs, TOUCHED):
        return None
    top = percent(float(best.probabilities.max()))
    said = (
        f"Outputs lie in [{low:.2g}, {high:.2g}] and are no probabilities, so they count as logits"
    )
    said += f": no probability is above {top}, and none can be above {percent(most)}."
    tanh, sigmoid = ("tanh", "y.clamp(-0.999999, 0.999999).atanh()"), ("sigmoid", "y.logit(1e-7)")
    what, undone = sigmoid if low >= 0 else tanh
    hand = f"Hand out what stands before the last {what}. {INSTEAD}"
    return problem("bounded-outputs", said, hand, after(undone))


def _touches(values: Tensor, bound: float) -> bool:
    return float(values.amax(dim=1).quantile(0.9)) >= bound


def _most(width: float, outputs: int) -> float:
    """The largest probability that logits in a range of this width can give."""
    return math.exp(width) / (math.exp(width) + outputs - 1)


def wanted_temperature(best: Scored, held: float) -> float:
    """The temperature under which the outputs fit the labels best, with two digits."""
    return float(f"{best.temperature * held:.2g}")


def _sure(best: Scored, temperature: float) -> float:
    """The share of images that are right and confident, with logits divided by a temperature."""
    p = (as_logits(best.outputs, best.kind) / temperature).softmax(dim=1)
    return float((best.right & (p.amax(dim=1) >= CONFIDENCE)).float().mean())


def _confidence(best: Scored, held: float) -> Finding:
    share, then = _sure(best, 1.0), _sure(best, best.temperature)
    said = f"{percent(share)} of real images right with a probability of at least {CONFIDENCE:g}"
    if share >= WANTED:
        return good("confidence", said)
    given = f"{wanted_temperature(best, held):g}"
    warmed = f"{percent(then)} with the temperature that fits the labels best, {given}"
    if share <= NEVER and then >= MIN_REAL_CONFIDENT:
        said = f"{said}, {warmed}: as it is, an audit has nothing to find."
        if best.kind != "probabilities":
            return problem("temperature", said, f"Give --temperature {given}.")
        line = after(f"y.clamp_min(1e-30).log() / {given}")
        return problem("temperature", said, WHERE, line)
    unless = "an audit says RESISTED only if a plain network is hardly surer of these data"
    timid = f"{said}, {warmed}. Below {percent(WANTED)}, {unless}."
    train = "Train it to be surer of its own data, or audit with a lower --confidence."
    return Finding("confidence", NOTE, timid, train)
