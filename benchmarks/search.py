"""How sparse, how cheap, how different: our search and others on the same freshly trained networks.

    python benchmarks/search.py --seeds 3 --cache nets/     # minutes; training pgd and trades takes
    10 minutes each

100 searches, 10 per class, each to reach p >= 0.9; images are put into stored form and scored again
by the plain network before they count. Others start from black, as published, and take the same
path for the same target, so they are run once per target. Reference: for each target the fewest lit
features that any method of the table found on that network. Writes its tables into
benchmarks/RESULTS.md, between the marks that name this script, when no network and no method was
left out.
"""

from __future__ import annotations

import argparse
import platform
import re
import statistics
import subprocess
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from networks import network
from rivals import RIVALS
from torch import Tensor, nn

import blankcheck as bc
from blankcheck.auditing.third_party import Asked, cleaned
from blankcheck.fooling import (
    STARTS,
    AnnealedTopK,
    Goal,
    Problem,
    ProximalMomentum,
    SigmaZero,
    Solver,
    TabuSearch,
    random_mask,
    search,
)
from blankcheck.outputs import log_odds
from blankcheck.types import count_lit, stored

HERE = Path(__file__).parent
MARKS = ("<!-- benchmarks/search.py: begin -->", "<!-- benchmarks/search.py: end -->")
PER_TARGET = 10
KINDS = ["cnn", "mlp", "mirage", "pgd", "trades", "resnet"]
OURS = {"cnn": (10, 30, 100, 300, 1000), "mlp": (10, 30, 100, 300, 1000), "resnet": (100, 300)}
"""Budgets of the default portfolio, from black and noise alone."""
OURS_ELSEWHERE = (100, 300, 1000)
"""The same with real images to start from."""


@dataclass(frozen=True)
class Row:
    """targets, lit (n,), lit 10**6 where the image is not confident; distinct; passes per image;
    seconds over those of the passes alone."""

    targets: Tensor
    lit: Tensor
    distinct: int
    forwards: float
    backwards: float
    ratio: float

    @property
    def success(self) -> float:
        return float((self.lit < 10**6).float().mean())

    def fewest(self) -> Tensor:
        return torch.stack([self.lit[self.targets == t].min() for t in range(10)])


def bare(model: nn.Module, shape: tuple[int, int, int], n: int) -> tuple[float, float]:
    """Seconds of one forward and backward, and of one forward, of `n` images: the least of five."""
    images, at = torch.rand(n, *shape), torch.arange(n)

    def both() -> None:
        leaf = images.detach().requires_grad_(True)
        torch.autograd.grad(model(leaf)[at, at % 10].sum(), leaf)

    def forward() -> None:
        with torch.no_grad():
            model(images)

    def seconds(run: object) -> float:
        assert callable(run)
        took = []
        for _ in range(6):
            began = time.perf_counter()
            for _ in range(5):
                run()
            took.append((time.perf_counter() - began) / 5)
        return min(took[1:])

    return seconds(both), seconds(forward)


def row(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    forwards: float,
    backwards: float,
    seconds: float,
) -> Row:
    images = stored(images.detach().float())
    with torch.no_grad():
        sure = log_odds(model(images), targets).sigmoid() >= 0.9 - 1e-5
    patterns = {
        (int(t), bytes(p.to(torch.uint8).numpy()))
        for t, p in zip(targets, images.flatten(1) > 0, strict=True)
    }
    shape = tuple(images.shape[1:])
    both, forward = bare(model, (shape[0], shape[1], shape[2]), len(images))
    alone = backwards * both + max(0.0, forwards - backwards) * forward
    lit = torch.where(sure, count_lit(images), 10**6)
    return Row(targets, lit, len(patterns), forwards, backwards, seconds / max(alone, 1e-9))


def measure(model: nn.Module, data: bc.Data, kind: str) -> dict[str, Row]:
    rows = {}
    for steps in OURS.get(kind, OURS_ELSEWHERE):
        with_data = data if kind not in OURS else None
        began = time.perf_counter()
        found = bc.fool(
            model,
            range(10),
            PER_TARGET,
            shape=data.shape,
            data=with_data,
            steps=steps,
            until="sparsest",
            max_lit=data.shape[0] * data.shape[1] * data.shape[2],
        )
        took = time.perf_counter() - began
        used = float(found.forwards.float().mean()), float(found.steps.float().mean())
        rows[f"**blankcheck**, {steps} steps"] = row(
            model, found.images, found.targets, *used, took
        )
    targets = torch.arange(10)
    for label, make in RIVALS.items():
        try:
            run = make()
        except ImportError as error:
            print(f"{label}: not installed ({error.name})")
            continue
        began, asked, black = (
            time.perf_counter(),
            Asked(model, "logits", 0.9),
            torch.zeros(10, *data.shape),
        )
        images = cleaned(run(asked, black, targets), black)
        took = time.perf_counter() - began
        rows[label] = row(model, images, targets, asked.forwards / 10, asked.backwards / 10, took)
        print(f"  {label}: {rows[label].fewest().tolist()}, {took:.0f} s", flush=True)
    return rows


