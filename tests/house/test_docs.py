"""The documentation says what the code does: its Python runs, its options are all there, and the
site builds."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

import blankcheck as bc
from blankcheck.auditing import PRESETS, Preset
from blankcheck.classifiers import UnitClassifier, evaluate
from blankcheck.cli.commands.registry import COMMANDS
from blankcheck.cli.main import parser
from blankcheck.data.loading import NAMED

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.glob("commands/*.md")])
NET = """
from torch import nn
def make():
    return nn.Sequential(nn.Flatten(), nn.Linear({features}, 32), nn.ReLU(), nn.Linear(32, 10))
"""
RUN = {"README.md": 28, "docs/quickstart.md": 8, "docs/verdict.md": 8}
"""Pages whose Python is run, and the side of the images that they find in the folder."""


def fenced(path: Path) -> list[tuple[str, str]]:
    """(language, text) of every fenced block of a page, in order."""
    made: list[tuple[str, str]] = []
    inside = False
    for line in path.read_text().splitlines():
        if line.startswith("```"):
            inside = not inside
            if inside:
                made.append((line.strip("`"), ""))
        elif inside:
            made[-1] = (made[-1][0], f"{made[-1][1]}{line}\n")
    return made


def blocks(path: Path) -> list[str]:
    """The fenced Python of a page, in order."""
    return [text for language, text in fenced(path) if language == "python"]


def small(data: bc.Data, side: int) -> bc.Data:
    """Digits in the middle of a black square."""
    margin = (side - 8) // 2

    def padded(split: bc.Split) -> bc.Split:
        return bc.Split(nn.functional.pad(split.images, [margin] * 4), split.labels)

    return bc.Data(
        data.source, data.classes, padded(data.train), padded(data.validation), padded(data.test)
    )


@pytest.mark.parametrize("page", RUN)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, digits, tmp_path, monkeypatch):
    data = small(digits, RUN[page])
    torch.manual_seed(0)
    (tmp_path / "net.py").write_text(NET.format(features=RUN[page] ** 2))
    monkeypatch.chdir(tmp_path)
    network = bc.load_model("net.py:make", normalize=((0.1307,), (0.3081,)))
    adam = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        adam.zero_grad()
        nn.functional.cross_entropy(network(data.train.images), data.train.labels).backward()
        adam.step()
    torch.save(network.network.state_dict(), "net.pt")
    np.savez("images.npz", x=data.train.images[:, 0].numpy(), y=data.train.labels.numpy())
    monkeypatch.setitem(NAMED, "mnist", lambda folders: data)
    monkeypatch.setitem(PRESETS, "standard", Preset(attempts=20, per_target=2, steps=100))
    monkeypatch.setattr(
        "blankcheck.classifiers.training.MIN_STEPS", 200
    )  # of plain training, also of the twin
    names: dict[str, object] = {"model": network.eval(), "data": data}
    code = blocks(ROOT / page)
    assert code, "the page has Python"
    for block in code:
        exec(compile(block, page, "exec"), names)
    if "audit" in names:
        assert isinstance(names["audit"], bc.Audit) and names["audit"].verdict == bc.Verdict.FOOLED
    if "hardened" in names:
        assert isinstance(names["hardened"], bc.Hardened) and isinstance(
            names["hardened"].model, UnitClassifier
        )


def command_lines(path: Path) -> list[str]:
    """Every `blankcheck ...` in the fenced blocks of a page."""
    text = "\n".join(
        text for language, text in fenced(path) if language in ("", "text", "sh", "bash", "console")
    )
    return re.findall(r"^(?:\$ )?blankcheck ([a-z].*)", text.replace("\\\n", " "), re.MULTILINE)


@pytest.mark.parametrize(
    "page", ["README.md", *(path.relative_to(ROOT).as_posix() for path in PAGES)]
)
def test_the_commands_on_a_page_are_commands(page):
    for line in command_lines(ROOT / page):
        arguments = shlex.split(
            re.sub(r"--config \S+", "", line), comments=True
        )  # such a file need not be here
        assert parser().parse_args(arguments).command == arguments[0], line


def test_the_tutorial_begins_with_a_network_that_is_right(tmp_path, monkeypatch, capsys):
    for name in ("net.py", "prepare.py"):
        (tmp_path / name).write_text((DOCS / "tutorial" / name).read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    runpy.run_path("prepare.py")
    model = bc.load_model("net.py:make", weights="net.pt", normalize=((0.2,), (0.2,)))
    data = bc.load_data("npz:parts.npz")
    assert data.classes == ("ring", "cross", "square", "triangle") and len(data.test) == 800
    assert evaluate(model, data.test, classes=4, confidence=0.9).confident == 1
    top, answer = model(torch.zeros(1, 1, 16, 16)).softmax(dim=1).max(dim=1)
    assert data.classes[int(answer)] == "cross" and top > 0.95, (
        "a covered lens, as the tutorial tells it"
    )


def test_python_of_other_pages_is_python():
    for path in PAGES:
        for block in blocks(path):
            ast.parse(block)


@pytest.mark.parametrize("name", ["own_data", "own_step_rule", "own_score", "own_check"])
def test_adding_your_own_takes_less_than_thirty_lines(name):
    text = (ROOT / "examples" / f"{name}.py").read_text()
    aside = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for line in range(node.lineno, node.end_lineno + 1)
    }
    lines = [line.strip() for n, line in enumerate(text.splitlines(), 1) if n not in aside]
    lines = [line for line in lines if line and not line.startswith("#")]
    assert len(lines) < 30, f"{len(lines)} lines besides imports, docstrings and comments"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_commands", DOCS / "commands.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_of_commands_are_up_to_date(generator):
    pages = generator.pages()
    assert {DOCS / path for path in pages} == {*DOCS.glob("commands/*.md"), DOCS / "commands.md"}
    for path, text in pages.items():
        assert (DOCS / path).read_text() == text, "run `make docs`"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_every_command_is_documented(generator, command):
    page = generator.page(command)
    rows = dict(re.findall(r"^\| `(\S+)[^`]*` \| [^|]* \| (.*) \|$", page, re.MULTILINE))
    for field in fields(COMMANDS[command][0]):
        name = f"--{field.name.replace('_', '-')}"
        said = rows.get(name) or rows.get(field.name.upper())
        assert said and len(said) > 5, f"{command} {name} has no meaning"
    assert f"```sh\nblankcheck {command}" in page, "and an example"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("one of {a|b}, in [0, 1]", r"one of {a\|b}, in \[0, 1\]"),
        ("see --max-lit and a--b", "see `--max-lit` and a--b"),
        ("a *b* `c` <d>", r"a \*b\* \`c\` \<d\>"),
    ],
)
def test_help_is_escaped_as_markdown(generator, text, shown):
    assert generator.words(text) == shown


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        (int, "INT"),
        (float | None, "NUMBER"),
        (str, "TEXT"),
        (list[str] | str | None, "TEXT"),
        (Literal["a", "b"], "{a,b}"),
        (Literal["a"] | None, "{a}"),
        (float | Literal["auto"], "NUMBER/{auto}"),
    ],
)
def test_the_kind_of_value_of_an_option(generator, kind, shown):
    assert generator.value(SimpleNamespace(_typehint=kind)) == shown


def test_the_figure_against_others_shows_the_table():
    curves = runpy.run_path(str(DOCS / "rivals.py"))["curves"]
    table = """### cnn, mnist, seeds 0, 1, 2
