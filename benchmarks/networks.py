"""The networks that searches are compared on, trained on the spot (or read from a folder of earlier
ones).

Plain networks; the mirage (hardened from uniform noise only, so that it goes flat there and nowhere
else); and two
adversarially trained ones: projected gradient descent (Madry et al. 2018, arXiv:1706.06083) and
TRADES (Zhang et al. 2019, arXiv:1901.08573), both L-inf with eps 0.3, on a deeper CNN.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import blankcheck as bc
from blankcheck.classifiers import TrainingPlan, UnitClassifier, build, train_plainly
from blankcheck.testing.masked_gradients import masked_gradient_network

EPS, INNER = 0.3, 7


def plain(name: str, data: bc.Data, seed: int, epochs: int = 3) -> nn.Module:
    network = build(name, data.shape, 10, data.mean_and_std(), seed)
    train_plainly(network, data.train, TrainingPlan(epochs), seed)
    return network


def batches_of(data: bc.Data, plan: TrainingPlan, generator: torch.Generator) -> list[Tensor]:
    return [
        i
        for _ in range(plan.epochs)
        for i in torch.randperm(len(data.train), generator=generator).split(plan.batch)
    ]


class Deeper(nn.Module):
    """Four 3x3 convolutions (16, 16, 32, 32), two poolings, 100 hidden units."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(512, 100),
            nn.ReLU(),
            nn.Linear(100, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.body(x)
        return outputs


def away(
    network: nn.Module, images: Tensor, loss: Callable[[Tensor], Tensor], eps: float, noise: Tensor
) -> Tensor:
    """Images within eps (largest change of a pixel) that raise the loss, by `INNER` signed gradient
    steps."""
    moved = (images + noise).clamp(0, 1)
    for _ in range(INNER):
        leaf = moved.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(network(leaf)), leaf)
        moved = (leaf + 2.5 * eps / INNER * gradient.sign()).detach()
        moved = torch.min(torch.max(moved, images - eps), images + eps).clamp(0, 1)
    return moved


def adversarial(data: bc.Data, seed: int, trades: bool, epochs: int = 3) -> nn.Module:
    network = UnitClassifier(Deeper(seed))
    plan, generator = TrainingPlan(epochs), torch.Generator().manual_seed(seed)
    optimiser, schedule = plan.optimiser(network, len(data.train))
    batches = batches_of(data, plan, generator)
    for turn, index in enumerate(batches):
        eps = EPS * min(
            1.0, 3 * turn / len(batches)
        )  # the full radius at once leaves the network constant
        images, labels = data.train.images[index], data.train.labels[index]
        if trades:
            with torch.no_grad():
                before = network(images).softmax(dim=1)
            noise = 0.001 * torch.randn(images.shape, generator=generator)
            worst = away(
                network,
                images,
                lambda z, p=before: F.kl_div(z.log_softmax(1), p, reduction="sum"),
                eps,
                noise,
            )
            clean = network(images)
            apart = F.kl_div(network(worst).log_softmax(1), clean.softmax(1), reduction="batchmean")
            loss = F.cross_entropy(clean, labels) + 6 * apart
        else:
            noise = eps * (2 * torch.rand(images.shape, generator=generator) - 1)
            worst = away(
                network,
                images,
                lambda z, y=labels: F.cross_entropy(z, y, reduction="sum"),
                eps,
                noise,
            )
            loss = F.cross_entropy(network(worst), labels)
        advance(optimiser, schedule, loss)
    return network


def advance(
    optimiser: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler, loss: Tensor
) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    schedule.step()


def network(kind: str, data: bc.Data, seed: int, cache: Path | None = None) -> nn.Module:
    """A network of this kind, frozen and in evaluation mode; from `cache` where an earlier call
    left it there."""
    made: nn.Module
    path = cache / f"{kind}-{seed}.pt" if cache is not None else None
    if path is not None and path.exists():
        made = (
            UnitClassifier(Deeper(seed))
            if kind in ("pgd", "trades")
            else plain_shell(kind, data, seed)
        )
        made.load_state_dict(torch.load(path, weights_only=True))
    else:
        made = MAKERS[kind](data, seed)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(made.state_dict(), path)
    return made.eval().requires_grad_(False)


def plain_shell(kind: str, data: bc.Data, seed: int) -> nn.Module:
    return build("cnn" if kind == "mirage" else kind, data.shape, 10, data.mean_and_std(), seed)


MAKERS: dict[str, Callable[[bc.Data, int], nn.Module]] = {
    "cnn": lambda data, seed: plain("cnn", data, seed),
    "mlp": lambda data, seed: plain("mlp", data, seed),
    "resnet": lambda data, seed: plain("resnet", data, seed),
    "mirage": masked_gradient_network,
    "pgd": lambda data, seed: adversarial(data, seed, trades=False),
    "trades": lambda data, seed: adversarial(data, seed, trades=True),
}


def main() -> None:
    """Train them all and say how accurate they are."""
    import argparse

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kinds", nargs="+", choices=tuple(MAKERS), default=list(MAKERS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path, required=True)
    chosen = parser.parse_args()
    for kind in chosen.kinds:
        data = bc.load_data("cifar10" if kind == "resnet" else "mnist")
        for seed in range(chosen.seeds):
            made = network(kind, data, seed, chosen.cache)
            with torch.no_grad():
                right = (
                    torch.cat([made(x).argmax(1) for x in data.test.images.split(500)])
                    == data.test.labels
                )
            print(f"{kind} {seed}: {100 * right.float().mean():.2f} %", flush=True)


if __name__ == "__main__":
    main()
