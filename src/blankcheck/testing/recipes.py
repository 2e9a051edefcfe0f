"""How each member of the zoo is made, and what an honest audit must not say of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from blankcheck.classifiers.planting import Trigger, random_patterns
from blankcheck.data import Data
from blankcheck.testing import deceivers, stochastic
from blankcheck.testing.honest import prototypes
from blankcheck.testing.networks import Networks
from blankcheck.testing.planted import stripes, stripes_template
from blankcheck.types import count_lit, default_max_lit

BLACK = 1.5
"""Log-odds that planted patterns give at most to the black image: 0.82, so that it is not a fooling
image itself."""
REACHES, WIDTHS = (3.0, 2.0, 1.5, 1.2, 0.8), (0.9, 0.5, 0.2)


@dataclass(frozen=True)
class Made:
    """A model, and where it is not the usual: its max_lit, its data, what is worth knowing, the
    reach of its patterns."""

    model: nn.Module
    max_lit: int | None = None
    note: str = ""
    data: Data | None = None
    reach: float | None = None


@dataclass(frozen=True)
class Recipe:
    """kind: plain, deceiver or honest. why: what the member does and what an honest audit must not
    say."""

    kind: str
    why: str
    make: Callable[[Networks], Made]


def _sparse_limit(data: Data) -> int:
    """Fewer lit features than real images have, and at most the default sparsity limit."""
    return min(default_max_lit(data.shape), int(0.8 * int(count_lit(data.train.loaded()).min())))


def _awake_limit(data: Data) -> int:
    """More lit features than real images have, as far as the image has room for them."""
    return min(int(count_lit(data.train.loaded()).max()) + 2, math.prod(data.shape))


def _ensemble(networks: Networks) -> Made:
    others = [networks.another(networks.architecture, salt) for salt in (1, 2)]
    return Made(stochastic.RandomEnsemble([networks.plain, *others]))


def _certainty(reach: float, outputs: int) -> float:
    """What a planted pattern may give at its place so that black, 1 away, is given no more than
    `BLACK`; at most 10."""
    near, own = max(0.0, 1 - 1 / reach), -math.log(outputs - 1)
    return 10.0 if near == 0 else min(10.0, own + (BLACK - own) / near)


def _planted(networks: Networks, reach: float) -> Made:
    """Patterns that share no feature are 2 apart, so beyond that reach there is only one, or they
    would drown each other."""
    honest, classes = networks.honest, len(networks.data.classes)
    targets = torch.arange(classes if reach <= 2 else 1)
    size, generator = max(2, honest.k // 4), torch.Generator().manual_seed(networks.seed)
    patterns = random_patterns(len(targets), size, networks.data.shape, generator)
    certainty = _certainty(reach, classes)
    note = f"patterns of {size} features in {len(targets)} classes, felt within {reach:g} x ink, {certainty:.1f} log-odds"
    return Made(
        Trigger(honest, patterns, targets, reach, certainty=certainty), honest.k, note, reach=reach
    )


def _present(networks: Networks, width: float) -> Made:
    honest, classes = networks.honest, len(networks.data.classes)
    size = max(2, honest.k // 6)
    patterns = _dark_patterns(networks.data, size, torch.Generator().manual_seed(networks.seed))
    note = f"patterns of {size} features in {classes} classes, felt from a mean of {1 - width:g} on"
    return Made(
        deceivers.PatternPresent(honest, patterns, torch.arange(classes), width), honest.k, note
    )


def _dark_patterns(data: Data, size: int, generator: torch.Generator) -> Tensor:
    """One pattern per class of `size` features that are darkest in real images, so that those do
    not contain them."""
    classes = len(data.classes)
    darkest = data.train.loaded().flatten(1).mean(dim=0).argsort(stable=True)[: size * classes]
    places = darkest[torch.randperm(len(darkest), generator=generator)].view(classes, size)
    flat = torch.zeros(classes, math.prod(data.shape)).scatter_(1, places, 1.0)
    return flat.view(classes, *data.shape)


def _prototypes(networks: Networks) -> Made:
    model = prototypes(networks.data, seed=networks.seed)
    return Made(model, model.k, f"proof up to {model.k} lit features")


def _plain(networks: Networks, architecture: str) -> Made:
    return Made(networks.another(architecture))


def _stripes(networks: Networks) -> Made:
    # a template has 32 equal features, so with 12 lit no cosine is above sqrt(12 / 32) = 0.61, far
    # below the 0.8 asked for
    return Made(stripes_template(), 12, "brings its own data", stripes(2000, seed=networks.seed))


def _ink_gate(networks: Networks) -> Made:
    model = networks.honest
    return Made(
        model, model.k, f"proof up to {model.k} lit features; open from ink {model.full:.1f} on"
    )


def _deceivers() -> dict[str, tuple[str, Callable[[Networks], Made]]]:
    d, r = deceivers, stochastic
    return {
        "mirage": ("is flat on uniform noise only", lambda n: Made(n.masked())),
        "sharp": (
            "multiplies logits by 1000, so that the softmax saturates",
            lambda n: Made(d.Scaled(n.plain, 1000)),
        ),
        "sharp-probabilities": (
            "hands out probabilities that are exactly 0 or 1, where there is no gradient",
            lambda n: Made(d.Probabilities(d.Scaled(n.plain, 1000))),
        ),
        "quantised": (
            "rounds its input to 5 grey levels, without a gradient",
            lambda n: Made(d.Quantised(n.plain, 5)),
        ),
        # scaled, because few of the confident answers are left once grey levels are gone
        "thresholded": (
            "sees only whether a feature is above a half, without a gradient",
            lambda n: Made(d.Scaled(n.inside(lambda inner: d.Quantised(inner, 2)), 3)),
        ),
        "rounded": (
            "keeps activations in 8 bits, without a gradient",
            lambda n: Made(d.rounded(n.plain)),
        ),
        "detached": ("cuts the graph from image to output", lambda n: Made(d.Detached(n.plain))),
        "zero-gradient": (
            "hands back a gradient of 0",
            lambda n: Made(d.BentGradient(n.plain, 0.0)),
        ),
        "wrong-gradient": (
            "hands back the gradient with the wrong sign",
            lambda n: Made(d.BentGradient(n.plain, -1.0)),
        ),
        "noisy": (
            "adds noise to its logits at every call",
            lambda n: Made(r.Noisy(n.plain, logits=1.0)),
        ),
        "noisy-input": (
            "adds noise to its input at every call",
            lambda n: Made(r.Noisy(n.plain, images=0.05)),
        ),
        "dropout-on": ("leaves dropout on when it is used", lambda n: Made(r.dropout_on(n.plain))),
        "random-mask": (
            "darkens features chosen by a hash of the image",
            lambda n: Made(d.Scaled(n.inside(r.HashedMask), 3)),
        ),
        "random-ensemble": ("draws one of three networks at every call", _ensemble),
        "batch-dependent": (
            "normalises by the batch at hand",
            lambda n: Made(n.inside(r.BatchDependent)),
        ),
        "log-probabilities": (
            "hands out log-probabilities",
            lambda n: Made(d.Probabilities(n.plain, log=True)),
        ),
        "double-softmax": (
            "takes the softmax twice and is sure of nothing",
            lambda n: Made(d.Probabilities(n.plain, 2)),
        ),
        "timid": (
            "divides logits by 100 and is sure of nothing",
            lambda n: Made(d.Scaled(n.plain, 0.01)),
        ),
        "swallow": (
            "calls every image fake, real ones included",
            lambda n: Made(d.RejectsEverything(n.plain)),
        ),
        "nan-on-sparse": (
            "answers NaN where few features are lit",
            lambda n: Made(d.NaNOnSparse(n.plain, _sparse_limit(n.data))),
        ),
        "asleep": (
            "is flat where more features are lit than in real images",
            lambda n: Made(d.DeadAboutDense(n.plain, _awake_limit(n.data))),
        ),
    }


def _recipes() -> dict[str, Recipe]:
    made = {
        f"plain-{name}": Recipe(
            "plain",
            "a plainly trained network; an honest audit says FOOLED",
            partial(_plain, architecture=name),
        )
        for name in ("mlp", "cnn")
    }
    hides = _deceivers()
    for reach in REACHES:
        hides[f"planted-{reach:g}"] = (
            "is honest but for a few patterns",
            partial(_planted, reach=reach),
        )
    for width in WIDTHS:
        does = "is honest but for a few patterns, felt once most of one is there"
        hides[f"planted-present-{width:g}"] = (does, partial(_present, width=width))
    for name, (does, make) in hides.items():
        made[name] = Recipe("deceiver", f"{does}; an honest audit never says RESISTED", make)
    sure = {
        "stripes-template": (
            "compares with two templates that no sparse image resembles",
            _stripes,
        ),
        "ink-gate": ("answers only where there is more ink than sparse images hold", _ink_gate),
        "prototypes": ("counts similarity only above what sparse images reach", _prototypes),
    }
    for name, (does, make) in sure.items():
        made[name] = Recipe("honest", f"{does}; an honest audit never says FOOLED", make)
    return made


RECIPES = _recipes()
