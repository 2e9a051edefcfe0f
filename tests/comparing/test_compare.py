"""Which differences are beyond chance: statistics against published values, and `compare` on run
folders made by hand."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from scipy import stats

from blankcheck.cli.commands.compare import table
from blankcheck.cli.main import main
from blankcheck.comparing.page import lit_curves
from blankcheck.comparing.pairs import Comparison, compare_runs
from blankcheck.comparing.run import names_of, run_of
from blankcheck.comparing.statistics import (
    LEVEL,
    Contrast,
    compare_lit,
    compare_shares,
    compare_successes,
    correct,
    newcombe_paired,
    sign_test,
    wilson,
)
from blankcheck.judging import Evidence, Finding, RealData, judge, verdict_json
from blankcheck.judging.evidence import Attempt, Cost, OODRecord
from blankcheck.runs.contents import read_run
from blankcheck.runs.folder import RunFolder
from blankcheck.types import Conditions

HOSTILE = '<script>alert("x")</script>'
MINUS = "\N{MINUS SIGN}"
WANT = Conditions(confidence=0.9, max_lit=12, ood_level=0.01)


@pytest.fixture(autouse=True)
def quick_figure(request, monkeypatch):
    """Only tests that ask for `real_figure` pay for drawing."""
    if "real_figure" not in request.fixturenames:
        monkeypatch.setattr("blankcheck.figures.drawing.svg", lambda figure: "<svg></svg>")


@pytest.fixture
def real_figure() -> None:
    """The figure as it is."""


# statistics


@pytest.mark.parametrize(
    ("first", "second", "interval"),
    [
        ((48, 80), (56, 70), (0.0524, 0.3339)),
        ((3, 10), (9, 10), (0.1705, 0.8090)),
        ((0, 29), (5, 56), (-0.0381, 0.1926)),
        ((0, 20), (0, 10), (-0.1611, 0.2775)),
        ((0, 20), (10, 10), (0.6791, 1.0)),
        ((0, 10), (10, 10), (0.6075, 1.0)),
    ],
)
def test_a_difference_of_shares_has_the_published_interval(first, second, interval):
    """Newcombe 1998, Statistics in Medicine 17:873, table II, method 10."""
    found = compare_shares(*first, *second)
    assert (found.low_95, found.high_95) == pytest.approx(interval, abs=5e-5)
    table = [[first[0], first[1] - first[0]], [second[0], second[1] - second[0]]]
    assert found.p == pytest.approx(stats.fisher_exact(table).pvalue)
    assert found.difference == pytest.approx(second[0] / second[1] - first[0] / first[1])


def test_newcombe_gives_the_published_intervals_of_pairs():
    """Newcombe 1998, Statistics in Medicine 17:2635, and Altman et al. 2000, table 6.2 (0.011 to
    0.226)."""
    assert newcombe_paired(36, 2, 12, 50) == pytest.approx((0.0569, 0.3404), abs=5e-5)
    assert newcombe_paired(14, 0, 5, 41) == pytest.approx((0.0115, 0.2265), abs=5e-5)


def test_wilson_known_answer():
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)
    assert all(wilson(0, n)[0] == 0.0 and wilson(n, n)[1] == 1.0 for n in range(1, 20))


def corrected(*p_values: float) -> list[float | None]:
    contrasts = [Contrast(p=p) for p in p_values]
    assert correct([*contrasts, Contrast()]) == len(p_values), "what was not tested does not count"
    assert all(c.beyond_chance == (c.p_holm <= LEVEL) for c in contrasts)
    return [c.p_holm for c in contrasts]


def test_holm_by_hand():
    assert corrected(0.01, 0.04, 0.03, 0.005) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert corrected(0.6, 0.9) == [1.0, 1.0] and corrected() == []


def test_signs_by_hand():
    assert sign_test(2, 12) == pytest.approx(2 * (1 + 14 + 91) / 2**14) and sign_test(0, 0) == 1.0
    found = compare_successes([True, True, False, False], [True, False, True, False], True)
    assert found.difference == 0 and found.p == 1.0


def test_no_fooling_image_counts_as_more_lit_than_any():
    assert compare_lit([3, None, None, 5], [None, 4, None, 5], True).superiority == 0.5
    found = compare_lit([1, 2, 3], [None, None, None], False)
    assert found.superiority == 1.0
    assert found.p == pytest.approx(stats.mannwhitneyu([9, 9, 9], [1, 2, 3]).pvalue)
    assert compare_lit([None, None], [None], False).p == 1.0, "nothing to rank"
    assert compare_lit([1, 4], [2, 4], False).superiority == pytest.approx((1 + 0 + 1 + 0.5) / 4)


def test_pairs_must_be_pairs():
    with pytest.raises(ValueError, match="shorter|longer"):
        compare_successes([True], [], True)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60), st.booleans())
@settings(max_examples=60, deadline=None)
def test_swapping_runs_turns_the_signs_of_rates(pairs, paired):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    there = compare_successes(first, second, paired)
    back = compare_successes(second, first, paired)
    assert there.difference == pytest.approx(-back.difference)
    assert there.p == pytest.approx(back.p) and 0 <= there.p <= 1
    assert (there.low_95, there.high_95) == pytest.approx((-back.high_95, -back.low_95))
    assert -1 <= there.low_95 <= there.difference + 1e-12
    assert there.difference - 1e-12 <= there.high_95 <= 1
    same = compare_successes(first, first, paired)
    assert same.p == 1.0 and same.difference == 0


counts = st.lists(st.one_of(st.none(), st.integers(0, 40)), min_size=1, max_size=60)


@given(counts, counts)
@settings(max_examples=60, deadline=None)
def test_swapping_runs_turns_superiority_round(first, second):
    there, back = compare_lit(first, second, False), compare_lit(second, first, False)
    assert there.superiority == pytest.approx(1 - back.superiority)
    assert there.p == pytest.approx(back.p) and 0 <= there.p <= 1
    for paired in (False, True):
        same = compare_lit(first, first, paired)
        assert same.superiority == pytest.approx(0.5) and same.p == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("paired", [False, True])
def test_chance_alone_is_seldom_called_a_difference(paired):
    """Two searches of one network: the share of comparisons with p <= 0.05 stays near 0.05 or
    below, and Holm's below."""
    draw = np.random.default_rng(0)
    tries, single, any_of_page = 150, 0, 0
    for _ in range(tries):
        contrasts = []
        for rate in (0.3, 0.6):
            first, second = draw.random(50) < rate, draw.random(50) < rate
            lit = [
                [int(k) if f else None for f, k in zip(run, draw.poisson(9, 50), strict=True)]
                for run in (first, second)
            ]
            contrasts.append(compare_successes(list(first), list(second), paired))
            contrasts.append(compare_lit(*lit, paired))
        single += sum(c.p <= LEVEL for c in contrasts)
        any_of_page += min(c.p for c in contrasts) * len(contrasts) <= LEVEL
    assert single / (4 * tries) <= 0.065
    assert any_of_page / tries <= 0.08


