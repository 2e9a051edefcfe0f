"""An audit from a classifier to a verdict, and its run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blankcheck.api.third_party import usable_rivals
from blankcheck.api.twins import get_twins
from blankcheck.auditing import Gathered, Twin, Twins, gather, preset_named
from blankcheck.auditing.gather import Note
from blankcheck.classifiers import UnitClassifier, load_model
from blankcheck.classifiers.loading import model_bytes
from blankcheck.classifiers.wrapper import device_of
from blankcheck.data import Data
from blankcheck.judging import (
    FIRST,
    Evidence,
    Finding,
    Score,
    Verdict,
    judge,
    run_checks,
    verdict_json,
)
from blankcheck.judging.evidence import Attempt
from blankcheck.parallel.spread import Spread, alone
from blankcheck.runs.claims import Claim
from blankcheck.runs.folder import RunFolder
from blankcheck.runs.witnesses import confirm, pack, unpack
from blankcheck.types import Classifier, Conditions, default_max_lit

WITNESSES = "witnesses.safetensors"
MODEL = "model.safetensors"
CONFIRMATIONS = 3
"""How often a witness is scored again from what was stored.

Once is enough for a network that does not answer at random.
"""


@dataclass(frozen=True)
class Audit:
    """A verdict and all it rests on.

    `witnesses` is what stands, or would stand, in `witnesses.safetensors`.
    """

    gathered: Gathered
    packed: bytes
    findings: tuple[Finding, ...]
    classifier: Classifier
    source: str
    preset: str
    seed: int

    def __repr__(self) -> str:
        rate, at_most = f"{self.rate:.1%}", f"{self.rate_upper_95:.1%}"
        return f"Audit({self.verdict}, {rate} of {len(self.evidence.attempts)} attempts fooled, at most {at_most})"

    @property
    def evidence(self) -> Evidence:
        """The plain numbers."""
        return self.gathered.evidence

    @cached_property
    def verdict(self) -> Verdict:
        """FOOLED, RESISTED or INCONCLUSIVE."""
        return judge(self.evidence, self.findings)

    @cached_property
    def json(self) -> dict[str, Any]:
        """The contents of `verdict.json`."""
        return verdict_json(self.evidence, self.findings, self.verdict)

    @property
    def rate(self) -> float:
        """Share of the fixed attempts that were fooled."""
        return float(self.json["rate"] or 0.0)

    @property
    def rate_upper_95(self) -> float:
        """One-sided 95 % Clopper-Pearson upper bound of the rate; speaks of this generator only."""
        return float(self.json["rate_upper_95"])

    @cached_property
    def witnesses(self) -> dict[str, Tensor]:
        """Tensors `images`, `targets`, `confidence`, `lit`, `ood_p` and more, one row per witness."""
        return unpack(self.packed, WITNESSES).tensors

    def save(
        self,
        folder: str | os.PathLike[str],
        config: dict[str, Any] | None = None,
        *,
        overwrite: bool = False,
    ) -> RunFolder:
        """Write the run folder, report included. config: settings to record; overwrite: in place of
        a run that is there, which else raises RunFolderError."""
        known = self.classifier.describe if isinstance(self.classifier, UnitClassifier) else {}
        want = self.evidence.conditions
        said = {
            "data": self.source,
            "model": known.get("architecture", ""),
            "seed": self.seed,
            "preset": self.preset,
            "confidence": want.confidence,
            "max_lit": want.max_lit,
            "ood_level": want.ood_level,
        }
        with Claim(
            Path(folder), "audit", overwrite, ways="overwrite=True begins anew"
        ).opened() as run:
            run.begin("audit", config or said, device_of(self.classifier))
            self.write_into(run)
        return run

    def write_into(self, run: RunFolder) -> None:
        """Write verdict, witnesses, attempts, metrics and report."""
        from blankcheck.report.page import write_report

        run.write(WITNESSES, self.packed)
        if isinstance(self.classifier, UnitClassifier) and self.classifier.describe.get(
            "architecture"
        ):
            run.write(MODEL, model_bytes(self.classifier))
        want = self.evidence.conditions
        run.write_lines(
            "attempts.jsonl",
            (asdict(a) | {"violated": a.violates(want)} for a in self.evidence.attempts),
        )
        run.write_lines("metrics.jsonl", [*_kept(run), *audit_records(self.json)])
        run.write_json("verdict.json", self.json)
        write_report(run)


def audit_records(verdict: dict[str, Any]) -> list[dict[str, Any]]:
    """Records for `metrics.jsonl`, from the contents of `verdict.json`: the whole audit, then one
    per target."""
    whole = {
        k: verdict[k]
        for k in (
            "attempts",
            "fooled",
            "rate",
            "rate_upper_95",
            "median_lit",
            "min_lit",
            "real_accuracy",
            "real_confident",
            "real_taken_for_fake",
        )
    }
    each = [
        {"kind": "audit-target", "target": int(t), **row} for t, row in verdict["targets"].items()
    ]
    return [{"kind": "audit", **whole}, *each]


def _kept(run: RunFolder) -> list[dict[str, Any]]:
    """Metrics of other kinds that stand in the folder already: those of the hardening it belongs
    to."""
    return [
        r for r in run.read_lines("metrics.jsonl") if not str(r.get("kind", "")).startswith("audit")
    ]


def audit(
    model: nn.Module | Classifier,
    data: Data,
    preset: str = "standard",
    seed: int = 0,
    *,
    confidence: float = 0.9,
    max_lit: int | None = None,
    ood_level: float = 0.01,
    note: Note = lambda stage, done, all_, words: None,
    twin: Callable[[], Twin] | None = None,
    scores: Sequence[Score] = FIRST,
    rivals: bool = False,
    spread: Spread = alone,
) -> Audit:
    """Search `model` for fooling images, judge them, test the search's strength, and give a
    verdict.

    model: a network from images in [0, 1] to outputs. data: real images of the classes it knows.
    preset: `smoke` (seconds), `standard`, `proof`. seed: of everything random. confidence, max_lit,
    ood_level: the three conditions; `max_lit` None takes 300, less for small images. note: told how
    far the audit is, as note(stage, done, all, words). twin: makes the network of the positive
    control; default: trained on half of the data and cached. scores: what the out-of-distribution
    test looks at; your own are (names, fit) values of `Score`. rivals: also run attacks of other
    libraries, where they are installed. spread: by which processes share the work; all of them get
    the audit.

    Raises ArgumentError, DataError or ModelError with one line.
    """
    limit = max_lit if max_lit is not None else default_max_lit(data.shape)
    conditions = Conditions(confidence, limit, ood_level)
    classifier: Classifier = load_model(model) if isinstance(model, nn.Module) else model
    device = device_of(classifier)
    twins: Twins = (
        (lambda: iter([twin()]))
        if twin is not None
        else (lambda: get_twins(classifier, data, device))
    )
    found = gather(
        classifier,
        data,
        conditions,
        preset_named(preset),
        twins,
        seed,
        note,
        scores,
        *usable_rivals(rivals),
        spread,
    )
    packed = pack(found, data)
    again = unpack(packed, WITNESSES)
    kept = torch.stack(
        [confirm(again, classifier, found.form, conditions) for _ in range(CONFIRMATIONS)]
    ).all(dim=0)
    if not bool(kept.all()):
        found = _only_confirmed(found, kept)
        packed = pack(found, data)
    return Audit(found, packed, run_checks(found.evidence), classifier, data.source, preset, seed)


def _only_confirmed(found: Gathered, kept: Tensor) -> Gathered:
    """Without the witnesses that another scoring does not confirm, as happens with classifiers that
    answer at random."""
    confirmed = iter(kept.tolist())

    def still(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
        return tuple(replace(a, fooled=bool(next(confirmed))) if a.fooled else a for a in attempts)

    attempts = still(found.evidence.attempts)
    extra = tuple(a for a in still(found.evidence.extra) if a.fooled)
    evidence = replace(found.evidence, attempts=attempts, extra=extra)
    return replace(found, evidence=evidence, witnesses=found.witnesses.rows(kept.to(torch.bool)))
