"""The report is drawn from small run folders made by hand: no training, no model."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image
from safetensors.torch import load, save

from blankcheck.errors import RunFolderError
from blankcheck.figures import drawing, style
from blankcheck.judging import Control, Evidence, Finding, RealData, judge, verdict_json
from blankcheck.judging.check_rules import FAILED, NOT_APPLICABLE, PASSED
from blankcheck.judging.evidence import Attempt, Cost, OnTwin, OODRecord
from blankcheck.report.charts import audit, certificate, images
from blankcheck.report.page import write_report
from blankcheck.report.rendering import escape_markdown, headings, html_templates
from blankcheck.runs.folder import RunFolder
from blankcheck.text import number, one_line, percent
from blankcheck.types import Conditions

NOTHING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
HOSTILE = '<script>alert("x")</script>'
CLASSES = ("cat", "dog", "eel")
WANT = Conditions(confidence=0.9, max_lit=12, ood_level=0.01)


@pytest.fixture(autouse=True)
def no_drawing(request, monkeypatch):
    """Only tests that ask for `real_pictures` pay for drawing the figures of a report."""
    if "real_pictures" not in request.fixturenames:
        monkeypatch.setattr(drawing, "svg", lambda figure: "<svg></svg>")


@pytest.fixture
def real_pictures() -> None:
    """Figures are drawn."""


def attempt(
    target: int, lit: int, fooled: bool = True, confidence: float = 0.93, fewest: int | None = None
) -> Attempt:
    return Attempt(target, fooled, "noise/adaptive", lit, confidence, 0.002, fewest or lit)


def check(status: str, mandatory: bool = True) -> Finding:
    return Finding(
        "more-steps",
        "Ten times the steps",
        status,
        f"It {status}.",
        "Use --preset proof.",
        mandatory,
        "Why so.",
    )


FOOLED = (attempt(0, 3), attempt(0, 5), attempt(1, 7), attempt(2, 30, fooled=False))
FAILED_ALL = tuple(attempt(t, 20, fooled=False, confidence=0.4) for t in (0, 1, 2))


def make_run(
    path: Path,
    attempts: tuple[Attempt, ...] = FOOLED,
    extra: tuple[Attempt, ...] = (),
    checks: tuple[Finding, ...] = (check(PASSED),),
    classes: tuple[str, ...] = CLASSES,
    shape: tuple[int, int, int] = (1, 8, 8),
    nearest: bool = True,
    controls: tuple[Control, ...] = (),
    twin: OnTwin | None = None,
) -> RunFolder:
    """An audit folder as `Audit.write_into` leaves it, without its report."""
    evidence = Evidence(
        WANT,
        classes,
        attempts,
        {"noise/adaptive": len(attempts)},
        RealData(0.9873, 0.9612, 0.0034, 0.97),
        controls,
        Cost(4321, 1234, 5.5, 2.25),
        extra,
        OODRecord("marginal", ("few lit",), 0.001, 3, 400),
        {"a friend": (10, 4, 6)},
        twin,
    )
    run = begin(path, "audit")
    made = [a for a in (*attempts, *extra) if a.fooled]
    images = torch.zeros(len(made), *shape)
    for image, a in zip(images, made, strict=True):
        image.view(-1)[: a.lit] = 1.0
    tensors = {
        "images": images,
        "targets": torch.tensor([a.target for a in made], dtype=torch.int64),
        "confidence": torch.tensor([a.confidence for a in made]),
        "lit": torch.tensor([a.lit for a in made], dtype=torch.int64),
        "ood_p": torch.tensor([a.ood_p for a in made]),
        "process": torch.zeros(len(made), dtype=torch.int64),
        "extra": torch.arange(len(made)) >= len(made) - len(extra),
    }
    tensors |= {"nearest": torch.full_like(images, 0.5)} if nearest else {}
    run.write(
        "witnesses.safetensors", bytes(save(tensors, {"processes": json.dumps(["noise/adaptive"])}))
    )
    run.write_lines("attempts.jsonl", (vars(a) for a in attempts))
    run.write_json("verdict.json", verdict_json(evidence, checks, judge(evidence, checks)))
    return run


def begin(path: Path, command: str) -> RunFolder:
    run = RunFolder.create(path)
    run.begin(command, {"data": "tiny", "model": "mlp", "weights": None}, torch.device("cpu"))
    return run


def one_round(index: int) -> dict[str, Any]:
    return {
        "kind": "round",
        "index": index,
        "real_loss": 0.5 / (index + 1),
        "fooling_loss": 0.1,
        "validation_accuracy": 0.9,
        "validation_confident": 0.8,
        "fresh_attempts": 50,
        "fresh_rate": 0.1,
        "fresh_confident": 0.2,
        "fresh_fewest": 9 + index,
    }


def page_of(run: RunFolder, before: RunFolder | None = None) -> str:
    return write_report(run, before).read_text()


def text_of(page: str) -> str:
    """What a reader sees of a page."""
    body = page[page.index("<body>") :]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body))


def test_the_page_shows_the_numbers_of_the_verdict(tmp_path):
    run = make_run(tmp_path / "a")
    text, verdict = text_of(page_of(run)), run.read_json("verdict.json")
    assert "FOOLED" in text
    assert "attempts fooled 3 of 4 rate 75.0%" in text
    assert f"upper bound {verdict['rate_upper_95']:.1%}" in text
    assert (
        f"lit pixels, median {verdict['median_lit']} of 64; fewest {verdict['min_lit']}, allowed 12"
        in text
    )
    for share in ("98.73%", "96.12%", "0.34%"):
        assert share in text
    for target, row in verdict["targets"].items():
        rate, bound = percent(row["rate"]), percent(row["rate_upper_95"])
        cells = (
            CLASSES[int(target)],
            f"{row['fooled']} of {row['attempts']}",
            rate,
            bound,
            number(row["median_lit"]),
        )
        assert " ".join(cells) in text
    assert "Sparse at most 12 of 64 pixels lit 3 of 4" in text
    assert "Confident at least 90% sure 4 of 4" in text
    assert "Out of distribution unlike real shapes, p ≤ 0.01 4 of 4" in text
    assert "All three of one image: the attempt is fooled 3 of 4" in text
    assert "1,234 backward and 4,321 forward passes, 5.5 s; 2.2 s more" in text
    assert "93.0% sure, 3 lit" in text
    assert f"blankcheck verify {run.path}" in text


def test_markdown_and_pictures_stand_beside_the_page(tmp_path, real_pictures):
    run = make_run(tmp_path / "a")
    assert write_report(run) == tmp_path / "a" / "report.html"
    markdown = (run / "report.md").read_text()
    assert "## FOOLED · tiny · mlp" in markdown
    assert "| **3 of 4** | attempts fooled | rate 75.0%" in markdown
    shown = set(re.findall(r"\((figures/[\w-]+\.svg)\)", markdown))
    assert shown and shown <= {f"figures/{f.name}" for f in (run / "figures").iterdir()}
    page = (run / "report.html").read_text()
    for name in ("figures/lit-curve.svg", *shown):
        ElementTree.fromstring((run / name).read_text())
    assert page.count('<svg class="figure"') == 1
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)), "ids of figures are their own"


def test_the_page_needs_nothing_else(tmp_path, real_pictures):
    page = page_of(make_run(tmp_path / "a"))
    assert not re.search(r"https?:|<script\s|<link[^>]*stylesheet|@import|url\((?!#)", page)
    assert all(
        where[0] == "#" or where.startswith("data:")
        for where in re.findall(r"""(?:src|srcset|href)=["']?([^"'\s>]+)""", page)
    )
    assert not re.search(r"<img(?![^>]*alt=\"[^\"]+\")", page)
    assert len(page) < 5_000_000


