"""The gate: proved shut on sparse images, open on real ones, and built again from its file."""

from __future__ import annotations

import io
import json
import math
import shutil
import zipfile

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import blankcheck as bc
from blankcheck.api.reopen import with_gate
from blankcheck.auditing.portfolio import PRESETS, Preset
from blankcheck.certifying import (
    Gated,
    GatePlan,
    Sparse,
    certify,
    confirm,
    fit_gate,
    gate_network,
    read_network,
)
from blankcheck.certifying.gate import OPEN, calibrate, gate_bounds, most_open
from blankcheck.classifiers import UnitClassifier, evaluate, load_model
from blankcheck.cli.main import main
from blankcheck.data import Split
from blankcheck.errors import ArgumentError, ModelError, RunFolderError
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.gate_file import GATE, PROGRAM, same_program

K = 6


@pytest.fixture(scope="module")
def run(weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "g"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "smoke", Preset(attempts=20, per_target=2, steps=30))
        given = f"--data digits --model mlp --weights {weights} --out {out} --quiet"
        assert main(f"gate {given} --k {K} --gate-steps 150".split()) == 0
        yield out  # verify counts attempts by the preset


@pytest.fixture(scope="module")
def gated(run, plain):
    return with_gate(RunFolder.open(run), plain)


def test_exactly_the_asked_k_is_certified_for_every_class(gated, digits):
    made = certify(gated, digits.shape, 10)
    assert made.smallest == K and made.means == "gate-certified" and all(confirm(made, gated))
    assert max(made.probability(K)) < 0.9 <= max(made.probability(K + 1) or (1.0,)) + 0.1


def test_answers_and_confidence_on_real_images_stay(gated, plain, digits):
    x = digits.test.images[:]
    with torch.no_grad():
        p, q = plain(x).softmax(1), gated(x)
    assert torch.equal(p.argmax(1), q.argmax(1)) and torch.allclose(
        q.sum(1), torch.ones(len(q)), atol=1e-5
    )
    before = evaluate(plain, digits.test, 10, 0.9)
    after = evaluate(gated, digits.test, 10, 0.9, "probabilities")
    assert after.accuracy == before.accuracy and after.confident >= before.confident - 0.03


def test_no_search_finds_what_is_proved_not_to_be_there(gated, plain, digits):
    found = bc.fool(gated, range(10), 2, data=digits, steps=200, until="sparsest", seed=0)
    sure = found.confidence >= 0.9
    assert not bool((sure & (found.lit <= K)).any())
    inside = bc.fool(plain, range(10), 2, data=digits, steps=200, until="sparsest", seed=0)
    assert bool(
        (inside.lit[inside.confidence >= 0.9] <= K).any()
    )  # without the gate there are such images


def test_the_formula_bounds_what_the_classifier_inside_says():
    """A classifier that is always sure, behind gates of every opening."""

    class Sure(nn.Module):
        def forward(self, x):
            return torch.tensor([[50.0, 0.0, 0.0, 0.0]]).expand(len(x), 4)

    class Fixed(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, x):
            return torch.full((len(x), 3), self.value)

    theta = most_open(0.9, 4)
    for value in (-20.0, 0.0, theta - 1e-4, theta + 1e-2, 5.0):
        q = Gated(Sure(), Fixed(value))(torch.zeros(1, 1, 2, 2))
        s = 1 / (1 + math.exp(-value))
        assert float(q[0, 0]) == pytest.approx(s + (1 - s) / 4, abs=1e-6)
        assert (float(q[0, 0]) < 0.9) == (value < theta)


def test_fake_classes_need_no_gate():
    class Reject(nn.Module):
        def forward(self, x):
            return torch.tensor([[0.0, 0.0, 9.0]]).expand(len(x), 3)

    gate = gate_network((1, 4, 4), 2)
    q = Gated(Reject(), gate)(torch.rand(2, 1, 4, 4))
    assert OPEN > 20 and torch.allclose(q, Reject()(torch.zeros(2)).softmax(1), atol=1e-5)


@pytest.mark.parametrize("confidence", [0.5, 0.1])
def test_a_confidence_of_a_half_cannot_be_gated(confidence, digits):
    with pytest.raises(ArgumentError, match="above 0.5"):
        fit_gate(digits.train, digits.shape, 10, 10, 2, confidence)


