"""What is saved stays saved: nothing is written over, damage is told, and nothing happens outside
the folder."""

from __future__ import annotations

import errno
import json
import os
import random
import struct
import subprocess
import sys
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
from blankcheck.api.harden import STATE, Hardened, read_state, state_bytes
from blankcheck.auditing import PRESETS, Preset, Twin
from blankcheck.classifiers.loading import model_bytes
from blankcheck.classifiers.wrapper import fingerprint
from blankcheck.cli.commands import registry as commands
from blankcheck.cli.main import main
from blankcheck.errors import BlankcheckError, ModelError, RunFolderError
from blankcheck.runs import folder as run_folder
from blankcheck.runs.claims import BusyError, Claim, held, latest, next_free
from blankcheck.runs.folder import EVENTS, LOCK, MARK, PARTIAL, RunFolder
from blankcheck.runs.plain_values import parse_json, parse_yaml
from blankcheck.types import Conditions

CPU = torch.device("cpu")
BITS = random.Random(16)


def refused(capsys, *arguments: object, code: int = 2) -> str:
    """This exit code, nothing on stdout, one line on stderr."""
    ended = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert ended == code and out == "" and err.count("\n") == 1 and err.startswith("blankcheck: error: "), (ended, out, err)
    return err


def held_bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def begun(path: Path, command: str = "harden", **files_: bytes) -> RunFolder:
    run = RunFolder.create(path)
    run.begin(command, {"data": "digits", "model": "mlp"}, CPU)
    for name, raw in files_.items():
        run.write(name.replace("__", "/").replace("_", "."), raw)
    return run


def trained(path: Path) -> RunFolder:
    """A run whose report can be drawn."""
    run = begun(path, "train")
    epochs = [{"kind": "epoch", "epoch": i, "real_loss": 1.0 - 0.1 * i} for i in range(4)]
    run.write_lines(
        "metrics.jsonl", [*epochs, {"kind": "train", "real_accuracy": 0.9, "real_confident": 0.8, "seconds": 1.0}]
    )
    return run


def flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ (1 << BITS.randrange(8))]) + raw[at + 1 :]


# ---- 1: never overwrite

