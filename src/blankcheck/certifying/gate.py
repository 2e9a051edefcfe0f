"""A gate: a small network that is bounded on sparse images and keeps a classifier's confidence down
there.

With m outputs, probabilities p, and the likeliest class t, the gated classifier answers

    q = s p + (1 - s) / m,    s = sigmoid(g_t(x)),

so the order of the classes stays, and q_t <= s + (1 - s) / m. A class that is not the likeliest has
p <= 1/2, hence q <= 1/2. Where g_t is proved to be below theta(confidence) over all sparse images,
none of them is given any class with that confidence, whatever the classifier inside says. It is the
gate that is certified.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from blankcheck.certifying.agreement import check_agreement
from blankcheck.certifying.bounds import bound_layers
from blankcheck.certifying.hull import Sparse
from blankcheck.certifying.layers import Layer
from blankcheck.certifying.log_odds import upper_bound
from blankcheck.certifying.record import GatePlan
from blankcheck.certifying.rounding import of_softmax
from blankcheck.certifying.trace import Network, read_network
from blankcheck.classifiers.reference import wide_kernel
from blankcheck.classifiers.wrapper import UnitClassifier, left_as_found
from blankcheck.data import Split
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.outputs import OUTPUT_FORMS, as_logits, run
from blankcheck.seeds import own_random_numbers

OPEN = 30.0
"""What the gate says of outputs beyond the real classes: they need none."""
BATCH, MARGIN, LEARNING_RATE = 128, 4.0, 4e-3
RAMP = 0.5
"""Share of the training over which the number of lit features grows to k."""
STEP_DOWN, TRIES = 1e-3, 40
"""By how much a bias is lowered against rounding, doubled each time, and how often."""


def gate_network(
    shape: tuple[int, int, int], classes: int, tau: float = 0.1, channels: int = 16
) -> nn.Sequential:
    """An untrained gate of a few thousand parameters: wide convolution, ReLU, linear layer."""
    layers, flat = wide_kernel(shape, channels, tau)
    return nn.Sequential(*layers, nn.Linear(flat, classes))


class Gated(nn.Module):
    """A classifier with a gate around it; gives probabilities. form: of the outputs of `inner`."""

    def __init__(self, inner: nn.Module, gate: nn.Module, form: str = "logits") -> None:
        super().__init__()
        if form not in OUTPUT_FORMS:
            raise ArgumentError(f"form must be one of {', '.join(OUTPUT_FORMS)}, got {form!r}")
        self.inner, self.gate, self.form = inner, gate, form

    def forward(self, images: Tensor) -> Tensor:
        """(n, c, h, w) in [0, 1] -> (n, m)."""
        # the gate first: the classifier inside may do what it likes with the images
        opened = self.gate(images)
        return let_through(as_logits(self.inner(images), self.form).softmax(dim=1), opened)


def let_through(p: Tensor, opened: Tensor) -> Tensor:
    """Probabilities (n, m) of the classifier inside behind a gate's outputs (n, classes)."""
    opened = F.pad(opened, (0, p.shape[1] - opened.shape[1]), value=OPEN)
    s = opened.gather(1, p.argmax(dim=1, keepdim=True)).sigmoid()
    return s * p + (1 - s) / p.shape[1]


def gate_of(classifier: nn.Module) -> tuple[Gated, nn.Module] | None:
    """A classifier's gate, and a network that gives what the gate says of images in [0, 1], with
    the normalisation of a `UnitClassifier` around it. None for a classifier that is not just that:
    of a subclass, of one with hooks or with methods of its own nobody knows what it computes."""
    inside = classifier.network if type(classifier) is UnitClassifier else classifier
    if (
        type(inside) is not Gated
        or inside.form not in OUTPUT_FORMS
        or not all(map(_as_written, (inside, classifier)))
    ):
        return None
    if not isinstance(classifier, UnitClassifier) or not classifier.normalised:
        return inside, inside.gate
    seeing = UnitClassifier(inside.gate)
    seeing.mean, seeing.std, seeing.normalised = classifier.mean, classifier.std, True
    return inside, seeing


def _as_written(module: nn.Module) -> bool:
    """Whether calling a module runs its class's `forward` and nothing else."""
    hooks = module._forward_hooks or module._forward_pre_hooks
    return not hooks and vars(module).keys().isdisjoint(dir(type(module)))


