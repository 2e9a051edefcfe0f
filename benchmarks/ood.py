"""The out-of-distribution test: false alarms on real test images, and power on images that are no
real data.

    python benchmarks/ood.py --data digits mnist fashion-mnist cifar10

For the family of scores that judges, the second opinion and the one that only says what is odd in
any way, over several random splits of half B into images to fit, rank and calibrate on, at every
level whose conditional guarantee the data carry (the last one in any case). Fooling images are
searched on plain networks trained on the spot, without the test; those not met are left out. From a
real image of the target class a search of a grey set is met by that very image, which is sparse
enough: it is no fooling image, and the row is there to show that it is not called one. The rows "to
the sparsest" search on. Sets under $BLANKCHECK_DATA/ood (notMNIST, Omniglot, CIFAR-100 as npz
files) are used where they are found.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from networks import plain
from torch import Tensor

import blankcheck as bc
from blankcheck.classifiers import TrainingPlan
from blankcheck.data.arrays import as_unit_images
from blankcheck.judging import FIRST, ODD, SECOND, OODTest, upper_bound_95
from blankcheck.judging.conformal import carries
from blankcheck.judging.metrics import lower_bound_95

FAMILIES = {"first": FIRST, "second": SECOND, "odd": ODD}
ALARMS_UP_TO = 1.5
"""Times the level: the upper 95 % bound of false alarms is to stay below that."""
NETWORKS = {
    "digits": ("mlp", None),
    "mnist": ("cnn", 3),
    "fashion-mnist": ("cnn", 3),
    "cifar10": ("resnet", 2),
}
GREY = ("mnist", "fashion-mnist")
SEARCHES = (
    ("all starts", "auto", "met", 20),
    ("real-target", "real-target", "met", 20),
    ("masked-real", "masked-real", "met", 20),
    ("real-target, to the sparsest", "real-target", "sparsest", 5),
    ("masked-real, to the sparsest", "masked-real", "sparsest", 5),
)
"""What a row says, start, until, images per target."""
MOST = 3000


def archive(name: str) -> dict[str, np.ndarray]:
    path = Path(os.environ.get("BLANKCHECK_DATA", ".")) / "ood" / f"{name}.npz"
    return dict(np.load(path)) if path.is_file() else {}


def some(name: str, images: np.ndarray) -> Tensor:
    """At most `MOST`, drawn at random, since the archives are sorted."""
    order = np.random.default_rng(0).permutation(len(images))[:MOST]
    return as_unit_images(name, images[order])


def other_sets(data: bc.Data) -> dict[str, Tensor]:
    if data.shape == (3, 32, 32):
        hundred = archive("cifar100_test")
        return {"CIFAR-100": some("cifar100", hundred["x"])} if hundred else {}
    if data.shape != (1, 28, 28):
        return {}
    made = {name: bc.load_data(name).test.images[:MOST] for name in GREY if name != data.source}
    if letters := archive("notmnist"):
        made["notMNIST"] = some("notmnist", letters["x"])
    if drawings := archive("omniglot_small"):
        made["Omniglot"] = some("omniglot", drawings["x28"])
        like_digits = np.array(
            [str(name).startswith(("Greek", "Latin")) for name in drawings["class_names"]]
        )
        made["Omniglot without Greek and Latin"] = some(
            "omniglot", drawings["x28"][~like_digits[drawings["y"]]]
        )
    return made


def damaged(data: bc.Data) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = {"uniform noise": torch.rand(1000, *data.shape, generator=generator)}
    for keep in (0.5, 0.7, 0.9):
        images = data.test.images[:1000]
        kept = torch.rand(len(images), 1, *data.shape[1:], generator=generator) < keep
        made[f"test images, {keep:.0%} of the positions kept"] = images * kept
    return made


def fooling(data: bc.Data, networks: int) -> dict[str, Tensor]:
    kind, epochs = NETWORKS.get(data.source, ("cnn", 3))
    plan = TrainingPlan.default(len(data.train), epochs)
    made: dict[str, list[Tensor]] = {}
    for seed in range(networks):
        model = plain(kind, data, seed, plan.epochs).eval().requires_grad_(False)
        for what, start, until, per_target in SEARCHES:
            found = bc.fool(
                model,
                range(10),
                per_target,
                data=data,
                steps=300,
                start=start,
                until=until,
                seed=seed,
            )
            made.setdefault(f"fooling images, {what}", []).append(found.images[found.met])
    return {what: torch.cat(parts) for what, parts in made.items()}


def print_table(head: list[str], rows: list[list[str]]) -> None:
    print(
        "\n"
        + "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]),
        flush=True,
    )


def false_alarms(tests: dict[str, list[OODTest]], images: Tensor) -> None:
    rows = []
    for family, splits in tests.items():
        for seed, test in enumerate(splits):
            k, n = int(test.accepts(images).sum()), len(images)
            low, high = lower_bound_95(k, n), upper_bound_95(k, n)
            within = "yes" if high <= ALARMS_UP_TO * test.level else "no"
            bounds = [f"{k} of {n}", *(f"{bound:.3%}" for bound in (k / n, low, high))]
            rows.append([family, str(seed), *bounds, within, test.guarantee])
    head = ["scores", "split", "false alarms", "share", "95 % lower bound", "95 % upper bound"]
    print_table([*head, f"at most {ALARMS_UP_TO} x the level", "p-values"], rows)


def power(tests: dict[str, list[OODTest]], kinds: dict[str, Tensor]) -> None:
    rows = []
    for what, images in kinds.items():
        row = [what, str(len(images))]
        for splits in tests.values():
            rates = [float(test.accepts(images).float().mean()) for test in splits]
            row.append(f"{np.mean(rates):.1%} ({min(rates):.1%} to {max(rates):.1%})")
        rows.append(row)
    print_table(["called out of distribution", "images", *tests], rows)


def single_scores(test: OODTest, kinds: dict[str, Tensor]) -> None:
    """Each score alone at the level, in percent; its p-values are marginal ones."""
    rows = []
    for what, images in kinds.items():
        caught = (test.score_p_values(images) <= test.level).float().mean(dim=0)
        rows.append([what, *(f"{100 * share:.1f}" for share in caught.tolist())])
    print_table(["single scores, %", *test.names], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=["digits"])
    parser.add_argument("--levels", type=float, nargs="+", default=[0.001, 0.01])
    parser.add_argument("--seeds", type=int, default=3, help="random splits of half B")
    parser.add_argument(
        "--networks",
        type=int,
        default=1,
        help="plain networks that are searched for fooling images",
    )
    chosen = parser.parse_args()
    for name in chosen.data:
        data = bc.load_data(name)
        kinds = {**damaged(data), **other_sets(data), **fooling(data, chosen.networks)}
        calibrating = len(data.halves[1]) - int(0.6 * len(data.halves[1]))
        for level in chosen.levels:
            if carries(calibrating, level) or level == chosen.levels[-1]:
                at_level(data, level, chosen.seeds, kinds)


def at_level(data: bc.Data, level: float, seeds: int, kinds: dict[str, Tensor]) -> None:
    real = data.halves[1].images
    tests = {
        family: [OODTest.fit(real, level, seed, scores=scores) for seed in range(seeds)]
        for family, scores in FAMILIES.items()
    }
    print(f"\n### {data.source}, level {level:g}")
    false_alarms(tests, data.test.images)
    power(tests, kinds)
    for splits in tests.values():
        single_scores(splits[0], {"real test images": data.test.images, **kinds})


if __name__ == "__main__":
    main()
