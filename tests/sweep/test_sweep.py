from __future__ import annotations

import json
import os
import re
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from sweep_stub import Stub, measured, seen

from blankcheck.auditing import PRESETS, Preset
from blankcheck.cli.commands.sweep import far, sentence
from blankcheck.cli.main import main
from blankcheck.cli.settings import HardenSettings, SweepSettings
from blankcheck.errors import ArgumentError, RunFolderError
from blankcheck.runs.folder import RunFolder
from blankcheck.sweep.page import write_pages
from blankcheck.sweep.results import point_yaml, results, write_results
from blankcheck.sweep.space import read_space
from blankcheck.sweep.study import Job, open_study, settled, trial_seed, without_password
from blankcheck.sweep.trial import HardenTrial
from blankcheck.sweep.working import sweep, why_end, work

WEIGHT = {"fooling_weight": {"low": 0.05, "high": 1.0}}
SMALL = {"data": "digits", "epochs": 2, "rounds": 2, "pretrain": 0, "stop_rate": 0.0}
VARIED = {"fooling_weight": {"low": 0.1, "high": 1.0, "log": True}}


def job_of(
    folder: Path, make: Any = None, search: Any = WEIGHT, base: Any = None, **more: Any
) -> Job:
    given = {"study": "s", "trials": 12, "attempts": 20, "min_confident": 0.0, "finish_all": True}
    options, space = SweepSettings(**given | more), read_space(base, search, HardenSettings)
    storage = options.storage or f"sqlite:///{folder / 's.db'}"
    return Job(options, space, storage, folder, make or Stub(folder), beat=1, grace=2)


def trials_of(job: Job) -> list[optuna.trial.FrozenTrial]:
    return open_study(job).get_trials()


def found_by(job: Job) -> dict[str, Any]:
    return results(trials_of(job), job)


def weights_of(job: Job) -> list[float]:
    return [trial.params["fooling_weight"] for trial in trials_of(job)]


# ---- the search space


@pytest.mark.parametrize(
    ("base", "search", "said"),
    [
        ({}, None, "search must be a table"),
        ({}, {}, "search must name at least one option"),
        ([1], WEIGHT, "base must be a table of options of harden, got [1]"),
        ({"epoch": 3}, WEIGHT, "base: epoch is no option of harden"),
        ({"seed": 3}, WEIGHT, "base: seed is an option of the sweep itself"),
        ({"resume": True}, WEIGHT, "base: resume has no meaning for a trial"),
        ({"junit": "v.xml"}, WEIGHT, "base: junit has no meaning for a trial"),
        (
            {"epochs": "many"},
            WEIGHT,
            "base: epochs: Expected `int | null`, got `str`; it is 'many'",
        ),
        ({"epochs": True}, WEIGHT, "base: epochs: Expected `int | null`, got `bool`"),
        ({"objective": "best"}, WEIGHT, "base: objective: Invalid enum value 'best'"),
        ({"fooling_weight": 1}, WEIGHT, "'fooling_weight' stands in both base and search"),
        ({}, {"fooling": [1]}, "search: fooling is no option of harden"),
        ({}, {"confidence": [0.8, 0.9]}, "search: confidence may not vary"),
        ({}, {"out": ["a"]}, "search: out is an option of the sweep itself"),
        ({}, {"epochs": 3}, "search: epochs: Expected `object`, got `int`"),
        ({}, {"epochs": []}, "search: epochs: The `choices` must contain one or more elements"),
        ({}, {"epochs": [3, 4.5]}, "search: epochs: Expected `int | null`, got `float`"),
        ({}, {"epochs": {"low": 3}}, "search: epochs: Object missing required field `high`"),
        ({}, {"epochs": {"low": 3, "high": 1}}, "search: epochs: `low <= high` must hold"),
        ({}, {"epochs": {"low": 3, "high": 9.5}}, "search: epochs: Expected `int`, got `float`"),
        ({}, {"epochs": {"low": 0, "high": 9, "log": True}}, "search: epochs: `low >= 1` must"),
        ({}, {"epochs": {"low": 1, "high": 9, "step": 2}}, "contains unknown field `step`"),
        ({}, {"sureness": {"low": 0, "high": 1, "log": "yes"}}, "Expected `bool`, got `str`"),
        ({}, {"objective": {"low": 0, "high": 1}}, "search: objective is no number, so it needs a"),
        ({"weights": "w.pt"}, {"model": ["mlp", "cnn"]}, "search: model may not vary where base"),
    ],
)
def test_a_wrong_search_space_is_refused(base, search, said):
    with pytest.raises(ArgumentError, match=re.escape(said)) as error:
        read_space(base, search, HardenSettings)
    assert "\n" not in str(error.value)


