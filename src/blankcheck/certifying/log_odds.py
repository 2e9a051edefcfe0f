"""Upper bounds of each real class's log-odds, log p - log(1 - p), over all sparse images.

The log-odds of class t are z_t minus the log-sum-exp of the other outputs. Two bounds, of which the
smaller counts:

- each margin z_t - z_j bounded on its own, b_j: the log-odds are at most minus the log-sum-exp of
  all -b_j;
- log-sum-exp is convex, so at least sum w_j z_j + H(w) for any weights w that sum to 1, H being
  their entropy: the log-odds are at most the bound of the single linear function z_t - sum w_j z_j,
  minus H(w).

With the softmax of -b as weights the second is never worse than the first by more than what
relaxation loses on sums.
"""

from __future__ import annotations

import torch
from torch import Tensor

from blankcheck.certifying.bounds import Bounded, upper_bound
from blankcheck.errors import ArgumentError

MOST_PAIRS = 4096
"""Margins that are bounded one by one; where there are more, weights come from the outputs'
intervals."""
LEARNING_RATE = 0.1
HOPELESS = 10.0
"""Log-odds that optimisation is not expected to gain."""


def log_odds_bounds(
    made: Bounded, classes: int, slope_steps: int = 0, enough: float | None = None
) -> Tensor:
    """(classes,) upper bounds for the first `classes` outputs, all outputs counting in the softmax,
    in exact arithmetic: `rounding_slack` says by how much float32 can be above.

    slope_steps: steps of Adam on the slopes of the lines from below and on the weights w
    (alpha-CROWN, Xu et al. 2021, arXiv:2011.13824); any slopes and weights give a bound, and the
    best one met is kept. enough: stop once all bounds are below this. Infinite where nothing is
    known of the outputs.
    """
    outputs = made.layers[-1].shape[0]
    if not 1 <= classes <= outputs:
        raise ArgumentError(f"classes must lie in 1..{outputs}, got {classes}")
    if made.lost:
        return made.high[-1][0, :classes]
    best, weights = _start(made, classes)
    failed = best if enough is None else best[best >= enough]
    if (
        slope_steps == 0
        or len(failed) == 0
        or (enough is not None and float(failed.min()) > enough + HOPELESS)
    ):
        return best
    return _optimised(made, best.detach(), weights.detach(), slope_steps, enough)


def rounding_slack(made: Bounded, classes: int) -> Tensor:
    """(classes,) how far the log-odds of float32 logits can be above those of exact ones.

    The log-sum-exp moves at most as far as the output that moves farthest.
    """
    assert made.error is not None
    error = made.error[-1][0]
    others = (
        error.expand(classes, -1)
        .masked_fill(_own(classes, len(error), error.device), 0)
        .amax(dim=1)
    )
    return error[:classes] + others


def _own(classes: int, outputs: int, device: torch.device) -> Tensor:
    return torch.eye(classes, outputs, dtype=torch.bool, device=device)


def _start(made: Bounded, classes: int) -> tuple[Tensor, Tensor]:
    """Bounds without optimisation, and the logits of the weights w (classes, outputs), -inf at the
    class itself."""
    low, high = made.low[-1][0], made.high[-1][0]
    outputs, own = len(low), _own(classes, len(low), low.device)
    if classes * (outputs - 1) <= MOST_PAIRS:
        target, other = (~own).nonzero(as_tuple=True)
        rows = torch.zeros(len(target), outputs, dtype=low.dtype, device=low.device)
        rows[torch.arange(len(target)), target] = 1
        rows[torch.arange(len(target)), other] = -1
        margins = upper_bound(made, rows).view(classes, outputs - 1)
        logits = torch.full((classes, outputs), -torch.inf, dtype=low.dtype, device=low.device)
        logits = logits.masked_scatter(~own, -margins)
        separate = -torch.logsumexp(-margins, dim=1)
    else:
        margins = high[:classes, None] - low[None, :]
        logits = (-margins).masked_fill(own, -torch.inf)
        separate = -torch.logsumexp(logits, dim=1)
    # the weights are a choice, through which no gradient has to go
    return torch.minimum(separate, _joint(made, logits.detach(), None)), logits


def _joint(made: Bounded, logits: Tensor, slopes: dict[int, Tensor] | None) -> Tensor:
    """The bound by one linear function for each class, (classes,)."""
    classes, outputs = logits.shape
    own = _own(classes, outputs, logits.device)
    logs = torch.log_softmax(logits, dim=1)
    weights = logs.exp()
    entropy = -(weights * logs.masked_fill(own, 0.0)).sum(dim=1)
    return upper_bound(made, own.to(weights.dtype) - weights, slopes) - entropy


def _optimised(
    made: Bounded, best: Tensor, logits: Tensor, steps: int, enough: float | None
) -> Tensor:
    relus = [
        i for i, layer in enumerate(made.layers) if layer.kind == "relu" and i not in made.hulls
    ]
    slopes = {
        i: _adaptive(made, i).repeat(len(best), *[1] * len(made.layers[i].shape)).requires_grad_()
        for i in relus
    }
    # a weight of exactly 0 could not grow
    mixing = logits.clamp(min=-30.0).requires_grad_()
    own = torch.isinf(logits)
    free = [mixing, *slopes.values()]
    optimiser = torch.optim.Adam(free, lr=LEARNING_RATE)
    with torch.enable_grad():
        for _ in range(steps):
            bound = _joint(made, mixing.masked_fill(own, -torch.inf), slopes)
            best = torch.minimum(best, bound.detach())
            if enough is not None and bool((best < enough).all()):
                break
            # asked for by name, since the weights of the network may want gradients of their own
            for parameter, slope in zip(
                free, torch.autograd.grad(bound.sum(), free, allow_unused=True), strict=True
            ):
                parameter.grad = slope
            optimiser.step()
            with torch.no_grad():
                for slope in slopes.values():
                    slope.clamp_(0, 1)
    return best


def _adaptive(made: Bounded, relu: int) -> Tensor:
    (before,) = made.layers[relu].inputs
    return (made.high[before] > -made.low[before]).to(made.low[before].dtype).detach()