def test_the_page_may_run_its_own_script_only(tmp_path):
    page = page_of(make_run(tmp_path / "a", classes=(HOSTILE, "dog", "eel")))
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src"
    assert f"{allowed} 'sha256-{digest}'\"" in page
    assert not re.search(r"<[^>]+\son\w+=", page)
    assert not re.search(r"innerHTML|eval|fetch|XMLHttp|import\(", script)


def test_the_sections_are_listed_and_their_headings_are_in_order(tmp_path):
    run = make_run(tmp_path / "a", classes=('<h2 id="x">y</h2>', "dog", "eel"))
    for page in (page_of(run), page_of(run, run)):
        listed = re.findall(r'<a href="#([\w-]+)">', page)
        assert (
            listed
            == [anchor for anchor, _ in headings(page)]
            == re.findall(r'<h2 id="([\w-]+)"', page)
        )
        assert len(set(listed)) == len(listed) >= 3 and "x" not in listed
        levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", page)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_tables_have_heads_and_all_details_are_closed_pairs(tmp_path):
    page = page_of(
        make_run(
            tmp_path / "a",
            checks=(check(PASSED), check(PASSED, False), check(NOT_APPLICABLE, False)),
        )
    )
    for table in re.findall(r"<table.*?</table>", page, re.DOTALL):
        assert 'scope="' in table
        cells = {
            len(re.findall(r"<t[hd][ >]", row))
            for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        }
        assert len(cells) == 1, "a row with another number of cells"
    assert page.count("<details>") == page.count("</details>") == page.count("<summary>") > 3


