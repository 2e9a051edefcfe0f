"""What each command does, from settings to a run folder, a result on the terminal and an exit code."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from blankcheck.api.audit import MODEL, Audit, audit
from blankcheck.api.certify import RECORD, certify_command, prove, with_proof
from blankcheck.api.harden import STATE, Hardened, check_network, harden, plan_of
from blankcheck.api.third_party import usable_rivals
from blankcheck.auditing import check_fits
from blankcheck.certifying import SLOPE_STEPS
from blankcheck.classifiers import (
    ARCHITECTURES,
    TrainingPlan,
    UnitClassifier,
    evaluate,
    load_model,
    train_plainly,
)
from blankcheck.classifiers.loading import model_bytes, parse_normalize
from blankcheck.classifiers.precision import check_precision
from blankcheck.cli.announce import announce, meeting
from blankcheck.cli.commands.blend import blend_command
from blankcheck.cli.commands.compare import compare_command
from blankcheck.cli.commands.doctor import doctor_command
from blankcheck.cli.commands.gate import gate_command
from blankcheck.cli.commands.sweep import sweep_command
from blankcheck.cli.commands.verify import verify_command
from blankcheck.cli.settings import (
    AuditSettings,
    BlendSettings,
    CertifySettings,
    Common,
    CompareSettings,
    DemoSettings,
    DoctorSettings,
    GateSettings,
    HardenSettings,
    ReportSettings,
    SweepSettings,
    TrainSettings,
    VerifySettings,
    Weighted,
)
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data, load_data
from blankcheck.errors import ArgumentError, RunFolderError
from blankcheck.hardening import Round
from blankcheck.judging import Verdict
from blankcheck.judging.check_rules import FAILED
from blankcheck.judging.checks import FALSE_ALARMS
from blankcheck.judging.ood import check_size
from blankcheck.parallel.devices import choose_threads, resolve
from blankcheck.parallel.team import Team, rank_of_process
from blankcheck.report.certificate_wording import lines_of
from blankcheck.report.page import write_report
from blankcheck.report.wording import against
from blankcheck.runs.claims import OVERWRITE, RUNS, Claim, claim_of, going_on, held, latest
from blankcheck.runs.folder import INNER, RunFolder
from blankcheck.trackers import check_trackers, connect, mirrored
from blankcheck.types import Conditions

PLAUSIBLE = 0.8
"""Accuracy below which an audit asks whether the network sees its input as it was trained."""
EXIT = {"RESISTED": 0, "CERTIFIED": 0, "FOOLED": 10, "INCONCLUSIVE": 11}


def train_command(settings: TrainSettings, terminal: Terminal) -> int:
    """Train plainly; writes `model.safetensors`, metrics and a report."""
    check_trackers(settings.tracker)
    claim = claim_of(settings, "train")
    device, data = _start(settings)
    classifier = load_model(settings.model, data=data).to(device)
    if classifier.describe.get("exported"):
        raise ArgumentError("model is a .pt2 program, which can be audited but not trained")
    plan = _plan(settings, data)
    check_precision(plan.precision, device)
    with meeting(settings, terminal) as team, _opened(settings, claim, team, terminal) as run:
        announce(settings, data, team, terminal)
        seconds, records = _train(
            classifier.to(team.device), data, plan, settings.seed, run, team, terminal
        )
        if team.leads:
            _say_trained(classifier, data, seconds, records, run, terminal)
    return 0


def _say_trained(
    classifier: UnitClassifier,
    data: Data,
    seconds: float,
    records: list[dict[str, Any]],
    run: RunFolder,
    terminal: Terminal,
) -> None:
    run.write(MODEL, model_bytes(classifier))
    real = evaluate(classifier, data.test, len(data.classes), 0.9)
    record = {"real_accuracy": real.accuracy, "real_confident": real.confident, "seconds": seconds}
    run.write_lines("metrics.jsonl", [*records, {"kind": "train", **record}])
    report = write_report(run)
    lines = [
        f"{real.accuracy:.2%} of test images right, {real.confident:.2%} with confidence >= 0.9, {seconds:.0f} s",
        f"weights: {run / MODEL}",
    ]
    terminal.result(
        "TRAINED",
        lines,
        str(report),
        {**record, "weights": str(run / MODEL), "report": str(report)},
    )


def _plan(settings: TrainSettings, data: Data) -> TrainingPlan:
    default = TrainingPlan.default(len(data.train), settings.epochs)
    return TrainingPlan(
        default.epochs,
        settings.batch,
        settings.lr,
        precision=settings.precision,
        augment=settings.augment,
    )


def _train(
    classifier: UnitClassifier,
    data: Data,
    plan: TrainingPlan,
    seed: int,
    run: RunFolder,
    team: Team,
    terminal: Terminal,
) -> tuple[float, list[dict[str, Any]]]:
    records: list[dict[str, Any]] = []
    began = time.monotonic()
    with terminal.progress() as bar:
        bar("train", 0, plan.epochs, "")

        def watch(epoch: int, loss: float) -> None:
            records.append({"kind": "epoch", "epoch": epoch, "real_loss": loss})
            if team.leads:
                run.write_lines("metrics.jsonl", records)
            bar("train", epoch + 1, plan.epochs, f"loss {loss:.4f}")

        train_plainly(classifier, data.train, plan, seed, watch, peers=team.peers)
    return time.monotonic() - began, records


def audit_command(settings: AuditSettings, terminal: Terminal) -> int:
    """Audit; the exit code says the verdict."""
    check_trackers(settings.tracker)
    claim = claim_of(settings, "audit")
    device, data = _start(settings)
    classifier = _load(settings, data).to(device)
    _check(settings, data)
    check_fits(classifier, data)
    with meeting(settings, terminal) as team, _opened(settings, claim, team, terminal) as run:
        announce(settings, data, team, terminal)
        made = _audit(classifier.to(team.device), data, settings, team, terminal)
        if team.leads:
            made.write_into(run)
            _say(made, run, terminal)
    return team.code(EXIT[str(made.verdict)])


def _audit(
    classifier: UnitClassifier, data: Data, settings: AuditSettings, team: Team, terminal: Terminal
) -> Audit:
    with terminal.progress() as bar:
        return audit(
            classifier,
            data,
            settings.preset,
            settings.seed,
            confidence=settings.confidence,
            max_lit=settings.max_lit,
            ood_level=settings.ood_level,
            note=bar,
            rivals=settings.rivals,
            spread=team.peers.spread,
        )


def _say(made: Audit, run: RunFolder, terminal: Terminal) -> None:
    report = str(run / "report.html")
    proof = [] if made.json["certificate"] is None else lines_of(made.json)[:3]
    terminal.result(
        str(made.verdict), [*summary(made.json), *proof], report, {**made.json, "report": report}
    )


def summary(verdict: dict[str, Any]) -> list[str]:
    """The lines of a result block."""
    want, cost = verdict["conditions"], verdict["cost"]
    lit = (
        ""
        if verdict["median_lit"] is None
        else f", median {verdict['median_lit']} lit (fewest {verdict['min_lit']})"
    )
    lines = [
        f"{verdict['fooled']} of {verdict['attempts']} attempts fooled (95 % bound {verdict['rate_upper_95']:.1%}){lit}",
        f"conditions: confidence >= {want['confidence']:g}, at most {want['max_lit']} lit features, "
        f"out of distribution at {want['ood_level']:g}",
        f"sparse and confident, out of distribution or not: {verdict['sparse_confident']['fooled']}; "
        f"fooled where other scores say what is out of distribution: {verdict['second_opinion']['fooled']}",
        f"real test images: {verdict['real_accuracy']:.2%} right, {verdict['real_confident']:.2%} right and confident",
        f"cost: {cost['backward']} backward and {cost['forward']} forward passes, {cost['seconds']:.1f} s "
        f"(and {cost['twin_seconds']:.1f} s to train the twin)",
    ]
    if verdict["extra"]["fooled"]:
        lines.append(f"found by the controls, outside the rate: {verdict['extra']['fooled']}")
    if verdict["real_accuracy"] < PLAUSIBLE:
        lines.append(
            "is the network known to be right so rarely? If not, run blankcheck doctor: its input may not be what "
            "it was trained on"
        )
    # a witness is a witness, whatever the checks say; where none was found they decide
    if verdict["verdict"] == Verdict.FOOLED:
        failed = [c for c in verdict["checks"] if c["status"] == FAILED]
        lines += [
            f"{c['code']} failed: {c['finding']}" for c in failed if c["code"] == FALSE_ALARMS
        ]
        others = sum(c["code"] != FALSE_ALARMS for c in failed)
        return lines + (
            [f"{others} checks of the search failed, which matters only where nothing is found"]
            if others
            else []
        )
    return lines + [f"{c['code']} {c['status']}: {c['finding']}" for c in against(verdict)]


def harden_command(settings: HardenSettings, terminal: Terminal) -> int:
    """Harden, then audit the hardened network into the same run folder."""
    check_trackers(settings.tracker)
    place = _hardens(settings)
    device, data = _start(settings)
    _check(settings, data)
    network: UnitClassifier | str = settings.model
    if settings.weights is not None or settings.model not in ARCHITECTURES:
        network = _load(settings, data).to(device)
        if network.describe.get("exported"):
            raise ArgumentError("model is a .pt2 program, which can be audited but not hardened")
    plan = plan_of(data, settings.epochs, settings.rounds, settings.options())
    check_precision(settings.precision, device)
    check_network(network, data, settings.objective, plan)
    with meeting(settings, terminal) as team, _opened(settings, place, team, terminal) as run:
        announce(settings, data, team, terminal, plan)
        hardened = _harden(network, data, settings, run, team, terminal)
        if team.leads:
            hardened.write_into(run)
        made = _audit(hardened.model, data, settings, team, terminal)
        if team.leads and plan.certify is not None:
            certificate = prove(
                hardened.model, data, settings.confidence, "features", SLOPE_STEPS, terminal
            )
            made = with_proof(made, certificate)
            run.write_json(RECORD, certificate.as_json())
        if team.leads:
            made.write_into(run)
            _say(made, run, terminal)
    return 0


def _harden(
    network: UnitClassifier | str,
    data: Data,
    settings: HardenSettings,
    run: RunFolder,
    team: Team,
    terminal: Terminal,
) -> Hardened:
    with terminal.progress() as bar:
        rounds = 0

        def watch(made: Round | None, batch: int, batches: int, words: str) -> None:
            nonlocal rounds
            if made is None:
                bar(
                    f"round {rounds}", batch, batches + 1, words
                )  # one more for the search that ends the round
                return
            rounds = made.index + 1
            proved = "" if made.proved is None else f", k = {made.proved} proved"
            bar(
                f"round {made.index}",
                1,
                1,
                f"accuracy {made.validation_accuracy:.2%}, fooled {made.fresh_rate:.0%}, "
                f"fewest lit {made.fresh_fewest}{proved}",
            )

        return harden(
            network,
            data,
            settings.objective,
            settings.seed,
            epochs=settings.epochs,
            rounds=settings.rounds,
            confidence=settings.confidence,
            max_lit=settings.max_lit,
            ood_level=settings.ood_level,
            rivals=settings.rivals,
            run=run,
            resume=settings.resume,
            watch=watch,
            device=team.device,
            peers=team.peers,
            **settings.options(),
        )


CHANGEABLE = frozenset(
    {"resume", "json", "quiet", "out", "data_dir", "tracker", "devices", "nodes"}
)
"""Settings that may differ when a run goes on: they do not change what it does. (Other numbers of
processes draw other random numbers.)"""


def _hardens(settings: HardenSettings) -> Claim | RunFolder:
    """The folder to begin in, or the run folder to go on in."""
    if settings.resume and settings.overwrite:
        raise ArgumentError("resume goes on where overwrite begins anew; give one of the two")
    if settings.resume and rank_of_process() == 0:
        return _resumed(settings)
    return claim_of(settings, "harden", f"--resume goes on, {OVERWRITE}")


def _resumed(settings: HardenSettings) -> RunFolder:
    """The run folder to go on in; refuses settings that differ from those it was begun with."""
    run = RunFolder.open(settings.out if settings.out is not None else latest(RUNS / "harden"))
    begun, ended = (
        run.command,
        [name for name in (MODEL, "hardening.json", "verdict.json") if run.has(name)],
    )
    # a run that was stopped in its first round has no state yet; it begins again, and nothing is
    # lost
    if begun != "harden" or (ended and not run.has(STATE)):
        raise RunFolderError(
            f"run folder {run.path} has no state of a hardening to go on from: it is a run of {begun}"
            + (f", and has no {STATE}" if begun == "harden" else "")
        )
    before = run.read_config()
    different = [
        f"{name} was {before.get(name)!r}, is {value!r}"
        for name, value in settings.as_config().items()
        if name not in CHANGEABLE and before.get(name) != value
    ]
    if different:
        raise ArgumentError(
            f"--resume goes on with the settings of {run.path}: {'; '.join(different)}"
        )
    return run


def report_command(settings: ReportSettings, terminal: Terminal) -> int:
    """Draw `report.html` and `report.md` again from the run folder alone."""
    run = RunFolder.open(settings.run)
    before = RunFolder.open(settings.before) if settings.before is not None else None
    with held(run):
        report = write_report(run, before)
    terminal.result("REPORT", [""], str(report), {"report": str(report)})
    return 0


def demo_command(settings: DemoSettings, terminal: Terminal) -> int:
    """Train, audit, harden and audit again; one report of both."""
    check_trackers(settings.tracker)
    with claim_of(settings, "demo").opened() as run:
        run.begin("demo", settings.as_config(), resolve(settings.device))
        for name in INNER["demo"]:
            run.below(name)
        return _demo(settings, run.path, terminal)


def _demo(settings: DemoSettings, out: Path, terminal: Terminal) -> int:
    # what was in the folders inside is gone with the earlier demo
    shared = {f.name: getattr(settings, f.name) for f in fields(settings)} | {"overwrite": True}
    del shared["out"]
    quiet = Terminal(terminal.quiet, as_json=False)
    if terminal.as_json:
        quiet.out = terminal.err
    quiet.note("1/3 train a network plainly")
    train_command(TrainSettings(**shared, out=str(out / "plain")), quiet)
    quiet.note("2/3 audit it")
    weights = str(out / "plain" / MODEL)
    audit_command(AuditSettings(**shared, out=str(out / "audit"), weights=weights), quiet)
    quiet.note("3/3 harden a network of the same kind, and audit it")
    harden_command(HardenSettings(**shared, out=str(out / "hardened")), quiet)
    before, after = RunFolder.open(out / "audit"), RunFolder.open(out / "hardened")
    with held(after):
        report = write_report(after, before)
    first, second = before.read_json("verdict.json"), after.read_json("verdict.json")
    lines = [
        f"plain: {first['verdict']}, {first['rate']:.1%} of attempts; "
        f"hardened: {second['verdict']}, {second['rate']:.1%} of attempts"
    ]
    terminal.result(
        "DONE", lines, str(report), {"plain": first, "hardened": second, "report": str(report)}
    )
    return 0


def _start(settings: Common) -> tuple[torch.device, Data]:
    device, data = resolve(settings.device), load_data(settings.data, settings.data_dir)
    choose_threads(data.shape)
    return device, data


def _check(settings: AuditSettings, data: Data) -> None:
    """Whatever can be found wrong is found before anything is written: an earlier run in the folder
    stays as it was."""
    Conditions(
        settings.confidence,
        settings.max_lit if settings.max_lit is not None else 1,
        settings.ood_level,
    )
    for half in data.halves:
        check_size(len(half), settings.ood_level)
    usable_rivals(settings.rivals)


def _load(settings: Weighted, data: Data) -> UnitClassifier:
    if settings.model in ARCHITECTURES and settings.weights is None:
        raise ArgumentError(
            f"model {settings.model!r} is untrained; give its --weights (blankcheck train makes them)"
        )
    return load_model(
        settings.model,
        settings.weights,
        data,
        parse_normalize(settings.normalize),
        unsafe_pickle=settings.unsafe_pickle,
    )


@contextmanager
def _opened(
    settings: TrainSettings | AuditSettings,
    place: Claim | RunFolder,
    team: Team,
    terminal: Terminal,
) -> Iterator[RunFolder]:
    """The run folder that was claimed, or the one that goes on; inside the block, trackers follow
    it. Processes that do not lead write into a folder that is thrown away."""
    if not team.leads:
        with tempfile.TemporaryDirectory() as away:
            yield RunFolder(Path(away))
        return
    goes_on = isinstance(place, RunFolder)
    with going_on(place) if isinstance(place, RunFolder) else place.opened() as run:
        trackers = connect(settings.tracker, run, resume=goes_on)
        for name, tracker in trackers.items():
            terminal.note(f"{name}: {tracker.where}")
        with mirrored(
            run, trackers, lambda line: terminal.err.print(line, markup=False), resume=goes_on
        ):
            if isinstance(place, Claim):
                run.begin(place.command, settings.as_config(), team.device)
            yield run


COMMANDS: dict[str, tuple[type, Callable[[Any, Terminal], int]]] = {
    "demo": (DemoSettings, demo_command),
    "doctor": (DoctorSettings, doctor_command),
    "train": (TrainSettings, train_command),
    "audit": (AuditSettings, audit_command),
    "harden": (HardenSettings, harden_command),
    "report": (ReportSettings, report_command),
    "verify": (VerifySettings, verify_command),
    "compare": (CompareSettings, compare_command),
    "blend": (BlendSettings, blend_command),
    "certify": (CertifySettings, certify_command),
    "gate": (GateSettings, gate_command),
    "sweep": (SweepSettings, sweep_command),
}
