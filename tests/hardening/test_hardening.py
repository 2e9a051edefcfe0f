from __future__ import annotations

import copy
import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import blankcheck as bc
from blankcheck.api.bars import RESUMED
from blankcheck.auditing import Twin, ood_test
from blankcheck.classifiers import build
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.cli.main import main
from blankcheck.errors import ArgumentError, ModelError, RunFolderError
from blankcheck.hardening import Hardening, HardeningPlan
from blankcheck.hardening.context import SourceContext
from blankcheck.hardening.history import plateau
from blankcheck.hardening.sources import Sets, make_set
from blankcheck.hardening.structures import NEAREST, SUREST, Structured
from blankcheck.hardening.trainer import UNSURE, Trainer
from blankcheck.judging import OODTest
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.state import STATE
from blankcheck.types import count_lit

SMALL = HardeningPlan(
    epochs=6,
    rounds=3,
    buffer=128,
    fresh_attempts=10,
    fresh_steps=40,
    set_images=100,
    every=5,
    stop_rate=0,
)


LEARN = Trainer._learn


def hardening(digits, plan=SMALL, twin=lambda: None) -> Hardening:
    network = build("mlp", digits.shape, 10, digits.mean_and_std(), 0)
    return Hardening(network, digits, plan, seed=0, twin=twin)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": "rounds", "network": "fresh"},
        pytest.param({"schedule": "batches", "pretrain": 1, "anneal": 0.5}, marks=pytest.mark.slow),
        pytest.param({"schedule": "none", "certify": 2}, marks=pytest.mark.slow),
    ],
    ids=lambda c: c.get("schedule", "continuous"),
)
def test_going_on_after_a_stop_equals_not_stopping(digits, changes):
    plan = replace(SMALL, **changes)
    whole, rounds = hardening(digits, plan), []
    for made in whole.rounds():
        rounds.append(made)
        if made.index == 0:
            stopped = copy.deepcopy((whole.state(), whole.records))
    second = hardening(digits, plan)
    second.load_state(*stopped)
    assert [r.index for r in second.rounds()] == [1, 2]
    assert fingerprint(second.classifier) == fingerprint(whole.classifier)
    assert second.history == rounds and second.records == whole.records
    assert second.kept.index == whole.kept.index


def test_going_on_under_another_plan_is_refused_with_the_difference(digits):
    first = hardening(digits)
    with pytest.raises(ArgumentError, match=r"weight was 12.0, is 0.7; keep was 0.5, is 0.1"):
        hardening(digits, replace(SMALL, fooling_weight=0.7, keep=0.1)).load_state(first.state())