def test_a_space_holds_what_was_given():
    searched = {
        "objective": ["max-entropy", "reject-class"],
        "patience": [None, 3],
        "far_weight": {"low": 1, "high": 3, "int": True},
        "rounds": {"low": 1, "high": 8, "log": True},
    }
    space = read_space({"epochs": 4, "sureness": 1}, searched, HardenSettings)
    assert space.base == HardenSettings(epochs=4, sureness=1.0)
    said = {**searched, "rounds": {"low": 1, "high": 8, "log": True, "int": True}}
    said["far_weight"] = {"low": 1, "high": 3, "log": False, "int": True}
    assert space.identity()["search"] == said
    params = {"objective": "reject-class", "patience": 3, "far_weight": 2, "rounds": 5}
    made = space.settings(params, seed=7)
    assert made == replace(space.base, **params, seed=7) and isinstance(made.far_weight, float)
    assert len(list(space.extremes())) == 16


def test_seeds_of_trials_are_their_own_and_stay():
    seeds = [trial_seed(s, n) for s in range(5) for n in range(200)]
    assert len(set(seeds)) == 1000 and all(0 <= s < 2**31 for s in seeds)
    assert trial_seed(0, 0) == seeds[0] != trial_seed(1, 0)


# ---- choosing


def chosen(points: list[tuple[float, ...]], min_confident: float = 0.0) -> dict[str, Any]:
    """What is found in trials with these accuracies, shares that fool, and confidences."""
    study = optuna.create_study(directions=["maximize", "minimize"])
    for accuracy, rate, *confident in points:
        sure = confident[0] if confident else 1.0
        kept = {"accuracy": accuracy, "confident": sure, "fooled": 1, "attempts": 9}
        attrs = {"result": kept, "rounds": []}
        study.add_trial(optuna.create_trial(values=[accuracy, rate], user_attrs=attrs))
    job = job_of(Path(), min_confident=min_confident)
    found = results(study.get_trials(), job)
    if not min_confident:
        assert set(found["front"]) == {trial.number for trial in study.best_trials}
    return found


SHARES = st.integers(0, 6).map(lambda n: n / 6)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(SHARES, SHARES), max_size=25))
def test_the_front_is_that_of_optuna_and_the_best_stands_on_it(points):
    found = chosen(points)
    line = [found["trials"][number] for number in found["front"]]
    assert [t["rate"] for t in line] == sorted(t["rate"] for t in line)
    assert [t["number"] for t in found["trials"] if t["front"]] == sorted(found["front"])
    if points:
        assert max(t["score"] for t in found["trials"]) == found["trials"][found["best"]]["score"]


def test_the_timid_are_chosen_only_where_there_is_nobody_else():
    sure, timid = (0.9, 0.5, 0.95), (0.99, 0.0, 0.5)
    assert chosen([sure, timid], 0.9)["front"] == [0]
    assert not chosen([sure, timid], 0.9)["front_is_timid"]
    alone = chosen([timid], 0.9)
    assert alone["front"] == [0] and alone["front_is_timid"]
    nothing = chosen([], 0.9)
    assert nothing["best"] is None and not nothing["front_is_timid"]


def test_among_equals_the_more_accurate_then_the_surer_then_the_earlier_is_best():
    assert chosen([(0.8, 1.0), (0.9, 1.0), (0.9, 1.0)])["best"] == 1
    assert chosen([(0.9, 0.1, 0.91), (0.9, 0.1, 0.92)])["best"] == 1


PEERS = [[seen(0.25, 0.5, 0.5, 1.0), seen(0.5, 0.9, 0.5, 0.1), seen(1.0, 0.99, 0.9, 0.0)]] * 4


