"""`blankcheck harden`: train a network not to be fooled, then audit it."""

from __future__ import annotations

from typing import Any

from blankcheck.api.audit import MODEL
from blankcheck.api.certify import RECORD, prove, with_proof
from blankcheck.api.harden import Watch, check_network, harden, is_trained, plan_of
from blankcheck.classifiers import ARCHITECTURES, UnitClassifier
from blankcheck.classifiers.loading import refuse_normalize
from blankcheck.classifiers.precision import check_precision
from blankcheck.classifiers.trial import check_trainable, frozen_words
from blankcheck.cli.commands import shared
from blankcheck.cli.commands.audit import announce_audit, audited, conclude
from blankcheck.cli.settings import HardenSettings
from blankcheck.cli.terminal import Bar, Terminal
from blankcheck.errors import ArgumentError, RunFolderError
from blankcheck.hardening import HardeningPlan, Round
from blankcheck.parallel.team import rank_of_process
from blankcheck.runs.claims import OVERWRITE, RUNS, latest
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.state import STATE
from blankcheck.trackers import check_trackers

CHANGEABLE = ("resume", "json", "quiet", "out", "data_dir", "tracker", "devices", "nodes")
"""Settings that may differ when a run goes on: they do not change what it does. (Other numbers of
processes draw other random numbers.)"""


def harden_command(settings: HardenSettings, terminal: Terminal) -> int:
    """Harden, then audit the hardened network into the same run folder."""
    check_trackers(settings.tracker)
    place, objective = _place(settings), settings.objective
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
            how |= {"resume": settings.resume, "watch": _watch(bar)}
            hardened = harden(network, data, objective, **how)
        if work.team.leads:
            hardened.write_into(work.run)
        made = audited(hardened.model, data, settings, work)
        if work.team.leads and plan.certify is not None:
            with terminal.progress() as bar:
                certificate = prove(hardened.model, data, settings.confidence, note=bar)
            made = with_proof(made, certificate)
            work.run.write_json(RECORD, certificate.as_json())
        if work.team.leads:
            conclude(made, work)
    return 0


def _in_words(objective: str, plan: HardeningPlan) -> str:
    first = f"the first {plan.pretrain} on real images alone"
    epochs = f"{plan.epochs} epochs, {first}, the others over {plan.rounds} rounds"
    words = f"hardening: {objective}, schedule {plan.schedule}; {epochs}"
    if plan.certify is None:
        return words
    return f"{words}; to be proved: at most {plan.certify} lit features are too few for any class"


def _watch(bar: Bar) -> Watch:
    """What `harden` tells its progress, for a bar of each round."""
    rounds = 0

    def watch(made: Round | None, batch: int, batches: int, words: str) -> None:
        nonlocal rounds
        if made is None:
            # one more for the search that ends the round
            bar(f"round {rounds}", batch, batches + 1, words)
            return
        rounds = made.index + 1
        rates = f"accuracy {made.validation_accuracy:.2%}, fooled {made.fresh_rate:.0%}"
        proved = "" if made.proved is None else f", k = {made.proved} proved"
        bar(f"round {made.index}", 1, 1, f"{rates}, fewest lit {made.fresh_fewest}{proved}")

    return watch


def _place(settings: HardenSettings) -> shared.Place:
    """The folder to begin in, or the one to go on in, which was begun with these settings."""
    if settings.resume and settings.overwrite:
        raise ArgumentError("resume goes on where overwrite begins anew; give one of the two")
    if not settings.resume or rank_of_process() != 0:
        return shared.claim_of(settings, "harden", f"--resume goes on, {OVERWRITE}")
    run = RunFolder.open(settings.out if settings.out is not None else latest(RUNS / "harden"))
    # a run that was stopped in its first round has no state yet; it begins again, nothing is lost
    ended = any(run.has(name) for name in (MODEL, "hardening.json", "verdict.json"))
    begun, lacks = run.command, ended and not run.has(STATE)
    if begun != "harden" or lacks:
        what = f"a run of {begun}{f', and has no {STATE}' if begun == 'harden' else ''}"
        none = "no state of a hardening to go on from"
        raise RunFolderError(f"run folder {run.path} has {none}: it is {what}")
    # what an older blankcheck did not know was as it is by default
    before = HardenSettings().as_config() | run.read_config()
    now = settings.as_config()
    # with a state, data are compared by what they are, when it is read
    may_differ = (*CHANGEABLE, "data") if run.has(STATE) else CHANGEABLE
    kept = {name: value for name, value in now.items() if name not in may_differ}
    pairs = [(name, before.get(name), value) for name, value in kept.items()]
    different = [f"{name} was {old!r}, is {new!r}" for name, old, new in pairs if old != new]
    if different:
        said = f"--resume goes on with the settings of {run.path}"
        raise ArgumentError(f"{said}: {'; '.join(different)}")
    return run
