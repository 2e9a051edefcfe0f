"""What others meet first agrees with what is there: links, workflows, the Makefile, a release."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import pytest
import yaml

import blankcheck as bc

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORDS = set(re.findall(r"^([a-z][\w-]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
HOME = "https://github.com/blankcheck/blankcheck/"
OWN = re.compile(
    r"https://(?:github\.com/blankcheck/blankcheck/(?:blob|tree)"
    r"|raw\.githubusercontent\.com/blankcheck/blankcheck)/main/([^\s)#\"']+)"
)
APART = {"python -m pip install uv", 'echo "INSTALL=$WORDS" >> "$GITHUB_ENV"'}
"""Steps that prepare what `make setup` installs with."""


def steps(workflow: Path) -> list[dict[str, str]]:
    jobs = yaml.safe_load(workflow.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_the_steps_of_a_workflow_are_words_of_the_makefile(workflow):
    lines = {step["run"] for step in steps(workflow) if "run" in step} - APART
    assert len(lines) > 4
    for line in lines:
        make, word, *_ = line.split()
        assert make == "make" and word in WORDS, line


def test_what_is_tested_is_what_is_promised():
    matrix = yaml.safe_load(WORKFLOWS[0].read_text())["jobs"]["test"]["strategy"]["matrix"]
    said = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if "Python :: 3." in c]
    assert matrix["python"] == said and PROJECT["requires-python"] == f">={said[0]}"


def test_hooks_check_with_the_same_ruff_as_make():
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    assert repos[0]["rev"] == f"v{pinned['ruff']}"


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_what_a_page_links_to_and_types_is_there(page):
    text = (ROOT / page).read_text()
    own = OWN.findall(text) + re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert own
    for path in own + re.findall(r"`((?:src|tests|benchmarks)/[^`\s]+)`", text):
        assert (ROOT / path).exists(), path
    for word in re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE):
        assert word in WORDS, word


def test_the_first_page_stands_alone():
    """An index shows it without the files beside it, and few read more than two screens."""
    text = (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\(([^)]+)\)|(?:src|href)=\"([^\"]+)\"", text):
        assert "".join(link).startswith(("https://", "#")), link
    prose = re.sub(r"^```.*?^```|\]\([^)]*\)|<[^>]*>", " ", text, flags=re.MULTILINE | re.DOTALL)
    assert len(re.findall(r"[^\W\d_][\w'-]*", prose)) <= 900
    assert len(re.findall(r"(?<![\w.-])\d[\d.,]*", prose)) <= 40


def test_addresses_are_those_of_the_project():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == bc.__version__ and citation["license"] == PROJECT["license"]
    assert f"{citation['repository-code']}/" == f"{PROJECT['urls']['Source']}/" == HOME


INIT, CITED = '__version__ = "1.2.0"\n', "version: 1.2.0\n"
LOG = """# Changelog

## [Unreleased]

## [1.2.0] - 2026-12-01

- New.

## [1.1.0] - 2026-01-01
"""


@pytest.fixture(scope="module")
def notes():
    return runpy.run_path(str(ROOT / ".ci/release.py"))["notes"]


@pytest.mark.parametrize("tag", [None, "v1.2.0"])
def test_a_release_prints_its_part_of_the_changelog(notes, tag):
    assert notes(tag, INIT, LOG, CITED) == "- New."


@pytest.mark.parametrize(
    ("tag", "log", "cited", "said"),
    [
        ("v1.3.0", LOG, CITED, "the tag is v1.3.0, the version 1.2.0"),
        ("1.2.0", LOG, CITED, "the tag is 1.2.0"),
        (None, LOG, "version: 1.1.0\n", "CITATION.cff does not name version 1.2.0"),
        (None, LOG.replace("ed]\n", "ed]\n\n- Later.\n"), CITED, "lines under Unreleased"),
        (None, LOG.replace("1.2.0", "1.2.1"), CITED, r"needs lines under `## \[1.2.0\]"),
        (None, LOG.replace(" - 2026-12-01", ""), CITED, "YYYY-MM-DD"),
        (None, LOG.replace("- New.\n", ""), CITED, "needs lines"),
    ],
)
def test_a_release_that_does_not_agree_is_refused(notes, tag, log, cited, said):
    with pytest.raises(ValueError, match=said):
        notes(tag, INIT, log, cited)
