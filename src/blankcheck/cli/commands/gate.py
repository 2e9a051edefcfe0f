"""`blankcheck gate`: a small certified network around a classifier that cannot be certified as it
is."""

from __future__ import annotations

from dataclasses import replace

from blankcheck.api.audit import MODEL
from blankcheck.api.certify import gate_for
from blankcheck.api.twins import get_twins
from blankcheck.certifying import GatePlan
from blankcheck.classifiers import UnitClassifier, evaluate
from blankcheck.classifiers.loading import model_bytes
from blankcheck.cli.commands.certify import check_proof, lines_of_both, proved
from blankcheck.cli.commands.shared import begin, claim_of, load_both, say, tell, warn_untrained
from blankcheck.cli.settings import GateSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.gate_file import GATE, PROGRAM, gate_bytes, program_bytes
from blankcheck.text import one_line


def gate_command(settings: GateSettings, terminal: Terminal) -> int:
    """Train, prove, search; the gated network stands in the run folder."""
    claim = claim_of(settings, "gate")
    device, data, classifier = load_both(settings)
    form, confidence = check_proof(settings, classifier, data), settings.confidence
    plan = GatePlan(steps=settings.gate_steps, seed=settings.seed)
    train = gate_for(classifier, data, form, settings.k, confidence, settings.unit, plan)
    with claim.opened() as run:
        begin(run, "gate", settings, device)
        tell(data, terminal)
        warn_untrained(settings, classifier, data, form, terminal)
        with terminal.progress() as bar:
            gated = train(bar)
        if classifier.describe.get("architecture"):
            run.write(MODEL, model_bytes(classifier))
        run.write(GATE, gate_bytes(gated, data.shape))
        _export(gated, data, run, terminal)
        # the twin of the classifier inside: a gate is not something that plain training opens
        with terminal.progress() as bar:
            twin = next(get_twins(classifier, data, device, bar), None)
        make_twin = None if twin is None else lambda: twin
        limited = replace(settings, max_lit=settings.k) if settings.max_lit is None else settings
        with terminal.progress() as bar:
            made = proved(gated, data, limited, run, bar, make_twin)
        before = evaluate(classifier, data.test, len(data.classes), confidence, form)
        after = made.evidence.real
        then = f"{before.accuracy:.2%} right and {before.confident:.2%} right and confident"
        now = f"{after.accuracy:.2%} and {after.confident:.2%} with it"
        line = f"real test images: {then} without the gate, {now}"
        without = {"real_accuracy": before.accuracy, "real_confident": before.confident}
        said = [*lines_of_both(made), line]
        say(made, said, run, terminal, gate=str(run / GATE), without_gate=without)
    return 0


def _export(gated: UnitClassifier, data: Data, run: RunFolder, terminal: Terminal) -> None:
    """The whole as one program, where torch.export can take it."""
    try:
        program = program_bytes(gated, data)
    except Exception as error:  # torch.export raises whatever it meets in the classifier
        why = one_line(error, 160)
        terminal.note(f"{PROGRAM} is left out, torch.export cannot take the classifier: {why}")
        return
    run.write(PROGRAM, program)
