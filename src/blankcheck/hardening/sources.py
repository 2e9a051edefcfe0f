"""Where the fooling images of a batch come from: a buffer always being searched, or sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from blankcheck.hardening.context import SourceContext
from blankcheck.hardening.replay import Replay
from blankcheck.hardening.structures import SUREST
from blankcheck.parallel.peers import Peers

SEARCHED_AT_ONCE = 256


@dataclass(frozen=True)
class Found:
    """Fooling images to train on, on the classifier's device.

    Args:
        images: (n, c, h, w) in stored form.
        targets: (n,).
        weights: how much each counts, (n,).
        seen: of how many that were looked at.
    """

    images: Tensor
    targets: Tensor
    weights: Tensor
    seen: int

    @classmethod
    def nothing(cls, context: SourceContext, seen: int = 0) -> Found:
        """No images."""
        device = context.device
        whole = torch.zeros(0, dtype=torch.int64, device=device)
        return cls(torch.zeros(0, *context.shape, device=device), whole, whole.float(), seen)


class NoImages:
    """A source of fooling images that has none, and the base of the others. Each process has its
    own; its state is tensors and numbers only."""

    def begin_round(self, context: SourceContext) -> None:
        """Called before the first batch of a round."""

    def begin_epoch(self, context: SourceContext) -> None:
        """Called before the first batch of an epoch."""

    def batch(self, context: SourceContext) -> Found:
        """The fooling images that the next batch is trained on."""
        return Found.nothing(context)

    def state(self) -> dict[str, Any]:
        """All that changes."""
        return {}

    def load(self, states: list[dict[str, Any]], peers: Peers) -> None:
        """Go on from such states, those of all processes in order of rank; where these were more or
        fewer than now, what they held is dealt out again."""


@dataclass
class Continuous(NoImages):
    """A buffer of images that are moved a little for every batch, and replaced when old; and
    structured images."""

    replay: Replay

    def begin_epoch(self, context: SourceContext) -> None:
        """Draw structured images anew: which are nearest changes as the network does."""
        context.draw_structures()

    def batch(self, context: SourceContext) -> Found:
        """Move the next images of the buffer, take structured ones that the network is surest of,
        and hand out those that are to be trained on."""
        buffer, n = self.replay, context.fooling_batch
        if n == 0 or len(buffer.images) == 0:
            return Found.nothing(context)
        rows, peers = buffer.next_rows(n), context.peers
        asked = context.classifier, context.classes, context.generator
        made, classes = context.structures.surest(peers.own_number(SUREST), *asked)
        images = torch.cat([buffer.search(rows, context), made.to(context.device)])
        targets = torch.cat([buffer.targets[rows], classes])
        weights = context.weights(images, targets).to(images.device)
        wanted = weights > 0
        buffer.refresh(buffer.expired(rows), context)
        return Found(
            images[wanted], targets.to(images.device)[wanted], weights[wanted], len(images)
        )

    def state(self) -> dict[str, Any]:
        """The buffer."""
        return {"replay": self.replay.state()}

    def load(self, states: list[dict[str, Any]], peers: Peers) -> None:
        """The buffer as it was, or a part of all buffers."""
        buffers = [Replay.of(state["replay"]) for state in states]
        same = len(states) == peers.size
        self.replay = buffers[peers.rank] if same else Replay.reshard(buffers, peers)


@dataclass
class Sets(NoImages):
    """A new set every so many batches, trained on beside a share of earlier ones.

    Args:
        every: batches from one set to the next; None: one at the beginning of each round.
        made: (images, targets, weights) of all sets so far, one after the other.
        pool: positions of those in use.
        since: batches since the newest.
    """

    every: int | None
    made: tuple[Tensor, Tensor, Tensor] | None = None
    pool: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    since: int = 0

    def begin_round(self, context: SourceContext) -> None:
        """Make a set, where each round has one."""
        if self.every is None or self.made is None:
            self._renew(context)

    def batch(self, context: SourceContext) -> Found:
        """A random part of the pool."""
        if self.every is not None and self.since >= self.every:
            self._renew(context)
        self.since += 1
        n = context.fooling_batch
        if self.made is None or len(self.pool) == 0:
            return Found.nothing(context, n)
        index = self.pool[torch.randint(0, len(self.pool), (n,), generator=context.generator)]
        images, targets, weights = (part[index].to(context.device) for part in self.made)
        return Found(images, targets, weights, n)

    def _renew(self, context: SourceContext) -> None:
        context.draw_structures()
        before, new = self.made, make_set(context)
        earlier = len(before[1]) if before is not None else 0
        share = round(context.plan.kept_share * earlier)
        kept = torch.randperm(earlier, generator=context.generator)[:share]
        if before is not None:
            images, targets, weights = (torch.cat(parts) for parts in zip(before, new, strict=True))
            new = images, targets, weights
        self.made, self.since = new, 0
        self.pool = torch.cat([kept, torch.arange(earlier, len(new[1]))])

    def state(self) -> dict[str, Any]:
        """What was made, and what of it is in use."""
        return {"made": self.made, "pool": self.pool, "since": self.since}

    def load(self, states: list[dict[str, Any]], peers: Peers) -> None:
        """As it was, or a part of all sets and of what of them is in use."""
        same = len(states) == peers.size
        state = states[peers.rank] if same else _resharded(states, peers)
        self.made, self.pool, self.since = state["made"], state["pool"], int(state["since"])


def _resharded(states: list[dict[str, Any]], peers: Peers) -> dict[str, Any]:
    """Every so many-th image of all sets together, from the state of the sets of each process."""
    full, mine = [s for s in states if s["made"] is not None], slice(peers.rank, None, peers.size)
    if not full:
        return states[0]
    used = []
    for state in full:
        used.append(torch.zeros(len(state["made"][1]), dtype=torch.bool))
        used[-1][state["pool"]] = True
    made = tuple(torch.cat([s["made"][part] for s in full])[mine] for part in range(3))
    pool = torch.cat(used)[mine].nonzero().squeeze(1)
    return {"made": made, "pool": pool, "since": states[0]["since"]}


def make_set(context: SourceContext) -> tuple[Tensor, Tensor, Tensor]:
    """Search a fresh set, or this process's part: images (n, c, h, w), targets and weights (n,), on
    the CPU; taken at every stage of their search, as a buffer holds them."""
    size, longest = max(1, context.peers.own_number(context.plan.set_images)), context.plan.life
    buffer = Replay.fill(size, context)
    buffer.age.zero_()
    last = torch.randint(1, longest + 1, (size,), generator=context.generator)
    images = buffer.images.clone()
    for visit in range(longest):
        for rows in torch.split((last > visit).nonzero().squeeze(1), SEARCHED_AT_ONCE):
            images[rows] = buffer.search(rows, context).cpu()
    parts = torch.split(torch.arange(size), SEARCHED_AT_ONCE)
    device, aims = context.device, buffer.targets
    weights = torch.cat([context.weights(images[p].to(device), aims[p]) for p in parts])
    wanted = weights > 0
    return images[wanted], aims[wanted], weights[wanted]


def source_of(context: SourceContext) -> NoImages:
    """The source that the plan's schedule names."""
    plan = context.plan
    if plan.schedule == "continuous":
        return Continuous(Replay.fill(context.peers.own_number(plan.buffer), context))
    if plan.schedule == "none":
        return NoImages()
    return Sets(plan.every if plan.schedule == "batches" else None)
