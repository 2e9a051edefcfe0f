from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from sweep_stub import Stub, measured

from blankcheck.auditing import PRESETS, Preset
from blankcheck.cli.commands.sweep import Watcher, write_results
from blankcheck.cli.main import main, parser
from blankcheck.cli.settings import HardenSettings
from blankcheck.errors import ArgumentError, RunFolderError
from blankcheck.runs.folder import RunFolder
from blankcheck.sweep import trial, workers
from blankcheck.sweep.alive import Lost, gone, machine
from blankcheck.sweep.choosing import Point, Seen, best, eligible, front, why_end
from blankcheck.sweep.page import write_pages
from blankcheck.sweep.records import Found, found_of, point_yaml, sweep_json
from blankcheck.sweep.space import Choices, Range, Space, read_space, trial_seed
from blankcheck.sweep.study import Counts, count, open_study, without_password
from blankcheck.sweep.trial import HardenTrial
from blankcheck.sweep.workers import Ended, Job, Task, attempt, claim, supervise

WEIGHT = {"fooling_weight": {"low": 0.05, "high": 1.0}}
SMALL = {"data": "digits", "epochs": 4, "rounds": 2, "stop_rate": 0.0}


def job_of(folder: Path, make: object = None, **more: object) -> Job:
    space = read_space({}, WEIGHT)
    whole = {
        "trials": 12,
        "seed": 0,
        "min_confident": 0.0,
        "finish_all": True,
        "storage": str(folder / "s.journal"),
    } | more
    return Job(
        study="s",
        out=folder / "out",
        space=space,
        identity={"of": "test"},
        make=make or Stub(folder),
        **whole,
    )


def study_of(job: Job) -> optuna.Study:
    return open_study(job.storage, job.study, job.identity)


def found(job: Job) -> Found:
    return found_of(study_of(job).get_trials(), job.trials, job.min_confident)


# ---- the search space


@pytest.mark.parametrize(
    ("base", "search", "said"),
    [
        ({}, None, "search must be a table"),
        ({}, {}, "search must name at least one option"),
        ([1], WEIGHT, "base must be a table of options of harden, got [1]"),
        ({"epoch": 3}, WEIGHT, "base: harden has no option 'epoch'"),
        ({"seed": 3}, WEIGHT, "base: seed is an option of the sweep itself"),
        ({"resume": True}, WEIGHT, "base: resume has no meaning for a trial"),
        ({"epochs": "many"}, WEIGHT, "base: epochs must be a whole number or null, got 'many'"),
        ({"epochs": True}, WEIGHT, "base: epochs must be a whole number or null, got True"),
        (
            {"objective": "best"},
            WEIGHT,
            "base: objective must be one of max-entropy, fake-classes, reject-class, got 'best'",
        ),
        ({"fooling_weight": 1}, WEIGHT, "'fooling_weight' stands in both base and search"),
        (
            {"fooling_weight": float("nan")},
            {"epochs": [1]},
            "base: fooling_weight must be a number, got nan",
        ),
        ({}, {"fooling": [1]}, "search: harden has no option 'fooling'"),
        ({}, {"confidence": [0.8, 0.9]}, "search: confidence may not vary"),
        ({}, {"out": ["a"]}, "search: out is an option of the sweep itself"),
        (
            {},
            {"epochs": 3},
            "search: epochs must be a list of values or {low: ..., high: ...}, got 3",
        ),
        ({}, {"epochs": []}, "search: epochs must have at least one value"),
        ({}, {"epochs": [3, 3]}, "search: epochs has a value twice"),
        ({}, {"epochs": [3, 4.5]}, "search: epochs must be a whole number or null, got 4.5"),
        ({}, {"epochs": {"low": 3}}, "search: epochs: a range needs low and high"),
        (
            {},
            {"epochs": {"low": 3, "high": 3}},
            "search: epochs: low must be less than high, got 3 and 3",
        ),
        (
            {},
            {"epochs": {"low": 3, "high": 9.5}},
            "search: epochs: high must be a whole number, got 9.5",
        ),
        (
            {},
            {"epochs": {"low": 0, "high": 9, "log": True}},
            "search: epochs: low must be at least 1 where log is true, got 0",
        ),
        (
            {},
            {"epochs": {"low": 1, "high": 9, "int": False}},
            "search: epochs takes whole numbers only",
        ),
        (
            {},
            {"epochs": {"low": 1, "high": 9, "step": 2}},
            "a range has low, high, log, int, got 'step'",
        ),
        (
            {},
            {"sureness": {"low": 0, "high": float("inf")}},
            "search: sureness: high must be a number, got inf",
        ),
        (
            {},
            {"sureness": {"low": 0, "high": 1, "log": "yes"}},
            "search: sureness: log must be true or false, got 'yes'",
        ),
        (
            {},
            {"objective": {"low": 0, "high": 1}},
            "search: objective is no number, so it needs a list of values",
        ),
        (
            {"weights": "w.pt"},
            {"model": ["mlp", "cnn"]},
            "search: model may not vary where base names weights",
        ),
    ],
)
def test_a_wrong_search_space_is_refused(base, search, said):
    with pytest.raises(ArgumentError, match=re.escape(said)):
        read_space(base, search)