def test_state_survives_the_file_and_a_kill(digits, tmp_path):
    """A run stopped by an exception in its second round goes on from the first and ends as if it
    had not stopped."""
    options = dict(epochs=4, rounds=2, seed=0)
    whole = bc.harden("mlp", digits, **options)
    run = RunFolder.create(tmp_path / "h")
    run.begin("harden", {}, torch.device("cpu"))

    def stop(made, batch, batches, words):
        if made is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bc.harden("mlp", digits, **options, run=run, watch=stop)
    assert [r["index"] for r in run.read_lines("metrics.jsonl") if r["kind"] == "round"] == [0]
    told = []
    watch = lambda made, *numbers: told.append((made and made.index, numbers))  # noqa: E731
    again = bc.harden("mlp", digits, **options, run=run, resume=True, watch=watch)
    assert told[0] == (0, (0, 0, RESUMED)) and told[-1] == (1, (0, 0, ""))
    assert fingerprint(again.model) == fingerprint(whole.model) and again.rounds == whole.rounds
    timed = {"training_seconds", "looking_seconds", "images_per_second"}
    assert [{k: v for k, v in r.items() if k not in timed} for r in again.records] == [
        {k: v for k, v in r.items() if k not in timed} for r in whole.records
    ]
    run.write(STATE, b"damaged")
    with pytest.raises(RunFolderError, match="is damaged, or is no state"):
        bc.harden("mlp", digits, **options, run=run, resume=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A command that hardens, and the folder it wrote."""
    options = ["harden", "--epochs", "6", "--rounds", "3", "--preset", "smoke", "--quiet"]
    folder = tmp_path_factory.mktemp("undisturbed") / "whole"
    assert main([*options, "--out", str(folder)]) in (0, 10, 11)
    return [*options, "--out"], folder


KILLED = """
import os, signal, sys
from blankcheck.cli.main import main

folder, left = sys.argv[1], int(sys.argv[2])

def kill(event, given):
    global left
    if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(given[0]).startswith(folder):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
sys.exit(main(sys.argv[3:]))
"""
"""The command line, killed at the so many-th time that it opens, renames or removes something in a
folder: between any two steps of writing, however fast the machine is."""


@pytest.mark.parametrize("kills", [pytest.param(n, marks=pytest.mark.slow) for n in (1, 6)])
def test_kill_at_random_moments_loses_at_most_a_round(undisturbed, tmp_path, kills):
    """`kill -9` again and again, at some step of writing or other; what comes out in the end is
    what comes out of an undisturbed run."""
    (command, whole), folder, draw = undisturbed, tmp_path / "killed", random.Random(kills)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(kills):
        resume = ["--resume"] if (folder / "environment.json").is_file() else []
        began, steps = rounds(folder), str(draw.randint(5, 60))
        words = [sys.executable, "-c", KILLED, str(folder), steps, *command, str(folder)]
        subprocess.run([*words, *resume], env=environment, stderr=subprocess.DEVNULL, check=False)
        assert rounds(folder) >= began
    words = [sys.executable, "-m", "blankcheck", *command, str(folder), "--resume"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode in (0, 10, 11), done.stderr
    first, second = (load_file(each / "model.safetensors") for each in (whole, folder))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert rounds(folder) == rounds(whole) == 3


def rounds(folder: Path) -> int:
    file = folder / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.is_file() else []
    return sum(json.loads(line)["kind"] == "round" for line in lines)


def test_hardening_works_on_digits(digits, plain):
    """The main claim, small: what fools a plain network does not fool a hardened one of equal
    accuracy."""
    hardened = bc.harden("mlp", digits, epochs=80, rounds=4)
    before, after = (
        bc.fool(m, range(10), 10, data=digits, steps=150) for m in (plain, hardened.model)
    )
    assert before.met.all() and after.met.float().mean() <= 0.1
    with torch.no_grad():
        right = hardened.model(digits.test.images).argmax(1) == digits.test.labels
        plainly = plain(digits.test.images).argmax(1) == digits.test.labels
    assert right.float().mean() >= plainly.float().mean() - 0.01
    assert not hardened.model.training


@pytest.mark.parametrize(
    "objective", [pytest.param("reject-class", marks=pytest.mark.slow), "fake-classes"]
)
def test_objectives_with_more_outputs(digits, objective, tmp_path):
    hardened = bc.harden("mlp", digits, objective, epochs=30, rounds=3, pretrain=9)
    assert hardened.rounds[-1].validation_accuracy > 0.9
    shown = [
        r
        for r in hardened.records
        if r["kind"] == "set" and r["what"] == "trained" and r["round"] == 2
    ]
    assert (
        all(0 <= r["right_fake"] <= r["non_real"] <= 1 for r in shown)
        and shown[-1]["non_real"] > 0.3
    )
    assert hardened.rounds[-1].fresh_confident < hardened.rounds[0].fresh_confident + 0.2
    folder = hardened.save(tmp_path / "run").path
    assert fingerprint(bc.load_model("mlp", folder / "model.safetensors")) == fingerprint(
        hardened.model
    )


def test_gate_and_judge_share_no_real_image(digits, monkeypatch):
    seen, fit = [], OODTest.fit

    def fitted(cls, images, *others, **named):
        seen.append({tuple(row) for row in images.flatten(1).tolist()})
        return fit(images, *others, **named)

    monkeypatch.setattr(OODTest, "fit", classmethod(fitted))
    hardening(digits)
    ood_test(digits, 0.01)
    gate, judge = seen
    assert len(gate) > 200 and len(judge) > 200
    assert len(gate & judge) <= 2, "a handful of digits are drawn twice in the original set"


def test_mistakes(digits):
    with pytest.raises(ArgumentError, match="objective must be one of"):
        bc.harden("mlp", digits, "hope")
    for options, words in (
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"schedule": "never"}, "schedule must be one of continuous, rounds, batches, none"),
        ({"weight": -1}, "weight must be a number"),
        ({"weight": float("nan")}, "weight must be a number"),
        ({"epochs": 3, "pretrain": 3}, "pretrain must lie in 0..2"),
        ({"keep": 1.5}, r"keep must lie in \[0, 1\]"),
        ({"patience": 0}, "patience must be at least 1"),
        ({"anneal": 0}, "anneal must lie in"),
        ({"certify": 0}, "certify must be at least 1"),
        ({"certify": 65}, r"certify must lie in 1\.\.64"),
        ({"certify": 5, "certify_weight": 0}, "certify_weight must be a number above 0"),
        ({"schedule": "none"}, "schedule 'none' trains on no fooling images and needs certify"),
        ({"hope": 1}, "harden knows no option 'hope'"),
    ):
        with pytest.raises(ArgumentError, match=words):
            bc.harden("mlp", digits, **options)
    with pytest.raises(ModelError, match="needs a model with 11 outputs, this one has 10"):
        bc.harden(build("mlp", digits.shape, 10), digits, "reject-class")
    with pytest.raises(ModelError, match="needs a model that gives logits"):
        bc.harden(torch.nn.Sequential(build("mlp", digits.shape, 10), torch.nn.Softmax(1)), digits)
    smooth = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10), torch.nn.GELU("tanh"))
    with pytest.raises(ModelError, match="gelu.*cannot be certified"):
        bc.harden(smooth, digits, certify=5)


def test_a_set_holds_only_what_the_plan_asks_for(digits, plain):
    def context_of(prune: str) -> SourceContext:
        work = hardening(digits, replace(SMALL, prune=prune))
        work.classifier.load_state_dict(plain.state_dict())
        return work.context

    every, outside, fooling = (make_set(context_of(prune))[0] for prune in ("none", "ood", "all"))
    assert len(every) == 100 > len(outside) > len(fooling) > 0
    context = context_of("all")
    images, targets, weights = make_set(context)
    assert (
        weights
        == torch.where(
            context.ood_filter.p_values(images) <= context.ood_filter.smallest_p, 3.0, 1.0
        )
    ).all()
    assert (context.ood_filter.p_values(images) <= context.strict).all() and (
        count_lit(images) <= 12
    ).all()
    with torch.no_grad():
        assert (context.classifier(images).softmax(1).gather(1, targets[:, None]) >= 0.9).all()


def test_sets_keep_a_share_of_the_earlier_ones(digits):
    work = hardening(digits, replace(SMALL, schedule="rounds", prune="none", keep=0.25))
    assert isinstance(work.source, Sets)
    for count, pool in ((1, 100), (2, 125), (3, 150)):
        work.source.begin_round(work.context)
        assert len(work.source.made[1]) == 100 * count and len(work.source.pool) == pool
        assert set(range(100 * (count - 1), 100 * count)) <= set(work.source.pool.tolist()), (
            "the newest is used whole"
        )
    by_batches = Sets(every=2)
    by_batches.begin_round(work.context)
    for made in (1, 1, 2, 2, 3):
        by_batches.batch(work.context)
        assert len(by_batches.made[1]) == 100 * made
    fresh = hardening(
        digits, replace(SMALL, schedule="rounds", prune="none", keep=0.25, network="fresh")
    )
    for count in (1, 2, 3):
        fresh.source.begin_round(fresh.context)
        assert len(fresh.source.pool) == 100 * count, "a network that starts again sees all of them"


def test_structured_images_are_trained_on_where_the_network_is_surest(digits, plain):
    work = hardening(digits)
    work.classifier.load_state_dict(plain.state_dict())
    source, context, alone = work.source, work.context, work.trainer.plan.fooling_batch
    assert source.batch(context).seen == alone, "before the first round there are none"
    assert not context.structures.starts(torch.arange(3), context.generator).any()
    context.draw_structures()
    first = context.structures.images
    assert len(first) > 1000 and (context.ood_filter.p_values(first) <= context.strict).all()
    assert (count_lit(first) <= context.conditions.max_lit).all()
    context.draw_structures()
    assert not torch.equal(first[-100:], context.structures.images[-100:]), "anew in each round"
    p = context.classifier.eval()(first).softmax(1)
    order = p.amax(1).argsort()
    context.structures = Structured(first[order[[0, -1]]], torch.ones(10, 1, dtype=torch.int64))
    found = source.batch(context)
    assert (found.images[-SUREST:] == first[order[-1]]).all() and found.seen == alone + SUREST
    assert (found.targets[-SUREST:] == p[order[-1]].argmax()).all()


def test_searches_start_from_structured_images_near_to_their_class(digits, plain):
    work = hardening(digits)
    work.classifier.load_state_dict(plain.state_dict())
    work.context.draw_structures()
    targets = torch.arange(10).repeat(20)
    starts = work.context.structures.starts(targets, work.context.generator)
    p = work.classifier.eval()(starts).softmax(1).gather(1, targets[:, None])
    all_ = work.classifier(work.context.structures.images).softmax(1)
    least = all_.sort(dim=0, descending=True).values[NEAREST - 1]
    assert (p.squeeze(1) >= least[targets] - 1e-6).all()


def test_what_is_looked_at_and_kept_is_an_average_of_the_weights(digits, monkeypatch):
    work, seen = hardening(digits, replace(SMALL, epochs=3, rounds=2, pretrain=1, average=0.1)), []

    def learn(trainer, *given):
        LEARN(trainer, *given)
        seen.append(trainer.classifier.state_dict()["network.1.weight"].clone())

    monkeypatch.setattr(Trainer, "_learn", learn)
    list(work.rounds())
    batches = work.trainer.batches_in(1)
    average, share = seen[batches - 1], 1 / (0.1 * 3 * batches)
    for weight in seen[batches:]:
        average = average.lerp(weight, share)
    assert len(seen) == 3 * batches and work.kept.index == 1
    assert torch.allclose(work.kept.network["network.1.weight"], average, atol=1e-6)
    assert torch.equal(work.classifier.state_dict()["network.1.weight"], seen[-1])
    with work.trainer.averaged():
        mine = work.classifier.state_dict()
        assert all(torch.equal(mine[name], of) for name, of in work.kept.network.items())


def test_without_an_average_the_weights_are_kept_as_they_are(digits):
    work = hardening(digits, replace(SMALL, epochs=1, rounds=1, average=0.0))
    list(work.rounds())
    now = work.classifier.state_dict()
    assert all(torch.equal(now[name], of) for name, of in work.kept.network.items())


def test_what_is_to_be_proved_trains_on_no_searched_images_unless_told_to():
    assert HardeningPlan.of(60000).schedule == "continuous"
    proved = HardeningPlan.of(60000, certify=3)
    assert (proved.schedule, proved.pretrain) == ("none", 0)
    assert HardeningPlan.of(60000, certify=3, schedule="continuous").pretrain > 0


def test_less_sureness_is_asked_for_where_plain_training_leaves_many_unsure(digits):
    plan = HardeningPlan.of(60000)
    assert plan.eased and not HardeningPlan.of(60000, sureness=40).eased
    assert not HardeningPlan.of(300).eased and not HardeningPlan.of(60000, trained=True).eased
    trainer = hardening(digits, replace(SMALL, sureness=10.0)).trainer
    for unsure, asked in ((0.0, 10), (UNSURE, 10), (2 * UNSURE, 5), (10 * UNSURE, 1)):
        trainer.ease(unsure)
        assert trainer.sureness == pytest.approx(asked)
    work = hardening(digits, replace(SMALL, pretrain=1, eased=True))
    next(work.rounds())
    assert 0 < work.trainer.sureness < work.plan.sureness
    again = hardening(digits, work.plan)
    again.load_state(work.state())
    assert again.trainer.sureness == work.trainer.sureness


@pytest.mark.slow
def test_hardening_ends_early_when_the_search_fails(digits):
    """Every rate is good enough here: the first round whose network is confident, and like the one
    before not surer than earlier ones, is followed by one last round at the end of the
    learning-rate schedule."""
    work = hardening(digits, replace(SMALL, epochs=80, rounds=16, stop_rate=1.0))
    sure = [r.validation_confident for r in work.rounds()]
    settled = [sure[n - 1] >= 0.9 and plateau(sure[:n], 2) for n in range(1, len(sure))]
    assert len(sure) < 16 and settled == [False] * (len(sure) - 2) + [True]
    assert work.trainer.schedule.last_epoch == work.trainer.schedule.total_steps - 1
    patient = hardening(digits, replace(SMALL, epochs=40, rounds=10, patience=1, network="fresh"))
    scores = [r.harmonic for r in patient.rounds()]
    assert plateau(scores, 1) and not any(plateau(scores[:n], 1) for n in range(1, len(scores)))


def test_every_set_is_shown_to_every_network(digits, plain):
    work = hardening(digits, twin=lambda: Twin(plain, "logits", "a plain twin"))
    made = list(work.rounds())
    shown = [(r["what"], r["round"], r["set_round"]) for r in work.records if r["kind"] == "set"]
    for what in ("trained", "fresh"):
        assert [s[1:] for s in shown if s[0] == what] == [
            (r, i) for r in range(3) for i in range(r + 1)
        ]
    processes = ("random-search", "differential-evolution", "saliency")
    for what in ("twin", *(f"twin:{p}" for p in processes)):
        assert [s[1:] for s in shown if s[0] == what] == [(r, None) for r in range(3)]
    for p in processes:
        assert [s[1:] for s in shown if s[0] == f"own:{p}"] == [(r, r) for r in range(3)]
    own = {
        r["round"]: r
        for r in work.records
        if r["kind"] == "set" and r["what"] == "fresh" and r["set_round"] == r["round"]
    }
    assert [own[i]["fooled"] for i in range(3)] == pytest.approx([r.fresh_rate for r in made])
    assert sum(r["kind"] == "batch" for r in work.records) == 6 * work.trainer.batches_in(1)
    for kind in ("training", "search", "real", "batch"):
        assert any(r["kind"] == kind for r in work.records)


def test_with_the_twin_held_out_no_image_of_half_b_is_trained_on(digits):
    work = hardening(digits, replace(SMALL, hold_out_twin=True))
    assert work.train is digits.halves[0] and work.trainer.data is digits.halves[0]
    rows = {row.numpy().tobytes() for row in digits.halves[0].images}
    assert {row.numpy().tobytes() for row in work.context.real[0]} <= rows
