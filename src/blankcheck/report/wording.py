"""What a report says: the verdict's scope, the key numbers, and what changed between two audits."""

from __future__ import annotations

from typing import Any, NamedTuple

from blankcheck.judging import Verdict
from blankcheck.judging.check_rules import FAILED, PASSED
from blankcheck.report import certificate_wording
from blankcheck.runs.contents import RunContents
from blankcheck.text import NOTHING, number, one_line, percent

RIGHT = ("of real test images right", "on the full test set")


class Scope(NamedTuple):
    """How far a verdict reaches. why: for INCONCLUSIVE, what kept it from being more."""

    means: str
    does_not_mean: str
    why: tuple[str, ...] = ()


KeyNumber = tuple[str, str, str]
"""One number, what it counts, and what to know about it."""


class Change(NamedTuple):
    """One line of a comparison; its direction is `better`, `worse` or nothing."""

    label: str
    before: str
    after: str
    change: str = ""
    direction: str = ""


def seconds(made: dict[str, Any]) -> str:
    """What a round took, training and looking; nothing for older folders."""
    parts = (made.get("training_seconds"), made.get("looking_seconds"))
    known = [part for part in parts if isinstance(part, int | float)]
    return f"{sum(known):,.1f}" if known else NOTHING


def unit(contents: RunContents) -> str:
    """What is lit: the features of a grey image are its pixels."""
    return "pixels" if contents.channels == 1 else "features"


def title(contents: RunContents) -> str:
    """The data set and the network, as far as the configuration names them."""
    named = [str(contents.config[key]) for key in ("data", "model") if contents.config.get(key)]
    return " · ".join(named) or contents.run.path.name


def black(verdict: dict[str, Any]) -> str:
    """That the black image itself is confident; nothing where it is not, or that is not known."""
    said = verdict.get("black")
    if not said or not said["confident"]:
        return ""
    names = verdict["classes"]
    name = one_line(names[said["target"]], 60) if said["target"] < len(names) else said["target"]
    return f"black is a confident {name} ({percent(said['confidence'])})"


def different(verdict: dict[str, Any]) -> tuple[str, float | None]:
    """Words for the different fooling images of the fixed attempts, where some are equal, and how
    many features these have lit in the middle; of older folders, that of the attempts."""
    said = verdict.get("distinct")
    if not said:
        return "", verdict["median_lit"]
    equal = said["fooled"] < verdict["fooled"]
    words = f"{number(said['fooled'])} different {'image' if said['fooled'] == 1 else 'images'}"
    return words if equal else "", said["median_lit"]


def scope(contents: RunContents) -> Scope:
    """What the verdict means and what it does not mean, and what is proved beside it; first, where
    it is so, that black is confident."""
    said, verdict = _scope(contents), contents.verdict or {}
    if dark := black(verdict):
        said = said._replace(means=f"{dark[0].upper()}{dark[1:]}. {said.means}")
    proof = verdict.get("certificate")
    if not proof or not proof["smallest"] or verdict["verdict"] == Verdict.CERTIFIED:
        return said
    lit = f"at most {proof['smallest']} {certificate_wording.unit_of(proof)}"
    proved = f"{lit} never make {certificate_wording.of_what(proof)} sure of any class."
    more = f"{said.does_not_mean} Proved beside it, of all images: {proved}"
    return said._replace(does_not_mean=more)