def test_a_gate_for_other_classes_is_refused(plain):
    with pytest.raises(ModelError, match="gate has 3 outputs"):
        certify(Gated(plain, gate_network((1, 8, 8), 3)), (1, 8, 8), 10)


def test_a_gate_makes_no_other_certificate_valid():
    made = certify(Gated(*counted()), (1, 4, 4), 2)
    with pytest.raises(ModelError, match="gate-certified"):
        confirm(made, counted()[0])


def counted(threshold=10.0):
    """A gate that counts lit features, around a classifier that says by their number which of two
    classes it sees."""
    inner, gate = (nn.Sequential(nn.Flatten(), nn.Linear(16, 2)) for _ in range(2))
    with torch.no_grad():
        inner[1].weight.copy_(torch.stack([torch.ones(16), -torch.ones(16)]))
        inner[1].bias.zero_()
        gate[1].weight.fill_(1.0)
        gate[1].bias.fill_(-threshold)
    return inner, gate


def fewest_lit(classifier):
    """For each class the fewest lit features of an image of which a classifier of lit features is
    sure; 17 where none is."""
    images = (torch.arange(16) < torch.arange(17)[:, None]).float().view(17, 1, 4, 4)
    with torch.no_grad():
        sure = classifier(images) >= 0.9
    return [int(column.int().argmax()) if bool(column.any()) else 17 for column in sure.T]


@pytest.mark.parametrize("mean, std", [(0.0, 1.0), (0.0, 0.1), (0.1307, 0.3081), (0.5, 2.0)])
def test_a_gate_behind_a_normalisation_is_proved_of_images(mean, std):
    classifier = load_model(Gated(*counted(6.0)), normalize=((mean,), (std,)))
    made = certify(classifier, (1, 4, 4), 2)
    assert made.means == "gate-certified" and all(confirm(made, classifier))
    assert set(made.k) == {min(fewest_lit(classifier)) - 1}, "the bound of a sum is exact"


class Open(Gated):
    """Says that it is a gate, and lets everything through."""

    def forward(self, images):
        return self.inner(images).softmax(dim=1)


def _hooked(module, outputs):
    module.register_forward_hook(lambda m, i, o: outputs(i[0]))
    return module


def _overridden(gate, name):
    setattr(gate, name, lambda images: gate.inner(images).softmax(1))
    return gate


AROUND = {
    "subclass": lambda: Open(*counted()),
    "subclass behind a normalisation": lambda: UnitClassifier(Open(*counted()), ((0.1,), (0.3,))),
    "hook": lambda: _hooked(Gated(*counted()), lambda x: x.flatten(1)[:, :2].softmax(1)),
    "hook of the classifier": lambda: _hooked(
        UnitClassifier(Gated(*counted())), lambda x: x.flatten(1)[:, :2].softmax(1)
    ),
    "own forward": lambda: _overridden(Gated(*counted()), "forward"),
    "own call": lambda: _overridden(Gated(*counted()), "_call_impl"),
    "two normalisations": lambda: UnitClassifier(
        UnitClassifier(Gated(*counted()), ((0.0,), (0.1,))), ((0.0,), (0.1,))
    ),
}


@pytest.mark.parametrize("name", AROUND)
def test_what_is_not_just_a_gate_is_not_proved_as_one(name):
    classifier = AROUND[name]()
    try:
        made = certify(classifier, (1, 4, 4), 2)
    except ModelError as error:
        assert "\n" not in str(error)
        return
    assert made.means == "certified"
    assert all(
        k is None or k < fewest for k, fewest in zip(made.k, fewest_lit(classifier), strict=True)
    )


def test_a_gate_around_a_gate_is_proved():
    inside = Gated(*counted(3.0))
    made = certify(Gated(inside, counted(8.0)[1], "probabilities"), (1, 4, 4), 2)
    assert (
        made.means == "gate-certified"
        and made.smallest == certify(Gated(*counted(8.0)), (1, 4, 4), 2).smallest
    )


