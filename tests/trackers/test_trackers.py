from __future__ import annotations

import json
import shutil
import struct
import sys
import types
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from blankcheck.api.harden import harden
from blankcheck.cli.main import main
from blankcheck.errors import ArgumentError
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.state import read_state
from blankcheck.trackers import TRACKERS, check_trackers, connect, mirrored
from blankcheck.trackers.libraries import Tracker
from blankcheck.trackers.series import grid, name_of, rows

# what the libraries themselves warn of when they are imported and used
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]
ALL = ("tensorboard", "mlflow", "wandb")
SMALL: dict[str, Any] = dict(
    epochs=4, rounds=2, fresh_attempts=10, fresh_steps=30, set_images=40, buffer=60
)
HOSTILE = [
    "a/b",
    '"><script>alert(1)</script>',
    "日本語 é",
    "..",
    "x" * 3000,
    "[red]*_`|",
    "",
    "%2F?#\\",
    "\x1b[31m",
    "new\nline",
]


@pytest.fixture(autouse=True, scope="module")
def quiet_libraries(tmp_path_factory):
    """Nothing is sent anywhere, whoever runs the tests: no telemetry, no login of theirs."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("TRACKING_URI", "EXPERIMENT_NAME", "EXPERIMENT_ID"):
            patch.delenv(f"MLFLOW_{name}", raising=False)
        for name in ("API_KEY", "PROJECT", "NAME", "DIR"):
            patch.delenv(f"WANDB_{name}", raising=False)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patch.setenv("DO_NOT_TRACK", "true")
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setenv("WANDB_CONFIG_DIR", str(tmp_path_factory.mktemp("wandb")))
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """The folder of all run folders: they share one MLflow store, whose making takes seconds."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def hardened(runs, digits) -> Path:
    """A hardening that was stopped twice: in its first round, and between writing the metrics and
    the state of its last."""
    run = RunFolder.create(runs / "hardened")
    with suppress(KeyboardInterrupt), mirrored(run, connect(ALL, run), pytest.fail):
        run.begin("harden", {"data": "digits", "seed": 0, "nested": [1, 2]}, torch.device("cpu"))
        harden("mlp", digits, run=run, watch=_stop_after(0), **SMALL)
    assert len([r for r in run.read_lines("metrics.jsonl") if r["kind"] == "round"]) == 1

    run = RunFolder.open(run.path)
    write = run.write
    run.write = lambda name, content: (
        _interrupt() if name == "state/state.pt" else write(name, content)
    )
    with suppress(KeyboardInterrupt), mirrored(run, connect(ALL, run, True), pytest.fail, True):
        harden("mlp", digits, run=run, resume=True, **SMALL)
    assert len([r for r in run.read_lines("metrics.jsonl") if r["kind"] == "round"]) == 2

    run = RunFolder.open(run.path)
    with mirrored(run, connect(ALL, run, True), pytest.fail, True):
        harden("mlp", digits, run=run, resume=True, **SMALL).write_into(run)
    return run.path


@pytest.fixture(scope="module")
def audited(runs, weights) -> Path:
    out = runs / "audited"
    what = ("--weights", weights, "--preset", "smoke", "--out", out, "--tracker", ",".join(ALL))
    assert ran("audit", *what) == 10
    return out


def ran(*arguments: str | Path) -> int:
    return main([*map(str, arguments), "--quiet"])


def _interrupt() -> None:
    raise KeyboardInterrupt


def _stop_after(index: int) -> Any:
    return lambda made, batch, batches, words: (
        _interrupt() if made is not None and made.index == index else None
    )


# --- what a tracker holds, read back


