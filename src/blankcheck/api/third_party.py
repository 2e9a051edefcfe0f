"""The attacks of other libraries that `audit --rivals` runs, and how each library is imported and
called.

None of the libraries is a dependency. Importing has side effects of theirs (the Adversarial
Robustness Toolbox writes `~/.art/config.json`), so it happens in here and only when an attack is
made.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from blankcheck.auditing.third_party import Asked, EachClass, OneClass, Run, available
from blankcheck.auditing.third_party import ThirdPartyAttack as Attack
from blankcheck.errors import ArgumentError

NOT_NEEDED = {"visdom": (), "torchvision": ("models",)}
"""What adv_lib imports for plots and perceptual distances, which no attack here uses, and the names
it takes from them."""


def foolbox(name: str, **options: Any) -> Run:
    """An attack of Foolbox (Rauber et al. 2020, doi:10.21105/joss.02607), by its class's name."""
    import foolbox as library

    kind = getattr(library.attacks, name)
    extra = {"starting_points": None} if "FMN" in name else {}

    def run(asked: Asked, start: Tensor, targets: Tensor) -> Any:
        seen = EachClass(asked, start.device).eval()
        view = library.PyTorchModel(seen, bounds=(0, 1), device=start.device)
        goal = library.criteria.TargetedMisclassification(targets)
        return kind(**options)(view, start, goal, epsilons=None, **extra)[1]

    return run


def adversarial_library(name: str, leave: bool = False, **options: Any) -> Run:
    """An attack of adversarial-library (Rony et al., github.com/jeromerony), by the name of its
    function.

    Args:
        name: of the function in `adv_lib.attacks`.
        leave: the attack only knows how to leave a class, so it is shown `OneClass`.
        options: handed on to the function.
    """
    with stand_ins(NOT_NEEDED):
        from adv_lib import attacks
    attack = getattr(attacks, name)

    def run(asked: Asked, start: Tensor, targets: Tensor) -> Any:
        each = EachClass(asked, start.device).eval()
        if not leave:
            return attack(each, start, targets, targeted=True, **options)
        own = OneClass(asked, start.device, targets).eval()
        return attack(own, start, torch.ones_like(targets), **options)

    return run


def toolbox(name: str, **options: Any) -> Run:
    """An attack of the Adversarial Robustness Toolbox (Nicolae et al. 2018, arXiv:1807.01069), by
    the name of its class.

    Its own arithmetic is numpy on the CPU; the classifier stays where it is.
    """
    from art.attacks import evasion
    from art.estimators.classification import PyTorchClassifier

    kind = getattr(evasion, name)

    def run(asked: Asked, start: Tensor, targets: Tensor) -> Any:
        view = EachClass(asked, start.device).eval()
        with torch.no_grad():
            outputs = view(start[:1]).shape[1]
        asked.forwards = 0
        shape, loss = tuple(start.shape[1:]), nn.CrossEntropyLoss()
        on_cpu = {"clip_values": (0, 1), "device_type": "cpu"}
        network = PyTorchClassifier(view, loss, shape, outputs, **on_cpu)
        wanted = nn.functional.one_hot(targets, outputs).cpu().numpy()
        return kind(network, verbose=False, **options).generate(start.cpu().numpy(), wanted)

    return run


@contextmanager
def stand_ins(names: Mapping[str, tuple[str, ...]]) -> Iterator[None]:
    """Inside: those of these modules that cannot be imported are empty ones with these attributes.
    After: they are gone."""
    added = []
    for name, attributes in names.items():
        try:
            importlib.import_module(name)
        except Exception:  # missing, or at odds with the installed torch, which raises anything
            sys.modules[name] = module = types.ModuleType(name)
            vars(module).update(dict.fromkeys(attributes))
            added.append(name)
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


_ART = "adversarial-robustness-toolbox"
_LIBRARIES: dict[Callable[..., Run], tuple[str, str, str]] = {
    adversarial_library: ("adversarial-library", "adv-lib", "--no-deps adv-lib"),
    foolbox: ("Foolbox", "foolbox", "foolbox"),
    toolbox: ("ART", _ART, _ART),
}


def _attack(title: str, library: Callable[..., Run], name: str, **options: Any) -> Attack:
    label, package, asked = _LIBRARIES[library]
    make = partial(library, name, **options)
    return Attack(f"{title} ({label})", package, f"pip install {asked}", make)


_EAD = {"binary_search_steps": 4, "steps": 250, "initial_const": 1.0}
_SALIENCY = {"theta": 1.0, "gamma": 0.4, "batch_size": 100}
ATTACKS = (
    _attack("sigma-zero", adversarial_library, "sigma_zero", leave=True, num_steps=300),
    _attack("FMN-L0", adversarial_library, "fmn", norm=0, steps=300),
    _attack("PDPGD-L0", adversarial_library, "pdpgd", norm=0, num_steps=300, proximal_operator=23),
    _attack("FMN-L0", foolbox, "L0FMNAttack", steps=300),
    _attack("EAD", foolbox, "EADAttack", **_EAD),
    _attack("saliency map", toolbox, "SaliencyMapMethod", **_SALIENCY),
)
"""Sparse targeted attacks that find images reliably: sigma-zero (Cina et al. 2025,
arXiv:2402.01879), FMN (Pintor et al. 2021, arXiv:2102.12827), PDPGD (Matyasko and Chau 2021,
arXiv:2106.01538), EAD (Chen et al. 2018, arXiv:1709.04114) and the Jacobian saliency map (Papernot
et al. 2016, arXiv:1511.07528). All of them start from black."""


def usable_attacks(wanted: bool) -> tuple[list[Attack], str]:
    """The attacks of other libraries that can be run, and what is lacking in words; none where they
    are not wanted.

    Raises:
        ArgumentError: they are wanted and none is there; says the commands that install them.
    """
    if not wanted:
        return [], ""
    usable, lacking = available(ATTACKS)
    words = "; ".join(f"{library} {why}" for library, why in lacking.items())
    if not usable:
        raise ArgumentError(f"rivals needs other libraries: {words}")
    return usable, words
