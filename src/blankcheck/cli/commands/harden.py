"""`blankcheck harden`: train a network not to be fooled, then audit it."""

from __future__ import annotations

from blankcheck.api.audit import MODEL
from blankcheck.api.certify import RECORD, prove, with_proof
from blankcheck.api.harden import Hardened, check_network, harden, plan_of
from blankcheck.classifiers import ARCHITECTURES, UnitClassifier
from blankcheck.classifiers.precision import check_precision
from blankcheck.cli.commands.audit import announce_audit, audited, say
from blankcheck.cli.commands.shared import Place, Work, check, claim_of, load, start, working
from blankcheck.cli.settings import HardenSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data
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
    place = _place(settings)
    device, data = start(settings)
    check(settings, data)
    network: UnitClassifier | str = settings.model
    if settings.weights is not None or settings.model not in ARCHITECTURES:
        network = load(settings, data).to(device)
        if network.describe.get("exported"):
            raise ArgumentError("model is a .pt2 program, which can be audited but not hardened")
    plan = plan_of(data, settings.epochs, settings.rounds, settings.options())
    check_precision(settings.precision, device)
    check_network(network, data, settings.objective, plan)
    with working(settings, place, data, terminal) as work:
        terminal.note(_plan_in_words(settings, plan))
        announce_audit(settings, data, terminal)
        hardened = _harden(network, data, settings, work)
        if work.team.leads:
            hardened.write_into(work.run)
        made = audited(hardened.model, data, settings, work)
        if work.team.leads and plan.certify is not None:
            with terminal.progress() as bar:
                certificate = prove(hardened.model, data, settings.confidence, note=bar)
            made = with_proof(made, certificate)
            work.run.write_json(RECORD, certificate.as_json())
        if work.team.leads:
            say(made, work)
    return 0


def _plan_in_words(settings: HardenSettings, plan: HardeningPlan) -> str:
    words = (
        f"hardening: {settings.objective}, schedule {plan.schedule}; {plan.epochs} "
        f"epochs, the first {plan.pretrain} on real images alone, the others over {plan.rounds} "
        "rounds"
    )
    if plan.certify is None:
        return words
    return f"{words}; to be proved: at most {plan.certify} lit features are too few for any class"


def _harden(
    network: UnitClassifier | str, data: Data, settings: HardenSettings, work: Work
) -> Hardened:
    with work.terminal.progress() as bar:
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
            words = f"{rates}, fewest lit {made.fresh_fewest}{proved}"
            bar(f"round {made.index}", 1, 1, words)

        return harden(
            network,
            data,
            settings.objective,
            epochs=settings.epochs,
            rounds=settings.rounds,
            run=work.run,
            resume=settings.resume,
            watch=watch,
            device=work.team.device,
            peers=work.team.peers,
            **settings.search(),
            **settings.options(),
        )


def _place(settings: HardenSettings) -> Place:
    """The folder to begin in, or the run folder to go on in."""
    if settings.resume and settings.overwrite:
        raise ArgumentError("resume goes on where overwrite begins anew; give one of the two")
    if settings.resume and rank_of_process() == 0:
        return _resumed(settings)
    return claim_of(settings, "harden", f"--resume goes on, {OVERWRITE}")


def _resumed(settings: HardenSettings) -> RunFolder:
    """The run folder to go on in; refuses settings that differ from those it was begun with."""
    run = RunFolder.open(settings.out if settings.out is not None else latest(RUNS / "harden"))
    begun, lacking = run.command, ""
    # a run that was stopped in its first round has no state yet; it begins again, nothing is lost
    ended = any(run.has(name) for name in (MODEL, "hardening.json", "verdict.json"))
    if begun == "harden" and ended and not run.has(STATE):
        lacking = f", and has no {STATE}"
    if begun != "harden" or lacking:
        raise RunFolderError(
            f"run folder {run.path} has no state of a hardening to go on from: "
            f"it is a run of {begun}{lacking}"
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
