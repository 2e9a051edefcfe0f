"""`blankcheck gate`: a small certified network around a classifier that cannot be certified as it
is."""

from __future__ import annotations

from blankcheck.api.audit import MODEL, Audit
from blankcheck.api.certify import check_gate, put_gate_around
from blankcheck.api.twins import get_twins
from blankcheck.certifying import GatePlan
from blankcheck.classifiers import UnitClassifier, evaluate
from blankcheck.classifiers.loading import model_bytes
from blankcheck.cli.commands.certify import check_proof, proved
from blankcheck.cli.commands.shared import begin, claim_of, load, start
from blankcheck.cli.settings import GateSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data
from blankcheck.report.certificate_wording import lines_of
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.gate_file import GATE, PROGRAM, gate_bytes, program_bytes
from blankcheck.text import one_line


def gate_command(settings: GateSettings, terminal: Terminal) -> int:
    """Train, prove, search; the gated network stands in the run folder."""
    claim = claim_of(settings, "gate")
    device, data = start(settings)
    classifier = load(settings, data).to(device)
    form = check_proof(settings, classifier, data)
    confidence, unit = settings.confidence, settings.unit
    plan = GatePlan(steps=settings.gate_steps, seed=settings.seed)
    k, _ = check_gate(classifier, data, settings.k, confidence, unit, plan)
    with claim.opened() as run:
        begin(run, "gate", settings, device)
        with terminal.progress() as bar:
            gated = put_gate_around(classifier, data, form, k, confidence, unit, plan, bar)
        if classifier.describe.get("architecture"):
            run.write(MODEL, model_bytes(classifier))
        run.write(GATE, gate_bytes(gated, data.shape))
        _export(gated, data, run, terminal)
        # the twin of the classifier inside: a gate is not something that plain training opens
        twin = next(get_twins(classifier, data, device), None)
        most = settings.max_lit if settings.max_lit is not None else k
        make_twin = None if twin is None else lambda: twin
        made = proved(gated, data, settings, most, run, terminal, make_twin)
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
    confidence, classes = made.evidence.conditions.confidence, len(data.classes)
    before = evaluate(classifier, data.test, classes, confidence, form)
    after, report = made.evidence.real, str(run / "report.html")
    line = (
        f"real test images: {before.accuracy:.2%} right and {before.confident:.2%} right and "
        f"confident without the gate, {after.accuracy:.2%} and {after.confident:.2%} with it"
    )
    without = {"real_accuracy": before.accuracy, "real_confident": before.confident}
    record = {**made.json, "report": report, "gate": str(run / GATE), "without_gate": without}
    terminal.result(str(made.verdict), [*lines_of(made.json), line], report, record)


def _export(gated: UnitClassifier, data: Data, run: RunFolder, terminal: Terminal) -> None:
    """The whole as one program, where torch.export can take it."""
    try:
        program = program_bytes(gated, data)
    except Exception as error:  # torch.export raises whatever it meets in the classifier
        why = one_line(error, 160)
        terminal.note(f"{PROGRAM} is left out, torch.export cannot take the classifier: {why}")
        return
    run.write(PROGRAM, program)