class Held:
    """What was read back. numbers: every (name, step) with all values found there. images: (name,
    step) -> pixels."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, int], list[float]] = {}
        self.images: dict[tuple[str, int], list[np.ndarray]] = {}
        self.config: dict[str, Any] = {}
        self.verdict: str | None = None
        self.words: dict[str, str] = {}

    def number(self, name: str, step: int, value: float) -> None:
        self.numbers.setdefault((name, step), []).append(value)

    def image(self, name: str, step: int, pixels: Image.Image) -> None:
        self.images.setdefault((name, step), []).append(np.asarray(pixels))


def held_by(tracker: str, folder: Path) -> Held:
    return {"tensorboard": of_tensorboard, "mlflow": of_mlflow, "wandb": of_wandb}[tracker](folder)


def of_tensorboard(folder: Path) -> Held:
    import io

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sizes = dict.fromkeys(("scalars", "images", "tensors"), 0)  # 0: all of them
    read, held = EventAccumulator(str(folder / "tensorboard"), sizes).Reload(), Held()
    for tag in read.Tags()["scalars"]:
        for event in read.Scalars(tag):
            held.number(tag, event.step, event.value)
    for tag in read.Tags()["images"]:
        for event in read.Images(tag):
            held.image(tag, event.step, Image.open(io.BytesIO(event.encoded_image_string)))
    for tag in read.Tags()["tensors"]:
        (*_, event) = read.Tensors(tag)
        words = event.tensor_proto.string_val[0].decode()
        assert all(line.startswith("    ") for line in words.splitlines()), "blocks of Markdown"
        name = tag.removesuffix("/text_summary")
        if name in ("config", "environment"):
            pairs = (line[4:].partition(": ") for line in words.splitlines())
            held.config |= {k if name == "config" else f"{name}/{k}": v for k, _, v in pairs}
        else:
            held.words[name] = words.strip()
    held.verdict = held.words.pop("verdict", None)
    return held


def of_mlflow(folder: Path) -> Held:
    from mlflow import MlflowClient

    client, held = MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}"), Held()
    run = client.get_run(json.loads((folder / "trackers.json").read_text())["mlflow"]["run"])
    for name in run.data.metrics:
        for point in client.get_metric_history(run.info.run_id, name):
            held.number(name, point.step, point.value)
    images = Path(run.info.artifact_uri.removeprefix("file://")) / "images"
    for path in images.rglob("*.png"):
        held.image(str(path.parent.relative_to(images)), int(path.stem), Image.open(path))
    held.config, held.verdict = dict(run.data.params), run.data.tags.get("verdict")
    assert run.info.status == "FINISHED" and run.info.run_name == folder.name
    return held


def of_wandb(folder: Path) -> Held:
    held, step = Held(), -1
    identity = json.loads((folder / "trackers.json").read_text())["wandb"]["run"]
    # two sessions that begin within a second differ by a suffix
    for session in sorted((folder.parent / "wandb").glob(f"offline-run-*-{identity}*")):
        for record in _wandb_records(session / f"run-{identity}.wandb"):
            for item in record.run.config.update:
                held.config[item.key] = json.loads(item.value_json)
            for item in (*record.config.update, *record.summary.update):
                if item.key == "verdict" and record.WhichOneof("record_type") == "summary":
                    held.verdict = json.loads(item.value_json)
                elif record.WhichOneof("record_type") == "config":
                    held.config["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
            if record.WhichOneof("record_type") == "history":
                row: dict[str, Any] = {}
                for item in record.history.item:
                    name, *part = [item.key] if item.key else list(item.nested_key)
                    value = json.loads(item.value_json)
                    row[name] = row.get(name, {}) | {part[0]: value} if part else value
                assert row["_step"] > step, "its own step rises through all sessions"
                step = row["_step"]
                at = next(
                    row[axis] for axis in ("batch", "epoch", "round", "record") if axis in row
                )
                for name, value in row.items():
                    if "/" in name and isinstance(value, dict):
                        held.image(name, at, Image.open(session / "files" / value["path"]))
                    elif "/" in name:
                        held.number(name, at, value)
    return held


def _wandb_records(path: Path) -> list[Any]:
    """The records of a .wandb file: blocks of 32 KiB as in LevelDB's log format, after seven bytes
    of its own."""
    from wandb.proto.wandb_internal_pb2 import Record

    raw, at, parts, records = path.read_bytes(), 7, b"", []
    while at + 7 <= len(raw):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", raw[at + 4 : at + 7])
        parts += raw[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            records.append(Record.FromString(parts))
            parts = b""
    return records


def wanted(folder: Path) -> dict[tuple[str, int], float]:
    made = rows(RunFolder.open(folder).read_lines("metrics.jsonl"))
    return {(name, row.step): value for row in made for name, value in row.values.items()}


def same(tracker: str, held: Held, folder: Path, but: tuple[str, ...] = ()) -> None:
    """Every number of the file once, and no other."""
    expected = wanted(folder)
    assert held.numbers.keys() == expected.keys()
    assert max(map(len, held.numbers.values())) == 1, "no point is doubled"
    single = np.float32 if tracker == "tensorboard" else float
    for key, value in expected.items():
        assert key[0] in but or held.numbers[key] == [single(value)], key


# --- names and steps


def test_names_and_steps_of_every_kind_of_record():
    records = [
        {"kind": "epoch", "epoch": 4, "real_loss": 0.5},
        {
            "kind": "batch",
            "batch": 0,
            "real": {"loss": 1},
            "fooling": {"confident": None},
            "round": 0,
        },
        {
            "kind": "batch",
            "batch": 0,
            "real": {"loss": 2},
            "fooling": {"confident": 0.25},
            "round": 1,
        },
        {
            "kind": "training",
            "what": "fooling",
            "images": 3,
            "per_class": {"7": {"images": 2}},
            "round": 2,
        },
        {
            "kind": "search",
            "what": "own:sigma-zero (adversarial-library)",
            "lit": {"q10": 4.0},
            "round": 1,
        },
        {"kind": "set", "what": "trained", "set_round": 0, "fooled": 0.5, "round": 3},
        {"kind": "set", "what": "twin:saliency", "set_round": None, "fooled": 0.1, "round": 3},
        {"kind": "set", "what": "own:saliency", "set_round": 3, "fooled": 0.2, "round": 3},
        {"kind": "real", "split": "test", "accuracy": 0.9, "round": 5},
        {"kind": "round", "index": 6, "kept": True, "fresh_fewest": None},
        {"kind": "audit", "rate": 0.0, "median_lit": None},
        {"kind": "audit-target", "target": 3, "rate": 1.0, "violated": {"sparse": 6}},
    ]
    assert [(row.axis, row.step, row.values) for row in rows(records)] == [
        ("epoch", 4, {"epoch/real_loss": 0.5}),
        ("batch", 0, {"batch/real/loss": 1, "batch/round": 0}),
        ("batch", 1, {"batch/real/loss": 2, "batch/fooling/confident": 0.25, "batch/round": 1}),
        ("round", 2, {"training/fooling/images": 3, "training/fooling/class/7/images": 2}),
        ("round", 1, {"search/own/sigma-zero-adversarial-library/lit/q10": 4.0}),
        ("round", 3, {"set/trained/0/fooled": 0.5}),
        ("round", 3, {"set/twin/saliency/fooled": 0.1}),
        ("round", 3, {"set/own/saliency/fooled": 0.2}),
        ("round", 5, {"real/test/accuracy": 0.9}),
        ("round", 6, {"round/kept": 1.0}),
        ("record", 0, {"audit/rate": 0.0}),
        ("record", 0, {"audit/target/3/rate": 1.0, "audit/target/3/violated/sparse": 6}),
    ]


def test_no_number_is_lost_and_none_is_made_up(hardened):
    """The names are ours, so they are counted apart from the code that makes them."""

    def numbers(value: Any) -> list[float]:
        if isinstance(value, dict):
            return [n for part in value.values() for n in numbers(part)]
        return [float(value)] if isinstance(value, bool | int | float) else []

    records = RunFolder.open(hardened).read_lines("metrics.jsonl")
    assert {"batch", "training", "search", "set", "real", "round"} <= {r["kind"] for r in records}
    found = Counter(n for r in records for n in numbers(r))
    places = Counter(
        float(r[k])
        for r in records
        for k in ("round", "index", "batch", "set_round")
        if isinstance(r.get(k), int) and not (r["kind"] == "batch" and k == "round")
    )
    made = rows(records)
    assert Counter(value for row in made for value in row.values.values()) == found - places
    names = Counter((name, row.step) for row in made for name in row.values)
    assert max(names.values()) == 1
    steps: dict[str, int] = {}
    for row in made:
        assert row.step > steps.get(row.series, -1), "a series rises, whatever round it is of"
        steps[row.series] = row.step


def test_names_are_taken_by_every_tracker_and_stay_apart():
    from mlflow.utils.validation import _validate_metric_name

    names = [
        name_of(["audit", "target", text, "rate"])
        for text in (*HOSTILE, "x" * 3001, "a-b", "a b", "a_b")
    ]
    names.append(name_of(["a" * 59] * 20))
    for name in names:
        _validate_metric_name(name)
        assert len(name) <= 200 and name.isascii() and "//" not in name and ".." not in name
    assert len(set(names)) == len(names) - 1, "only a blank and a hyphen may meet"


# --- the libraries


@pytest.mark.parametrize("tracker", ALL)
def test_a_hardening_is_mirrored_once_however_often_it_stopped(tracker, hardened):
    """The last round was made twice: its times are those of the first time, all else is the same to
    the bit."""
    held = held_by(tracker, hardened)
    same(
        tracker,
        held,
        hardened,
        but=("round/training_seconds", "round/looking_seconds", "round/images_per_second"),
    )
    state = read_state(RunFolder(hardened))["evaluator"]
    assert {key for key in held.images if key[0].startswith("fooling/")} == {
        (f"fooling/{what}", index) for what in ("trained", "fresh") for index in range(2)
    }
    images, targets, counts = state["fresh"][1]
    first = images[(targets == 3)][
        counts[targets == 3].int().argsort(descending=True, stable=True)
    ][0]
    row = sorted(set(targets.tolist())).index(3)
    (grid,) = held.images["fooling/fresh", 1]
    cell = grid[2 + row * 34 : 34 + row * 34, 2:34, 0]
    assert np.array_equal(cell, (first[0] * 255).round().byte().numpy().repeat(4, 0).repeat(4, 1))


@pytest.mark.parametrize("tracker", ALL)
def test_an_audit_is_mirrored(tracker, audited):
    held = held_by(tracker, audited)
    same(tracker, held, audited)
    assert ("audit/target/3/rate", 0) in held.numbers and held.verdict == "FOOLED"
    run = RunFolder.open(audited)
    for key, value in run.read_config().items():
        assert held.config[key] == (value if tracker == "wandb" else str(value))
    torch_version = run.read_json("environment.json")["packages"]["torch"]
    told = (
        held.config["environment"]["packages"]["torch"]
        if tracker == "wandb"
        else held.config["environment/packages/torch"]
    )
    assert told == torch_version


@pytest.mark.parametrize("tracker", ALL)
def test_witnesses_stand_above_their_nearest_real_images(tracker, audited):
    from safetensors.torch import load_file

    held, stored = held_by(tracker, audited), load_file(audited / "witnesses.safetensors")
    targets = stored["targets"].tolist()
    assert {name for name, _ in held.images} == {f"witnesses/class/{t}" for t in targets}
    for target in set(targets):
        mine = [i for i, t in enumerate(targets) if t == target]
        shown = sorted(mine, key=lambda i: int(stored["lit"][i]))[:10]
        ((grid,),) = [
            images
            for (name, step), images in held.images.items()
            if name == f"witnesses/class/{target}" and step == 0
        ]
        assert grid.shape == (2 + 2 * 34, 2 + 34 * len(shown), 3)
        for column, index in enumerate(shown):
            for row, name in enumerate(("images", "nearest")):
                cell = grid[2 + 34 * row : 34 + 34 * row, 2 + 34 * column : 34 + 34 * column]
                pixels = (
                    (stored[name][index, 0] * 255).round().byte().numpy().repeat(4, 0).repeat(4, 1)
                )
                assert all(np.array_equal(cell[..., channel], pixels) for channel in range(3))


@pytest.fixture(scope="module")
def hostile(audited) -> Path:
    """An audit whose class names, settings and records try to break what shows them, mirrored when
    it goes on."""
    out = audited.parent / "hostile"
    shutil.copytree(audited, out, ignore=shutil.ignore_patterns("tensorboard", "trackers.json"))
    run = RunFolder.open(out)
    verdict = run.read_json("verdict.json")
    run.write_json("verdict.json", verdict | {"classes": HOSTILE})
    odd = [
        {"kind": "odd", "what": f"own:{name}", "round": 0, "lit": i, "per_class": {name: {"n": i}}}
        for i, name in enumerate(HOSTILE)
    ]
    run.write_lines("metrics.jsonl", [*run.read_lines("metrics.jsonl"), *odd])
    run.write(
        "config.yaml",
        yaml.safe_dump(
            {"data": "digits", "model": HOSTILE[1], "long": "é" * 9000, **dict.fromkeys(HOSTILE, 1)}
        ),
    )
    with mirrored(run, connect(ALL, run, True), pytest.fail, True):
        pass
    return out


@pytest.mark.parametrize("tracker", ALL)
def test_hostile_names_break_nothing(tracker, hostile):
    held = held_by(tracker, hostile)
    same(tracker, held, hostile)
    targets = {int(name.rpartition("/")[2]) for name, _ in held.images}
    assert targets and held.verdict == "FOOLED" and held.config["model"] == HOSTILE[1]


def test_hostile_words_are_shown_as_they_are(hostile):
    words = of_tensorboard(hostile).words
    assert any("<script>" in text for text in words.values())


def test_runs_in_one_store_stay_apart(hardened, audited, hostile):
    from mlflow import MlflowClient

    ids = {
        json.loads((f / "trackers.json").read_text())["mlflow"]["run"]
        for f in (hardened, audited, hostile)
    }
    client = MlflowClient(f"sqlite:///{audited.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("blankcheck")
    assert experiment is not None and len(ids) == 3
    assert ids == {run.info.run_id for run in client.search_runs([experiment.experiment_id])}


def test_a_run_written_again_begins_its_mirrors_again(audited, weights):
    """With --overwrite the folder is a new run, and its event files are new."""
    out = audited.parent / "again"
    for seed, more in (("0", []), ("1", ["--overwrite"])):
        what = ("--epochs", "2", "--seed", seed, "--out", out, "--tracker", "tensorboard")
        assert ran("train", *what, *more) == 0
    held = of_tensorboard(out)
    same("tensorboard", held, out)
    assert held.config["seed"] == "1"


def test_the_users_own_store_and_experiment_are_taken(audited, tmp_path, monkeypatch):
    shutil.copy(audited.parent / "mlflow.db", tmp_path / "mine.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mine.db'}")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "my own")
    monkeypatch.chdir(tmp_path)
    assert ran("train", "--epochs", "1", "--out", tmp_path / "t", "--tracker", "mlflow") == 0
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("my own")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["epoch/real_loss"] > 0 and not (tmp_path / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("logged_in", "said", "mode"),
    [
        (False, None, "offline"),
        (False, "online", "WANDB_MODE is online, and nobody is logged in"),
        (True, "online", "online"),
        (False, "disabled", "disabled"),
    ],
)
def test_wandb_is_offline_for_those_who_are_not_logged_in(
    logged_in, said, mode, tmp_path, monkeypatch
):
    import wandb

    asked = types.SimpleNamespace(settings=types.SimpleNamespace(mode=said or "online"))
    begun = types.SimpleNamespace(id="x", step=0, dir="d/files", offline=True, finish=print)
    modes = []
    monkeypatch.setattr(wandb, "login", lambda prompt: logged_in and not prompt)
    monkeypatch.setattr(wandb, "setup", lambda settings: asked)
    monkeypatch.setattr(wandb, "init", lambda mode, **more: modes.append(mode) or begun)
    monkeypatch.delenv("WANDB_MODE")
    if said is not None:
        monkeypatch.setenv("WANDB_MODE", said)
    if " " in mode:
        with pytest.raises(ArgumentError, match=mode):
            connect("wandb", RunFolder(tmp_path))
    else:
        connect("wandb", RunFolder(tmp_path))
        assert modes == [mode]


# --- live, and failing


class Fake(Tracker):
    """Keeps what it is told, by kind; `broken` raises at its second numbers."""

    def __init__(self, broken: bool = False) -> None:
        self.identity, self.where, self.broken = None, "nowhere", broken
        self.told: list[tuple[Any, ...]] = []

    def config(self, config, environment):
        self.told.append(("config", config))

    def scalars(self, axis, step, values):
        if self.broken and "scalars" in self.kinds():
            raise OSError("No space left\n on \x1b[31mdevice")
        self.told.append(("scalars", axis, step))

    def image(self, picture):
        self.told.append(("image", picture.step))

    def close(self, finished):
        self.told.append(("close", finished))

    def kinds(self) -> list[str]:
        return [kind for kind, *_ in self.told]


@pytest.fixture
def fakes(monkeypatch):
    made = {"tensorboard": Fake(), "mlflow": Fake(broken=True)}
    for name, fake in made.items():
        monkeypatch.setitem(TRACKERS, name, lambda run, identity, sent, fake=fake: fake)
    return made


def test_epochs_arrive_one_by_one_and_a_failing_tracker_does_not_end_the_run(
    fakes, tmp_path, capsys
):
    out = tmp_path / "t"
    assert ran("train", "--epochs", 4, "--out", out, "--tracker", "mlflow,tensorboard") == 0
    config, *told = fakes["tensorboard"].told
    assert config[0] == "config" and config[1]["epochs"] == 4
    epochs = [("scalars", "epoch", index) for index in range(4)]
    assert told == [*epochs, ("scalars", "record", 0), ("close", True)]
    assert fakes["mlflow"].kinds() == ["config", "scalars"]
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    assert err.startswith("tracker mlflow stopped: No space left on [31mdevice;"), err
    kinds = [record["kind"] for record in RunFolder.open(out).read_lines("metrics.jsonl")]
    assert kinds == ["epoch"] * 4 + ["train"]


def test_rounds_arrive_one_by_one(fakes, digits, tmp_path):
    run, seen = RunFolder.create(tmp_path / "h"), []
    fake = fakes["tensorboard"]
    with pytest.raises(KeyboardInterrupt), mirrored(run, connect("tensorboard", run), pytest.fail):
        run.begin("harden", {"seed": 0}, torch.device("cpu"))

        def watch(made, batch, batches, words):
            if made is not None:
                seen.append([step for kind, *_, step in fake.told if kind == "image"])
                assert ("scalars", "round", made.index) in fake.told
                if made.index == 1:
                    raise KeyboardInterrupt

        harden("mlp", digits, run=run, watch=watch, **SMALL)
    assert seen == [[0, 0], [0, 0, 1, 1]] and fake.told[-1] == ("close", False)


def one_epoch(run: RunFolder) -> None:
    run.write_lines("metrics.jsonl", [{"kind": "epoch", "epoch": 0, "real_loss": 0.5}])


def test_a_place_that_cannot_be_written_ends_the_tracker_and_nothing_else(tmp_path):
    run, notes = RunFolder.create(tmp_path / "t"), []
    with mirrored(run, connect("tensorboard", run), notes.append):
        run.listeners, following = [], run.listeners
        run.begin("train", {"seed": 0}, torch.device("cpu"))
        (run / "tensorboard").write_text("a file where the folder should be")
        run.listeners = following
        one_epoch(run)
    assert len(notes) == 1 and notes[0].startswith("tracker tensorboard stopped: ")
    assert len(run.read_lines("metrics.jsonl")) == 1


def test_a_store_that_goes_away_ends_nothing_else(audited, tmp_path):
    shutil.copy(audited.parent / "mlflow.db", tmp_path / "mlflow.db")
    run, notes = RunFolder.create(tmp_path / "t"), []
    with mirrored(run, connect("mlflow,tensorboard", run), notes.append):
        run.begin("train", {"seed": 0}, torch.device("cpu"))
        (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
        one_epoch(run)
    (note,) = notes
    assert note.startswith("tracker mlflow stopped: ") and "\n" not in note
    assert of_tensorboard(run.path).numbers == {("epoch/real_loss", 0): [0.5]}


def test_what_cannot_be_read_stops_mirrors_not_the_run(tmp_path):
    run, notes, fake = RunFolder.create(tmp_path / "t"), [], Fake()
    run.begin("train", {"seed": 0}, torch.device("cpu"))
    with mirrored(run, {"wandb": fake}, notes.append):
        run.write("metrics.jsonl", "{not json\n")
        one_epoch(run)
    assert len(notes) == 1 and "tracker wandb stopped" in notes[0]
    assert fake.told == [("close", False)]


@pytest.mark.parametrize(
    "text", ["[1]", "{", '{"mlflow": 3}', '{"mlflow": {"run": "../x"}}', '{"mlflow": {"run": 7}}']
)
def test_notes_that_are_broken_or_hostile_are_no_notes(text, tmp_path, monkeypatch):
    run, given = RunFolder.create(tmp_path / "t"), []
    run.begin("train", {"seed": 0}, torch.device("cpu"))
    run.write("trackers.json", text)

    def opened(run, identity, sent):
        given.append((identity, sent))
        return Fake()

    monkeypatch.setitem(TRACKERS, "mlflow", opened)
    with mirrored(run, connect("mlflow", run, True), pytest.fail, True):
        one_epoch(run)
    assert given == [(None, 0)]
    assert json.loads((run / "trackers.json").read_text())["mlflow"]["sent"] == 2


# --- at the door


def refused(capsys, *arguments: str) -> str:
    code = main(list(arguments))
    out, err = capsys.readouterr()
    assert (
        code == 2 and out == "" and err.count("\n") == 1 and err.startswith("blankcheck: error: ")
    ), (code, out, err)
    return err


@pytest.mark.parametrize("command", ["train", "audit", "harden", "demo"])
@pytest.mark.parametrize("tracker", ALL)
def test_a_missing_package_is_one_line_and_nothing_is_written(
    capsys, monkeypatch, tmp_path, command, tracker
):
    monkeypatch.setitem(sys.modules, tracker, None)
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, command, "--out", "runs/x", "--tracker", tracker)
    assert line == (
        f"blankcheck: error: --tracker {tracker} needs the package {tracker}: "
        f'pip install "blankcheck[{tracker}]"\n'
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["100%", "why?"])
def test_a_path_that_mlflow_would_misread_is_refused(capsys, tmp_path, name):
    line = refused(capsys, "train", "--out", str(tmp_path / name / "t"), "--tracker", "mlflow")
    assert "MLFLOW_TRACKING_URI" in line and not list(tmp_path.rglob("*.db"))


def test_an_unknown_tracker_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, "train", "--tracker", "tensorboard,neptune")
    assert "must be one or more of tensorboard, mlflow, wandb, got 'neptune'" in line and not list(
        tmp_path.iterdir()
    )


def test_trackers_are_named_with_commas_or_in_a_list(tmp_path, fakes):
    assert check_trackers(" mlflow, tensorboard,mlflow,") == check_trackers(
        ["mlflow", "tensorboard"]
    )
    assert check_trackers(None) == check_trackers("") == check_trackers([]) == ()
    (tmp_path / "c.yaml").write_text(
        f"tracker: [tensorboard]\nepochs: 1\nquiet: true\nout: {tmp_path / 't'}\n"
    )
    assert main(["train", "--config", str(tmp_path / "c.yaml")]) == 0
    assert fakes["tensorboard"].told[0][1]["tracker"] == ["tensorboard"]
    assert fakes["mlflow"].told == []


def test_a_store_that_cannot_be_reached_leaves_an_earlier_run_as_it_was(
    capsys, monkeypatch, tmp_path
):
    out = tmp_path / "t"
    assert ran("train", "--epochs", "1", "--out", out, "--tracker", "tensorboard") == 0
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    capsys.readouterr()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    line = refused(
        capsys,
        "train",
        "--out",
        str(out),
        "--overwrite",
        "--tracker",
        "tensorboard,mlflow",
        "--quiet",
    )
    assert "tracker mlflow cannot be opened" in line
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


def test_the_names_are_those_of_the_extras():
    extras = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert tuple(TRACKERS) == ALL and all(f"\n{name} = [" in extras for name in ALL)


def test_a_grid_keeps_colours_shrinks_what_is_large_and_leaves_gaps():
    red = torch.zeros(1, 3, 300, 200)
    red[:, 0] = 1
    shown = grid([torch.cat([red, red]), red * 0.5])
    assert shown.shape == (2 + 2 * 102, 2 + 2 * 69, 3)
    assert shown[5, 5].tolist() == [255, 0, 0] and shown[110, 5].tolist() == [128, 0, 0]
    assert shown[110, 80].tolist() == [128] * 3 and shown[0, 0].tolist() == [128] * 3
