"""Classifier + real data + portfolio -> evidence and witnesses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.auditing import controls
from blankcheck.auditing.attempts import Job, Tried, run_attempts
from blankcheck.auditing.controls import Twin
from blankcheck.auditing.portfolio import Preset, within
from blankcheck.classifiers import evaluate
from blankcheck.classifiers.wrapper import device_of, fingerprint, left_as_found, probabilities
from blankcheck.data import Data
from blankcheck.errors import ModelError
from blankcheck.judging import Control, Evidence, OODTest, RealData
from blankcheck.judging.evidence import Attempt, Cost
from blankcheck.outputs import output_form
from blankcheck.types import NEVER, Accept, Classifier, Conditions, Rows, count_lit

Note = Callable[[str, int, int, str], None]
"""Called as note(stage, done, all, words) while the audit goes on."""


@dataclass(frozen=True)
class Witnesses(Rows):
    """Fooling images and their numbers, one row each; `nearest` are the real training images closest in angle."""

    images: Tensor
    targets: Tensor
    confidence: Tensor
    lit: Tensor
    ood_p: Tensor
    nearest: Tensor
    process: Tensor
    """(n,) index into `Gathered.processes`."""


@dataclass(frozen=True)
class Gathered:
    """What an audit found. processes: the names `Witnesses.process` points into."""

    evidence: Evidence
    witnesses: Witnesses
    processes: tuple[str, ...]
    fingerprint: str
    form: str


def ood_test(data: Data, level: float) -> OODTest:
    """The out-of-distribution test that judges audits: fitted and calibrated on half B of the training images.

    Hardening's gate uses half A, so that nothing is trained against the judge.
    """
    return OODTest.fit(data.halves[1].images, level)


def gather(
    classifier: Classifier,
    data: Data,
    conditions: Conditions,
    preset: Preset,
    get_twin: Callable[[], Twin],
    seed: int = 0,
    note: Note = lambda stage, done, all_, words: None,
) -> Gathered:
    """Search, judge, control. The classifier is left as it was found."""
    began = time.monotonic()
    form = check_fits(classifier, data)
    with left_as_found(classifier):
        torch.manual_seed(seed)  # for networks that draw random numbers; the caller's state comes back afterwards
        real = evaluate(classifier, data.test, len(data.classes), conditions.confidence, form)
        judge = ood_test(data, conditions.ood_level)
        job = _job(classifier, form, data, conditions, preset, judge.accepts, seed)
        targets = [t for t in range(len(data.classes)) for _ in range(preset.for_targets(len(data.classes)))]
        note("search", 0, len(targets), "")
        tried = run_attempts(job, targets, _progress(note))
        attempts = _attempts(job, tried, judge)
        failed = [a.target for a in attempts if not a.fooled]
        ran, extra, twin = _controls(job, preset, data, failed, get_twin, note)
        more = [(x, _attempts(x_job, x, judge)) for x_job, x in extra]
    names = tuple(dict.fromkeys(a.process for found in (attempts, *(a for _, a in more)) for a in found))
    cost = [tried.best, *(x.best for _, x in extra)]
    evidence = Evidence(
        conditions=conditions,
        classes=data.classes,
        attempts=attempts,
        tried_by={p.name: int(tried.ran[:, i].sum()) for i, p in enumerate(job.processes) if tried.ran[:, i].any()},
        real=RealData(real.accuracy, real.confident, real.taken_for_fake, real.renormalised_confident, real.per_class),
        controls=ran,
        cost=Cost(
            sum(int(f.forwards.sum()) for f in cost),
            sum(int(f.steps.sum()) for f in cost),
            time.monotonic() - began - twin.seconds,
            twin.seconds,
        ),
        extra=tuple(a for _, found in more for a in found if a.fooled),
        notes={"output_form": form, "twin": twin.what} | _memory(tried.halved + sum(x.halved for _, x in extra)),
    )
    witnesses = _witnesses([(tried, attempts), *more], names, data)
    return Gathered(evidence, witnesses, names, fingerprint(classifier), form)


def _memory(halved: int) -> dict[str, str]:
    return {"memory": f"memory ran out; batches were halved {halved} times"} if halved else {}


def check_fits(classifier: Classifier, data: Data) -> str:
    """The form of the classifier's outputs; ModelError when it does not fit the data."""
    with left_as_found(classifier), torch.no_grad():
        some = data.validation.images[:64].to(device_of(classifier))
        form = output_form(classifier, some)
        outputs = classifier(some).shape[1]
    if outputs < len(data.classes):
        raise ModelError(f"model has {outputs} outputs, data {data.source!r} has {len(data.classes)} classes")
    return form