# runs


def attempt(target: int, lit: int | None) -> Attempt:
    fooled = lit is not None
    return Attempt(target, fooled, "noise/adaptive", lit or 20, 0.93 if fooled else 0.4, 0.002, lit)


def make_run(
    path: Path,
    lit: list[int | None],
    *,
    classes: tuple[str, ...] = ("cat", "dog"),
    real: tuple[float, float] = (0.97, 0.95),
    images: int | None = 400,
    want: Conditions = WANT,
    **config: Any,
) -> Path:
    """An audit folder whose attempt i is at class i modulo the number of classes."""
    attempts = tuple(attempt(i % len(classes), k) for i, k in enumerate(lit))
    record = OODRecord("marginal", ("few lit",), 0.001, 3, images) if images is not None else None
    checks = (Finding("x", "A check", "passed", "It passed.", "", True),)
    evidence = Evidence(
        want,
        classes,
        attempts,
        {"noise/adaptive": len(attempts)},
        RealData(*real, 0.0, 0.97),
        (),
        Cost(10, 5, 1.0),
        (),
        record,
    )
    run = RunFolder.create(path)
    run.begin(
        "audit",
        {"data": "tiny", "model": "mlp", "seed": 0, "preset": "smoke", **config},
        torch.device("cpu"),
    )
    made = [a for a in attempts if a.fooled]
    image = torch.zeros(len(made), 1, 8, 8)
    for row, a in zip(image, made, strict=True):
        row.view(-1)[: a.lit] = 1.0
    run.write(
        "witnesses.safetensors",
        bytes(
            save(
                {
                    "images": image,
                    "targets": torch.tensor([a.target for a in made], dtype=torch.int64),
                    "confidence": torch.tensor([a.confidence for a in made]),
                    "lit": torch.tensor([a.lit for a in made], dtype=torch.int64),
                    "ood_p": torch.tensor([a.ood_p for a in made]),
                }
            )
        ),
    )
    run.write_lines("attempts.jsonl", (vars(a) for a in attempts))
    run.write_json("verdict.json", verdict_json(evidence, checks, judge(evidence, checks)))
    return path


