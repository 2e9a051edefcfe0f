"""What ends a round: the new network is searched, and shown every set of fooling images so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from blankcheck.auditing import AttemptResults, Twin
from blankcheck.certifying import certify
from blankcheck.classifiers import UnitClassifier
from blankcheck.data import Split
from blankcheck.hardening.exploring import Explorer, together
from blankcheck.hardening.history import Record, Round, harmonic
from blankcheck.hardening.measures import FoolingSet, real_record, search_record, set_record
from blankcheck.hardening.metric_sums import Trained
from blankcheck.hardening.objectives import objective_named
from blankcheck.hardening.plan import HardeningPlan
from blankcheck.judging import upper_bound_95
from blankcheck.types import NEVER


@dataclass(frozen=True)
class Evaluation:
    """What was measured of the network of a round.

    Args:
        max_lit: of the conditions.
        tried: the fresh attempts.
        real: the record of the validation images.
        handled: the share of each set so far that the network handles.
        proved: the k that holds for every class; -1: there is none; None: none is asked for.
        records: for `metrics.jsonl`.
    """

    max_lit: int
    tried: AttemptResults
    real: Record
    handled: list[float]
    proved: int | None
    records: list[Record]

    def as_round(self, index: int, epochs: int, told: Trained, kept: bool, passes: int) -> Round:
        """The round in one line, its seconds not set yet; passes: of the searches in training."""
        best, n = self.tried.best, len(self.tried.best)
        fooled, fewest = int(best.met.sum()), int(best.fewest.min())
        real, fooling = told.real.means(), told.fooling.means()
        images = real["images"] + fooling["images"]
        share = fooling["images"] / max(1, told.seen)
        confident = float((best.fewest <= self.max_lit).float().mean())
        accuracy = self.real["accuracy"]
        # in the order of the fields
        training = real["loss"] or 0.0, fooling["objective"] or 0.0, share
        sure = fooling["confidence"] or 0.0, accuracy, self.real["confident"]
        fresh = n, fooled / n, upper_bound_95(fooled, n), confident
        verdict = None if fewest >= NEVER else fewest, harmonic(accuracy, self.handled), kept
        bound = told.penalty, self.proved
        cost = passes + int(best.forwards.sum()), passes + int(best.steps.sum())
        row = (*training, *sure, *fresh, *verdict, *bound, *cost, images)
        return Round(index, epochs, *row)


@dataclass
class Evaluator:
    """Looks at each new network, and keeps every set that it shows to later ones.

    Args:
        classifier: the network as it is now.
        plan: of the hardening.
        explorer: makes the searches.
        validation: real images.
        make_twin: a plain network whose fooling images are shown as well, or None.
        trained: images that earlier rounds trained on.
        fresh: images found against the networks that ended them.
        of_twin: images made against the twin, by how they were made; None before the first round.
    """

    classifier: UnitClassifier
    plan: HardeningPlan
    explorer: Explorer
    validation: Split
    make_twin: Callable[[], Twin | None]
    trained: list[FoolingSet] = field(default_factory=list)
    fresh: list[FoolingSet] = field(default_factory=list)
    of_twin: dict[str, FoolingSet] | None = None

    def look(
        self, told: Trained, spares: Callable[[float], bool], seed: Callable[[str], int]
    ) -> Evaluation:
        """Search the network, and show it every set.

        Args:
            told: the training of the round.
            spares: from the share of real images that are right and confident to whether a search
                that finds nothing spares the network a round.
            seed: of what is drawn for a purpose in this round.
        """
        self.classifier.eval()
        self.trained.append(self.explorer.as_set(*told.shown[0]))
        real = self.explorer.once(self._real)
        tried = self._fresh_search(spares(real["confident"]), seed)
        self.fresh.append(self.explorer.set_of(tried))
        if self.of_twin is None:
            self.of_twin = self.explorer.twin_sets(self.make_twin, seed("twin"))
        searches, sets = self._searches(tried, seed)
        shown = self._shown(sets)
        records = [*_of_training(told), *searches, *shown]
        records.append({"kind": "real", "split": "validation", **real})
        handled = [s["handled"] for s in shown if s["what"] in ("trained", "fresh") and s["images"]]
        max_lit = self.explorer.conditions.max_lit
        return Evaluation(max_lit, tried, real, handled, self._proved(), records)

    def handled(self, sets: list[FoolingSet]) -> list[float]:
        """The share of each of these sets that the network handles; empty ones are left out."""
        return self.explorer.once(lambda: [self._answers(s)["handled"] for s in sets if len(s)])

    def _fresh_search(self, spares: bool, seed: Callable[[str], int]) -> AttemptResults:
        """Fresh attempts; many more where none of the first fools and that spares a round."""
        tried = self.explorer.fresh(self.classifier, "logits", seed("fresh"))
        left = self.plan.stop_attempts - len(tried.best)
        if self.plan.stop_rate and spares and not bool(tried.best.met.any()) and left > 0:
            more = self.explorer.fresh(self.classifier, "logits", seed("more"), left)
            tried = together(tried, more)
        return tried

    def _searches(
        self, tried: AttemptResults, seed: Callable[[str], int]
    ) -> tuple[list[Record], list[tuple[str, FoolingSet]]]:
        """The records of all searches of this network, and what others than the audit's found."""
        explorer = self.explorer
        others = explorer.others(self.classifier, "logits", seed("others"))
        made = {"fresh": tried, **{f"own:{name}": other for name, other in others.items()}}
        records = []
        for what, each in made.items():
            p_values = explorer.ood_filter.p_values(each.best.images)
            said = search_record(each.best, p_values, explorer.conditions, explorer.classes)
            records.append({"kind": "search", "what": what, **said})
        rivals = explorer.rival_images(self.classifier, "logits", seed("rivals"))
        sets = [(what, explorer.set_of(t)) for what, t in made.items() if what != "fresh"]
        return records, [*sets, *((f"own:{name}", s) for name, s in rivals.items())]

    def _shown(self, own: list[tuple[str, FoolingSet]]) -> list[Record]:
        """How the network answers every set so far; own: what was made against it by others."""
        sets: list[tuple[str, int | None, FoolingSet]] = []
        for what, each in (("trained", self.trained), ("fresh", self.fresh)):
            sets += [(what, index, shown) for index, shown in enumerate(each)]
        sets += [(what, None, shown) for what, shown in (self.of_twin or {}).items()]
        sets += [(what, len(self.fresh) - 1, shown) for what, shown in own]

        def record(i: int) -> Record:
            what, index, shown = sets[i]
            return {"kind": "set", "what": what, "set_round": index, **self._answers(shown)}

        return self.explorer.spread(len(sets), record)

    @property
    def _want(self) -> tuple[int, float]:
        return self.explorer.classes, self.explorer.conditions.confidence

    def _answers(self, shown: FoolingSet) -> Record:
        objective = objective_named(self.plan.objective)
        return set_record(self.classifier, shown, objective, *self._want)

    def unsure(self) -> float:
        """The share of real validation images that are not surely right."""
        self.classifier.eval()
        return 1 - float(self.explorer.once(self._real)["confident"])

    def _real(self) -> Record:
        images, labels = self.validation.images, self.validation.labels
        return real_record(self.classifier, images, labels, *self._want)

    def _proved(self) -> int | None:
        most, explorer = self.plan.certify, self.explorer
        if most is None:
            return None
        subject = self.classifier, explorer.shape, *self._want
        made = explorer.once(lambda: certify(*subject, slope_steps=0, most=most))
        return -1 if made.smallest is None else made.smallest

    def state(self) -> dict[str, Any]:
        """All sets, as tensors."""
        twin = self.of_twin
        return {
            "trained": [s.state() for s in self.trained],
            "fresh": [s.state() for s in self.fresh],
            "of_twin": None if twin is None else {name: s.state() for name, s in twin.items()},
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from such a state."""
        self.trained = [FoolingSet(*s) for s in state["trained"]]
        self.fresh = [FoolingSet(*s) for s in state["fresh"]]
        twin = state["of_twin"]
        self.of_twin = None if twin is None else {n: FoolingSet(*s) for n, s in twin.items()}


def _of_training(told: Trained) -> list[Record]:
    both = enumerate(zip(told.real.by_batch(), told.fooling.by_batch(), strict=True))
    batches = [{"kind": "batch", "batch": i, "real": r, "fooling": f} for i, (r, f) in both]
    sums = (("real", told.real), ("fooling", told.fooling))
    return [*batches, *({"kind": "training", "what": what, **s.means()} for what, s in sums)]
