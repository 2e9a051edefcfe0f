"""How a network is hardened: every choice in one value, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from blankcheck.classifiers import TrainingPlan
from blankcheck.errors import ArgumentError

SCHEDULES = ("continuous", "rounds", "batches", "none")
NETWORKS = ("same", "fresh")
PRUNES = ("ood", "all", "none")
EVALUATE = ("sample", "full")
MOST_ROUNDS = 10
CERTIFIED_LR = 5e-3
"""Peak learning rate where a proof is asked for, whose penalty keeps steps small."""


@dataclass(frozen=True)
class HardeningPlan:
    """How a network is hardened.

    training: epochs, batch size and optimiser of the whole. rounds: the epochs are spread over so
    many; each ends with a search on the new network. schedule: where the fooling images come from
    (`sources`); `none` leaves them out, and only the bound of `certify` hardens. pretrain: epochs
    on real images alone, before. network: `same` goes on training; `fresh` starts every round again
    from the first weights, on all sets so far. weight: of the fooling loss against the
    cross-entropy on real images. far_weight: how much more an image counts that is further from
    real data than every calibration image of the gate. sureness: weight of the loss on real images
    that are not surer than the audit asks for (`objectives.unsure`). prune: train on what is out of
    distribution (`ood`), on what meets all three conditions of the audit (`all`), or on everything
    (`none`). anneal: the penalty weight of new searches is multiplied by this from round to round.

    Search: fooling_batch: fooling images beside each batch of real ones. inner_steps: of search an
    image is moved by at once. life: most such moves of an image. buffer: images that are being
    searched in `continuous`. set_images: in a new set of `rounds` and `batches`; every: batches
    after which `batches` makes one; keep: share of earlier sets that is trained on beside the
    newest; `fresh` networks need all.

    Proof: certify: lit features that are to be proved too few for every class; None: no proof is
    asked for.
    certify_weight: of the penalty on what is not proved (`certifying.Penalty`).

    Gate: gate_images: most real images that fit its scores (its cost is theirs). gate_level: images
    are trained on at this share of the audit's level.

    End of a round: fresh_attempts, fresh_steps: the search on the new network. stop_rate: hardening
    ends early once the 95 % upper bound of the share of fresh attempts that fool is at most this,
    shown by up to `stop_attempts`, and the network has not become surer of real images for two
    rounds. patience: rounds without a better network that end it, None for never. evaluate: what is
    logged uses samples, or everything.
    hold_out_twin: train on half A of the training images alone, so that a twin trained on half B
    shares none with it.
    """

    training: TrainingPlan
    rounds: int = MOST_ROUNDS
    schedule: str = "continuous"
    pretrain: int = 0
    network: str = "same"
    weight: float = 0.4
    far_weight: float = 3.0
    sureness: float = 2.0
    prune: str = "ood"
    anneal: float = 1.0
    fooling_batch: int = 64
    inner_steps: int = 2
    life: int = 40
    buffer: int = 1024
    set_images: int = 2000
    every: int = 400
    keep: float = 0.5
    gate_images: int = 1000
    gate_level: float = 1.0
    fresh_attempts: int = 50
    fresh_steps: int = 200
    stop_rate: float = 0.01
    stop_attempts: int = 300
    patience: int | None = None
    evaluate: str = "sample"
    hold_out_twin: bool = False
    certify: int | None = None
    certify_weight: float = 0.5

    def __post_init__(self) -> None:
        for name, known in (
            ("schedule", SCHEDULES),
            ("network", NETWORKS),
            ("prune", PRUNES),
            ("evaluate", EVALUATE),
        ):
            if getattr(self, name) not in known:
                raise ArgumentError(
                    f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}"
                )
        for name in (
            "rounds",
            "fooling_batch",
            "inner_steps",
            "life",
            "buffer",
            "set_images",
            "every",
            "gate_images",
            "fresh_attempts",
            "fresh_steps",
        ):
            if getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.patience is not None and self.patience < 1:
            raise ArgumentError(f"patience must be at least 1, got {self.patience}")
        if self.certify is not None and self.certify < 1:
            raise ArgumentError(f"certify must be at least 1, got {self.certify}")
        if self.schedule == "none" and self.certify is None:
            raise ArgumentError(
                "schedule 'none' trains on no fooling images and needs certify, the k to be proved"
            )
        if not 0 < self.certify_weight < float("inf"):
            raise ArgumentError(
                f"certify_weight must be a number above 0, got {self.certify_weight:g}"
            )
        for name in ("weight", "far_weight", "sureness"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ArgumentError(
                    f"{name} must be a number of at least 0, got {getattr(self, name):g}"
                )
        if not 0 < self.anneal <= 10:
            raise ArgumentError(f"anneal must lie in (0, 10], got {self.anneal:g}")
        for name in ("keep", "stop_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ArgumentError(f"{name} must lie in [0, 1], got {getattr(self, name):g}")
        if not 0 <= self.pretrain < self.training.epochs:
            raise ArgumentError(
                f"pretrain must lie in 0..{self.training.epochs - 1} of the epochs, got {self.pretrain}"
            )

    @property
    def kept_share(self) -> float:
        """Share of the earlier sets that is trained on: all of them where the network has forgotten
        everything."""
        return 1.0 if self.network == "fresh" else self.keep

    def epochs_of(self, index: int) -> int:
        """Epochs of the round `index`: those after pre-training, spread evenly."""
        total = self.training.epochs - self.pretrain
        return total * (index + 1) // self.rounds - total * index // self.rounds


def default_pretrain(epochs: int, schedule: str) -> int:
    """Epochs on real images alone before the first fooling image: three tenths of them where a
    buffer is searched all the time, which is what costs; one where sets are made, of a network that
    should know something."""
    if schedule == "none":
        return 0
    return 3 * epochs // 10 if schedule == "continuous" else min(1, epochs // 3)


def default_plan(
    n: int, epochs: int | None = None, rounds: int | None = None, **options: Any
) -> HardeningPlan:
    """The plan for `n` training images, with as many epochs as plain training has; further
    `options` by their names."""
    usual = CERTIFIED_LR if options.get("certify") is not None else TrainingPlan.lr
    lr, precision = options.pop("lr", None), options.pop("precision", TrainingPlan.precision)
    training = replace(
        TrainingPlan.default(n, epochs), lr=usual if lr is None else lr, precision=precision
    )
    if options.get("pretrain") is None:
        options["pretrain"] = default_pretrain(
            training.epochs, options.get("schedule", "continuous")
        )
    plan = HardeningPlan(training, **options)
    most = training.epochs - plan.pretrain
    return replace(plan, rounds=min(most, rounds if rounds is not None else MOST_ROUNDS))
