"""`blankcheck certify`: proof and search in one run folder, what is said of them, and proving it
again."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from helpers import SURE

from blankcheck.auditing.portfolio import PRESETS, Preset
from blankcheck.certifying import Certificate, certify, confirm
from blankcheck.cli.main import main
from blankcheck.judging import Verdict, judge, run_checks
from blankcheck.judging.evidence import Attempt, Cost, Evidence, Proof, RealData
from blankcheck.judging.verdict import verdict_json
from blankcheck.report import certificate_wording as words
from blankcheck.report.charts.certificate import bars
from blankcheck.report.wording import word
from blankcheck.types import Conditions

FACTORY = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    layer = nn.Linear(64, 10)
    with torch.no_grad():
        layer.weight.mul_(8.0)
        layer.bias.zero_()
    return nn.Sequential(nn.Flatten(), layer)

def smooth():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.GELU("tanh"), nn.Linear(10, 10))
"""


@pytest.fixture(scope="module")
def factory(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "net.py"
    path.write_text(FACTORY + SURE)
    return path


@pytest.fixture(scope="module")
def run(factory, tmp_path_factory):
    """A network that needs much ink to be sure of anything, on data that have it."""
    out = tmp_path_factory.mktemp("runs") / "c"
    given = f"--data digits+lift=0.5 --model {factory}:sure --out {out} --max-lit 3 --quiet"
    with pytest.MonkeyPatch.context() as patch:
        # what the search finds is not the point, and a whole one takes most of a minute
        patch.setitem(PRESETS, "smoke", Preset(attempts=20, per_target=2, steps=30))
        assert main(f"certify {given}".split()) == 0
    return out


def test_the_verdict_is_certified_where_the_proof_reaches_max_lit(run):
    verdict = json.loads((run / "verdict.json").read_text())
    proof = verdict["certificate"]
    assert verdict["verdict"] == "CERTIFIED" and proof["smallest"] == min(proof["k"]) >= 3
    assert (
        proof["means"] == "certified"
        and len(proof["found"]) == 10
        and max(proof["probability"]) < 0.9
    )
    assert all(f is None or f > k for f, k in zip(proof["found"], proof["k"], strict=True))


def test_the_certificate_is_the_one_of_the_library(run, factory):
    stored = Certificate.from_json(json.loads((run / "certificate.json").read_text()))
    scope: dict = {}
    exec(SURE, scope)
    network = scope["sure"]()
    made = certify(network, (1, 8, 8), 10)
    assert made.k == stored.k and made.levels == stored.levels and all(confirm(stored, network))
    claim = f"with at most {made.smallest} lit features no class gets 0.9 or more"
    assert repr(made) == f"Certificate(certified: {claim})"


def test_the_report_says_what_is_proved_and_what_is_not(run):
    page, text = (run / "report.html").read_text(), (run / "report.md").read_text()
    k = json.loads((run / "verdict.json").read_text())["certificate"]["smallest"]
    for said in (page, text):
        claim = f"No image with at most {k} of 64 lit pixels makes this classifier 90% sure"
        assert claim in said and "not certified never means unsafe" in said
        assert "its gate" not in said
    assert f'<p class="means">{claim}' in page and text.startswith("## CERTIFIED")
    assert 'id="certificate"' in page and page.index('id="certificate"') < page.index('id="made"')
    assert (run / "figures" / "certificate.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    "given, words",
    [
        (["--model", "net.py:smooth"], "operation gelu"),
        (["--model", "mlp"], "untrained"),
        (["--model", "net.py:make", "--confidence", "1.5"], "confidence"),
        (["--model", "net.py:make", "--slope-steps", "-1"], "slope_steps"),
        (["--model", "net.py:make", "--max-lit", "0"], "max_lit"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(factory, tmp_path, capsys, given, words):
    given = [each.replace("net.py", str(factory)) for each in given]
    assert main(["certify", "--data", "digits", "--out", str(tmp_path / "c"), *given]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and words in said[0]
    assert not (tmp_path / "c").exists()


def evidence(proof, fooled=False, lit=5, confidence=0.5, fewest=None, max_lit=10):
    attempt = Attempt(0, fooled, "black/exchange", lit, confidence, 0.001, fewest)
    real = RealData(0.99, 0.95, 0.0, 0.95)
    return Evidence(
        Conditions(0.9, max_lit),
        ("a", "b"),
        (attempt,),
        {"black/exchange": 1},
        real,
        (),
        Cost(1, 1, 1.0),
        proof=proof,
    )


PROOF = Proof((12, 10), (0.8, 0.7), 0.9, "features", "certified", "0" * 16, 1.0)


def test_a_proof_wins_over_an_undecided_search():
    assert judge(evidence(None), run_checks(evidence(None))) is not Verdict.CERTIFIED
    assert judge(evidence(PROOF), run_checks(evidence(PROOF))) is Verdict.CERTIFIED
    record = verdict_json(evidence(PROOF, fewest=14), [], Verdict.CERTIFIED)["certificate"]
    assert record["smallest"] == 10 and record["found"] == [14, None]


@pytest.mark.parametrize(
    "proof",
    [replace(PROOF, k=(12, 9)), replace(PROOF, k=(12, None)), replace(PROOF, confidence=0.95)],
    ids=["fewer than max_lit", "not of every class", "of a higher confidence"],
)
def test_a_proof_of_less_does_not_decide(proof):
    assert judge(evidence(proof), run_checks(evidence(proof))) is not Verdict.CERTIFIED


def test_a_witness_beyond_the_proof_is_a_witness():
    assert (
        judge(evidence(PROOF, fooled=True, lit=13, confidence=0.95, max_lit=20), [])
        is Verdict.FOOLED
    )


@pytest.mark.parametrize(
    "found",
    [dict(fooled=True, lit=12, confidence=0.95), dict(fewest=12), dict(lit=3, confidence=0.9)],
)
def test_proof_and_search_that_contradict_each_other_are_no_verdict(found):
    with pytest.raises(RuntimeError, match="contradict each other"):
        judge(evidence(PROOF, **found), [])


@pytest.mark.parametrize(
    ("k", "verdict", "first"),
    [
        ((12, 10), Verdict.INCONCLUSIVE, "PROVED: certified: at most 10 lit features"),
        ((12, 0), Verdict.FOOLED, "NOTHING PROVED: nothing of all classes together"),
        ((12, 10), Verdict.CERTIFIED, "certified: at most 10 lit features"),
    ],
)
def test_the_terminal_says_the_word_at_the_head_of_the_report(k, verdict, first):
    record = verdict_json(evidence(replace(PROOF, k=k)), [], verdict)
    assert words.lines_of(record)[0].startswith(first)
    page = SimpleNamespace(command="gate", verdict=record)
    assert first.startswith(word(page)) or verdict is Verdict.CERTIFIED == word(page)


def test_words_say_which_of_the_two_carries_the_proof():
    record = {"smallest": 40, "confidence": 0.9, "unit": "features", "means": "certified"}
    grey, red = (SimpleNamespace(features=c * 1024, channels=c) for c in (1, 3))
    said = "No image with at most 40 of {} makes this classifier 90% sure of any class."
    assert words.claim(record, grey).startswith(said.format("1,024 lit pixels"))
    assert words.claim(record, red).startswith(said.format("3,072 lit features"))
    in_pixels = record | {"unit": "pixels"}
    assert words.claim(in_pixels, red).startswith(said.format("1,024 lit pixels"))
    gated = record | {"means": "gate-certified"}
    assert "with its gate" in words.claim(gated, grey) and "on its own" in words.scope(gated)
    some = record | {"smallest": 0, "k": [40, 0, 40]}
    assert "a single lit pixel may make this classifier sure" in words.claim(some, grey)
    one, many = [40, None, 40], [None] * 12
    none = [words.claim(record | {"smallest": None, "k": k}, grey) for k in (one, many)]
    assert none[0] == "Nothing is proved of all classes together: no claim for class 1."
    assert none[1].endswith("no claim for classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more.")


def test_a_bound_is_never_rounded_down():
    assert words.at_most(0.89991) == "90.0%" and words.at_most(None) == ""


def test_the_figure_leaves_the_unknown_between_both():
    proof = {
        "k": [3, 0, None],
        "probability": [0.8, 0.1, None],
        "found": [6, 1, None],
        "unit": "features",
    }
    assert [row["unknown"] for row in words.rows(proof)] == [2, 0, None]
    axes = bars(["a", "b", "c"], words.rows(proof), "lit features").axes[0]
    proved, unknown = axes.containers
    assert [bar.get_width() for bar in proved][:2] == [3.5, 0.5]
    assert [bar.get_width() for bar in unknown][:2] == [2.0, 0.0]
    assert torch.tensor(axes.lines[0].get_xdata()).tolist() == [6, 1]


def test_what_torch_says_of_a_network_it_cannot_export_stays_inside(tmp_path):
    """One line on stderr, in a process of its own, since torch logs to the stderr that it found
    first."""
    (tmp_path / "net.py").write_text("""
from torch import nn
class Asks(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(64, 10)
    def forward(self, x):
        return self.line(x.flatten(1)) * (2 if x.sum().item() > 0.5 else 1)
def make(): return Asks()
""")
    asked = f"certify --data digits --model {tmp_path / 'net.py'}:make --out {tmp_path / 'c'}"
    command = [sys.executable, "-m", "blankcheck", *asked.split()]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2 and len(ended.stderr.splitlines()) == 1 and ended.stdout == "", (
        ended.stderr
    )