def test_a_space_holds_what_was_given():
    rounds, far = {"low": 1, "high": 8, "log": True}, {"low": 1, "high": 3, "int": True}
    searched = {
        "objective": ["max-entropy", "reject-class"],
        "patience": [None, 3],
        "far_weight": far,
        "rounds": rounds,
    }
    space = read_space({"epochs": 4, "sureness": 1}, searched)
    assert space.base == HardenSettings(epochs=4, sureness=1.0)
    assert space.search["far_weight"] == Range(1, 3, log=False, whole=True)
    assert space.search["rounds"] == Range(1, 8, log=True, whole=True)
    assert space.search["patience"] == Choices((None, 3))
    made = space.settings(
        {"objective": "reject-class", "patience": 3, "far_weight": 2, "rounds": 5}, seed=7
    )
    assert made == HardenSettings(
        epochs=4,
        sureness=1.0,
        objective="reject-class",
        patience=3,
        far_weight=2.0,
        rounds=5,
        seed=7,
    )
    assert isinstance(made.far_weight, float)
    assert len(list(space.extremes())) == 16
    with pytest.raises(ArgumentError, match="must have the parameters"):
        space.settings({"objective": "reject-class"}, seed=0)


def test_seeds_of_trials_are_their_own_and_stay():
    seeds = [trial_seed(s, n) for s in range(5) for n in range(200)]
    assert len(set(seeds)) == 1000 and all(0 <= s < 2**31 for s in seeds)
    assert trial_seed(0, 0) == seeds[0] != trial_seed(1, 0)


# ---- choosing


SHARES = st.integers(0, 6).map(lambda n: n / 6)
POINTS = st.lists(st.tuples(SHARES, SHARES), max_size=25).map(
    lambda pairs: [Point(i, a, r) for i, (a, r) in enumerate(pairs)]
)


def dominates(p: Point, q: Point) -> bool:
    return (
        p.accuracy >= q.accuracy
        and p.rate <= q.rate
        and (p.accuracy > q.accuracy or p.rate < q.rate)
    )


@given(POINTS)
def test_the_front_is_what_no_other_is_better_than(points):
    brute = {q.number for q in points if not any(dominates(p, q) for p in points)}
    line = front(points)
    assert {p.number for p in line} == brute and len(line) == len(brute)
    assert [p.rate for p in line] == sorted(p.rate for p in line)
    if points:
        assert best(points) in line and best(points).score == max(p.score for p in points)


@settings(max_examples=20, deadline=None)
@given(POINTS)
def test_the_front_is_that_of_optuna(points):
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials(
        [
            optuna.create_trial(values=[p.accuracy, p.rate], params={}, distributions={})
            for p in points
        ]
    )
    assert {t.number for t in study.best_trials} == {p.number for p in front(points)}


