"""What a report shows of hardening, from records made by hand."""

from __future__ import annotations

import json
import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest
from test_report import FAILED_ALL, HOSTILE, begin, make_run, one_round, page_of, text_of

from blankcheck.errors import RunFolderError
from blankcheck.figures import drawing
from blankcheck.judging.metrics import upper_bound_95
from blankcheck.report.charts.forgetting import forgetting, forgetting_matrix
from blankcheck.report.charts.rounds import Line, calibration, lit_features, success
from blankcheck.runs.folder import RunFolder

HARDENING = ("success", "forgetting", "real", "sparsity")
IN_MARKDOWN = ("success", "forgetting")
ODD = (
    HOSTILE,
    "$x_1$ \\frac",
    "größe 猫 \ud800\x07",
    "_hidden",
    "w" * 500,
    "a|b`c`*d*[e](f)\n# g",
    "",
    " ",
)


@pytest.fixture
def words_alone(monkeypatch):
    """Pages without their figures."""
    monkeypatch.setattr(drawing, "svg", lambda figure: "<svg></svg>")


def one_set(
    what: str, network: int, of: int | None, fooled: float | None, images: int = 100
) -> dict[str, Any]:
    return {
        "kind": "set",
        "what": what,
        "round": network,
        "set_round": of,
        "images": images,
        "fooled": fooled,
        "handled": 0.9,
        "right_fake": None,
        "per_class": {"0": {"images": 10, "fooled": 0.1}},
    }


TRAINED = [
    one_set("trained", 0, 0, 0.3),
    one_set("trained", 1, 0, 0.5),
    one_set("trained", 1, 1, 0.0),
    one_set("trained", 2, 0, 0.25),
    one_set("trained", 2, 2, 0.125),
]
OTHERS = [
    one_set("fresh", 0, 0, 1.0),
    one_set("fresh", 1, 0, 0.5),
    one_set("fresh", 1, 1, 1.0),
    one_set("fresh", 2, 0, 0.25),
    one_set("fresh", 2, 1, 0.75),
    one_set("own:walk", 1, 1, 0.9),
    *(one_set("twin", r, None, 0.5) for r in range(3)),
    *(one_set("twin:walk", r, None, 0.1 * r) for r in range(3)),
]
ROUNDS = [one_round(r) for r in range(3)]


def harden_run(path, records) -> RunFolder:
    run = begin(path, "harden")
    run.write_lines("metrics.jsonl", records)
    return run


def alt_of(page: str, start: str) -> str:
    return next(
        words for words in re.findall(r'aria-label="([^"]*)"', page) if words.startswith(start)
    )


def said(lines: list[Line]) -> dict[str, list[float]]:
    return {line.words: line.values for line in lines}


def test_the_forgetting_matrix_is_a_lower_triangle():
    matrix = forgetting([*TRAINED, *OTHERS])
    assert matrix is not None
    assert matrix.rounds == [0, 1, 2]
    assert matrix.shares == [[0.3, None, None], [0.5, 0.0, None], [0.25, None, 0.125]]


def test_the_matrix_knows_only_what_was_measured():
    later = one_set("trained", 0, 1, 0.7)
    empty = one_set("trained", 1, 1, None, images=0)
    matrix = forgetting([one_set("trained", 1, 0, 0.2), later, empty])
    assert matrix is not None and matrix.shares == [[None, None], [0.2, None]]
    assert forgetting([later, empty, *OTHERS]) is None
    assert forgetting([]) is None


def test_the_success_curves_known_answer():
    rounds = [one_round(0) | {"fresh_rate": 0.5, "fresh_upper_95": 0.75}, *ROUNDS[1:]]
    fresh, others = success(rounds, [*TRAINED, *OTHERS])
    assert [line.values for line in fresh] == [
        [0.5, 0.1, 0.1],
        [0.75, *[upper_bound_95(5, 50)] * 2],
        [0.2] * 3,
    ]
    assert said(others) == {
        "earlier networks, mean": pytest.approx([math.nan, 0.5, 0.5], nan_ok=True),
        "twin, same search": [0.5, 0.5, 0.5],
        "twin, walk": [0.0, 0.1, 0.2],
    }


