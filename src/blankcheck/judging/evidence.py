"""What an audit gathered, as plain numbers: all that a verdict may rest on, re-checkable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from blankcheck.types import Conditions

CONDITIONS = SPARSE, CONFIDENT, OUT_OF_DISTRIBUTION = "sparse", "confident", "out_of_distribution"


@dataclass(frozen=True)
class Attempt:
    """One attempt: its target and the best image that was found for it.

    process: the attack that found it. lit, confidence, ood_p belong to that image, and so do
    second_p, its p-value under the second opinion on shape, odd_p, the same under scores of
    anything unusual, step, backward passes used when it was met, and image, a digest of its values,
    empty where that was not recorded. fewest: fewest lit features of any confident image met, None
    if none. survives_8bit: whether a fooling image still meets all conditions rounded to 8 bits.
    """

    target: int
    fooled: bool
    process: str
    lit: int
    confidence: float
    ood_p: float
    fewest: int | None
    second_p: float | None = None
    step: int = 0
    survives_8bit: bool = False
    odd_p: float | None = None
    image: str = ""

    def violates(self, want: Conditions, ood_p: float | None = None) -> list[str]:
        """Which of the three conditions the image fails. ood_p: another p-value than its own."""
        p = self.ood_p if ood_p is None else ood_p
        failed = {
            SPARSE: self.lit > want.max_lit,
            CONFIDENT: self.confidence < want.confidence,
            OUT_OF_DISTRIBUTION: p > want.ood_level,
        }
        return [name for name, fails in failed.items() if fails]

    def lacks(self, want: Conditions) -> tuple[int, float]:
        """How many conditions the image fails, and by how much in all, each in [0, 1]: the less,
        the closer it came."""
        missing = self.violates(want)
        by = {
            SPARSE: 1 - want.max_lit / max(1, self.lit),
            CONFIDENT: want.confidence - self.confidence,
            OUT_OF_DISTRIBUTION: self.ood_p - want.ood_level,
        }
        return len(missing), sum(by[name] for name in missing)


def nearest_misses(attempts: Sequence[Attempt], want: Conditions) -> dict[int, int]:
    """For each class of which no attempt met all conditions, in order, the position of the one that
    lacks least; of several the first."""
    met = {a.target for a in attempts if a.fooled or not a.violates(want)}
    closest: dict[int, int] = {}
    for i in sorted(range(len(attempts)), key=lambda i: attempts[i].lacks(want)):
        closest.setdefault(attempts[i].target, i)
    return {target: closest[target] for target in sorted(closest.keys() - met)}


@dataclass(frozen=True)
class RealData:
    """Shares of the full test set; `verdict.json` has all but `per_class` as `real_...`."""

    accuracy: float
    confident: float
    taken_for_fake: float
    renormalised_confident: float
    per_class: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Black:
    """The class that the network gives the black image, and the probability."""

    target: int
    confidence: float


@dataclass(frozen=True)
class OODRecord:
    """What is known of the out-of-distribution test that judged; `verdict.json` has the same names.

    guarantee: of its false-alarm rate. false_alarms: how many of `real_images` test images it
    called out of distribution. second_scores: of the second opinion; odd_scores: of what is odd in
    any way. asked: about how many images the search asked it. unusual_starts: validation images
    that it called out of distribution, from which no search starts. calibration_images: different
    images that calibrated it. level_chosen: `given`, or `auto` for what these images carry.
    """

    guarantee: str
    scores: tuple[str, ...]
    smallest_p: float
    false_alarms: int
    real_images: int
    second_scores: tuple[str, ...] = ()
    asked: int = 0
    unusual_starts: int = 0
    calibration_images: int = 0
    odd_scores: tuple[str, ...] = ()
    level_chosen: str = "given"


@dataclass(frozen=True)
class Control:
    """A control experiment: `found` of `tries`.

    Args:
        code: of the check that it belongs to.
        found: how often it found what it looked for.
        tries: how often it looked.
        detail: words that the finding quotes.
        why_not: why it could not run, where it could not.
        numbers: what else was measured.
    """

    code: str
    found: int = 0
    tries: int = 0
    detail: str = ""
    why_not: str = ""
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class OnTwin:
    """What the positive control found.

    what: the network it searched. lit: lit features of the fooling image of each of the `attempts`
    that was fooled; such an attempt ends with its first fooling image.
    """

    what: str
    attempts: int
    lit: tuple[int, ...]


@dataclass(frozen=True)
class Proof:
    """What a certificate says: no image with at most k lit features gets `confidence`.

    k: for each class, None where nothing was proved. probability: for each class the bound of its
    probability at its k. unit: what k counts. means: `certified` when the proof is one of the
    network as it is, `gate-certified` when it is one of a gate around it.
    """

    k: tuple[int | None, ...]
    probability: tuple[float | None, ...]
    confidence: float
    unit: str
    means: str
    fingerprint: str
    seconds: float

    @property
    def smallest(self) -> int | None:
        """The k that holds for every class."""
        known = [k for k in self.k if k is not None]
        return min(known) if len(known) == len(self.k) else None

    def covers(self, want: Conditions) -> bool:
        """Whether no image can be both sparse and confident.

        At most k lit features light at most k pixels.
        """
        k = self.smallest
        return k is not None and k >= want.max_lit and self.confidence <= want.confidence

    def contradicts(self, attempt: Attempt) -> bool:
        """Whether an attempt, made for this confidence, met an image that cannot be there."""
        k = self.k[attempt.target] if attempt.target < len(self.k) else None
        met = [attempt.lit] if attempt.confidence >= self.confidence else []
        met += [attempt.fewest] if attempt.fewest is not None else []
        return k is not None and any(lit <= k for lit in met)


@dataclass(frozen=True)
class Cost:
    """Passes and seconds; `twin_seconds` (training the twin) is not part of `seconds`."""

    forward: int
    backward: int
    seconds: float
    twin_seconds: float = 0.0


@dataclass(frozen=True)
class Evidence:
    """Everything a verdict rests on.

    Args:
        conditions: that make an image a fooling image.
        classes: their names.
        attempts: the fixed allocation.
        tried_by: how many attempts each attack was run for.
        real: how the classifier does on real images.
        controls: the experiments that were run, or could not be.
        cost: passes and seconds.
        extra: fooled attempts outside the fixed allocation: they can add FOOLED alone.
        ood: what is known of the out-of-distribution test.
        rivals: for each attack of another library how many searches it made, and behind that the
            lit features of its fooling images.
        twin: what the positive control found.
        notes: further words for `verdict.json`.
        proof: what a certificate says, where there is one.
        black: what the network says of the black image; None where that was not recorded.
    """

    conditions: Conditions
    classes: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    tried_by: dict[str, int]
    real: RealData
    controls: tuple[Control, ...]
    cost: Cost
    extra: tuple[Attempt, ...] = ()
    ood: OODRecord | None = None
    rivals: dict[str, tuple[int, ...]] = field(default_factory=dict)
    twin: OnTwin | None = None
    notes: dict[str, str] = field(default_factory=dict)
    proof: Proof | None = None
    black: Black | None = None