def luminance(colour: str) -> float:
    digits = colour.lstrip("#") if len(colour) == 7 else "".join(2 * d for d in colour.lstrip("#"))
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(first: str, second: str) -> float:
    """The ratio of the Web Content Accessibility Guidelines 2.2."""
    lighter, darker = sorted((luminance(first), luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def test_words_stand_out_from_their_paper():
    assert contrast("#fff", "#000000") == pytest.approx(21)
    style = html_templates().get_template("report.css").render()
    themes = re.findall(r":root\{([^}]*)\}", style)
    assert len(themes) == 3, "light, dark and printed"
    for theme in themes:
        colours = dict(re.findall(r"--(\w+):(#[0-9a-f]+)", theme))
        for paper in ("page", "card"):
            for words in ("ink", "muted", "fooled", "resisted", "unsure", "none"):
                assert contrast(colours[words], colours[paper]) >= 4.5, (words, paper)


def test_many_large_witnesses_stay_under_five_megabytes(tmp_path):
    attempts = tuple(attempt(i % 40, 5 + i % 7) for i in range(80))
    run = make_run(
        tmp_path / "a", attempts, classes=tuple(f"class {i}" for i in range(40)), shape=(3, 96, 96)
    )
    tensors = {"nearest": torch.rand(80, 3, 96, 96, generator=torch.Generator().manual_seed(0))}
    stored = load((run / "witnesses.safetensors").read_bytes())
    run.write("witnesses.safetensors", bytes(save(stored | tensors)))
    assert write_report(run, run).stat().st_size < 5_000_000


NAMES = (
    HOSTILE,
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "größe 猫 \u202e\x07",
    "w" * 5000,
    "a|b`c`*d*[e](f)\n# g",
    "$x_1$ \\frac",
)


@pytest.mark.parametrize("name", NAMES)
def test_names_from_users_are_only_text(tmp_path, name):
    run = make_run(tmp_path / "a", classes=(name, "dog", "eel"))
    run.write("config.yaml", json.dumps({"data": name, "model": name, "note": {"in": name}}))
    page, markdown = page_of(run), (run / "report.md").read_text()
    shown = re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)  # settings are given in full
    assert not any(letter in page for letter in "\u202e\x07")
    for written in (shown, markdown):
        assert "<script" not in written.replace("<script>//", "", 1)
        assert "<img src=x" not in written
        assert "w" * 400 not in written
        assert "\n# g" not in written
        assert ">49<" not in written
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {4}
    if name == HOSTILE:
        assert "&lt;script&gt;alert(" in page
        assert "&lt;script&gt;" in markdown
    if "猫" in name:
        assert "größe 猫" in page


def test_half_a_letter_is_replaced(tmp_path):
    run = make_run(tmp_path / "a")
    verdict = run.read_json("verdict.json") | {"classes": ["\ud800 half", "dog", "eel"]}
    run.write("verdict.json", json.dumps(verdict))
    run.write("config.yaml", '{"data": "\\ud800 half"}')
    assert "half" in page_of(run)


def test_checks_and_processes_are_only_text(tmp_path):
    finding = Finding("x", HOSTILE, FAILED, HOSTILE, HOSTILE, True)
    run = make_run(tmp_path / "a", FAILED_ALL, checks=(finding,))
    verdict = run.read_json("verdict.json")
    run.write_json(
        "verdict.json",
        verdict | {"processes": {HOSTILE: {"attempts": 3, "fooled": 0, "median_lit": None}}},
    )
    assert page_of(run).count("<script") == 1 and "<script" not in (run / "report.md").read_text()


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a|b", "a\\|b"), ("<b>", "&lt;b&gt;"), ("*x*\n# y", "\\*x\\* # y"), ("a & b", "a &amp; b")],
)
def test_markdown_shows_text_letter_for_letter(text, shown):
    assert escape_markdown(text) == shown


def test_the_third_condition_is_accounted_for(tmp_path):
    judged = tuple(
        replace(a, second_p=0.001 if a.lit < 7 else 0.5, survives_8bit=a.fooled) for a in FOOLED
    )
    text = text_of(page_of(make_run(tmp_path / "a", judged)))
    assert (
        "3 of 400 real test images (0.75%; 95% bounds 0.2" in text
        and "Guarantee: marginal." in text
    )
    assert "2 of 4 attempts are fooled (50.0%)" in text
    assert "3 of 4 attempts met a sparse and confident image" in text
    assert "3 of 3 witnesses still meet all conditions" in text
    assert "a friend rival 10 2 5" in text


