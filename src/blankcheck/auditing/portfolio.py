"""Named attacks and presets: what makes fooling images, in which order and budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from blankcheck.errors import ArgumentError
from blankcheck.fooling import (
    NEED_REAL,
    AnnealedTopK,
    ProximalMomentum,
    RandomSearch,
    SigmaZero,
    SparsePGD,
    StructuredSearch,
    TabuSearch,
)
from blankcheck.fooling.solvers import Solver
from blankcheck.types import NEVER

BEST = "best"
"""The start of an attack that goes on from its attempt's best image."""


@dataclass(frozen=True)
class Attack:
    """A named way of making candidates: step rule + start + mask + stop.

    Args:
        start: the kind of start, a name of `STARTS`, or `BEST`.
        rule: the name of the step rule.
        solver: makes the step rule from (steps, max_lit).
        steps: its share of the attempt's budget.
        mask_keep: range of the share of positions a random mask keeps for each image, or None.
        mask: the kind of that mask.
        early_stop_after: steps after which an image leaves that was never confident, or was
            refused.
        fallback: run only for attempts that left another attack early.
        lit, sure: range of lit features of the attempt's best image, and the least share of the
            confidence asked for that it has, for which one from `BEST` is run.
    """

    start: str
    rule: str
    solver: Callable[[int, int], Solver]
    steps: int
    mask_keep: tuple[float, float] | None = None
    mask: str = "pixels"
    early_stop_after: int | None = None
    fallback: bool = False
    lit: tuple[int, int] = (0, NEVER)
    sure: float = 0.5

    @property
    def name(self) -> str:
        """For example `noise/adaptive`."""
        return f"{self.start}/{self.rule}"


def always(rule: Solver) -> Callable[[int, int], Solver]:
    """Makes the same rule whatever the steps and the limit."""
    return lambda steps, max_lit: rule


def _top_k(share: float) -> Callable[[int, int], Solver]:
    return lambda steps, max_lit: AnnealedTopK(goal=max(1, round(share * max_lit)))


def _sparse_pgd(steps: int, max_lit: int) -> Solver:
    return SparsePGD(features=min(SparsePGD().features, max_lit))


def _random(steps: int, max_lit: int) -> Solver:
    return RandomSearch(features=max(1, round(0.2 * max_lit)))


def _structured(steps: int, max_lit: int) -> Solver:
    return StructuredSearch(max_lit)


_exchange, _adaptive = always(TabuSearch()), always(ProximalMomentum())
_sigma_zero, _fine_sigma_zero = always(SigmaZero()), always(SigmaZero(step_size=0.1))
_dense_sigma_zero = always(SigmaZero(step_size=0.3))
ATTACKS: tuple[Attack, ...] = (
    Attack("black", "exchange", _exchange, 60, (0.8, 1.0)),
    Attack("black", "sparse-pgd", _sparse_pgd, 175),
    Attack("noise", "sigma-zero", _sigma_zero, 75),
    Attack("noise", "top-k", _top_k(0.15), 120),
    Attack("near-black", "adaptive", _adaptive, 50, (0.5, 1.0)),
    Attack("real-target", "adaptive", _adaptive, 60),
    Attack("sparse-noise", "adaptive", _adaptive, 50, (0.3, 1.0)),
    Attack("masked-real", "adaptive", _adaptive, 50, (0.4, 1.0), "blocks"),
    Attack("noise", "wide-top-k", _top_k(0.6), 40),
    Attack("noise", "full-top-k", _top_k(1.0), 40),
    Attack("real-other", "adaptive", _adaptive, 40),
    Attack("blend", "adaptive", _adaptive, 40),
    Attack("bright", "adaptive", _adaptive, 40),
    Attack("black", "random-search", _random, 20),
    Attack("black", "structured", _structured, 20),
    Attack(BEST, "sigma-zero", _fine_sigma_zero, 40),
    Attack(BEST, "exchange", _exchange, 50, (0.7, 1.0)),
)
"""In order of what they find on plain networks per pass. No single one wins on every network:
exchanging features from black on plain ones, sPGD where many features are needed, sigma-zero and
top-k from noise on adversarially trained ones, real starts on hardened ones, structured images
where gradients lead nowhere. The last two make what was found sparser; small steps of sigma-zero do
so where features are worth most half-lit."""

BUDGET, FIRST = 500, 3
"""Steps of an attempt of which the first three attacks have their steps. What these leave makes the
best image sparser, or, where there is none yet, goes to all other attacks, as their steps say."""
MOST_LOOK, EARLY_LOOK = 60, 12
"""Steps beyond which exchange from black gains nothing, and after which it is given up."""
EARLY_DESCENT = 60
"""Steps after which sPGD is given up."""
FINE = 0.3
"""Share of what is left that small steps of sigma-zero get, which half-lit features need."""
SHORT, SHORT_WITHOUT_REAL, SHORTEST = 200, 400, 25
"""Smaller budgets fall back on few other attacks, which need more steps where there are no real
images to start from; the smallest go to the first attack, and to others where it finds nothing."""
MIN_RESERVE = 20
"""Budgets below this keep nothing for attempts that repeat another's image."""
MIN_FALLBACK = 10
"""Steps below which searches from noise, and fallbacks, could hardly move."""
DENSE = 10
"""Lit features for each step left from which sigma-zero makes an image sparser than exchange does:
that moves whole features, few at a time."""


