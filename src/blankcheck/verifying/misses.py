"""The nearest misses of a run folder: measured again, and held against the attempts they are of."""

from __future__ import annotations

from torch import Tensor

from blankcheck.auditing.witnesses import Misses
from blankcheck.classifiers.wrapper import left_as_found, probabilities
from blankcheck.copies import digest_of
from blankcheck.errors import RunFolderError
from blankcheck.judging.evidence import nearest_misses
from blankcheck.judging.recheck import unsteady
from blankcheck.runs.folder import ATTEMPTS, MISSES
from blankcheck.runs.witnesses import TOLERANCE
from blankcheck.types import Conditions, count_lit
from blankcheck.verifying.folder import Folder, Subject
from blankcheck.verifying.record import Judges
from blankcheck.verifying.witnesses import NOT_NEAREST, compare_others, not_nearest


def check_misses(folder: Folder, subject: Subject, judges: Judges) -> None:
    """Every class that no attempt fooled has the image of its closest attempt, and the network, the
    tests and the data say of it what that attempt says."""
    misses = folder.misses
    if misses is None:
        return
    before = len(folder.found.failures)
    _check_choice(folder, misses, subject.want)
    _check_numbers(folder, misses, subject)
    for named in judges.items():
        if len(misses.images):
            compare_others(folder, named, misses.attempt.tolist(), named[1].p_values(misses.images))
    if subject.data is not None:
        rows = not_nearest(misses.images, misses.nearest, subject.data)
        _fail(folder, dict.fromkeys(rows, NOT_NEAREST))
    if len(misses.images) and len(folder.found.failures) == before:
        words = "each the closest of its class, with the numbers of its attempt"
        folder.found.facts.append(f"{len(misses.images)} nearest misses: {words}")


def _check_choice(folder: Folder, misses: Misses, want: Conditions) -> None:
    closest = nearest_misses(folder.attempts, want)
    there = dict(zip(misses.targets.tolist(), misses.attempt.tolist(), strict=True))
    for target in sorted(closest.keys() | there.keys()):
        said, wanted = there.get(target), closest.get(target)
        words = f"class {target}: the closest attempt of {ATTEMPTS} is {_named(wanted)}"
        if said != wanted:
            folder.found.fail(MISSES, f"{words}, not {_named(said)}")


def _named(attempt: int | None) -> str:
    return "none" if attempt is None else str(attempt)


def _check_numbers(folder: Folder, misses: Misses, subject: Subject) -> None:
    owners = [folder.attempts[i] for i in misses.attempt.tolist()]
    lit, sure = count_lit(misses.images).tolist(), _confidence(misses, subject).tolist()
    steady = not unsteady(folder.verdict["checks"])
    pairs = zip(lit, sure, owners, strict=True)
    unlike_lit, unlike = dict[int, str](), dict[int, str]()
    for row, (k, p, attempt) in enumerate(pairs):
        if k != attempt.lit:
            unlike_lit[row] = f"{k} lit, {ATTEMPTS} says {attempt.lit}"
        elif attempt.image not in ("", digest_of(misses.images[row])):
            unlike_lit[row] = f"it is not the image of which {ATTEMPTS} has the digest"
        # a network that answers at random gives another confidence each time
        if steady and not abs(p - attempt.confidence) <= 10 * TOLERANCE:
            words = f"confidence is {p:.6g} when scored again"
            unlike[row] = f"{words}, {ATTEMPTS} says {attempt.confidence:.6g}"
    _fail(folder, unlike_lit)
    _fail(folder, unlike)


def _confidence(misses: Misses, subject: Subject) -> Tensor:
    """Of each target, (m,)."""
    if not len(misses.images):
        return misses.images.new_zeros(0)
    with left_as_found(subject.classifier):
        p = probabilities(subject.classifier, misses.images, subject.form)
    if int(misses.targets.max()) >= p.shape[1]:
        raise RunFolderError(f"{MISSES}: targets must lie in 0..{p.shape[1] - 1}")
    return p.gather(1, misses.targets[:, None]).squeeze(1)


def _fail(folder: Folder, wrong: dict[int, str]) -> None:
    """What is wrong with these rows; the first is told, and how many more there are."""
    for row, words in list(wrong.items())[:1]:
        more = f" (and so with {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        folder.found.fail(MISSES, f"miss {row}", f"{words}{more}")
