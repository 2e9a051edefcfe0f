"""How each member of the zoo is made, from networks that are trained when first asked for, and what
an honest audit must not say of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from blankcheck.classifiers import TrainingPlan, UnitClassifier, build, train_plainly
from blankcheck.classifiers.planting import Trigger, random_patterns
from blankcheck.data import Data
from blankcheck.seeds import own_random_numbers
from blankcheck.testing import deceivers as d
from blankcheck.testing import stochastic as s
from blankcheck.testing.counterparts import COUNTERPARTS, Shape
from blankcheck.testing.masked_gradients import masked_gradient_network
from blankcheck.testing.toys import InkGate, ink_gate, prototypes, stripes, stripes_template
from blankcheck.testing.watched import CARELESS, Watched
from blankcheck.types import count_lit, default_max_lit

BLACK = 1.5
"""Log-odds that planted patterns give at most to the black image: 0.82, so that it is not a fooling
image itself."""
SAYS = {"plain": "says FOOLED", "deceiver": "never says RESISTED", "honest": "never says FOOLED"}
REACHES, WIDTHS = (3.0, 2.0, 1.5, 1.2, 0.8), (0.9, 0.5, 0.2)
SMALL = 256
"""Images of at most this many features are given an mlp."""
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Networks:
    """Networks trained on `data` when first asked for, frozen, and then shared. epochs: None for
    the usual number."""

    data: Data
    seed: int = 0
    architecture: str = "mlp"
    epochs: int | None = None

    @cached_property
    def plain(self) -> UnitClassifier:
        """The plain network that most members are wrapped around."""
        return self._trained(self._fresh(self.architecture))

    @cached_property
    def honest(self) -> InkGate:
        """What planted members are planted on."""
        return ink_gate(self.plain, self.data)

    def another(self, architecture: str, salt: int = 0) -> UnitClassifier:
        """A plain network of this architecture; another `salt`, another network."""
        if (architecture, salt) == (self.architecture, 0):
            return self.plain
        return self._trained(self._fresh(architecture, salt))

    def of_another_kind(self, make: Callable[[Shape, int], nn.Module]) -> UnitClassifier:
        """A plain network that is none of the reference ones."""
        data = self.data
        with own_random_numbers(self.seed):
            network = make(data.shape, len(data.classes))
        mean, std = data.mean_and_std()
        return self._trained(UnitClassifier(network, (mean, std)))

    def inside(self, wrap: Callable[[UnitClassifier], Module]) -> Module:
        """A network trained inside its wrapper, for wrappers that a plain network would lose its
        accuracy in."""
        return self._trained(wrap(self._fresh(self.architecture)))

    def masked(self) -> UnitClassifier:
        """Masked gradients on this data; small images need help to go flat, and more epochs."""
        more = (60, 2, 1.0) if math.prod(self.data.shape) <= SMALL else ()
        made = masked_gradient_network(self.data, self.seed, self.architecture, *more)
        return made.requires_grad_(False)

    def _fresh(self, architecture: str, salt: int = 0) -> UnitClassifier:
        data, seed = self.data, self.seed + 1000 * salt
        return build(architecture, data.shape, len(data.classes), data.mean_and_std(), seed)

    def _trained(self, network: Module) -> Module:
        plan = TrainingPlan.default(len(self.data.train), self.epochs)
        train_plainly(network, self.data.train, plan, self.seed)
        return network.requires_grad_(False)


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
    """kind: plain, deceiver or honest. does: what the member does."""

    kind: str
    does: str
    make: Callable[[Networks], Made | nn.Module]

    @property
    def why(self) -> str:
        """What the member does and what an honest audit must not say."""
        return f"{self.does}; an honest audit {SAYS[self.kind]}"


def _lit_limits(data: Data) -> tuple[int, int]:
    """Fewer lit features than real images have, and at most the default sparsity limit; and more
    than they have, as far as the image has room for them."""
    lit = count_lit(data.train.loaded())
    fewer = min(default_max_lit(data.shape), int(0.8 * int(lit.min())))
    return fewer, min(int(lit.max()) + 2, math.prod(data.shape))


HIDES: dict[str, Callable[[Networks], nn.Module]] = {
    "mirage": lambda n: n.masked(),
    "sharp": lambda n: d.Scaled(n.plain, factor=1000),
    "sharp-probabilities": lambda n: d.Probabilities(d.Scaled(n.plain, factor=1000)),
    "quantised": lambda n: d.Quantised(n.plain, levels=5),
    # scaled, because few of the confident answers are left once grey levels are gone
    "thresholded": lambda n: d.Scaled(n.inside(partial(d.Quantised, levels=2)), factor=3),
    "rounded": lambda n: d.rounded(n.plain),
    "detached": lambda n: d.Detached(n.plain),
    "zero-gradient": lambda n: d.BentGradient(n.plain, factor=0.0),
    "wrong-gradient": lambda n: d.BentGradient(n.plain, factor=-1.0),
    "noisy": lambda n: s.Noisy(n.plain, logits=1.0),
    "noisy-input": lambda n: s.Noisy(n.plain, images=0.05),
    "dropout-on": lambda n: s.dropout_on(n.plain),
    "random-mask": lambda n: d.Scaled(n.inside(s.HashedMask), factor=3),
    "random-ensemble": lambda n: s.RandomEnsemble(n.another(n.architecture, i) for i in range(3)),
    "batch-dependent": lambda n: n.inside(s.BatchDependent),
    "log-probabilities": lambda n: d.Probabilities(n.plain, log=True),
    "double-softmax": lambda n: d.Probabilities(n.plain, times=2),
    "timid": lambda n: d.Scaled(n.plain, factor=0.01),
    "swallow": lambda n: d.RejectsEverything(n.plain),
    "nan-on-sparse": lambda n: d.NaNOnSparse(n.plain, limit=_lit_limits(n.data)[0]),
    "asleep": lambda n: d.DeadAboutDense(n.plain, limit=_lit_limits(n.data)[1]),
}
DOES = {
    "mirage": "is flat on uniform noise only",
    "sharp": "multiplies logits by 1000, so that the softmax saturates",
    "sharp-probabilities": "hands out probabilities that are exactly 0 or 1, without a gradient",
    "quantised": "rounds its input to 5 grey levels, without a gradient",
    "thresholded": "sees only whether a feature is above a half, without a gradient",
    "rounded": "keeps activations in 8 bits, without a gradient",
    "detached": "cuts the graph from image to output",
    "zero-gradient": "hands back a gradient of 0",
    "wrong-gradient": "hands back the gradient with the wrong sign",
    "noisy": "adds noise to its logits at every call",
    "noisy-input": "adds noise to its input at every call",
    "dropout-on": "leaves dropout on when it is used",
    "random-mask": "darkens features chosen by a hash of the image",
    "random-ensemble": "draws one of three networks at every call",
    "batch-dependent": "normalises by the batch at hand",
    "log-probabilities": "hands out log-probabilities",
    "double-softmax": "takes the softmax twice and is sure of nothing",
    "timid": "divides logits by 100 and is sure of nothing",
    "swallow": "calls every image fake, real ones included",
    "nan-on-sparse": "answers NaN where few features are lit",
    "asleep": "is flat where more features are lit than in real images",
}


def _planted(networks: Networks, reach: float) -> Made:
    """Patterns that share no feature are 2 apart, so beyond that reach there is only one, or they
    would drown each other."""
    honest, classes = networks.honest, len(networks.data.classes)
    targets = torch.arange(classes if reach <= 2 else 1)
    size, generator = max(2, honest.k // 4), torch.Generator().manual_seed(networks.seed)
    patterns = random_patterns(len(targets), size, networks.data.shape, generator)
    # what a pattern may give at its place so that black, 1 away, is given no more than `BLACK`
    near, own = max(0.0, 1 - 1 / reach), -math.log(classes - 1)
    certainty = 10.0 if near == 0 else min(10.0, own + (BLACK - own) / near)
    felt = f"felt within {reach:g} x ink, {certainty:.1f} log-odds"
    note = f"patterns of {size} features in {len(targets)} classes, {felt}"
    model = Trigger(honest, patterns, targets, reach, certainty=certainty)
    return Made(model, honest.k, note, reach=reach)


def _present(networks: Networks, width: float) -> Made:
    honest, classes = networks.honest, len(networks.data.classes)
    size = max(2, honest.k // 6)
    patterns = _dark_patterns(networks.data, size, torch.Generator().manual_seed(networks.seed))
    note = f"patterns of {size} features in {classes} classes, felt from a mean of {1 - width:g} on"
    model = d.PatternPresent(honest, patterns, torch.arange(classes), width, certainty=10.0)
    return Made(model, honest.k, note)


def _dark_patterns(data: Data, size: int, generator: torch.Generator) -> Tensor:
    """One pattern per class, of features that are darkest in real images: those do not contain
    it."""
    classes = len(data.classes)
    darkest = data.train.loaded().flatten(1).mean(dim=0).argsort(stable=True)[: size * classes]
    places = darkest[torch.randperm(len(darkest), generator=generator)].view(classes, size)
    flat = torch.zeros(classes, math.prod(data.shape)).scatter_(1, places, 1.0)
    return flat.view(classes, *data.shape)


def _stripes(networks: Networks) -> Made:
    # a template has 32 equal features, so with 12 lit no cosine is above sqrt(12 / 32) = 0.61, far
    # below the 0.8 asked for
    return Made(stripes_template(), 12, "brings its own data", stripes(2000, seed=networks.seed))


def _ink_gate(networks: Networks) -> Made:
    model = networks.honest
    note = f"proof up to {model.k} lit features; open from ink {model.full:.1f} on"
    return Made(model, model.k, note)


def _of_another_kind(networks: Networks, name: str) -> Made:
    # smooth units are slow to become sure
    sure = d.Scaled(networks.of_another_kind(COUNTERPARTS[name]), factor=4)
    model = ink_gate(sure, networks.data)
    return Made(model, model.k, f"proof up to {model.k} lit features")


def _watched(networks: Networks, name: str) -> Made:
    honest = networks.honest
    model = Watched(honest, CARELESS[name][1], in_a_buffer=name == "counted")
    return Made(model, honest.k, f"honest up to {honest.k} lit features while it is watched")


def _prototypes(networks: Networks) -> Made:
    model = prototypes(networks.data, seed=networks.seed)
    return Made(model, model.k, f"proof up to {model.k} lit features")


PLAIN = "a plainly trained network"
FEW = "is honest but for a few patterns"
MOST = f"{FEW}, felt once most of one is there"
TEMPLATES = "compares with two templates that no sparse image resembles"
INK = "answers only where there is more ink than sparse images hold"
ALIKE = "counts similarity only above what sparse images reach"
_FAKE = partial(Recipe, "deceiver")
RECIPES = {
    "plain-mlp": Recipe("plain", PLAIN, lambda n: n.another("mlp")),
    "plain-cnn": Recipe("plain", PLAIN, lambda n: n.another("cnn")),
    **{name: _FAKE(DOES[name], hide) for name, hide in HIDES.items()},
    **{f"planted-{r:g}": _FAKE(FEW, partial(_planted, reach=r)) for r in REACHES},
    **{f"planted-present-{w:g}": _FAKE(MOST, partial(_present, width=w)) for w in WIDTHS},
    **{
        f"watched-{name}": _FAKE(f"behaves {when}", partial(_watched, name=name))
        for name, (when, _) in CARELESS.items()
    },
    "stripes-template": Recipe("honest", TEMPLATES, _stripes),
    "ink-gate": Recipe("honest", INK, _ink_gate),
    "prototypes": Recipe("honest", ALIKE, _prototypes),
    **{
        f"ink-gate-{name}": Recipe(
            "honest", f"{INK}, by {name}", partial(_of_another_kind, name=name)
        )
        for name in COUNTERPARTS
    },
}