COMMANDS = {
    "train": [], "audit": ["--weights", "WEIGHTS"], "harden": [], "certify": ["--weights", "WEIGHTS"],
    "gate": ["--weights", "WEIGHTS", "--k", "3"], "demo": [], "doctor": ["--weights", "WEIGHTS"], "compare": ["A", "B"],
    "sweep": ["--config", "SWEEP"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_holds_a_run_is_refused_and_stays_as_it_is(command, weights, tmp_path, capsys):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({"base": {"epochs": 2}, "search": {"keep": [0.1, 0.2]}}))
    run = begun(
        tmp_path / "x", "harden" if command != "harden" else "audit", model_safetensors=b"work", state__state_pt=b"s"
    )
    before = held_bytes(run.path)
    names = {"WEIGHTS": weights, "SWEEP": tmp_path / "s.yaml", "A": tmp_path / "a", "B": tmp_path / "b"}
    line = refused(capsys, command, *(names.get(a, a) for a in COMMANDS[command]), "--out", run.path)
    assert "holds a run" in line and "--overwrite" in line and f"{run.path}-2 is free" in line
    assert ("--resume" in line) == (command == "harden")
    assert held_bytes(run.path) == before


def test_a_second_harden_does_not_restart_over_the_first_and_an_audit_keeps_its_weights(weights, tmp_path, capsys):
    run = begun(tmp_path / "h", model_safetensors=b"hardened", state__state_pt=b"state")
    before = held_bytes(run.path)
    assert "--resume goes on" in refused(capsys, "harden", "--out", run.path)
    assert "of harden" in refused(capsys, "audit", "--weights", weights, "--preset", "smoke", "--out", run.path)
    assert held_bytes(run.path) == before


def test_overwrite_begins_anew_and_leaves_what_is_not_ours(tmp_path):
    old = ("model.safetensors", "gate.safetensors", "gated.pt2", "state/state.pt", "figures/lit.png", "doctor.json",
           "verdict.json", "blend.json", "sweep.journal", "front/0001.yaml", f"{EVENTS}/events.out.tfevents.1")
    run = begun(tmp_path / "x")
    for name in old:
        run.write(name, b"old")
    (run / "notes.txt").write_text("mine")
    (run / "figures" / "mine.svg").write_text("mine")
    assert main(["train", "--epochs", "1", "--out", str(run.path), "--overwrite", "--quiet"]) == 0
    left = held_bytes(run.path)
    assert not {name for name, raw in left.items() if raw == b"old"}
    assert left["notes.txt"] == left["figures/mine.svg"] == b"mine" and run.command == "train"
    assert "overwrite" not in run.read_config(), "who repeats the run has no leave to overwrite"


def test_a_demo_that_is_begun_anew_takes_the_folders_inside_along(tmp_path):
    begun(tmp_path / "demo", "demo")
    for name in ("plain", "audit", "hardened"):
        begun(tmp_path / "demo" / name, "harden", model_safetensors=b"old", state__state_pt=b"old")
    begun(tmp_path / "demo" / "other", model_safetensors=b"mine")
    (tmp_path / "demo" / "plain" / "notes.txt").write_text("mine")
    before = held_bytes(tmp_path / "demo" / "other")
    RunFolder.create(tmp_path / "demo").begin("demo", {}, CPU)
    assert {p.name for p in (tmp_path / "demo").iterdir()} == {MARK, "config.yaml", "other", "plain"}
    assert set(held_bytes(tmp_path / "demo" / "plain")) == {MARK, "notes.txt"}
    assert held_bytes(tmp_path / "demo" / "other") == before
    # the folder of any other command owns no folders inside
    begun(tmp_path / "x", "train")
    begun(tmp_path / "x" / "audit", model_safetensors=b"mine")
    RunFolder.create(tmp_path / "x").begin("train", {}, CPU)
    assert (tmp_path / "x" / "audit" / "model.safetensors").is_file()


def test_the_demo_runs_twice_only_when_told_to(tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(commands, "_demo", lambda settings, out, terminal: seen.append(settings.overwrite) or 0)
    assert main(["demo", "--out", str(tmp_path / "d")]) == 0
    assert "--overwrite" in refused(capsys, "demo", "--out", tmp_path / "d")
    assert main(["demo", "--out", str(tmp_path / "d"), "--overwrite"]) == 0 and seen == [False, True]
    assert "--overwrite" in (Path(__file__).parents[2] / "Makefile").read_text()


def test_without_out_a_free_name_is_taken_and_resume_takes_the_latest(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for expected in ("train", "train-2"):
        assert main(["train", "--epochs", "1", "--quiet"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(Path("runs") / expected / "report.html")
    assert "overwrite needs out" in refused(capsys, "train", "--overwrite")
    for name in ("harden", "harden-2", "harden-10"):
        begun(Path("runs") / name)
    assert str(latest(Path("runs/harden"))) == "runs/harden-10" and str(next_free(Path("runs/harden"))) == "runs/harden-11"
    assert "settings of runs/harden-10" in refused(capsys, "harden", "--resume")
    assert str(latest(Path("runs/gate"))) == str(next_free(Path("runs/gate"))) == "runs/gate"
    assert "one of the two" in refused(capsys, "harden", "--resume", "--overwrite", "--out", "runs/harden")


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


def test_what_the_command_reads_is_not_lost_with_the_run_it_lies_in(weights, tmp_path, capsys):
    run = begun(tmp_path / "x", "train", model_safetensors=weights.read_bytes())
    before = held_bytes(run.path)
    for command in ("audit", "doctor"):
        line = refused(capsys, command, "--weights", run / "model.safetensors", "--out", run.path, "--overwrite")
        assert "which this command reads" in line
    assert "reads" in refused(capsys, "compare", run.path, tmp_path / "b", "--out", run.path, "--overwrite")
    assert held_bytes(run.path) == before


def test_a_refused_command_writes_nothing(tmp_path, capsys):
    for options in (["--epochs", "0"], ["--data", "nope"]):
        refused(capsys, "train", *options, "--out", tmp_path / "new" / "x")
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refused(capsys, "train", "--out", tmp_path / "file" / "x")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_python_refuses_likewise(plain, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(Audit, "write_into", lambda self, run: run.write("verdict.json", "{}"))
    monkeypatch.setattr("blankcheck.report.page.write_report", lambda run: run.path)
    found = SimpleNamespace(evidence=SimpleNamespace(conditions=Conditions()))
    audit, hardened = Audit(found, b"", (), plain, "digits", "smoke", 0), Hardened(plain, (), 0, (), "digits")
    for made, other in ((audit, hardened), (hardened, audit)):
        folder = made.save(tmp_path / type(made).__name__).path
        before = held_bytes(folder)
        for again in (made, other):
            with pytest.raises(RunFolderError, match="overwrite=True begins anew"):
                again.save(folder)
        assert held_bytes(folder) == before
        other.save(folder, overwrite=True)
        assert RunFolder.open(folder).command == ("audit" if other is audit else "harden")
    assert not (tmp_path / "Hardened" / "model.safetensors").is_file(), "the audit that took the place wrote none"


@pytest.mark.parametrize("command", ["audit", "train", "demo", "harden"])
def test_resume_needs_a_state_of_harden(command, tmp_path, capsys):
    run = begun(tmp_path / "x", command, model_safetensors=b"work", metrics_jsonl=b"")
    before = held_bytes(run.path)
    assert "no state of a hardening" in refused(capsys, "harden", "--resume", "--out", run.path)
    assert held_bytes(run.path) == before


# ---- 1: no two at once


def test_a_folder_that_is_being_written_is_refused(tmp_path, capsys):
    run = trained(tmp_path / "x")
    with held(run):
        before = held_bytes(run.path)
        for arguments in (["train", "--out"], ["train", "--overwrite", "--out"], ["report"], ["blend"]):
            assert "being written by another command" in refused(capsys, *arguments, run.path)
        assert held_bytes(run.path) == before
    assert not run.has(LOCK) and main(["report", str(run.path), "--quiet"]) == 0
    capsys.readouterr()
    harden = begun(tmp_path / "h")
    config = commands.HardenSettings().as_config()
    harden.write("config.yaml", yaml.safe_dump(config))
    with held(harden):
        assert "being written" in refused(capsys, "harden", "--resume", "--quiet", "--out", harden.path)


@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_a_process_that_dies_holds_nothing(tmp_path):
    run = begun(tmp_path / "x")
    script = f"import fcntl; f = open({str(run / LOCK)!r}, 'w'); fcntl.flock(f, 2); print('held', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
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


def test_a_flipped_bit_of_weights_is_told(plain, tmp_path, capsys):
    raw, path = model_bytes(plain), tmp_path / "w.safetensors"
    for at in (*range(0, 400, 9), *BITS.sample(range(len(raw)), 40)):
        path.write_bytes(flipped(raw, at))
        with pytest.raises(BlankcheckError, match=r"weights"):
            bc.load_model("mlp", path)
    path.write_bytes(flipped(raw, len(raw) - 9))
    assert "is damaged" in refused(capsys, "audit", "--weights", path, "--out", tmp_path / "a")
    path.write_bytes(raw)
    assert fingerprint(bc.load_model("mlp", path)) == fingerprint(plain)
    save_file(dict(plain.state_dict()), path, plain.describe)
    assert fingerprint(bc.load_model("mlp", path)) == fingerprint(plain), "older files have no digest"


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
    monkeypatch.setattr(Path, "write_bytes", lambda self, raw: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    assert twin() is not None and not list((tmp_path / "twins").iterdir()), "a twin that cannot be kept is one all the same"


# ---- 3: hostile or unlucky surroundings

DEEP = "[" * 200_000 + "]" * 200_000
BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefg", "bcdefgh", strict=True))


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
        path.write_text({"deep": DEEP, "number": '{"schema": 1' + "0" * 400 + "}", "bytes": "\udcff"}[how],
                        errors="surrogateescape")


@pytest.mark.skipif(os.name != "posix", reason="needs pipes and links")
@pytest.mark.parametrize("how", ["link", "pipe", "folder", "sparse", "deep", "number", "bytes"])
@pytest.mark.parametrize("name", ["verdict.json", "metrics.jsonl", "hardening.json", "config.yaml"])
def test_what_is_no_plain_file_is_one_line(how, name, tmp_path, capsys):
    run, good = trained(tmp_path / "x"), trained(tmp_path / "good")
    if how in ("number", "bytes") and name == "config.yaml":
        how = "deep"
    spoil(run / name, how)
    names = sorted(p.name for p in run.path.iterdir())
    assert name in refused(capsys, "report", run.path)
    assert name in refused(capsys, "report", good.path, "--before", run.path) or how == "deep"
    assert name in refused(capsys, "compare", run.path, good.path, "--out", tmp_path / "o")
    assert sorted(p.name for p in run.path.iterdir()) == names and not (tmp_path / "o").exists()


@pytest.mark.skipif(os.name != "posix", reason="needs links")
@pytest.mark.parametrize("name", ["figures", "state", "front", EVENTS])
def test_nothing_is_written_or_removed_through_a_link(name, tmp_path, capsys):
    victim = tmp_path / "victim"
    victim.mkdir()
    for precious in ("mine.png", "state.pt", "0001.yaml", "events.out.tfevents.1", "training.png"):
        (victim / precious).write_text("precious")
    run = trained(tmp_path / "x")
    (run / name).symlink_to(victim)
    before = held_bytes(victim), held_bytes(run.path)
    assert f"{name} is a link" in refused(capsys, "train", "--epochs", "1", "--out", run.path, "--overwrite", "--quiet")
    if name == "figures":
        assert "figures is a link" in refused(capsys, "report", run.path)
    for attempt in (lambda: run.write(f"{name}/new", b"x"), lambda: run.remove(f"{name}/mine.png"),
                    lambda: run.read_bytes(f"{name}/mine.png"), lambda: run.names(f"{name}/*"),
                    lambda: run.folder(name)):
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


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), MemoryError(), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(error, tmp_path, monkeypatch):
    run = begun(tmp_path / "x", metrics_jsonl=b"old")
    before = held_bytes(run.path)

    def fails(path: Path, raw: bytes) -> None:
        path.write_bytes(raw[:1])
        raise error

    monkeypatch.setattr(run_folder, "_write_bytes", fails)
    with pytest.raises(type(error)):
        run.write("metrics.jsonl", b"new")
    assert held_bytes(run.path) == before


@pytest.mark.parametrize("text", [f"epochs: {'[' * 3000}{']' * 3000}", BOMB, "epochs: 1\n" + "#" * 300_000, "a: [", "\x00"])
def test_a_configuration_that_is_deep_endless_or_repeats_itself_is_one_line(text, tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(text)
    assert "c.yaml" in refused(capsys, "train", "--config", tmp_path / "c.yaml", "--out", tmp_path / "o")
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
    for text in ('{"a":' * 70 + "1" + "}" * 70, "1" * 20, "[", "{"):
        with pytest.raises(ValueError, match=r".+"):
            parse_json(text)


def test_weights_that_speak_of_more_than_there_is_take_no_room(tmp_path, capsys):
    path = tmp_path / "w.safetensors"
    said = {"architecture": "mlp", "outputs": "10"}
    for shape, words in (("1,100000,100000", "states images"), ("1,8000,8000", "do not fit"), ("1,8", "states no shape"),
                         ("1,-8,8", "states images"), ("999999999,1,1", "states images"),
                         ("9999,9,9", "do not fit")):
        save_file({"network.1.weight": torch.zeros(1)}, path, {**said, "shape": shape})
        with pytest.raises(ModelError, match=words):
            bc.load_model("mlp", path)
    header = json.dumps(
        {"network.1.weight": {"dtype": "F32", "shape": [5, 10**9], "data_offsets": [0, 20 * 10**9]}}
    ).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, 8 + len(header) + 20 * 10**9)
    assert "do not fit" in refused(capsys, "audit", "--weights", path, "--out", tmp_path / "o")
    path.write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    assert "not a readable safetensors" in refused(capsys, "audit", "--weights", path)


@pytest.mark.skipif(os.name != "posix", reason="needs pipes")
def test_weights_that_are_no_file_are_one_line(weights, tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "dir.pt").mkdir()
    for name in ("pipe.safetensors", "dir.pt"):
        assert "is not a regular file" in refused(capsys, "audit", "--weights", tmp_path / name)
    (tmp_path / "link.safetensors").symlink_to(weights)
    bc.load_model("mlp", tmp_path / "link.safetensors")  # a user's own link is followed


# ---- 4: equal runs give equal bytes


@pytest.fixture
def no_twin(monkeypatch) -> None:
    monkeypatch.setattr("blankcheck.api.harden.get_twins", lambda *arguments: iter(()))


def test_equal_runs_give_equal_bytes(digits, tmp_path, no_twin):
    made = []
    for name in ("one", "two"):
        run = begun(tmp_path / name)
        hardened = bc.harden("mlp", digits, epochs=2, rounds=1, run=run, fresh_attempts=10, fresh_steps=20, buffer=64)
        hardened.write_into(run)
        made.append({n: run.read_bytes(n) for n in (STATE, "model.safetensors")})
    assert made[0] == made[1]


def test_equal_audits_give_equal_bytes(digits, plain, tmp_path, monkeypatch):
    monkeypatch.setitem(PRESETS, "smoke", Preset(attempts=10, per_target=1, steps=20))
    one, two = (
        bc.audit(plain, digits, preset="smoke", twin=lambda: Twin(plain, "logits", "a twin")).packed for _ in range(2)
    )
    assert one == two and len(load_file_bytes(one, tmp_path)["images"]) > 0


def load_file_bytes(raw: bytes, folder: Path) -> dict[str, torch.Tensor]:
    (folder / "t.safetensors").write_bytes(raw)
    return load_file(folder / "t.safetensors")


def test_packed_tensors_are_the_same_bytes_and_come_back(tmp_path):
    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(True), "none": torch.zeros(0, 3),
               "half": torch.ones(3, dtype=torch.bfloat16)}
    said = {f"key{i}": f"größe {i}" for i in range(20)}
    raws = {files.pack(dict(BITS.sample(list(tensors.items()), 4)), dict(BITS.sample(list(said.items()), 20)))
            for _ in range(10)}
    (raw,) = raws
    back, metadata = files.unpack(raw)
    assert back.keys() == tensors.keys() and all(torch.equal(back[n], tensors[n]) for n in tensors)
    assert {k: v for k, v in metadata.items() if k != files.DIGEST} == said
    (tmp_path / "t").write_bytes(raw)
    assert files.read_header(tmp_path / "t")[1]["b"] == (2, 3) and load_file(tmp_path / "t")["b"].shape == (2, 3)


def test_a_run_that_goes_on_knows_how_long_its_rounds_took(digits, tmp_path, no_twin):
    """The state holds no seconds; they come back from the metrics."""
    run, options = begun(tmp_path / "h"), dict(epochs=2, rounds=2, fresh_attempts=10, fresh_steps=20, buffer=64)
    first = bc.harden("mlp", digits, run=run, **options)
    again = bc.harden("mlp", digits, run=run, resume=True, **options)
    assert [r.metrics() for r in first.rounds] == [r.metrics() for r in again.rounds]
    assert all(r["training_seconds"] == 0 for r in read_state(run)["history"])


# ---- 5: exit codes


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x/model.safetensors"), "model.safetensors: No space left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "x"), "quota"),
        (PermissionError(errno.EACCES, "Permission denied", "runs"), "runs: Permission denied"),
        (OSError("an error without a number"), "without a number"),
        (MemoryError(), "out of memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB"), "out of memory: CUDA out of memory. Tried"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 1 byte"), "out of memory"),
        (RuntimeError("unable to mmap 20 bytes from file <w>: Cannot allocate memory (12)"), "out of memory"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "reads the output has gone"),
    ],
)
def test_what_the_machine_refuses_is_one_line_and_exit_1(error, words, capsys, monkeypatch):
    def fails(settings, terminal):
        raise error

    monkeypatch.setitem(commands.COMMANDS, "train", (commands.COMMANDS["train"][0], fails))
    assert words in refused(capsys, "train", code=1)


def test_what_is_unexpected_shows_itself(monkeypatch):
    def fails(settings, terminal):
        raise RuntimeError("a bug")

    monkeypatch.setitem(commands.COMMANDS, "train", (commands.COMMANDS["train"][0], fails))
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