def test_checks_that_do_not_apply_for_one_reason_share_a_row(tmp_path):
    checks = tuple(
        Finding(f"c{i}", f"Check {i}", NOT_APPLICABLE, why, "", False)
        for i, why in enumerate(("It was fooled.", "It is dark.", "It was fooled."))
    )
    text = text_of(page_of(make_run(tmp_path / "a", checks=(*checks, check(PASSED)))))
    assert (
        "Check 0 · Check 2 not applicable It was fooled." in text
        and "Check 1 not applicable It is dark." in text
    )
    assert text.index("It passed.") < text.index("It was fooled.")


def test_older_folders_without_later_figures_are_still_shown(tmp_path):
    run = make_run(tmp_path / "a")
    later = (
        "second_opinion",
        "eight_bit",
        "rivals",
        "out_of_distribution_test",
        "lit_curve",
        "controls",
        "twin",
    )
    verdict = {k: v for k, v in run.read_json("verdict.json").items() if k not in later}
    for found in verdict["checks"]:
        del found["means"]
    for row in verdict["targets"].values():
        del row["violated"]
    run.write_json("verdict.json", verdict)
    text = text_of(page_of(run))
    assert (
        "FOOLED" in text
        and "second opinion" not in text
        and "met a sparse and confident image" in text
    )
    assert "plain twin" not in text


def test_extra_witnesses_explain_a_fooled_verdict_at_rate_zero(tmp_path):
    run = make_run(tmp_path / "a", FAILED_ALL, extra=(attempt(1, 4),))
    text = text_of(page_of(run))
    assert "FOOLED" in text
    assert "Checks that search harder found 1 fooling image, though none of the 3" in text
    assert "fooling image beyond the attempts 1 outside the rate; fewest 4 lit, allowed 12" in text
    assert "93.0% sure, 4 lit p = 0.002" in text


def test_a_verdict_by_the_checks_says_which(tmp_path):
    run = make_run(tmp_path / "a", FAILED_ALL, extra=(attempt(1, 4), attempt(2, 5), attempt(2, 6)))
    tensors = load((run / "witnesses.safetensors").read_bytes())
    tensors["process"] = torch.tensor([0, 0, 1])
    names = {"processes": json.dumps(["more-steps: best/exchange", "by the way: any/search"])}
    run.write("witnesses.safetensors", bytes(save(tensors, names)))
    page, markdown = page_of(run), (run / "report.md").read_text()
    for said in (text_of(page), markdown):
        assert "found 2 fooling images, and the search met 1 more on its way" in said
        assert "Found by: ten times the steps 2." in said


def test_the_run_is_dated_and_its_weights_and_data_are_named(tmp_path):
    run = make_run(tmp_path / "a")
    run.write("config.yaml", "{data: tiny, preset: smoke, seed: 3}")
    tensors = load((run / "witnesses.safetensors").read_bytes())
    marks = {"fingerprint": "00ff" * 4, "data_fingerprint": "ab12" * 4}
    run.write("witnesses.safetensors", bytes(save(tensors, marks)))
    said = run.read_json("environment.json")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", said["date"])
    version = said["packages"]["blankcheck"]
    facts = f"2026-01-02 · blankcheck {version} · preset smoke · seed 3 · weights {'00ff' * 4}"
    run.write_json("environment.json", said | {"date": "2026-01-02T03:04:05+00:00"})
    page, markdown = page_of(run), (run / "report.md").read_text()
    assert f"{facts} · data {'ab12' * 4}" in text_of(page) and facts in markdown


def test_classes_have_a_table_only_where_they_differ(tmp_path):
    page = page_of(make_run(tmp_path / "a"))
    assert '<h2 id="classes">' in page and "classes alike" not in page
    page = page_of(make_run(tmp_path / "b", FAILED_ALL))
    assert '<h2 id="classes">' not in page
    assert "All 3 classes alike: 0% of attempts fooled, at most 95.0% (95% bound)." in text_of(page)


def test_resisted_is_no_proof(tmp_path):
    text = text_of(page_of(make_run(tmp_path / "a", FAILED_ALL)))
    assert "RESISTED : tiny · mlp None of 3 attempts fooled this classifier" in text
    assert "It is no proof. It speaks of this generator only" in text
    assert "None was found, so there is nothing to show." in text


def test_inconclusive_says_why(tmp_path):
    optional = Finding("y", "Other kinds of start", NOT_APPLICABLE, "Optional sentence.", "", False)
    page = page_of(make_run(tmp_path / "a", FAILED_ALL, checks=(check(NOT_APPLICABLE), optional)))
    why = re.findall(r'<ul class="why">(.*?)</ul>', page, re.DOTALL)
    assert "INCONCLUSIVE : tiny · mlp Nothing is proven." in text_of(page)
    assert len(why) == 1
    assert "Ten times the steps: It not-applicable." in why[0]
    assert "Optional sentence" not in why[0]