def test_of_many_processes_the_mean_is_drawn():
    sets = [one_set(f"twin:{p}", 0, None, p / 10) for p in range(5)] + [
        one_set("twin:4", 1, None, 0.5)
    ]
    _, others = success(ROUNDS[:2], sets)
    assert said(others) == {"twin, mean of 5 others": [pytest.approx(0.2), 0.5]}
    assert len(success(ROUNDS[:1], sets[:4])[1]) == 4


def test_lines_without_a_share_are_left_out():
    sets = [
        one_set("twin:walk", 7, None, 0.5),
        one_set("twin", 0, None, None, images=0),
        one_set("new kind", 0, 0, 0.1),
    ]
    assert success(ROUNDS, sets)[1] == []


def test_processes_with_like_names_keep_their_lines():
    sets = [one_set(f"twin:{'w' * 40}{i}", 0, None, 0.1 * i) for i in range(2)]
    assert [line.values for line in success(ROUNDS[:1], sets)[1]] == [[0.0], [0.1]]


def test_hardening_is_shown_with_and_without_an_audit(tmp_path):
    halfway, whole = (
        harden_run(tmp_path / "a", [*ROUNDS, *TRAINED, *OTHERS]),
        make_run(tmp_path / "b", FAILED_ALL),
    )
    whole.write_lines("metrics.jsonl", [*ROUNDS, *TRAINED, *OTHERS])
    whole.write_json("hardening.json", {"kept_round": 2, "rounds": 3})
    for run in (halfway, whole):
        page, markdown = page_of(run), (run / "report.md").read_text()
        assert "Hardening Each round trains" in text_of(page)
        for name in HARDENING:
            assert (run / "figures" / f"{name}.svg").read_text().startswith("<svg")
        assert all(f"](figures/{name}.svg)" in markdown for name in IN_MARKDOWN)
        assert "Read a column downwards" in page
        words = alt_of(page, "Share of the images trained on")
        assert "Worst: 50.0% of round 1&#39;s images fool the network after round 2;" in words
        assert (
            "after round 3, is fooled by 25.0% of round 1&#39;s, 12.5% of round 3&#39;s." in words
        )
        words = alt_of(page, "Can a new search still fool it.")
        assert "fooled 10.0% at first and 10.0% at last; its 95% upper bound" in words
        assert "twin, walk 0% at first and 20.0% at last" in words


def test_older_folders_show_what_they_hold(tmp_path, words_alone):
    run = harden_run(tmp_path / "a", ROUNDS)
    page = page_of(run)
    assert not (run / "figures" / "forgetting.svg").exists()
    assert "Read a column" not in page + (run / "report.md").read_text()
    assert "made for other networks" not in page and "A twin is" not in page
    assert (run / "figures" / "success.svg").is_file()
    assert not (run / "figures" / "calibration.svg").exists()


def test_runs_that_were_not_hardened_have_no_such_section(tmp_path):
    run = begin(tmp_path / "a", "audit")
    assert 'id="hardening"' not in page_of(run)
    assert "## Hardening" not in (run / "report.md").read_text()
    assert not any((run / "figures" / f"{name}.svg").exists() for name in HARDENING)


def test_sets_without_rounds_still_make_the_matrix(tmp_path, words_alone):
    run = harden_run(tmp_path / "a", TRAINED)
    assert "Read a column" in page_of(run)
    assert not (run / "figures" / "success.svg").exists()


def test_a_pair_shows_the_hardening_of_the_last(tmp_path, words_alone):
    before, after = make_run(tmp_path / "before"), make_run(tmp_path / "after", FAILED_ALL)
    before.write_lines("metrics.jsonl", [*ROUNDS, *TRAINED])
    assert "Read a column" not in page_of(after, before)
    after.write_lines("metrics.jsonl", [*ROUNDS, *TRAINED])
    assert page_of(after, before).count("Read a column") == 1


