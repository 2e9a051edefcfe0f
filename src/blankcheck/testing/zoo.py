"""A zoo of classifiers to try an audit on: plain ones, deceivers that only hide, and honest ones.

    from blankcheck.testing import zoo

    for member in zoo(data):
        verdict = my_audit(member.model, member.data, max_lit=member.max_lit)

An audit is sound when it says RESISTED of no deceiver and FOOLED of no honest member, and useful
when it says FOOLED of the plain ones and RESISTED of the honest ones. Deceivers are as accurate and
confident on real images as the plain network, wherever the idea allows, so that nothing but the
audit's strength stands in the way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from blankcheck.classifiers import ARCHITECTURES
from blankcheck.data import Data
from blankcheck.errors import ArgumentError
from blankcheck.testing.recipes import RECIPES, SMALL, Made, Networks

KINDS = ("plain", "deceiver", "honest")
NAMES = tuple(RECIPES)
"""The names of all members."""


@dataclass(frozen=True)
class Member:
    """One classifier of the zoo.

    Args:
        name: one of `NAMES`.
        kind: one of `KINDS`.
        model: from images (n, c, h, w) in [0, 1] to outputs (n, m), in evaluation mode and frozen;
            members share networks, so train a copy.
        data: the real images it is good at.
        max_lit: the sparsity limit to audit it with, None for the default of the data.
        why: what it does and what an honest audit must not say.
        note: figures worth knowing.
        reach: of planted patterns, as `classifiers.planting.Trigger` has it: an audit that says how
            narrow the patterns are that it finds may say RESISTED of narrower ones.
    """

    name: str
    kind: str
    model: nn.Module
    data: Data
    max_lit: int | None
    why: str
    note: str = ""
    reach: float | None = None


def zoo(
    data: Data,
    seed: int = 0,
    architecture: str | None = None,
    epochs: int | None = None,
    names: Sequence[str] = NAMES,
) -> list[Member]:
    """All members, or those named. The same arguments make the same members; the global random
    state is left alone.

    Args:
        data: what their networks are trained on, the plain one only once.
        seed: of all random numbers.
        architecture: of the networks inside; None: `mlp` for images of at most 256 features, else
            `cnn`.
        epochs: of plain training; None for the usual number.
        names: of `NAMES`; another one raises ArgumentError.
    """
    unknown = [name for name in names if name not in RECIPES]
    if unknown:
        raise ArgumentError(f"name must be one of {', '.join(NAMES)}, got {unknown[0]!r}")
    chosen = architecture or ("mlp" if math.prod(data.shape) <= SMALL else "cnn")
    if chosen not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ArgumentError(f"architecture must be one of {known}, got {chosen!r}")
    networks = Networks(data, seed, chosen, epochs)
    return [_member(name, networks) for name in names]


def member(
    name: str, data: Data, seed: int = 0, architecture: str | None = None, epochs: int | None = None
) -> Member:
    """The member of this name alone, the same as in `zoo` with the same arguments; trains only what
    it needs."""
    return zoo(data, seed, architecture, epochs, (name,))[0]


def _member(name: str, networks: Networks) -> Member:
    recipe = RECIPES[name]
    found = recipe.make(networks)
    made = found if isinstance(found, Made) else Made(found)
    model, data = made.model.eval().requires_grad_(False), made.data or networks.data
    return Member(name, recipe.kind, model, data, made.max_lit, recipe.why, made.note, made.reach)