def _scope(contents: RunContents) -> Scope:
    verdict = contents.verdict
    if verdict is None:
        return Scope(
            f"This run ({contents.command}) has not been audited, so there is no verdict.",
            "Nothing is known yet of how this classifier answers almost blank images: run "
            "blankcheck audit on it.",
        )
    word, n = Verdict(verdict["verdict"]), number(verdict["attempts"])
    bound = percent(verdict["rate_upper_95"])
    if word is Verdict.FOOLED:
        return _fooled(contents, verdict, n, bound)
    if word is Verdict.RESISTED:
        return Scope(
            f"None of {n} attempts fooled this classifier, and that counts because the search "
            "passed the checks of its strength.",
            "It is no proof. It speaks of this generator only, whose rate here is at most "
            f"{bound} (95% bound); another one may find what this one did not.",
        )
    if word is Verdict.CERTIFIED:
        return Scope(
            "A proof shows that no image within these conditions gets any class with the asked "
            "confidence.",
            "It speaks of these conditions only, not of images with more lit features.",
        )
    none_made = () if verdict["attempts"] else ("No attempt was made.",)
    return Scope(
        f"Nothing is proven. None of {n} attempts fooled this classifier, but that was not shown "
        "to count.",
        "It is a sign neither of safety nor of weakness; it speaks of this audit only.",
        none_made + tuple(f"{c['title']}: {c['finding']}" for c in against(verdict)),
    )


def _fooled(contents: RunContents, verdict: dict[str, Any], n: str, bound: str) -> Scope:
    """FOOLED by the fixed attempts, or only by what the checks found beside them."""
    if verdict["fooled"]:
        of, (equal, median) = f"{number(contents.features)} {unit(contents)}", different(verdict)
        many = f"{equal}, " if equal else ""
        return Scope(
            f"In {number(verdict['fooled'])} of {n} attempts the search made a sparse image "
            f"({many}median {number(median)} of {of} lit) that does not look like real data, and "
            "this classifier is sure of what it sees there.",
            "It does not say that the classifier is wrong about real images, and the rate speaks "
            "of this generator only: another one may fool it more often.",
        )
    extra = verdict["extra"]["fooled"]
    images = f"{number(extra)} fooling {'image' if extra == 1 else 'images'}"
    return Scope(
        f"None of the {n} fixed attempts fooled this classifier, yet the checks that look harder "
        f"found {images} outside them; one verified witness is enough.",
        f"The rate of 0% (95% bound: {bound}) is that of the fixed attempts of this generator "
        "only. It is no sign that the classifier resists.",
    )


def against(verdict: dict[str, Any]) -> list[dict[str, Any]]:
    """The checks that failed, and the mandatory ones that did not pass."""
    checks = ((c["status"], c["mandatory"], c) for c in verdict["checks"])
    return [c for status, needed, c in checks if status == FAILED or (needed and status != PASSED)]


def key_numbers(contents: RunContents) -> list[KeyNumber]:
    """The numbers a reader wants first."""
    v, of = contents.verdict, unit(contents)
    if v is None:
        return _training_numbers(contents)
    sparse, extra = v["sparse_confident"], v["extra"]
    allowed = f"allowed {number(v['conditions']['max_lit'])}"
    least = "" if v["min_lit"] is None else f"fewest {number(v['min_lit'])}, "
    among = "" if sparse["median_lit"] is None else f"; median {number(sparse['median_lit'])} lit"
    equal, median = different(v)
    if v["fooled"]:
        lit, label = number(median), f"lit {of}, median{f' of {equal}' if equal else ''}"
    else:
        least, lit, label = "", number(fewest(contents)), f"lit {of} at least to make it sure"
    attempts = f"{number(v['fooled'])} of {number(v['attempts'])}"
    rate = f"rate {percent(v['rate'])}, 95% upper bound {percent(v['rate_upper_95'])}"
    either = f"out of distribution or not{among}"
    fake = f"{percent(v['real_taken_for_fake'], 2)} of real test images taken for fake"
    said = [
        (attempts, "attempts fooled", rate),
        (lit, label, f"of {number(contents.features)}; {least}{allowed}"),
        (number(sparse["fooled"]), "attempts sparse and confident", either),
        (percent(v["real_accuracy"], 2), *RIGHT),
        (percent(v["real_confident"], 2), "right and confident", fake),
    ]
    if extra["fooled"]:
        note = f"found by the checks, outside the rate; fewest {number(extra['min_lit'])} lit"
        label = "extra witness" if extra["fooled"] == 1 else "extra witnesses"
        said.insert(1, (number(extra["fooled"]), label, note))
    return said