FOOLED: list[int | None] = [3, 4, 5, 6, 7] * 8
RESISTED: list[int | None] = [None] * 40
MIXED: list[int | None] = [9, None] * 20


def compare(capsys, *arguments: str) -> tuple[list[str], str]:
    code = main(["compare", *arguments])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out.splitlines(), err


def refused(capsys, *arguments: str) -> str:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    assert code == 2 and out == "" and err.count("\n") == 1, (code, out, err)
    return err


def text_of(page: str) -> str:
    body = page[page.index("<body>") :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_before_and_after(tmp_path, capsys, real_figure):
    a = make_run(tmp_path / "plain", FOOLED)
    b = make_run(tmp_path / "hardened", RESISTED, real=(0.98, 0.96))
    out = tmp_path / "out"
    lines, _ = compare(capsys, str(a), str(b), "--out", str(out))
    assert lines[0] == "COMPARED  hardened is fooled less often than plain"
    assert lines[-1] == str(out / "compare.html")
    record = json.loads((out / "compare.json").read_text())
    (pair,) = record["comparisons"]
    assert pair["paired"] and pair["rate"]["test"] == "McNemar's exact test"
    assert pair["lit"]["test"] == "sign test"
    assert pair["rate"]["p"] == pytest.approx(2 / 2**40) and pair["rate"]["difference"] == -1
    assert pair["rate"]["p_holm"] == pytest.approx(4 * 2 / 2**40)
    assert record["tests"] == {"measures": 4, "classes": 2}
    assert pair["rate"]["finding"] == "fooled less often"
    assert pair["lit"]["finding"] == "needs more lit"
    assert pair["lit"]["superiority"] == 1.0
    assert pair["accuracy"]["p"] == pytest.approx(stats.fisher_exact([[388, 12], [392, 8]]).pvalue)
    assert not pair["accuracy"]["beyond_chance"]
    assert all(pair["classes"][c]["beyond_chance"] for c in "01")
    html = (out / "compare.html").read_text()
    text = text_of(html)
    assert "hardened is fooled less often than plain." in text and "2 of 2 classes" in text
    assert "Attempts are paired, because data, seed, preset and targets are the same" in text
    assert f"Attempts fooled 100% 0% {MINUS}100.0 points" in text
    assert "Real images right 97.0% 98.0%" in text
    assert not re.search(r"https?:|<script|<link[^>]*stylesheet|@import", html)
    assert re.search(r'role="img" aria-label="[^"]*hardened', html)
    markdown = (out / "compare.md").read_text()
    assert markdown.startswith("## hardened is fooled less often than plain\n")
    assert "| hardened | RESISTED | 0% (0 of 40) |" in markdown
    assert "**fooled less often**" in markdown
    assert (out / "figures" / "compare-lit.svg").read_text().startswith("<svg")


def test_the_configuration_names_the_runs(tmp_path, capsys):
    a, b = make_run(tmp_path / "a", FOOLED), make_run(tmp_path / "b", MIXED)
    compare(capsys, str(a), str(b), "--out", str(tmp_path / "o"))
    assert RunFolder.open(tmp_path / "o").read_config()["runs"] == [str(a), str(b)]
    before = (tmp_path / "o" / "compare.json").read_bytes()
    assert "--overwrite begins anew" in refused(
        capsys, "compare", str(a), str(b), "--out", str(tmp_path / "o")
    )
    compare(capsys, str(a), str(b), "--out", str(tmp_path / "o"), "--overwrite")
    assert (tmp_path / "o" / "compare.json").read_bytes() == before, (
        "again into the same folder, to the same bytes"
    )


def test_json_is_one_object(tmp_path, capsys):
    a, b = make_run(tmp_path / "a", FOOLED), make_run(tmp_path / "b", MIXED)
    (line,), err = compare(capsys, str(a), str(b), "--out", str(tmp_path / "o"), "--json")
    record = json.loads(line)
    assert record["report"] == str(tmp_path / "o" / "compare.html") and err == ""
    assert [r["name"] for r in record["runs"]] == ["b", "a"], "fewest fooled first"


def compared(*folders: Path) -> Comparison:
    named = zip(names_of([str(f) for f in folders]), folders, strict=True)
    runs = [run_of(name, read_run(RunFolder.open(folder))) for name, folder in named]
    return compare_runs(runs, runs[0])


def pair_of(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], lit=(FOOLED, RESISTED)
) -> dict[str, Any]:
    one = make_run(tmp_path / "a", list(lit[0]), **first)
    return compared(one, make_run(tmp_path / "b", list(lit[1]), **second)).pairs[0].record