@pytest.mark.parametrize(
    ("now", "peers", "said"),
    [
        (seen(0.5, 0.79, 0.5, 0.1), PEERS, "far below the median of 4 finished trials, 90.0%"),
        (seen(0.5, 0.81, 0.5, 0.1), PEERS, None),
        (seen(0.75, 0.88, 0.5, 0.4), PEERS, "4 finished trials had been clearly more accurate"),
        (seen(0.5, 0.88, 0.5, 0.29), PEERS, None),
        (seen(0.5, 0.895, 0.5, 0.9), PEERS, None),
        (seen(0.5, 0.1, 0.0, 1.0), PEERS[:3], None),
        (seen(0.4, 0.1, 0.0, 1.0), PEERS, None),
        (seen(1.0, 0.1, 0.0, 1.0), PEERS, None),
        (seen(0.5, 0.1, 0.0, 1.0), [[seen(0.9, 1, 1, 0)]] * 9, None),
    ],
)
def test_a_trial_is_ended_only_when_it_is_clearly_behind_at_the_same_share(now, peers, said):
    why = why_end(now, peers)
    assert why is None if said is None else said in why


# ---- workers


def test_a_worker_killed_in_a_trial_costs_nothing_but_time(tmp_path):
    job, killed = job_of(tmp_path, Stub(tmp_path, still="trials/0003")), []

    def look() -> None:
        if not killed and (tmp_path / "pid").is_file():
            killed.append(int((tmp_path / "pid").read_text()))
            os.kill(killed[0], signal.SIGKILL)

    sweep(job, 2, look)
    found, trials = found_by(job), trials_of(job)
    states = [record["state"] for record in found["trials"]]
    assert states.count("finished") == found["counts"]["finished"] == 12
    assert states[3] == "killed" and found["counts"]["killed"] == 1
    again = next(record for record in found["trials"] if record["retry_of"] == 3)
    lost = found["trials"][3]
    assert again["params"] == lost["params"] and again["run"] == lost["run"] == "trials/0003"
    assert again["seed"] == lost["seed"] == trial_seed(0, 3)
    ran = [line.split() for line in (tmp_path / "ran.txt").read_text().splitlines()]
    assert len(ran) == len(trials) == 13 and ran.count(["trials/0003", str(killed[0])]) == 1
    sweep(job, 2, look)  # nothing is left to do
    assert len(trials_of(job)) == 13


def test_a_trial_that_kills_every_worker_is_given_up_and_counts(tmp_path):
    job = job_of(tmp_path, Stub(tmp_path, dies=True), trials=1)
    for _ in range(3):
        with pytest.raises(RunFolderError, match="all workers ended, with exit codes 7; the same"):
            sweep(job, 2, lambda: None)
    sweep(job, 1, lambda: None)
    assert len(set(weights_of(job))) == 1 and found_by(job)["counts"]["failed"] == 1
    assert found_by(job)["trials"][-1]["reason"] == "its worker was killed in each of 3 tries"


def test_one_worker_tries_the_same_again_however_often_it_is_stopped(tmp_path):
    tried = []
    for name, stops in (("whole", (12,)), ("stopped", (3, 11, 12))):
        (tmp_path / name).mkdir()
        for trials in stops:
            job = job_of(tmp_path / name, trials=trials)
            work(job)
        tried.append(weights_of(job))
    assert tried[0] == tried[1] and len(set(tried[0])) == 12


def test_an_interrupted_trial_is_tried_again_with_its_seed(tmp_path):
    stopped = []

    def run(settings, folder, watch):
        if len(stopped) < 2 and folder == "trials/0001":
            stopped.append((settings, folder))
            raise KeyboardInterrupt
        return measured(settings.fooling_weight)

    job = job_of(tmp_path, lambda job: run, trials=3)
    for _ in stopped, stopped:
        with pytest.raises(KeyboardInterrupt):
            work(job)
    work(job)
    found = found_by(job)
    assert stopped[0] == stopped[1] and found["counts"]["finished"] == 3
    assert [t["try"] for t in found["trials"] if t["run"] == "trials/0001"] == [1, 2, 3]


def test_a_trial_whose_process_died_before_its_first_sign_is_not_waited_for(tmp_path):
    job = replace(job_of(tmp_path, trials=2), grace=1)
    with pytest.warns(UserWarning, match="Heartbeat"):
        open_study(job).ask()
    work(job)
    found = found_by(job)
    assert found["counts"]["finished"] == 2 and found["trials"][0]["state"] == "killed"


