"""What several commands do: begin, load, check, and open their run folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from blankcheck.api.audit import Audit
from blankcheck.api.third_party import usable_attacks
from blankcheck.auditing import check_enough, level_of
from blankcheck.classifiers import ARCHITECTURES, UnitClassifier, evaluate, load_model
from blankcheck.classifiers.loading import parse_normalize, states_shape
from blankcheck.classifiers.weights import file_of
from blankcheck.cli.options import Common, Weighted, command_line
from blankcheck.cli.resuming import way_on
from blankcheck.cli.settings import AuditSettings, CertifySettings, HardenSettings, TrainSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data, load_data
from blankcheck.errors import ArgumentError
from blankcheck.factories import is_factory
from blankcheck.parallel.devices import choose_threads, resolve
from blankcheck.parallel.team import Team, meeting, rank_of_process
from blankcheck.runs.claims import OVERWRITE, Claim, held
from blankcheck.runs.folder import VERDICT, RunFolder
from blankcheck.trackers import connect, mirrored
from blankcheck.types import Conditions

Divided = TrainSettings | AuditSettings
"""Settings of commands whose work several processes can share."""
Place = Claim | RunFolder
"""The folder to begin a run in, or the run folder to go on in."""
SOME = 1000
"""Validation images that tell a trained network from an untrained one."""


def start(settings: Common) -> tuple[torch.device, Data]:
    """The device and the data that were asked for."""
    device, data = resolve(settings.device), load_data(settings.data, settings.data_dir)
    choose_threads(data.shape)
    return device, data


def tell(data: Data, terminal: Terminal) -> None:
    """What was made of the data's source, on stderr, once everything given was found good."""
    for line in data.news():
        terminal.note(line)


def load(settings: Weighted, data: Data | None = None) -> UnitClassifier:
    """The network that was named; ArgumentError for a built-in one without weights."""
    if settings.model in ARCHITECTURES and settings.weights is None:
        ways = "give its --weights (blankcheck train makes them)"
        raise ArgumentError(f"model {settings.model!r} is untrained; {ways}")
    named = settings.model, settings.weights, data, parse_normalize(settings.normalize)
    trusted, temperature = settings.unsafe_pickle, settings.temperature
    return load_model(*named, unsafe_pickle=trusted, temperature=temperature)


def load_both(settings: Weighted) -> tuple[torch.device, Data, UnitClassifier]:
    """The device, the data and the network; what is wrong with the network or its weights is said
    before data are loaded, which may take long."""
    resolve(settings.device)
    needs_data = settings.model in ARCHITECTURES and settings.weights is not None
    if needs_data and not states_shape(str(settings.weights), settings.unsafe_pickle):
        device, data = start(settings)
        return device, data, load(settings, data).to(device)
    network = load(settings)
    device, data = start(settings)
    if needs_data:  # its images must be those of the data
        network = load(settings, data)
    return device, data, network.to(device)


def warn_untrained(
    settings: Weighted, classifier: UnitClassifier, data: Data, form: str, terminal: Terminal
) -> None:
    """Say, before long work, that a network does no better than guessing; of a factory without
    weights, that these may have been forgotten. form: of its outputs."""
    some = data.validation.sample(SOME, seed=0)
    known = evaluate(classifier, some, len(data.classes), 0.9, form).accuracy
    chance = float(some.labels.bincount().max()) / len(some)
    if known > chance + 3 * (chance * (1 - chance) / len(some)) ** 0.5:
        return
    ask = "is its input what it was trained on? blankcheck doctor says"
    if settings.weights is None and is_factory(settings.model):
        ask = "it is as its factory makes it, no --weights are given"
    rarely = f"is right in {known:.1%} of {len(some)} validation images, no more than guessing"
    terminal.note(f"warning: model {settings.model} {rarely}; {ask}")


def check(settings: AuditSettings | CertifySettings, data: Data) -> None:
    """Whatever can be found wrong is found before anything is written: an earlier run in the folder
    stays as it was."""
    max_lit = settings.max_lit if settings.max_lit is not None else 1
    level = level_of(data, settings.ood_level)
    Conditions(settings.confidence, max_lit, level)
    check_enough(data, level)
    usable_attacks(isinstance(settings, AuditSettings) and settings.rivals)


