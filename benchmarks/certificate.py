"""The sparse certificate on MNIST: what is proved of a plain network, of gates around it, and how long a bound takes.

    python benchmarks/certificate.py                                    # a plain cnn is trained first
    python benchmarks/certificate.py --weights build/hardening/mnist-plain-seed0.safetensors --k 20,30,40

CPU seconds of this process on one thread. `found`: fewest lit features of any confident image that a short search met.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import nn

import blankcheck as bc
from blankcheck.certifying import Gated, GatePlan, Sparse, bound_layers, certify, fit_gate, log_odds_bounds, read_network
from blankcheck.classifiers import TrainingPlan, UnitClassifier, build, evaluate, train_plainly


def milliseconds(network: nn.Module, shape: tuple[int, int, int], k: int, dtype: torch.dtype, rounding: bool) -> float:
    """CPU time of one bound of all ten classes, the best of several."""
    read, like, best = read_network(network, shape), torch.zeros((), dtype=dtype), float("inf")
    for _ in range(7):
        began = time.process_time()
        log_odds_bounds(bound_layers(read.layers(dtype), Sparse(k), like, rounding), 10)
        best = min(best, time.process_time() - began)
    return 1000 * best


def row(name: str, network: nn.Module, data: bc.Data, form: str, seconds: float, steps: int) -> str:
    real = evaluate(network, data.test, len(data.classes), 0.9, form)
    began = time.process_time()
    proved = certify(network, data.shape, len(data.classes))
    spent = time.process_time() - began
    found = bc.fool(network, range(len(data.classes)), 2, data=data, steps=steps, until="sparsest", seed=0)
    lit = [int(n) for n, c in zip(found.lit, found.confidence, strict=True) if c >= 0.9]
    k = [-1 if each is None else each for each in proved.k]
    return (f"| {name} | {proved.means} | {real.accuracy:.2%} | {real.confident:.2%} | {min(k)}-{max(k)} | "
            f"{min(lit, default=0) or 'none'} | {seconds:.1f} | {spent:.1f} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--weights", default=None)
    parser.add_argument("--k", default="30")
    parser.add_argument("--steps", type=int, default=100, help="of the search beside the proof")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = bc.load_data(given.data)
    if given.weights is None:
        plain = build("cnn", data.shape, len(data.classes), data.mean_and_std())
        train_plainly(plain, data.train, TrainingPlan.default(len(data.train)), 0)
    else:
        plain = bc.load_model("cnn", given.weights)
    print("| network | proof | right | and confident | k per class | found | training, s | certificate, s |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    print(row("plain cnn", plain, data, "logits", 0.0, given.steps))
    for k in map(int, given.k.split(",")):
        began = time.process_time()
        gate = fit_gate(data.train, data.shape, len(data.classes), len(data.classes), k, plan=GatePlan())
        spent = time.process_time() - began
        print(row(f"the same, gate for {k}", UnitClassifier(Gated(plain, gate)), data, "probabilities", spent, given.steps))
    timed = build("cnn-wide-kernel", data.shape, len(data.classes))
    for dtype, rounding in ((torch.float32, False), (torch.float64, True)):
        spent = milliseconds(timed, data.shape, 30, dtype, rounding)
        print(f"one bound of an untrained wide-kernel network, k = 30, {str(dtype)[6:]}: {spent:.1f} ms")


if __name__ == "__main__":
    main()
