"""What a report says first: the headline, the verdict's scope and the key numbers."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, NamedTuple

from blankcheck.judging import Verdict
from blankcheck.judging.check_rules import FAILED, PASSED
from blankcheck.report import certificate_wording
from blankcheck.runs.contents import RunContents
from blankcheck.text import NOTHING, number, one_line, percent

PROVING = ("certify", "gate")
"""Commands whose pages are about a proof."""
ON_ITS_WAY = "by the way"
"""What stands before the process of a witness that an attempt met and did not end with."""
NO_MORE = re.compile(" (?:finds?|fool) no more$")
"""What the title of a check that searches harder ends with."""
RIGHT = ("of real test images right", "on the full test set")


class Scope(NamedTuple):
    """How far a verdict reaches. why: for INCONCLUSIVE, what kept it from being more."""

    means: str
    does_not_mean: str
    why: tuple[str, ...] = ()


KeyNumber = tuple[str, str, str]
"""One number, what it counts, and what to know about it."""


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


def proof_of(contents: RunContents) -> dict[str, Any] | None:
    """The certificate of a run whose page is about it: one of `certify` or `gate`, or with the
    verdict CERTIFIED."""
    verdict = contents.verdict or {}
    about = contents.command in PROVING or verdict.get("verdict") == Verdict.CERTIFIED
    return verdict.get("certificate") if about else None


def word(contents: RunContents) -> str:
    """The headline: the verdict, or what a proof comes to where the page is about it."""
    verdict, proof = contents.verdict, proof_of(contents)
    if verdict is None:
        return "NOT AUDITED"
    if proof is None or verdict["verdict"] == Verdict.CERTIFIED:
        return str(verdict["verdict"])
    return certificate_wording.headline(proof)


def scope(contents: RunContents) -> Scope:
    """What the verdict means and what it does not mean, and what is proved beside it; first, where
    it is so, that black is confident."""
    said, verdict, about = _scope(contents), contents.verdict or {}, proof_of(contents)
    if about is not None:
        limits = certificate_wording.scope(about)
        if verdict["verdict"] != Verdict.CERTIFIED:
            limits = f"{certificate_wording.beside(verdict)} {limits}"
        why = said.why if verdict["verdict"] == Verdict.INCONCLUSIVE else ()
        return Scope(certificate_wording.claim(about, contents), limits, why)
    if dark := black(verdict):
        said = said._replace(means=f"{dark[0].upper()}{dark[1:]}. {said.means}")
    proof = verdict.get("certificate")
    if not proof or not proof["smallest"]:
        return said
    more = f"{said.does_not_mean} Proved beside it: {certificate_wording.claim(proof, contents)}"
    return said._replace(does_not_mean=more)


def _scope(contents: RunContents) -> Scope:
    verdict = contents.verdict
    if verdict is None:
        return Scope(
            f"This run ({contents.command}) has not been audited, so there is no verdict.",
            "Nothing is known yet of how this classifier answers almost blank images: run "
            "blankcheck audit on it.",
        )
    said, n = Verdict(verdict["verdict"]), number(verdict["attempts"])
    bound = percent(verdict["rate_upper_95"])
    if said is Verdict.FOOLED:
        return _fooled(contents, verdict, n, bound)
    if said is Verdict.RESISTED:
        return Scope(
            f"None of {n} attempts fooled this classifier, and that counts because the search "
            "passed the checks of its strength.",
            "It is no proof. It speaks of this generator only, whose rate here is at most "
            f"{bound} (95% bound); another one may find what this one did not.",
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
    found = dict(found_by(contents))
    met = found.pop(ON_ITS_WAY, 0)
    by_checks = verdict["extra"]["fooled"] - met
    images = f"fooling {'image' if (by_checks or met) == 1 else 'images'}"
    said = [f"checks that search harder found {number(by_checks)} {images}"] * bool(by_checks)
    more = "more" if by_checks else images
    said += [f"the search met {number(met)} {more} on its way"] * bool(met)
    by = ", ".join(f"{name} {number(count)}" for name, count in found.items())
    found_them = ", and ".join(said)
    return Scope(
        f"{found_them[:1].upper()}{found_them[1:]}, though none of the {n} attempts ended with "
        "one.",
        f"The rate of 0% (95% bound {bound}) is that of the attempts, and no sign that the "
        "classifier resists: one verified image is enough.",
        (f"Found by: {by}.",) if by else (),
    )


def found_by(contents: RunContents) -> list[tuple[str, int]]:
    """Which checks found the extra witnesses, in words, and how many each."""
    checks = contents.verdict["checks"] if contents.verdict else []
    titles = {c["code"]: NO_MORE.sub("", c["title"]) for c in checks if "code" in c}
    codes = (w.process.partition(": ") for w in contents.witnesses if w.extra)
    counts = Counter(code for code, colon, _ in codes if colon)
    named = [(one_line(titles.get(code, code), 60), count) for code, count in counts.items()]
    return sorted(((n[:1].lower() + n[1:], count) for n, count in named), key=lambda one: -one[1])


def against(verdict: dict[str, Any]) -> list[dict[str, Any]]:
    """The checks that failed, and the mandatory ones that did not pass."""
    checks = ((c["status"], c["mandatory"], c) for c in verdict["checks"])
    return [c for status, needed, c in checks if status == FAILED or (needed and status != PASSED)]


def key_numbers(contents: RunContents) -> list[KeyNumber]:
    """The numbers a reader wants first."""
    v, of, proof = contents.verdict, unit(contents), proof_of(contents)
    if v is None:
        return _training_numbers(contents)
    sparse, extra, allowed = v["sparse_confident"], v["extra"], number(v["conditions"]["max_lit"])
    among = "" if sparse["median_lit"] is None else f"; median {number(sparse['median_lit'])} lit"
    equal, median = different(v)
    attempts = f"{number(v['fooled'])} of {number(v['attempts'])}"
    rate = f"rate {percent(v['rate'])}, 95% upper bound {percent(v['rate_upper_95'])}"
    fake = f"{percent(v['real_taken_for_fake'], 2)} of real test images taken for fake"
    if v["fooled"]:
        label = f"lit {of}, median{f' of {equal}' if equal else ''}"
        more = f"; {number(extra['fooled'])} more found by checks" if extra["fooled"] else ""
        note = f"of {number(contents.features)}; fewest {number(v['min_lit'])}, allowed {allowed}"
        lit = (number(median), label, note + more)
    else:
        note = f"of {number(contents.features)}; allowed {allowed}"
        lit = (number(fewest(contents)), f"lit {of} at least to make it sure", note)
    tried = (attempts, "attempts fooled", rate)
    sure = f"{number(sparse['fooled'])} of {number(v['attempts'])}"
    said = [
        tried,
        lit,
        (sure, "attempts made it sure of a sparse image", f"real-looking or not{among}"),
        (percent(v["real_accuracy"], 2), *RIGHT),
        (percent(v["real_confident"], 2), "right and confident", fake),
    ]
    if proof is not None:
        return [*certificate_wording.key_numbers(proof, contents), tried, *said[3:]]
    if extra["fooled"] and not v["fooled"]:
        note = f"outside the rate; fewest {number(extra['min_lit'])} lit, allowed {allowed}"
        label = "fooling image" if extra["fooled"] == 1 else "fooling images"
        said[:2] = [(number(extra["fooled"]), f"{label} beyond the attempts", note), tried]
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
            (sure, "right and confident", "at least 90% sure"),
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
