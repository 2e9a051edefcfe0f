"""How a network is hardened: every option once, with what it means; imports nothing heavy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from blankcheck.arguments import check_plain
from blankcheck.errors import ArgumentError

if TYPE_CHECKING:
    from blankcheck.classifiers import TrainingPlan

ObjectiveName = Literal["max-entropy", "fake-classes", "reject-class"]
Schedule = Literal["continuous", "rounds", "batches", "none"]
Network = Literal["same", "fresh"]
Prune = Literal["ood", "all", "none"]
Evaluate = Literal["sample", "full"]
Precision = Literal["32", "bf16", "16"]

EPOCHS = 20
"""As many again as plain training needs: what is found goes on becoming less."""
MOST_ROUNDS = 4
WEIGHT, GENTLE_WEIGHT = 12.0, 1.0
"""Usual weights of the loss on fooling images: the second where a network is trained already, where
something is to be proved, and where images are few, so that training sees each very often."""
SURENESS, GENTLE_SURENESS, CERTIFIED_SURENESS = 40.0, 9.0, 2.0
"""Of the loss that makes the network surer of real images: usually, with the gentle weight, and
where something is to be proved. The first two losses pull at one another; a network is the surer of
real images the larger the one is beside the other, and fooled the oftener."""
AVERAGE = 0.1
"""Share of all batches that weights are averaged over. Over twice as many, networks are surer of
real images still, and fooled oftener."""
FEW = 6000
"""Training images below which these are few."""
LR, TRAINED_LR, CERTIFIED_LR = 2e-3, 5e-4, 5e-3
"""Peak learning rates: the usual one, that of a network which knows its data already, and that for
a proof, whose penalty keeps steps small."""


@dataclass(frozen=True)
class HardeningOptions:
    """What can be chosen of a hardening; None is chosen for the data set (`HardeningPlan.of`).

    Args:
        objective: what fooling images should be answered with.
        epochs: passes over the training images; default 20, or more until there are 2000 steps.
        rounds: of search and training, over which the epochs are spread.
        schedule: continuous, the default, keeps a buffer of images that go on being searched;
            rounds makes a set of images at the beginning of each round, batches one every so many
            batches (--every); none, the default with --certify, trains on no fooling images, which
            pull against the proof.
        pretrain: epochs on real images alone before the first fooling image; default depends on the
            schedule, and is 0 for a network that is trained already.
        network: same goes on training; fresh starts every round again from the first weights, on
            all sets so far.
        fooling_weight: of the loss on fooling images against that on real ones. More resists more
            and is less often sure. Default 12, or 1 for a network that is trained already, with
            fewer than 6000 training images and with --certify.
        far_weight: how much more images count that are out of distribution at --ood-level.
        sureness: weight of a loss that makes the network surer of real images than --confidence;
            default 40, less where plain training leaves many images unsure, 9 where the default of
            --fooling-weight is 1, or 2 with --certify, whose proof is against being sure.
        gate_level: images are trained on up to this multiple of --ood-level; default up to a
            p-value of 0.03. More resists more and is less often sure.
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
        lr: peak learning rate of the one-cycle schedule; default 2e-3, or 5e-4 for a network that
            is right about half of the validation images already, or 5e-3 with --certify.
        certify: also train so that this many lit features are proved too few for every class,
            whichever they are; try the model cnn-wide-kernel. The run then ends with the
            certificate.
        certify_weight: of the penalty on what is not proved yet.
        precision: of the passes of training, by mixed precision. 16 needs a GPU. Searches and what
            is measured stay in 32.
        augment: shift every real image by up to 4 pixels and mirror half of them, anew in every
            epoch, as is usual for CIFAR-10.
    """

    objective: ObjectiveName = "max-entropy"
    epochs: int | None = None
    rounds: int | None = None
    schedule: Schedule | None = None
    pretrain: int | None = None
    network: Network = "same"
    fooling_weight: float | None = None
    far_weight: float = 3.0
    sureness: float | None = None
    gate_level: float | None = None
    prune: Prune = "ood"
    anneal: float = 1.0
    set_images: int = 2000
    every: int = 400
    keep: float = 0.5
    stop_rate: float = 0.01
    patience: int | None = None
    evaluate: Evaluate = "sample"
    hold_out_twin: bool = False
    lr: float | None = None
    certify: int | None = None
    certify_weight: float = 0.5
    precision: Precision = "32"
    augment: bool = False


COUNTS = (
    *("rounds", "fooling_batch", "inner_steps", "life", "buffer", "set_images", "every"),
    *("gate_images", "fresh_attempts", "fresh_steps", "patience", "certify"),
)
WEIGHTS = ("fooling_weight", "far_weight", "sureness")
RANGES: tuple[tuple[tuple[str, ...], Callable[[float], bool], str], ...] = (
    (COUNTS, lambda value: value >= 1, "be at least 1"),
    (WEIGHTS, lambda value: 0 <= value < math.inf, "be a number of at least 0"),
    (("certify_weight",), lambda value: 0 < value < math.inf, "be a number above 0"),
    (("anneal",), lambda value: 0 < value <= 10, "lie in (0, 10]"),
    (("keep", "stop_rate", "average"), lambda value: 0 <= value <= 1, "lie in [0, 1]"),
)
"""Fields, what is allowed, and the words for it. None of these lets NaN through."""


@dataclass(frozen=True)
class HardeningPlan(HardeningOptions):
    """The options as they are for one data set, and what only scripts choose.

    Raises ArgumentError where an option is out of its range.

    Args:
        batch: real images of an optimiser step.
        fooling_batch: fooling images beside each batch of real ones.
        inner_steps: of search by which an image is moved at once.
        life: such moves after which an image is replaced, in the middle (`replay.SPREAD`).
        buffer: images that are being searched in the schedule continuous.
        average: share of all batches over which the weights of the network that is looked at and
            kept are averaged; 0 takes them as they are.
        eased: whether sureness falls where pre-training leaves many images unsure (`Trainer.ease`).
        shake: whether real images are shaken a little (`shaking`).
        gate_images: real images, at most, that fit the scores of the out-of-distribution test.
        fresh_attempts: of the search that ends a round.
        fresh_steps: of each of these attempts.
        stop_attempts: up to so many show that stop_rate is reached.
    """

    epochs: int = EPOCHS
    rounds: int = MOST_ROUNDS
    schedule: Schedule = "continuous"
    pretrain: int = 0
    fooling_weight: float = WEIGHT
    sureness: float = SURENESS
    lr: float = LR
    batch: int = 128
    fooling_batch: int = 96
    inner_steps: int = 2
    life: int = 100
    buffer: int = 512
    average: float = AVERAGE
    eased: bool = False
    shake: bool = True
    gate_images: int = 2500
    fresh_attempts: int = 50
    fresh_steps: int = 200
    stop_attempts: int = 300

    def __post_init__(self) -> None:
        _ = self.training  # which checks what belongs to it
        for name, kind in get_type_hints(HardeningPlan).items():
            known, value = get_args(kind), getattr(self, name)
            if known and isinstance(known[0], str) and value not in known:
                raise ArgumentError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        for names, fits, words in RANGES:
            for name in names:
                value = getattr(self, name)
                if value is not None and not fits(value):
                    raise ArgumentError(f"{name} must {words}, got {value:g}")
        if self.schedule == "none" and self.certify is None:
            needs = "needs certify, the k to be proved"
            raise ArgumentError(f"schedule 'none' trains on no fooling images and {needs}")
        if not 0 <= self.pretrain < self.epochs:
            words = f"pretrain must lie in 0..{self.epochs - 1} of the epochs, got {self.pretrain}"
            raise ArgumentError(words)

    @classmethod
    def of(cls, n: int, trained: bool = False, **options: Any) -> HardeningPlan:
        """The plan for `n` training images.

        Args:
            n: training images.
            trained: whether the network knows its data already.
            options: fields of this class, and `weight` for `fooling_weight`; None is chosen.

        Raises:
            ArgumentError: an option is unknown or out of its range.
        """
        from blankcheck.classifiers import TrainingPlan

        if "weight" in options:
            options["fooling_weight"] = options.pop("weight")
        known = {field.name for field in fields(cls)}
        if unknown := sorted(options.keys() - known):
            words = f"harden knows no option {unknown[0]!r}; it knows {', '.join(sorted(known))}"
            raise ArgumentError(words)
        given = {name: value for name, value in options.items() if value is not None}
        check_plain({field.name: str(field.type) for field in fields(cls)}, given)
        epochs = TrainingPlan.default(n, given.pop("epochs", None), EPOCHS).epochs
        rounds = given.pop("rounds", MOST_ROUNDS)
        given.setdefault("schedule", "none" if "certify" in given else cls.schedule)
        usual = 0 if trained else _pretrain(epochs, given["schedule"])
        given.setdefault("pretrain", usual)
        gentle = trained or "certify" in given or n < FEW
        given.setdefault("fooling_weight", GENTLE_WEIGHT if gentle else WEIGHT)
        lr = CERTIFIED_LR if "certify" in given else TRAINED_LR if trained else LR
        given.setdefault("lr", lr)
        given.setdefault("eased", not gentle and "sureness" not in given)
        sureness = GENTLE_SURENESS if gentle else SURENESS
        given.setdefault("sureness", CERTIFIED_SURENESS if "certify" in given else sureness)
        plan = cls(epochs=epochs, **given)
        return replace(plan, rounds=min(rounds, epochs - plan.pretrain))

    @property
    def training(self) -> TrainingPlan:
        """Epochs, batch size, learning rate and precision of the whole."""
        from blankcheck.classifiers import TrainingPlan

        return TrainingPlan(self.epochs, self.batch, self.lr, precision=self.precision)

    @property
    def kept_share(self) -> float:
        """Share of the earlier sets trained on: all where the network has forgotten them."""
        return 1.0 if self.network == "fresh" else self.keep

    def epochs_of(self, index: int) -> int:
        """Epochs of the round `index`: those after pre-training, spread evenly."""
        total = self.epochs - self.pretrain
        return total * (index + 1) // self.rounds - total * index // self.rounds


def _pretrain(epochs: int, schedule: str) -> int:
    """More than half of the epochs where a buffer is searched all the time, which costs; one where
    sets are made, of a network that should know something."""
    if schedule == "none":
        return 0
    return 11 * epochs // 20 if schedule == "continuous" else min(1, epochs // 3)
