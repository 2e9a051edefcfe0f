"""Where the fooling images of a batch come from: a buffer that is always being searched, or sets
made now and then."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.wrapper import device_of, left_as_found
from blankcheck.fooling import Goal, Problem
from blankcheck.fooling.starts import Real
from blankcheck.hardening.plan import HardeningPlan
from blankcheck.hardening.replay import Replay
from blankcheck.judging import OODTest
from blankcheck.parallel.peers import ALONE, Peers, own_number
from blankcheck.types import Conditions, count_lit

SEARCHED_AT_ONCE = 256


@dataclass
class Ground:
    """What every source searches: the classifier as it is now, under a plan. gate: the
    out-of-distribution test of hardening, and `strict` the p-value up to which an image is trained
    on. generator: of fooling images, of which every process makes its own. real: images that starts
    are made of. passes: backward passes of images so far, of this process.
    peers: the processes that share the work."""

    classifier: UnitClassifier
    classes: int
    shape: tuple[int, int, int]
    conditions: Conditions
    plan: HardeningPlan
    gate: OODTest
    strict: float
    generator: torch.Generator
    real: Real
    anneal: float = 1.0
    passes: int = 0
    peers: Peers = ALONE

    @property
    def fooling_batch(self) -> int:
        """This process's part of the fooling images beside each batch."""
        return own_number(self.plan.fooling_batch, self.peers)

    def problem(self, targets: Tensor) -> Problem:
        """The search of these targets (n,)."""
        return Problem(self.classifier, "logits", targets.to(device_of(self.classifier)))

    @property
    def needed(self) -> float:
        """The confidence asked for, as log-odds."""
        return Goal(self.conditions.confidence).target_log_odds

    def weights(self, images: Tensor, targets: Tensor) -> Tensor:
        """How much each of these images (n, c, h, w) counts in the fooling loss, (n,) on the CPU;
        0: it is not trained on.

        Near the gate's level fooling images are hard to tell from unusual real ones. Those that are
        more unusual than every real image are not, and count `far_weight` times.
        """
        if self.plan.prune == "none":
            return torch.ones(len(images))
        p = self.gate.p_values(images)
        weights = (p <= self.strict) * torch.where(
            p <= self.gate.smallest_p, self.plan.far_weight, 1.0
        )
        if self.plan.prune == "all":
            with left_as_found(self.classifier):
                margin = self.problem(targets).score(images)[1]
            weights *= (
                (margin >= self.needed) & (count_lit(images) <= self.conditions.max_lit)
            ).cpu()
        return weights


@dataclass(frozen=True)
class Found:
    """Fooling images (n, c, h, w) to train on, in stored form, their targets (n,) and how much they
    count (n,), all on the classifier's device. seen: of how many that were looked at."""

    images: Tensor
    targets: Tensor
    weights: Tensor
    seen: int

    @classmethod
    def nothing(cls, ground: Ground, seen: int = 0) -> Found:
        """No images."""
        device = device_of(ground.classifier)
        whole = torch.zeros(0, dtype=torch.int64, device=device)
        return cls(torch.zeros(0, *ground.shape, device=device), whole, whole.float(), seen)


class Source(Protocol):
    """Fooling images of one process, batch after batch. Its state is tensors and numbers only."""

    def begin_round(self, ground: Ground) -> None:
        """Called before the first batch of a round."""

    def batch(self, ground: Ground) -> Found:
        """The fooling images that the next batch is trained on."""

    def state(self) -> dict[str, Any]:
        """All that changes."""

    def load(self, states: list[dict[str, Any]], peers: Peers) -> None:
        """Go on from such states, those of all processes in order of rank; where these were more or
        fewer than now, what they held is dealt out again."""


@dataclass
class Continuous:
    """A buffer of images that go on being searched, some moves for every batch, each replaced when
    it is old."""

    replay: Replay

    @classmethod
    def filled(cls, ground: Ground) -> Continuous:
        """With fresh starts."""
        plan, size = ground.plan, own_number(ground.plan.buffer, ground.peers)
        return cls(
            Replay.fill(
                size, ground.classes, ground.shape, ground.real, plan.life, ground.generator
            )
        )

    def begin_round(self, ground: Ground) -> None:
        """Nothing: the search just goes on."""

    def batch(self, ground: Ground) -> Found:
        """Move the next images of the buffer and hand out those that are to be trained on."""
        plan, buffer, n = ground.plan, self.replay, ground.fooling_batch
        if n == 0 or len(buffer.images) == 0:
            return Found.nothing(ground)
        rows = buffer.next_rows(n)
        targets = buffer.targets[rows]
        images = _moved(buffer, rows, ground)
        weights = ground.weights(images, targets).to(images.device)
        wanted = weights > 0
        expired = buffer.expired(rows)
        buffer.refresh(
            expired, ground.classes, ground.real, plan.life, ground.generator, ground.anneal
        )
        return Found(images[wanted], targets.to(images.device)[wanted], weights[wanted], len(rows))

    def state(self) -> dict[str, Any]:
        """The buffer."""
        return {"replay": self.replay.state()}

    def load(self, states: list[dict[str, Any]], peers: Peers) -> None:
        """The buffer as it was, or a part of all buffers."""
        buffers = [Replay.of(state["replay"]) for state in states]
        self.replay = (
            buffers[peers.rank] if len(states) == peers.size else Replay.dealt(buffers, peers)
        )


