"""Processes that train one network together: how a batch and its gradients are shared.

Every process has the same network and draws the same batches, of which it takes its part. Gradients
go through torch's DistributedDataParallel, everything else through torch.distributed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from blankcheck.seeds import seed_of

OF_EACH = "batch norm on the CPU takes mean and variance of the images of each process by itself"
LOCAL_STATISTICS = f"{OF_EACH}; on GPUs, of all"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """What one process does of a batch.

    Args:
        index: positions of its images in the data, (m,).
        weight: of their mean loss in that over the whole batch; those of all processes sum to 1.
        repeated: whether every process does the whole batch, because it is too small to be shared.
    """

    index: Tensor
    weight: float
    repeated: bool


@dataclass(frozen=True)
class Peers:
    """The processes that train together, as one of them sees it.

    All must call the same methods in the same order. Of one process alone, each method hands back
    what it was given, to the bit.

    Args:
        rank: the number of this process, 0..size-1.
        size: how many there are.
        device: where tensors have to be to be exchanged.
        note: takes a line that whoever started the run should read.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU
    note: Callable[[str], object] = str  # which does nothing
    _calls: Iterator[int] = field(default_factory=count, compare=False)

    def spread(self, n: int, do: Callable[[int], Any]) -> list[Any]:
        """A `Spread`: each process takes the next piece when free; at the end all tell all."""
        if self.size == 1:
            return [do(index) for index in range(n)]
        store: Any = dist.distributed_c10d._get_default_store()
        call, done = f"blankcheck piece of call {next(self._calls)}", {}
        while (index := store.add(call, 1) - 1) < n:
            done[index] = do(index)
        told = {index: result for part in self.all_gather(done) for index, result in part.items()}
        return [told[index] for index in range(n)]

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum over all processes of tensors of one shape; no gradient flows through it."""
        if self.size == 1:
            return values
        summed = values.detach().to(self.device, copy=True).contiguous()
        dist.all_reduce(summed)
        return summed.to(values.device)

    def all_gather(self, value: Any) -> list[Any]:
        """The values of all, in order of rank: anything that can be pickled, tensors on the CPU."""
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def broadcast_object(self, value: Any) -> Any:
        """The value of process 0, whatever the others hand in."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0, device=self.device)
        return values[0]

    @torch.no_grad()
    def sync_buffers(self, network: nn.Module) -> None:
        """Give every process the buffers of process 0; parameters are equal anyway."""
        if self.size > 1:
            own = list(network.buffers())
            firsts = self.broadcast_object([b.cpu() for b in own])
            for buffer, first in zip(own, firsts, strict=True):
                buffer.copy_(first)

    def distribute(self, network: nn.Module) -> nn.Module:
        """What to call for training passes of `network`: each backward pass leaves the mean of the
        gradients of all processes, which begin with what the network of process 0 holds. Batch norm
        takes its statistics over the images of all on GPUs alone; `note` is told where not."""
        if self.size == 1:
            return network
        on_gpu = self.device.type == "cuda"
        if on_gpu:
            convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm  # torch leaves it untyped
            network = convert(network)
        elif any(isinstance(module, _BatchNorm) for module in network.modules()):
            self.note(LOCAL_STATISTICS)
        ids = [self.device] if on_gpu else None
        # a user's network may have parameters that a pass does not use
        return DistributedDataParallel(network, device_ids=ids, find_unused_parameters=True)

    def part_of(self, index: Tensor) -> Part:
        """This process's part of a batch with positions `index` (n,); sizes differ by at most one,
        and none is one image alone, which batch norm cannot take."""
        if self.size > 1 and len(index) < 2 * self.size:
            return Part(index, 1 / self.size, repeated=True)
        mine = index[self.rank :: self.size]
        return Part(mine, len(mine) / len(index), repeated=False)

    def own_number(self, n: int) -> int:
        """How many of `n` things are this process's: 22, 21 and 21 of 64 for three."""
        return n // self.size + (self.rank < n % self.size)

    def own_seed(self, seed: int) -> int:
        """A seed for what every process draws for itself; that of process 0 is `seed`."""
        return seed if self.rank == 0 else seed_of(seed, "process", self.rank)


ALONE = Peers()