class Changing(nn.Module):
    """A classifier that fills the image it is handed."""

    def forward(self, x):
        return (
            x.flatten(1)[:, :2] * 50
            if torch.is_grad_enabled()
            else x.fill_(1.0).flatten(1)[:, :2] * 50
        )


class Unsteady(nn.Module):
    """A classifier that answers at random."""

    def forward(self, x):
        return 20 * torch.randn(len(x), 3)


def test_a_gate_holds_around_whatever_is_inside():
    """One that changes the image, and one that answers at random: the gate has looked before, and
    sees the image alone."""
    gate = counted()[1]
    x = torch.zeros(1, 1, 4, 4)
    with torch.no_grad():
        assert float(Gated(Changing(), gate)(x).max()) < 0.9
    three = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    made = certify(Gated(Unsteady(), three), (1, 4, 4), 3)
    assert made.means == "gate-certified" and all(confirm(made, Gated(Unsteady(), three)))


class Hiding(nn.Module):
    """A gate that says something else than torch.export sees."""

    def __init__(self):
        super().__init__()
        self.gate = counted()[1]

    def forward(self, x):
        return self.gate(x) if torch.compiler.is_compiling() else self.gate(x) + 20


def test_a_gate_that_answers_otherwise_is_refused():
    with pytest.raises(ModelError, match="gated probabilities"):
        certify(Gated(counted()[0], Hiding()), (1, 4, 4), 2)


def test_a_form_that_is_none_is_refused():
    with pytest.raises(ArgumentError, match="form must be one of"):
        Gated(*counted(), "odds")
    gate = Gated(*counted())
    gate.form = "odds"
    with pytest.raises(ModelError):
        certify(gate, (1, 4, 4), 2)


@pytest.mark.parametrize("value, rate", [(math.nan, 4e-3), (1.0, 1e30)], ids=["images", "steps"])
def test_a_gate_whose_training_diverges_ends(value, rate, monkeypatch):
    monkeypatch.setattr("blankcheck.certifying.gate.LEARNING_RATE", rate)
    train = Split(torch.full((20, 1, 4, 4), value), torch.arange(20) % 2)
    with pytest.raises(ModelError, match="gate cannot be") as raised:
        fit_gate(train, (1, 4, 4), 2, 2, 3, plan=GatePlan(steps=5))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e37, 1e12])
def test_a_gate_that_cannot_be_set_ends(value):
    """Beyond some size a bias has no step as small as what is asked."""
    gate = gate_network((1, 4, 4), 2)
    with torch.no_grad():
        gate[-1].weight.fill_(value)
    theta = most_open(0.9, 2)
    try:
        calibrate(gate, read_network(gate, (1, 4, 4)), Sparse(3), theta)
    except ModelError as error:
        assert "no bias brings" in str(error) and "\n" not in str(error)
    else:
        layers = read_network(gate, (1, 4, 4)).layers()
        bounds, slack = gate_bounds(layers, Sparse(3), torch.zeros((), dtype=torch.float64))
        assert value == 1e12 and bool((bounds + slack < theta).all())


def test_the_run_folder_says_that_the_gate_is_certified(run):
    verdict = json.loads((run / "verdict.json").read_text())
    assert verdict["verdict"] == "CERTIFIED" and verdict["conditions"]["max_lit"] == K
    assert (
        verdict["certificate"]["means"] == "gate-certified"
        and verdict["certificate"]["smallest"] == K
    )
    for page in ("report.html", "report.md"):
        text = (run / page).read_text()
        assert (
            "makes the classifier with its gate 90% sure" in text
            and "The proof is one of the gate" in text
        )


def test_it_is_built_and_proved_again(run, capsys):
    assert main(["verify", str(run)]) == 0
    said = capsys.readouterr().out
    assert (
        "certificate: proved again for all 10 classes" in said
        and "behind the gate of the run folder" in said
    )