def test_before_and_after_stand_side_by_side(tmp_path, real_pictures):
    before, after = make_run(tmp_path / "before"), make_run(tmp_path / "after", FAILED_ALL)
    page = page_of(after, before)
    text = text_of(page)
    assert re.search(r"Before \S+before FOOLED", text)
    assert re.search(r"After \S+after RESISTED", text)
    assert "Attempts fooled 3 of 4 0 of 3" in text and "Found by checks" not in text
    assert f"Rate 75.0% 0% {MINUS}75.0 points (better)" in text
    assert "Real test images right 98.73% 98.73% no change" in text
    assert f"Confident with at most 4 lit 25.0% 0% {MINUS}25.0 points (better)" in text
    assert "compare with care" not in text
    assert "Before: 0% with at most 1, 25% with at most 4, 75% with at most 12" in page
    assert (after / "figures" / "witnesses-before.svg").is_file()
    assert not (before / "report.html").exists() and not (after / "report.html").exists()
    assert "## Before: FOOLED" in (after / "before-after.md").read_text()


def test_a_page_of_two_leaves_the_page_of_one_as_it_is(tmp_path):
    before, after = make_run(tmp_path / "before"), make_run(tmp_path / "after", FAILED_ALL)
    alone = page_of(after)
    held = {path: path.read_bytes() for path in after.path.rglob("*") if path.is_file()}
    assert write_report(after, before) == after / "before-after.html"
    assert alone == (after / "report.html").read_text()
    assert all(path.read_bytes() == content for path, content in held.items())
    after.begin("audit", {}, torch.device("cpu"))
    assert not (after / "before-after.html").exists() and not (after / "before-after.md").exists()


def test_the_folder_of_a_demo_shows_its_two_audits(tmp_path):
    demo = begin(tmp_path / "demo", "demo")
    assert "NOT AUDITED" in page_of(demo)
    make_run(tmp_path / "demo" / "audit")
    make_run(tmp_path / "demo" / "hardened", FAILED_ALL)
    text = text_of(page_of(demo))
    assert "Before: FOOLED, after: RESISTED." in text and "What changed" in text
    assert not (tmp_path / "demo" / "hardened" / "report.html").exists()


def test_a_comparison_of_unlike_audits_says_so(tmp_path):
    before, after = make_run(tmp_path / "before"), make_run(tmp_path / "after")
    verdict = before.read_json("verdict.json")
    verdict["conditions"]["max_lit"] = 300
    before.write_json("verdict.json", verdict)
    assert "The two audits differ in max_lit: compare with care." in text_of(page_of(after, before))


def test_a_comparison_needs_two_audits(tmp_path):
    with pytest.raises(RunFolderError, match=r"b has no verdict\.json"):
        write_report(make_run(tmp_path / "a"), begin(tmp_path / "b", "train"))


def test_training_without_an_audit_is_reported_as_such(tmp_path, real_pictures):
    run = begin(tmp_path / "a", "train")
    run.write_lines(
        "metrics.jsonl",
        [{"kind": "epoch", "epoch": e, "real_loss": 1 / (e + 1)} for e in range(3)]
        + [{"kind": "train", "real_accuracy": 0.991, "real_confident": 0.98, "seconds": 31.4}],
    )
    page = page_of(run)
    text = text_of(page)
    assert "NOT AUDITED : tiny · mlp This run (train) has not been audited" in text
    assert "of real test images right 99.10%" in text
    assert "of training 31 s 3 epochs" in text
    assert "Training loss over 3 epochs, from 1.000 to 0.333." in page
    assert "blankcheck verify" not in text


def test_rounds_are_shown_with_and_without_an_audit(tmp_path, real_pictures):
    halfway, whole = begin(tmp_path / "a", "harden"), make_run(tmp_path / "b")
    for run in (halfway, whole):
        run.write_lines("metrics.jsonl", [one_round(0), one_round(1), {"kind": "audit", "rate": 0}])
    whole.write_json("hardening.json", {"kept_round": 1, "rounds": 2})
    assert "of validation images right 90.00% after round 2" in text_of(page_of(halfway))
    assert "kept → 2 90.0% 80.0% 10.0% 10" in text_of(page_of(whole))


def test_an_empty_folder_still_has_a_report(tmp_path):
    assert "NOT AUDITED" in page_of(begin(tmp_path / "a", "demo"))


def test_a_folder_without_nearest_images_or_any_attempt(tmp_path, real_pictures):
    assert "Nearest real" not in page_of(make_run(tmp_path / "a", nearest=False))
    assert "No attempt was made." in page_of(make_run(tmp_path / "b", ()))


def _verdict(**changes: object) -> Callable[[RunFolder], object]:
    return lambda run: run.write_json("verdict.json", run.read_json("verdict.json") | changes)


