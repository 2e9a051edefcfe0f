"""Hardening from a network to a run folder, resumable between rounds."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from blankcheck.auditing import check_fits
from blankcheck.classifiers import UnitClassifier, build, load_model
from blankcheck.classifiers.loading import save_model
from blankcheck.classifiers.wrapper import device_of, left_as_found
from blankcheck.data import Data
from blankcheck.errors import ModelError, RunFolderError
from blankcheck.hardening import Hardening, Round, best_round, default_plan, objective_named
from blankcheck.running.run_folder import RunFolder
from blankcheck.types import Conditions, default_max_lit

STATE = "state/state.pt"


@dataclass(frozen=True)
class Hardened:
    """A hardened network and the rounds that made it. kept: the index of the round whose network `model` is."""

    model: UnitClassifier
    rounds: tuple[Round, ...]
    kept: int
    source: str = ""

    def save(self, folder: str | os.PathLike[str]) -> RunFolder:
        """Write `model.safetensors`, `metrics.jsonl` and a report into a run folder."""
        from blankcheck.running.report import write_report

        run = RunFolder.create(folder)
        run.begin(
            "harden", {"data": self.source, "model": self.model.describe.get("architecture", "")}, device_of(self.model)
        )
        self.write_into(run)
        write_report(run)
        return run

    def write_into(self, run: RunFolder) -> None:
        """The same into an open run folder."""
        run.write_with("model.safetensors", lambda path: save_model(self.model, path))
        run.write_lines("metrics.jsonl", [r.metrics() for r in self.rounds])
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
    run: RunFolder | None = None,
    resume: bool = False,
    watch: Watch = lambda made, batch, batches, words: None,
    device: torch.device | None = None,
) -> Hardened:
    """Train a network so that it is not sure about sparse images that look like no real data.

    model: the name of a built-in network, trained from its start; or a network, hardened in place from where it is (its
    outputs must fit the objective: K for `max-entropy`, K + 1 for `reject-class`, 2K for `fake-classes`).
    epochs: passes over the training images, by default as many as plain training makes. rounds: over which they are
    spread. run: where the state is kept after each round; with `resume` the run goes on from there, to the same bits as
    if it had not stopped. device: where to train; default where the network is.

    Raises ArgumentError, DataError, ModelError or RunFolderError with one line.
    """
    aim, plan = objective_named(objective), default_plan(len(data.train), epochs, rounds)
    outputs = aim.outputs(len(data.classes))
    limit = max_lit if max_lit is not None else default_max_lit(data.shape)
    network = build(model, data.shape, outputs, data.mean_and_std(), seed) if isinstance(model, str) else load_model(model)
    if device is not None:
        network.to(device)
    check_hardening(network, data, objective)
    network.requires_grad_(True)
    work = Hardening(network, data, aim, plan, Conditions(confidence, limit, ood_level), seed)
    best = _resume(work, run) if run is not None and resume else None
    for made in work.rounds(lambda batch, batches, words: watch(None, batch, batches, words)):
        if best_round([r.harmonic for r in work.history]) == made.index:
            best = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        if run is not None:
            _keep_state(work, best, run)
        watch(made, 0, 0, "")
    if best is not None:
        network.load_state_dict(best)
    network.eval()
    return Hardened(network, tuple(work.history), best_round([r.harmonic for r in work.history]), data.source)


def check_hardening(
    model: UnitClassifier | str, data: Data, objective: str, epochs: int | None = None, rounds: int | None = None
) -> None:
    """Raises ArgumentError or ModelError where the plan is impossible or the network's outputs do not fit the objective."""
    default_plan(len(data.train), epochs, rounds)
    outputs = objective_named(objective).outputs(len(data.classes))
    if isinstance(model, str):
        return
    form = check_fits(model, data)
    if form != "logits":
        raise ModelError(f"hardening needs a model that gives logits, this one gives {form}")
    with left_as_found(model), torch.no_grad():
        got = model(data.validation.images[:2].to(device_of(model))).shape[1]
    if got != outputs:
        raise ModelError(f"objective {objective!r} needs a model with {outputs} outputs, this one has {got}")


def _keep_state(work: Hardening, best: dict[str, torch.Tensor] | None, run: RunFolder) -> None:
    buffer = io.BytesIO()
    torch.save({"work": work.state(), "best": best}, buffer)
    run.write(STATE, buffer.getvalue())
    run.write_lines("metrics.jsonl", [r.metrics() for r in work.history])


def _resume(work: Hardening, run: RunFolder) -> dict[str, torch.Tensor] | None:
    """Put the state back; nothing was kept yet when the run stopped in its first round."""
    path = run / STATE
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        work.load_state(state["work"])
    except Exception as error:  # a damaged or foreign file raises whatever unpickling and loading meet
        raise RunFolderError(f"{path} does not fit this run: {' '.join(str(error).split())[:160]}") from error
    best: dict[str, torch.Tensor] | None = state["best"]
    return best