def test_the_timid_are_chosen_only_where_there_is_nobody_else():
    sure, timid = Point(0, 0.9, 0.5, confident=0.95), Point(1, 0.99, 0.0, confident=0.5)
    assert (
        eligible([sure, timid], 0.9) == [sure]
        and eligible([timid], 0.9) == [timid]
        and eligible([], 0.9) == []
    )


def test_among_equals_the_more_accurate_then_the_surer_then_the_earlier_is_best():
    assert best([Point(3, 0.9, 1.0), Point(5, 0.8, 1.0), Point(4, 0.9, 1.0)]).number == 3
    assert best([Point(3, 0.9, 0.1, 0.91), Point(4, 0.9, 0.1, 0.92)]).number == 4


PEERS = [[Seen(0.25, 0.5, 0.5, 1.0), Seen(0.5, 0.9, 0.5, 0.1), Seen(1.0, 0.99, 0.9, 0.0)]] * 4


@pytest.mark.parametrize(
    ("now", "peers", "said"),
    [
        (Seen(0.5, 0.79, 0.5, 0.1), PEERS, "far below the median of 4 finished trials, 90.0%"),
        (Seen(0.5, 0.81, 0.5, 0.1), PEERS, None),
        (Seen(0.75, 0.88, 0.5, 0.4), PEERS, "4 finished trials had been clearly more accurate"),
        (Seen(0.5, 0.88, 0.5, 0.29), PEERS, None),
        (Seen(0.5, 0.895, 0.5, 0.9), PEERS, None),
        (Seen(0.5, 0.1, 0.0, 1.0), PEERS[:3], None),
        (Seen(0.4, 0.1, 0.0, 1.0), PEERS, None),
        (Seen(1.0, 0.1, 0.0, 1.0), PEERS, None),
        (Seen(0.5, 0.1, 0.0, 1.0), [[Seen(0.9, 1, 1, 0)]] * 9, None),
    ],
)
def test_a_trial_is_ended_only_when_it_is_clearly_behind_at_the_same_share(now, peers, said):
    why = why_end(now, peers)
    assert why is None if said is None else said in why


# ---- workers


def test_a_worker_killed_in_a_trial_costs_nothing_but_time(tmp_path):
    job = job_of(tmp_path, Stub(tmp_path, still="0003"), storage=str(tmp_path / "s.journal"))
    study, killed = study_of(job), []

    def look(trials: object, counts: Counts) -> None:
        if not killed and (tmp_path / "pid").is_file():
            killed.append(int((tmp_path / "pid").read_text()))
            os.kill(killed[0], signal.SIGKILL)

    supervise(study, job, 2, look)
    trials = study.get_trials()
    assert count(trials, 12) == Counts(12, complete=12, pruned=0, failed=0, running=0, waiting=0)
    lost = trials[3]
    again = next(t for t in trials if t.user_attrs.get("retry_of") == 3)
    assert lost.state.name == "FAIL" and again.state.name == "COMPLETE" and len(trials) == 13
    assert again.params == lost.params and again.user_attrs["seed"] == lost.user_attrs[
        "seed"
    ] == trial_seed(0, 3)
    assert again.user_attrs["owner"]["pid"] != killed[0]
    ran = [line.split() for line in (tmp_path / "ran.txt").read_text().splitlines()]
    assert sorted(int(n) for n, _ in ran) == list(range(13)) and len({pid for _, pid in ran}) >= 2
    shown = found(job)
    assert [t["state"] for t in shown.trials].count("killed") == 1 and shown.best is not None
    # started again, nothing is left to do; with more trials it goes on
    supervise(study, job, 2, look)
    assert len(study.get_trials()) == 13


def test_one_worker_tries_the_same_again_however_often_it_is_stopped(tmp_path):
    tried = []
    for name, stops in (("whole", (14,)), ("stopped", (3, 12, 14))):
        (tmp_path / name).mkdir()
        for trials in stops:
            job = job_of(tmp_path / name, trials=trials)
            workers.work(job)
        tried.append([t.params["fooling_weight"] for t in study_of(job).get_trials()])
    assert tried[0] == tried[1] and len(set(tried[0])) == 14


