"""`blankcheck certify`: a proof, and beside it what the search of an audit finds."""

from __future__ import annotations

from collections.abc import Callable

from blankcheck.api.audit import Audit, audit
from blankcheck.api.certify import RECORD, certify, with_proof
from blankcheck.auditing import Twin, check_fits, preset_named
from blankcheck.certifying import read_network
from blankcheck.certifying.certificate import check_form
from blankcheck.certifying.record import check_steps
from blankcheck.classifiers import UnitClassifier
from blankcheck.cli.commands.audit import found_by, on_checks
from blankcheck.cli.commands.shared import (
    begin,
    check,
    claim_of,
    load_both,
    say,
    search_of,
    tell,
    warn_untrained,
)
from blankcheck.cli.settings import CertifySettings
from blankcheck.cli.terminal import Bar, Terminal
from blankcheck.data import Data
from blankcheck.judging import Verdict
from blankcheck.report.certificate_wording import lines_of
from blankcheck.runs.folder import RunFolder


def certify_command(settings: CertifySettings, terminal: Terminal) -> int:
    """Prove, search, and write both into one run folder."""
    claim = claim_of(settings, "certify")
    device, data, classifier = load_both(settings)
    form = check_proof(settings, classifier, data)
    check_form(form, read_network(classifier, data.shape).form)
    with claim.opened() as run:
        begin(run, "certify", settings, device)
        tell(data, terminal)
        warn_untrained(settings, classifier, data, form, terminal)
        with terminal.progress() as bar:
            made = proved(classifier, data, settings, run, bar)
        say(made, lines_of_both(made), run, terminal)
    return 0


def lines_of_both(made: Audit) -> list[str]:
    """What bears the verdict first: the proof of CERTIFIED, the search of any other."""
    lines, searched = lines_of(made.json), f"search beside the proof: {found_by(made.json)}"
    lines.insert(made.verdict == Verdict.CERTIFIED, searched)
    return lines + (on_checks(made.json) if made.verdict == Verdict.INCONCLUSIVE else [])


def check_proof(settings: CertifySettings, classifier: UnitClassifier, data: Data) -> str:
    """The form of the classifier's outputs; raises for all that can be found wrong before anything
    is written."""
    check(settings, data)
    preset_named(settings.audit_preset)
    check_steps(settings.slope_steps)
    return check_fits(classifier, data)


def proved(
    classifier: UnitClassifier,
    data: Data,
    settings: CertifySettings,
    run: RunFolder,
    bar: Bar,
    twin: Callable[[], Twin] | None = None,
) -> Audit:
    """Prove, search beside it, and write what came of both."""
    unit, steps = settings.unit, settings.slope_steps
    given = classifier, data, settings.confidence
    certificate = certify(*given, unit=unit, slope_steps=steps, note=bar)
    search = search_of(settings)
    found = audit(classifier, data, settings.audit_preset, note=bar, twin=twin, **search)
    made = with_proof(found, certificate)
    run.write_json(RECORD, certificate.as_json())
    made.write_into(run)
    return made
