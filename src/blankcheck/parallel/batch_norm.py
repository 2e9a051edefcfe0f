"""Batch norm of a batch that is spread over several processes; torch's own does not work on the
CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from blankcheck.parallel.peers import Peers, shared_sum


@contextmanager
def shared_statistics(peers: Peers) -> Iterator[None]:
    """Inside, batch norm in training mode takes mean and variance over the images of all processes,
    however many each has.

    Gradients flow through these statistics to all processes, and running statistics change as they
    would for the whole batch in one process. This holds for whatever calls
    `torch.nn.functional.batch_norm`, subclasses of torch's modules included; scripted and compiled
    networks call something else.
    """
    if peers.size == 1:
        yield
        return
    with _Shared(peers):
        yield


class _Shared(TorchFunctionMode):
    def __init__(self, peers: Peers) -> None:
        super().__init__()
        self.peers = peers

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.batch_norm:
            return _batch_norm(self.peers, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    peers: Peers,
    images: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As `F.batch_norm`, of activations (n, c, ...)."""
    if not training:
        return F.batch_norm(
            images, running_mean, running_var, weight, bias, training, momentum, eps
        )
    # half precision would lose what mean and variance need
    x = images.to(torch.promote_types(images.dtype, torch.float32))
    n, mean, var = _statistics(x, peers)
    if images.numel() <= images.shape[1] and float(n) <= 1:
        raise ValueError(
            f"expected more than 1 value per channel when training, got input size {tuple(images.shape)}"
        )
    with torch.no_grad():
        for running, new in ((running_mean, mean), (running_var, var * (n / (n - 1)))):
            if running is not None:
                running.mul_(1 - momentum).add_(new.to(running.dtype), alpha=momentum)
    wide = (1, -1, *(1,) * (x.ndim - 2))
    scale = (var + eps).rsqrt() * (1 if weight is None else weight)
    outputs = (x - mean.view(wide)) * scale.view(wide)
    return (outputs if bias is None else outputs + bias.view(wide)).to(images.dtype)


def _statistics(x: Tensor, peers: Peers) -> tuple[Tensor, Tensor, Tensor]:
    """How many values a channel has in all processes (), and their mean and biased variance, (c,)
    each.

    The moments of every process are combined by the formula of Chan, Golub and LeVeque (1979),
    since a variance from sums of squares loses its digits where the mean is large. Every process
    lays its moments into a row of its own, so that one sum brings all rows to all.
    """
    c, dims = x.shape[1], [0, *range(2, x.ndim)]
    n = x.numel() // max(1, c)
    own_mean = x.mean(dim=dims) if n else x.new_zeros(c)
    shape = own_mean.view(1, -1, *(1,) * (x.ndim - 2))
    row = torch.cat([x.new_tensor([n]), own_mean, (x - shape).square().sum(dim=dims)])
    mine = torch.arange(peers.size, device=x.device) == peers.rank
    rows = shared_sum(mine[:, None] * row, peers)
    counts, means, squares = rows[:, :1], rows[:, 1 : c + 1], rows[:, c + 1 :]
    whole = counts.detach().sum()
    mean = (counts * means).sum(dim=0) / whole
    var = (squares + counts * (means - mean).square()).sum(dim=0) / whole
    return whole, mean, var
