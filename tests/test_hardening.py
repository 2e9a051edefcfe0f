from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

import blankcheck as bc
from blankcheck.classifiers import TrainingPlan, build
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.errors import ArgumentError, ModelError, RunFolderError
from blankcheck.hardening import Hardening, HardeningPlan, best_round, harmonic, objective_named
from blankcheck.hardening.objectives import fake_classes, max_entropy, reject_class
from blankcheck.hardening.replay import keep_largest
from blankcheck.running.harden import STATE
from blankcheck.running.run_folder import RunFolder

SMALL = HardeningPlan(TrainingPlan(6), rounds=3, buffer=128, fresh_attempts=10, fresh_steps=40)


def hardening(digits, seed=0, plan=SMALL) -> Hardening:
    network = build("mlp", digits.shape, 10, digits.mean_and_std(), seed)
    return Hardening(network, digits, objective_named("max-entropy"), plan, seed=seed)


def test_objectives_known_answers():
    flat, targets = torch.zeros(2, 4), torch.tensor([0, 1])
    assert_close(max_entropy(flat, targets, 4), torch.zeros(2))
    sure = torch.tensor([[20.0, 0, 0, 0]])
    assert_close(max_entropy(sure, targets[:1], 4), torch.tensor([15.0]) - torch.tensor(4.0).log(), atol=1e-4, rtol=0)
    assert_close(fake_classes(torch.eye(4)[[2, 3]] * 50, targets, 2), torch.zeros(2))
    assert_close(reject_class(torch.eye(3)[[2, 2]] * 50, targets, 2), torch.zeros(2))
    assert [objective_named(n).outputs(10) for n in ("max-entropy", "reject-class", "fake-classes")] == [10, 11, 20]


def test_harmonic_mean_and_selection():
    assert harmonic(1, 1) == 1 and harmonic(0.5, 1) == pytest.approx(2 / 3) and harmonic(0, 1) == harmonic(1, 0) == 0
    assert best_round([0.2, 0.9, 0.95, 0.93]) == 3 and best_round([0.2, 0.95, 0.5]) == 1


def test_keep_largest():
    image = torch.tensor([[0.1, 0.5], [0.3, 0.9]]).view(1, 1, 2, 2)
    assert keep_largest(image, torch.tensor([2])).flatten().tolist() == pytest.approx([0, 0.5, 0, 0.9])
    assert torch.equal(keep_largest(image, torch.tensor([4])), image)


def test_going_on_after_a_stop_equals_not_stopping(digits):
    whole = hardening(digits)
    rounds = list(whole.rounds())
    first = hardening(digits)
    for _ in first.rounds():
        break
    second = hardening(digits, seed=0)
    second.load_state(first.state())
    rest = list(second.rounds())
    assert [r.index for r in rest] == [1, 2]
    assert fingerprint(second.classifier) == fingerprint(whole.classifier)
    assert [replace(r) for r in second.history] == rounds


def test_state_survives_the_file_and_a_kill(digits, tmp_path):
    """A run stopped by an exception in its second round goes on from the first and ends as if it had not stopped."""
    options = dict(epochs=4, rounds=2, seed=0)
    whole = bc.harden("mlp", digits, **options)
    run = RunFolder.create(tmp_path / "h")
    run.begin("harden", {}, torch.device("cpu"))

    def stop(made, batch, batches, words):
        if made is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bc.harden("mlp", digits, **options, run=run, watch=stop)
    assert [r["index"] for r in run.read_lines("metrics.jsonl")] == [0]
    again = bc.harden("mlp", digits, **options, run=run, resume=True)
    assert fingerprint(again.model) == fingerprint(whole.model) and again.rounds == whole.rounds
    run.write(STATE, b"damaged")
    with pytest.raises(RunFolderError, match="does not fit this run"):
        bc.harden("mlp", digits, **options, run=run, resume=True)


def test_hardening_works_on_digits(digits, plain):
    """The main claim, small: what fools a plain network does not fool a hardened one of equal accuracy."""
    hardened = bc.harden("mlp", digits, epochs=80, rounds=4)
    before, after = (bc.fool(m, range(10), 10, data=digits, steps=150) for m in (plain, hardened.model))
    assert before.met.all() and after.met.float().mean() <= 0.1
    with torch.no_grad():
        right = hardened.model(digits.test.images).argmax(1) == digits.test.labels
        plainly = plain(digits.test.images).argmax(1) == digits.test.labels
    assert right.float().mean() >= plainly.float().mean() - 0.01
    assert not hardened.model.training


@pytest.mark.parametrize("objective", ["reject-class", "fake-classes"])
def test_objectives_with_more_outputs(digits, objective, tmp_path):
    hardened = bc.harden("mlp", digits, objective, epochs=30, rounds=3)
    assert hardened.rounds[-1].validation_accuracy > 0.9
    assert hardened.rounds[-1].fresh_confident < hardened.rounds[0].fresh_confident + 0.2
    folder = hardened.save(tmp_path / "run").path
    assert fingerprint(bc.load_model("mlp", folder / "model.safetensors")) == fingerprint(hardened.model)


def test_gate_and_judge_share_no_real_image(digits):
    from blankcheck.auditing import ood_test
    from blankcheck.judging.scores import Neighbours

    def fitted_on(test):
        return {tuple(row) for values in test.values if isinstance(values, Neighbours) for row in values.real.tolist()}

    gate, judge = fitted_on(hardening(digits).gate), fitted_on(ood_test(digits, 0.01))
    assert len(gate) > 200 and len(judge) > 200
    assert len(gate & judge) <= 2, "a handful of digits are drawn twice in the original set"


def test_mistakes(digits):
    with pytest.raises(ArgumentError, match="objective must be one of"):
        bc.harden("mlp", digits, "hope")
    with pytest.raises(ArgumentError, match="rounds"):
        bc.harden("mlp", digits, rounds=0)
    with pytest.raises(ModelError, match="needs a model with 11 outputs, this one has 10"):
        bc.harden(build("mlp", digits.shape, 10), digits, "reject-class")
    with pytest.raises(ModelError, match="needs a model that gives logits"):
        bc.harden(torch.nn.Sequential(build("mlp", digits.shape, 10), torch.nn.Softmax(1)), digits)
