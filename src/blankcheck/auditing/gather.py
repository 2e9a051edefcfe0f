"""Classifier + real data + portfolio -> evidence and witnesses."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from blankcheck.auditing import harder, probes
from blankcheck.auditing.attempts import Job, Tried, run_attempts
from blankcheck.auditing.controls import Experiment, Setting, Twins
from blankcheck.auditing.planted_control import planted_control
from blankcheck.auditing.portfolio import Preset, within
from blankcheck.auditing.rival_control import rivals as rival_control
from blankcheck.auditing.rivals import Rival
from blankcheck.auditing.witnesses import Scored, Witnesses, judged, witnesses
from blankcheck.classifiers import evaluate
from blankcheck.classifiers.wrapper import device_of, fingerprint, left_as_found
from blankcheck.data import Data
from blankcheck.errors import ModelError
from blankcheck.judging import FIRST, SECOND, Evidence, OODTest, RealData, Score
from blankcheck.judging.check_rules import MIN_CONTROL_RATE
from blankcheck.judging.evidence import Cost, OODRecord
from blankcheck.outputs import output_form
from blankcheck.types import Accept, Classifier, Conditions, Fooling

Note = Callable[[str, int, int, str], None]
"""Called as note(stage, done, all, words) while the audit goes on."""

ALARMS_AMONG = 2000
"""Real test images on which false alarms are counted."""
PROBES = (probes.gradient_health, probes.repeatable, probes.batch_independent, probes.best_kept, probes.saturation)
SEARCHES = (
    planted_control, harder.more_steps, harder.more_restarts, harder.more_starts, harder.penalty_weights,
    harder.tighter_limit, harder.close_calls, harder.gradient_free, harder.unbounded,
)  # fmt: skip


@dataclass(frozen=True)
class Gathered:
    """What an audit found. processes: the names `Witnesses.process` points into."""

    evidence: Evidence
    witnesses: Witnesses
    processes: tuple[str, ...]
    fingerprint: str
    form: str


def ood_test(data: Data, level: float, scores: Sequence[Score] = FIRST) -> OODTest:
    """The out-of-distribution test that judges audits: fitted and calibrated on half B of the training images.

    Hardening's gate uses half A, so that nothing is trained against the judge.
    """
    return OODTest.fit(data.halves[1].images, level, scores=scores)


def gather(
    classifier: Classifier,
    data: Data,
    conditions: Conditions,
    preset: Preset,
    twins: Twins,
    seed: int = 0,
    note: Note = lambda stage, done, all_, words: None,
    scores: Sequence[Score] = FIRST,
    rivals: Sequence[Rival] = (),
    lacking: str = "",
) -> Gathered:
    """Search, judge, control. The classifier is left as it was found.

    scores: of the out-of-distribution test. rivals: attacks of other libraries to run besides; lacking: which could not be
    had, and why.
    """
    began = time.monotonic()
    form = check_fits(classifier, data)
    with left_as_found(classifier):
        torch.manual_seed(seed)  # for networks that draw random numbers; the caller's state comes back afterwards
        real = evaluate(classifier, data.test, len(data.classes), conditions.confidence, form)
        judge, second = ood_test(data, conditions.ood_level, scores), ood_test(data, conditions.ood_level, SECOND)
        job = _job(classifier, form, data, conditions, preset, judge.accepts, seed)
        targets = [t for t in range(len(data.classes)) for _ in range(preset.for_targets(len(data.classes)))]
        note("search", 0, len(targets), "")
        tried = run_attempts(job, targets, _progress(note))
        fixed = judged(job, tried, judge, second)
        setting = Setting(job, preset, fixed.attempts, tried, data.validation.images, len(data.classes), twins)
        experiments = [*_experiments(setting, note), rival_control(setting, rivals, lacking)]
        extra = [
            judged(other, found, judge, second, label=e.control.code, want=conditions)
            for e in experiments for other, found in e.searches
        ]  # fmt: skip
    names = tuple(dict.fromkeys(a.process for scored in (fixed, *extra) for a in scored.attempts))
    spent = [tried.best, *(x.best for e in experiments for _, x in e.searches), *(f for e in experiments for f in e.spent)]
    twin = next((e.twin for e in experiments if e.twin is not None), None)
    evidence = Evidence(
        conditions=conditions,
        classes=data.classes,
        attempts=fixed.attempts,
        tried_by={p.name: int(tried.ran[:, i].sum()) for i, p in enumerate(job.processes) if tried.ran[:, i].any()},
        real=RealData(real.accuracy, real.confident, real.taken_for_fake, real.renormalised_confident, real.per_class),
        controls=tuple(e.control for e in experiments),
        cost=_cost(spent, time.monotonic() - began, sum(e.twin_seconds for e in experiments)),
        extra=tuple(a for scored in extra for a in scored.attempts if a.fooled),
        rivals=_rivals(experiments, extra),
        ood=_record(judge, second, data.test.sample(ALARMS_AMONG, 0).images),
        notes={"output_form": form, "twin": twin.what if twin is not None else "none"} | _memory([tried], experiments),
    )
    return Gathered(evidence, witnesses([fixed, *extra], names, data), names, fingerprint(classifier), form)


def _rivals(experiments: Sequence[Experiment], extra: Sequence[Scored]) -> dict[str, tuple[int, ...]]:
    """For each rival, how many searches it made and the lit features of its fooling images."""
    owners = [(e.control.code, job) for e in experiments for job, _ in e.searches]
    return {
        job.processes[0].rule: (len(scored.attempts), *(a.lit for a in scored.attempts if a.fooled))
        for (code, job), scored in zip(owners, extra, strict=True)
        if code == "rivals"
    }


def _cost(spent: Sequence[Fooling], seconds: float, twin_seconds: float) -> Cost:
    forward, backward = sum(int(f.forwards.sum()) for f in spent), sum(int(f.steps.sum()) for f in spent)
    return Cost(forward, backward, seconds - twin_seconds, twin_seconds)


def _record(judge: OODTest, second: OODTest, real: Tensor) -> OODRecord:
    alarms = int(judge.accepts(real).sum())
    return OODRecord(judge.guarantee, tuple(judge.names), judge.smallest_p, alarms, len(real), tuple(second.names))


def _memory(tried: list[Tried], experiments: Sequence[Experiment]) -> dict[str, str]:
    halved = sum(t.halved for t in (*tried, *(x for e in experiments for _, x in e.searches)))
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


def _experiments(setting: Setting, note: Note) -> list[Experiment]:
    """Every control, in an order that shows early what is cheap to see."""
    steps = len(PROBES) + len(SEARCHES) + 2
    done: list[Experiment] = []

    def run(words: str, experiment: Experiment) -> Experiment:
        done.append(experiment)
        note("controls", len(done), steps, words)
        return experiment

    note("controls", 0, steps, "")
    for probe in PROBES:
        run(probe.__name__.replace("_", " "), probe(setting))
    twin = run("a plain twin", harder.positive_control(setting, MIN_CONTROL_RATE)).twin
    for search in SEARCHES:
        run(search.__name__.replace("_", " "), search(setting))
    run("images of the twin", harder.transfer(setting, twin))
    return done