@dataclass(frozen=True)
class Preset:
    """How hard an audit looks.

    Args:
        attempts: in all.
        per_target: at least this many for each target class.
        steps: budget of an attempt.
    """

    attempts: int
    per_target: int
    steps: int

    def for_targets(self, targets: int) -> int:
        """Attempts per target class."""
        return max(self.per_target, self.attempts // targets)


PRESETS: dict[str, Preset] = {
    "smoke": Preset(attempts=100, per_target=2, steps=150),
    "standard": Preset(attempts=500, per_target=5, steps=500),
    "proof": Preset(attempts=5000, per_target=50, steps=5000),
}


def preset_named(name: str) -> Preset:
    """The preset, or ArgumentError."""
    if name not in PRESETS:
        raise ArgumentError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]


def reserve(steps: int) -> int:
    """Of a budget, the steps kept for attempts that repeat the image of another one."""
    return steps // 12 if steps >= MIN_RESERVE else 0


def within(steps: int, attacks: tuple[Attack, ...] = ATTACKS) -> tuple[Attack, ...]:
    """The attacks with their steps stretched or cut to a budget of `steps` per attempt.

    The first three, or two of a small budget, are run for every attempt. What an attempt has found
    by then is made sparser with all steps that are left; one that has found nothing left two of
    them early, and falls back on the others.
    """
    if steps < SHORTEST:
        return _shortest(steps, attacks)
    by_name = {a.name: a for a in attacks}
    look, descent, noise = attacks[:FIRST]
    shares = [a.steps / BUDGET for a in (look, descent, noise)]
    look = replace(look, steps=min(MOST_LOOK, round(shares[0] * steps)))
    if look.steps > 2 * EARLY_LOOK:
        look = replace(look, early_stop_after=EARLY_LOOK)
    noise = replace(noise, steps=round(shares[2] * steps))
    noise = replace(noise, early_stop_after=noise.steps)
    last = (noise,) if noise.steps >= MIN_FALLBACK else ()
    descent = replace(descent, steps=round((shares[1] if last else shares[1] + shares[2]) * steps))
    descent = replace(descent, early_stop_after=min(descent.steps, EARLY_DESCENT))
    first = (look, descent, *last)
    given_up = steps - sum(a.early_stop_after or a.steps for a in first)
    polishing = _polishing(steps - sum(a.steps for a in first), by_name)
    return (*first, *polishing, *_fallbacks(given_up, steps, attacks))


def _polishing(left: int, by_name: dict[str, Attack]) -> tuple[Attack, ...]:
    """What makes an image sparser: for a dense one sigma-zero alone, in larger steps. In this order
    nobody runs both: exchange never makes an image denser."""
    fine, few = round(FINE * left), (0, DENSE * left)
    halves = replace(by_name[f"{BEST}/sigma-zero"], steps=fine, lit=few, sure=1.0)
    exchange = replace(by_name[f"{BEST}/exchange"], steps=left - fine, lit=few, sure=1.0)
    many = few[1] + 1, NEVER
    dense = Attack(BEST, "dense-sigma-zero", _dense_sigma_zero, left, lit=many, sure=1.0)
    return (halves, exchange, dense)


def _shortest(steps: int, attacks: tuple[Attack, ...]) -> tuple[Attack, ...]:
    first, left = replace(attacks[0], steps=steps), steps - EARLY_LOOK
    if left < MIN_FALLBACK:
        return (first,)
    return (replace(first, early_stop_after=EARLY_LOOK), *_fallbacks(left, steps, attacks))


def _fallbacks(left: int, steps: int, attacks: tuple[Attack, ...]) -> tuple[Attack, ...]:
    """For attempts that left another attack early, all of which have tried the first three; of a
    short budget few."""
    from_real = any(a.start in NEED_REAL for a in attacks)
    if steps < (SHORT if from_real else SHORT_WITHOUT_REAL):
        by_name, third = {a.name: a for a in attacks}, left // 3
        shares = {
            "noise/top-k": left - third - third // 2,
            "black/structured": third // 2,
            f"{BEST}/sigma-zero": third,
        }
        made = [replace(by_name[name], steps=share) for name, share in shares.items()]
    else:
        rest = attacks[FIRST:]
        stretch = left / sum(a.steps for a in rest)
        made = [replace(a, steps=max(1, int(a.steps * stretch))) for a in rest]
    return tuple(replace(a, fallback=True) for a in made if a.steps)