def test_names_of_processes_are_only_text(tmp_path):
    for part in (ODD[:4], ODD[4:]):
        sets = [one_set(f"twin:{name}", r, None, 0.5) for name in part for r in range(2)]
        run = harden_run(tmp_path / "a", [*ROUNDS, *sets])
        page, markdown = page_of(run), (run / "report.md").read_text()
        for written in (page.replace("<script>", "", 1), markdown):
            assert "<script" not in written and "w" * 100 not in written and "\n# g" not in written


BROKEN = {
    "a set without a kind": ({"what": None}, "what must be str, got null"),
    "a set of no network": ({"round": True}, "round must be int"),
    "a set of text": ({"fooled": HOSTILE}, "fooled must be float"),
    "a share above one": ({"fooled": 1.5}, "fooled must be float <= 1"),
    "no share of some images": ({"fooled": None}, "fooled must be a number, got null"),
    "a share that is no number": ({"fooled": float("nan")}, "NaN is no finite number"),
    "a training set of no round": ({"set_round": None}, "lacks 'set_round'"),
    "a round before the first": ({"set_round": -1}, "set_round must be int >= 0"),
    "a round that nobody reaches": ({"round": 10**18}, "round must be int <= 1000000"),
    "a rate above one": ({"kind": "round", "fresh_rate": 7}, "fresh_rate must be float <= 1"),
    "a bound of text": ({"kind": "round", "fresh_upper_95": "x"}, "fresh_upper_95 must be float"),
    "real images of no split": ({"kind": "real", "split": None}, "split must be str"),
    "a calibration of text": (
        {"kind": "real", "split": "test", "calibration_error": "x"},
        "calibration_error must be float",
    ),
    "more right than there are": (
        {"kind": "real", "split": "test", "accuracy": 2},
        "accuracy must be float <= 1",
    ),
    "a search of no round": ({"kind": "search", "round": -1}, "round must be int >= 0"),
    "a search without quantiles": ({"kind": "search", "lit": {"q10": 3}}, "lit lacks 'q50'"),
    "seconds of text": (
        {"kind": "round", "training_seconds": "x"},
        "training_seconds must be float",
    ),
    "a negative index": ({"kind": "round", "index": -3}, "index must be int >= 0"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_record_is_one_clear_line(tmp_path, case):
    changes, words = BROKEN[case]
    record = one_round(0) | TRAINED[0] | changes
    run = harden_run(tmp_path / "a", [one_round(0)])
    run.write("metrics.jsonl", json.dumps(one_round(0)) + "\n" + json.dumps(record) + "\n")
    with pytest.raises(RunFolderError, match=rf"metrics\.jsonl.* line 2.*{words}") as caught:
        page_of(run)
    assert "\n" not in str(caught.value)
    assert not (run / "report.html").exists()


def test_a_record_that_lacks_a_key_says_which(tmp_path):
    run = harden_run(
        tmp_path / "a", [{"kind": "set", "what": "trained", "round": 0, "set_round": 0}]
    )
    with pytest.raises(RunFolderError, match="line 1 lacks 'images'"):
        page_of(run)


def test_only_what_is_shown_is_asked_for(tmp_path, words_alone):
    bare = {
        key: TRAINED[0][key] for key in ("kind", "what", "round", "set_round", "images", "fooled")
    }
    twin = {"kind": "set", "what": "twin", "round": 0, "images": 3, "fooled": 1}
    assert "Read a column" in page_of(harden_run(tmp_path / "a", [ROUNDS[0], bare, twin]))


@pytest.mark.parametrize("n", [1, 2, 12, 13, 40])
def test_every_number_of_rounds_has_its_pictures(n):
    matrix = forgetting([one_set("trained", r, i, i / n) for r in range(n) for i in range(r + 1)])
    assert matrix is not None
    figure = forgetting_matrix(matrix, n - 1)
    rows = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert rows[-1] == f"kept → {n}" and len(rows) <= 16
    numbers = [text.get_text() for text in figure.axes[0].texts if text.get_text().isdecimal()]
    assert len(numbers) == (n * (n + 1) // 2 if n <= 12 else 0)
    ElementTree.fromstring(drawing.svg(figure))


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0"), (1e-6, "<1"), (0.005, "<1"), (0.01, "1"), (0.34, "34"), (0.9999, ">99"), (1, "100")],
)
def test_almost_nothing_forgotten_is_not_nothing(share, shown):
    matrix = forgetting([one_set("trained", 0, 0, share)])
    assert matrix is not None
    assert [t.get_text() for t in forgetting_matrix(matrix, None).axes[0].texts] == [shown]


REALS = [
    {
        "kind": "real",
        "split": "validation",
        "round": r,
        "accuracy": 0.9,
        "taken_for_fake": 0.0,
        "calibration_error": 0.02 * r,
    }
    for r in range(3)
]
SEARCHES = [
    {
        "kind": "search",
        "what": "fresh",
        "round": 1,
        "lit": {"mean": 20, "q10": 10, "q50": 20, "q90": 30},
    },
    {"kind": "search", "what": "fresh", "round": 2, "lit": None},
    {"kind": "search", "what": "own:x", "round": 0},
]


def same(first, second) -> bool:
    """Equal, where nan is nan."""
    return first == pytest.approx(second, nan_ok=True)


def test_sparsity_known_answer():
    nan = float("nan")
    found = lit_features([ROUNDS[0] | {"fresh_fewest": None}, *ROUNDS[1:]], SEARCHES)
    known = [nan, 10, nan], [nan, 20, nan], [nan, 30, nan], [nan, 10, 11]
    assert all(same(values, expected) for values, expected in zip(found, known, strict=True))


def test_calibration_knows_only_what_was_measured():
    test = {"kind": "real", "split": "test", "round": 0, "calibration_error": 0.9}
    assert calibration(ROUNDS, [test]) == []
    lines = said(calibration(ROUNDS, [*REALS[1:], test]))
    assert same(lines["expected calibration error"], [float("nan"), 0.02, 0.04])
    assert same(lines["real images taken for fake"], [float("nan"), 0, 0])


def test_rounds_are_told_in_full(tmp_path, words_alone):
    later = {"backward": 1234, "training_seconds": 2, "looking_seconds": 0.5}
    run = harden_run(tmp_path / "a", [*(r | later for r in ROUNDS), *REALS, *SEARCHES])
    page = page_of(run)
    assert "fewest of all 9 at first and 11 at last" in alt_of(page, "How many lit")
    assert "median of attempts 20 at first and 20 at last" in alt_of(page, "How many lit")
    assert "expected calibration error 0% at first and 4.0% at last" in alt_of(page, "Calibration")
    assert "1 90.0% 80.0% 10.0% 9 0.5 0.1 1,234 2.5" in text_of(page)


@pytest.mark.parametrize("rounds", [1, 30])
def test_figures_of_rounds_of_every_kind(tmp_path, rounds):
    records = [one_round(r) | {"fresh_fewest": None} for r in range(rounds)]
    run = harden_run(tmp_path / "a", [*records, *REALS[:1], *OTHERS[:1]])
    run.write_json("hardening.json", {"kept_round": rounds - 1})
    assert "fewest of all unknown" in alt_of(page_of(run), "How many lit")
    for name in ("success", "real", "sparsity", "calibration"):
        figure = ElementTree.fromstring((run / "figures" / f"{name}.svg").read_text())
        words = [text.text for text in figure.iter("{http://www.w3.org/2000/svg}text")]
        assert "network after round" in words and "kept" in words and str(rounds) in words
