"""An audit from a classifier to a verdict, and its run folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from blankcheck.api.bars import told
from blankcheck.api.showing import Shown
from blankcheck.api.third_party import usable_attacks
from blankcheck.api.twins import get_twins
from blankcheck.arguments import plain_arguments
from blankcheck.auditing import Gathered, Twin, check_enough, gather, level_of, preset_named
from blankcheck.auditing.attempts import Note
from blankcheck.auditing.judges import Level
from blankcheck.classifiers import UnitClassifier, load_model
from blankcheck.classifiers.loading import model_bytes
from blankcheck.classifiers.trial import check_classifier
from blankcheck.classifiers.wrapper import device_of
from blankcheck.data import Data, check_data
from blankcheck.errors import ArgumentError
from blankcheck.judging import FIRST, Finding, Score, Verdict, judge, run_checks, verdict_json
from blankcheck.judging.evidence import Attempt, Evidence
from blankcheck.judging.ood import AUTO
from blankcheck.parallel.spread import Spread, alone
from blankcheck.runs.claims import Claim
from blankcheck.runs.folder import MISSES, RunFolder
from blankcheck.runs.misses import pack_misses
from blankcheck.runs.witnesses import confirm, pack, unpack
from blankcheck.seeds import check_seed
from blankcheck.types import Classifier, Conditions, default_max_lit

WITNESSES = "witnesses.safetensors"
MODEL = "model.safetensors"
CONFIRMATIONS = 3
"""How often a witness is scored again from what was stored, for networks that answer at random."""


@dataclass(frozen=True, repr=False)
class Audit(Shown):
    """A verdict and all it rests on.

    Args:
        gathered: what was measured.
        packed: what stands, or would stand, in `witnesses.safetensors`.
        findings: of the checks of the search.
        classifier: what was audited.
        source: the name of the data.
        preset: how hard the search was.
        seed: of everything random.
    """

    gathered: Gathered
    packed: bytes
    findings: tuple[Finding, ...]
    classifier: Classifier
    source: str
    preset: str
    seed: int

    def __repr__(self) -> str:
        said = f"{self.rate:.1%} of {len(self.evidence.attempts)} attempts fooled"
        more = sum(attempt.fooled for attempt in self.evidence.extra)
        checks = f", {more} images by the checks" if more and not self.rate else ""
        return f"Audit({self.verdict}, {said}, at most {self.rate_upper_95:.1%}{checks})"

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
        """Tensors `images`, `targets`, `confidence`, `lit`, `ood_p` and more, a row per witness."""
        return unpack(self.packed, WITNESSES).tensors

    @property
    def _architecture(self) -> str:
        known = self.classifier.describe if isinstance(self.classifier, UnitClassifier) else {}
        return str(known.get("architecture", ""))

    def save(
        self,
        folder: str | os.PathLike[str],
        config: dict[str, Any] | None = None,
        *,
        overwrite: bool = False,
    ) -> RunFolder:
        """Write a run folder, report included.

        Args:
            folder: where.
            config: settings to record; default what the audit knows of itself.
            overwrite: in place of a run that is there.

        Raises:
            RunFolderError: a run is there and `overwrite` is not given.
        """
        from blankcheck.report.page import write_report

        claim = Claim(Path(folder), "audit", overwrite, ways="overwrite=True begins anew")
        with claim.opened() as run:
            self._fill(run, config)
            write_report(run)
        return run

    def _fill(self, run: RunFolder, config: dict[str, Any] | None = None) -> None:
        said: dict[str, Any] = {"data": self.source, "model": self._architecture}
        said |= {"seed": self.seed, "preset": self.preset, **asdict(self.evidence.conditions)}
        del said["unit"]  # which no setting chooses
        test = self.evidence.ood
        if test is not None and test.level_chosen == AUTO:
            said["ood_level"] = AUTO
        run.begin("audit", config or said, device_of(self.classifier))
        self._write_files(run)

    def to_frame(self) -> Any:
        """The attempts as a `pandas.DataFrame`, one a row, as in `attempts.jsonl`, with the names
        of their classes.

        Raises:
            ArgumentError: pandas cannot be imported.
        """
        try:
            import pandas
        except ImportError as error:
            raise ArgumentError("to_frame needs the package pandas: pip install pandas") from error
        names = self.evidence.classes
        rows = ({"class": names[row["target"]], **row} for row in self._attempts())
        return pandas.DataFrame(rows).rename_axis("attempt")

    def write_into(self, run: RunFolder) -> None:
        """Write verdict, witnesses, misses, attempts, metrics and report."""
        from blankcheck.report.page import write_report

        self._write_files(run)
        write_report(run)

    def _attempts(self) -> Iterator[dict[str, Any]]:
        want = self.evidence.conditions
        return (asdict(a) | {"violated": a.violates(want)} for a in self.evidence.attempts)

    def _write_files(self, run: RunFolder) -> None:
        run.write(WITNESSES, self.packed)
        run.write(MISSES, pack_misses(self.gathered.misses))
        if self._architecture and isinstance(self.classifier, UnitClassifier):
            run.write(MODEL, model_bytes(self.classifier))
        run.write_lines("attempts.jsonl", self._attempts())
        # metrics of the hardening that the audit belongs to stay
        logged = run.read_lines("metrics.jsonl")
        kept = [r for r in logged if not str(r.get("kind", "")).startswith("audit")]
        run.write_lines("metrics.jsonl", [*kept, *audit_records(self.json)])
        run.write_json("verdict.json", self.json)


FIGURES = (
    *("attempts", "fooled", "rate", "rate_upper_95", "median_lit", "min_lit"),
    *("real_accuracy", "real_confident", "real_taken_for_fake"),
)
"""Of a whole audit, that stand in `metrics.jsonl`."""


def audit_records(verdict: dict[str, Any]) -> list[dict[str, Any]]:
    """Records for `metrics.jsonl`, from the contents of `verdict.json`: the whole audit, then one
    per target."""
    whole = {"kind": "audit", **{name: verdict[name] for name in FIGURES}}
    rows = verdict["targets"].items()
    return [whole, *({"kind": "audit-target", "target": int(t), **row} for t, row in rows)]


# each argument is a choice of its own; all but four have a default
@plain_arguments
def audit(
    model: nn.Module | Classifier,
    data: Data,
    preset: str = "standard",
    seed: int = 0,
    *,
    confidence: float = 0.9,
    max_lit: int | None = None,
    ood_level: Level = "auto",
    progress: bool | None = None,
    note: Note | None = None,
    twin: Callable[[], Twin] | None = None,
    scores: Sequence[Score] | None = None,
    rivals: bool = False,
    spread: Spread | None = None,
) -> Audit:
    """Search `model` for fooling images, judge them, test the search's strength, give a verdict.

    Args:
        model: from images (n, c, h, w) in [0, 1] to outputs (n, m).
        data: real images of the classes that the model knows.
        preset: `smoke` (seconds), `standard` (minutes) or `proof`.
        seed: of everything random.
        confidence: least probability of the target class, in (0, 1).
        max_lit: most lit features; None takes 300, less for small images.
        ood_level: largest p-value of the out-of-distribution test; `auto` is 0.001 where enough
            real images calibrate it, else 0.01.
        progress: show bars; None where a terminal or a notebook shows them.
        note: told in their place how far the audit is, as note(stage, done, all, words).
        twin: makes the network of the positive control; default: trained on half of the data, and
            cached.
        scores: what the out-of-distribution test looks at; default `FIRST`.
        rivals: also run attacks of other libraries, where they are installed.
        spread: by which processes share the work, all of which get the audit; default this one.

    Raises:
        ArgumentError, DataError, ModelError: with one line.
    """
    check_classifier(model)
    check_data(data)
    limit = max_lit if max_lit is not None else default_max_lit(data.shape)
    conditions = Conditions(confidence, limit, level_of(data, ood_level))
    check_seed(seed)
    check_enough(data, conditions.ood_level)
    classifier: Classifier = load_model(model) if isinstance(model, nn.Module) else model

    how, others = preset_named(preset), usable_attacks(rivals)
    with told(note, progress) as tell:

        def twins() -> Iterator[Twin]:
            asked = classifier, data, device_of(classifier)
            return iter([twin()]) if twin else get_twins(*asked, tell)

        asked = (tell, FIRST if scores is None else scores, *others, spread or alone)
        found = gather(classifier, data, conditions, how, twins, seed, *asked)
    found = _chosen(found, AUTO if ood_level == AUTO else "given")
    found, packed = _confirmed(found, classifier, data)
    return Audit(found, packed, run_checks(found.evidence), classifier, data.source, preset, seed)


def _chosen(found: Gathered, how: str) -> Gathered:
    """How the level was chosen, noted."""
    record = found.evidence.ood
    assert record is not None, "an audit has a test"
    evidence = replace(found.evidence, ood=replace(record, level_chosen=how))
    return replace(found, evidence=evidence)


def _confirmed(found: Gathered, classifier: Classifier, data: Data) -> tuple[Gathered, bytes]:
    """Without the witnesses that another scoring of the stored images does not confirm, as happens
    with classifiers that answer at random; and the file of the others."""
    packed = pack(found, data)
    again, want = unpack(packed, WITNESSES), found.evidence.conditions
    scored = [confirm(again, classifier, found.form, want) for _ in range(CONFIRMATIONS)]
    kept = torch.stack(scored).all(dim=0)
    if bool(kept.all()):
        return found, packed
    confirmed = iter(kept.tolist())

    def still(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
        return tuple(replace(a, fooled=bool(next(confirmed))) if a.fooled else a for a in attempts)

    attempts, extra = still(found.evidence.attempts), still(found.evidence.extra)
    extra = tuple(a for a in extra if a.fooled)
    evidence = replace(found.evidence, attempts=attempts, extra=extra)
    found = replace(found, evidence=evidence, witnesses=found.witnesses.rows(kept))
    return found, pack(found, data)
