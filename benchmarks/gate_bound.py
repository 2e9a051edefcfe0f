"""What is left to gain: a plain network that carries hardening's gate itself, at several levels.

    python benchmarks/gate_bound.py --data mnist --seeds 3

A hardened network can at best learn what hardening's gate says. The gate is fitted on half A of the
training images, the
judge of audits on half B: where the two disagree, a searcher finds room. This network is sure of
nothing wherever the gate's p-value is at most the level, and answers like a plain one elsewhere, so
it follows the gate exactly, which no training does. Printed for each level: right and confident on
real validation images, and the share of attempts that fool it under the judge.
"""

from __future__ import annotations

import argparse

from hardening import where
from hardening_table import spread
from main_job import MODELS
from torch import Tensor, nn

import blankcheck as bc
from blankcheck.auditing import Job, ood_test, run_attempts, within
from blankcheck.classifiers import TrainingPlan, build, evaluate, train_plainly
from blankcheck.classifiers.wrapper import left_as_found
from blankcheck.judging import OODTest
from blankcheck.types import Conditions, default_max_lit

LEVELS = (0.0, 0.005, 0.01, 0.02, 0.03)


class Gated(nn.Module):
    """`network`, and equal logits for images whose p-value under `gate` is at most `level`."""

    def __init__(self, network: nn.Module, gate: OODTest, level: float) -> None:
        super().__init__()
        self.network, self.gate, self.level = network, gate, level

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits * (self.gate.p_values(images) > self.level).to(logits)[:, None]


def one(data: bc.Data, model: str, seed: int, attempts: int) -> dict[float, tuple[float, float]]:
    """level -> (right and confident, fooled), %."""
    network = build(model, data.shape, len(data.classes), data.mean_and_std(), seed)
    train_plainly(network, data.train, TrainingPlan.default(len(data.train)), seed)
    network.requires_grad_(False)
    gate, judge = OODTest.fit(data.halves[0].images, 0.01), ood_test(data, 0.01)
    return {
        level: measured(Gated(network, gate, level).eval(), data, judge, seed, attempts)
        for level in LEVELS
    }


def measured(
    gated: nn.Module, data: bc.Data, judge: OODTest, seed: int, attempts: int
) -> tuple[float, float]:
    want = Conditions(max_lit=default_max_lit(data.shape))
    real = evaluate(gated, data.validation, len(data.classes), want.confidence)
    job = Job(
        gated,
        "logits",
        data.shape,
        want,
        within(500),
        stop_at_lit=want.max_lit,
        real=(data.validation.images, data.validation.labels),
        accept=judge.accepts,
        seed=seed,
    )
    with left_as_found(gated):
        tried = run_attempts(job, [i % len(data.classes) for i in range(attempts)])
    return 100 * real.confident, 100 * float(tried.best.met.float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist", choices=sorted(MODELS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--attempts", type=int, default=100)
    chosen = parser.parse_args()
    data = bc.load_data(chosen.data)
    runs = [one(data, MODELS[chosen.data], seed, chosen.attempts) for seed in range(chosen.seeds)]
    print(f"{chosen.data}, {chosen.seeds} seeds, {chosen.attempts} attempts, {where()}\n")
    print("| gate closes at p <= | right and confident, % | fooled, % |\n|---|---|---|")
    for level in LEVELS:
        confident, fooled = (spread([run[level][part] for run in runs]) for part in (0, 1))
        print(f"| {level:g} | {confident} | {fooled} |", flush=True)


if __name__ == "__main__":
    main()
