"""The settings of commands that run a network: a user's, or one that they train."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, cast

from blankcheck.api.harden import HardeningOptions
from blankcheck.certifying import SLOPE_STEPS, GatePlan
from blankcheck.cli.settings.shared import Common, Shared, Tracked, Weighted
from blankcheck.hardening import HardeningPlan

Preset = Literal["smoke", "standard", "proof"]
Unit = Literal["features", "pixels"]
ObjectiveName = Literal["max-entropy", "fake-classes", "reject-class"]
Schedule = Literal["continuous", "rounds", "batches", "none"]
Network = Literal["same", "fresh"]
Prune = Literal["ood", "all", "none"]
Evaluate = Literal["sample", "full"]
Precision = Literal["32", "bf16", "16"]


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
class HardenSettings(AuditSettings):
    """Train a network not to be sure about sparse images that look like no real data, and audit the
    result.

    Without weights, a network is trained from its start; with weights, that network goes on.

    Args:
        objective: what fooling images should be answered with.
        epochs: passes over the training images; default 10, or more until there are 2000 steps, as
            in plain training.
        rounds: of search and training, over which the epochs are spread.
        schedule: continuous keeps a buffer of images that go on being searched; rounds makes a set
            of images at the beginning of each round, batches one every so many batches (--every);
            none trains on no fooling images, and leaves it to --certify.
        pretrain: epochs on real images alone before the first fooling image; default depends on the
            schedule.
        network: same goes on training; fresh starts every round again from the first weights, on
            all sets so far.
        fooling_weight: of the loss on fooling images against that on real ones. More resists more
            and is less often sure.
        far_weight: how much more images count that are further from real data than every
            calibration image.
        sureness: weight of a loss that makes the network surer of real images than --confidence.
        gate_level: images are trained on up to this share of --ood-level. More resists more and is
            less often sure.
        prune: train on images that are out of distribution (ood), that meet all three conditions
            (all), or on every one.
        anneal: factor of the search's penalty weights from round to round.
        set_images: images in each new set of the schedules rounds and batches.
        every: batches after which the schedule batches makes a new set.
        keep: share of the earlier sets that is trained on beside the newest; all with --network
            fresh.
        stop_rate: end early once the 95 % upper bound of the share of fresh attempts that fool is
            at most this; 0 never.
        patience: end after so many rounds without a better network; default never.
        evaluate: log samples of at most 500 images a set, or (full) ten times that and four times
            the searches.
        hold_out_twin: train on half of the training images, so that the twin, trained on the other
            half, shares none.
        lr: peak learning rate of the one-cycle schedule; default 2e-3, or 5e-3 with --certify.
        certify: also train so that this many lit features are proved too few for every class,
            whichever they are; try the model cnn-wide-kernel. The run then ends with the
            certificate.
        certify_weight: of the penalty on what is not proved yet.
        precision: of the passes of training, by mixed precision. 16 needs a GPU. Searches and what
            is measured stay in 32.
        resume: go on with the run in --out, by default the latest of runs/harden, from its last
            finished round.
    """

    objective: ObjectiveName = "max-entropy"
    epochs: int | None = None
    rounds: int | None = None
    schedule: Schedule = "continuous"
    pretrain: int | None = None
    network: Network = "same"
    fooling_weight: float = HardeningPlan.weight
    far_weight: float = HardeningPlan.far_weight
    sureness: float = HardeningPlan.sureness
    gate_level: float = HardeningPlan.gate_level
    prune: Prune = "ood"
    anneal: float = HardeningPlan.anneal
    set_images: int = HardeningPlan.set_images
    every: int = HardeningPlan.every
    keep: float = HardeningPlan.keep
    stop_rate: float = HardeningPlan.stop_rate
    patience: int | None = None
    evaluate: Evaluate = "sample"
    hold_out_twin: bool = False
    lr: float | None = None
    certify: int | None = None
    certify_weight: float = HardeningPlan.certify_weight
    precision: Precision = "32"
    resume: bool = False

    def options(self) -> HardeningOptions:
        """What `harden` takes beside objective, epochs and rounds."""
        renamed = {"weight": self.fooling_weight}
        same = HardeningOptions.__optional_keys__ & {f.name for f in fields(self)}
        return cast(
            HardeningOptions, renamed | {name: getattr(self, name) for name in sorted(same)}
        )


@dataclass(frozen=True)
class DemoSettings(Tracked, Common):
    """The main job in two minutes: train, audit, harden and audit again, and one report of both."""
