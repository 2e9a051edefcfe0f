"""Random numbers of an image: they depend on its key and a counter, never on its batch.

A counter-based generator: the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable
pseudorandom number generators", figure 16) applied to key, counter and position. So an image draws
the same numbers whoever else has already left the batch, on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

_GOLDEN, _MIX1, _MIX2 = -7046029254386353131, -4658895280553007687, -7723592293110705685
_FEW = 1 / 2**24


def uniform(keys: Tensor, counter: int, size: int) -> Tensor:
    """Numbers in [0, 1), (n,) int64 keys -> (n, size); other counters give unrelated ones."""
    # wrapped around by Python, since the host would wait for a tensor to reach the device
    turn = (counter * _GOLDEN + 2**63) % 2**64 - 2**63
    base = _mixed(keys + turn)
    place = torch.arange(1, size + 1, device=keys.device) * _GOLDEN
    return _shifted(_mixed(base[:, None] + place[None, :]), 40).float() * _FEW


def _mixed(z: Tensor) -> Tensor:
    z = (z ^ _shifted(z, 30)) * _MIX1
    z = (z ^ _shifted(z, 27)) * _MIX2
    return z ^ _shifted(z, 31)


def _shifted(z: Tensor, bits: int) -> Tensor:
    # int64 shifts keep the sign; the mask makes them those of an unsigned number
    return (z >> bits) & ((1 << (64 - bits)) - 1)