def test_a_trial_is_lost_when_its_beat_stands_still_while_we_look(tmp_path):
    job, clock = job_of(tmp_path), [0.0]
    study = study_of(job)
    lost = Lost(study, grace=10, now=lambda: clock[0])
    trial_ = study.ask()
    trial_.suggest_float("fooling_weight", 0.05, 1.0)
    for beat, at, expected in ((0, 0, []), (0, 9, []), (1, 11, []), (1, 20, []), (1, 22, [0])):
        if trial_.user_attrs.get("owner", {}).get("beat") != beat:
            trial_.set_user_attr("owner", {"machine": "elsewhere", "pid": 1, "beat": beat})
        clock[0] = at
        assert lost.pick_up() == expected, at
    assert lost.pick_up() == [], "once is enough"
    waiting = [t for t in study.get_trials() if t.state.name == "WAITING"]
    assert len(waiting) == 1 and waiting[0].system_attrs["fixed_params"] == trial_.params


def test_a_trial_that_kills_every_worker_is_given_up_and_counts(tmp_path):
    job, clock = job_of(tmp_path, trials=1), [0.0]
    study = study_of(job)
    lost = Lost(study, grace=0, now=lambda: clock[0])
    for _ in range(3):
        trial_ = claim(study, job)
        assert trial_ is not None
        trial_.suggest_float("fooling_weight", 0.05, 1.0)
        lost.pick_up()
        clock[0] += 1
        assert lost.pick_up() == [trial_.number]
    assert claim(study, job) is None and count(study.get_trials(), 1).failed == 1
    assert len({t.params["fooling_weight"] for t in study.get_trials()}) == 1
    assert found(job).trials[-1]["reason"] == "its worker was killed in each of 3 tries"


def test_what_a_killed_command_left_unqueued_is_queued(tmp_path):
    study = study_of(job_of(tmp_path))
    trial_ = study.ask()
    study.tell(trial_, state=optuna.trial.TrialState.FAIL)
    assert Lost(study).pick_up() == [] and [t.state.name for t in study.get_trials()] == [
        "FAIL",
        "WAITING",
    ]
    Lost(study).pick_up()
    assert len(study.get_trials()) == 2


def test_a_process_that_is_no_more_is_noticed_only_on_its_own_machine():
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert gone({"machine": machine(), "pid": ended.pid}) and not gone(
        {"machine": machine(), "pid": os.getpid()}
    )
    assert not gone({"machine": "elsewhere", "pid": ended.pid})
    for broken in (
        None,
        {},
        "x",
        {"machine": machine(), "pid": "1"},
        {"machine": machine(), "pid": -1},
    ):
        assert not gone(broken)


def test_two_workers_that_begin_the_last_trial_at_once_leave_one(tmp_path, monkeypatch):
    job = job_of(tmp_path, trials=1)
    study = study_of(job)
    study.ask()
    monkeypatch.setattr(
        workers, "count", lambda trials, wanted: Counts(1, 0, 0, 0, 0, 0)
    )  # as seen before the other began
    assert claim(study, job) is None
    assert count(study.get_trials(), 1) == Counts(
        1, complete=0, pruned=0, failed=0, running=1, waiting=0
    )
    assert [t["number"] for t in found(job).trials] == [0]


def run_one(job: Job, run: object) -> optuna.trial.FrozenTrial:
    study = study_of(job)
    trial_ = claim(study, job)
    assert trial_ is not None
    attempt(study, trial_, run, job)
    return study.get_trials()[trial_.number]


