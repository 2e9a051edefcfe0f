"""What is met at the door: help, options, error lines, completion, and how quickly they come."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import fields
from types import SimpleNamespace
from typing import cast

import pytest

import blankcheck
from blankcheck.classifiers import build
from blankcheck.cli.commands.registry import COMMANDS
from blankcheck.cli.commands.shared import warn_untrained
from blankcheck.cli.help import in_groups
from blankcheck.cli.main import main
from blankcheck.cli.options import command_line
from blankcheck.cli.parser import command_parser
from blankcheck.cli.settings import AuditSettings, CompareSettings, HardenSettings
from blankcheck.cli.terminal import Terminal

HEAVY = ("torch", "numpy", "scipy", "matplotlib", "sklearn")
DOOR = f"""
import sys
import blankcheck
from blankcheck.cli.main import main
for words in ("--version", "--help", "audit --help", "audit --wrong", "dance", "gate --k x"):
    try:
        main(words.split())
    except SystemExit:
        pass
    assert not set({HEAVY!r}) & set(sys.modules), words
assert set(blankcheck.__all__) <= set(dir(blankcheck))
from blankcheck import *
assert fool and "torch" in sys.modules
"""


def cpu_seconds(*words: str) -> float:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_nothing_heavy_is_imported_at_the_door():
    subprocess.run([sys.executable, "-c", DOOR], check=True, capture_output=True)


def test_the_door_is_quick():
    """Five times what the library of the command line alone takes; torch takes a dozen times."""
    enough = 5 * cpu_seconds("-c", "import jsonargparse")
    for words in (["--help"], ["audit", "--wrong"]):
        assert cpu_seconds("-m", "blankcheck", *words) < enough


def test_names_that_the_package_does_not_have():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = blankcheck.nothing


def shown(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_first_help_names_every_command_and_begins_a_session(capsys):
    words = shown(capsys, "--help")
    for name in COMMANDS:
        assert re.search(rf"^ +{name} ", words, re.MULTILINE), name
    assert "A first session" in words and "Exit codes" in words
    assert all(len(line) <= 120 for line in words.splitlines())


def test_help_ends_lines_with_a_word_in_sixty_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    lines = [*shown(capsys, "--help").splitlines(), *shown(capsys, "harden", "--help").splitlines()]
    long = [line for line in lines if len(line) > 60]
    assert all(line.startswith("  blankcheck ") for line in long), "commands stay whole"
    assert "  blankcheck demo" in lines


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_grouped_and_every_option_stands_once(capsys, name):
    words = shown(capsys, name, "--help")
    for title, members in in_groups(COMMANDS[name].settings).items():
        assert f"\n{title}:\n" in words
        for field in members:
            option = f"(--{field.name.replace('_', '-')}|{field.name})"
            assert len(re.findall(rf"^  {option}\b(?!-)", words, re.MULTILINE)) == 1, option
    assert f"Examples: blankcheck {name}" in " ".join(words.split())
    assert "null" not in words and "Literal" not in words, "types of Python are no help"


def test_what_has_a_default_says_it(capsys):
    words = " ".join(shown(capsys, "audit", "--help").split())
    for said in ("0.9)", "standard)", "0)"):
        assert f"(default: {said}" in words
    assert "default 300, less for small images" in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["audit", "--data", "nope", "--weights", "WEIGHTS"], "data must be one of"),
        (["audit", "--model", "nope", "--weights", "x.pt"], "weights file x.pt does not exist"),
        (["train", "--model", "nope"], "model must be one of"),
        (["audit"], "is untrained"),
        (
            ["audit", "--preset", "huge"],
            "--preset: expected one of smoke, standard, proof, got huge",
        ),
        (["audit", "--weights", "WEIGHTS", "--rivals"], "pip install foolbox"),
        (["audit", "--bogus", "1"], "unrecognized arguments: --bogus 1; see --help"),
        (["audit", "--max-lits=1"], "did you mean --max-lit?"),
        (["audit", "--epochs", "1"], "audit has no such option"),
        (["audit", "--confidence", "high"], "--confidence: expected a number, got high"),
        (["audit", "--ood-level", "low"], "--ood-level: expected a number or auto, got low"),
        (["audit", "--max-lit", "1.5"], "--max-lit: expected a whole number, got 1.5"),
        (["audit", "--config", "none.yaml"], "none.yaml"),
        (["audit", "--config", "{quiet: maybe}"], "--quiet: expected true or false, got 'maybe'"),
        (["audit", "--config", "{colour: red}"], "'colour' is not accepted"),
        (["train", "--epochs", "0"], "epochs"),
        (["train", "--device", "tpu"], "--device: expected one of auto, cpu, cuda, mps, got tpu"),
        (["train", "--data", "mnist", "--data-dir", "EMPTY"], "mnist"),
        (["dance"], "'dance'"),
        (["adit"], "did you mean audit?"),
        ([], "a command is missing: demo, doctor"),
        (["verify"], "are required: run"),
        (["verify", "nowhere"], "run folder nowhere does not exist"),
        (["report", "nowhere"], "run folder nowhere does not exist"),
        (["harden", "--resume", "--out", "nowhere"], "run folder nowhere does not exist"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(
    refused, tmp_path, monkeypatch, weights, arguments, words
):
    def without_network(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.delenv("BLANKCHECK_DATA", raising=False)
    monkeypatch.setattr("pooch.retrieve", without_network)
    for library in ("foolbox", "adv_lib", "art"):
        monkeypatch.setitem(sys.modules, library, None)
    given = {"EMPTY": str(tmp_path), "WEIGHTS": str(weights)}
    assert words in refused(*(given.get(a, a) for a in arguments))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("data: null\n", "data must be a text"),
        (f"seed: {'9' * 5000}\n", "limit"),
        ("seed: 99999999999999999999999\n", "at most 64 bits"),
        ("data: digits\ndata: mnist\n", "twice"),
    ],
)
def test_settings_that_are_none_begin_nothing(given, words, tmp_path, refused):
    (tmp_path / "c.yaml").write_text(given)
    out = tmp_path / "o"
    assert words in refused("train", "--config", str(tmp_path / "c.yaml"), "--out", str(out))
    assert not out.exists()


def test_ctrl_c_is_130(capsys, monkeypatch):
    def interrupted(settings, terminal):
        raise KeyboardInterrupt

    monkeypatch.setattr("blankcheck.cli.commands.train.train_command", interrupted)
    assert main(["train"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_python_dash_m_and_print_config(tmp_path, refused):
    command = [sys.executable, "-m", "blankcheck", "audit", "--print_config"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "preset: standard" in done.stdout
    (tmp_path / "c.yaml").write_text(done.stdout)
    assert "is untrained" in refused("audit", "--config", str(tmp_path / "c.yaml"))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("audit", AuditSettings(data="npz:a b.npz", weights="-x.pt", max_lit=3, rivals=True)),
        ("audit", AuditSettings(tracker=["mlflow", "wandb"], normalize="0.1/0.3")),
        ("compare", CompareSettings(["a b", "c"], sort="lit")),
        ("harden", HardenSettings(seed=-3, far_weight=1e-7, lr=0.5, certify=9, network="fresh")),
    ],
)
def test_the_stored_words_give_the_settings_again(name, settings):
    program, command, *words = command_line(name, settings)
    assert (program, command) == ("blankcheck", name)
    given = command_parser(name).parse_args(words)
    for field in fields(settings):
        value = getattr(settings, field.name)
        assert given[field.name] in (value, ",".join(value) if isinstance(value, list) else value)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_completion_script_completes(capsys, tmp_path):
    pytest.importorskip("shtab")
    script = tmp_path / "completion.bash"
    script.write_text(shown(capsys, "--print-completion", "bash"))
    asked = (["aud"], ["audit", "--ood"], ["audit", "--preset", "st"])
    code = f"source {script}\n" + "".join(
        f"COMP_WORDS=(blankcheck {' '.join(words)}); COMP_CWORD={len(words)}; _shtab_blankcheck; "
        'echo "${COMPREPLY[@]}"\n'
        for words in asked
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    first, options, presets = done.stdout.splitlines()
    assert first == "audit" and "--ood-level" in options.split() and presets == "standard"


def test_completion_without_its_package_is_one_line(refused, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'blankcheck[completion]'" in refused("--print-completion", "zsh")


def test_forgotten_weights_are_said_before_any_long_work(digits, plain):
    notes: list[str] = []
    terminal = cast(Terminal, SimpleNamespace(note=notes.append))
    fresh = build("mlp", digits.shape, 10, digits.mean_and_std())
    for model, weights, classifier, words in (
        ("net.py:make", None, fresh, "it is as its factory makes it, no --weights are given"),
        ("net.py:make", "w.pt", fresh, "is its input what it was trained on? blankcheck doctor"),
        ("net.py:make", None, plain, ""),
    ):
        notes.clear()
        settings = AuditSettings(model=model, weights=weights)
        warn_untrained(settings, classifier, digits, "logits", terminal)
        assert [words in note and "no more than guessing" in note for note in notes] == (
            [True] if words else []
        )


@pytest.mark.parametrize("command", ["audit", "doctor", "certify", "gate", "harden"])
def test_wrong_weights_do_not_wait_for_the_data(tmp_path, capsys, command):
    for model in ("mlp", "net.onnx"):
        words = ["--model", model, "--weights", str(tmp_path / "none.pt"), "--data", "npz:none"]
        assert main([command, *words]) == 2
        assert "none.pt does not exist" in capsys.readouterr().err
