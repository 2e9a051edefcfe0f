"""What is saved stays saved: nothing is written over, damage is told, and nothing happens outside
the folder."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import blankcheck as bc
from blankcheck import files
from blankcheck.api import twins
from blankcheck.api.audit import Audit
from blankcheck.api.harden import Hardened
from blankcheck.auditing import PRESETS, Preset, Twin
from blankcheck.classifiers.loading import model_bytes
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.cli.main import main
from blankcheck.cli.settings import HardenSettings
from blankcheck.errors import BlankcheckError, ModelError, RunFolderError
from blankcheck.runs.claims import BusyError, Claim, held, latest, next_free
from blankcheck.runs.contents import read_run
from blankcheck.runs.folder import EVENTS, FIGURES, LOCK, MARK, RunFolder
from blankcheck.runs.plain_values import parse_json, parse_yaml
from blankcheck.runs.safe_folder import PARTIAL
from blankcheck.runs.state import STATE, read_state, state_bytes
from blankcheck.types import Conditions

CPU = torch.device("cpu")
BITS = random.Random(16)


@pytest.fixture
def refused(capsys) -> Callable[..., str]:
    """Runs a command line: this exit code, nothing on stdout, and one line on stderr."""

    def run(line: str, code: int = 2) -> str:
        capsys.readouterr()
        ended = main(line.split())
        out, err = capsys.readouterr()
        assert (ended, out, err.count("\n")) == (code, "", 1), (ended, out, err)
        assert err.startswith("blankcheck: error: ")
        return err

    return run


def held_bytes(folder: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def begun(path: Path, command: str = "harden", **files_: bytes) -> RunFolder:
    run = RunFolder.create(path)
    run.begin(command, {"data": "digits", "model": "mlp"}, CPU)
    for name, raw in files_.items():
        run.write(name.replace("__", "/").replace("_", "."), raw)
    return run


def trained(path: Path) -> RunFolder:
    """A run whose report can be drawn."""
    run = begun(path, "train")
    records = [{"kind": "epoch", "epoch": i, "real_loss": 1.0 - 0.1 * i} for i in range(4)]
    last = {"kind": "train", "real_accuracy": 0.9, "real_confident": 0.8, "seconds": 1.0}
    run.write_lines("metrics.jsonl", [*records, last])
    return run


def flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ (1 << BITS.randrange(8))]) + raw[at + 1 :]


# ---- 1: never overwrite

COMMANDS = (
    "train",
    "audit --weights {weights}",
    "harden",
    "certify --weights {weights}",
    "gate --weights {weights} --k 3",
    "demo",
    "doctor --weights {weights}",
    "compare {folder}/a {folder}/b",
    "sweep --config {folder}/s.yaml",
)


@pytest.mark.parametrize("line", COMMANDS, ids=lambda line: line.split()[0])
def test_a_folder_that_holds_a_run_is_refused_and_stays_as_it_is(line, weights, tmp_path, refused):
    sweep = {"base": {"epochs": 2}, "search": {"keep": [0.1, 0.2]}}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(sweep))
    other = "harden" if line != "harden" else "audit"
    run = begun(tmp_path / "x", other, model_safetensors=b"work", state__state_pt=b"s")
    before = held_bytes(run.path)
    said = refused(f"{line.format(weights=weights, folder=tmp_path)} --out {run.path}")
    assert "holds a run" in said and "--overwrite" in said and f"{run.path}-2 is free" in said
    assert "--resume" not in said and f"of {other}" in said
    assert held_bytes(run.path) == before


@pytest.mark.parametrize(
    ("command", "ended"), [("harden", False), ("audit", False), ("audit", True)]
)
def test_a_refusal_says_how_to_go_on_where_one_can(command, ended, tmp_path, refused):
    run = begun(tmp_path / "x", command, **({"verdict_json": b"{}"} if ended else {}))
    said = refused(f"{command} --out {run.path}")
    assert (f"blankcheck {command} --resume --out {run.path} goes on" in said) != ended
    if ended:
        assert "its audit has ended" in refused(f"audit --resume --out {run.path}")


def test_going_on_runs_no_code_that_a_folder_names(tmp_path, refused):
    run = begun(tmp_path / "x", "audit")
    named = {"model": "net.py:make", "data": "data.py:make", "unsafe_pickle": True}
    run.write("config.yaml", yaml.safe_dump(named))
    said = refused(f"audit --resume --out {run.path}")
    assert "give --model net.py:make --data data.py:make --unsafe-pickle again" in said
    said = refused(f"audit --resume --out {run.path} --model net.py:make --unsafe-pickle")
    assert "give --data data.py:make again" in said
    assert "model was 'net.py:make', is 'mlp'" in refused(
        f"audit --resume --out {run.path} --model mlp"
    )


def test_overwrite_begins_anew_and_leaves_what_is_not_ours(tmp_path):
    models = "model.safetensors gate.safetensors gated.pt2 state/state.pt sweep.journal"
    records = "doctor.json verdict.json blend.json front/0001.yaml figures/lit-curve.svg"
    run = begun(tmp_path / "x")
    for name in (*models.split(), *records.split(), f"{EVENTS}/events.out.tfevents.1"):
        run.write(name, b"old")
    ours = ("notes.txt", "figures/mine.txt", "figures/mine.svg", "figures/mine.png")
    for name in ours:
        run.write(name, b"mine")
    assert main(["train", "--epochs", "1", "--out", str(run.path), "--overwrite", "--quiet"]) == 0
    left = held_bytes(run.path)
    assert not {name for name, raw in left.items() if raw == b"old"}
    assert all(left[name] == b"mine" for name in ours) and run.command == "train"
    assert "overwrite" not in run.read_config(), "who repeats the run has no leave to overwrite"


def test_every_figure_that_is_drawn_is_known_to_be_ours():
    package = Path(bc.__file__).parent
    text = "".join(path.read_text() for path in package.rglob("*.py"))
    drawn = set(re.findall(r'\bdrawn\("([\w-]+)"', text))
    assert len(drawn) > 8 and drawn <= set(FIGURES.split())


def test_a_demo_that_is_begun_anew_takes_the_folders_inside_along(tmp_path):
    demo = begun(tmp_path / "demo", "demo")
    for name in ("plain", "audit", "hardened"):
        begun(demo / name, "harden", model_safetensors=b"old", state__state_pt=b"old")
    begun(demo / "other", model_safetensors=b"mine")
    (demo / "plain" / "notes.txt").write_text("mine")
    before = held_bytes(demo / "other")
    demo.begin("demo", {}, CPU)
    assert {path.name for path in demo.path.iterdir()} == {MARK, "config.yaml", "other", "plain"}
    assert set(held_bytes(demo / "plain")) == {MARK, "notes.txt"}
    assert held_bytes(demo / "other") == before
    # the folder of any other command owns no folders inside
    other = begun(tmp_path / "x", "train")
    begun(other / "audit", model_safetensors=b"mine")
    other.begin("train", {}, CPU)
    assert (other / "audit" / "model.safetensors").is_file()


def test_the_demo_runs_twice_only_when_told_to(tmp_path, monkeypatch, refused):
    def interrupted(settings, terminal):
        raise KeyboardInterrupt

    monkeypatch.setattr("blankcheck.cli.commands.demo.train_command", interrupted)
    given = ["demo", "--out", str(tmp_path / "d")]
    assert main(given) == 130
    assert "--overwrite" in refused(" ".join(given))
    assert main([*given, "--overwrite"]) == 130
    assert "--overwrite" in (Path(__file__).parents[2] / "Makefile").read_text()


def test_without_out_a_free_name_is_taken_and_resume_takes_the_latest(
    tmp_path, monkeypatch, capsys, refused
):
    monkeypatch.chdir(tmp_path)
    for expected in ("runs/train", "runs/train-2"):
        assert main(["train", "--epochs", "1", "--quiet"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"{expected}/report.html"
    assert "overwrite needs out" in refused("train --overwrite")
    for name in ("harden", "harden-2", "harden-10"):
        begun(Path("runs") / name)
    assert str(latest(Path("runs/harden"))) == "runs/harden-10"
    assert str(next_free(Path("runs/harden"))) == "runs/harden-11"
    assert str(latest(Path("runs/gate"))) == str(next_free(Path("runs/gate"))) == "runs/gate"
    assert "settings of runs/harden-10" in refused("harden --resume --seed 3")
    assert "one of the two" in refused("harden --resume --overwrite --out runs/harden")


def test_who_is_slower_to_a_default_name_takes_the_next(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, second = Claim(None, "audit"), Claim(None, "audit")
    with first.opened() as run, second.opened() as other:
        run.begin("audit", {}, CPU)
        other.begin("audit", {}, CPU)
    assert (str(run.path), str(other.path)) == ("runs/audit", "runs/audit-2")
    with pytest.raises(BusyError), Claim(None, "demo").opened() as run, held(run):
        raise AssertionError("it was held twice")
    assert not Path("runs/demo").exists(), "nothing was written there"


def test_what_the_command_reads_is_not_lost_with_the_run_it_lies_in(weights, tmp_path, refused):
    run = begun(tmp_path / "x", "train", model_safetensors=weights.read_bytes())
    before = held_bytes(run.path)
    own = f"--weights {run / 'model.safetensors'}"
    for line in (f"audit {own}", f"doctor {own}", f"compare {run.path} {tmp_path}/b"):
        said = refused(f"{line} --out {run.path} --overwrite")
        assert "which this command reads" in said
    assert held_bytes(run.path) == before


def test_a_refused_command_writes_nothing(tmp_path, refused):
    for options in ("--epochs 0", "--data nope"):
        refused(f"train {options} --out {tmp_path}/new/x")
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refused(f"train --out {tmp_path}/file/x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_python_refuses_likewise(plain, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(Audit, "_write_files", lambda self, run: run.write("verdict.json", "{}"))
    monkeypatch.setattr("blankcheck.report.page.write_report", lambda run: run.path)
    found = SimpleNamespace(evidence=SimpleNamespace(conditions=Conditions(), ood=None))
    audit = Audit(found, b"", (), plain, "digits", "smoke", 0)
    hardened = Hardened(plain, (), 0, (), "digits")
    for made, other in ((audit, hardened), (hardened, audit)):
        folder = made.save(tmp_path / type(made).__name__).path
        before = held_bytes(folder)
        for again in (made, other):
            with pytest.raises(RunFolderError, match="overwrite=True begins anew"):
                again.save(folder)
        assert held_bytes(folder) == before
        other.save(folder, overwrite=True)
        assert RunFolder.open(folder).command == ("audit" if other is audit else "harden")
    weights = tmp_path / "Hardened" / "model.safetensors"
    assert not weights.is_file(), "the audit that took the place wrote none"


@pytest.mark.parametrize("command", ["audit", "train", "demo", "harden"])
def test_resume_needs_a_state_of_harden(command, tmp_path, refused):
    run = begun(tmp_path / "x", command, model_safetensors=b"work", metrics_jsonl=b"")
    before = held_bytes(run.path)
    assert "no state of a hardening" in refused(f"harden --resume --out {run.path}")
    assert held_bytes(run.path) == before


# ---- 1: no two at once


def test_a_folder_that_is_being_written_is_refused(tmp_path, refused):
    run, harden = trained(tmp_path / "x"), begun(tmp_path / "h")
    harden.write("config.yaml", yaml.safe_dump(HardenSettings().as_config()))
    lines = [f"{line} {run.path}" for line in ("train --out", "report", "blend")]
    lines += [f"train --overwrite --out {run.path}", f"harden --resume --out {harden.path}"]
    with held(run), held(harden):
        before = held_bytes(run.path)
        for line in lines:
            assert "being written by another command" in refused(f"{line} --quiet")
        assert held_bytes(run.path) == before
    assert not run.has(LOCK) and main(["report", str(run.path), "--quiet"]) == 0


HOLDS = (
    "import fcntl; f = open('.lock', 'w'); fcntl.flock(f, 2); print('held', flush=True); input()"
)


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_process_that_dies_holds_nothing(tmp_path):
    run, pipe = begun(tmp_path / "x"), subprocess.PIPE
    given = [sys.executable, "-c", HOLDS]
    with subprocess.Popen(given, stdin=pipe, stdout=pipe, cwd=run.path) as process:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        with pytest.raises(BusyError), held(run):
            pass
        process.kill()
    assert run.has(LOCK)
    with held(run):
        pass
    assert not run.has(LOCK)


def test_what_a_killed_command_left_before_it_began_is_no_run(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    for name in (LOCK, f"{PARTIAL}abc.json"):
        (folder / name).write_text("")
    with Claim(folder, "train").opened() as run:
        run.begin("train", {}, CPU)
    assert {p.name for p in folder.iterdir()} == {MARK, "config.yaml"}
    run.write("state/x", b"")
    for name in (f"state/{PARTIAL}x.pt", f"{PARTIAL}y.json"):
        (folder / name).write_text("half")
    with held(run):
        assert set(held_bytes(folder)) == {LOCK, MARK, "config.yaml", "state/x"}


# ---- 2: digests


def test_a_flipped_bit_of_the_state_is_told(digits, tmp_path):
    run = begun(tmp_path / "h")
    raw = state_bytes({"history": [], "weights": torch.arange(100.0), "name": "x"})
    run.write(STATE, raw)
    assert torch.equal(read_state(run)["weights"], torch.arange(100.0))
    for at in (0, 30, raw.index(b"\n"), *BITS.sample(range(len(raw)), 40)):
        run.write(STATE, flipped(raw, at))
        with pytest.raises(RunFolderError, match="is damaged, or is no state"):
            read_state(run)
    for other in (b"", raw[:-1], raw.partition(b"\n")[2], raw + b"x"):
        run.write(STATE, other)
        with pytest.raises(RunFolderError, match="is damaged, or is no state"):
            bc.harden("mlp", digits, epochs=2, rounds=1, run=run, resume=True)


def test_a_flipped_bit_of_weights_is_told(plain, tmp_path, refused):
    raw, path = model_bytes(plain), tmp_path / "w.safetensors"
    for at in (*range(0, 400, 9), *BITS.sample(range(len(raw)), 40)):
        path.write_bytes(flipped(raw, at))
        with pytest.raises(BlankcheckError, match=r"weights"):
            bc.load_model("mlp", path)
    path.write_bytes(flipped(raw, len(raw) - 9))
    assert "is damaged" in refused(f"audit --weights {path} --out {tmp_path}/a")
    path.write_bytes(raw)
    assert fingerprint(bc.load_model("mlp", path)) == fingerprint(plain)
    save_file(dict(plain.state_dict()), path, plain.describe)
    again = bc.load_model("mlp", path)
    assert fingerprint(again) == fingerprint(plain), "older files have no digest"


def test_a_broken_cached_twin_is_made_again_and_said(digits, plain, tmp_path, monkeypatch):
    monkeypatch.setenv("BLANKCHECK_CACHE", str(tmp_path))
    made = []

    def train(network, *arguments, **options):
        made.append(1)
        network.load_state_dict(plain.state_dict())

    monkeypatch.setattr(twins, "train_plainly", train)

    def twin():
        return next(twins.get_twins(plain, digits, CPU))

    assert "made again" not in twin().what and len(made) == 1
    assert "made again" not in twin().what and len(made) == 1, "from the cache"
    (path,) = (tmp_path / "twins").iterdir()
    whole = path.read_bytes()
    others = files.pack({"a": torch.zeros(3)})
    for number, raw in enumerate((flipped(whole, len(whole) - 5), whole[:100], b"", others), 2):
        path.write_bytes(raw)
        assert "made again because its file in the cache" in twin().what and len(made) == number
        assert path.read_bytes() == whole
    save_file({n: t.clone() for n, t in plain.state_dict().items()}, path)
    assert "made again" not in twin().what and len(made) == 5, "older files have no digest"
    path.unlink()

    def full(self, raw):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert twin() is not None, "a twin that cannot be kept is one all the same"
    assert not list((tmp_path / "twins").iterdir())


# ---- 3: hostile or unlucky surroundings

DEEP = "[" * 200_000 + "]" * 200_000
ALIASES = [f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True)]
BOMB = "".join(["a: &a [x, x]\n", *ALIASES])
TEXTS = {"deep": DEEP, "number": '{"schema": 1' + "0" * 400 + "}", "bytes": "\udcff"}


def spoil(path: Path, how: str) -> None:
    path.unlink(missing_ok=True)
    if how == "link":
        (path.parent.parent / "elsewhere").write_text("{}")
        path.symlink_to(path.parent.parent / "elsewhere")
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "folder":
        path.mkdir()
    elif how == "sparse":
        path.write_text("{")
        os.truncate(path, 20 << 30)
    else:
        path.write_text(TEXTS[how], errors="surrogateescape")


@pytest.mark.skipif(os.name != "posix", reason="needs pipes and links")
@pytest.mark.parametrize("how", ["link", "pipe", "folder", "sparse", "deep", "number", "bytes"])
@pytest.mark.parametrize("name", ["verdict.json", "metrics.jsonl", "hardening.json", "config.yaml"])
def test_what_is_no_plain_file_is_refused_and_named(how, name, tmp_path):
    run = trained(tmp_path / "x")
    spoil(run / name, "deep" if name == "config.yaml" and how in ("number", "bytes") else how)
    names = sorted(p.name for p in run.path.iterdir())
    with pytest.raises(RunFolderError, match=re.escape(name)) as caught:
        read_run(run)
    assert "\n" not in str(caught.value) and sorted(p.name for p in run.path.iterdir()) == names


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_commands_tell_of_it_in_one_line(tmp_path, refused):
    bad, good = trained(tmp_path / "x").path, trained(tmp_path / "good").path
    spoil(bad / "metrics.jsonl", "link")
    compare = f"compare {bad} {good} --out {tmp_path}/o"
    for line in (f"report {bad}", f"report {good} --before {bad}", compare):
        assert "metrics.jsonl" in refused(line)
    assert not (tmp_path / "o").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs links")
@pytest.mark.parametrize("name", ["figures", "state", "front", EVENTS])
def test_nothing_is_written_or_removed_through_a_link(name, tmp_path, refused):
    victim = tmp_path / "victim"
    victim.mkdir()
    for precious in ("mine.png", "state.pt", "0001.yaml", "events.out.tfevents.1", "training.png"):
        (victim / precious).write_text("precious")
    run = trained(tmp_path / "x")
    (run / name).symlink_to(victim)
    before = held_bytes(victim), held_bytes(run.path)
    said = refused(f"train --epochs 1 --out {run.path} --overwrite --quiet")
    assert f"{name} is a link" in said
    if name == "figures":
        assert "figures is a link" in refused(f"report {run.path}")
    for attempt in (
        lambda: run.write(f"{name}/new", b"x"),
        lambda: run.remove(f"{name}/mine.png"),
        lambda: run.read_bytes(f"{name}/mine.png"),
        lambda: run.names(f"{name}/*"),
        lambda: run.folder(name),
    ):
        with pytest.raises(RunFolderError, match="is a link"):
            attempt()
    assert (held_bytes(victim), held_bytes(run.path)) == before


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_a_link_in_place_of_a_file_is_not_written_through(tmp_path):
    run = begun(tmp_path / "x")
    (tmp_path / "mine").write_text("precious")
    for name in ("verdict.json", "new.json"):
        (run / name).symlink_to(tmp_path / "mine")
        with pytest.raises(RunFolderError, match="is a link"):
            run.write(name, b"x")
    (run / LOCK).symlink_to(tmp_path / "mine")
    with pytest.raises(RunFolderError, match="is a link"), held(run):
        pass
    run.begin("train", {}, CPU)
    assert not run.has("verdict.json"), "of a link, itself is removed"
    run.remove(MARK)
    (run / MARK).symlink_to(tmp_path / "mine")
    with pytest.raises(RunFolderError, match="is a link"):
        run.begin("train", {}, CPU)
    for link in ("plain", "trials"):
        (run / link).symlink_to(tmp_path)
        with pytest.raises(RunFolderError, match="is a link"):
            run.below(f"{link}")
    assert (tmp_path / "mine").read_text() == "precious" and not list(run.path.glob(f"{PARTIAL}*"))


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError(), KeyboardInterrupt()]
)
def test_a_write_that_fails_leaves_the_old_file_and_no_other(error, tmp_path, monkeypatch):
    run = begun(tmp_path / "x", metrics_jsonl=b"old")
    before = held_bytes(run.path)

    def fails(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(type(error)):
        run.write("metrics.jsonl", b"new")
    assert held_bytes(run.path) == before


DEEP_YAML, LONG_YAML = f"epochs: {'[' * 3000}{']' * 3000}", "epochs: 1\n" + "#" * 300_000


@pytest.mark.parametrize("text", [DEEP_YAML, BOMB, LONG_YAML, "a: [", "\x00"])
def test_a_configuration_that_is_deep_or_endless_is_one_line(text, tmp_path, refused):
    (tmp_path / "c.yaml").write_text(text)
    assert "c.yaml" in refused(f"train --config {tmp_path}/c.yaml --out {tmp_path}/o")
    run = begun(tmp_path / "x")
    run.write("config.yaml", text)
    with pytest.raises(RunFolderError, match=r"config\.yaml"):
        run.read_config()
    assert not (tmp_path / "o").exists()


def test_plain_values_are_read_as_ever():
    assert parse_json('{"a": [1, -2, 1.5, "[[", null]}') == {"a": [1, -2, 1.5, "[[", None]}
    assert parse_json("[" * 60 + "]" * 60) is not None
    nested = {"base": {"epochs": 2, "tracker": [["x"]]}, "none": None}
    assert parse_yaml(yaml.safe_dump(nested)) == nested
    deep = '{"a":' * 70 + "1" + "}" * 70
    for text in (deep, "1" * 20, "[", "{", "NaN", "[-Infinity]", "1e999"):
        with pytest.raises(ValueError, match=r".+"):
            parse_json(text)


def test_weights_that_speak_of_more_than_there_is_take_no_room(tmp_path, refused):
    path = tmp_path / "w.safetensors"
    said = {"architecture": "mlp", "outputs": "10"}
    for shape, words in (
        ("1,100000,100000", "states images"),
        ("1,8000,8000", "do not fit"),
        ("1,8", "states no shape"),
        ("1,-8,8", "states images"),
        ("999999999,1,1", "states images"),
        ("9999,9,9", "do not fit"),
    ):
        save_file({"network.1.weight": torch.zeros(1)}, path, {**said, "shape": shape})
        with pytest.raises(ModelError, match=words):
            bc.load_model("mlp", path)
    huge = {"dtype": "F32", "shape": [5, 10**9], "data_offsets": [0, 20 * 10**9]}
    header = json.dumps({"network.1.weight": huge}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, 8 + len(header) + 20 * 10**9)
    assert "do not fit" in refused(f"audit --weights {path} --out {tmp_path}/o")
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    assert "not a readable safetensors" in refused(f"audit --weights {path}")


@pytest.mark.skipif(os.name != "posix", reason="needs pipes")
def test_weights_that_are_no_file_are_one_line(weights, tmp_path, refused):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "dir.pt").mkdir()
    for name, words in (("pipe.safetensors", "is not a regular file"), ("dir.pt", "is a folder")):
        assert words in refused(f"audit --weights {tmp_path / name}")
    (tmp_path / "link.safetensors").symlink_to(weights)
    bc.load_model("mlp", tmp_path / "link.safetensors")  # a user's own link is followed


# ---- 4: equal runs give equal bytes


@pytest.fixture
def no_twin(monkeypatch) -> None:
    monkeypatch.setattr("blankcheck.api.harden.get_twins", lambda *arguments: iter(()))


def test_equal_runs_give_equal_bytes_and_going_on_knows_the_seconds(digits, tmp_path, no_twin):
    """The state holds no seconds; they come back from the metrics."""
    more = {"fresh_attempts": 10, "fresh_steps": 20, "buffer": 64}
    options: dict = {"epochs": 2, "rounds": 2, **more}
    made, first = [], None
    for name in ("one", "two"):
        run = begun(tmp_path / name)
        first = bc.harden("mlp", digits, run=run, **options)
        first.write_into(run)
        made.append({n: run.read_bytes(n) for n in (STATE, "model.safetensors")})
    assert made[0] == made[1]
    again = bc.harden("mlp", digits, run=run, resume=True, **options)
    assert [r.metrics() for r in first.rounds] == [r.metrics() for r in again.rounds]
    assert all(r["training_seconds"] == 0 for r in read_state(run)["history"])


def test_equal_audits_give_equal_bytes(digits, plain, monkeypatch):
    monkeypatch.setitem(PRESETS, "smoke", Preset(attempts=10, per_target=1, steps=20))
    twin = Twin(plain, "logits", "a twin")
    one, two = (bc.audit(plain, digits, preset="smoke", twin=lambda: twin) for _ in range(2))
    assert one.packed == two.packed and len(one.witnesses["images"]) > 0


def test_packed_tensors_are_the_same_bytes_and_come_back(tmp_path):
    half = torch.ones(3, dtype=torch.bfloat16)
    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(True), "half": half}
    tensors["none"] = torch.zeros(0, 3)
    said = {f"key{i}": f"größe {i}" for i in range(20)}

    def mixed(table: dict) -> dict:
        return dict(BITS.sample(list(table.items()), len(table)))

    (raw,) = {files.pack(mixed(tensors), mixed(said)) for _ in range(10)}
    back, metadata = files.unpack(raw)
    assert back.keys() == tensors.keys() and all(torch.equal(back[n], tensors[n]) for n in tensors)
    assert {k: v for k, v in metadata.items() if k != files.DIGEST} == said
    (tmp_path / "t").write_bytes(raw)
    assert files.read_header(tmp_path / "t")[1]["b"] == (2, 3)
    assert load_file(tmp_path / "t")["b"].shape == (2, 3)


# ---- 5: exit codes


ENOSPC = OSError(errno.ENOSPC, "No space left on device", "x/model.safetensors")
CPU_FULL = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 byte"
MMAP_FULL = "unable to mmap 20 bytes from file <w>: Cannot allocate memory (12)"
CUDA_FULL = torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")
REFUSALS = [
    (ENOSPC, "model.safetensors: No space left"),
    (OSError(errno.EDQUOT, "Disk quota exceeded", "x"), "quota"),
    (PermissionError(errno.EACCES, "Permission denied", "runs"), "runs: Permission denied"),
    (OSError("an error without a number"), "without a number"),
    (MemoryError(), "out of memory"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
    (CUDA_FULL, "out of memory: CUDA out of memory. Tried"),
    (RuntimeError(CPU_FULL), "out of memory"),
    (RuntimeError(MMAP_FULL), "out of memory"),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), "reads the output has gone"),
]


@pytest.mark.parametrize(("error", "words"), REFUSALS)
def test_what_the_machine_refuses_is_one_line_and_exit_1(error, words, refused, monkeypatch):
    def fails(settings, terminal):
        raise error

    monkeypatch.setattr("blankcheck.cli.commands.train.train_command", fails)
    assert words in refused("train", code=1)


def test_what_is_unexpected_shows_itself(monkeypatch):
    def fails(settings, terminal):
        raise RuntimeError("a bug")

    monkeypatch.setattr("blankcheck.cli.commands.train.train_command", fails)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["train"])


@pytest.mark.skipif(os.name != "posix", reason="needs pipes")
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_output_that_nobody_reads_is_one_line_and_exit_1(options, tmp_path, monkeypatch, capsys):
    run = trained(tmp_path / "x")
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)
        assert main(["report", str(run.path), *options]) == 1
        nobody.flush()  # as Python does when it ends; nothing is complained about twice
    assert capsys.readouterr().err == "blankcheck: error: whoever reads the output has gone\n"