def test_how_a_trial_ends_is_told(tmp_path):
    ways: list[Any] = [1.0, 1.0, 1.0, 1.0, 0.01, RuntimeError("out of\nmemory"), "behind"]

    def run(settings, folder, watch):
        way = ways[int(folder[-4:])]
        if isinstance(way, Exception):
            raise way
        if way == "behind":
            watch(seen(0.5, 0.1, 0.0, 1.0))
            raise AssertionError("it was not ended")
        return measured(way)

    job = job_of(tmp_path, lambda job: run, finish_all=False, min_confident=0.9, trials=len(ways))
    work(job)
    found = found_by(job)
    *_, sure, broken, behind = found["trials"]
    assert broken["state"] == "failed" and broken["reason"] == "RuntimeError: out of memory"
    assert behind["state"] == "pruned" and behind["rounds"] == [seen(0.5, 0.1, 0.0, 1.0)]
    assert "far below the median of 5 finished trials, 90.0%" in behind["reason"]
    counts = {"wanted": 7, "finished": 5, "pruned": 1, "failed": 1}
    assert found["counts"] == counts | {"running": 0, "waiting": 0, "killed": 0}
    assert found["front"] == [sure["number"]], "those with 0.8 right and confident are too timid"
    assert [t.number for t in open_study(job).best_trials] == found["front"]
    assert sentence(sure) == "trial 4: finished, 99.9% right, 91 of 100 attempts fooled"
    assert sentence(broken) == "trial 5: failed, RuntimeError: out of memory"
    assert far(found) == "0 running, 1 pruned; best 99.9% right, 91% fooled"


def test_a_worker_that_was_given_up_for_lost_is_not_heard(tmp_path):
    heard = []

    def run(settings, folder, watch):
        heard.append(folder)
        if len(heard) == 1:
            open_study(job).tell(0, state=optuna.trial.TrialState.FAIL)
            watch(seen(0.5, 0.9, 0.9, 0.1))
            raise AssertionError("it went on")
        return measured(0.5)

    job = job_of(tmp_path, lambda job: run, trials=1)
    work(job)
    assert [t.state.name for t in trials_of(job)] == ["FAIL", "COMPLETE"]
    assert "reason" not in trials_of(job)[0].user_attrs


@pytest.mark.parametrize("name", ["s.db", "s.journal"])
def test_a_study_goes_on_in_a_database_or_a_journal_and_others_are_refused(tmp_path, name):
    place = str(tmp_path / name)
    job = job_of(tmp_path, storage=place if name == "s.journal" else None)
    for trials in (1, 2):
        work(replace(job, options=replace(job.options, trials=trials)))
        assert settled(trials_of(job)) == trials
    with pytest.raises(ArgumentError, match="study 's' belongs to .* seed was 0, is 1"):
        open_study(replace(job, options=replace(job.options, seed=1)))


def test_a_study_of_somebody_else_is_refused(tmp_path):
    job = job_of(tmp_path)
    optuna.create_study(storage=job.storage, study_name="s").add_trial(
        optuna.create_trial(value=1.0)
    )
    with pytest.raises(ArgumentError, match="study 's' in .* is no sweep of blankcheck"):
        open_study(job)


# ---- the command


