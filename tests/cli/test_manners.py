"""How the command line behaves towards people and pipes."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys

import pytest
from rich.console import Console

from blankcheck.cli.commands import registry as commands
from blankcheck.cli.help import in_groups
from blankcheck.cli.main import main
from blankcheck.cli.terminal import Terminal

ESCAPES = "\x1b"


def shown(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_first_help_names_every_command_and_begins_a_session(capsys):
    words = shown(capsys, "--help")
    for name in commands.COMMANDS:
        assert re.search(rf"^ +{name} ", words, re.MULTILINE), name
    assert "A first session" in words and "Exit codes" in words
    assert all(len(line) <= 120 for line in words.splitlines())


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_help_is_grouped_and_every_option_stands_once(capsys, name):
    settings = commands.COMMANDS[name][0]
    words = shown(capsys, name, "--help")
    for title, members in in_groups(settings):
        assert f"\n{title}:\n" in words
        for field in members:
            option = f"--{field.name.replace('_', '-')}"
            assert (
                len(re.findall(rf"^  ({option}|{field.name})\b(?!-)", words, re.MULTILINE)) == 1
            ), option
    assert "null" not in words and "Literal" not in words, "types of Python are no help"


def test_what_has_a_default_says_it(capsys):
    words = " ".join(shown(capsys, "audit", "--help").split())
    for said in (
        "(default: 0.9)",
        "(default: standard)",
        "(default: 0)",
        "default 300, less for small images",
    ):
        assert said in words


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_completion_script_completes(capsys, tmp_path):
    pytest.importorskip("shtab")
    script = tmp_path / "completion.bash"
    script.write_text(shown(capsys, "--print-completion", "bash"))

    def completed(*words: str) -> list[str]:
        typed = " ".join(f"'{w}'" for w in words)
        code = (
            f"source {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _shtab_blankcheck; "
            'echo "${COMPREPLY[@]}"'
        )
        return subprocess.run(
            ["bash", "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()

    assert completed("blankcheck", "aud") == ["audit"]
    assert "--ood-level" in completed("blankcheck", "audit", "--ood")
    assert completed("blankcheck", "audit", "--preset", "st") == ["standard"]


def test_completion_without_its_package_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["--print-completion", "zsh"]) == 2
    assert "pip install 'blankcheck[completion]'" in capsys.readouterr().err


def test_defaults_nobody_named_are_said_before_work_begins(weights, tmp_path, capsys):
    main(["audit", "--weights", str(weights), "--preset", "smoke", "--out", str(tmp_path / "a")])
    news = capsys.readouterr().err
    assert "audit smoke: 100 attempts of at most 150 steps" in news
    assert "confidence >= 0.9, at most 12 lit of 64 features, p <= 0.01" in news


def test_nothing_is_coloured_when_piped(weights, tmp_path):
    command = [
        sys.executable,
        "-m",
        "blankcheck",
        "audit",
        "--weights",
        str(weights),
        "--preset",
        "smoke",
        "--out",
        str(tmp_path / "a"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 10 and ESCAPES not in done.stdout + done.stderr
    assert done.stdout.startswith("FOOLED")


@pytest.mark.parametrize("width", [30, 50, 79, 80, 200])
def test_progress_fits_the_terminal(width):
    terminal = Terminal()
    file = io.StringIO()
    terminal.err = Console(
        file=file, force_terminal=True, width=width, color_system=None, highlight=False
    )
    with terminal.progress() as bar:
        for done in range(0, 101, 20):
            bar("search", done, 100, "97 of 100 fooled, median 3 lit, [bold] " + "and so on " * 10)
    lines = (
        re.sub(rf"{ESCAPES}\[[0-9;?]*[A-Za-z]", "", file.getvalue()).replace("\r", "\n").split("\n")
    )
    assert max(map(len, lines)) <= width
    last = [line for line in lines if "100/100" in line][-1]
    assert ("━" in last) == (width >= 80) and "97" in last


def test_quiet_says_only_the_result(weights, tmp_path, capsys):
    main(
        [
            "audit",
            "--weights",
            str(weights),
            "--preset",
            "smoke",
            "--out",
            str(tmp_path / "a"),
            "--quiet",
        ]
    )
    out, err = capsys.readouterr()
    assert err == "" and len(out.splitlines()) == 2