def test_other_seeds_are_not_paired(tmp_path):
    pair = pair_of(tmp_path, {"seed": 0}, {"seed": 1})
    assert "seeds differ (0 and 1)" in pair["why_not_paired"] and not pair["paired"]
    assert pair["rate"]["test"] == "Fisher's exact test"
    assert pair["lit"]["test"] == "Mann-Whitney test"


def test_other_targets_and_unsaid_seeds_are_not_paired(tmp_path):
    fewer = pair_of(tmp_path / "x", {}, {}, (FOOLED, RESISTED[:-1]))
    assert "same targets" in fewer["why_not_paired"]
    unsaid = pair_of(tmp_path / "y", {"seed": None}, {})
    assert "does not say its seed" in unsaid["why_not_paired"]


@pytest.mark.parametrize(
    ("change", "word", "tested"),
    [
        ({"want": Conditions(0.9, 30, 0.01)}, "max_lit", {"accuracy", "confident"}),
        ({"want": Conditions(0.8, 12, 0.01)}, "confidence", {"accuracy"}),
        ({"preset": "proof"}, "preset", {"accuracy", "confident"}),
        ({"data": "other"}, "data", set()),
        ({"classes": ("cat", "eel")}, "data", set()),
    ],
)
def test_other_questions_are_shown_but_not_tested(tmp_path, change, word, tested):
    pair = pair_of(tmp_path, {}, change)
    assert pair["unlike"] == [word] and pair["classes"] == {}
    measures = ("rate", "lit", "accuracy", "confident")
    assert {m for m in measures if pair[m]["test"] is not None} == tested
    assert pair["rate"]["why_not_tested"] == f"other {word}"


def test_unlike_runs_are_warned_about(tmp_path, capsys):
    a, b = (
        make_run(tmp_path / "a", FOOLED),
        make_run(tmp_path / "b", RESISTED, data="other", preset="proof"),
    )
    lines, _ = compare(capsys, str(a), str(b), "--out", str(tmp_path / "o"))
    assert lines[0] == (
        "COMPARED  b and a stand side by side; their rates are not tested: other data, preset"
    )
    assert any("b differs from a in data and preset" in line for line in lines)
    assert "Compare with care." in (tmp_path / "o" / "compare.html").read_text()
    assert "**Compare with care.**" in (tmp_path / "o" / "compare.md").read_text()


@pytest.mark.parametrize(
    ("images", "words"),
    [(None, "does not say how many test images"), (2000, "counted as 2,000 images")],
)
def test_how_many_test_images_there_were(tmp_path, capsys, images, words):
    a, b = (
        make_run(tmp_path / "a", FOOLED, images=images),
        make_run(tmp_path / "b", FOOLED, images=images),
    )
    compare(capsys, str(a), str(b), "--out", str(tmp_path / "o"))
    assert words in (tmp_path / "o" / "compare.html").read_text()


