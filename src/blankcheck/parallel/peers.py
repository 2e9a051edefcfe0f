"""Training by several processes: what they tell each other, and how a batch and its gradients are
shared.

Every process has the same network and draws the same batches, of which it takes its part. How they
reach each other is not
known here: they are given `Peers`. With `ALONE`, one process, every function below changes nothing,
not even a bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from blankcheck.errors import ModelError
from blankcheck.seeds import seed_of


class Peers(Protocol):
    """The processes that train together, as one of them sees it.

    All must call the same functions in the same order.
    """

    @property
    def rank(self) -> int:
        """The number of this process, 0..size-1."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes of tensors of one shape; no gradient flows through it.

        Equal bits for all.
        """
        ...

    def gather(self, value: Any) -> list[Any]:
        """The values of all, in order of rank: tensors on the CPU, numbers, texts and what is made
        of these."""
        ...

    def from_first(self, value: Any) -> Any:
        """The value of process 0, whatever the others hand in."""
        ...


@dataclass(frozen=True)
class _Alone:
    rank: int = 0
    size: int = 1

    def total(self, values: Tensor) -> Tensor:
        return values

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def from_first(self, value: Any) -> Any:
        return value


ALONE: Peers = _Alone()
"""One process."""


@dataclass(frozen=True)
class Part:
    """What one process does of a batch. index: positions (m,). weight: of the mean loss over these
    in the mean loss of the whole batch, so that the sum over all processes is the latter. repeated:
    every process does the whole batch, because it is smaller than their number."""

    index: Tensor
    weight: float
    repeated: bool


def part_of(index: Tensor, peers: Peers) -> Part:
    """The part of this process of a batch with positions `index` (n,); sizes differ by at most one."""
    if len(index) < peers.size:
        return Part(index, 1 / peers.size, repeated=True)
    mine = index[peers.rank :: peers.size]
    return Part(mine, len(mine) / len(index), repeated=False)


def own_number(n: int, peers: Peers) -> int:
    """How many of `n` things are this process's: 22, 21 and 21 of 64 for three."""
    return n // peers.size + (peers.rank < n % peers.size)


def own_seed(seed: int, peers: Peers) -> int:
    """A seed for what every process draws for itself; that of process 0 is `seed`."""
    return seed if peers.rank == 0 else seed_of(seed, "process", peers.rank)


class _Sum(torch.autograd.Function):
    """y = sum over processes of x. Each process has a loss of its own, and what counts is their
    sum, so the gradient of every x is the sum of the gradients of all y."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, peers: Peers) -> Tensor:
        ctx.peers = peers
        return peers.total(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.peers.total(gradients[0]), None


def shared_sum(values: Tensor, peers: Peers) -> Tensor:
    """The sum over all processes, through which gradients flow back to all of them."""
    if peers.size == 1:
        return values
    # torch leaves `apply` without types
    summed: Tensor = _Sum.apply(values, peers)  # type: ignore[no-untyped-call]
    return summed


def sum_gradients(parameters: Iterable[nn.Parameter], peers: Peers) -> None:
    """Give every process the sum of all gradients, in one exchange (one for each type of number
    where there are several).

    A parameter that has no gradient in any process keeps none, as an optimiser treats that
    differently from zeros.
    """
    if peers.size == 1:
        return
    kinds: dict[tuple[torch.dtype, torch.device], list[nn.Parameter]] = {}
    for p in parameters:
        if p.requires_grad:
            kinds.setdefault((p.dtype, p.device), []).append(p)
    for (dtype, device), group in kinds.items():
        has = torch.tensor([p.grad is not None for p in group], dtype=dtype, device=device)
        mine = [(p.grad if p.grad is not None else torch.zeros_like(p)).flatten() for p in group]
        summed, *sums = torch.split(
            peers.total(torch.cat([has, *mine])), [len(group), *(p.numel() for p in group)]
        )
        for p, there, values in zip(group, summed.tolist(), sums, strict=True):
            if there:
                p.grad = values.view_as(p)


@torch.no_grad()
def take_from_first(tensors: Iterable[Tensor], peers: Peers) -> None:
    """Put what these tensors are in process 0 into those of every process."""
    if peers.size == 1:
        return
    for tensor in tensors:
        first = tensor if peers.rank == 0 else torch.zeros_like(tensor)
        tensor.copy_(peers.total(first.long() if tensor.dtype == torch.bool else first))


@torch.no_grad()
def align(network: nn.Module, peers: Peers) -> None:
    """Give every process the buffers of process 0, and see that parameters are equal; to be called
    now and then.

    Buffers of batch norm are equal anyway, those of users' modules may hang on the images that a
    process saw. Raises ModelError where parameters differ, after which no number of the training
    would mean anything.
    """
    if peers.size == 1:
        return
    take_from_first(network.buffers(), peers)
    told = peers.gather(_digest(network.parameters()))
    apart = [rank for rank, digest in enumerate(told) if digest != told[0]]
    if apart:
        raise ModelError(
            f"the parameters of process {apart[0]} are not those of process 0; a network that is trained by several "
            "processes must be built the same, and draw no random numbers that decide which layers run"
        )


def _digest(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        plain = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
        digest.update(plain.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
