"""Hardening from a network to a run folder, resumable between rounds."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from blankcheck.api.third_party import usable_rivals
from blankcheck.api.twins import get_twins
from blankcheck.auditing import Twin, check_fits
from blankcheck.certifying import read_network
from blankcheck.classifiers import UnitClassifier, build, load_model
from blankcheck.classifiers.loading import model_bytes
from blankcheck.classifiers.wrapper import device_of, left_as_found
from blankcheck.data import Data
from blankcheck.errors import ArgumentError, BlankcheckError, ModelError, RunFolderError
from blankcheck.hardening import Hardening, HardeningPlan, Round, objective_named
from blankcheck.hardening.measures import real_record
from blankcheck.parallel.peers import ALONE, Peers
from blankcheck.runs.claims import Claim
from blankcheck.runs.folder import RunFolder
from blankcheck.types import Conditions, default_max_lit

STATE = "state/state.pt"
HEAD = b"blankcheck state sha256:"
SECONDS = ("training_seconds", "looking_seconds")
"""Of a round."""


@dataclass(frozen=True)
class Hardened:
    """A hardened network and the rounds that made it. kept: the index of the round whose network
    `model` is. records: all that was measured, as in `metrics.jsonl`."""

    model: UnitClassifier
    rounds: tuple[Round, ...]
    kept: int
    records: tuple[dict[str, Any], ...] = ()
    source: str = ""

    def save(self, folder: str | os.PathLike[str], *, overwrite: bool = False) -> RunFolder:
        """Write `model.safetensors`, `metrics.jsonl` and a report into a run folder. overwrite: in
        place of a run that is there, which else raises RunFolderError."""
        from blankcheck.report.page import write_report

        said = {"data": self.source, "model": self.model.describe.get("architecture", "")}
        with Claim(
            Path(folder), "harden", overwrite, ways="overwrite=True begins anew"
        ).opened() as run:
            run.begin("harden", said, device_of(self.model))
            self.write_into(run)
            write_report(run)
        return run

    def write_into(self, run: RunFolder) -> None:
        """The same into an open run folder."""
        run.write("model.safetensors", model_bytes(self.model))
        run.write_lines("metrics.jsonl", self.records)
        run.write_json("hardening.json", {"kept_round": self.kept, "rounds": len(self.rounds)})


Watch = Callable[[Round | None, int, int, str], None]
"""Called as watch(finished round or None, batch, batches, words)."""


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
    ood_level: float = 0.01,
    rivals: bool = False,
    run: RunFolder | None = None,
    resume: bool = False,
    watch: Watch = lambda made, batch, batches, words: None,
    device: torch.device | None = None,
    peers: Peers = ALONE,
    **options: Any,
) -> Hardened:
    """Train a network on real images and on the fooling images found against it, so that the search
    fails.

    model: the name of a built-in network, trained from its start, or a network, which goes on.
    objective: `max-entropy`, `fake-classes` or `reject-class`; a network must have the outputs it
    needs (K real classes: K for `max-entropy`, K + 1 for `reject-class`, 2K for `fake-classes`).
    epochs: passes over the training images, by default as many as plain training makes. rounds:
    over which they are spread. options: any field of `HardeningPlan`. rivals: log what attacks of
    other libraries find, where they are installed. run: where the state is kept after each round;
    with `resume` the run goes on from there, to the same bits as if it had not stopped. device:
    where to train; default where the network is.
    peers: processes that train together and share the searches; the first one keeps the state. Results depend on how many there are, and a run may go on with another number.

    Raises ArgumentError, DataError, ModelError or RunFolderError with one line.
    """
    plan = plan_of(data, epochs, rounds, {**options, "objective": objective})
    outputs = objective_named(objective).outputs(len(data.classes))
    limit = max_lit if max_lit is not None else default_max_lit(data.shape)
    network = (
        build(model, data.shape, outputs, data.mean_and_std(), seed)
        if isinstance(model, str)
        else load_model(model)
    )
    if device is not None:
        network.to(device)
    check_network(network, data, objective, plan)
    network.requires_grad_(True)

    def twin() -> Twin | None:
        return next(iter(get_twins(network, data, device_of(network))), None)

    asked, _ = usable_rivals(rivals)
    conditions = Conditions(confidence, limit, ood_level)
    work = Hardening(network, data, plan, conditions, seed, twin, asked, peers)
    if run is not None and resume:
        _resume(work, run)
    for made in work.rounds(lambda batch, batches, words: watch(None, batch, batches, words)):
        if run is not None:
            _keep_state(work, run)
        watch(made, 0, 0, "")
    return _finished(work, data)


def _finished(work: Hardening, data: Data) -> Hardened:
    """The kept network, and what it does on test images, which are read here and nowhere before."""
    network, kept = work.classifier, work.kept
    assert kept is not None, "a plan has at least one round"
    network.load_state_dict(kept.network)
    network.eval()
    real = real_record(
        network, data.test.images, data.test.labels, len(data.classes), work.conditions.confidence
    )
    last = {"kind": "real", "split": "test", "round": kept.index, **real}
    records = (*work.records, *(r.metrics() for r in work.history), last)
    return Hardened(network, tuple(work.history), kept.index, records, data.source)


def plan_of(
    data: Data, epochs: int | None, rounds: int | None, options: dict[str, Any]
) -> HardeningPlan:
    """The plan for this data; ArgumentError where it is impossible or names an unknown option."""
    half = options.get("hold_out_twin", False)
    images = len(data.halves[0] if half else data.train)
    return HardeningPlan.of(images, epochs=epochs, rounds=rounds, **options)


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
    with left_as_found(model), torch.no_grad():
        got = model(data.validation.images[:2].to(device_of(model))).shape[1]
    if got != outputs:
        raise ModelError(
            f"objective {objective!r} needs a model with {outputs} outputs, this one has {got}"
        )
    if plan.certify is not None:
        most = math.prod(data.shape)
        if plan.certify > most:
            raise ArgumentError(
                f"certify must lie in 1..{most}, the features of an image, got {plan.certify}"
            )
        read_network(model, data.shape)


def _keep_state(work: Hardening, run: RunFolder) -> None:
    """Metrics first: a kill in between leaves records of a round that the state does not know,
    which are dropped later."""
    state = work.state()
    if work.peers.rank != 0:
        return
    # seconds stand in metrics.jsonl alone, so that equal runs have equal states
    state["history"] = [each | dict.fromkeys(SECONDS, 0.0) for each in state["history"]]
    run.write_lines("metrics.jsonl", [*work.records, *(r.metrics() for r in work.history)])
    run.write(STATE, state_bytes(state))


def state_bytes(state: dict[str, Any]) -> bytes:
    """The contents of `STATE`: a line with the digest of all that follows, then what torch writes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return (
        b"%s%s\n" % (HEAD, hashlib.sha256(buffer.getbuffer()).hexdigest().encode())
        + buffer.getvalue()
    )


