"""Every example runs as a script in an empty folder, and says what it should."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

import blankcheck as bc
from blankcheck.auditing import PRESETS, Preset
from blankcheck.testing import Planted

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Runs an example, with shorter audits and twins than a user gets, and hands back its names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "smoke", Preset(attempts=40, per_target=2, steps=150))
    monkeypatch.setattr("blankcheck.classifiers.training.MIN_STEPS", 400)

    def run(name: str) -> dict[str, Any]:
        return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")

    return run


def test_own_network(ran, tmp_path, capsys):
    names = ran("own_network")
    assert (
        names["audit"].verdict == bc.Verdict.FOOLED and names["audit"].json["real_accuracy"] > 0.85
    )
    assert capsys.readouterr().out.startswith("FOOLED: ")
    assert (tmp_path / "runs/own/report.html").is_file()


def test_find(ran):
    names = ran("find")
    found, strict, judge = names["found"], names["strict"], names["judge"]
    assert found.met[found.targets == 0].all()
    assert not (found.images[:, :, 4:] > 0).any(), "the lower half is masked"
    assert (
        strict.met.all()
        and (judge.p_values(strict.images) <= 0.01).all()
        and (strict.lit <= 12).all()
    )
    mine = found.met & (found.targets == 0)
    assert found.lit[mine].float().median() < 6, "`sparsest` goes on after the goal is met"


def test_harden(ran, tmp_path):
    names = ran("harden")
    fooled, real = names["fooled"], names["real"]
    assert fooled["plain"] > 0.9 and fooled["hardened"] < 0.5
    assert real["hardened"].accuracy > 0.95 and real["hardened"].confident > 0.9
    assert (tmp_path / "runs/hardened/model.safetensors").is_file()


def test_own_step_rule_finds_what_was_planted(ran):
    names = ran("own_step_rule")
    wanted = torch.stack([Planted(pixels=5).sparsest(t) for t in range(3)]) > 0
    assert names["found"].met.all() and torch.equal(names["found"].images > 0, wanted)


def test_own_score(ran):
    names = ran("own_score")
    assert (
        names["audit"].json["out_of_distribution_test"]["scores"][-1] == "top-heavy or bottom-heavy"
    )
    assert names["judge"].names[-1] == "top-heavy or bottom-heavy"
    each = names["judge"].score_p_values(names["audit"].witnesses["images"])
    assert each.shape[1] == len(names["judge"].names) and (each > 0).all() and (each <= 1).all()
    heavy = torch.zeros(1, 1, 8, 8)
    heavy[:, :, :4] = 1
    assert (
        names["judge"].score_p_values(heavy)[0, -1]
        < 0.02
        < names["judge"].score_p_values(heavy.flip(2) + heavy)[0, -1]
    )


def test_own_data(ran):
    data = ran("own_data")["data"]
    assert data.classes == ("across", "down") and data.shape == (1, 8, 8)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [640, 80, 80]
    across = data.test.images[data.test.labels == 0][:, 0]
    assert (across.mean(dim=2).amax(dim=1) > 0.5).all() and (
        across.mean(dim=1).amax(dim=1) < 0.5
    ).all()


def test_own_check(ran):
    (honest, passed), (plain, failed) = ran("own_check")["results"]
    assert (honest, passed.status) == (
        bc.Verdict.RESISTED,
        "passed",
    ) and "0 of 64" in passed.finding
    assert (plain, failed.status) == (bc.Verdict.FOOLED, "failed")


def test_compare_methods(ran):
    results = ran("compare_methods")["results"]
    assert results["exchange"].met.all() and results["sigma-zero"].met.all()
    assert results["exchange"].lit.sum() < results["adaptive weight"].lit.sum()
    assert all((found.steps <= 100).all() for found in results.values())


def test_the_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "smoke", Preset(attempts=40, per_target=2, steps=150))
    monkeypatch.setattr("blankcheck.classifiers.training.MIN_STEPS", 400)
    book = json.loads((EXAMPLES / "first_look.ipynb").read_text())
    names: dict[str, Any] = {}
    for cell in book["cells"]:
        assert not cell.get("outputs"), "kept without outputs"
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "first_look.ipynb", "exec"), names)
    assert names["audit"].verdict == bc.Verdict.FOOLED and names["found"].met.all()
    assert capsys.readouterr().out.startswith("fooled before: 100%, after: ")
    page = names["hardened"]._repr_html_()
    assert "NOT AUDITED" in page and "Can a new search still fool it?" in page
    assert repr(names["hardened"]).startswith("Hardened(round 1 of 1 kept: ")


def test_every_example_is_tested_and_says_what_it_shows():
    tests = Path(__file__).read_text()
    for path in sorted(EXAMPLES.glob("*.py")):
        assert f'ran("{path.stem}")' in tests, path.name
        assert path.read_text().startswith('"""'), path.name
