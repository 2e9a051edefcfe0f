"""Wrappers whose answer depends on more than the image: on chance, on a hash of its bits, or on its
neighbours.

A search that trusts one answer, or one gradient, is led astray (randomised defences: Athalye,
Carlini and Wagner 2018, arXiv:1802.00420, section 5.3); the network inside is as easily fooled as
before.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blankcheck.classifiers import UnitClassifier
from blankcheck.fooling.counter_rng import uniform
from blankcheck.testing.deceivers import Wrapper, like
from blankcheck.testing.masked_gradients import split_last


class Noisy(Wrapper):
    """Adds Gaussian noise of these standard deviations to images and logits, in evaluation mode
    too."""

    images: float = 0.0
    logits: float = 0.0

    def _shown(self, images: Tensor) -> Tensor:
        return images + self.images * torch.randn_like(images)

    def _told(self, outputs: Tensor, images: Tensor) -> Tensor:
        return outputs + self.logits * torch.randn_like(outputs)


class AlwaysDropout(nn.Module):
    """A layer that drops a share of its activations whether the network is trained or used."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, activations: Tensor) -> Tensor:
        """(n, ...) -> (n, ...)."""
        return F.dropout(activations, self.share, training=True)


def dropout_on(network: UnitClassifier, share: float = 0.2) -> UnitClassifier:
    """The same reference network with `AlwaysDropout` before its last layer."""
    hidden, last = split_last(network)
    return like(network, nn.Sequential(*hidden, AlwaysDropout(share), last))


class HashedMask(Wrapper):
    """Darkens a share of the features; which ones is a hash of the image's bits.

    The same image always gets the same mask, so a repeated call shows nothing; the smallest change
    of any feature gives an unrelated mask, so no gradient says what a step will do. In training
    mode masks are drawn at random, so that the network inside learns to do without any feature.
    """

    share: float = 0.1

    def kept(self, images: Tensor) -> Tensor:
        """1 at the features that are shown and 0 elsewhere, (n, c, h, w) -> (n, c, h, w)."""
        if self.training:
            return (torch.rand_like(images) >= self.share).to(images.dtype)
        bits = images.detach().float().contiguous().flatten(1).view(torch.int32).long()
        odd = 2 * torch.arange(bits.shape[1], device=bits.device) + 1
        keys = (bits * (odd * odd * 0x9E3779B1)).sum(dim=1)  # wraps around; `uniform` mixes it
        shown = uniform(keys, 0, bits.shape[1]) >= self.share
        return shown.view_as(images).to(images.dtype)

    def _shown(self, images: Tensor) -> Tensor:
        return images * self.kept(images)


class RandomEnsemble(nn.Module):
    """One of several networks, drawn anew for each call, answers for the whole batch."""

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, m)."""
        outputs: Tensor = self.networks[int(torch.randint(len(self.networks), ()))](images)
        return outputs


class BatchDependent(Wrapper):
    """Normalises each channel by the batch at hand, as batch norm left in training mode does:
    neighbours matter."""

    def _shown(self, images: Tensor) -> Tensor:
        return F.batch_norm(images, None, None, training=True)
