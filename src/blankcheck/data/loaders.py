"""Loaders, and what can only be gone through from its beginning to its end, item by item."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset


def has_positions(dataset: Any) -> bool:
    """Whether any item of a dataset can be asked for."""
    mapped = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    return mapped and not isinstance(dataset, IterableDataset | str | Tensor | np.ndarray)


def single(dataset: Any) -> Iterator[Any]:
    """The items of a dataset or a loader, in turn."""
    if not isinstance(dataset, DataLoader):
        yield from dataset
        return
    for batch in dataset:
        table = isinstance(batch, Mapping)
        for row in zip(*(batch.values() if table else batch), strict=False):
            yield dict(zip(batch, row, strict=True)) if table else row


class OfLoader(Sequence[Any]):
    """The items behind a DataLoader, one by one and each once, in the order of its dataset and
    whatever order it deals them in, as its own function collates them."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader, self.dataset = loader, loader.dataset
        with torch.random.fork_rng(devices=[]):  # samplers draw
            self.positions = sorted({int(i) for i in loader.sampler})

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, position: Any) -> Any:
        collate: Callable[[list[Any]], Any] = self.loader.collate_fn
        batch = collate([self.dataset[self.positions[position]]])
        if isinstance(batch, Mapping):
            return {name: values[0] for name, values in batch.items()}
        return tuple(values[0] for values in batch)