def refused(capsys, *arguments: str | Path) -> str:
    code = main(["sweep", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert code == 2 and out == "" and err.count("\n") == 1, (code, out, err)
    assert err.startswith("blankcheck: error: "), err
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
        ("search: {epochs: [1]}\nstorage: sweep.db\n", "a file that ends in .journal or .log"),
        ("search: {epochs: [1]}\nbase: {data: nowhere}\n", "data"),
        ("search: {epochs: [1]}\nbase: {ood_level: 7}\n", "ood_level"),
        (
            "search: {epochs: [1]}\nbase: {fooling_weight: .nan}\n",
            "fooling_weight must be a number",
        ),
        ("search: {sureness: {low: 0, high: .inf}}\n", "search allows sureness inf, but sureness"),
        ("search: {epochs: [1, 0]}\n", "search allows epochs 0, but epochs, batch and lr must be"),
        (
            "search: {epochs: {low: 2, high: 9}, pretrain: [1, 5]}\n",
            "epochs 2, pretrain 5, but pretrain must lie in 0..1",
        ),
        ("search: {epochs: [1]}\nbase: {model: nowhere.py:make}\n", "nowhere.py"),
    ],
)
def test_a_bad_sweep_file_is_one_line_and_writes_nothing(text, said, tmp_path, capsys):
    (tmp_path / "s.yaml").write_text(text)
    assert said in refused(capsys, "--config", tmp_path / "s.yaml", "--out", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["s.yaml"]


def test_storages_that_cannot_be_opened_and_foreign_folders_are_one_line(tmp_path, capsys):
    file = written(tmp_path / "s.yaml", SMALL, WEIGHT)
    (tmp_path / "broken.journal").write_text("{}\n[1]\n")
    (tmp_path / "broken.db").write_text("no database" * 1000)
    for storage in (
        str(tmp_path / "broken.journal"),
        f"sqlite:///{tmp_path}/broken.db",
        "nonsense://a:secret@b/c",
        f"sqlite:///{tmp_path}/no/such/s.db",
    ):
        words = refused(capsys, "--config", file, "--storage", storage, "--out", tmp_path / "o")
        assert "cannot be opened" in words and "secret" not in words
    run = RunFolder.create(tmp_path / "theirs")
    run.begin("audit", {}, torch.device("cpu"))
    words = refused(capsys, "--config", file, "--out", run.path)
    assert "holds a run already, of audit; --overwrite" in words
    assert not (tmp_path / "o").exists()


def test_without_optuna_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert 'pip install "blankcheck[sweep]"' in refused(capsys)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:s3:cret@host/db", "postgresql://me:***@host/db"),
        (
            "postgresql://host/db?user=me&password=s3cret",
            "postgresql://host/db?user=me&password=***",
        ),
        (
            "postgresql://host/db?password=s3@cret&user=me",
            "postgresql://host/db?password=***&user=me",
        ),
        ("mysql://me@host/db?passwd=s3cret", "mysql://me@host/db?passwd=***"),
        ("mssql://me:p@ss@host/db?PWD=s3cret", "mssql://me:***@host/db?PWD=***"),
        ("postgresql://me@host:5432/db?sslmode=require", None),
        ("sqlite:///a.db", None),
    ],
)
def test_passwords_stay_out_of_files_and_messages(address, shown):
    assert without_password(address) == (shown or address)


def test_passwords_stay_out_of_what_databases_say(tmp_path):
    """No driver is there for this one; what SQLAlchemy says names the address."""
    storage = "nosuch://me@host/db?password=s3%20cret"
    with pytest.raises(ArgumentError) as refused:
        open_study(job_of(tmp_path, storage=storage))
    assert "s3%20cret" not in str(refused.value) and "s3 cret" not in str(refused.value)


@pytest.mark.parametrize(
    "torn", [b"{", b'{"op_code": 4, "worker', b"\x00" * 9, b'{"op_code": 4}', b"x" * 70_000, b""]
)
def test_a_line_that_was_never_finished_is_cut_off(torn, tmp_path):
    storage = job_of(tmp_path, storage=str(tmp_path / "s.journal"))
    open_study(storage).enqueue_trial({"x": 1})
    before = (tmp_path / "s.journal").read_bytes()
    (tmp_path / "s.journal").write_bytes(before + torn)
    again = open_study(storage)
    assert len(again.get_trials()) == 1
    again.enqueue_trial({"x": 2})
    assert (tmp_path / "s.journal").read_bytes().startswith(before + b"{")
    assert len(open_study(storage).get_trials()) == 2


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Path:
    """A sweep of one trial, gone on with to two."""
    folder = tmp_path_factory.mktemp("sweep")
    file, out = written(folder / "s.yaml", SMALL, VARIED, attempts=20), folder / "out"
    for trials in ("1", "2"):
        command = ["sweep", "--config", file, "--trials", trials, "--out", str(out), "--quiet"]
        assert main(command) == 0
        (folder / f"{trials}.json").write_bytes((out / "sweep.json").read_bytes())
    return folder


def test_a_sweep_goes_on_where_it_was(swept):
    one, two = (json.loads((swept / f"{n}.json").read_text()) for n in (1, 2))
    assert [t["number"] for t in two["trials"]] == [0, 1]
    assert two["counts"]["finished"] == 2 and two["schema"] == 1
    before, after = ({k: v for k, v in r["trials"][0].items() if k != "front"} for r in (one, two))
    assert before == after
    names = {str(p.relative_to(swept / "out")) for p in (swept / "out").rglob("*") if p.is_file()}
    pages = {"sweep.html", "sweep.md", "figures/sweep-front.svg", "best.yaml", "sweep.db"}
    assert pages | {"trials/0001/model.safetensors"} <= names
    front = {f"front/{n:04d}.yaml" for n in two["front"]}
    assert {n for n in names if n.startswith("front/")} == front
    assert not [n for n in names if "state" in n or Path(n).name.startswith(".")]


