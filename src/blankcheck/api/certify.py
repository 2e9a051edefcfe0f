"""`blankcheck certify`: a proof, and beside it what the search of an audit finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from blankcheck.api.audit import Audit, audit
from blankcheck.auditing import Twin, check_fits, preset_named
from blankcheck.certifying import Certificate, certify, read_network
from blankcheck.certifying.record import check_steps
from blankcheck.classifiers import ARCHITECTURES, UnitClassifier, load_model
from blankcheck.classifiers.loading import parse_normalize
from blankcheck.cli.commands.shared import claim_of
from blankcheck.cli.settings import CertifySettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data, load_data
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.judging.evidence import Proof
from blankcheck.judging.ood import check_size
from blankcheck.parallel.devices import choose_threads, resolve
from blankcheck.report.certificate_wording import lines_of
from blankcheck.runs.folder import RunFolder
from blankcheck.types import Conditions

RECORD = "certificate.json"


def certify_command(settings: CertifySettings, terminal: Terminal) -> int:
    """Prove, search, and write both into one run folder."""
    claim = claim_of(settings, "certify")
    device, data = resolve(settings.device), load_data(settings.data, settings.data_dir)
    choose_threads(data.shape)
    classifier = load(settings, data).to(device)
    form = check_all(settings, classifier, data)
    if form != (read := read_network(classifier, data.shape).form):
        raise ModelError(
            f"model gives {form} where its operations end in {read}, which cannot be certified"
        )
    with claim.opened() as run:
        run.begin("certify", settings.as_config(), device)
        certificate = prove(
            classifier, data, settings.confidence, settings.unit, settings.slope_steps, terminal
        )
        made = with_proof(
            search(classifier, data, settings, settings.max_lit, terminal), certificate
        )
        run.write_json(RECORD, certificate.as_json())
        made.write_into(run)
        say(made, run, terminal)
    return 0


def prove(
    classifier: UnitClassifier,
    data: Data,
    confidence: float,
    unit: str,
    slope_steps: int,
    terminal: Terminal,
) -> Certificate:
    """The certificate of a network, with progress on the terminal."""
    with terminal.progress() as bar:
        looked = 0

        def watch(k: int, proved: int) -> None:
            nonlocal looked
            looked += 1
            bar("prove", looked, looked + 1, f"k = {k}: {proved} of {len(data.classes)} classes")

        made = certify(
            classifier,
            data.shape,
            len(data.classes),
            confidence,
            unit,
            slope_steps=slope_steps,
            watch=watch,
        )
        bar("prove", looked, looked, f"{looked} numbers of lit features in {made.seconds:.1f} s")
    return made


def search(
    classifier: UnitClassifier,
    data: Data,
    settings: CertifySettings,
    max_lit: int | None,
    terminal: Terminal,
    twin: Callable[[], Twin] | None = None,
) -> Audit:
    """The audit beside the proof."""
    with terminal.progress() as bar:
        return audit(
            classifier,
            data,
            settings.audit_preset,
            settings.seed,
            confidence=settings.confidence,
            max_lit=max_lit,
            ood_level=settings.ood_level,
            note=bar,
            twin=twin,
        )


def with_proof(made: Audit, certificate: Certificate) -> Audit:
    """The same audit, judged with the certificate in hand.

    Raises RuntimeError when what was found cannot be there.
    """
    evidence = replace(made.evidence, proof=proof_of(certificate))
    judged = replace(made, gathered=replace(made.gathered, evidence=evidence))
    _ = judged.verdict
    return judged


def proof_of(certificate: Certificate) -> Proof:
    """What a verdict needs of a certificate."""
    record = certificate.as_json()
    return Proof(
        certificate.k,
        tuple(record["probability"]),
        certificate.confidence,
        certificate.unit,
        certificate.means,
        certificate.fingerprint,
        certificate.seconds,
    )


def say(made: Audit, run: RunFolder, terminal: Terminal) -> None:
    """The verdict and what was proved."""
    report = str(run / "report.html")
    terminal.result(str(made.verdict), lines_of(made.json), report, {**made.json, "report": report})


def load(settings: CertifySettings, data: Data) -> UnitClassifier:
    """The classifier that the settings name."""
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


def check_all(settings: CertifySettings, classifier: UnitClassifier, data: Data) -> str:
    """Whatever can be found wrong is found before anything is written.

    The form of the classifier's outputs.
    """
    Conditions(
        settings.confidence,
        settings.max_lit if settings.max_lit is not None else 1,
        settings.ood_level,
    )
    preset_named(settings.audit_preset)
    check_steps(settings.slope_steps)
    for half in data.halves:
        check_size(len(half), settings.ood_level)
    return check_fits(classifier, data)
