"""One trial: harden a network, and measure the one that was kept, on validation images and by fresh
attempts."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from blankcheck.api.audit import audit
from blankcheck.api.harden import Hardened, check_network, harden, plan_of
from blankcheck.api.third_party import usable_rivals
from blankcheck.classifiers import ARCHITECTURES, UnitClassifier, load_model
from blankcheck.classifiers.loading import parse_normalize
from blankcheck.cli.settings import HardenSettings
from blankcheck.data import Data, load_data
from blankcheck.errors import ArgumentError
from blankcheck.hardening import HardeningPlan, Round
from blankcheck.hardening.exploring import Explorer
from blankcheck.hardening.measures import real_record
from blankcheck.judging import OODTest
from blankcheck.judging.ood import check_size
from blankcheck.parallel.devices import choose_threads, resolve
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.state import STATE
from blankcheck.seeds import seed_of
from blankcheck.sweep.choosing import Seen
from blankcheck.sweep.space import Space
from blankcheck.sweep.workers import Measured, Task
from blankcheck.types import NEVER, Conditions, default_max_lit


@dataclass(frozen=True)
class Bench:
    """What every trial of a worker needs, read once. gate: the out-of-distribution test of
    hardening, which is not the one that judges audits."""

    data: Data
    device: torch.device
    conditions: Conditions
    gate: OODTest

    @classmethod
    def of(cls, settings: HardenSettings) -> Bench:
        """Raises ArgumentError or DataError where conditions or data cannot be used."""
        device, data = resolve(settings.device), load_data(settings.data, settings.data_dir)
        choose_threads(data.shape)
        limit = settings.max_lit if settings.max_lit is not None else default_max_lit(data.shape)
        conditions = Conditions(settings.confidence, limit, settings.ood_level)
        for half in data.halves:
            check_size(len(half), settings.ood_level)
        usable_rivals(settings.rivals)
        gate = OODTest.fit(
            data.halves[0].images, settings.ood_level, most=HardeningPlan.gate_images
        )
        return cls(data, device, conditions, gate)

    def network(self, settings: HardenSettings) -> UnitClassifier | str:
        """What is hardened: a name where a built-in network is trained from its start, else the
        network itself."""
        if settings.weights is None and settings.model in ARCHITECTURES:
            return settings.model
        network = load_model(
            settings.model,
            settings.weights,
            self.data,
            parse_normalize(settings.normalize),
            unsafe_pickle=settings.unsafe_pickle,
        )
        if network.describe.get("exported"):
            raise ArgumentError(
                "base: model is a .pt2 program, which can be audited but not hardened"
            )
        return network.to(self.device)


def check_trials(space: Space) -> Data:
    """Whatever can be found wrong with trials is found before the first: ArgumentError, DataError
    or ModelError."""
    bench = Bench.of(space.base)
    fits: set[tuple[str, str, int | None]] = set()
    for settings in space.extremes():
        try:
            plan = plan_of(bench.data, settings.epochs, settings.rounds, settings.options())
        except ArgumentError as error:
            values = ", ".join(f"{name} {getattr(settings, name)}" for name in space.search)
            raise ArgumentError(f"search allows {values}, but {error}") from error
        if (settings.model, settings.objective, settings.certify) not in fits:
            check_network(bench.network(settings), bench.data, settings.objective, plan)
            fits.add((settings.model, settings.objective, settings.certify))
    return bench.data


@dataclass
class HardenTrial:
    """Runs trials in a worker. attempts: that measure a network. audited: audit it, too; what an
    audit finds plays no part in the sweep, because it reads test images. threads: of torch, so that
    workers share the cores."""

    space: Space
    attempts: int
    audited: bool
    threads: int
    bench: Bench = field(init=False)

    def __post_init__(self) -> None:
        torch.set_num_threads(self.threads)
        self.bench = Bench.of(self.space.base)

    def __call__(self, task: Task, watch: Callable[[Seen], None]) -> Measured:
        """Harden, measure, and leave a run folder, without the state that only a killed run needs."""
        settings, began = replace(task.settings, out=str(task.folder)), time.monotonic()
        run = _begin(settings, task.earlier, self.bench.device)
        plan = plan_of(self.bench.data, settings.epochs, settings.rounds, settings.options())
        try:
            hardened = self._harden(settings, run, lambda made: watch(_seen(made, plan)))
        finally:
            _without_state(run)
        hardened.write_into(run)
        measured = self._measure(hardened, plan, task.seed)
        more: dict[str, Any] = {
            "kept_round": hardened.kept,
            "seconds": time.monotonic() - began,
            **measured.more,
        }
        if self.audited:
            made = audit(
                hardened.model,
                self.bench.data,
                settings.preset,
                settings.seed,
                confidence=settings.confidence,
                max_lit=settings.max_lit,
                ood_level=settings.ood_level,
                rivals=settings.rivals,
            )
            made.write_into(run)
            more["audit"] = {
                "verdict": str(made.verdict),
                "fooled": made.json["fooled"],
                "attempts": made.json["attempts"],
            }
        return replace(measured, more=more)

    def _harden(
        self, settings: HardenSettings, run: RunFolder, finished: Callable[[Round], None]
    ) -> Hardened:
        def told(made: Round | None, batch: int, batches: int, words: str) -> None:
            if made is not None:
                finished(made)

        return harden(
            self.bench.network(settings),
            self.bench.data,
            settings.objective,
            settings.seed,
            epochs=settings.epochs,
            rounds=settings.rounds,
            confidence=settings.confidence,
            max_lit=settings.max_lit,
            ood_level=settings.ood_level,
            rivals=settings.rivals,
            run=run,
            resume=True,
            watch=told,
            device=self.bench.device,
            **settings.options(),
        )

    def _measure(self, hardened: Hardened, plan: HardeningPlan, seed: int) -> Measured:
        bench, data = self.bench, self.bench.data
        real, classes, want = data.validation, len(data.classes), self.bench.conditions
        record = real_record(hardened.model, real.images, real.labels, classes, want.confidence)
        explorer = Explorer(
            data.shape,
            classes,
            want,
            bench.gate,
            (real.images, real.labels),
            HardeningPlan.fresh_steps,
            self.attempts,
        )
        # of the sweep, not of the trial: the attempts that measure are the same for all trials, so
        # that luck is, too
        best = explorer.fresh(hardened.model, "logits", seed_of(seed, "measure")).best
        fewest = int(best.fewest.min())
        rounds = tuple(_seen(r, plan) for r in hardened.rounds)
        more = {
            "taken_for_fake": record["taken_for_fake"],
            "fewest_lit": None if fewest >= NEVER else fewest,
        }
        return Measured(
            record["accuracy"], record["confident"], int(best.met.sum()), len(best), rounds, more
        )


def _seen(made: Round, plan: HardeningPlan) -> Seen:
    return Seen(
        (made.index + 1) / plan.rounds,
        made.validation_accuracy,
        made.validation_confident,
        made.fresh_rate,
    )


def _begin(settings: HardenSettings, earlier: Path | None, device: torch.device) -> RunFolder:
    """The run folder of a trial.

    What an earlier try of it had reached is taken over, and gone on from to the same bits.
    """
    run = RunFolder.create(settings.out or "")
    run.begin("harden", settings.as_config(), device)
    for name in (STATE, "metrics.jsonl"):
        if earlier is not None and RunFolder(earlier).has(name):
            run.write(name, RunFolder(earlier).read_bytes(name))
    return run


def _without_state(run: RunFolder) -> None:
    run.remove(STATE)
    with suppress(OSError):
        (run / STATE).parent.rmdir()
