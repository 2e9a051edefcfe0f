"""The settings of commands that run a network: a user's, or one that they train."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Literal

from blankcheck.certifying.record import SLOPE_STEPS, GatePlan
from blankcheck.cli.settings.shared import Common, Shared, Tracked, Weighted
from blankcheck.hardening.plan import HardeningOptions, Precision

Preset = Literal["smoke", "standard", "proof"]
Unit = Literal["features", "pixels"]


@dataclass(frozen=True)
class DoctorSettings(Weighted):
    """Say what a network is and what it wants, before any long work. Ends with the audit to run.

    Args:
        out: a run folder to write doctor.json to; default none.
        images: validation images to compare forms of the input on; five times as many where these
            do not decide.
    """

    images: int = 1000


@dataclass(frozen=True)
class TrainSettings(Tracked, Shared, Common):
    """Train a built-in or your own network plainly.

    Args:
        epochs: passes over the training images; default 10, or more until there are 2000 steps.
        lr: peak learning rate of the one-cycle schedule.
        batch: images per optimiser step, of all processes together.
        precision: of the passes of training, by mixed precision. 16 needs a GPU. All that is
            measured stays in 32.
        augment: shift every image by up to 4 pixels and mirror half of them, anew in every epoch,
            as is usual for CIFAR-10.
    """

    epochs: int | None = None
    lr: float = 2e-3
    batch: int = 128
    precision: Precision = "32"
    augment: bool = False


@dataclass(frozen=True)
class AuditSettings(Tracked, Shared, Weighted):
    """Search a classifier for nearly blank images it is sure about, and say what was found.

    Args:
        preset: how hard to look. smoke takes seconds, standard minutes, proof up to a hundred times
            that.
        confidence: least probability of the target class.
        max_lit: most lit (non-zero) features; default 300, less for small images.
        ood_level: largest p-value of the out-of-distribution test.
        rivals: also run attacks of Foolbox, adversarial-library and the Adversarial Robustness
            Toolbox, where installed.
    """

    preset: Preset = "standard"
    confidence: float = 0.9
    max_lit: int | None = None
    ood_level: float = 0.01
    rivals: bool = False

    def search(self) -> dict[str, Any]:
        """What `audit` and `harden` are told of the search, by the names of their arguments."""
        names = ("seed", "confidence", "max_lit", "ood_level", "rivals")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class CertifySettings(Weighted):
    """Prove how many lit features are too few for a classifier to be sure, and show beside it what
    a search finds.

    Args:
        audit_preset: how hard the search beside the proof looks. smoke takes seconds, standard up
            to a minute or two.
        confidence: the proof is that every real class stays below this probability.
        max_lit: most lit (non-zero) features of a fooling image; default 300, less for small
            images. The verdict is CERTIFIED when as many are proved to be too few.
        ood_level: largest p-value of the out-of-distribution test, which the search needs and the
            proof ignores.
        unit: what the proof counts. features, or pixels at which any channel is lit.
        slope_steps: of optimising the relaxation where it does not succeed at once; 0 is fast and
            proves less.
    """

    audit_preset: Preset = "smoke"
    confidence: float = 0.9
    max_lit: int | None = None
    ood_level: float = 0.01
    unit: Unit = "features"
    slope_steps: int = SLOPE_STEPS


@dataclass(frozen=True)
class GateSettings(CertifySettings):
    """Put a small certified gate around a classifier: same answers, and no confidence in images
    with at most k lit features.

    Args:
        k: lit features, or pixels with --unit pixels, that are to be proved too few for every
            class.
        gate_steps: of training the gate, a batch of real images and one bound each.
        max_lit: most lit (non-zero) features of a fooling image; default k.
    """

    k: int | None = None
    gate_steps: int = GatePlan.steps


@dataclass(frozen=True)
class HardenSettings(HardeningOptions, AuditSettings):
    """Train a network not to be sure about sparse images that look like no real data, and audit the
    result.

    Without weights, a network is trained from its start; with weights, that network goes on.

    Args:
        resume: go on with the run in --out, by default the latest of runs/harden, from its last
            finished round.
    """

    resume: bool = False

    def options(self) -> dict[str, Any]:
        """What `harden` takes beside objective, epochs and rounds."""
        apart = ("objective", "epochs", "rounds")
        names = [f.name for f in fields(HardeningOptions) if f.name not in apart]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class DemoSettings(Tracked, Common):
    """The main job in two minutes: train, audit, harden and audit again, and one report of both."""
