"""`blankcheck gate`: a small certified network around a classifier that cannot be certified as it
is."""

from __future__ import annotations

import math

import torch

from blankcheck.api.audit import MODEL, Audit
from blankcheck.api.certify import RECORD, check_all, load, prove, search, with_proof
from blankcheck.api.twins import get_twins
from blankcheck.certifying import Gated, GatePlan, fit_gate
from blankcheck.certifying.gate import most_open
from blankcheck.classifiers import UnitClassifier, evaluate
from blankcheck.classifiers.loading import model_bytes
from blankcheck.classifiers.wrapper import device_of, left_as_found
from blankcheck.cli.commands.shared import claim_of
from blankcheck.cli.settings import GateSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data, load_data
from blankcheck.errors import ArgumentError
from blankcheck.parallel.devices import choose_threads, resolve
from blankcheck.report.certificate_wording import lines_of
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.gate_file import GATE, PROGRAM, gate_bytes, program_bytes

MOST_STEPS = 100_000


def gate_command(settings: GateSettings, terminal: Terminal) -> int:
    """Train, prove, search; the gated network stands in the run folder."""
    claim = claim_of(settings, "gate")
    device, data = resolve(settings.device), load_data(settings.data, settings.data_dir)
    choose_threads(data.shape)
    classifier = load(settings, data).to(device)
    form = check_all(settings, classifier, data)
    k = _lit(settings, data)
    outputs = _outputs(classifier, data)
    most_open(settings.confidence, outputs)
    with claim.opened() as run:
        run.begin("gate", settings.as_config(), device)
        return _run(settings, classifier, data, form, k, outputs, run, terminal)


def _run(
    settings: GateSettings,
    classifier: UnitClassifier,
    data: Data,
    form: str,
    k: int,
    outputs: int,
    run: RunFolder,
    terminal: Terminal,
) -> int:
    gated = _gated(classifier, data, form, k, outputs, settings, terminal)
    if classifier.describe.get("architecture"):
        run.write(MODEL, model_bytes(classifier))
    run.write(GATE, gate_bytes(gated, data.shape))
    _export(gated, data, run, terminal)
    certificate = prove(
        gated, data, settings.confidence, settings.unit, settings.slope_steps, terminal
    )
    # the twin of the classifier inside: a gate is not something that plain training opens
    twin = next(get_twins(classifier, data, device_of(classifier)), None)
    most = settings.max_lit if settings.max_lit is not None else k
    found = search(gated, data, settings, most, terminal, None if twin is None else lambda: twin)
    made = with_proof(found, certificate)
    run.write_json(RECORD, certificate.as_json())
    made.write_into(run)
    _say(made, classifier, data, form, run, terminal)
    return 0


def _say(
    made: Audit,
    classifier: UnitClassifier,
    data: Data,
    form: str,
    run: RunFolder,
    terminal: Terminal,
) -> None:
    """The verdict, what was proved, and what the gate costs on real images."""
    before = evaluate(
        classifier, data.test, len(data.classes), made.evidence.conditions.confidence, form
    )
    after, report = made.evidence.real, str(run / "report.html")
    line = (
        f"real test images: {before.accuracy:.2%} right and {before.confident:.2%} right and confident without the "
        f"gate, {after.accuracy:.2%} and {after.confident:.2%} with it"
    )
    record = {
        **made.json,
        "report": report,
        "gate": str(run / GATE),
        "without_gate": {"real_accuracy": before.accuracy, "real_confident": before.confident},
    }
    terminal.result(str(made.verdict), [*lines_of(made.json), line], report, record)


def _lit(settings: GateSettings, data: Data) -> int:
    """The k that was asked for."""
    c, h, w = data.shape
    most = h * w if settings.unit == "pixels" else math.prod((c, h, w))
    if settings.k is None or not 1 <= settings.k <= most:
        raise ArgumentError(f"k must lie in 1..{most}, got {settings.k}")
    if not 1 <= settings.gate_steps <= MOST_STEPS:
        raise ArgumentError(f"gate_steps must lie in 1..{MOST_STEPS}, got {settings.gate_steps}")
    return settings.k


def _outputs(classifier: UnitClassifier, data: Data) -> int:
    with left_as_found(classifier), torch.no_grad():
        return int(
            classifier(
                data.validation.images[:1].to(next(iter(classifier.buffers())).device)
            ).shape[1]
        )


def _gated(
    classifier: UnitClassifier,
    data: Data,
    form: str,
    k: int,
    outputs: int,
    settings: GateSettings,
    terminal: Terminal,
) -> UnitClassifier:
    plan = GatePlan(steps=settings.gate_steps, seed=settings.seed)
    with terminal.progress() as bar:

        def watch(step: int, loss: float) -> None:
            bar("gate", step, plan.steps, f"loss {loss:.3f}")

        gate = fit_gate(
            data.train,
            data.shape,
            len(data.classes),
            outputs,
            k,
            settings.confidence,
            settings.unit,
            plan,
            watch,
        )
    device = next(iter(classifier.buffers())).device
    return UnitClassifier(Gated(classifier, gate.to(device), form)).eval()


def _export(gated: UnitClassifier, data: Data, run: RunFolder, terminal: Terminal) -> None:
    """The whole as one program, where torch.export can take it."""
    try:
        program = program_bytes(gated, data)
    except Exception as error:  # torch.export raises whatever it meets in the classifier
        terminal.note(
            f"{PROGRAM} is left out, torch.export cannot take the classifier: {' '.join(str(error).split())[:160]}"
        )
        return
    run.write(PROGRAM, program)
