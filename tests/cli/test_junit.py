"""JUnit XML: what a build server counts as passed is what the exit code says."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from blankcheck.cli.junit import write_junit

CHECKS = [
    {"code": "gradients", "status": "passed", "finding": "they agree"},
    {"code": "steps", "status": "failed", "finding": "ten times the steps <find> more"},
    {"code": "rivals", "status": "not-applicable", "finding": "not asked for"},
]


@pytest.fixture
def outcomes(tmp_path):
    def read(verdict: str, **record: object) -> dict[str, str]:
        write_junit(str(tmp_path / "v.xml"), verdict, ["first line", "second\x00line"], record)
        suite = ElementTree.parse(tmp_path / "v.xml").getroot()
        said = {case.get("name"): case[0].tag if len(case) else "passed" for case in suite}
        for kind, count in (("failure", suite.get("failures")), ("skipped", suite.get("skipped"))):
            assert int(count) == [*said.values()].count(kind)
        return said

    return read


@pytest.mark.parametrize(
    ("verdict", "fooled", "whole", "one", "check"),
    [
        ("RESISTED", 0, "passed", "passed", "skipped"),
        ("CERTIFIED", 0, "passed", "passed", "skipped"),
        ("FOOLED", 3, "failure", "failure", "skipped"),
        ("INCONCLUSIVE", 0, "failure", "passed", "failure"),
    ],
)
def test_of_an_audit(outcomes, verdict, fooled, whole, one, check):
    targets = {"a \x1b[1m cat": {"fooled": fooled, "attempts": 10}}
    assert outcomes(verdict, targets=targets, checks=CHECKS) == {
        "verdict": whole,
        "class a [1m cat": one,
        "check gradients": "passed",
        "check steps": check,
        "check rivals": "skipped",
    }


@pytest.mark.parametrize(
    ("word", "outcome"),
    [("CONFIRMED", "passed"), ("NOT CONFIRMED", "failure"), ("CONFIRMED IN PART", "skipped")],
)
def test_of_verify(outcomes, word, outcome):
    assert outcomes(word, failures=[]) == {"verdict": outcome}


@pytest.mark.parametrize("file", ["nowhere/v.xml", "."])
def test_a_place_that_cannot_be_is_refused_first(refused, tmp_path, monkeypatch, file):
    monkeypatch.chdir(tmp_path)
    said = refused("audit", "--model", "no.py:such", "--junit", file)
    assert "junit must be a file in a folder that exists" in said
