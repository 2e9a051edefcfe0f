"""The [0, 1] wrapper with normalisation inside: everything after it sees only images in [0, 1]."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from blankcheck.errors import ArgumentError, ModelError
from blankcheck.outputs import OUTPUT_FORMS as OUTPUT_FORMS
from blankcheck.outputs import as_logits, logits_in, run
from blankcheck.outputs import output_form as output_form
from blankcheck.seeds import own_random_numbers
from blankcheck.types import Classifier, Images, images_at_once, in_pieces
from blankcheck.users import calling

Normalisation = tuple[Sequence[float], Sequence[float]]
"""(mean per channel, standard deviation per channel), in units of [0, 1] pixel values."""


class UnitClassifier(nn.Module):
    """A network that takes images in [0, 1]: `network((images - mean) / std)`.

    `describe` is what is needed to build the network again; empty for users' networks.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        normalize: Normalisation | None = None,
        describe: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        words = "normalize must be (means, positive stds), finite and of one length"
        try:
            mean, std = normalize if normalize is not None else ((0.0,), (1.0,))
            # as float32 has them, in which a tiny deviation is 0
            means, stds = (np.asarray(tuple(each), dtype=np.float32) for each in (mean, std))
        except (TypeError, ValueError) as error:
            such = "such as ((0.1307,), (0.3081,))"
            raise ArgumentError(f"{words}, {such}, got {normalize!r}") from error
        finite = bool(np.isfinite(means).all() and np.isfinite(stds).all())
        if len(means) != len(stds) or not finite or min(stds, default=0) <= 0:
            raise ArgumentError(f"{words}, got {mean!r}, {std!r}")
        self.network = network
        for name, values in (("mean", means), ("std", stds)):
            self.register_buffer(
                name, torch.tensor(values.tolist(), dtype=torch.float32).view(1, -1, 1, 1)
            )
        self.normalised = normalize is not None
        self.describe = dict(describe or {})

    @property
    def normalisation(self) -> Normalisation | None:
        """What is put inside, in the shortest numbers that stand for its float32; None where images
        are passed on as they are."""
        buffers = (t.detach().float().cpu().numpy().ravel() for t in (self.mean, self.std))
        mean, std = (tuple(float(str(v)) for v in values) for values in buffers)
        return (mean, std) if self.normalised else None

    def normalise_by(self, mean: Tensor, std: Tensor) -> None:
        """Take these buffers, as a saved classifier holds them, for mean and standard deviation."""
        self.register_buffer("mean", mean.clone().view(1, -1, 1, 1))
        self.register_buffer("std", std.clone().view(1, -1, 1, 1))
        self.normalised = self.normalised or bool((mean != 0).any() or (std != 1).any())

    def train(self, mode: bool = True) -> Self:
        """Take this mode, as `nn.Module` does.

        Only to be trained is a network asked itself, which may keep some layers as they are, or
        mean something else by the name: then ModelError says so.
        """
        if mode:
            with calling("model.train() raised", ModelError):
                return super().train()
        for module in self.modules():
            # exported programs refuse eval(), and users' own may do more
            module.training = False
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Outputs (n, m) of the network for images (n, c, h, w) in [0, 1]."""
        seen = (images - self.mean) / self.std if self.normalised else images
        outputs: Tensor = logits_in(self.network(seen))
        return outputs


class Tempered(nn.Module):
    """A network whose logits are divided by a temperature (Guo et al. 2017, arXiv:1706.04599):
    below 1 it is surer than before, and its answers stay."""

    output_temperature: Tensor

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        if not (temperature > 0 and math.isfinite(temperature)):
            raise ArgumentError(f"temperature must be positive and finite, got {temperature}")
        self.network = network
        self.register_buffer("output_temperature", torch.tensor(float(temperature)))

    @property
    def temperature(self) -> float:
        """As it was given, to six digits."""
        return float(f"{float(self.output_temperature):.6g}")

    def forward(self, images: Tensor) -> Any:
        """Logits (n, m) for images as the network takes them; what is no tensor stays as it is."""
        outputs = logits_in(self.network(images))
        return outputs / self.output_temperature if isinstance(outputs, Tensor) else outputs


@contextmanager
def left_as_found(classifier: Classifier, seed: int | None = None) -> Iterator[None]:
    """Inside: evaluation mode and frozen parameters, whose gradients are never touched. After:
    mode, `requires_grad`, buffers and random state as before.

    seed: of the numbers that a network draws inside; None goes on from the caller's.
    """
    if not isinstance(classifier, nn.Module):
        with own_random_numbers(seed):
            yield
        return
    modes = [(module, module.training) for module in classifier.modules()]
    wanted = [(p, p.requires_grad) for p in classifier.parameters()]
    held = [(m._buffers, n, b) for m, _ in modes for n, b in m._buffers.items() if b is not None]
    buffers = [(*each, each[2].detach().clone()) for each in held]
    for module, _ in modes:  # as `UnitClassifier.train`, and why
        module.training = False
    for parameter, _ in wanted:
        parameter.requires_grad_(False)
    try:
        with own_random_numbers(seed, devices_of(classifier)):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)
        with torch.no_grad():
            for owner, name, buffer, before in buffers:
                owner[name] = buffer  # which a network may have replaced by another tensor
                if not torch.equal(buffer, before):
                    buffer.copy_(before)


def devices_of(module: nn.Module) -> list[torch.device]:
    """Every device that holds a parameter or buffer of the module."""
    return sorted({t.device for t in (*module.parameters(), *module.buffers())}, key=str)


def device_of(classifier: Classifier) -> torch.device:
    """Where the classifier's parameters or buffers live; the CPU when it has none."""
    if isinstance(classifier, nn.Module):
        for tensor in (*classifier.parameters(), *classifier.buffers()):
            return tensor.device
    return torch.device("cpu")


def fingerprint(classifier: Classifier) -> str:
    """Sixteen hex digits of all parameters and buffers; `no-parameters` for other callables."""
    if not isinstance(classifier, nn.Module):
        return "no-parameters"
    digest = hashlib.sha256()
    for name, tensor in sorted(classifier.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            # a new tensor: one expanded from a single number cannot be seen as bytes
            plain = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
            digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def batch_size(shape: Sequence[int]) -> int:
    """How many images of a shape (c, h, w) are scored at once: 500, fewer of large ones."""
    return min(500, images_at_once(shape))


@torch.no_grad()
def probabilities(
    classifier: Classifier, images: Images, form: str = "logits", batch: int | None = None
) -> Tensor:
    """Probabilities (n, m) for images (n, c, h, w), on the CPU, by batches (`batch_size`)."""
    device = device_of(classifier)
    pieces = in_pieces(images, batch or batch_size(images.shape[1:]))
    outputs = (run(classifier, piece.to(device)) for piece in pieces)
    return torch.cat([as_logits(each, form).softmax(dim=1).cpu() for each in outputs])