def test_how_a_trial_ends_is_told(tmp_path):
    job = job_of(tmp_path, finish_all=False, min_confident=0.9)

    def breaks(task, watch):
        raise RuntimeError("out of\nmemory")

    def falls_behind(task, watch):
        watch(Seen(0.5, 0.1, 0.0, 1.0))
        raise AssertionError("it was not ended")

    for _ in range(4):
        run_one(job, lambda task, watch: measured(1.0))
    sure = run_one(job, lambda task, watch: measured(0.01))
    broken, behind = run_one(job, breaks), run_one(job, falls_behind)
    assert (
        broken.state.name == "FAIL" and broken.user_attrs["reason"] == "RuntimeError: out of memory"
    )
    assert (
        behind.state.name == "PRUNED"
        and "far below the median of 5 finished trials, 90.0%" in behind.user_attrs["reason"]
    )
    assert behind.user_attrs["rounds"] == [vars(Seen(0.5, 0.1, 0.0, 1.0))]
    shown = found(job)
    assert shown.counts == Counts(12, complete=5, pruned=1, failed=1, running=0, waiting=0)
    assert shown.best is not None and not shown.timid
    assert [p.number for p in shown.front] == [sure.number], (
        "those with 0.8 right and confident are too timid"
    )
    # Optuna's own front, with the constraint, is the same
    assert {t.number for t in study_of(job).best_trials} == {p.number for p in shown.front}


def test_a_worker_that_was_given_up_for_lost_is_not_heard(tmp_path):
    job = job_of(tmp_path)
    study = study_of(job)

    def stands_still(task, watch):
        study.tell(int(task.folder.name), state=optuna.trial.TrialState.FAIL)
        watch(Seen(0.5, 0.9, 0.9, 0.1))
        raise AssertionError("it went on")

    assert run_one(job, stands_still).state.name == "FAIL"
    assert "reason" not in study.get_trials()[0].user_attrs
    Lost(study).pick_up()
    assert run_one(job, lambda task, watch: measured(0.5)).user_attrs["retry_of"] == 0


def test_workers_that_get_nowhere_end_the_sweep(tmp_path, monkeypatch):
    class Dead:
        exitcode, pid = 7, -1

        def start(self) -> None: ...
        def terminate(self) -> None: ...
        def join(self) -> None: ...
        def is_alive(self) -> bool:
            return False

    context = type("Context", (), {"Process": lambda self, target, args: Dead()})
    monkeypatch.setattr(workers, "get_context", lambda kind: context())
    monkeypatch.setattr(workers, "_wait", lambda at_work: None)
    with pytest.raises(
        RunFolderError,
        match="workers of the sweep ended one after the other before a trial did, .* code 7",
    ):
        supervise(study_of(job_of(tmp_path)), job_of(tmp_path), 2, lambda trials, counts: None)


def test_a_database_goes_on_and_a_study_of_others_is_refused(tmp_path):
    job = job_of(tmp_path, storage=f"sqlite:///{tmp_path / 's.db'}", trials=2)
    first = run_one(job, lambda task, watch: measured(0.5))
    second = run_one(job, lambda task, watch: measured(0.2))
    assert (first.number, second.number) == (0, 1) and claim(study_of(job), job) is None
    assert found(job).front[0].rate == pytest.approx(measured(0.5).fooled / 100)
    with pytest.raises(
        ArgumentError,
        match='study \'s\' belongs to a sweep with other options: of was "test", is "more"',
    ):
        open_study(job.storage, "s", {"of": "more"})
    optuna.create_study(storage=job.storage, study_name="own").add_trial(
        optuna.create_trial(value=1.0)
    )
    with pytest.raises(ArgumentError, match="study 'own' in .* is no sweep of blankcheck"):
        open_study(job.storage, "own", {})


# ---- the command


def refused(capsys, *arguments: str) -> str:
    code = main(["sweep", *arguments])
    out, err = capsys.readouterr()
    assert (
        code == 2 and out == "" and err.count("\n") == 1 and err.startswith("blankcheck: error: ")
    ), (code, out, err)
    return err


