"""`blankcheck train`: a network, trained plainly."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from blankcheck.api.audit import MODEL
from blankcheck.auditing import check_fits
from blankcheck.classifiers import TrainingPlan, UnitClassifier, evaluate, load_model, train_plainly
from blankcheck.classifiers.loading import model_bytes
from blankcheck.classifiers.precision import check_precision
from blankcheck.classifiers.trial import check_trainable, frozen_words
from blankcheck.cli.commands.shared import Work, claim_of, start, working
from blankcheck.cli.settings import TrainSettings
from blankcheck.cli.terminal import Terminal
from blankcheck.data import Data
from blankcheck.report.page import write_report
from blankcheck.trackers import check_trackers


def train_command(settings: TrainSettings, terminal: Terminal) -> int:
    """Train plainly; writes `model.safetensors`, metrics and a report."""
    check_trackers(settings.tracker)
    claim = claim_of(settings, "train")
    device, data = start(settings)
    classifier = load_model(settings.model, data=data).to(device)
    check_trainable(classifier)
    check_fits(classifier, data)
    how = {name: getattr(settings, name) for name in ("batch", "lr", "precision", "augment")}
    plan = replace(TrainingPlan.default(len(data.train), settings.epochs), **how)
    check_precision(plan.precision, device)
    with working(settings, claim, data, terminal) as work:
        if frozen := frozen_words(classifier):
            terminal.note(f"training{frozen}")
        _train(classifier.to(work.team.device), data, plan, settings.seed, work)
    return 0


def _train(network: UnitClassifier, data: Data, plan: TrainingPlan, seed: int, work: Work) -> None:
    """Train, and where this process leads, keep the network and say how good it is."""
    team, run, terminal = work
    records: list[dict[str, Any]] = []
    began = time.monotonic()
    with terminal.progress() as bar:
        bar("train", 0, plan.epochs, "")

        def watch(epoch: int, loss: float) -> None:
            records.append({"kind": "epoch", "epoch": epoch, "real_loss": loss})
            if team.leads:
                run.write_lines("metrics.jsonl", records)
            bar("train", epoch + 1, plan.epochs, f"loss {loss:.4f}")

        train_plainly(network, data.train, plan, seed, watch, peers=team.peers)
    if not team.leads:
        return
    seconds = time.monotonic() - began
    run.write(MODEL, model_bytes(network))
    real = evaluate(network, data.test, len(data.classes), 0.9)
    record: dict[str, Any] = {
        "real_accuracy": real.accuracy,
        "real_confident": real.confident,
        "seconds": seconds,
    }
    run.write_lines("metrics.jsonl", [*records, {"kind": "train", **record}])
    report, weights = str(write_report(run)), str(run / MODEL)
    sure = f"{real.confident:.2%} with confidence >= 0.9"
    line = f"{real.accuracy:.2%} of test images right, {sure}, {seconds:.0f} s"
    record |= {"weights": weights, "report": report}
    terminal.result("TRAINED", [line, f"weights: {weights}"], report, record)