def spread(values: list[float], digits: int = 2) -> str:
    values = [v for v in values if v == v]
    if not values:
        return "-"
    low, middle, high = min(values), statistics.median(values), max(values)
    text = [f"{v:.{digits}f}" for v in (middle, low, high)]
    text = [t.rstrip("0").rstrip(".") if "." in t else t for t in text]
    return text[0] if low == high else f"{text[0]} ({text[1]}-{text[2]})"


def table(runs: list[dict[str, Row]]) -> list[str]:
    references = [torch.stack([r.fewest() for r in run.values()]).amin(dim=0) for run in runs]
    lines = [
        "",
        "Reference, per target 0-9: "
        f"{'; '.join(' '.join(map(str, r.tolist())) for r in references)}",
        "",
        "| method | reach 0.9, % | median lit | median of lit / reference | targets at reference | "
        "distinct of 100 "
        "| forwards, backwards per image | time / its passes alone |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for label in runs[0]:
        rows = [run[label] for run in runs]
        ratios = [
            r.lit / ref.clamp_min(1)[r.targets] for r, ref in zip(rows, references, strict=True)
        ]
        lit = [statistics.median(r.lit[r.lit < 10**6].tolist() or [float("nan")]) for r in rows]
        median = [statistics.median(q.tolist()) for q in ratios]
        cells = [
            spread([100 * r.success for r in rows]),
            spread(lit),
            "fails" if max(median) > 1e4 else spread(median),
            spread(
                [int((r.fewest() <= ref).sum()) for r, ref in zip(rows, references, strict=True)]
            ),
            spread([r.distinct for r in rows]),
            f"{spread([r.forwards for r in rows], 0)}, {spread([r.backwards for r in rows], 0)}",
            spread([r.ratio for r in rows]),
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def classes_lost(runs: list[dict[str, Row]]) -> str:
    """For each budget of ours, targets on which some rival of at most as many steps found fewer lit
    features."""
    parts = []
    for label in (label for label in runs[0] if label.startswith("**")):
        steps, lost = steps_of(label), 0
        for run in runs:
            rivals = [r for name, r in run.items() if name[0] != "*" and steps_of(name) <= steps]
            if rivals:
                fewest = torch.stack([r.fewest() for r in rivals]).amin(dim=0)
                lost += int((run[label].fewest() > fewest).sum())
        parts.append(f"{steps}: {lost}")
    return (
        "Targets on which a rival of at most as many steps found fewer lit features than ours, of "
        f"{10 * len(runs)}, by steps: {', '.join(parts)}."
    )


def steps_of(label: str) -> int:
    """The steps a method was given; one that has no such number counts as the shortest."""
    found = re.search(r"(?:(\d+) x )?(\d+) steps", label)
    return int(found[1] or 1) * int(found[2]) if found else 0


def learning(networks: list[nn.Module], data: bc.Data) -> str:
    """Mean number of lit features with and without what trials teach the exchange, 100 steps."""
    targets, means = torch.arange(100) // PER_TARGET, []
    masks = [
        random_mask("pixels", 100, data.shape, (0.8, 1.0), torch.Generator().manual_seed(s))
        for s in (0, 1)
    ]
    for rule in (TabuSearch(), TabuSearch(rate=0.0)):
        lit = [
            search(
                Problem(model, "logits", targets, mask.expand(-1, *data.shape)),
                torch.zeros(100, *data.shape),
                rule,
                Goal(until="sparsest"),
                100,
            )
            .lit.float()
            .mean()
            for model in networks
            for mask in masks
        ]
        means.append(float(torch.stack(lit).mean()))
    return (
        f"TabuSearch, 100 steps: {means[0]:.2f} lit features on average; without learning from "
        f"its trials {means[1]:.2f}."
    )


def starts(model: nn.Module, data: bc.Data) -> list[str]:
    """What each kind of start finds alone, up to 1000 steps."""
    lines = ["", "| start alone, up to 1000 steps | reach 0.9, % | median lit |", "|---|---|---|"]
    for start in STARTS:
        found = bc.fool(model, range(10), PER_TARGET, data=data, start=start, steps=1000)
        lit = found.lit[found.met].tolist()
        lines.append(
            f"| {start} | {100 * len(lit) / len(found):.0f} | "
            f"{statistics.median(lit) if lit else '-'} |"
        )
    return lines


def pairs(model: nn.Module, features: int = 784) -> str:
    """Every image with at most two fully lit features."""
    black = torch.zeros(1, 1, 28, 28)
    with torch.no_grad():
        found = {t: 0 for t in range(10) if model(black).softmax(1)[0, t] >= 0.9}
        for k in (1, 2):
            every = torch.tensor(list(combinations(range(features), k)))
            for part in every.split(4000):
                lit = torch.zeros(len(part), features).scatter(1, part, 1.0).view(-1, 1, 28, 28)
                for t in ((model(lit).softmax(1) >= 0.9).any(dim=0)).nonzero().flatten().tolist():
                    found.setdefault(t, k)
    return ", ".join(f"target {t} with {k}" for t, k in found.items()) or "no target"


def rule_costs(model: nn.Module, shape: tuple[int, int, int]) -> list[str]:
    """Time of single rules with nobody finishing, over that of their passes alone; and of 90 %
    finishing early."""
    targets = torch.arange(100) % 10
    lines = [
        "",
        "| rule, nobody finishing, batch 100 | forwards, backwards | time / its passes alone "
        "| time / (backwards x one forward and backward) |",
        "|---|---|---|---|",
    ]
    noise = torch.rand(100, *shape, generator=torch.Generator().manual_seed(0))
    rules: list[tuple[Solver, Tensor]] = [
        (ProximalMomentum(), noise),
        (AnnealedTopK(), noise),
        (SigmaZero(), noise),
        (TabuSearch(), noise * 0),
    ]
    for rule, start in rules:
        ratios, strict = [], []
        for _ in range(3):
            both, forward = bare(model, shape, 100)
            began = time.perf_counter()
            found = search(
                Problem(model, "logits", targets), start, rule, Goal(until="sparsest"), 60
            )
            took = time.perf_counter() - began
            passes = int(found.steps.max()), int(found.forwards.max())
            ratios.append(took / (passes[0] * both + (passes[1] - passes[0]) * forward))
            strict.append(took / (passes[0] * both))
        name = type(rule).__name__
        lines.append(
            f"| {name} | {passes[1]}, {passes[0]} | {min(ratios):.2f} | {min(strict):.2f} |"
        )
    share = early(model, shape)
    lines += [
        "",
        f"90 of 100 images finished after a tenth of the budget: {share:.2f} of the time with "
        "nobody finishing.",
    ]
    return lines


def early(model: nn.Module, shape: tuple[int, int, int], steps: int = 200) -> float:
    """Time with 90 of 100 images finished after a tenth of the budget, over that with nobody
    finishing."""
    targets = torch.arange(100) % 10
    noise = torch.rand(100, *shape, generator=torch.Generator().manual_seed(0))
    took = []
    for share in (0.0, 0.9):
        asked = 0

        def accept(images: Tensor, share: float = share) -> Tensor:
            nonlocal asked
            asked += 1
            some = len(images) - 100 + int(share * 100) if asked >= steps // 10 else 0
            return torch.arange(len(images)) < some

        goal = Goal(confidence=1e-12, max_lit=10**6, accept=accept)
        began = time.perf_counter()
        search(Problem(model, "logits", targets), noise, ProximalMomentum(), goal, steps)
        took.append(time.perf_counter() - began)
    return took[1] / took[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3, help="of cnn and mlp; the others have one")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--cache", type=Path, help="folder of networks trained earlier")
    chosen = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE
    ).stdout.strip()
    lines = [
        f"Commit {commit}, {platform.machine()}, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}."
    ]
    for kind in chosen.kinds:
        data = bc.load_data("cifar10" if kind == "resnet" else "mnist")
        seeds = range(chosen.seeds if kind in ("cnn", "mlp") else 1)
        networks = [network(kind, data, seed, chosen.cache) for seed in seeds]
        runs = []
        for seed, model in zip(seeds, networks, strict=True):
            print(f"{kind} {seed}", flush=True)
            runs.append(measure(model, data, kind))
        lines += [
            "",
            f"### {kind}, {data.source}, seeds {', '.join(map(str, seeds))}",
            *table(runs),
            "",
            classes_lost(runs),
        ]
        if kind == "cnn":
            lines += ["", learning(networks, data)]
        if kind == "mirage":
            lines += starts(networks[0], data)
        if kind == "mlp":
            lines += [
                "",
                "All images with at most two fully lit pixels, tried one by one: "
                f"{'; '.join(map(pairs, networks))}.",
            ]
        if kind in ("cnn", "mlp"):
            lines += rule_costs(networks[0], data.shape)
    print("\n".join(lines))
    if set(chosen.kinds) == set(KINDS) and not missing():
        write("\n".join(lines))
    else:
        print("\nRESULTS.md stays as it is: networks or methods were left out.")


def missing() -> list[str]:
    """Methods whose library is not installed."""
    lacking = []
    for label, make in RIVALS.items():
        try:
            make()
        except ImportError:
            lacking.append(label)
    return lacking


def write(text: str) -> None:
    path = HERE / "RESULTS.md"
    begin, end = map(re.escape, MARKS)
    whole = re.sub(
        f"(?s){begin}.*{end}", lambda _: f"{MARKS[0]}\n\n{text}\n\n{MARKS[1]}", path.read_text()
    )
    path.write_text(whole)


if __name__ == "__main__":
    main()