def check_gate(
    classifier: nn.Module,
    gated: Gated,
    images: Tensor,
    opened: Tensor,
    error: Tensor,
    confidence: float,
) -> int:
    """How many outputs a gated classifier has. Raises ModelError where it does not answer as its
    formula says, and ArgumentError for a confidence that no gate can keep.

    images: `trial_images`. opened, error: (n, classes), the gate's outputs, and how far off.
    """
    with left_as_found(classifier), torch.no_grad():
        outputs = run(classifier, images[:2].to(opened.device)).shape[1]
    most_open(confidence, outputs)
    # of s, whose slope is at most 1/4, and of the softmax
    off = error.amax(dim=1, keepdim=True) / 4 + 2 * of_softmax(outputs)

    def expected(rows: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(classifier, UnitClassifier) and classifier.normalised:
            asked = (asked - classifier.mean) / classifier.std
        p = as_logits(run(gated.inner, asked), gated.form).softmax(dim=1).double()
        return let_through(p, opened[rows]), off[rows].expand_as(p)

    check_agreement(classifier, images, expected, "gated probabilities")
    return outputs


def most_open(confidence: float, outputs: int) -> float:
    """theta: gates below it keep every class below the confidence, in float32 too.

    ArgumentError where no gate can.
    """
    least = confidence * (1 - of_softmax(outputs))
    s = (least - 1 / outputs) / (1 - 1 / outputs)
    if confidence <= 0.5 or s <= 0:
        raise ArgumentError(f"confidence must be above 0.5 for a gate, got {confidence:g}")
    return math.log(s / (1 - s))


def gate_bounds(layers: Sequence[Layer], images: Sparse, like: Tensor) -> tuple[Tensor, Tensor]:
    """(classes,) upper bounds of the gate's outputs over sparse images, and their rounding."""
    made = bound_layers(layers, images, like)
    assert made.error is not None
    eye = torch.eye(made.layers[-1].shape[0], dtype=like.dtype, device=like.device)
    return upper_bound(made, eye), made.error[-1][0]


def as_log_odds(opened: Tensor, outputs: int) -> Tensor:
    """Gated log-odds from bounds of the gate's outputs: of the likeliest class, 1/2 for others."""
    s = opened.sigmoid()
    return (s + (1 - s) / outputs).logit().clamp(min=0.0)


def fit_gate(
    train: Split,
    shape: tuple[int, int, int],
    classes: int,
    outputs: int,
    k: int,
    confidence: float = 0.9,
    unit: str = "features",
    plan: GatePlan | None = None,
    watch: Callable[[int, float], None] = lambda step, loss: None,
) -> nn.Sequential:
    """Train a gate, proved shut on all images with at most k lit features, open on real ones.

    It is trained on how far real images of a class stand above the bound of that class over all
    sparse images; then the bias of each class is set to where the bound is theta.

    Args:
        train: real images and labels.
        shape: (c, h, w) of an image.
        classes: that get an output of the gate.
        outputs: of the classifier it is for.
        k: lit features.
        confidence: that no sparse image may get, above 0.5.
        unit: what k counts, `features` or `pixels`.
        plan: how it is trained; default a `GatePlan`.
        watch: told of each step and its loss.

    Raises:
        ModelError: with one line, where the training diverged.
    """
    plan, theta = plan or GatePlan(), most_open(confidence, outputs)
    with own_random_numbers(plan.seed):
        gate = gate_network(shape, classes, plan.tau, plan.channels)
    network = read_network(gate, shape)
    generator = torch.Generator().manual_seed(plan.seed)
    optimiser = torch.optim.AdamW(gate.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    total = max(2, plan.steps)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=total)
    for step in range(plan.steps):
        rows = torch.randint(len(train), (BATCH,), generator=generator)
        x, y = train.images[rows], train.labels[rows]
        # all of k at once would shut the gate for good: every unit of its convolution would die
        asked = Sparse(max(1, math.ceil(k * min(1.0, (step + 1) / (RAMP * plan.steps)))), unit)
        made = bound_layers(network.layers(torch.float32), asked, torch.zeros(()), rounding=False)
        bound = upper_bound(made, torch.eye(classes))
        above = gate(x).gather(1, y[:, None]).squeeze(1) - bound[y]
        loss = F.softplus(MARGIN - above).mean()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelError(f"gate cannot be trained: its loss is {value:g} in step {step + 1}")
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        schedule.step()
        watch(step + 1, value)
    calibrate(gate, network, Sparse(k, unit), theta)
    return gate.requires_grad_(False)


@torch.no_grad()
def calibrate(gate: nn.Sequential, network: Network, images: Sparse, theta: float) -> None:
    """Set the bias of each class so that its bound, rounding included, is just below theta.

    ModelError where none does.
    """
    last = gate[-1]
    assert isinstance(last, nn.Linear)
    like = torch.zeros((), dtype=torch.float64, device=last.bias.device)
    bounds, down = torch.add(*gate_bounds(network.layers(), images, like)), 0.0
    for _ in range(TRIES):
        last.bias.add_((theta - down - bounds).to(last.bias.dtype))
        bounds = torch.add(*gate_bounds(network.layers(), images, like))
        if bool((bounds < theta).all()):
            return
        down = 2 * down + STEP_DOWN
    raise ModelError("gate cannot be set: no bias brings its bound below what is asked")