def test_no_attempts_are_no_test(tmp_path, capsys):
    a, b = make_run(tmp_path / "a", []), make_run(tmp_path / "b", FOOLED)
    lines, _ = compare(capsys, str(a), str(b), "--out", str(tmp_path / "o"))
    assert "not tested: one of the two made no attempt" in lines[0]
    assert "made no attempt" in (tmp_path / "o" / "compare.md").read_text()


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("rate", ["c", "b", "a"]),
        ("lit", ["c", "b", "a"]),
        ("accuracy", ["b", "a", "c"]),
        ("name", ["a", "b", "c"]),
    ],
)
def test_sorting_and_all_pairs_of_a_few(tmp_path, capsys, sort, order):
    runs = [
        make_run(tmp_path / "a", FOOLED, real=(0.9, 0.9)),
        make_run(tmp_path / "b", MIXED, real=(0.99, 0.9)),
        make_run(tmp_path / "c", RESISTED, real=(0.8, 0.7)),
    ]
    (line,), _ = compare(
        capsys, *map(str, runs), "--out", str(tmp_path / "o"), "--sort", sort, "--json"
    )
    record = json.loads(line)
    assert [r["name"] for r in record["runs"]] == order
    assert len(record["comparisons"]) == 3 and record["tests"]["measures"] == 12
    assert record["headline"] == (
        "2 runs against a, by how often they are fooled: 2 fooled less often"
    )


def test_twenty_runs(tmp_path, capsys, real_figure):
    draw = random.Random(0)
    runs = [
        make_run(
            tmp_path / f"run-{i:02}", [draw.choice([3, 9, None]) if i else 3 for _ in range(40)]
        )
        for i in range(20)
    ]
    lines, _ = compare(capsys, *map(str, runs), "--out", str(tmp_path / "o"))
    assert lines[0].startswith("COMPARED  19 runs against run-00, by how often ")
    page = (tmp_path / "o" / "compare.html").read_text()
    assert "run-00 and the first 7 other runs" in page and len(page) < 5_000_000
    assert len(json.loads((tmp_path / "o" / "compare.json").read_text())["comparisons"]) == 19
    assert "13 more pairs stand in compare.json" in lines[-2]


def test_the_same_run_twice_counts_once(tmp_path, capsys):
    a, b = make_run(tmp_path / "a", FOOLED), make_run(tmp_path / "b", MIXED)
    _, err = compare(capsys, str(a), str(b), f"{a}/../a", "--out", str(tmp_path / "o"))
    assert "named twice" in err
    assert len(json.loads((tmp_path / "o" / "compare.json").read_text())["runs"]) == 2
    assert "at least two different run folders" in refused(
        capsys, "compare", str(a), str(a), "--out", str(tmp_path / "p")
    )
    assert "at least two different run folders" in refused(
        capsys, "compare", str(a), "--out", str(tmp_path / "p")
    )
    assert not (tmp_path / "p").exists()


def test_a_copy_of_a_run_differs_nowhere(tmp_path, capsys):
    a, b = make_run(tmp_path / "a", MIXED), make_run(tmp_path / "b", MIXED)
    (line,), _ = compare(capsys, str(a), str(b), "--out", str(tmp_path / "o"), "--json")
    (pair,) = json.loads(line)["comparisons"]
    assert not any(pair[m]["beyond_chance"] for m in ("rate", "lit", "accuracy", "confident"))
    assert "do not differ beyond chance" in json.loads(line)["headline"]


def spoilt(run: Path, name: str, change: Any) -> Path:
    path = run / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    return run


