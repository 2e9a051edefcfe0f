"""The Python face: every function from `blankcheck` itself, and mistakes in one line."""

from __future__ import annotations

import inspect
import sys
from dataclasses import fields
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import blankcheck as bc
from blankcheck.api.bars import told
from blankcheck.auditing import PRESETS, Preset
from blankcheck.cli.main import main
from blankcheck.hardening import HardeningOptions

SMALL = Preset(attempts=20, per_target=2, steps=60)


@pytest.fixture(scope="module")
def audited(plain, digits, tmp_path_factory):
    """An audit, and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "smoke", SMALL)
        patch.setattr("blankcheck.classifiers.training.MIN_STEPS", 200)
        made = bc.audit(plain, digits, "smoke", max_lit=20)
        yield made, made.save(tmp_path_factory.mktemp("face") / "run")


# ---- functions


def test_a_run_is_verified_with_the_objects_at_hand(audited, plain, digits, capsys):
    _, run = audited
    found = bc.verify(run.path, model=plain, data=digits)
    assert (found.word, found.failures) == ("CONFIRMED", [])
    assert str(found).startswith("CONFIRMED\n  20 of 20 witnesses")
    other = bc.verify(run.path, model=nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    assert other.word == "NOT CONFIRMED" and "fingerprint differs" in other.failures[0]
    assert main(["verify", str(run.path)]) == 0 and "CONFIRMED" in capsys.readouterr().out


def test_runs_are_compared(audited, plain, digits, tmp_path):
    bc.audit(plain, digits, "smoke", seed=1, max_lit=20).save(tmp_path / "other")
    _, run = audited
    made = bc.compare(run.path, tmp_path / "other", sort="name")
    assert [r.name for r in made.runs] == ["other", "run"] and made.reference.name == "run"
    assert repr(made) == "Comparison(other, run; the reference is run)"
    (pair,) = made.with_reference
    assert pair.measures["rate"].finding == "no difference beyond chance"


def test_fooling_images_are_blended(audited, plain, digits):
    _, run = audited
    blends = bc.blend(run.path, model=plain, data=digits, alphas=[0.5, 1.0], per_pair=1)
    assert blends.record["alphas"] == [0.5, 1.0] and blends.record["same_network"]
    low, high = blends.shares("fooling")
    assert 0 <= low <= high <= 1 and "taken" in repr(blends)
    assert run.has("blend.json")


def test_a_gate_is_made_and_certified(plain, digits):
    said = []
    gated = bc.gate(plain, digits, 3, steps=40, note=lambda *told: said.append(told))
    assert said[-1][:3] == ("gate", 40, 40)
    certificate = bc.certify(gated, digits, slope_steps=0)
    assert min(certificate.k) >= 3 and certificate.means == "gate-certified"
    images = digits.validation.images[:50]
    assert torch.equal(gated(images).argmax(1), plain(images).argmax(1))


def test_a_network_of_nn_alone_is_certified():
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[4.0] * 4, [-4.0] * 4]))
        network[1].bias.copy_(torch.tensor([-5.0, 5.0]))
    x = torch.rand(60, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    data = bc.Data.from_arrays(x, torch.arange(60) % 2)
    # class 0 has log-odds 8 sum - 10: one lit feature leaves it below 0, two do not
    assert bc.certify(network, data).k == (1, None)


# ---- signatures


@pytest.mark.parametrize("name", [n for n in bc.__all__ if inspect.isfunction(getattr(bc, n))])
def test_signatures_show_plain_defaults(name):
    for parameter in inspect.signature(getattr(bc, name)).parameters.values():
        default = parameter.default
        plain = (type(None), bool, int, float, str)
        values = default if isinstance(default, tuple) else (default,)
        assert default is inspect.Parameter.empty or all(isinstance(v, plain) for v in values)


def test_harden_shows_its_options():
    shown = inspect.signature(bc.harden).parameters
    assert {field.name for field in fields(HardeningOptions)} <= shown.keys()
    assert shown["prune"].default == "ood"


# ---- progress


def test_fool_tells_how_far_it_is_between_the_attacks_of_a_chunk(plain, digits):
    told_of: list[tuple[str, int, int, str]] = []
    found = bc.fool(
        plain, range(10), 1, data=digits, steps=60, note=lambda *now: told_of.append(now)
    )
    stages, done, of, words = zip(*told_of, strict=True)
    assert {*stages} == {"search"} and {*of} == {10}
    assert len(done) > 2 and list(done) == sorted(done) and done[-2] < done[-1] == 10
    assert words[-1].startswith(f"{int(found.met.sum())} of 10 fooled, median ")


@pytest.mark.parametrize(("progress", "shown"), [(True, True), (False, False), (None, False)])
def test_bars_are_shown_where_they_are_asked_for(capsys, progress, shown):
    with told(None, progress) as tell:
        tell("search", 1, 2, "half [of] it")
    err = capsys.readouterr().err
    assert ("search" in err and "half [of] it" in err) is shown


def test_bars_stand_below_the_cell_of_a_notebook(monkeypatch):
    pages: list[str] = []
    display = ModuleType("IPython.display")
    display.HTML = lambda page: page
    display.display = lambda page, display_id: SimpleNamespace(update=pages.append)
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    notebook = SimpleNamespace(is_jupyter=True, is_terminal=False)
    monkeypatch.setattr("rich.console.Console", lambda stderr: notebook)
    with told(None, None) as tell:
        for done in range(100):
            tell("search", done, 100, "<b>")
        tell("search", 100, 100, "<b>")
    assert len(pages) < 50, "not every word is shown"
    assert pages[-1] == 'search <progress value="100" max="100"></progress> 100/100 &lt;b&gt;'


def test_who_is_told_gets_no_bars(capsys):
    said = []
    with told(lambda *words: said.append(words), True) as tell:
        tell("search", 1, 2, "half")
    assert said == [("search", 1, 2, "half")] and not capsys.readouterr().err


# ---- mistakes


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, d: bc.audit("mlp", d), "model must be a network, .*, got str; bc.load_model"),
        (lambda m, d: bc.audit(nn.Linear, d), "got the class Linear"),
        (lambda m, d: bc.audit(m, "digits"), "data must be a Data, got str; bc.load_data"),
        (lambda m, d: bc.audit(m, d, confidence="high"), "confidence must be a number, got 'high'"),
        (lambda m, d: bc.audit(m, d, max_lit=2.5), "max_lit must be a whole number or None"),
        (lambda m, d: bc.audit(m, d, ood_level="low"), "ood_level must be a number or auto"),
        (lambda m, d: bc.audit(m, d, "fast"), "preset must be one of"),
        (lambda m, d: bc.harden(d, m), "model must be a network"),
        (lambda m, d: bc.harden("mlp", d, epochs="3"), "epochs must be a whole number or None"),
        (lambda m, d: bc.harden("mlp", d, keep="all"), "keep must be a number, got 'all'"),
        (lambda m, d: bc.harden("mlp", d, epoch=3), "harden knows no option 'epoch'"),
        (lambda m, d: bc.fool(m, 3, 1, data=d), "targets must be whole numbers, .*, got 3"),
        (lambda m, d: bc.fool(m, [3], 1, data=d, steps="9"), "steps must be a whole number"),
        (lambda m, d: bc.fool(m, [3], 1, data=d, mask=3), "mask must be a bool tensor or one of"),
        (lambda m, d: bc.diagnose(m, 3), "data must be a Data, got int"),
        (lambda m, d: bc.certify(m, d, unit="dots"), "unit must be features or pixels"),
        (lambda m, d: bc.gate(m, d, "3"), "k must be a whole number, got '3'"),
        (lambda m, d: bc.gate(m, d, 65), "k must lie in 1..64, got 65"),
        (lambda m, d: bc.compare("a"), "at least two different run folders, got a"),
        (lambda m, d: bc.compare(["a", "b"]), "each by its path and as an argument of its own"),
        (lambda m, d: bc.compare("a", "b", sort="c"), "sort must be one of rate, lit"),
        (lambda m, d: bc.blend("a", alphas=[2]), r"alphas must lie in \(0, 1\], got 2"),
        (lambda m, d: bc.verify("nowhere"), "run folder nowhere does not exist"),
        (lambda m, d: bc.load_model(3), "model must be a network, its name or its factory"),
        (lambda m, d: bc.load_model("mlp", data="digits"), "data must be a Data, got str"),
        (lambda m, d: bc.load_data(3), "source must be a text, got 3"),
    ],
)
def test_mistakes_are_one_line_of_our_own(plain, digits, call, words):
    with pytest.raises(bc.BlankcheckError, match=words) as raised:
        call(plain, digits)
    assert "\n" not in str(raised.value)


def test_numbers_of_numpy_are_numbers(plain, digits):
    steps, sure = np.int64(9), np.float32(0.5)
    found = bc.fool(plain, np.arange(2), 1, data=digits, steps=steps, confidence=sure)
    assert len(found) == 2
