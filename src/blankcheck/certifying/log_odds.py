"""Upper bounds of each real class's log-odds over all sparse images, and training with them.

Log-odds of class t are z_t minus the log-sum-exp of the others. The smaller of two bounds counts:

- each margin z_t - z_j bounded on its own, b_j: at most minus the log-sum-exp of all -b_j;
- log-sum-exp is convex, so at least sum w_j z_j + H(w) for any weights w that sum to 1, H being
  their entropy: at most the bound of the single linear function z_t - sum w_j z_j, minus H(w).

With the softmax of -b as weights the second is worse by at most relaxation's loss on sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blankcheck.certifying.bounds import bound_again, bound_layers
from blankcheck.certifying.hull import Sparse
from blankcheck.certifying.relaxation import Alpha, Bounded, backward_bound, concretize
from blankcheck.certifying.rounding import of_softmax
from blankcheck.certifying.trace import read_network
from blankcheck.classifiers.wrapper import device_of
from blankcheck.errors import ArgumentError

MOST_PAIRS = 4096
"""Margins that are bounded one by one; with more, weights come from the intervals."""
RATE, LEAST_RATE = {False: (0.1, 0.97), True: (0.2, 0.93)}, 0.02
"""Learning rate of the slopes at first, and by how much it falls at each step; True: of those of
earlier layers too. At last."""
GLANCE = 5
"""Steps after which optimisation ends where, at the speed of the last of them, it gains too
little."""
NEAR, GOING_ON = 0.1, 10
"""Log-odds by which a bound may miss for optimisation to go on, up to so many times the steps."""
MOST_INNER = 10_000_000
"""Coefficients, of 8 bytes, of all layers that may be bounded anew in each step, whose gradients
take several times as much."""


def limit(confidence: float, outputs: int) -> float:
    """Log-odds below which a float32 softmax gives less than `confidence`."""
    least = confidence * (1 - of_softmax(outputs))
    return math.log(least / (1 - least))


def log_odds_bounds(
    made: Bounded, classes: int, slope_steps: int = 0, enough: float | None = None
) -> Tensor:
    """Bound the log-odds of each real class in exact arithmetic.

    `rounding_slack` says by how much float32 can be above.

    Args:
        made: the bounded network; all its outputs count in the softmax.
        classes: how many of its outputs are real classes.
        slope_steps: steps of Adam on the slopes alpha of the lines from below and on the weights w
            (alpha-CROWN, Xu et al. 2021, arXiv:2011.13824). Any alpha and weights give a bound, and
            the best one met is kept.
        enough: stop once all bounds are below this.

    Returns:
        (classes,), infinite where nothing is known of the outputs.
    """
    outputs = made.layers[-1].shape[0]
    if not 1 <= classes <= outputs:
        raise ArgumentError(f"classes must lie in 1..{outputs}, got {classes}")
    if made.lost:
        return made.high[-1][0, :classes]
    best, weights = _without_alpha(made, classes)
    if slope_steps == 0:
        return best
    # both are moved in place; a weight of exactly 0 could not grow
    mixing = weights.detach().clamp(min=-30.0).requires_grad_()
    alpha = _slopes(made, len(made.layers) - 1, classes)
    least = -torch.inf if enough is None else enough
    best = _optimised(made, best.detach(), mixing, alpha, {}, slope_steps, least)
    inner = {(at, side): _slopes(made, at, 1) for at in made.refined for side in (1, -1)}
    numbers = sum(made.refined.values()) * max(math.prod(layer.shape) for layer in made.layers)
    if any(inner.values()) and numbers <= MOST_INNER:
        best = _optimised(made, best, mixing, alpha, inner, slope_steps, least)
    return best


def rounding_slack(made: Bounded, classes: int) -> Tensor:
    """(classes,) how far the log-odds of float32 logits can be above those of exact ones.

    The log-sum-exp moves at most as far as the output that moves farthest.
    """
    assert made.error is not None
    error = made.error[-1][0]
    others = error.expand(classes, -1).masked_fill(_own(classes, error), 0)
    return error[:classes] + others.amax(dim=1)


def upper_bound(made: Bounded, rows: Tensor, alpha: Alpha | None = None) -> Tensor:
    """Bound linear functions of the outputs from above, over all sparse images.

    Args:
        made: the bounded network.
        rows: (n, outputs), the coefficients.
        alpha: of the ReLUs; default 1 where one is more likely on than off, else 0.

    Returns:
        (n,), infinite where nothing is known.
    """
    if made.lost:
        return rows.new_full((len(rows),), torch.inf)
    last = len(made.layers) - 1
    positive = rows.clamp(min=0)
    by_interval = (positive * made.high[last] + (rows - positive) * made.low[last]).sum(dim=1)
    return torch.minimum(by_interval, concretize(made, backward_bound(made, last, rows, alpha)[0]))


def _own(classes: int, outputs: Tensor) -> Tensor:
    """(classes, outputs), True where an output is the class itself. outputs: (outputs,)."""
    return torch.eye(classes, len(outputs), dtype=torch.bool, device=outputs.device)


def _without_alpha(made: Bounded, classes: int) -> tuple[Tensor, Tensor]:
    """Bounds without optimisation, and the logits of w (classes, outputs), -inf at the class."""
    low, high = made.low[-1][0], made.high[-1][0]
    outputs, own = len(low), _own(classes, low)
    if classes * (outputs - 1) <= MOST_PAIRS:
        target, other = (~own).nonzero(as_tuple=True)
        rows = low.new_zeros(len(target), outputs)
        rows[torch.arange(len(target)), target] = 1
        rows[torch.arange(len(target)), other] = -1
        margins = upper_bound(made, rows).view(classes, outputs - 1)
        logits = low.new_full((classes, outputs), -torch.inf).masked_scatter(~own, -margins)
        separate = -torch.logsumexp(-margins, dim=1)
    else:
        logits = (low[None, :] - high[:classes, None]).masked_fill(own, -torch.inf)
        separate = -torch.logsumexp(logits, dim=1)
    # the weights are a choice, through which no gradient has to go
    return torch.minimum(separate, _joint(made, logits.detach(), None)), logits


def _joint(made: Bounded, logits: Tensor, alpha: Alpha | None) -> Tensor:
    """The bound by one linear function for each class, (classes,)."""
    own = _own(len(logits), logits[0])
    logs = torch.log_softmax(logits, dim=1)
    weights = logs.exp()
    entropy = -(weights * logs.masked_fill(own, 0.0)).sum(dim=1)
    return upper_bound(made, own.to(weights.dtype) - weights, alpha) - entropy


def _optimised(
    made: Bounded,
    best: Tensor,
    mixing: Tensor,
    alpha: dict[int, Tensor],
    inner: dict[tuple[int, int], dict[int, Tensor]],
    steps: int,
    enough: float,
) -> Tensor:
    """The best bounds met by Adam on alpha, of which each class has its own, and on the weights.

    inner: slopes of the layers before the last, which are moved too; these layers are then bounded
    anew in each step. Empty: they are not.
    """
    own, (rate, decay) = _own(len(best), made.low[-1][0]), RATE[bool(inner)]
    free = [mixing, *alpha.values(), *(t for each in inner.values() for t in each.values())]
    optimiser, before = torch.optim.Adam(free), best
    most = steps if inner or math.isinf(enough) else GOING_ON * steps
    for step in range(most):
        with torch.enable_grad():
            made = bound_again(made, inner) if inner else made
            bound = _joint(made, mixing.masked_fill(own, -torch.inf), alpha)
            missing = bound[torch.minimum(best, bound) >= enough].sum()
        best = torch.minimum(best, bound.detach())
        if not _hopeful(best, before, enough, step, steps):
            break
        before = best if step % GLANCE == 0 else before
        # asked for by name, since the weights of the network may want gradients of their own
        found = torch.autograd.grad(missing, free, allow_unused=True)
        for parameter, gradient in zip(free, found, strict=True):
            parameter.grad = gradient
        optimiser.param_groups[0]["lr"] = max(LEAST_RATE, rate * decay**step)
        optimiser.step()
        with torch.no_grad():
            for moved in free[1:]:
                moved.clamp_(0, 1)
    return best


def _hopeful(best: Tensor, before: Tensor, enough: float, step: int, steps: int) -> bool:
    """Whether some class may still come below `enough`. before: the bounds some steps ago."""
    missing = best - enough
    within = missing < NEAR
    if step < steps:
        ends = step and step % GLANCE == 0 and not math.isinf(enough)
        within |= missing <= ((before - best) * (steps - step) / GLANCE if ends else torch.inf)
    return bool(((missing >= 0) & within).any())


def _slopes(made: Bounded, last: int, rows: int) -> dict[int, Tensor]:
    """The usual slopes of all ReLUs and shares of all products up to a layer, to be moved, (rows,
    *shape)."""
    alpha: dict[int, Tensor] = {}
    for at, layer in enumerate(made.layers[: last + 1]):
        if layer.kind not in ("relu", "product") or at in made.hulls:
            continue
        like = made.low[0].detach()
        start = like.new_full((1, *layer.shape), 0.5)
        if layer.kind == "relu":
            (source,) = layer.inputs
            start = (made.high[source] > -made.low[source]).to(like.dtype).detach()
        alpha[at] = start.repeat(rows, *[1] * len(layer.shape)).requires_grad_()
    return alpha


@dataclass(frozen=True)
class Ramp:
    """What is to be proved, and how fast training comes to it.

    k, confidence: of the certificate. weight: of the penalty against the clean loss, at the end.
    begin, end: shares of the training between which k and weight grow linearly. margin: log-odds by
    which bounds are pushed below what is needed.
    """

    k: int
    confidence: float = 0.9
    weight: float = 1.0
    begin: float = 0.0
    end: float = 0.6
    margin: float = 0.1

    def __post_init__(self) -> None:
        if self.k < 1 or self.weight <= 0 or not 0 <= self.begin < self.end <= 1:
            raise ArgumentError(
                "a ramp needs k >= 1, weight > 0, 0 <= begin < end <= 1, "
                f"got {self.k}, {self.weight:g}, {self.begin:g}, {self.end:g}"
            )

    def height(self, progress: float) -> float:
        """From 0 to 1, for a progress of the training in [0, 1]."""
        return min(1.0, max(0.0, (progress - self.begin) / (self.end - self.begin)))

    def k_at(self, progress: float) -> int:
        """The k of the penalty; at least 1."""
        return max(1, math.ceil(self.k * self.height(progress)))


class Penalty:
    """A loss on what cannot be proved yet of a network, whose weights are read at each call.

    It is the mean excess of the proved log-odds over what is asked, over all images with at most k
    lit features; k and weight grow with the ramp. The probability's gradient would vanish where a
    class is far too sure, as at first (compare interval bound propagation, Gowal et al. 2018,
    arXiv:1810.12715, and GOOD, Bitterwolf et al. 2020, arXiv:2007.08473).
    """

    def __init__(self, module: nn.Module, shape: Sequence[int], classes: int, ramp: Ramp) -> None:
        self._network, self._classes, self.ramp = read_network(module, shape), classes, ramp
        self._goal = limit(ramp.confidence, self._network.outputs) - ramp.margin
        self._like = torch.zeros((), device=device_of(module))

    def __call__(self, progress: float) -> Tensor:
        """The term to add to the clean loss, a scalar; 0 before the ramp begins."""
        height = self.ramp.height(progress)
        if height == 0:
            return self._like
        images, layers = Sparse(self.ramp.k_at(progress)), self._network.layers(torch.float32)
        made = bound_layers(layers, images, self._like, rounding=False)
        excess = F.relu(log_odds_bounds(made, self._classes) - self._goal)
        return self.ramp.weight * height * excess.mean()
