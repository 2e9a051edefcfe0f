"""The report is drawn from small run folders made by hand: no training, no model."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load, save

from blankcheck.errors import RunFolderError
from blankcheck.judging import Evidence, Finding, RealData, judge, verdict_json
from blankcheck.judging.check_rules import FAILED, NOT_APPLICABLE, PASSED
from blankcheck.judging.evidence import Attempt, Cost, OODRecord
from blankcheck.running import picture_style, pictures, report_figures
from blankcheck.running.picture_style import LIGHT
from blankcheck.running.report import escape_markdown, write_report
from blankcheck.running.report_words import number, percent
from blankcheck.running.run_folder import RunFolder
from blankcheck.types import Conditions

NOTHING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
HOSTILE = '<script>alert("x")</script>'
CLASSES = ("cat", "dog", "eel")
WANT = Conditions(confidence=0.9, max_lit=12, ood_level=0.01)


PICTURES = ("lit_curve", "confidence_histogram", "per_class_bars", "loss_curve", "witness_strip")


@pytest.fixture(autouse=True)
def blank_pictures(request, monkeypatch):
    """Only tests that ask for `real_pictures` pay for drawing the figures of a report."""
    if "real_pictures" not in request.fixturenames:
        dot = pictures.image_png(torch.zeros(1, 1, 1), 1)
        fakes = dict.fromkeys(PICTURES, lambda *values: None)
        fake = SimpleNamespace(png=lambda figure: dot, image_png=pictures.image_png, **fakes)
        monkeypatch.setattr(report_figures, "pictures", fake)


@pytest.fixture
def real_pictures(monkeypatch):
    """Pictures as they are, but coarse."""
    monkeypatch.setattr(picture_style, "DPI", 30)


def attempt(target: int, lit: int, fooled: bool = True, confidence: float = 0.93, fewest: int | None = None) -> Attempt:
    return Attempt(target, fooled, "noise/adaptive", lit, confidence, 0.002, fewest or lit)


def check(status: str, mandatory: bool = True) -> Finding:
    return Finding("more-steps", "Ten times the steps", status, f"It {status}.", "Use --preset proof.", mandatory)


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
) -> RunFolder:
    """An audit folder as `Audit.write_into` leaves it, without its report."""
    evidence = Evidence(
        WANT, classes, attempts, {"noise/adaptive": len(attempts)}, RealData(0.9873, 0.9612, 0.0034, 0.97), (),
        Cost(4321, 1234, 5.5, 2.25), extra, OODRecord("marginal", ("few lit",), 0.001, 3, 400), {"a friend": (10, 4, 6)},
    )  # fmt: skip
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
    run.write("witnesses.safetensors", bytes(save(tensors, {"processes": json.dumps(["noise/adaptive"])})))
    run.write_lines("attempts.jsonl", (vars(a) for a in attempts))
    run.write_json("verdict.json", verdict_json(evidence, checks, judge(evidence, checks)))
    return run


def begin(path: Path, command: str) -> RunFolder:
    run = RunFolder.create(path)
    run.begin(command, {"data": "tiny", "model": "mlp", "weights": None}, torch.device("cpu"))
    return run


def one_round(index: int) -> dict[str, Any]:
    return {"kind": "round", "index": index, "real_loss": 0.5 / (index + 1), "fooling_loss": 0.1,
            "validation_accuracy": 0.9, "validation_confident": 0.8, "fresh_attempts": 50, "fresh_rate": 0.1,
            "fresh_confident": 0.2, "fresh_fewest": 9 + index}  # fmt: skip


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
    assert "3 of 4 attempts fooled rate 75.0%" in text
    assert f"upper bound {verdict['rate_upper_95']:.1%}" in text
    assert f"{verdict['median_lit']} lit pixels, median of 64; fewest {verdict['min_lit']}, allowed 12" in text
    for share in ("98.73%", "96.12%", "0.34%"):
        assert share in text
    for target, row in verdict["targets"].items():
        rate, bound = percent(row["rate"]), percent(row["rate_upper_95"])
        cells = (CLASSES[int(target)], f"{row['fooled']} of {row['attempts']}", rate, bound, number(row["median_lit"]))
        assert " ".join(cells) in text
    assert "too many lit features 1 not confident enough 0 looks like real data 0" in text
    assert "1,234 backward and 4,321 forward passes, 5.5 s; 2.2 s more" in text
    assert "93.0% sure, 3 lit" in text
    assert f"blankcheck audit --config {run.path}/config.yaml" in text
    assert f"blankcheck verify {run.path}" in text


def test_markdown_and_pictures_stand_beside_the_page(tmp_path, real_pictures):
    run = make_run(tmp_path / "a")
    assert write_report(run) == tmp_path / "a" / "report.html"
    markdown = (run / "report.md").read_text()
    assert "## FOOLED" in markdown
    assert "| cat | 2 of 2 | 100% | 100% | 4 | 3 |" in markdown
    shown = set(re.findall(r"\((figures/[\w-]+\.png)\)", markdown))
    assert shown == {f"figures/{f.name}" for f in (run / "figures").iterdir()}
    assert all((run / name).read_bytes().startswith(b"\x89PNG") for name in shown)


def test_the_page_needs_nothing_else(tmp_path, real_pictures):
    page = page_of(make_run(tmp_path / "a"))
    assert not re.search(r"https?:|<script|<link[^>]*stylesheet|@import", page)
    assert all(where.startswith("data:") for where in re.findall(r"""(?:src|srcset|href)=["']?([^"'\s>]+)""", page))
    assert not re.search(r"<img(?![^>]*alt=\"[^\"]+\")", page)
    assert len(page) < 5_000_000


def test_many_large_witnesses_stay_under_five_megabytes(tmp_path):
    attempts = tuple(attempt(i % 40, 5 + i % 7) for i in range(80))
    run = make_run(tmp_path / "a", attempts, classes=tuple(f"class {i}" for i in range(40)), shape=(3, 96, 96))
    tensors = {"nearest": torch.rand(80, 3, 96, 96, generator=torch.Generator().manual_seed(0))}
    stored = load((run / "witnesses.safetensors").read_bytes())
    run.write("witnesses.safetensors", bytes(save(stored | tensors)))
    assert write_report(run, run).stat().st_size < 5_000_000


NAMES = (
    HOSTILE, '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}", "größe 猫 \u202e\x07", "w" * 5000, "a|b`c`*d*[e](f)\n# g",
    "$x_1$ \\frac",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_from_users_are_only_text(tmp_path, name):
    run = make_run(tmp_path / "a", classes=(name, "dog", "eel"))
    run.write("config.yaml", json.dumps({"data": name, "model": name, "note": {"in": name}}))
    page, markdown = page_of(run), (run / "report.md").read_text()
    for written in (page, markdown):
        assert "<script" not in written
        assert "<img src=x" not in written
        assert "w" * 400 not in written
        assert "\n# g" not in written
        assert ">49<" not in written
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len([line for line in table if " 2 of 2 " in line]) == 1
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
    run.write_json("verdict.json", verdict | {"processes": {HOSTILE: {"attempts": 3, "fooled": 0, "median_lit": None}}})
    assert "<script" not in page_of(run) + (run / "report.md").read_text()


@pytest.mark.parametrize(
    ("text", "shown"), [("a|b", "a\\|b"), ("<b>", "&lt;b&gt;"), ("*x*\n# y", "\\*x\\* # y"), ("a & b", "a &amp; b")]
)
def test_markdown_shows_text_letter_for_letter(text, shown):
    assert escape_markdown(text) == shown


def test_the_third_condition_is_accounted_for(tmp_path):
    judged = tuple(replace(a, second_p=0.001 if a.lit < 7 else 0.5, survives_8bit=a.fooled) for a in FOOLED)
    text = text_of(page_of(run := make_run(tmp_path / "a", judged)))
    assert "3 of 400 real test images (0.75%; 95% bounds 0.2" in text and "Guarantee: marginal." in text
    assert "2 of 4 attempts are fooled (50.0%)" in text
    assert "3 of 4 attempts met a sparse and confident image" in text
    assert "3 of 3 witnesses still meet all conditions" in text
    assert "a friend rival 10 2 5" in text and "too many lit 1" in text
    assert "**Second opinion.** Judged by other scores" in (run / "report.md").read_text()


def test_checks_that_do_not_apply_for_one_reason_share_a_row(tmp_path):
    checks = tuple(Finding(f"c{i}", f"Check {i}", NOT_APPLICABLE, why, "", False)
                   for i, why in enumerate(("It was fooled.", "It is dark.", "It was fooled.")))  # fmt: skip
    text = text_of(page_of(make_run(tmp_path / "a", checks=(*checks, check(PASSED)))))
    assert "Check 0 · Check 2 not applicable It was fooled." in text and "Check 1 not applicable It is dark." in text
    assert text.index("It passed.") < text.index("It was fooled.")


def test_older_folders_without_later_figures_are_still_shown(tmp_path):
    run = make_run(tmp_path / "a")
    later = ("second_opinion", "eight_bit", "rivals", "out_of_distribution_test", "lit_curve", "controls")
    verdict = {k: v for k, v in run.read_json("verdict.json").items() if k not in later}
    for row in verdict["targets"].values():
        del row["violated"]
    run.write_json("verdict.json", verdict)
    text = text_of(page_of(run))
    assert "FOOLED" in text and "Second opinion" not in text and "Without the third condition" in text


def test_extra_witnesses_explain_a_fooled_verdict_at_rate_zero(tmp_path):
    run = make_run(tmp_path / "a", FAILED_ALL, extra=(attempt(1, 4),))
    text = text_of(page_of(run))
    assert "FOOLED" in text
    assert "None of the 3 fixed attempts fooled this classifier" in text
    assert "found 1 fooling image outside them" in text
    assert "1 extra witness found by the checks, outside the rate; fewest 4 lit" in text
    assert "93.0% sure, 4 lit p = 0.002 · noise/adaptive extra" in text


def test_resisted_is_no_proof(tmp_path):
    text = text_of(page_of(make_run(tmp_path / "a", FAILED_ALL)))
    assert "RESISTED None of 3 attempts fooled this classifier" in text
    assert "It is no proof. It speaks of this generator only" in text
    assert "None was found, so there is nothing to show." in text


def test_inconclusive_says_why(tmp_path):
    optional = Finding("y", "Other kinds of start", NOT_APPLICABLE, "Optional sentence.", "", False)
    page = page_of(make_run(tmp_path / "a", FAILED_ALL, checks=(check(NOT_APPLICABLE), optional)))
    why = re.findall(r'<ul class="why">(.*?)</ul>', page, re.DOTALL)
    assert "INCONCLUSIVE Nothing is proven." in text_of(page)
    assert len(why) == 1
    assert "Ten times the steps: It not-applicable." in why[0]
    assert "Optional sentence" not in why[0]


def test_before_and_after_stand_side_by_side(tmp_path, real_pictures):
    before, after = make_run(tmp_path / "before"), make_run(tmp_path / "after", FAILED_ALL)
    page = page_of(after, before)
    text = text_of(page)
    assert re.search(r"Before \S+before FOOLED", text)
    assert re.search(r"After \S+after RESISTED", text)
    assert "Attempts fooled 3 of 4 0 of 3" in text
    assert f"Rate 75.0% 0% {MINUS}75.0 points (better)" in text
    assert "Real test images right 98.73% 98.73% no change" in text
    assert f"Sparse and confident with at most 4 lit 25.0% 0% {MINUS}25.0 points (better)" in text
    assert "compare with care" not in text
    assert "Before: 0% with at most 1, 25% with at most 4, 75% with at most 12" in page
    assert (after / "figures" / "witnesses-before.png").is_file()
    assert not (before / "report.html").exists()
    assert "## Before: FOOLED" in (after / "report.md").read_text()


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
    run.write_lines("metrics.jsonl", [{"kind": "epoch", "epoch": e, "real_loss": 1 / (e + 1)} for e in range(3)]
                    + [{"kind": "train", "real_accuracy": 0.991, "real_confident": 0.98, "seconds": 31.4}])  # fmt: skip
    page = page_of(run)
    text = text_of(page)
    assert "NOT AUDITED This run (train) has not been audited" in text
    assert "99.10% of real test images right" in text
    assert "31 s of training 3 epochs" in text
    assert "Training loss over 3 epochs, from 1.000 to 0.333." in page
    assert "blankcheck verify" not in text


def test_rounds_are_shown_with_and_without_an_audit(tmp_path, real_pictures):
    halfway, whole = begin(tmp_path / "a", "harden"), make_run(tmp_path / "b")
    for run in (halfway, whole):
        run.write_lines("metrics.jsonl", [one_round(0), one_round(1), {"kind": "audit", "rate": 0}])
    whole.write_json("hardening.json", {"kept_round": 1, "rounds": 2})
    assert "90.00% of validation images right after round 2" in text_of(page_of(halfway))
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
    return run.write("verdict.json", (run / "verdict.json").read_text().replace('"rate": 0.75', '"rate": NaN'))


NO_NUMBER = {"cat": {"attempts": 1, "fooled": 0, "rate": 0, "rate_upper_95": 1, "median_lit": None, "min_lit": None}}
BROKEN: dict[str, tuple[Callable[[RunFolder], object], str]] = {
    "verdict is no JSON": (_file("verdict.json", "{"), "not readable JSON"),
    "verdict is a list": (_file("verdict.json", "[]"), "must be an object, got"),
    "a later schema": (_verdict(schema=9), "schema 9, this version reads schema 1"),
    "rate is text": (_verdict(rate=HOSTILE), "rate must be int or float or null"),
    "rate is not finite": (_not_finite, "rate must be"),
    "an unknown verdict": (_verdict(verdict="SAFE"), "must be one of FOOLED, RESISTED"),
    "a class without number": (_verdict(targets=NO_NUMBER), "got 'cat'"),
    "checks lack a title": (_verdict(checks=[{"status": "passed"}]), "checks lacks 'title'"),
    "a second opinion of text": (_verdict(second_opinion={"attempts": 1, "fooled": 0, "rate": "x"}), "rate must be int"),
    "a test without bounds": (_verdict(out_of_distribution_test={"guarantee": "none"}), "lacks 'real_images'"),
    "what stopped a class is a list": (_verdict(targets={"0": {**NO_NUMBER["cat"], "violated": []}}), "violated must be"),
    "no witness file": (_without("witnesses.safetensors"), "no readable witnesses"),
    "a cut witness file": (_file("witnesses.safetensors", b"\x08" * 20), "not a readable witness file"),
    "no attempts": (_without("attempts.jsonl"), r"has no attempts\.jsonl"),
    "too few attempts": (_file("attempts.jsonl", ""), "holds 0 attempts, verdict.json speaks of 4"),
    "a broken attempt": (_file("attempts.jsonl", '{"target": 0}\n' * 4), "line 1 lacks 'fooled'"),
    "metrics are no JSON": (_file("metrics.jsonl", "{]\n"), "not readable JSON lines"),
    "a record is a number": (_file("metrics.jsonl", "7\n"), "line 1 must be an object"),
    "a broken round": (_file("metrics.jsonl", '{"kind": "round", "index": true}'), "index must be int"),
    "no settings": (_without("config.yaml"), r"has no config\.yaml"),
    "settings that are code": (_file("config.yaml", "!!python/object/apply:os.system [true]"), "not readable"),
    "surroundings are a list": (_file("environment.json", "[]"), "must be an object"),
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
    assert pictures.lit_steps([3, None, 1, 3, 40], 12) == ([1, 3, 12], [0.2, 0.6, 0.6])
    assert pictures.lit_steps([0, 12], 12) == ([1, 12], [0.5, 1.0])
    assert pictures.lit_steps([], 5) == ([1, 5], [0.0, 0.0])


def test_the_lit_curve_draws_its_steps():
    counts = pictures.LitCounts("", [2, 4], [2, 2], [[2], [4]])
    lines = pictures.lit_curve([counts], 12).axes[0].get_lines()
    fooling = next(line for line in lines if line.get_label() == "all classes: fooling")
    assert list(fooling.get_xdata()) == [1, 2, 4, 12]
    assert list(fooling.get_ydata()) == [0, 0.5, 1, 1]
    assert sum(line.get_color() == LIGHT.quiet and len(line.get_xdata()) > 0 for line in lines) == 2


def test_pictures_of_nothing_are_still_pictures():
    nothing = pictures.Confidences("", [], [])
    for figure in (pictures.lit_curve([pictures.LitCounts("", [], [])], 1), pictures.confidence_histogram([nothing], 0.9),
                   pictures.per_class_bars(["a"], [0.0], [1.0])):  # fmt: skip
        assert pictures.png(figure).startswith(b"\x89PNG")


def test_names_that_the_font_lacks_or_reads_as_formulas_still_make_pictures():
    names = ["猫", "$x_1$ \\frac", "$\\bad{", "w" * 500, ""]
    assert pictures.png(pictures.per_class_bars(names, [0.5] * 5, [0.9] * 5)).startswith(b"\x89PNG")
    strip = pictures.witness_strip([(torch.zeros(1, 4, 4), None, name[:12]) for name in names])
    assert pictures.png(strip).startswith(b"\x89PNG")


def test_the_same_numbers_make_the_same_bytes():
    first, second = (pictures.png(pictures.per_class_bars(["a", "b"], [0.1, 1.0], [0.4, 1.0])) for _ in range(2))
    assert first == second


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
    shown = Image.open(io.BytesIO(pictures.image_png(image, side)))
    assert (shown.size, shown.mode) == (size, mode)
    times = size[0] // shape[2]
    lit = [255, 0, 0][: len(shown.getbands())]
    assert list(shown.getbbox() or ()) == [0, 0, times, times]
    assert list(torch.tensor(shown.getpixel((0, 0))).flatten()) == lit


def test_large_real_images_are_averaged_down():
    shown = Image.open(io.BytesIO(pictures.image_png(torch.full((1, 300, 200), 0.5), 112, 100)))
    assert shown.size == (67, 100)
    assert set(shown.get_flattened_data() if hasattr(shown, "get_flattened_data") else shown.getdata()) == {128}


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0%"), (1, "100%"), (1e-6, "<0.1%"), (0.99999, ">99.9%"), (0.5, "50.0%"), (None, NOTHING)],
)
def test_almost_none_is_not_none(share, shown):
    assert percent(share) == shown
