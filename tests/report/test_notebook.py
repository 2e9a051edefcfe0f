"""What results show of themselves in a notebook, and as their whole report."""

from __future__ import annotations

import re
import sys
import webbrowser
from html.parser import HTMLParser
from types import ModuleType, SimpleNamespace

import pytest
import torch

import blankcheck as bc
from blankcheck.auditing import PRESETS, Preset
from blankcheck.classifiers import build

VOID = {"img", "br"}


class Tags(HTMLParser):
    """The tags that are not closed, and the text."""

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += f" {data}"


def shown(value: object) -> str:
    """The text of what a value shows, which needs nothing from elsewhere and runs nothing."""
    page = value._repr_html_()
    tags = Tags(page)
    assert not tags.open and "<script" not in page and len(page) < 400_000
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page)
    return " ".join(re.sub("svg.figure{.*?}", "", tags.text).split())


@pytest.fixture(scope="module")
def audit(plain, digits):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "smoke", Preset(attempts=20, per_target=2, steps=60))
        patch.setattr("blankcheck.classifiers.training.MIN_STEPS", 200)
        yield bc.audit(plain, digits, "smoke", max_lit=20)


def test_data_show_their_sizes_and_an_image_of_each_class(digits):
    assert shown(digits).startswith("digits images of 1x8x8, 10 classes")
    assert "train validation test 1258 180 359" in shown(digits)
    assert digits._repr_html_().count("<img") == 10
    assert repr(digits).startswith("Data('digits', 1x8x8, 10 classes, 1258 train")


def test_names_from_users_are_only_text():
    x, names = torch.rand(40, 1, 4, 4), ["<script>alert(1)</script>", "b"]
    data = bc.Data.from_arrays(x, torch.arange(40) % 2, class_names=names, source="<b>")
    assert "<b> images of" in shown(data) and "<script>alert(1)</script>" in shown(data)


def test_fooling_images_are_the_sparsest_of_each_class(plain, digits):
    found = bc.fool(plain, [3, 1, 3], 2, data=digits, steps=100, max_lit=20)
    text = shown(found)
    assert text.startswith("6 of 6 searches met the goal; the sparsest: class 1")
    fewest = int(found.lit[found.targets == 3].min())
    assert f"{fewest} lit" in text.split("class 3")[1] and text.count("class") == 2
    none = bc.fool(plain, [3], 2, data=digits, steps=1, max_lit=1, confidence=0.999)
    assert shown(none).startswith("0 of 2 searches met the goal; the surest: class 3")
    assert repr(none) == "Fooling(2 images, 0 of them met the goal)"


def test_a_diagnosis_shows_problems_first(plain, digits):
    assert shown(bc.diagnose(plain, digits)).startswith("HEALTHY 10 outputs")
    wrong = bc.diagnose(build("mlp", (1, 28, 28), 10, ((0.0,), (1.0,))), digits)
    assert shown(wrong).startswith("1 problem no outputs") and "+resize=28" in shown(wrong)


def test_an_audit_shows_verdict_numbers_and_witnesses(audit):
    text = shown(audit)
    assert text.startswith("FOOLED In 20 of 20 attempts")
    assert "attempts fooled" in text and "How few lit features are enough" in text
    assert audit._repr_html_().count("<svg") == 2


def test_attempts_are_a_table(audit, monkeypatch):
    pytest.importorskip("pandas")
    frame = audit.to_frame()
    assert list(frame["target"]) == [a.target for a in audit.evidence.attempts]
    assert list(frame["class"]) == [str(t) for t in frame["target"]] and frame["fooled"].all()
    assert frame.index.name == "attempt"
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(bc.ArgumentError, match="to_frame needs the package pandas"):
        audit.to_frame()


def test_the_report_is_shown_in_a_browser(audit, monkeypatch):
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    page = audit.show()
    assert opened == [page.as_uri()] and "FOOLED" in page.read_text()


def test_the_report_is_shown_below_the_cell(audit, monkeypatch):
    kept: list[SimpleNamespace] = []
    display = ModuleType("IPython.display")
    display.HTML, display.display = (lambda page: SimpleNamespace(page=page)), kept.append
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    monkeypatch.setattr("rich.console.Console", lambda: SimpleNamespace(is_jupyter=True))
    audit.show()
    (shown_page,) = kept
    assert not Tags(shown_page.page).open, "the page inside is escaped"
    assert shown_page.page.startswith('<div><iframe srcdoc="') and "FOOLED" in shown_page.page