def _file(name: str, content: str | bytes) -> Callable[[RunFolder], object]:
    return lambda run: run.write(name, content)


def _without(name: str) -> Callable[[RunFolder], object]:
    return lambda run: (run / name).unlink()


def _not_finite(run: RunFolder) -> object:
    return run.write(
        "verdict.json", (run / "verdict.json").read_text().replace('"rate": 0.75', '"rate": NaN')
    )


NO_NUMBER = {
    "cat": {
        "attempts": 1,
        "fooled": 0,
        "rate": 0,
        "rate_upper_95": 1,
        "median_lit": None,
        "min_lit": None,
    }
}
BROKEN: dict[str, tuple[Callable[[RunFolder], object], str]] = {
    "verdict is no JSON": (_file("verdict.json", "{"), "not readable JSON"),
    "verdict is a list": (_file("verdict.json", "[]"), "must be an object, got"),
    "a later schema": (_verdict(schema=9), "schema 9, this version reads schema 1"),
    "rate is text": (_verdict(rate=HOSTILE), "rate must be float"),
    "rate is not finite": (_not_finite, "NaN is no finite number"),
    "an unknown verdict": (_verdict(verdict="SAFE"), "verdict has an invalid value"),
    "a class without number": (_verdict(targets=NO_NUMBER), "a key of targets must be"),
    "checks lack a title": (_verdict(checks=[{"status": "passed"}]), r"checks\[0\] lacks 'title'"),
    "a second opinion of text": (
        _verdict(second_opinion={"attempts": 1, "fooled": 0, "rate": "x"}),
        "rate must be float",
    ),
    "a test without bounds": (
        _verdict(out_of_distribution_test={"guarantee": "none"}),
        "lacks 'real_images'",
    ),
    "a twin without counts": (
        _verdict(twin={"what": "x", "attempts": 2, "fooled": 1, "median_lit": 3}),
        "twin lacks 'lit'",
    ),
    "a twin with a count too many": (
        _verdict(twin={"what": "x", "attempts": 2, "fooled": 1, "median_lit": 3, "lit": [3, 3]}),
        "twin lit must have a number for each fooled attempt",
    ),
    "a twin of more attempts than there are": (
        _verdict(
            twin={"what": "x", "attempts": 10**12, "fooled": 0, "median_lit": None, "lit": []}
        ),
        "attempts must be int <= 1000000",
    ),
    "a control of text": (
        _verdict(controls={"positive-control": {"found": "x", "tries": 1}}),
        r"must be int \| float, got str",
    ),
    "a check that means a list": (
        _verdict(
            checks=[
                {
                    "title": "",
                    "status": "",
                    "finding": "",
                    "what_to_do": "",
                    "mandatory": True,
                    "means": [],
                }
            ]
        ),
        "means must be str",
    ),
    "what stopped a class is a list": (
        _verdict(targets={"0": {**NO_NUMBER["cat"], "violated": []}}),
        "violated must be",
    ),
    "no witness file": (_without("witnesses.safetensors"), "has no witnesses"),
    "a cut witness file": (
        _file("witnesses.safetensors", b"\x08" * 20),
        "not a readable witness file",
    ),
    "no attempts": (_without("attempts.jsonl"), r"has no attempts\.jsonl"),
    "too few attempts": (_file("attempts.jsonl", ""), "holds 0 attempts, verdict.json speaks of 4"),
    "a broken attempt": (_file("attempts.jsonl", '{"target": 0}\n' * 4), "line 1 lacks 'fooled'"),
    "metrics are no JSON": (_file("metrics.jsonl", "{]\n"), "not readable JSON lines"),
    "a record is a number": (_file("metrics.jsonl", "7\n"), "line 1 must be an object"),
    "a broken round": (
        _file("metrics.jsonl", '{"kind": "round", "index": true}'),
        "index must be int",
    ),
    "no settings": (_without("config.yaml"), r"has no config\.yaml"),
    "settings that are code": (
        _file("config.yaml", "!!python/object/apply:os.system [true]"),
        "not readable",
    ),
    "a command line of numbers": (
        _file("environment.json", '{"command_line": ["blankcheck", 7]}'),
        r"command_line\[1\] must be str",
    ),
    "surroundings are a list": (_file("environment.json", "[]"), "must be an object"),
    "a command of numbers": (
        _file("environment.json", '{"command_line": ["blankcheck", 7]}'),
        r"command_line\[1\] must be str",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_one_clear_line(tmp_path, case):
    run = make_run(tmp_path / "a")
    spoil, words = BROKEN[case]
    spoil(run)
    with pytest.raises(RunFolderError, match=words) as caught:
        write_report(run)
    assert "\n" not in str(caught.value)
    assert not (run / "report.html").exists()


def test_lit_steps_known_answer():
    assert drawing.lit_steps([3, None, 1, 3, 40], 12) == ([1, 3, 12], [0.2, 0.6, 0.6])
    assert drawing.lit_steps([0, 12], 12) == ([1, 12], [0.5, 1.0])
    assert drawing.lit_steps([], 5) == ([1, 5], [0.0, 0.0])


def test_the_lit_curve_draws_its_steps():
    counts = audit.LitCounts("", [2, 4], [2, 2], [[2], [4]])
    lines = audit.lit_curve([counts], 12).axes[0].get_lines()
    fooling = next(line for line in lines if line.get_label() == "this network: fooling")
    assert list(fooling.get_xdata()) == [1, 2, 4, 12]
    assert list(fooling.get_ydata()) == [0, 0.5, 1, 1]
    assert sum(line.get_color() == style.QUIET and len(line.get_xdata()) > 0 for line in lines) == 2


def test_the_lit_curve_draws_the_twin():
    counts = audit.LitCounts("", [2, 4], [2, 2])
    lines = audit.lit_curve([counts], 12, [3, 3, None, 5]).axes[0].get_lines()
    twin = next(line for line in lines if line.get_label() == "plain twin: fooling")
    assert list(twin.get_xdata()) == [1, 3, 5, 12] and list(twin.get_ydata()) == [
        0,
        0.5,
        0.75,
        0.75,
    ]


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(1, 300, [1, 3, 10, 30, 100, 300]), (1, 20, [1, 2, 3, 5, 10, 20]), (11, 27, [12, 16, 20, 24])],
)
def test_counts_have_whole_numbers_at_their_ticks(low, high, ticks):
    _, axes = style.panel("")
    drawing.log_counts(axes.xaxis, low, high)
    assert list(axes.xaxis.get_major_locator().locs) == ticks and axes.get_xscale() == "log"