def read_state(run: RunFolder) -> dict[str, Any]:
    """The state of a run folder.

    RunFolderError where the file is missing, damaged, or something else.
    """
    line, _, rest = run.read_bytes(STATE).partition(b"\n")
    if line != HEAD + hashlib.sha256(rest).hexdigest().encode():
        raise RunFolderError(
            f"{run / STATE} is damaged, or is no state that this version of blankcheck wrote"
        )
    state: dict[str, Any] = torch.load(io.BytesIO(rest), map_location="cpu", weights_only=True)
    return state


def _resume(work: Hardening, run: RunFolder) -> None:
    """Put the state back, which the first process reads for all; nothing was kept yet when the run
    stopped in its first round."""
    try:
        read = _state_and_records(run) if work.peers.rank == 0 else None
        state, records = work.peers.broadcast_object(read)
        if state is not None:
            work.load_state(state, records)
    except (BlankcheckError, OSError, MemoryError):
        raise
    except Exception as error:  # a foreign state raises whatever unpickling and loading meet
        raise RunFolderError(
            f"{run / STATE} does not fit this run: {' '.join(str(error).split())[:160]}"
        ) from error


def _state_and_records(run: RunFolder) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    if not run.has(STATE):
        return None, []
    state, logged = read_state(run), run.read_lines("metrics.jsonl")
    took = {
        r.get("index"): {name: r[name] for name in SECONDS}
        for r in logged
        if r.get("kind") == "round"
    }
    state["history"] = [each | took.get(each["index"], {}) for each in state["history"]]
    kinds = ("batch", "training", "search", "set", "real")
    return state, [r for r in logged if r.get("kind") in kinds and r.get("split") != "test"]
