"""Two other ways to make a network less sure of what it does not know, written anew from their
papers.

Both train from the start with the network, batch, optimiser, one-cycle schedule and number of
epochs of `train_plainly`. What they add is a second batch of images that are no real data, as large
as the real one, and a loss on it:

- `acet`, adversarial confidence enhancing training (Hein, Andriushchenko, Bitterwolf 2019,
  arXiv:1812.05720);
- `outlier_exposure` (Hendrycks, Mazeika, Dietterich 2019, arXiv:1812.04606).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import blankcheck as bc
from blankcheck.classifiers import TrainingPlan, UnitClassifier, build
from blankcheck.classifiers.training import batches
from blankcheck.classifiers.wrapper import left_as_found

WIDTHS = (1.0, 2.5)
"""Range of the standard deviation of ACET's low-pass filter, in pixels (section 4 of the paper)."""
OUTLIERS = {"mnist": "fashion-mnist", "fashion-mnist": "mnist"}
"""For each data set, the one whose training images serve as outliers: same shape, other things."""

Others = Callable[[UnitClassifier, Tensor, torch.Generator], Tensor]
"""From the network, the real images (n, c, h, w) of a batch and a generator to as many images
beside them."""


def acet(
    data: bc.Data,
    model: str,
    seed: int,
    epochs: int | None = None,
    weight: float = 1.0,
    eps: float = 0.3,
    steps: int = 40,
) -> UnitClassifier:
    """Train with adversarial confidence enhancement: the objective of the paper's equation 4.

    Cross-entropy on real images plus `weight` times the mean, over noise images z, of the largest
    log-confidence max_l log p_l(u) at the u with |u - z|_inf <= eps in [0, 1] where
    `most_confident` finds it largest.

    The paper's values: weight 1, eps 0.3, 40 steps, half of every batch noise, half of the noise
    permuted training images.
    What differs: AdamW with a one-cycle schedule over the epochs of plain training, instead of SGD
    or Adam with a stepped rate over about 100; no augmentation; the filter's width is drawn for
    each image instead of each batch, and its weights are renormalised at the border, where theirs
    sees the image mirrored.
    """

    def others(network: UnitClassifier, real: Tensor, generator: torch.Generator) -> Tensor:
        return most_confident(network, noise_images(real, generator), eps, steps, generator)

    return _trained(
        data, model, seed, epochs, others, lambda logits: log_confidence(logits).mean(), weight
    )


def outlier_exposure(
    data: bc.Data, model: str, seed: int, epochs: int | None = None, weight: float = 0.5
) -> UnitClassifier:
    """Train with outlier exposure: cross-entropy on real images plus `weight` times `from_uniform`
    on real outliers.

    Section 4.3 of the paper, with its weight of 0.5 for images. What differs: outliers are the
    training images of one data set (`OUTLIERS`) instead of 80 million tiny images, as many as real
    ones in a batch instead of twice as many, and the optimiser is that of `train_plainly`. Raises
    ArgumentError for data that no such set is known for.
    """
    if data.source not in OUTLIERS:
        raise bc.ArgumentError(
            f"no outliers of shape {data.shape} are known for data {data.source!r}"
        )
    outliers = bc.load_data(OUTLIERS[data.source]).train.images

    def others(network: UnitClassifier, real: Tensor, generator: torch.Generator) -> Tensor:
        return outliers[torch.randint(len(outliers), (len(real),), generator=generator)]

    return _trained(data, model, seed, epochs, others, from_uniform, weight)


def _trained(
    data: bc.Data,
    model: str,
    seed: int,
    epochs: int | None,
    others: Others,
    loss: Callable[[Tensor], Tensor],
    weight: float,
) -> UnitClassifier:
    """Train on real images and others side by side. loss: from the others' logits (n, m) to one
    number, in nats."""
    network = build(model, data.shape, len(data.classes), data.mean_and_std(), seed)
    plan = TrainingPlan.default(len(data.train), epochs)
    optimiser, schedule = plan.optimiser(network, len(data.train))
    order, drawn = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    network.train()
    for _ in range(plan.epochs):
        for index in batches(len(data.train), plan.batch, order):
            images, labels = data.train.images[index], data.train.labels[index]
            outputs = network(torch.cat([images, others(network, images, drawn)]))
            total = F.cross_entropy(outputs[: len(index)], labels) + weight * loss(
                outputs[len(index) :]
            )
            optimiser.zero_grad()
            torch.autograd.backward(total)
            optimiser.step()
            schedule.step()
        if not math.isfinite(float(total.detach())):
            raise bc.ModelError("training loss became NaN or infinite")
    return network.eval()


