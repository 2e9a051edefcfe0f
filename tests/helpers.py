"""Evidence made by hand."""

from __future__ import annotations

from blankcheck.judging import Control, Evidence, Finding, RealData, Verdict, judge, run_checks
from blankcheck.judging.evidence import Attempt, Cost, OODRecord
from blankcheck.types import Conditions

NO_MORE = (
    "more-steps",
    "more-restarts",
    "more-starts",
    "penalty-weights",
    "tighter-limit",
    "close-calls",
    "gradient-free",
    "structured",
    "transfer",
    "rivals",
)
GOOD = (
    Control("positive-control", 40, 40, "a plain twin"),
    Control("planted-control", 10, 10, "12 features each", numbers={"narrowest_reach": 1.0}),
    Control("gradient-health", 0, 9, numbers={"hidden:noise": 0.0, "wrong:noise": 0.0}),
    Control("unbounded", 40, 40),
    Control("repeatable", 0, 192, "when asked 10 times"),
    Control("batch-independent", 0, 192, "among other neighbours"),
    Control("watched", 0, 192, "asked in 16 ways", numbers={"fooling": 0.0, "changed": 0.0}),
    Control("best-kept", 0, 50),
    Control("saturation", 0, 192, "its outputs are logits"),
    *(Control(code, 0, 20, "Looking harder") for code in NO_MORE),
)


def attempt(
    fooled: bool = False, lit: int = 200, confidence: float = 0.5, p: float = 0.5, target: int = 0
) -> Attempt:
    fewest = lit if confidence >= 0.9 else None
    return Attempt(target, fooled, "noise/adaptive", lit, confidence, p, fewest)


TRUSTED = OODRecord("marginal", ("a score",), 0.001, 12, 2000, calibration_images=100_000)
"""An out-of-distribution test that calls 0.6 % of real test images out of distribution."""


def evidence(
    attempts=None, controls=GOOD, confident=0.97, extra=(), ood=TRUSTED, **more
) -> Evidence:
    attempts = tuple(attempts) if attempts is not None else tuple(attempt() for _ in range(50))
    return Evidence(
        Conditions(),
        ("a", "b"),
        attempts,
        {"noise/adaptive": len(attempts)},
        RealData(0.99, confident, 0.0, confident),
        controls,
        Cost(10, 5, 1.0),
        extra,
        ood,
        **more,
    )


def finding(e: Evidence, code: str) -> Finding:
    return {f.code: f for f in run_checks(e)}[code]


def verdict_of(e: Evidence) -> Verdict:
    return judge(e, run_checks(e))


SURE = """
import torch
from torch import nn
import blankcheck as bc

def sure():
    # Right and confident on most digits raised by 0.5. With too little ink no unit is on, and all
    # classes are alike: no image with at most 3 lit features is given any class with 0.9.
    data = bc.load_data("digits+lift=0.5").train
    images, weight = data.images.flatten(1), torch.zeros(10, 64, requires_grad=True)
    optimiser = torch.optim.Adam([weight], lr=0.1)
    for _ in range(300):
        loss = nn.functional.cross_entropy(images @ weight.T, data.labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    first = nn.Linear(64, 10)
    with torch.no_grad():
        first.weight.copy_(4 * weight + 1)
        first.bias.fill_(-38.0)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU())
"""
"""A factory's file, of a network that can be CERTIFIED."""
