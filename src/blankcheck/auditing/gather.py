"""Classifier + real data + portfolio -> evidence and witnesses."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import torch
from torch import Tensor

from blankcheck.auditing.attack_run import Job, scored_once
from blankcheck.auditing.attempts import AttemptResults, Note, run_attempts, told_as
from blankcheck.auditing.controls.run_all import Finished, Runner
from blankcheck.auditing.controls.setting import Setting, Twins
from blankcheck.auditing.controls.watched import begin
from blankcheck.auditing.judges import Judges
from blankcheck.auditing.onlooker import Met, Onlooker
from blankcheck.auditing.portfolio import Attack, Preset, always, within
from blankcheck.auditing.third_party import ThirdPartyAttack
from blankcheck.auditing.witnesses import (
    Misses,
    Scored,
    Witnesses,
    judged,
    misses,
    rounded_to_8_bits,
    witnesses,
)
from blankcheck.classifiers import evaluate, probabilities
from blankcheck.classifiers.trial import FORM_IMAGES, other_images, try_out
from blankcheck.classifiers.wrapper import device_of, fingerprint, left_as_found
from blankcheck.data import Data, Split
from blankcheck.errors import ModelError
from blankcheck.fooling import TabuSearch
from blankcheck.judging import FIRST, Evidence, OODTest, RealData, Score
from blankcheck.judging.evidence import Black, Cost, OODRecord
from blankcheck.outputs import run
from blankcheck.parallel.spread import Spread, alone
from blankcheck.types import Classifier, Conditions, Images

ALARMS_AMONG = 2000
"""Real test images on which false alarms are counted."""
MOST_STARTS = 10_000
"""Real validation images that searches start from, at most."""


@dataclass(frozen=True)
class Gathered:
    """What an audit found. processes: the names `Witnesses.process` points into."""

    evidence: Evidence
    witnesses: Witnesses
    misses: Misses
    processes: tuple[str, ...]
    fingerprint: str
    form: str


# the arguments are those of an audit; it is long because each step needs what others found
def gather(
    classifier: Classifier,
    data: Data,
    conditions: Conditions,
    preset: Preset,
    twins: Twins,
    seed: int = 0,
    note: Note = lambda stage, done, all_, words: None,
    scores: Sequence[Score] = FIRST,
    third_party: Sequence[ThirdPartyAttack] = (),
    lacking: str = "",
    spread: Spread = alone,
) -> Gathered:
    """Search, judge, control. The classifier is left as it was found.

    Args:
        classifier: from images (n, c, h, w) in [0, 1] to outputs (n, m).
        data: real images.
        conditions: what makes a fooling image.
        preset: how hard to look.
        twins: makes plainly trained networks for the positive control.
        seed: of all random numbers.
        note: told of progress.
        scores: of the out-of-distribution test.
        third_party: attacks of other libraries to run besides.
        lacking: which of those could not be had, and why.
        spread: by which processes share the work; all of them get the whole result.
    """
    began, classes = time.monotonic(), len(data.classes)
    form, met = check_fits(classifier, data), list[Met]()
    with left_as_found(classifier, seed):
        note("real", 0, 2, "real test images")
        real = evaluate(classifier, data.test, classes, conditions.confidence, form)
        black = black_of(classifier, form, data)
        note("real", 1, 2, "the out-of-distribution test")
        judges = Judges.fit(data, conditions.ood_level, scores, spread)
        note("real", 2, 2, f"{real.accuracy:.2%} right, {real.confident:.2%} right and confident")
        judge = judges.first
        onlooker = Onlooker(classifier, form, classes, conditions, judge.accepts)
        usual, unusual = _usual(data.validation, judge)
        job = Job(
            onlooker,
            form,
            data.shape,
            conditions,
            within(preset.steps),
            stop_at_lit=max(1, conditions.max_lit // 10),
            real=(usual.images, usual.labels) if len(usual) else None,
            accept=onlooker.accepts,
            seed=seed,
            device=device_of(onlooker),
        )
        each = preset.for_targets(len(data.targets))
        targets = [target for target in data.targets for _ in range(each)]
        began_as = begin(job, classes, usual.images)
        note("search", 0, len(targets), "")
        tried = run_attempts(job, targets, told_as(note), onlooker.over(spread, met))
        # looked at as well: a network may be sure of what is left of an image after rounding
        (fixed,) = onlooker.over(alone, met)(1, lambda _: judged(job, tried, judges))
        real_images = usual.images, data.test
        made = job, preset, fixed.attempts, tried
        setting = Setting(*made, *real_images, classes, twins, began_as, data.targets)
        runner = Runner(setting, judges, third_party, lacking)
        finished = runner.run(partial(note, "controls"), onlooker.over(spread, met))
        by_the_way = _by_the_way(job, met, fixed, judges)
    extra = [*(scored for each in finished for scored in each.extra), *by_the_way]
    names = tuple(dict.fromkeys(a.process for scored in (fixed, *extra) for a in scored.attempts))
    twin = next((each.twin for each in finished if each.twin is not None), None)
    splits = tried.oom_splits + sum(each.oom_splits for each in finished)
    memory = {"memory": f"memory ran out; batches were halved {splits} times"} if splits else {}
    asked = sum(each.asked for each in met)
    evidence = Evidence(
        conditions=conditions,
        classes=data.classes,
        attempts=fixed.attempts,
        tried_by=_tried_by(job, tried),
        real=RealData(**{f.name: getattr(real, f.name) for f in fields(RealData)}),
        controls=tuple(each.control for each in finished),
        cost=_cost(tried, finished, time.monotonic() - began),
        extra=tuple(a for scored in extra for a in scored.attempts if a.fooled),
        rivals=_third_party(finished),
        twin=next((each.on_twin for each in finished if each.on_twin is not None), None),
        ood=_record(judges, data.test.sample(ALARMS_AMONG, 0).images, asked, unusual),
        black=black,
        notes={"output_form": form, "twin": twin or "none"} | memory,
    )
    found = witnesses([fixed, *extra], names, data)
    missed = misses(fixed, conditions, data)
    return Gathered(evidence, found, missed, names, fingerprint(classifier), form)


def black_of(classifier: Classifier, form: str, data: Data) -> Black | None:
    """What the network says of the black image; None where that is no number."""
    p = probabilities(classifier, torch.zeros(1, *data.shape), form)[0, : len(data.classes)]
    return Black(int(p.argmax()), float(p.max())) if bool(p.isfinite().all()) else None


def _usual(real: Split, judge: OODTest) -> tuple[Split, int]:
    """Real images that searches may start from, and the number of others: those that the test
    itself calls out of distribution. An image that is one of these is no witness."""
    real = real.sample(MOST_STARTS, 0) if len(real) > MOST_STARTS else real
    usual = judge.p_values(real.images) > judge.level
    return real.take(usual.nonzero().squeeze(1)), int((~usual).sum())


def _by_the_way(job: Job, met: Sequence[Met], fixed: Scored, judges: Judges) -> list[Scored]:
    """The sparsest witness met by the way of each class that no attempt found, 8-bit or not."""
    wanted = {a.target for a in fixed.attempts} - {a.target for a in fixed.attempts if a.fooled}
    pairs = [pair for m in met for pair in zip(m.classes.tolist(), m.images, strict=True)]
    pairs = [(target, image) for target, image in pairs if target in wanted]
    if not pairs:
        return []
    images, targets = torch.stack([image for _, image in pairs]), [target for target, _ in pairs]
    # the attack only gives the images a name
    shown = replace(job, attacks=(Attack("any", "search", always(TabuSearch()), 1),))
    both = torch.cat([images, rounded_to_8_bits(images)])
    best = scored_once(shown, both, torch.tensor(targets).repeat(2))
    sparsest: dict[int, int] = {}
    for row in best.lit.argsort(stable=True).tolist():
        if bool(best.met[row]):
            sparsest.setdefault(int(best.targets[row]), row)
    best = best.rows(torch.tensor(list(sparsest.values()), dtype=torch.int64))
    results = AttemptResults.of(best)
    return [judged(shown, results, judges, label="by the way")] if sparsest else []


def _tried_by(job: Job, tried: AttemptResults) -> dict[str, int]:
    """For each attack the attempts it was run for; some stand in a portfolio more than once."""
    ran: dict[str, Tensor] = {}
    for attack, rows in zip(job.attacks, tried.ran.T, strict=True):
        ran[attack.name] = ran.get(attack.name, torch.zeros_like(rows)) | rows
    return {name: int(rows.sum()) for name, rows in ran.items() if bool(rows.any())}


def _third_party(finished: Sequence[Finished]) -> dict[str, tuple[int, ...]]:
    """For each attack, how many searches it made and the lit features of its fooling images."""
    return {
        rule: (len(scored.attempts), *(a.lit for a in scored.attempts if a.fooled))
        for each in finished
        if each.control.code == "rivals"
        for rule, scored in zip(each.rules, each.extra, strict=True)
    }


def _cost(tried: AttemptResults, finished: Sequence[Finished], seconds: float) -> Cost:
    """seconds: of the whole, training of twins included."""
    forward = int(tried.best.forwards.sum()) + sum(each.forward for each in finished)
    backward = int(tried.best.steps.sum()) + sum(each.backward for each in finished)
    twins = sum(each.twin_seconds for each in finished)
    return Cost(forward, backward, seconds - twins, twins)


def _record(judges: Judges, real: Images, asked: int, unusual: int) -> OODRecord:
    judge = judges.first
    alarms = int((judge.p_values(real) <= judge.level).sum())
    of_test = judge.guarantee, judge.names, judge.smallest_p, alarms, len(real)
    others = judge.calibrating, judges.odd.names
    return OODRecord(*of_test, judges.second.names, asked, unusual, *others)


def check_fits(classifier: Classifier, data: Data) -> str:
    """The form of the classifier's outputs; ModelError when it does not fit the data."""
    some = data.validation.images[:FORM_IMAGES]
    try:
        form = try_out(classifier, some)
    except ModelError as error:
        advice = other_images(classifier, some)
        raise ModelError(
            f"{error}; the images are those of data {data.source!r}{advice}"
        ) from error
    with left_as_found(classifier), torch.no_grad():
        outputs = run(classifier, some[:1].to(device_of(classifier), copy=True)).shape[1]
    classes = len(data.classes)
    if outputs < classes:
        raise ModelError(f"model has {outputs} outputs, data {data.source!r} has {classes} classes")
    return form