def claim_of(settings: Common, command: str, ways: str = OVERWRITE) -> Claim:
    """The claim of a command. Of several processes the first one claims, and only it writes."""
    if rank_of_process() != 0:
        return Claim(None, command)
    out = Path(settings.out) if settings.out is not None else None
    weights = getattr(settings, "weights", None)
    reads = (settings.model, None if weights is None else file_of(weights)[0])
    return Claim(out, command, settings.overwrite, reads, ways)


def place_of(settings: AuditSettings, command: str) -> Place:
    """The folder to begin in, or with `--resume` the one to go on in (`cli.resuming`)."""
    if settings.resume and settings.out is not None and rank_of_process() == 0:
        return RunFolder.open(settings.out)
    old = RunFolder(Path(settings.out or ""))
    goes_on = old.path.is_dir() and old.command == command
    if goes_on and not (command == "audit" and old.has(VERDICT)):
        return claim_of(settings, command, f"{way_on(command, old)} goes on, {OVERWRITE}")
    return claim_of(settings, command)


def begin(run: RunFolder, command: str, settings: Common, device: torch.device) -> None:
    """Begin a run in a folder: what it is, and the words that make it again."""
    run.begin(command, settings.as_config(), device, command_line(command, settings))


def search_of(settings: AuditSettings | CertifySettings) -> dict[str, Any]:
    """What `audit` and `harden` are told of the search, by the names of their arguments."""
    names = ("seed", "confidence", "max_lit", "ood_level", "rivals")
    return {name: getattr(settings, name) for name in names if hasattr(settings, name)}


def say(made: Audit, lines: list[str], run: RunFolder, terminal: Terminal, **more: Any) -> None:
    """The verdict of an audit that stands in a run folder. more: for the JSON record alone."""
    report = str(run / "report.html")
    terminal.result(str(made.verdict), lines, report, {**made.json, "report": report, **more})


class Work(NamedTuple):
    """What a command does its work with."""

    team: Team
    run: RunFolder
    terminal: Terminal


@contextmanager
def working(settings: Divided, place: Place, data: Data, terminal: Terminal) -> Iterator[Work]:
    """The processes that share the work, and the run folder that was claimed or goes on.

    What is going to be worked on is said here, once everything given was found good, so that a
    mistake is the only line on stderr.
    """
    from blankcheck.cli.main import main

    asked = settings.device, settings.devices, settings.nodes
    again = partial(main, terminal.arguments)  # what the processes run that are started here
    with meeting(*asked, again, terminal.note, terminal.started) as team:
        terminal.muted = not team.leads
        terminal.quiet = terminal.quiet or terminal.muted
        with _opened(settings, place, team, terminal) as run:
            c, h, w = data.shape
            images = f"{data.source}: {len(data.train)} training images of {c}x{h}x{w}"
            threads = torch.get_num_threads()
            where = f"device {team.words}; {threads} thread{'' if threads == 1 else 's'}"
            classes = f"{len(data.classes)} classes; model {settings.model}"
            terminal.note(f"{images}, {classes}; {where}")
            tell(data, terminal)
            if isinstance(settings, TrainSettings | HardenSettings) and settings.precision != "32":
                passes = "the passes of training; everything else in 32"
                terminal.note(f"precision {settings.precision} in {passes}")
            yield Work(team, run, terminal)


@contextmanager
def _opened(settings: Divided, place: Place, team: Team, terminal: Terminal) -> Iterator[RunFolder]:
    """The run folder, which trackers follow; processes that do not lead get one that is removed."""
    if not team.leads:
        with tempfile.TemporaryDirectory() as away:
            yield RunFolder(Path(away))
        return
    goes_on = isinstance(place, RunFolder)
    with held(place) if isinstance(place, RunFolder) else place.opened() as run:
        trackers = connect(settings.tracker, run, resume=goes_on)
        for name, tracker in trackers.items():
            terminal.note(f"{name}: {tracker.where}")
        said = partial(terminal.err.print, markup=False)
        with mirrored(run, trackers, said, resume=goes_on):
            if isinstance(place, Claim):
                begin(run, place.command, settings, team.device)
            with _told_how_to_go_on(run, settings):
                yield run


@contextmanager
def _told_how_to_go_on(run: RunFolder, settings: Divided) -> Iterator[None]:
    """What Ctrl-C stops names the command that goes on with it, where one does."""
    try:
        yield
    except KeyboardInterrupt as error:
        if isinstance(settings, AuditSettings) and not rank_of_process():
            error.add_note(f"go on with: {way_on(str(run.command), run)}")
        raise