def log_confidence(logits: Tensor) -> Tensor:
    """max_l log p_l of each image, (n, m) -> (n,), in nats, at most 0."""
    return logits.log_softmax(dim=1).amax(dim=1)


def from_uniform(logits: Tensor) -> Tensor:
    """Mean cross-entropy of the answers against the uniform distribution over all outputs, (n, m)
    -> (), at least log m."""
    return -logits.log_softmax(dim=1).mean()


def noise_images(real: Tensor, generator: torch.Generator) -> Tensor:
    """ACET's noise, (n, c, h, w) in [0, 1], as many images as real ones (section 4 of the paper).

    Half is uniform noise, half real images with their pixels permuted; each is smoothed by a
    Gaussian of random width and stretched so that its values reach from 0 to 1.
    """
    n, (c, h, w) = len(real), real.shape[1:]
    half = n // 2
    uniform = torch.rand(half, c, h, w, generator=generator)
    order = torch.rand(n - half, 1, h * w, generator=generator).argsort(dim=2).expand(-1, c, -1)
    permuted = real[half:].flatten(2).gather(2, order).view(-1, c, h, w)
    width = torch.empty(n, 1, 1, 1).uniform_(*WIDTHS, generator=generator)
    return stretched(smoothed(torch.cat([uniform, permuted]), width))


def smoothed(images: Tensor, width: Tensor) -> Tensor:
    """Images (n, c, h, w) under a Gaussian filter with standard deviations `width` (n, 1, 1, 1), in
    pixels."""

    def along(size: int) -> Tensor:
        away = torch.arange(size)[:, None] - torch.arange(size)
        weights = torch.exp(-away.square() / (2 * width.square()))
        return weights / weights.sum(dim=3, keepdim=True)

    return along(images.shape[2]) @ images @ along(images.shape[3]).transpose(2, 3)


def stretched(images: Tensor) -> Tensor:
    """Each image's values moved and scaled to reach from 0 to 1, (n, c, h, w)."""
    low, high = images.amin(dim=(1, 2, 3), keepdim=True), images.amax(dim=(1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp_min(1e-6)


def most_confident(
    network: nn.Module, noise: Tensor, eps: float, steps: int, generator: torch.Generator
) -> Tensor:
    """Near each noise image (n, c, h, w) the one that the network is surest about: at most `eps`
    away in every feature, in [0, 1], found by `steps` steps of projected signed gradient ascent of
    `log_confidence`.

    As the authors do it: each step is eps / steps long, the first starts at a random point of the
    ball, a random share of the way to its border, and the network is in evaluation mode. The best
    image on the path is handed back, the noise itself if none is better.
    """
    low, high = (noise - eps).clamp(0, 1), (noise + eps).clamp(0, 1)
    reach = eps * torch.rand(len(noise), 1, 1, 1, generator=generator)
    moved = noise + reach * (2 * torch.rand(noise.shape, generator=generator) - 1)
    moved = torch.min(torch.max(moved, low), high)
    with left_as_found(network):
        with torch.no_grad():
            best, surest = noise, log_confidence(network(noise))
        for _ in range(steps):
            leaf = moved.requires_grad_(True)
            sure = log_confidence(network(leaf))
            (gradient,) = torch.autograd.grad(sure.sum(), leaf)
            best, surest = _better(best, surest, leaf.detach(), sure.detach())
            moved = torch.min(torch.max(leaf.detach() + eps / steps * gradient.sign(), low), high)
        with torch.no_grad():
            return _better(best, surest, moved, log_confidence(network(moved)))[0]


def _better(best: Tensor, surest: Tensor, images: Tensor, sure: Tensor) -> tuple[Tensor, Tensor]:
    """Of two batches (n, c, h, w), image by image the one with more confidence (n,), and that
    confidence."""
    better = sure > surest
    return torch.where(better[:, None, None, None], images, best), torch.where(better, sure, surest)
