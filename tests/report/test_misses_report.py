"""What a report shows of nearest misses, and of the level of the third condition."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save
from test_hardening_report import ROUNDS
from test_report import CLASSES, FAILED_ALL, FOOLED, HOSTILE, WANT, attempt, make_run, page_of
from test_report import text_of as text_of_page

from blankcheck.errors import RunFolderError
from blankcheck.figures import drawing
from blankcheck.judging.check_rules import MIN_REAL_CONFIDENT
from blankcheck.judging.evidence import Attempt, Control, nearest_misses
from blankcheck.report.charts.rounds import confidence_needed
from blankcheck.report.evidence import lacking
from blankcheck.runs.folder import RunFolder
from blankcheck.types import Conditions

REAL_LOOKING = tuple(
    replace(attempt(t, 8, fooled=False, confidence=0.95 + 0.01 * t), ood_p=0.012) for t in (0, 1, 2)
)


PAIR = "nearest miss nearest real"
"""What stands under the two images of a miss."""


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    """Pages without their figures."""
    monkeypatch.setattr(drawing, "svg", lambda figure: "<svg></svg>")


def with_misses(run: RunFolder, attempts: tuple[Attempt, ...], shape=(1, 8, 8)) -> RunFolder:
    """The misses of these attempts, as `Audit.write_into` leaves them."""
    closest = nearest_misses(attempts, WANT)
    images = torch.zeros(len(closest), *shape)
    for image, i in zip(images, closest.values(), strict=True):
        image.view(-1)[: attempts[i].lit] = 1.0
    tensors = {
        "images": images,
        "nearest": torch.full_like(images, 0.5),
        "targets": torch.tensor([*closest], dtype=torch.int64),
        "attempt": torch.tensor([*closest.values()], dtype=torch.int64),
    }
    run.write("misses.safetensors", bytes(save(tensors)))
    return run


def text_of(page: str) -> str:
    """What a reader sees of a page, without its escapes."""
    return text_of_page(page).replace("&lt;", "<").replace("&gt;", ">")


def test_resisted_has_something_to_look_at(tmp_path):
    run = with_misses(make_run(tmp_path / "a", REAL_LOOKING), REAL_LOOKING)
    page = page_of(run)
    text, markdown = text_of(page), (run / "report.md").read_text()
    assert "RESISTED" in text and "nothing to show" not in text
    assert "Nearest misses No fooling image was found. These came nearest" in text
    for name, share in zip(CLASSES, ("95.0%", "96.0%", "97.0%"), strict=True):
        assert f"{name} {PAIR} {share} sure, 8 lit looks real: p = 0.012 > 0.01" in text
        assert f"- {name}: {share} sure, 8 lit, p = 0.012; looks real: p = 0.012" in markdown
    assert page.count('class="missed"') == page.count("Nearest real training image, in shape") == 3
    assert '<h2 id="images">Nearest misses</h2>' in page
    assert "](figures/misses.svg)" in markdown and (run / "figures" / "misses.svg").is_file()


def test_only_classes_without_a_witness_have_a_miss(tmp_path):
    """Of class 2 a control found one, where no attempt did."""
    attempts = (*FOOLED[:2], *(attempt(t, 20, fooled=False, confidence=0.4) for t in (1, 2)))
    run = make_run(tmp_path / "a", attempts, extra=(attempt(2, 9),))
    page = page_of(with_misses(run, attempts))
    text = text_of(page)
    assert '<h2 id="images">Fooling images</h2>' in page and "<h3>Nearest misses</h3>" in page
    assert "No fooling image of these classes was found." in text
    lacks = "too many lit: 20 > 12 not sure enough: 40% < 90%"
    assert f"dog {PAIR} 40.0% sure, 20 lit p = 0.002 {lacks}" in text
    assert page.count('class="missed"') == 1
    assert (run / "report.md").read_text().count("\n- dog: 40.0% sure, 20 lit, p = 0.002;") == 1


def test_a_pair_shows_the_misses_of_both(tmp_path):
    before = with_misses(make_run(tmp_path / "b"), FOOLED)
    after = with_misses(make_run(tmp_path / "a", FAILED_ALL), FAILED_ALL)
    page = page_of(after, before)
    assert page.count('class="missed"') == 1 + 3
    assert "<h4>Nearest misses</h4>" in page and '<h2 id="images">Fooling images</h2>' in page
    markdown = (after / "before-after.md").read_text()
    for name in ("misses", "misses-before"):
        assert f"](figures/{name}.svg)" in markdown and (after / f"figures/{name}.svg").is_file()
    assert "### Nearest misses: before" in markdown and "### Nearest misses: after" in markdown
    levels = [int(level) for level in re.findall(r"<h([1-6])[ >]", page)]
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))


def test_older_folders_have_no_misses(tmp_path):
    page = page_of(make_run(tmp_path / "a", FAILED_ALL))
    assert "Nearest misses" not in page
    assert "None was found, so there is nothing to show." in text_of(page)


def test_of_very_many_classes_the_closest_are_shown(tmp_path):
    names = tuple(f"class number {t}" for t in range(200))
    sure = torch.linspace(0.1, 0.8, 200).tolist()
    attempts = tuple(attempt(t, 8, False, sure[t]) for t in range(200))
    run = with_misses(make_run(tmp_path / "a", attempts, classes=names), attempts)
    page = page_of(run)
    assert page.count('class="missed"') == 48 and f"class number 199 {PAIR} 80.0% sure" in text_of(
        page
    )
    assert "class number 99 " not in re.sub("<table.*?</table>", "", page, flags=re.DOTALL)
    assert "The 48 that came closest, of 200 classes" in text_of(page)


def test_large_misses_stay_under_five_megabytes(tmp_path):
    names, shape = tuple(f"class {t}" for t in range(40)), (3, 96, 96)
    attempts = tuple(attempt(t, 8, False, 0.5) for t in range(40))
    run = with_misses(make_run(tmp_path / "a", attempts, (), (), names, shape), attempts, shape)
    noise = torch.rand(40, *shape, generator=torch.Generator().manual_seed(0))
    run.write(
        "misses.safetensors",
        bytes(
            save(
                {
                    "images": noise.clamp_min(0.01),
                    "nearest": noise,
                    "targets": torch.arange(40),
                    "attempt": torch.arange(40),
                }
            )
        ),
    )
    page = page_of(run, run)
    assert len(page) < 5_000_000 and 'class="gallery large"' in page


def test_names_of_missed_classes_are_only_text(tmp_path):
    run = make_run(tmp_path / "a", FAILED_ALL, classes=(HOSTILE, "a|b`*[e](f)\n# g", "w" * 5000))
    page = page_of(with_misses(run, FAILED_ALL))
    markdown = (run / "report.md").read_text()
    for written in (page.replace("<script>", "", 1), markdown):
        assert "<script" not in written and "\n# g" not in written
        assert "w" * 400 not in re.sub(r"<pre>.*?</pre>", "", written, flags=re.DOTALL)


def test_a_broken_file_of_misses_is_one_clear_line(tmp_path):
    run = with_misses(make_run(tmp_path / "a", FAILED_ALL), FAILED_ALL)
    run.write("misses.safetensors", b"\x08" * 20)
    with pytest.raises(RunFolderError, match=r"misses\.safetensors is not a readable"):
        page_of(run)
    other = with_misses(make_run(tmp_path / "b"), FAILED_ALL)
    with pytest.raises(RunFolderError, match="which fooled|its attempt"):
        page_of(other)


def test_conditions_that_no_audit_has_are_refused(tmp_path):
    run = make_run(tmp_path / "a")
    verdict = run.read_json("verdict.json")
    verdict["conditions"]["max_lit"] = 0
    run.write_json("verdict.json", verdict)
    with pytest.raises(RunFolderError, match="conditions: max_lit must be at least 1"):
        page_of(run)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, []),
        ({"ood_p": 0.0123}, ["looks real: p = 0.012 > 0.001"]),
        ({"ood_p": 0.00104}, ["looks real: p = 0.00104 > 0.001"]),
        ({"confidence": 0.84}, ["not sure enough: 84% < 90%"]),
        ({"confidence": 0.89996}, ["not sure enough: 89.996% < 90.000%"]),
        ({"lit": 312}, ["too many lit: 312 > 300"]),
        (
            {"lit": 1312, "confidence": 0.0},
            ["too many lit: 1,312 > 300", "not sure enough: 0% < 90%"],
        ),
    ],
)
def test_what_an_image_lacks_is_told_with_its_number(changed, words):
    met = Attempt(0, False, "x", 9, 0.95, 0.0009, 9)
    assert lacking(replace(met, **changed), Conditions(0.9, 300, 0.001)) == words


def test_the_level_is_told_with_its_reason_and_with_the_rates_of_others(tmp_path):
    run = make_run(tmp_path / "a", tuple(replace(a, odd_p=0.001) for a in FOOLED))
    verdict = run.read_json("verdict.json")
    verdict["out_of_distribution_test"]["level_why"] = "0.01 was asked for."
    rows = {"0.05": {"fooled": 4, "rate": 1.0}, "0.01": {"fooled": 3, "rate": 0.75}}
    verdict["by_level"] = rows | {"beyond all real images": {"fooled": 0, "rate": 0.0}}
    run.write_json("verdict.json", verdict)
    page = page_of(run)
    text = text_of(page)
    assert "The level, and why p-values of at most 0.01. 0.01 was asked for." in text
    assert "the other rates are lower bounds. 0.05 100% 4 fooled 0.01 75.0% 3 fooled" in text
    assert "beyond all real images 0% 0 fooled" in text
    assert re.findall(r'<li class="asked"><span>([^<]*)', page) == ["0.01"]
    assert "Odd in any way Judged by whatever is unusual" in text
    assert "3 of 4 attempts are fooled (75.0%). It decides nothing." in text
    markdown = (run / "report.md").read_text()
    assert "The third condition asks for p-values of at most 0.01. 0.01 was asked for." in markdown


def test_older_folders_do_not_tell_of_levels(tmp_path):
    run = make_run(tmp_path / "a")
    verdict = run.read_json("verdict.json")
    for key in ("by_level", "odd_in_any_way"):
        del verdict[key]
    for key in ("level", "level_why", "level_chosen"):
        del verdict["out_of_distribution_test"][key]
    run.write_json("verdict.json", verdict)
    text = text_of(page_of(run))
    assert "The level, and why" not in text and "Against the level" not in text
    assert "Odd in any way" not in text and "Without it" in text
    assert "third condition asks" not in (run / "report.md").read_text()


def _said(twin: object) -> dict[str, object]:
    return {"controls": {"positive-control": {"found": 1, "tries": 1, "twin_real_confident": twin}}}


def test_how_sure_a_network_must_be_hangs_on_its_twin():
    assert confidence_needed(_said(0.983)) == pytest.approx(0.953)
    assert confidence_needed(_said(0.2)) == MIN_REAL_CONFIDENT
    for unknown in (None, {}, {"controls": None}, {"controls": {}}, _said(1e300), _said(-1)):
        assert confidence_needed(unknown) is None


def test_the_line_stands_where_the_twin_puts_it(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        drawing, "svg", lambda figure: drawn.setdefault(id(figure), figure) and "<svg></svg>"
    )

    def legend() -> list[str]:
        axes = [axes for figure in drawn.values() for axes in figure.axes]
        drawn.clear()
        return [line.get_label() for each in axes for line in each.get_lines()]

    sure = Control("positive-control", 40, 40, "a twin", numbers={"twin_real_confident": 0.983})
    for controls, words in (((sure,), "RESISTED needs 95.3% confident"), ((), None)):
        run = make_run(tmp_path / str(len(controls)), FAILED_ALL, controls=controls)
        run.write_lines("metrics.jsonl", ROUNDS)
        page_of(run)
        said = [label for label in legend() if str(label).startswith("RESISTED needs")]
        assert said == ([words] if words else [])
