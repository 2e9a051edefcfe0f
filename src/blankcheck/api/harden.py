"""Hardening from a network to a run folder, resumable between rounds."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from blankcheck.api.bars import ENDED, RESUMED, by_rounds, told
from blankcheck.api.bars import Watch as Watch
from blankcheck.api.showing import Shown
from blankcheck.api.third_party import usable_attacks
from blankcheck.api.twins import get_twins
from blankcheck.arguments import options_of, plain_arguments
from blankcheck.auditing import Twin, check_enough, check_fits, level_of
from blankcheck.auditing.judges import Level
from blankcheck.certifying import read_network
from blankcheck.classifiers import UnitClassifier, build, evaluate, load_model
from blankcheck.classifiers.loading import model_bytes
from blankcheck.classifiers.trial import check_classifier, check_trainable
from blankcheck.classifiers.wrapper import device_of, left_as_found
from blankcheck.data import Data, check_data
from blankcheck.errors import ArgumentError, BlankcheckError, ModelError, RunFolderError
from blankcheck.hardening import Hardening, HardeningOptions, HardeningPlan, Round, objective_named
from blankcheck.hardening.measures import real_record
from blankcheck.parallel.peers import ALONE, Peers
from blankcheck.runs.claims import Claim
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.state import STATE, read_state, state_bytes
from blankcheck.seeds import check_seed
from blankcheck.text import one_line
from blankcheck.types import Conditions, default_max_lit

KNOWS = 0.5
"""Accuracy from which on a network counts as trained."""
SECONDS = ("training_seconds", "looking_seconds")
"""Of a round."""


@dataclass(frozen=True, repr=False)
class Hardened(Shown):
    """A hardened network and the rounds that made it.

    Args:
        model: the network of the round that was kept.
        rounds: all rounds, in order.
        kept: the index of the round whose network `model` is.
        records: all that was measured, as in `metrics.jsonl`.
        source: the name of the data.
    """

    model: UnitClassifier
    rounds: tuple[Round, ...]
    kept: int
    records: tuple[dict[str, Any], ...] = ()
    source: str = ""

    def __repr__(self) -> str:
        last = self.rounds[self.kept]
        real = f"{last.validation_accuracy:.1%} of validation images right"
        kept = f"round {self.kept + 1} of {len(self.rounds)} kept"
        return f"Hardened({kept}: {last.fresh_rate:.0%} of attempts fooled, {real})"

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> RunFolder:
        """Write the network, `metrics.jsonl` and a report into a run folder.

        Args:
            folder: where.
            overwrite: in place of a run that is there.

        Raises:
            RunFolderError: a run is there and `overwrite` is not given.
        """
        from blankcheck.report.page import write_report

        claim = Claim(Path(folder), "harden", overwrite, ways="overwrite=True begins anew")
        with claim.opened() as run:
            self._fill(run)
            write_report(run)
        return run

    def _fill(self, run: RunFolder) -> None:
        said = {"data": self.source, "model": self.model.describe.get("architecture", "")}
        run.begin("harden", said, device_of(self.model))
        self.write_into(run)

    def write_into(self, run: RunFolder) -> None:
        """The same into an open run folder, without the report."""
        run.write("model.safetensors", model_bytes(self.model))
        run.write_lines("metrics.jsonl", self.records)
        run.write_json("hardening.json", {"kept_round": self.kept, "rounds": len(self.rounds)})


# each argument is a choice of its own; all but four have a default
@options_of(HardeningOptions)
@plain_arguments
def harden(
    model: nn.Module | str,
    data: Data,
    objective: str = "max-entropy",
    seed: int = 0,
    *,
    epochs: int | None = None,
    rounds: int | None = None,
    confidence: float = 0.9,
    max_lit: int | None = None,
    ood_level: Level = "auto",
    rivals: bool = False,
    run: RunFolder | None = None,
    resume: bool = False,
    progress: bool | None = None,
    watch: Watch | None = None,
    device: torch.device | None = None,
    peers: Peers | None = None,
    **options: Any,
) -> Hardened:
    """Train a network on real images and on the fooling images found against it, so that the search
    fails.

    Args:
        model: the name of a built-in network, trained from its start, or a network, which goes on;
            parameters of it that are frozen stay as they are.
        data: real images of the classes.
        objective: `max-entropy`, `reject-class` or `fake-classes`. For K real classes, a network
            must have K, K + 1 or 2K outputs.
        seed: of everything random.
        epochs: passes over the training images, by default as many as plain training makes.
        rounds: over which the epochs are spread.
        confidence: least probability of a fooling image's class, in (0, 1).
        max_lit: most lit features of a fooling image; None takes 300, less for small images.
        ood_level: largest p-value of a fooling image; `auto` is what an audit takes.
        rivals: log what attacks of other libraries find, where they are installed.
        run: where the state is kept after each round.
        resume: go on from the state in `run`, to the same bits as if the run had not stopped.
        progress: show bars; None where a terminal or a notebook shows them.
        watch: told in their place of each finished round, and of batches.
        device: where to train; default where the network is.
        peers: processes that train together and share the searches; the first one keeps the state.
            Results depend on how many there are, and a run may go on with another number. Default
            this one alone.
        options: any other field of `HardeningPlan`, by its name.

    Raises:
        ArgumentError, DataError, ModelError, RunFolderError: with one line.
    """
    if not isinstance(model, str):
        check_classifier(model)
    check_data(data)
    trained = is_trained(model, data)
    plan = plan_of(data, epochs, rounds, {**options, "objective": objective}, trained)
    limit = max_lit if max_lit is not None else default_max_lit(data.shape)
    conditions = Conditions(confidence, limit, level_of(data, ood_level))
    check_seed(seed)
    check_enough(data, conditions.ood_level)
    if isinstance(model, str):
        outputs = objective_named(objective).outputs(len(data.classes))
        network = build(model, data.shape, outputs, data.mean_and_std(), seed)
    else:
        network = load_model(model)
    if device is not None:
        network.to(device)
    check_network(network, data, objective, plan)

    def twin() -> Twin | None:
        return next(get_twins(network, data, device_of(network)), None)

    asked, _ = usable_attacks(rivals)
    work = Hardening(network, data, plan, conditions, seed, twin, asked, peers or ALONE)
    if run is not None and resume:
        _resume(work, run)
    with told(None, progress if watch is None else False) as tell:
        watch = watch or by_rounds(tell)
        if work.history:
            watch(work.history[-1], 0, 0, ENDED if work.done else RESUMED)
        for made in work.rounds(partial(watch, None)):
            if run is not None:
                _keep_state(work, run)
            watch(made, 0, 0, "")
    kept = work.kept
    assert kept is not None, "a plan has at least one round"
    network.load_state_dict(kept.network)
    network.eval()
    # test images are read here and nowhere before
    test, classes = data.test, len(data.classes)
    real = real_record(network, test.images, test.labels, classes, confidence)
    last = {"kind": "real", "split": "test", "round": kept.index, **real}
    records = (*_logged(work), last)
    return Hardened(network, tuple(work.history), kept.index, records, data.source)


def _logged(work: Hardening) -> list[dict[str, Any]]:
    return [*work.records, *(r.metrics() for r in work.history)]


def is_trained(model: nn.Module | str, data: Data) -> bool:
    """Whether a network is right about half of the validation images already."""
    if isinstance(model, str):
        return False
    form = check_fits(network := load_model(model), data)
    known = evaluate(network, data.validation, len(data.classes), 0.9, form)
    return known.accuracy >= KNOWS


def plan_of(
    data: Data,
    epochs: int | None,
    rounds: int | None,
    options: dict[str, Any],
    trained: bool = False,
) -> HardeningPlan:
    """The plan for this data; ArgumentError where it is impossible or names an unknown option."""
    train = data.halves[0] if options.get("hold_out_twin", False) else data.train
    return HardeningPlan.of(len(train), trained, epochs=epochs, rounds=rounds, **options)


def check_network(
    model: UnitClassifier | str, data: Data, objective: str, plan: HardeningPlan
) -> None:
    """Raises ArgumentError or ModelError where the network does not fit the objective, or cannot be
    certified but should."""
    outputs = objective_named(objective).outputs(len(data.classes))
    if isinstance(model, str):
        model = build(model, data.shape, outputs, data.mean_and_std())
    elif (form := check_fits(model, data)) != "logits":
        raise ModelError(f"hardening needs a model that gives logits, this one gives {form}")
    check_trainable(model)
    with left_as_found(model), torch.no_grad():
        got = model(data.validation.images[:2].to(device_of(model))).shape[1]
    if got != outputs:
        needed = f"needs a model with {outputs} outputs, this one has {got}"
        raise ModelError(f"objective {objective!r} {needed}")
    if plan.certify is None:
        return
    if plan.certify > (most := math.prod(data.shape)):
        limits = f"1..{most}, the features of an image"
        raise ArgumentError(f"certify must lie in {limits}, got {plan.certify}")
    read_network(model, data.shape)


def _keep_state(work: Hardening, run: RunFolder) -> None:
    """Metrics first: after a kill in between, those of a round without state are dropped later."""
    state = work.state()
    if work.peers.rank != 0:
        return
    state["data"] = work.data.fingerprint
    # seconds stand in metrics.jsonl alone, so that equal runs have equal states
    state["history"] = [each | dict.fromkeys(SECONDS, 0.0) for each in state["history"]]
    run.write_lines("metrics.jsonl", _logged(work))
    run.write(STATE, state_bytes(state))


def _resume(work: Hardening, run: RunFolder) -> None:
    """Put the state back, if there is one already; the first process reads it for all."""
    try:
        read = _state_and_records(run) if work.peers.rank == 0 else None
        state, records = work.peers.broadcast_object(read)
        if state is not None:
            if state.pop("data", None) != work.data.fingerprint:
                begun = f"{run / STATE} was begun on other images or labels"
                raise RunFolderError(f"{begun} than those of data {work.data.source!r}")
            work.load_state(state, records)
    except (BlankcheckError, OSError, MemoryError):
        raise
    except Exception as error:  # a foreign state raises whatever unpickling and loading meet
        raise RunFolderError(f"{run / STATE} does not fit this run: {one_line(error)}") from error


def _state_and_records(run: RunFolder) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    if not run.has(STATE):
        return None, []
    state, logged = read_state(run), run.read_lines("metrics.jsonl")
    rounds = [r for r in logged if r.get("kind") == "round"]
    took = {r.get("index"): {name: r[name] for name in SECONDS} for r in rounds}
    state["history"] = [each | took.get(each["index"], {}) for each in state["history"]]
    kinds = ("batch", "training", "search", "set", "real")
    return state, [r for r in logged if r.get("kind") in kinds and r.get("split") != "test"]