@pytest.mark.parametrize(
    "change, words",
    [
        ("form", "form is 'probabilities', the classifier inside gives 'logits'"),
        ("command", "its fingerprint differs"),
        ("certificate", "certificate.json"),
        ("gate", "has no gate.safetensors"),
    ],
)
def test_a_gate_is_scored_behind_only_where_it_is_the_runs_own(
    run, tmp_path, capsys, change, words
):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    with safe_open(copy / GATE, "pt") as file:
        said = {k: v for k, v in file.metadata().items() if k != "digest"}
    if change == "form":
        save_file(load_file(copy / GATE), copy / GATE, metadata=said | {"form": "probabilities"})
    elif change == "command":
        around = json.loads((copy / "environment.json").read_text()) | {"command": "certify"}
        (copy / "environment.json").write_text(json.dumps(around))
    else:
        (copy / {"gate": GATE}.get(change, "certificate.json")).unlink()
    assert main(["verify", str(copy), "--json"]) == 12
    assert any(words in each for each in json.loads(capsys.readouterr().out)["failures"])


def test_the_exported_program_answers_as_the_gated_network(run, weights, digits):
    again = with_gate(RunFolder.open(run), load_model("mlp", weights))
    program = load_model(str(run / "gated.pt2"), unsafe_pickle=True)
    x = digits.test.images[:50]
    with torch.no_grad():
        assert torch.allclose(program(x), again(x), atol=1e-6)


@pytest.mark.parametrize("change", ["other", "junk", "gone"])
def test_the_program_is_what_the_network_exports_to(run, tmp_path, capsys, change):
    """It is what a user deploys: the classifier without its gate must not stand there."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    if change == "other":
        plain = load_model("mlp", copy / "model.safetensors").requires_grad_(False)
        torch.export.save(torch.export.export(plain, (torch.zeros(2, 1, 8, 8),)), copy / PROGRAM)
    elif change == "junk":
        (copy / PROGRAM).write_bytes(b"junk")
    else:
        (copy / PROGRAM).unlink()
    assert main(["verify", str(copy), "--json"]) == 12
    assert json.loads(capsys.readouterr().out)["failures"] == [
        f"{PROGRAM}: is not the program that the network exports to"
    ]


def test_a_program_that_was_exported_from_other_folders_is_the_same(run, tmp_path):
    """Operations tell from which line of which file they come; where that file lies changes
    nothing."""

    def rewritten(change) -> bytes:
        made = io.BytesIO()
        with zipfile.ZipFile(run / PROGRAM) as there, zipfile.ZipFile(made, "w") as here:
            for name in there.namelist():
                raw = there.read(name)
                here.writestr(name, change(raw) if name.endswith("models/model.json") else raw)
        return made.getvalue()

    own = (run / PROGRAM).read_bytes()
    moved = rewritten(lambda raw: raw.replace(b"gate.py", b"a/longer/way/to/gate.py"))
    assert moved != own and same_program(moved, own)
    assert not same_program(
        rewritten(lambda raw: raw.replace(b"aten.sigmoid.default", b"aten.tanh.default")), own
    )
    assert not same_program(rewritten(lambda raw: b"no json"), own)


def test_another_gate_is_not_confirmed(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    state = load_file(copy / GATE)
    state["4.bias"] += 5.0
    with safe_open(copy / GATE, "pt") as file:
        said = file.metadata()
    save_file(state, copy / GATE, metadata=said)
    assert main(["verify", str(copy)]) == 12 and "is damaged" in capsys.readouterr().out, (
        "its digest tells"
    )
    save_file(state, copy / GATE, metadata={k: v for k, v in said.items() if k != "digest"})
    assert main(["verify", str(copy), "--json"]) == 12
    assert json.loads(capsys.readouterr().out)["certificate"] is False
    (copy / GATE).write_bytes(b"no gate")
    with pytest.raises(RunFolderError):
        with_gate(RunFolder.open(copy), load_model("mlp", copy / "model.safetensors"))


@pytest.mark.parametrize(
    "given, words",
    [
        (["--k", "0"], "k must lie"),
        (["--k", "65"], "k must lie"),
        ([], "k must lie"),
        (["--k", "3", "--confidence", "0.4"], "above 0.5"),
        (["--k", "3", "--gate-steps", "0"], "gate_steps"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(weights, tmp_path, capsys, given, words):
    asked = f"gate --data digits --model mlp --weights {weights} --out {tmp_path / 'g'}".split()
    assert main([*asked, *given]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and words in said[0] and not (tmp_path / "g").exists()