def test_a_sweep_with_other_options_is_refused_in_the_same_place(swept, tmp_path, capsys):
    other = written(tmp_path / "s.yaml", SMALL | {"epochs": 5}, VARIED, attempts=20)
    words = refused(capsys, "--config", other, "--out", swept / "out")
    assert "belongs to a sweep with other options: base.epochs was 2, is 5" in words
    assert "--overwrite begins anew" in words and "out-2 is free" in words
    storage = f"sqlite:///{swept / 'out' / 'sweep.db'}"
    words = refused(capsys, "--config", other, "--storage", storage, "--out", tmp_path / "o")
    assert "study 'sweep' belongs to a sweep with other options" in words
    assert not (tmp_path / "o").exists()


def same_network(*folders: Path) -> bool:
    one, two = (load_file(folder / "model.safetensors") for folder in folders)
    return one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


def test_the_best_configuration_is_one_of_harden_and_repeats_the_trial(
    swept, tmp_path, monkeypatch
):
    monkeypatch.setitem(PRESETS, "smoke", Preset(attempts=10, per_target=1, steps=20))
    record = json.loads((swept / "2.json").read_text())
    best, chosen = swept / "out" / "best.yaml", record["trials"][record["best"]]
    config = yaml.safe_load(best.read_text())
    assert config["seed"] == chosen["seed"] == trial_seed(0, chosen["number"])
    assert config["fooling_weight"] == chosen["params"]["fooling_weight"]
    out = tmp_path / "again"
    command = ["harden", "--config", str(best), "--out", str(out), "--preset", "smoke", "--quiet"]
    assert main(command) == 0
    assert same_network(swept / "out" / chosen["run"], out)


def test_a_trial_that_was_killed_goes_on_to_the_same_bits(swept, tmp_path):
    record = json.loads((swept / "2.json").read_text())["trials"][1]
    job = job_of(tmp_path, search=VARIED, base=SMALL)
    run, looked = HardenTrial(job), []

    def kill(seen: Any) -> None:
        if seen is not None:
            looked.append(seen)
            if len(looked) == 1:
                raise KeyboardInterrupt

    made = job.space.settings(record["params"], record["seed"])
    with suppress(KeyboardInterrupt):
        run(made, "trials/0001", kill)
    found = run(made, "trials/0001", kill)
    assert len(looked) == 2, "only the second round was left"
    same = ("accuracy", "fooled", "attempts", "rounds", "kept_round")
    assert {name: found[name] for name in same} == {name: record[name] for name in same}
    assert same_network(tmp_path / "trials" / "0001", swept / "out" / record["run"])


# ---- pages


HOSTILE = "<script>alert(1)</script>[bold]|`x`\x1b[31m"


def test_hostile_names_are_shown_and_do_nothing(tmp_path):
    search = {"model": [HOSTILE, "mlp"], "epochs": {"low": 1, "high": 9}}
    ways: list[Any] = [0.1, 0.2, RuntimeError(HOSTILE)]

    def run(settings, folder, watch):
        way = ways[int(folder[-4:])]
        if isinstance(way, Exception):
            raise way
        return measured(way) | {"audit": {"verdict": HOSTILE, "fooled": 0, "attempts": 1}}

    job = job_of(
        tmp_path, lambda job: run, study=HOSTILE, search=search, base={"data": HOSTILE}, trials=3
    )
    work(job)
    found, out = found_by(job), RunFolder.create(tmp_path / "out")
    write_results(found, job, out)
    page = write_pages(found, job, open_study(job), out).read_text()
    assert "<script" not in page and "&lt;script&gt;alert(1)" in page
    assert "default-src 'none'" in page and not re.search('(src|href)="http', page)
    text = (out / "sweep.md").read_text()
    assert "<script" not in text and "\\|\\`x\\`" in text
    rows = [line for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) == 4 and {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {10}
    model = found["trials"][0]["params"]["model"]
    assert yaml.safe_load(point_yaml(found["trials"][0], job))["model"] == model
    (out / "front" / "9999.yaml").write_text("old: true")
    write_results(found, job, out)
    assert not (out / "front" / "9999.yaml").exists()


def test_pages_of_nothing_say_so(tmp_path):
    job, out = job_of(tmp_path), RunFolder.create(tmp_path / "o")
    page = write_pages(found_by(job), job, open_study(job), out).read_text()
    assert "No trial has finished yet" in page