def written(path: Path, base: object, search: object, **more: object) -> str:
    path.write_text(yaml.safe_dump({"base": base, "search": search, **more}))
    return str(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("search: {epochs: [1]}\ntrails: 3\n", "trails"),
        ("search: [", "config"),
        ("base: {data: digits}\n", "search must be a table"),
        ("search: {epochs: [1]}\ntrials: 0\n", "trials must be at least 1, got 0"),
        ("search: {epochs: [1]}\nworkers: 0\n", "workers must be at least 1"),
        ("search: {epochs: [1]}\nseed: -1\n", "seed must be at least 0"),
        ("search: {epochs: [1]}\nmin_confident: 2\n", "min_confident must lie in [0, 1], got 2"),
        (
            "search: {epochs: [1]}\nstorage: sweep.db\n",
            "storage must be a file that ends in .journal or .log",
        ),
        ("search: {epochs: [1]}\nbase: {data: nowhere}\n", "data"),
        ("search: {epochs: [1]}\nbase: {ood_level: 7}\n", "ood_level"),
        (
            "search: {epochs: [1, 0]}\n",
            "search allows epochs 0, but epochs, batch and lr must be positive",
        ),
        (
            "search: {epochs: {low: 2, high: 9}, pretrain: [1, 5]}\n",
            "epochs 2, pretrain 5, but pretrain must lie in 0..1",
        ),
        ("search: {epochs: [1]}\nbase: {model: nowhere.py:make}\n", "nowhere.py"),
    ],
)
def test_a_bad_sweep_file_is_one_line_and_writes_nothing(text, said, tmp_path, capsys):
    (tmp_path / "s.yaml").write_text(text)
    assert said in refused(
        capsys, "--config", str(tmp_path / "s.yaml"), "--out", str(tmp_path / "out")
    )
    assert [p.name for p in tmp_path.iterdir()] == ["s.yaml"]


def test_storages_that_cannot_be_opened_and_foreign_folders_are_one_line(tmp_path, capsys):
    file = written(tmp_path / "s.yaml", SMALL, WEIGHT)
    (tmp_path / "broken.journal").write_text("{}\n[1]\n")
    for storage in (
        str(tmp_path / "broken.journal"),
        "nonsense://a:secret@b/c",
        f"sqlite:///{tmp_path}/no/such/s.db",
    ):
        words = refused(
            capsys, "--config", file, "--storage", storage, "--out", str(tmp_path / "o")
        )
        assert "cannot be opened" in words and "secret" not in words
    run = RunFolder.create(tmp_path / "theirs")
    run.begin("audit", {}, torch.device("cpu"))
    assert "holds a run already, of audit; --overwrite" in refused(
        capsys, "--config", file, "--out", str(run.path)
    )
    assert not (tmp_path / "o").exists()


def test_without_optuna_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert 'pip install "blankcheck[sweep]"' in refused(capsys)


def test_passwords_stay_out_of_files_and_messages():
    assert without_password("postgresql://me:s3:cret@host/db") == "postgresql://me:***@host/db"
    assert without_password("sqlite:///a.db") == "sqlite:///a.db"


class InThisProcess:
    """A worker without the seconds that a new process takes to import torch."""

    exitcode, pid = 0, os.getpid()

    def __init__(self, target: object, args: tuple[Job]) -> None:
        self.start = lambda: workers.work(*args)

    Process = classmethod(lambda cls, target, args: cls(target, args))

    def is_alive(self) -> bool:
        return False

    def terminate(self) -> None: ...
    def join(self) -> None: ...


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    """A sweep of one trial, gone on with to two."""
    folder = tmp_path_factory.mktemp("sweep")
    file = written(
        folder / "s.yaml",
        SMALL,
        {"fooling_weight": {"low": 0.1, "high": 1.0, "log": True}},
        attempts=20,
    )
    patched = pytest.MonkeyPatch()
    patched.setattr(workers, "get_context", lambda kind: InThisProcess)
    patched.setattr(workers, "_wait", lambda at_work: None)
    for trials in ("1", "2"):
        assert (
            main(
                [
                    "sweep",
                    "--config",
                    file,
                    "--trials",
                    trials,
                    "--out",
                    str(folder / "out"),
                    "--quiet",
                ]
            )
            == 0
        )
        (folder / f"{trials}.json").write_bytes((folder / "out" / "sweep.json").read_bytes())
    patched.undo()
    return folder


