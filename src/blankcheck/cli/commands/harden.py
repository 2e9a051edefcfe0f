"""`blankcheck harden`: train a network not to be fooled, then audit it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from blankcheck.api.audit import MODEL
from blankcheck.api.bars import by_rounds
from blankcheck.api.certify import RECORD, certify, with_proof
from blankcheck.api.harden import check_network, harden, is_trained, plan_of
from blankcheck.classifiers import ARCHITECTURES, UnitClassifier
from blankcheck.classifiers.loading import refuse_normalize
from blankcheck.classifiers.precision import check_precision
from blankcheck.classifiers.trial import check_trainable, frozen_words
from blankcheck.cli.commands import shared
from blankcheck.cli.commands.audit import announce_audit, audited, conclude
from blankcheck.cli.settings import HardenSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.hardening import HardeningPlan
from blankcheck.trackers import check_trackers


def harden_command(settings: HardenSettings, terminal: Terminal) -> int:
    """Harden, then audit the hardened network into the same run folder."""
    check_trackers(settings.tracker)
    place, objective = shared.place_of(settings, "harden"), settings.objective
    network: UnitClassifier | str = settings.model
    frozen = ""
    if settings.weights is not None or settings.model not in ARCHITECTURES:
        device, data, network = shared.load_both(settings)
        check_trainable(network)
        frozen = frozen_words(network)
    else:
        refuse_normalize(settings.model, settings.normalize)
        device, data = shared.start(settings)
    shared.check(settings, data)
    length: dict[str, Any] = {"epochs": settings.epochs, "rounds": settings.rounds}
    known = is_trained(network, data)
    plan = plan_of(data, **length, options=settings.options(), trained=known)
    check_precision(settings.precision, device)
    check_network(network, data, objective, plan)
    with shared.working(settings, place, data, terminal) as work:
        terminal.note(f"{_in_words(objective, plan)}{frozen}")
        announce_audit(settings, data, terminal)
        how = {**length, **shared.search_of(settings), **settings.options()}
        how |= {"run": work.run, "device": work.team.device, "peers": work.team.peers}
        with terminal.progress() as bar:
            how |= {"resume": settings.resume, "watch": by_rounds(bar, plan.rounds, terminal.note)}
            hardened = harden(network, data, objective, **how)
        if work.team.leads:
            hardened.write_into(work.run)
        made = audited(hardened.model, data, settings, work)
        if work.team.leads and plan.certify is not None:
            with terminal.progress() as bar:
                certificate = certify(hardened.model, data, settings.confidence, note=bar)
            made = with_proof(made, certificate)
            work.run.write_json(RECORD, certificate.as_json())
        if work.team.leads:
            conclude(made, work, replace(settings, weights=str(work.run / MODEL)))
    return 0


def _in_words(objective: str, plan: HardeningPlan) -> str:
    first = f"the first {plan.pretrain} on real images alone"
    epochs = f"{plan.epochs} epochs, {first}, the others over {plan.rounds} rounds"
    words = f"hardening: {objective}, schedule {plan.schedule}; {epochs}"
    if plan.certify is None:
        return words
    return f"{words}; to be proved: at most {plan.certify} lit features are too few for any class"