def test_figures_of_nothing_are_still_figures(real_pictures):
    for figure in (
        audit.lit_curve([audit.LitCounts("", [], [])], 1),
        certificate.bars(["a"], [{"k": None, "found": 1}], "lit features"),
    ):
        ElementTree.fromstring(drawing.svg(figure))


ODD_NAMES = ("猫", "$x_1$ \\frac", "$\\bad{", "w" * 500, "", HOSTILE, "\ud800\x07", '" onload="x')


def test_names_that_the_font_lacks_or_reads_as_code_are_only_text(real_pictures):
    strip = [(torch.zeros(1, 4, 4), None, name) for name in ODD_NAMES]
    bars = certificate.bars(
        [one_line(n, 22) for n in ODD_NAMES], [{"k": 3, "found": 9}] * 8, "lit features"
    )
    for figure in (bars, images.witness_strip(strip)):
        drawn = drawing.svg(figure)
        said = [text.text or "" for text in ElementTree.fromstring(drawn).iter() if text.text]
        assert "<script" not in drawn and "\x07" not in drawn
        assert any("$x_1$ \\frac" in text for text in said)
        assert not re.search(r"<[^>]+\son\w+=", drawn)


def test_a_figure_has_the_colours_of_the_page_and_the_same_bytes_every_time(real_pictures):
    rows = [{"k": 3, "found": 9}] * 2
    first, second = (drawing.svg(certificate.bars(["#d55e00", "b"], rows, "lit")) for _ in "ab")
    assert first == second and ">#d55e00</text>" in first
    for drawn in (first, drawing.svg(audit.lit_curve([audit.LitCounts("", [2], [2])], 12))):
        drawn = re.sub(r"<style>.*?</style>|>[^<]*<", "", drawn)
        assert set(re.findall(r"#[0-9a-f]{6}\b", drawn)) <= {"#000000"}
    assert style.VARIABLES[style.SECOND] in first and "prefers-color-scheme:dark" in first


def test_every_colour_has_one_for_dark_screens():
    for light, dark in style.DARK.items():
        if light not in (style.PAPER, style.GRID):
            assert (
                contrast(light, style.PAPER) > 1.9 and contrast(dark, style.DARK[style.PAPER]) > 1.9
            )
    for words in (style.INK, style.MUTED):
        assert contrast(words, style.PAPER) >= 4.5
        assert contrast(style.DARK[words], style.DARK[style.PAPER]) >= 4.5


@pytest.mark.parametrize(
    ("shape", "side", "size", "mode"),
    [
        ((1, 8, 8), 112, (112, 112), "L"),
        ((3, 32, 32), 96, (96, 96), "RGB"),
        ((2, 5, 5), 5, (5, 5), "L"),
        ((1, 300, 200), 112, (200, 300), "L"),
    ],
)
def test_images_are_enlarged_pixel_by_pixel(shape, side, size, mode):
    image = torch.zeros(shape)
    image[0, 0, 0] = 1.0
    shown = Image.open(io.BytesIO(drawing.image_png(image, side)))
    assert (shown.size, shown.mode) == (size, mode)
    times = size[0] // shape[2]
    lit = [255, 0, 0][: len(shown.getbands())]
    assert list(shown.getbbox() or ()) == [0, 0, times, times]
    assert list(torch.tensor(shown.getpixel((0, 0))).flatten()) == lit