def test_a_sweep_goes_on_where_it_was(swept):
    one, two = (json.loads((swept / f"{n}.json").read_text()) for n in (1, 2))
    assert (
        [t["number"] for t in two["trials"]] == [0, 1]
        and two["counts"]["finished"] == 2
        and two["schema"] == 1
    )
    before, after = ({k: v for k, v in r["trials"][0].items() if k != "front"} for r in (one, two))
    assert before == after
    names = {str(p.relative_to(swept / "out")) for p in (swept / "out").rglob("*") if p.is_file()}
    assert {
        "sweep.html",
        "sweep.md",
        "best.yaml",
        "sweep.journal",
        "trials/0001/model.safetensors",
    } <= names
    assert {n for n in names if n.startswith("front/")} == {
        f"front/{n:04d}.yaml" for n in two["front"]
    }
    assert not [n for n in names if "state" in n or Path(n).name.startswith(".")]


def test_a_sweep_with_other_options_is_refused_in_the_same_place(swept, tmp_path, capsys):
    other = written(
        tmp_path / "s.yaml", SMALL | {"epochs": 5}, {"fooling_weight": [0.1]}, attempts=20
    )
    words = refused(capsys, "--config", other, "--out", str(swept / "out"))
    assert "belongs to a sweep with other options: base.epochs was 4, is 5" in words
    assert "--overwrite begins anew" in words and "out-2 is free" in words
    words = refused(
        capsys,
        "--config",
        other,
        "--storage",
        str(swept / "out" / "sweep.journal"),
        "--out",
        str(tmp_path / "o"),
    )
    assert (
        "study 'sweep' belongs to a sweep with other options" in words
        and not (tmp_path / "o").exists()
    )


def test_the_best_configuration_is_one_of_harden_and_repeats_the_trial(
    swept, tmp_path, monkeypatch
):
    monkeypatch.setitem(PRESETS, "smoke", Preset(attempts=10, per_target=1, steps=20))
    record = json.loads((swept / "2.json").read_text())
    chosen = record["trials"][record["best"]]
    out = str(tmp_path / "again")
    arguments = [
        "harden",
        "--config",
        str(swept / "out" / "best.yaml"),
        "--out",
        out,
        "--preset",
        "smoke",
        "--quiet",
    ]
    taken = parser().parse_args(arguments)["harden"]
    assert taken.seed == chosen["seed"] == trial_seed(0, chosen["number"])
    assert taken.fooling_weight == chosen["params"]["fooling_weight"] and taken.epochs == 4
    assert main(arguments) == 0
    one, two = (
        load_file(Path(d) / "model.safetensors") for d in (swept / "out" / chosen["run"], out)
    )
    assert one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


def test_a_trial_that_was_killed_goes_on_to_the_same_bits(swept, tmp_path, monkeypatch):
    space = read_space(SMALL, {"fooling_weight": {"low": 0.1, "high": 1.0, "log": True}})
    record = json.loads((swept / "2.json").read_text())["trials"][1]
    run = HardenTrial(space, attempts=20, audited=False, threads=1)
    task = Task(space.settings(record["params"], record["seed"]), tmp_path / "killed", None, seed=0)
    looked = []

    def kill(seen: Seen) -> None:
        looked.append(seen)
        if len(looked) == 1:
            raise Ended("killed here")

    with monkeypatch.context() as patched:
        patched.setattr(
            trial, "_without_state", lambda run: None
        )  # a killed process tidies nothing up
        with pytest.raises(Ended):
            run(task, kill)
    made = run(replace(task, folder=tmp_path / "again", earlier=tmp_path / "killed"), kill)
    assert len(looked) == 2, "only the second round was left"
    assert (made.accuracy, made.fooled, made.attempts) == (
        record["accuracy"],
        record["fooled"],
        record["attempts"],
    )
    assert [vars(s) for s in made.rounds] == record["rounds"]
    models = [
        load_file(f / "model.safetensors")
        for f in (tmp_path / "again", swept / "out" / record["run"])
    ]
    assert all(torch.equal(models[0][n], models[1][n]) for n in models[1])


