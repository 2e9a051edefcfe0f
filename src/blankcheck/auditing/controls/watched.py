"""Controls that ask whether a network answers alike whether or not it is watched.

An audit asks in a way of its own: with frozen parameters, many images at once, often with
gradients, some ten thousand times. Who uses a network does none of that, and whatever its answers
depend on beside the image is nothing that a search could see.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from blankcheck.auditing.attack_run import Job
from blankcheck.auditing.controls.setting import Began, Experiment, Setting
from blankcheck.auditing.onlooker import Onlooker
from blankcheck.auditing.witnesses import rounded_to_8_bits
from blankcheck.classifiers import probabilities
from blankcheck.classifiers.planting import random_patterns
from blankcheck.errors import ModelError
from blankcheck.fooling import STARTS
from blankcheck.judging.evidence import Control
from blankcheck.outputs import as_logits, in_silence, run
from blankcheck.seeds import own_random_numbers, seed_of, seeded
from blankcheck.text import one_line
from blankcheck.types import Classifier, Images, count_lit, images_at_once, in_pieces
from blankcheck.users import out_of_memory

CALLS = 25_000
"""Calls after which the first images are asked about once more, where nothing was found."""
REAL, MADE, FEW = 64, 32, 10
"""Real images, made ones of each kind, and lit features of those that have few."""
ENDS, ASKED = 64, 10
"""Ends of attempts, and how often the same is asked."""
BATCHES = (1, 7, 128)
SAME, SAME_IN_BATCH, SAME_ROUNDED = 1e-3, 1e-2, 5e-2
"""Largest change of a probability that counts as none: asked alike; asked otherwise, as batch sizes
and kernels change rounding a little; in another precision, where convolutions may keep 10 bits."""
OFF_GRID, DRAWS = (0.1, 0.4), 4
"""How far off the grid of 8-bit values an image is moved, in grey levels, and how often."""
NO_NUMBER = -1.0
"""Stands for a probability that is NaN: far from any other, and equal to itself."""
AS_SPREAD = 3
"""An image on the grid may differ from those off it by so many times what these differ by."""


@dataclass(frozen=True)
class Way:
    """A way of asking. inside: what the call is made in. shown: what it is given for images.
    unfrozen: whether parameters ask for gradients. batch: images at once, None for many."""

    inside: Callable[[], AbstractContextManager[object]] = torch.no_grad
    shown: Callable[[Tensor], Tensor] = torch.clone
    unfrozen: bool = False
    batch: int | None = None
    double: bool = False


def _leaf(images: Tensor) -> Tensor:
    return images.clone().requires_grad_(True)


def _computed(images: Tensor) -> Tensor:
    return _leaf(images) * 1


_CONTEXTS = {
    "without gradients": Way(),
    "without gradients, of images that ask for one": Way(shown=_leaf),
    "with gradients": Way(torch.enable_grad, _leaf),
    "with gradients, of images that ask for none": Way(torch.enable_grad),
    "with gradients, of images that were computed": Way(torch.enable_grad, _computed),
    "in inference mode": Way(torch.inference_mode),
}
USE = Way(torch.inference_mode, unfrozen=True, batch=1)
"""As a network is used: one image at a time."""
WAYS = {
    **{f"{words}, parameters frozen": way for words, way in _CONTEXTS.items()},
    **{
        f"{words}, parameters not frozen": Way(way.inside, way.shown, unfrozen=True)
        for words, way in _CONTEXTS.items()
    },
    "one at a time in inference mode, parameters not frozen": USE,
    "in double precision": Way(double=True),
    "in double precision and inference mode": Way(torch.inference_mode, unfrozen=True, double=True),
}


def network_of(classifier: Classifier) -> Classifier:
    """The audited network itself, which an audit asks through an onlooker."""
    return classifier.network if isinstance(classifier, Onlooker) else classifier


def begin(job: Job, classes: int, real: Images) -> Began:
    """Ask before anything was searched: about real images, noise, and images with few lit
    features, bright ones and grey ones."""
    targets = torch.arange(MADE) % classes
    made = [
        STARTS[name](targets, job.shape, seeded(job.seed, "watched", name), job.real)
        for name in ("black", "noise", "sparse-noise")
    ]
    generator, size = seeded(job.seed, "watched"), max(1, min(FEW, job.conditions.max_lit // 3))
    few = random_patterns(MADE, size, job.shape, generator)
    grey = few * torch.rand(MADE, 1, 1, 1, generator=generator)
    images = rounded_to_8_bits(torch.cat([real[:REAL], made[0][:1], *made[1:], few, grey]))
    network = network_of(job.classifier)
    return Began(images, answers(network, Way(), images, job.form, job), state_of(network))


def answers(network: Classifier, way: Way, images: Tensor, form: str, job: Job) -> Tensor:
    """Probabilities (n, m) of images (n, c, h, w) when asked in this way, on the CPU. A network
    that draws random numbers draws the same ones whichever way it is asked. What is no number is
    `NO_NUMBER`: the same answer, if it is given again."""
    asked, most = network, way.batch or images_at_once(images.shape[1:])
    if way.double:
        asked = copy.deepcopy(network).double() if isinstance(network, nn.Module) else network
    images = images.double() if way.double else images
    devices = [torch.device(job.device)]
    outputs = []
    with own_random_numbers(seed_of(job.seed, "ways"), devices), _parameters(asked, way.unfrozen):
        for piece in in_pieces(images, most):
            with way.inside():
                answer = run(asked, way.shown(piece.to(job.device)))
                outputs.append(as_logits(answer.detach(), form).softmax(dim=1).cpu())
    return torch.cat(outputs).nan_to_num(NO_NUMBER)


@contextmanager
def _parameters(classifier: Classifier, unfrozen: bool) -> Iterator[None]:
    """Inside, parameters ask for gradients or do not; after, as they did."""
    module = classifier if isinstance(classifier, nn.Module) else nn.Module()
    wanted = [(p, p.requires_grad) for p in module.parameters() if p.is_floating_point()]
    for parameter, _ in wanted:
        parameter.requires_grad_(unfrozen)
    try:
        yield
    finally:
        for parameter, flag in wanted:
            parameter.requires_grad_(flag)


def state_of(classifier: Classifier) -> dict[str, str]:
    """Whatever of a network a call must not change: by name a digest of every parameter and buffer,
    and whether each module is in training mode."""
    if not isinstance(classifier, nn.Module):
        return {}
    tensors = {**dict(classifier.named_parameters()), **dict(classifier.named_buffers())}
    state = {name: _digest(tensor) for name, tensor in tensors.items()}
    modes = {f"mode of {name}": str(m.training) for name, m in classifier.named_modules()}
    return state | modes


def _digest(tensor: Tensor) -> str:
    plain = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach())
    raw = plain.flatten().view(torch.uint8).numpy().tobytes()
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def changed(began: Began, classifier: Classifier) -> int:
    """How many parameters, buffers and modes are not what they were."""
    now = state_of(classifier)
    return sum(began.state.get(name) != now.get(name) for name in began.state.keys() | now.keys())


def call_often(classifier: Classifier, images: Tensor, job: Job) -> None:
    """Call a network as it is used, one image at a time, until it was called `CALLS` times."""
    network, images = network_of(classifier), images.to(job.device)
    calls = classifier.calls if isinstance(classifier, Onlooker) else 0
    alike = own_random_numbers(seed_of(job.seed, "calls"), [torch.device(job.device)])
    with alike, _parameters(network, USE.unfrozen), USE.inside():
        for call in range(calls, CALLS):
            run(network, images[call % len(images)].unsqueeze(0))


def off_grid(images: Tensor, job: Job) -> list[Tensor]:
    """Images of 8-bit values (n, c, h, w), their lit features moved slightly, each time otherwise;
    none leaves [0, 1] or goes dark."""
    low, high = OFF_GRID
    moved = []
    for draw in range(DRAWS):
        generator = seeded(job.seed, "off the grid", draw)
        by = (low + (high - low) * torch.rand(images.shape, generator=generator)) / 255
        up = (torch.rand(images.shape, generator=generator) < 0.5) & (images < 1)
        moved.append(torch.where(images > 0, images + torch.where(up, by, -by), images))
    return moved


def on_grid_only(job: Job, images: Tensor, known: Tensor) -> Tensor:
    """(n,) bool: 8-bit images that get other answers than all those around them, more so than these
    from each other. known: (n, m) their answers."""
    network = network_of(job.classifier)
    around = torch.stack(
        [answers(network, Way(), near, job.form, job) for near in off_grid(images, job)]
    )
    spread = (around.amax(dim=0) - around.amin(dim=0)).amax(dim=1)
    apart = (around - known).abs().amax(dim=2).amin(dim=0)
    return ~(apart <= SAME_IN_BATCH + AS_SPREAD * spread)


def fooling_there(job: Job, images: Tensor, there: Tensor, classes: int) -> int:
    """How many of these images (n, c, h, w) meet all three conditions by answers (n, m)."""
    want = job.conditions
    good = there[:, :classes].amax(dim=1) >= want.confidence
    good &= count_lit(images) <= want.max_lit
    found = images[good]
    if job.accept is not None and len(found):
        found = found[job.accept(found)]
    return len(found)


def _images(setting: Setting) -> Tensor:
    """What was asked about when the audit began, and what the search ended with."""
    best = setting.tried.best.images
    some = torch.randperm(len(best), generator=seeded(setting.job.seed, "some"))[:ENDS]
    return torch.cat([setting.began.images, best[some]])


def _probabilities(job: Job, images: Tensor, batch: int | None = None) -> Tensor:
    """Those of the classifier (n, m); what is no number is `NO_NUMBER`."""
    return probabilities(job.classifier, images, job.form, batch).nan_to_num(NO_NUMBER)


def repeatable(setting: Setting) -> Experiment:
    """Score the same images often, and those of the beginning at the end: a network drawn by lot
    may answer several times running, one that counts its calls for thousands."""
    job, images, first = setting.job, _images(setting), setting.began.answers
    asked = torch.stack([_probabilities(job, images) for _ in range(ASKED)])
    moved = ~((asked - asked[0]).abs().amax(dim=(0, 2)) <= SAME)
    words = f"when asked {ASKED} times, and at the end of the audit as at its beginning"
    if not any(a.fooled for a in setting.attempts):
        call_often(job.classifier, setting.began.images, job)
        words = f"{words}, {CALLS:,} calls later"
    last = answers(network_of(job.classifier), Way(), setting.began.images, job.form, job)
    moved[: len(last)] |= ~((last - first).abs().amax(dim=1) <= SAME)
    return Experiment(Control("repeatable", int(moved.sum()), len(images), words))


def batch_independent(setting: Setting) -> Experiment:
    """Score the same images among other neighbours, in other numbers, and each one alone."""
    job, images = setting.job, _images(setting)
    together = _probabilities(job, images)
    order = torch.randperm(len(images), generator=seeded(job.seed, "neighbours"))
    moved, asked, refused = torch.zeros(len(images), dtype=torch.bool), list[str](), ""
    for size in BATCHES:
        try:
            apart = _probabilities(job, images[order], size)
        except ModelError as error:
            refused += f"; batches of {size} it refuses: {one_line(error, 80)}"
            continue
        moved |= ~((together[order] - apart).abs().amax(dim=1) <= SAME_IN_BATCH)
        asked.append(str(size))
    words = f"among other neighbours, in batches of {', '.join(asked)}{refused}"
    return Experiment(Control("batch-independent", int(moved.sum()), len(images), words))


def watched(setting: Setting) -> Experiment:
    """Ask about the same images in every way, and look whether calls changed the network."""
    job, images = setting.job, rounded_to_8_bits(_images(setting))
    network = network_of(job.classifier)
    known = answers(network, Way(), images, job.form, job)
    moved = on_grid_only(job, images, known)
    numbers = {"moved:as 8-bit images only": float(moved.sum())}
    fooling = fooling_there(job, images[moved], known[moved], setting.classes)
    refused = []
    for words, way in WAYS.items():
        try:
            with in_silence():
                there = answers(network, way, images, job.form, job)
        except Exception as error:  # a user's network raises whatever it likes
            why = (
                "out of memory" if out_of_memory(error) else one_line(error.__cause__ or error, 80)
            )
            refused.append(f"not asked {words}, because it says: {why}")
            continue
        most = SAME_ROUNDED if way.double else SAME_IN_BATCH
        other = ~((there - known).abs().amax(dim=1) <= most)
        numbers[f"moved:{words}"] = float(other.sum())
        fooling = max(fooling, fooling_there(job, images[other], there[other], setting.classes))
        moved |= other
    numbers |= {"fooling": float(fooling), "changed": float(changed(setting.began, network))}
    asked = f"asked in {len(numbers) - 2} ways"
    detail = "; ".join([asked, *refused])
    return Experiment(Control("watched", int(moved.sum()), len(images), detail, numbers=numbers))
