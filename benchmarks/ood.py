"""The out-of-distribution test at level 1 %: false alarms on test images, and power on images that are no real data.

    python benchmarks/ood.py --data mnist fashion-mnist cifar10

Sets under $BLANKCHECK_DATA/ood (notMNIST, Omniglot, CIFAR-100 as npz files) are used where they are found.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch

import blankcheck as bc
from blankcheck.auditing import ood_test
from blankcheck.data.loading import as_unit_images
from blankcheck.judging import upper_bound_95

OTHERS = {1: (("notmnist", "x"), ("omniglot_small", "x28")), 3: (("cifar100_test", "x"),)}


def others(shape: tuple[int, int, int]) -> dict[str, torch.Tensor]:
    folder = Path(os.environ.get("BLANKCHECK_DATA", ".")) / "ood"
    found = {}
    for name, key in OTHERS[shape[0]]:
        if (folder / f"{name}.npz").is_file():
            found[name] = as_unit_images(name, np.load(folder / f"{name}.npz")[key][:3000])
    return {name: images for name, images in found.items() if tuple(images.shape[1:]) == shape}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["digits"])
    for name in parser.parse_args().data:
        data = bc.load_data(name)
        judge, test = ood_test(data, 0.01), data.test.images
        alarms = int(judge.accepts(test).sum())
        print(f"\n### {name}\n\n| images | called out of distribution |\n|---|---|")
        print(f"| real test images | {alarms / len(test):.2%} (95 % bound {upper_bound_95(alarms, len(test)):.2%}) |")
        generator = torch.Generator().manual_seed(0)
        made = {"uniform noise": torch.rand(1000, *data.shape, generator=generator), **others(data.shape)}
        for keep in (0.5, 0.7, 0.9):
            some = test[:1000]
            made[f"test images, {keep:.0%} of the positions kept"] = some * (
                torch.rand(len(some), 1, *data.shape[1:], generator=generator) < keep
            )
        for what, images in made.items():
            print(f"| {what} | {float(judge.accepts(images).float().mean()):.1%} |")


if __name__ == "__main__":
    main()