def test_broken_folders_are_one_line(tmp_path, capsys):
    a, out = make_run(tmp_path / "a", FOOLED), ("--out", str(tmp_path / "o"))
    plain = RunFolder.create(tmp_path / "plain")
    plain.begin("train", {"data": "tiny"}, torch.device("cpu"))
    assert "has no verdict.json to compare" in refused(
        capsys, "compare", str(a), str(plain.path), *out
    )
    assert "does not exist" in refused(capsys, "compare", str(a), str(tmp_path / "none"), *out)
    wrong = spoilt(make_run(tmp_path / "w", FOOLED), "verdict.json", {"real_accuracy": 7})
    assert "real_accuracy must be" in refused(capsys, "compare", str(a), str(wrong), *out)
    many = make_run(tmp_path / "m", FOOLED)
    ood = json.loads((many / "verdict.json").read_text())["out_of_distribution_test"] | {
        "real_images": -3
    }
    spoilt(many, "verdict.json", {"out_of_distribution_test": ood})
    assert "real_images" in refused(capsys, "compare", str(a), str(many), *out)
    lines = (many / "attempts.jsonl").read_text().replace('"lit": 3', f'"lit": {10**400}', 1)
    (
        spoilt(many, "verdict.json", {"out_of_distribution_test": None}) / "attempts.jsonl"
    ).write_text(lines)
    assert "line 1: a whole number has 401 digits" in refused(
        capsys, "compare", str(a), str(many), *out
    )
    (many / "attempts.jsonl").write_text("{")
    assert "not readable JSON lines" in refused(capsys, "compare", str(a), str(many), *out)
    assert "sort" in refused(capsys, "compare", str(a), str(a), "--sort", "luck")
    assert not (tmp_path / "o").exists()


def test_another_commands_run_is_not_overwritten(tmp_path, capsys):
    a, b = make_run(tmp_path / "a", FOOLED), make_run(tmp_path / "b", MIXED)
    before = (a / "verdict.json").read_bytes()
    assert "holds a run already, of audit" in refused(
        capsys, "compare", str(a), str(b), "--out", str(a)
    )
    assert (a / "verdict.json").read_bytes() == before


@pytest.mark.parametrize(
    "name",
    [HOSTILE.replace("/", ""), "a|b`c`*d*", "größe 猫 \u202e\x07", "$x_1$ \\frac{", "[red]x[b]"],
)
def test_names_from_users_are_only_text(tmp_path, capsys, real_figure, name):
    a = make_run(tmp_path / name, FOOLED, classes=(HOSTILE, name))
    b = make_run(tmp_path / "b", RESISTED, classes=(HOSTILE, name))
    lines, _ = compare(capsys, str(a), str(b), "--out", str(tmp_path / "o"))
    assert lines[0].startswith("COMPARED  b is fooled less often than ")
    assert "\x07" not in "".join(lines[:-1])
    for written in (
        (tmp_path / "o" / "compare.html").read_text(),
        (tmp_path / "o" / "compare.md").read_text(),
    ):
        assert "<script" not in written and "\u202e" not in written
    if name.startswith("["):
        assert "than [red]x[b]" in lines[0]


def test_no_code_is_run(tmp_path, capsys):
    trap = tmp_path / "trap.py"
    trap.write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    runs = [
        str(make_run(tmp_path / n, FOOLED, data=f"{trap}:make", model=f"{trap}:make")) for n in "ab"
    ]
    compare(capsys, *runs, "--out", str(tmp_path / "o"))
    assert not (tmp_path / "sprung").exists()


def test_names_are_as_short_as_they_can_be():
    assert names_of(["runs/a/x", "runs/b/x", "runs/y"]) == ["a/x", "b/x", "y"]
    assert names_of(["a", "x/a"]) == ["a", "x/a"]
    assert names_of(["w" * 300, "y\x07"])[0].endswith("…") and names_of(["w", "y\x07z"])[1] == "y z"


@pytest.mark.parametrize("width", [140, 79, 50, 24])
def test_the_table_fits_the_terminal(tmp_path, width):
    names = {"plain": FOOLED, "hardened-with-a-long-name-that-goes-on": RESISTED, "猫" * 20: MIXED}
    lines = table(compared(*(make_run(tmp_path / n, k) for n, k in names.items())), width)
    from rich.cells import cell_len

    assert len(lines) == 4 and max(map(cell_len, lines)) <= width
    assert all(word in lines[0] for word in ("run", "fooled", "lit"))
    assert ("confident" in lines[0]) == (width > 70)


def test_lines_differ_in_more_than_colour(tmp_path):
    made = compared(*(make_run(tmp_path / f"run-{i}", [1 + i, None, 4]) for i in range(8)))
    axes = lit_curves(made.runs, 12, "pixels").axes[0]
    drawn = [line for line in axes.get_lines() if len(line.get_xdata()) > 2]
    assert len({(line.get_linestyle(), line.get_linewidth()) for line in drawn}) == 8
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [r.name for r in made.runs]
