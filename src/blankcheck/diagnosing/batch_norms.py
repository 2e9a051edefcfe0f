"""Batch norms whose statistics were never filled, or were left out of what was saved."""

from __future__ import annotations

import torch
from torch import nn

from blankcheck.classifiers.wrapper import left_as_found
from blankcheck.diagnosing.choosing import Choice
from blankcheck.diagnosing.findings import Finding, percent, problem
from blankcheck.diagnosing.scoring import Network, UnusableError, ask, better, score


def unfilled_statistics(
    module: nn.Module | None, network: Network, choice: Choice, device: torch.device
) -> Finding | None:
    """Batch norms of `module` that hold the statistics they were made with, where those of a batch
    of real images do better than any form of the input; None where there is no such fault."""
    empty = _empty(module) if module is not None else []
    if not empty or module is None:
        return None
    with left_as_found(module):
        for norm in empty:
            norm.training = True
        try:
            outputs = ask(network, choice.current, choice.images, device)
        except UnusableError:
            return None
    now = score(choice.current, outputs, choice.labels)
    if not choice.measure.plausible(now.right) or not better(now, choice.best):
        return None
    said = (
        f"{len(empty)} batch norms hold no statistics of any data (mean 0, variance 1): {percent(choice.best.accuracy)} "
        f"right, {percent(now.accuracy)} with those of the batch."
    )
    return problem(
        "batch-norm", said, "Save and load state_dict() as a whole: running statistics are buffers."
    )


def _empty(module: nn.Module) -> list[nn.Module]:
    return [
        norm
        for norm in module.modules()
        if isinstance(norm, nn.modules.batchnorm._BatchNorm)
        and norm.running_mean is not None
        and norm.running_var is not None
        and bool((norm.running_mean == 0).all())
        and bool((norm.running_var == 1).all())
    ]