# ---- pages


HOSTILE = "<script>alert(1)</script>[bold]|`x`\x1b[31m"


def hostile_found() -> tuple[Found, Space]:
    space = Space(
        HardenSettings(data=HOSTILE),
        {"model": Choices((HOSTILE, "mlp")), "epochs": Range(1, 9, False, True)},
    )
    study = optuna.create_study(directions=["maximize", "minimize"])
    of = {
        "model": optuna.distributions.CategoricalDistribution((HOSTILE, "mlp")),
        "epochs": optuna.distributions.IntDistribution(1, 9),
    }
    result = {
        "confident": 0.95,
        "fooled": 1,
        "attempts": 10,
        "audit": {"verdict": HOSTILE, "fooled": 0, "attempts": 1},
    }
    said = {"rounds": [vars(Seen(0.5, 0.9, 0.9, 0.5))], "seed": 1}
    for number, model in enumerate((HOSTILE, "mlp")):
        study.add_trial(
            optuna.create_trial(
                values=[0.9 + number / 100, 0.1 * (number + 1)],
                distributions=of,
                params={"model": model, "epochs": 3},
                user_attrs={**said, "result": result},
            )
        )
    for state in (optuna.trial.TrialState.PRUNED, optuna.trial.TrialState.FAIL):
        study.add_trial(
            optuna.create_trial(
                state=state,
                params={"model": HOSTILE, "epochs": 3},
                distributions=of,
                user_attrs={**said, "reason": HOSTILE},
            )
        )
    return found_of(study.get_trials(), 4, 0.9), space


def test_hostile_names_are_shown_and_do_nothing(tmp_path):
    shown, space = hostile_found()
    out = RunFolder.create(tmp_path / "out")
    page = write_pages(shown, space, {"study": HOSTILE, "seed": 0}, out).read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    assert "http://" not in page and "https://" not in page and "default-src 'none'" in page
    text = (out / "sweep.md").read_text()
    assert "<script" not in text and "\\|\\`x\\`" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7, 8}
    assert yaml.safe_load(point_yaml(shown.trials[0], space))["model"] == HOSTILE
    assert json.dumps(sweep_json(shown, space, {"study": "s", "seed": 0}), allow_nan=False)


def test_pages_of_nothing_say_so(tmp_path):
    space = read_space({}, WEIGHT)
    nothing = found_of([], 5, 0.9)
    page = write_pages(
        nothing, space, {"study": "s", "seed": 0}, RunFolder.create(tmp_path / "o")
    ).read_text()
    assert "No trial has finished yet" in page and nothing.best is None


def test_news_are_of_trials_that_ended_since(tmp_path):
    job, said, bars, wrote = job_of(tmp_path), [], [], []
    watch = Watcher(job, lambda *words: bars.append(words), said.append, wrote.append)
    study = study_of(job)
    for _ in range(3):
        run_one(job, lambda task, watch: measured(0.5))
        watch(study.get_trials(), count(study.get_trials(), 12))
    assert (
        said == [f"trial {n}: finished, 95.0% right, 17 of 100 attempts fooled" for n in (1, 2)]
        and len(wrote) == 2
    )
    assert bars[-1] == ("sweep", 3, 12, "0 running, 0 pruned; best 95.0% right, 17% fooled")
    write_results(wrote[-1], job, RunFolder.create(tmp_path / "o"))
    assert len(list((tmp_path / "o" / "front").glob("*.yaml"))) == 3
    (tmp_path / "o" / "front" / "9999.yaml").write_text("old: true")
    write_results(wrote[-1], job, RunFolder(tmp_path / "o"))
    assert not (tmp_path / "o" / "front" / "9999.yaml").exists()
