"""One trial: harden a network, and measure it on validation images and by fresh attempts."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from blankcheck.api.audit import audit
from blankcheck.api.harden import Hardened, check_network, harden, plan_of
from blankcheck.api.third_party import usable_attacks
from blankcheck.auditing import check_enough, level_of
from blankcheck.classifiers import ARCHITECTURES, UnitClassifier, load_model
from blankcheck.classifiers.loading import parse_normalize, refuse_normalize
from blankcheck.data import Data, load_data
from blankcheck.errors import ArgumentError
from blankcheck.hardening import HardeningPlan, Round
from blankcheck.hardening.exploring import Explorer
from blankcheck.hardening.measures import real_record
from blankcheck.judging import OODTest
from blankcheck.parallel.devices import choose_threads, resolve
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.state import STATE
from blankcheck.seeds import seed_of
from blankcheck.sweep.study import Job, Seen
from blankcheck.types import NEVER, Conditions, default_max_lit

CONDITIONS = ("confidence", "max_lit", "ood_level", "rivals")


class HardenTrial:
    """What the trials of a worker need, read once, and how one is run.

    Raises ArgumentError or DataError where conditions or data cannot be used.
    """

    def __init__(self, job: Job) -> None:
        # workers share the cores
        torch.set_num_threads(max(1, torch.get_num_threads() // job.options.workers))
        self.job, base = job, job.space.base
        self.device, self.data = resolve(base.device), load_data(base.data, base.data_dir)
        shape, halves = self.data.shape, self.data.halves
        choose_threads(shape)
        limit = base.max_lit if base.max_lit is not None else default_max_lit(shape)
        level = level_of(self.data, base.ood_level)
        self.conditions = Conditions(base.confidence, limit, level)
        check_enough(self.data, level)
        usable_attacks(base.rivals)
        # that of hardening, not the one that judges audits
        most = HardeningPlan.gate_images
        self.gate = OODTest.fit(halves[0].images, level, most=most)

    def check(self) -> Data:
        """Find before the first trial what may be wrong with any, and return the data.

        Raises:
            ArgumentError, DataError or ModelError: `harden` would refuse extreme values.
        """
        fits: set[tuple[Any, ...]] = set()
        for settings in self.job.space.extremes():
            try:
                plan = self._plan(settings)
            except ArgumentError as error:
                search = self.job.space.search
                values = ", ".join(f"{name} {getattr(settings, name)}" for name in search)
                raise ArgumentError(f"search allows {values}, but {error}") from error
            if (kind := (settings.model, settings.objective, settings.certify)) not in fits:
                check_network(self._network(settings), self.data, settings.objective, plan)
                fits.add(kind)
        return self.data

    def _plan(self, settings: Any) -> HardeningPlan:
        return plan_of(self.data, settings.epochs, settings.rounds, settings.options())

    def _network(self, settings: Any) -> UnitClassifier | str:
        """A name where a built-in network is trained from its start, else the network itself."""
        if settings.weights is None and settings.model in ARCHITECTURES:
            refuse_normalize(settings.model, settings.normalize)
            return str(settings.model)
        named = settings.model, settings.weights, self.data, parse_normalize(settings.normalize)
        trusted, temperature = settings.unsafe_pickle, settings.temperature
        network = load_model(*named, unsafe_pickle=trusted, temperature=temperature)
        return network.to(self.device)

    def __call__(
        self, settings: Any, folder: str, watch: Callable[[Seen | None], None]
    ) -> dict[str, Any]:
        """Harden in a run folder, which is gone on with where an earlier try left a state there,
        measure, and leave no state."""
        began, plan = time.monotonic(), self._plan(settings)
        run = RunFolder.create(RunFolder(self.job.out).below(folder))
        if not run.has(STATE):
            run.begin("harden", settings.as_config(), self.device)
        same = {name: getattr(settings, name) for name in CONDITIONS}
        given = self.data, settings.objective, settings.seed
        asked = same | settings.options() | {"epochs": settings.epochs, "rounds": settings.rounds}
        asked |= {"run": run, "resume": True, "device": self.device}

        def after_round(made: Round | None, batch: int, batches: int, words: str) -> None:
            if made is None or not words:  # a round that a trial goes on behind was told before
                watch(None if made is None else _seen(made, plan))

        try:
            hardened = harden(self._network(settings), *given, watch=after_round, **asked)
        except Exception:
            _without_state(run)
            raise
        _without_state(run)
        hardened.write_into(run)
        found = self._measured(hardened) | {"rounds": [_seen(r, plan) for r in hardened.rounds]}
        if self.job.options.audit:
            how = settings.preset, settings.seed
            made = audit(hardened.model, self.data, *how, progress=False, **same)
            made.write_into(run)
            found["audit"] = {name: made.json[name] for name in ("verdict", "fooled", "attempts")}
        return found | {"kept_round": hardened.kept, "seconds": time.monotonic() - began}

    def _measured(self, hardened: Hardened) -> dict[str, Any]:
        shape, classes, want = self.data.shape, len(self.data.classes), self.conditions
        real = self.data.validation.images, self.data.validation.labels
        record = real_record(hardened.model, *real, classes, want.confidence)
        budget = HardeningPlan.fresh_steps, self.job.options.attempts
        explorer = Explorer(shape, classes, want, self.gate, real, *budget, self.data.targets)
        # a seed of the sweep, not of the trial: the same attempts measure all trials
        seed = seed_of(self.job.options.seed, "measure")
        best = explorer.fresh(hardened.model, "logits", seed).best
        fewest = int(best.fewest.min())
        return {
            **{name: record[name] for name in ("accuracy", "confident", "taken_for_fake")},
            "fooled": int(best.met.sum()),
            "attempts": len(best),
            "fewest_lit": None if fewest >= NEVER else fewest,
        }


def _seen(made: Round, plan: HardeningPlan) -> dict[str, float]:
    return {
        "share": (made.index + 1) / plan.rounds,
        "accuracy": made.validation_accuracy,
        "confident": made.validation_confident,
        "rate": made.fresh_rate,
    }


def _without_state(run: RunFolder) -> None:
    run.remove(STATE)
    with suppress(OSError):
        (run / STATE).parent.rmdir()