def most_fooled(contents: RunContents, most: int) -> list[tuple[int, dict[str, Any]]]:
    """The target classes in order, each with its numbers; of very many, those fooled most."""
    targets = contents.verdict["targets"] if contents.verdict else {}
    rows = [(int(target), row) for target, row in targets.items()]
    rows.sort(key=lambda item: (-(item[1]["rate"] or 0.0), item[0]))
    return sorted(rows[:most], key=lambda item: item[0])


def fewest(contents: RunContents) -> int | None:
    """Fewest lit features of any image that a fixed attempt made confident, whatever else it
    failed; None where none was."""
    return min((a.fewest for a in contents.attempts if a.fewest is not None), default=None)


def _training_numbers(contents: RunContents) -> list[KeyNumber]:
    if contents.trained is not None:
        t, sure = contents.trained, percent(contents.trained["real_confident"], 2)
        return [
            (percent(t["real_accuracy"], 2), *RIGHT),
            (sure, "right and confident", "confidence of at least 0.9"),
            (f"{t['seconds']:,.0f} s", "of training", f"{len(contents.epochs)} epochs"),
        ]
    if not contents.rounds:
        return []
    r = contents.rounds[-1]
    right, sure = (percent(r[f"validation_{key}"], 2) for key in ("accuracy", "confident"))
    attempts = f"{number(r['fresh_attempts'])} attempts a round"
    return [
        (right, "of validation images right", f"after round {r['index'] + 1}"),
        (sure, "right and confident", "on validation images"),
        (percent(r["fresh_rate"]), "of fresh attempts fooled", attempts),
    ]


def changes(before: RunContents, after: RunContents) -> list[Change]:
    """What hardening, or whatever lies between two audits, changed."""
    both = b, a = before.verdict or {}, after.verdict or {}
    was, now = met = b["sparse_confident"]["at_most"], a["sparse_confident"]["at_most"]
    sparse = {k: f"Sparse and confident with at most {k} lit" for k in now if k in was}
    fooled = [f"{number(v['fooled'])} of {number(v['attempts'])}" for v in (b, a)]
    extra = [number(v["extra"]["fooled"]) for v in (b, a)]
    median = [number(different(v)[1]) for v in (b, a)]
    least = [number(fewest(contents)) for contents in (before, after)]
    return [
        Change("Verdict", b["verdict"], a["verdict"]),
        Change("Attempts fooled", *fooled),
        _points("Rate", both, "rate", -1),
        _points("Rate, 95% upper bound", both, "rate_upper_95", -1),
        Change("Extra witnesses, outside the rate", *extra),
        Change("Median lit of fooling images", *median),
        Change("Fewest lit that made it sure, fooling or not", *least),
        *(_points(label, met, k, -1) for k, label in sparse.items()),
        _points("Real test images right", both, "real_accuracy", 1, 2),
        _points("Real test images right and confident", both, "real_confident", 1, 2),
    ]


def _points(label: str, both: tuple[Any, Any], key: str, good: int, digits: int = 1) -> Change:
    """A share and its change in percentage points. good: 1 where more is better, else -1."""
    before, after = (made[key] for made in both)
    change = Change(label, percent(before, digits), percent(after, digits))
    if before is None or after is None:
        return change
    step = round(100 * (after - before), digits)
    if step == 0:
        return change._replace(change="no change")
    said = f"{step:+.{digits}f} points".replace("-", "\N{MINUS SIGN}")
    return change._replace(change=said, direction="better" if step * good > 0 else "worse")


def unlike(before: RunContents, after: RunContents) -> str:
    """A warning when two audits did not ask the same question; else nothing."""
    b, a = before.verdict or {}, after.verdict or {}
    different = [k for k, value in a["conditions"].items() if b["conditions"].get(k) != value]
    if before.config.get("data") != after.config.get("data"):
        different.append("data")
    said = f"The two audits differ in {', '.join(different)}: compare with care."
    return said if different else ""