def _job(classifier: Classifier, form: str, data: Data, want: Conditions, preset: Preset, accept: Accept, seed: int) -> Job:
    return Job(
        classifier, form, data.shape, want, within(preset.steps), enough=max(1, want.max_lit // 10),
        real=(data.validation.images, data.validation.labels), accept=accept, seed=seed, device=device_of(classifier),
    )  # fmt: skip


def _progress(note: Note) -> Callable[[int, int, Tried], None]:
    fooled, lit = 0, []

    def tell(done: int, total: int, part: Tried) -> None:
        nonlocal fooled
        met = part.best.met
        fooled += int(met.sum())
        lit.extend(part.best.lit[met].tolist())
        middle = f", median {sorted(lit)[len(lit) // 2]} lit" if lit else ""
        note("search", done, total, f"{fooled} of {done} fooled{middle}")

    return tell


def _controls(
    job: Job, preset: Preset, data: Data, failed: list[int], get_twin: Callable[[], Twin], note: Note
) -> tuple[tuple[Control, ...], list[tuple[Job, Tried]], Twin]:
    classes = list(range(len(data.classes)))
    sample = max(10, preset.for_targets(len(classes)) * len(classes) // 25)
    note("controls", 0, 5, "gradients")
    ran = [controls.gradient_health(job, classes), controls.repeatable(job, data.validation.images)]
    note("controls", 2, 5, "a plain twin")
    found, twin = controls.positive_control(job, (classes * (1 + 40 // len(classes)))[: max(40, sample)], get_twin)
    note("controls", 3, 5, "ten times the steps")
    steps, harder = controls.more_steps(job, preset.steps, failed, sample)
    note("controls", 4, 5, "other starts")
    starts, other = controls.more_starts(job, preset.steps, failed, 2 * sample)
    note("controls", 5, 5, "")
    return (*ran, found, steps, starts), [t for t in (harder, other) if t is not None], twin


def _attempts(job: Job, tried: Tried, judge: OODTest) -> tuple[Attempt, ...]:
    """Plain numbers of each attempt. Every image is scored again, in other batches than the search used."""
    best, want = tried.best, job.conditions
    p = probabilities(job.classifier, best.images, job.form)
    confidence = p.gather(1, best.targets[:, None]).squeeze(1).tolist()
    lit, ood_p = count_lit(best.images).tolist(), judge.p_values(best.images).tolist()
    names = [process.name for process in job.processes]
    return tuple(
        Attempt(
            target=int(t),
            fooled=c >= want.confidence and k <= want.max_lit and q <= want.ood_level,
            process=names[i],
            lit=k,
            confidence=c,
            ood_p=q,
            fewest=None if few >= NEVER else few,
        )
        for t, c, k, q, i, few in zip(
            best.targets.tolist(), confidence, lit, ood_p, tried.process.tolist(), best.fewest.tolist(), strict=True
        )
    )


def _witnesses(found: list[tuple[Tried, tuple[Attempt, ...]]], names: tuple[str, ...], data: Data) -> Witnesses:
    images, kept = [], []
    for tried, attempts in found:
        index = [i for i, a in enumerate(attempts) if a.fooled]
        images.append(tried.best.images[index])
        kept += [attempts[i] for i in index]
    joined = torch.cat(images)
    return Witnesses(
        images=joined,
        targets=torch.tensor([a.target for a in kept], dtype=torch.int64),
        confidence=torch.tensor([a.confidence for a in kept], dtype=torch.float32),
        lit=torch.tensor([a.lit for a in kept], dtype=torch.int64),
        ood_p=torch.tensor([a.ood_p for a in kept], dtype=torch.float32),
        nearest=nearest_real(joined, data),
        process=torch.tensor([names.index(a.process) for a in kept], dtype=torch.int64),
    )


def nearest_real(images: Tensor, data: Data, among: int = 10_000) -> Tensor:
    """The training images closest in angle, (n, c, h, w) -> (n, c, h, w)."""
    pool = data.train.images[:among]
    flat = pool.flatten(1)
    unit = flat / flat.norm(dim=1, keepdim=True).clamp_min(1e-6)
    near = [pool[(part.flatten(1) @ unit.T).argmax(dim=1)] for part in torch.split(images, 500)]
    return torch.cat(near) if len(images) else images.clone()