| method | reach 0.9, % | median lit | median of lit / reference | distinct |
|---|---|---|---|---|
| **blankcheck**, 10 steps | 100 | 12 (10.5-13) | 1.47 (1.3-1.5) | 99 |
| FMN-L0 (adversarial-library), 30 steps | 60 (30-60) | 11.5 | fails | 10 |
| FMN-L0 (adversarial-library), 100 steps | 100 | 11 | 1.33 | 10 |
| saliency map (ART) | 100 | 13 (13-16) | 1.78 | 10 |
### mlp, mnist, seeds 0, 1, 2
| **blankcheck**, 30 steps | 100 | 1 | 1 | 1 |
"""
    found = {name: points for name, points in curves(table).items() if points}
    assert found == {"blankcheck": [(10, 1.47)], "FMN-L0": [(100, 1.33)]}
    assert all(curves((ROOT / "benchmarks/RESULTS.md").read_text()).values())


def test_the_site_builds_without_a_warning(tmp_path):
    for needed in ("sphinx", "myst_parser", "furo", "sphinx_copybutton"):
        pytest.importorskip(needed)
    # no proxy leads anywhere: whatever asked for the network would fail
    environment = {
        **os.environ,
        "http_proxy": "http://127.0.0.1:9",
        "https_proxy": "http://127.0.0.1:9",
    }
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-b",
        "html",
        str(DOCS),
        str(tmp_path / "html"),
    ]
    made = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert made.returncode == 0, made.stderr
    made_in = tmp_path / "html"
    for page in PAGES:
        assert (made_in / page.relative_to(DOCS)).with_suffix(".html").is_file()
    reference = (made_in / "reference.html").read_text()
    for name in bc.__all__:
        own = made_in / f"api/blankcheck.{name}.html"
        page = own.read_text() if own.is_file() else reference
        assert f'id="blankcheck.{name}"' in page, f"{name} is not in the reference"
    audit = (made_in / "api/blankcheck.audit.html").read_text()
    assert "<strong>confidence</strong>" in audit, "arguments are a list"
    assert f"blankcheck {bc.__version__}" in audit, "the version is shown"
