"""Equal witnesses count once, and the black image is named where it is confident."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from helpers import attempt, evidence

from blankcheck.copies import digest_of
from blankcheck.judging import run_checks, verdict_json
from blankcheck.judging.evidence import Black
from blankcheck.judging.recheck import differences, evidence_again
from blankcheck.judging.verdict import judge
from blankcheck.report.wording import black, different


def fooled(lit: int, image: str):
    return replace(attempt(True, lit, 0.95, 0.001), image=image)


def said(**more):
    found = evidence(**more)
    findings = run_checks(found)
    return found, verdict_json(found, findings, judge(found, findings))


def test_equal_witnesses_count_once():
    attempts = [fooled(0, "a"), fooled(0, "a"), fooled(0, "a"), fooled(6, "b"), fooled(8, "c")]
    _, verdict = said(attempts=[*attempts, attempt()], extra=(fooled(8, "c"), fooled(9, "d")))
    assert verdict["median_lit"] == 0, "of the attempts, as ever"
    assert verdict["distinct"] == {"witnesses": 4, "fooled": 3, "median_lit": 6}
    assert different(verdict) == ("3 different images", 6)


def test_where_all_differ_or_nobody_knows_nothing_is_said():
    _, verdict = said(attempts=[fooled(4, "a"), fooled(6, "b")])
    assert different(verdict) == ("", 5)
    _, verdict = said(attempts=[fooled(4, "a"), fooled(6, "")])
    assert verdict["distinct"] is None and different(verdict) == ("", 5)
    _, verdict = said()
    assert verdict["distinct"] == {"witnesses": 0, "fooled": 0, "median_lit": None}


def test_equal_images_have_equal_digests():
    image = torch.rand(1, 4, 4)
    assert digest_of(image) == digest_of(image.clone()) != digest_of(image + 1)
    assert len(digest_of(image[:, ::2])) == 16


@pytest.mark.parametrize(
    ("known", "words"),
    [(Black(1, 0.99), "black is a confident b (99.0%)"), (Black(1, 0.89), ""), (None, "")],
)
def test_black_is_named_where_it_is_confident(known, words):
    assert black(said(black=known)[1]) == words


def test_both_are_derived_anew():
    found, verdict = said(attempts=[fooled(4, "a"), fooled(4, "a")], black=Black(0, 0.97))
    read = evidence_again(verdict, found.conditions, found.attempts, found.extra, None)
    again = verdict_json(read, run_checks(read), judge(read, run_checks(read)))
    fields = ("distinct", "black", "median_lit")
    assert not [*differences(*({k: x[k] for k in fields} for x in (verdict, again)))]
