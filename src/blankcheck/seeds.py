"""Seeds by name, and random numbers that leave those of the caller alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from blankcheck.errors import ArgumentError
from blankcheck.text import one_line


def check_seed(seed: int) -> None:
    """Raises ArgumentError for what is no whole number of at most 64 bits."""
    if not isinstance(seed, int) or not -(2**63) <= seed < 2**63:
        got = one_line(seed, 40)
        raise ArgumentError(f"seed must be a whole number of at most 64 bits, got {got}")


def seed_of(*parts: object) -> int:
    """A seed that is fixed by these parts, in [0, 2^63), and unrelated to that of any other parts.

    Whoever draws numbers of its own names itself: `seed_of(seed, "more-steps")`. Sums such as seed
    + 1 would make the numbers that one run draws for a control those that another run draws for its
    main search.
    """
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seeded(*parts: object) -> torch.Generator:
    """A generator whose stream is fixed by the parts, and unrelated for other parts."""
    return torch.Generator().manual_seed(seed_of(*parts))


@contextmanager
def own_random_numbers(seed: int | None, devices: Sequence[torch.device] = ()) -> Iterator[None]:
    """Inside, torch's global generators are seeded, for networks that draw random numbers; after,
    they are as they were.

    Args:
        seed: None leaves the generators as they are inside, too.
        devices: whose generators are seeded beside the CPU's. No other device is touched, which
            `torch.manual_seed` would do.
    """
    cuda = [device for device in devices if device.type == "cuda"]
    apple = torch.mps.get_rng_state() if any(d.type == "mps" for d in devices) else None
    with torch.random.fork_rng(devices=cuda):
        try:
            if seed is not None:
                _seed(seed, cuda, apple is not None)
            yield
        finally:
            if apple is not None:
                torch.mps.set_rng_state(apple)


def _seed(seed: int, cuda: Sequence[torch.device], apple: bool) -> None:
    torch.default_generator.manual_seed(seed)
    for device in cuda:
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    if apple:
        torch.mps.manual_seed(seed)