def test_large_real_images_are_averaged_down():
    shown = Image.open(io.BytesIO(drawing.image_png(torch.full((1, 300, 200), 0.5), 112, 100)))
    assert shown.size == (67, 100)
    assert set(
        shown.get_flattened_data() if hasattr(shown, "get_flattened_data") else shown.getdata()
    ) == {128}


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0%"), (1, "100%"), (1e-6, "<0.1%"), (0.99999, ">99.9%"), (0.5, "50.0%"), (None, NOTHING)],
)
def test_almost_none_is_not_none(share, shown):
    assert percent(share) == shown


TRIALS = (
    Control("positive-control", 38, 40, "a plain twin"),
    Control("planted-control", 0, 0, why_not="it was fooled"),
)


def test_a_verdict_without_a_witness_is_shown_by_what_the_search_finds_elsewhere(
    tmp_path, real_pictures
):
    run = make_run(
        tmp_path / "a", FAILED_ALL, controls=TRIALS, twin=OnTwin("a plain twin", 4, (3, 5, 7))
    )
    page = page_of(run)
    found = "this network 0 of 3 a plain twin, known to be foolable 38 of 40"
    assert f"What the same search finds in {found}" in text_of(page)
    assert "patterns hidden" not in page, "a control that did not run finds nothing"
    assert "Plain twin: 0% with at most 1, 25% with at most 4, 75% with at most 12" in page
    verdict = run.read_json("verdict.json")
    assert verdict["twin"] == {
        "what": "a plain twin",
        "attempts": 4,
        "fooled": 3,
        "median_lit": 5,
        "lit": [3, 5, 7],
    }
    assert page.index("Was the search strong enough?</h2>") < page.index("Fooling images</h2>"), (
        "what counts comes first"
    )


def test_each_check_says_what_it_means(tmp_path):
    text = text_of(
        page_of(make_run(tmp_path / "a", FAILED_ALL, checks=(check(PASSED), check(FAILED, False))))
    )
    assert "Ten times the steps failed Why so. It failed. Use --preset proof." in text
    assert "Ten times the steps passed · needed for RESISTED Why so. It passed." in text
    assert "1 of 2 checks that apply passed, among them 1 of the 1 that RESISTED needs." in text


def test_the_stored_command_is_shown_quoted(tmp_path):
    run = make_run(tmp_path / "a")
    words = ["blankcheck", "audit", "--data", "npz:my data.npz", "--weights=-w.pt", "$(x)\n`y`"]
    run.write_json("environment.json", run.read_json("environment.json") | {"command_line": words})
    page, markdown = page_of(run), (run / "report.md").read_text()
    assert (
        "blankcheck audit --data &#39;npz:my data.npz&#39; --weights=-w.pt &#39;$(x) `y`&#39;"
        in page
    )
    assert "    blankcheck audit --data 'npz:my data.npz' --weights=-w.pt '$(x) `y`'\n" in markdown
    assert "command_line" not in page


@pytest.mark.parametrize("stored", [None, [], ["x"] * 201])
def test_a_run_without_a_stored_command_names_its_settings(tmp_path, stored):
    run = make_run(tmp_path / "a")
    run.write_json("environment.json", run.read_json("environment.json") | {"command_line": stored})
    assert "\nblankcheck audit --config config.yaml\n" in page_of(run)


def test_markdown_is_short_enough_for_a_pull_request(tmp_path):
    run = make_run(
        tmp_path / "a", FAILED_ALL, checks=(check(PASSED), replace(check(FAILED), title="Another"))
    )
    write_report(run)
    markdown = (run / "report.md").read_text()
    assert "- **failed: Another** (needed for RESISTED). It failed. Use --preset proof." in markdown
    assert "It passed." not in markdown and len(markdown.splitlines()) < 60


def test_a_thousand_classes_stay_readable(tmp_path):
    names = tuple(f"class number {t}" for t in range(1000))
    page = page_of(
        make_run(
            tmp_path / "a",
            tuple(attempt(t, 3 + t % 9, fooled=t != 7) for t in range(1000)),
            classes=names,
        )
    )
    assert "The 100 classes fooled most, of 1,000" in text_of(page)
    assert page.count('<figure class="tile">') == 48 and page.count('<section class="class">') == 20
    assert len(page) < 2_000_000