class Silent:
    """No fooling images at all: the bound alone has to do it."""

    def begin_round(self, ground: Ground) -> None:
        """Nothing."""

    def batch(self, ground: Ground) -> Found:
        """No images."""
        return Found.nothing(ground)

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load(self, states: list[dict[str, Any]], peers: Peers) -> None:
        """Nothing."""


@dataclass
class Sets:
    """A new set every `every` batches (None: at the beginning of each round), trained on beside a
    share of earlier ones.

    made: (images, targets, weights) of all sets so far, one after the other; None before the first.
    pool: positions of those in use. since: batches since the newest.
    """

    every: int | None
    made: tuple[Tensor, Tensor, Tensor] | None = None
    pool: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    since: int = 0

    def begin_round(self, ground: Ground) -> None:
        """Make a set, where each round has one."""
        if self.every is None or self.made is None:
            self._renew(ground)

    def batch(self, ground: Ground) -> Found:
        """A random part of the pool."""
        if self.every is not None and self.since >= self.every:
            self._renew(ground)
        self.since += 1
        device, n = device_of(ground.classifier), ground.fooling_batch
        if self.made is None or len(self.pool) == 0:
            return Found.nothing(ground, n)
        index = self.pool[torch.randint(0, len(self.pool), (n,), generator=ground.generator)]
        images, targets, weights = (part[index].to(device) for part in self.made)
        return Found(images, targets, weights, n)

    def _renew(self, ground: Ground) -> None:
        before, new = self.made, make_set(ground)
        earlier = len(before[1]) if before is not None else 0
        kept = torch.randperm(earlier, generator=ground.generator)[
            : round(ground.plan.kept_share * earlier)
        ]
        images, targets, weights = (
            (torch.cat(parts) for parts in zip(before, new, strict=True)) if before else new
        )
        self.made = images, targets, weights
        self.pool = torch.cat([kept, torch.arange(earlier, len(targets))])
        self.since = 0

    def state(self) -> dict[str, Any]:
        """What was made, and what of it is in use."""
        return {"made": self.made, "pool": self.pool, "since": self.since}

    def load(self, states: list[dict[str, Any]], peers: Peers) -> None:
        """As it was, or a part of all sets and of what of them is in use."""
        same = len(states) == peers.size
        state = (
            states[peers.rank]
            if same
            else _dealt([s for s in states if s["made"] is not None], states[0], peers)
        )
        self.made, self.pool, self.since = state["made"], state["pool"], int(state["since"])


def _dealt(full: list[dict[str, Any]], any_of_all: dict[str, Any], peers: Peers) -> dict[str, Any]:
    """Every so many-th image of all sets together, from the state of the sets of each process."""
    if not full:
        return any_of_all
    used = []
    for state in full:
        used.append(torch.zeros(len(state["made"][1]), dtype=torch.bool))
        used[-1][state["pool"]] = True
    made = [
        torch.cat([s["made"][part] for s in full])[peers.rank :: peers.size] for part in range(3)
    ]
    pool = torch.cat(used)[peers.rank :: peers.size].nonzero().squeeze(1)
    return {"made": tuple(made), "pool": pool, "since": any_of_all["since"]}


def make_set(ground: Ground) -> tuple[Tensor, Tensor, Tensor]:
    """Search a fresh set against the network as it is: images (n, c, h, w), targets and weights
    (n,), on the CPU. Of several processes each makes its part.

    Images are taken at every stage of their search, as a buffer that is always being searched holds
    them.
    """
    plan, size = ground.plan, max(1, own_number(ground.plan.set_images, ground.peers))
    buffer = Replay.fill(
        size, ground.classes, ground.shape, ground.real, plan.life, ground.generator, ground.anneal
    )
    buffer.age.zero_()
    last = torch.randint(1, plan.life + 1, (size,), generator=ground.generator)
    images = buffer.images.clone()
    for visit in range(plan.life):
        for rows in torch.split((last > visit).nonzero().squeeze(1), SEARCHED_AT_ONCE):
            images[rows] = _moved(buffer, rows, ground).cpu()
    device = device_of(ground.classifier)
    parts = torch.split(torch.arange(size), SEARCHED_AT_ONCE)
    weights = torch.cat(
        [ground.weights(images[rows].to(device), buffer.targets[rows]) for rows in parts]
    )
    wanted = weights > 0
    return images[wanted], buffer.targets[wanted], weights[wanted]


def _moved(buffer: Replay, rows: Tensor, ground: Ground) -> Tensor:
    with left_as_found(ground.classifier):
        images = buffer.search(
            rows, ground.problem(buffer.targets[rows]), ground.needed, ground.plan.inner_steps
        )
    ground.passes += len(rows) * ground.plan.inner_steps
    return images


def source_of(ground: Ground) -> Source:
    """The source that the plan's schedule names."""
    if ground.plan.schedule == "continuous":
        return Continuous.filled(ground)
    if ground.plan.schedule == "none":
        return Silent()
    return Sets(ground.plan.every if ground.plan.schedule == "batches" else None)
