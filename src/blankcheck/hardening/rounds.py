"""The loop: each round trains on real images and on fooling images, then searches the new network
and looks at it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch

from blankcheck.auditing import AttemptResults, Twin
from blankcheck.auditing.third_party import ThirdPartyAttack
from blankcheck.certifying import Penalty, Ramp, certify
from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.wrapper import devices_of
from blankcheck.data import Data
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.fooling.starts import Real
from blankcheck.hardening.exploring import Explorer, together
from blankcheck.hardening.history import Kept, Record, Round
from blankcheck.hardening.measures import FoolingSet, real_record, search_record, set_record
from blankcheck.hardening.objectives import Objective
from blankcheck.hardening.plan import HardeningPlan
from blankcheck.hardening.selection import harmonic, plateau, takes_over
from blankcheck.hardening.sources import Ground, source_of
from blankcheck.hardening.trainer import Learner, Trained, Watch
from blankcheck.judging import OODTest, upper_bound_95
from blankcheck.judging.check_rules import MIN_REAL_CONFIDENT
from blankcheck.parallel.peers import ALONE, Peers, own_seed
from blankcheck.parallel.spread import Spread, alone
from blankcheck.seeds import own_random_numbers, seed_of
from blankcheck.types import NEVER, Conditions, default_max_lit

SAMPLE, FULL = 500, 5000
"""Most images of a set that is shown to later networks, when a sample is logged and when everything
is."""
FULL_ATTEMPTS = 4
"""So many times as many searches where everything is logged."""
SETTLED = 2
"""Rounds without a gain in confidence on real images after which there is none to wait for."""
STARTS_FROM = 1000
"""Real images that the starts of a round are made of."""


class Hardening:
    """Hardens `classifier` in place, round by round. Its whole state can be taken and put back
    between rounds.

    twin: a plain network trained on half B, whose fooling images are shown to every network of the
    hardening. rivals: attacks of other libraries to be logged as well. peers: processes that train
    together; spread: how they share the searches that end a round. All of them get the same rounds.
    After the last round `kept` has the network to use, and `records` what `docs/metrics.md` lists.
    """

    def __init__(
        self,
        classifier: UnitClassifier,
        data: Data,
        objective: Objective,
        plan: HardeningPlan,
        conditions: Conditions | None = None,
        seed: int = 0,
        twin: Callable[[], Twin | None] = lambda: None,
        rivals: Sequence[ThirdPartyAttack] = (),
        peers: Peers = ALONE,
        spread: Spread = alone,
    ) -> None:
        self.classifier, self.data, self.objective, self.plan, self.seed = (
            classifier,
            data,
            objective,
            plan,
            seed,
        )
        self.conditions = conditions or Conditions(max_lit=default_max_lit(data.shape))
        self.classes, self.make_twin, self.peers = len(data.classes), twin, peers
        # half A only: the audit's judge is fitted on half B
        gate = OODTest.fit(data.halves[0].images, self.conditions.ood_level, most=plan.gate_images)
        self.train = data.halves[0] if plan.hold_out_twin else data.train
        generator = torch.Generator().manual_seed(seed)
        # what all processes draw alike; one process has one stream for everything
        self.common = generator if peers.size == 1 else torch.Generator().manual_seed(seed)
        self.learner = Learner(
            classifier,
            self.train,
            objective,
            self.classes,
            plan,
            self.common,
            peers,
            self._penalty(),
        )
        if peers.size > 1:
            generator.manual_seed(self._own_seed(-1))
        # with few calibration images even the most unusual image cannot have a smaller p-value
        strict = max(self.conditions.ood_level * plan.gate_level, gate.smallest_p)
        self.ground = Ground(
            classifier,
            self.classes,
            data.shape,
            self.conditions,
            plan,
            gate,
            strict,
            generator,
            self._some_real(),
            peers=peers,
        )
        self.source = source_of(self.ground)
        full = plan.evaluate == "full"
        self.most = FULL if full else SAMPLE
        self.explorer = Explorer(
            data.shape,
            self.classes,
            self.conditions,
            gate,
            (data.validation.images, data.validation.labels),
            plan.fresh_steps,
            plan.fresh_attempts * (FULL_ATTEMPTS if full else 1),
            rivals,
            spread,
        )
        self.next_round, self.ending, self.done = 0, False, False
        self.history: list[Round] = []
        self.records: list[Record] = []
        self.trained: list[FoolingSet] = []
        self.fresh: list[FoolingSet] = []
        self.of_twin: dict[str, FoolingSet] | None = None
        self.kept: Kept | None = None

    def _penalty(self) -> Penalty | None:
        """On what is not proved yet. Raises ModelError for a network that cannot be certified."""
        if self.plan.certify is None:
            return None
        ramp = Ramp(
            self.plan.certify,
            confidence=self.conditions.confidence,
            weight=self.plan.certify_weight,
        )
        return Penalty(self.classifier, self.data.shape, self.classes, ramp)

    def rounds(self, watch: Watch = lambda batch, batches_, words: None) -> Iterator[Round]:
        """The rounds that are left."""
        while not self.done:
            began = time.monotonic()
            # the stream of a round is its own, so that going on after a stop equals not stopping
            self.common.manual_seed(self._seed_of("round"))
            if self.peers.size > 1:
                self.ground.generator.manual_seed(self._own_seed(self.next_round))
            epochs, told = self._train(watch)
            trained = time.monotonic()
            made = self._look(epochs, told, trained - began)
            self._plan_ahead(made)
            self.next_round += 1
            self.history.append(made)
            self._agree(made)
            yield made

    def _seed_of(self, what: str) -> int:
        """Of what this round draws, the same for all processes."""
        return seed_of(self.seed, "hardening", self.next_round, what)

    def _own_seed(self, index: int) -> int:
        """Of the stream of a round that belongs to this process alone."""
        return seed_of(self.seed, "hardening", index, "process", self.peers.rank)

    def _agree(self, made: Round) -> None:
        """Every process decides for itself what to keep and when to end, from numbers that are the
        same for all."""
        told = self.peers.gather((made, self.ending, self.done))
        if any(one != told[0] for one in told):
            raise ModelError(
                "processes do not agree about a round; a network trained by several must answer all alike"
            )

    def _train(self, watch: Watch) -> tuple[int, Trained]:
        plan, ground, index = self.plan, self.ground, self.next_round
        ground.real, ground.anneal, ground.passes = self._some_real(), plan.anneal**index, 0
        dropout = own_seed(self._seed_of("dropout"), self.peers)
        with own_random_numbers(dropout, devices_of(self.classifier)):
            if index == 0 and plan.pretrain:
                before = self.learner.train(
                    plan.pretrain, None, ground, self.conditions.confidence, 0, watch
                )
                self.records.append(
                    {"kind": "training", "what": "pretraining", **before.real.means(), "round": 0}
                )
            if self.ending:
                epochs = plan.epochs_of(plan.rounds - 1)
                self.learner.skip_to_last(epochs)
            else:
                epochs = plan.epochs_of(index)
            self.source.begin_round(ground)
            if plan.network == "fresh" and index > 0:
                self.learner.start_again(epochs)
            told = self.learner.train(
                epochs, self.source, ground, self.conditions.confidence, self.most, watch
            )
        self.trained.append(self.explorer.as_set(*told.shown))
        return epochs + (plan.pretrain if index == 0 else 0), told

    def _some_real(self) -> Real:
        """Real images for starts, drawn at random."""
        index = torch.randperm(len(self.train), generator=self.common)[:STARTS_FROM]
        real = self.train.take(index)
        return real.images, real.labels

    def _look(self, epochs: int, told: Trained, seconds: float) -> Round:
        """Search the network as it is now, show it every set so far, and decide whether it is the
        one to keep."""
        began = time.monotonic()
        self.classifier.eval()
        tried = self._fresh_search()
        self.fresh.append(self.explorer.as_set(tried.best.images, tried.best.targets))
        validation = self.data.validation
        real = self.explorer.once(
            lambda: real_record(
                self.classifier,
                validation.images,
                validation.labels,
                self.classes,
                self.conditions.confidence,
            )
        )
        handled = self._log(told, tried, real)
        proved = self._proved()
        kept = self._keep(real["accuracy"], real["confident"], handled, proved)
        best, n = tried.best, len(tried.best)
        fooled, fewest = int(best.met.sum()), int(best.fewest.min())
        real_told, fooling_told = told.real.means(), told.fooling.means()
        passes = sum(self.peers.gather(self.ground.passes))
        return Round(
            index=self.next_round,
            epochs=epochs,
            real_loss=real_told["loss"] or 0.0,
            fooling_loss=fooling_told["objective"] or 0.0,
            trained_share=fooling_told["images"] / max(1, told.seen),
            fooling_confidence=fooling_told["confidence"] or 0.0,
            validation_accuracy=real["accuracy"],
            validation_confident=real["confident"],
            fresh_attempts=n,
            fresh_rate=fooled / n,
            fresh_upper_95=upper_bound_95(fooled, n),
            fresh_confident=float((best.fewest <= self.conditions.max_lit).float().mean()),
            fresh_fewest=None if fewest >= NEVER else fewest,
            harmonic=harmonic(real["accuracy"], handled),
            kept=kept,
            penalty=told.penalty,
            proved=proved,
            forward=passes + int(best.forwards.sum()),
            backward=passes + int(best.steps.sum()),
            images=real_told["images"] + fooling_told["images"],
            training_seconds=seconds,
            looking_seconds=time.monotonic() - began,
        )

    def _fresh_search(self) -> AttemptResults:
        """Fresh attempts, and many more where none of the first fools and that would end the
        hardening."""
        plan = self.plan
        tried = self.explorer.fresh(self.classifier, "logits", self._seed_of("fresh"))
        last = self.ending or self.next_round + 1 >= plan.rounds
        if (
            plan.stop_rate
            and not last
            and not bool(tried.best.met.any())
            and len(tried.best) < plan.stop_attempts
        ):
            left = plan.stop_attempts - len(tried.best)
            more = self.explorer.fresh(self.classifier, "logits", self._seed_of("more"), left)
            tried = together(tried, more)
        return tried

    def _log(self, told: Trained, tried: AttemptResults, real: Record) -> list[float]:
        """Append the records of this round; returns the share of each set so far that the network
        handles."""
        want, index, gate = self.conditions, self.next_round, self.explorer.gate
        if self.of_twin is None:
            self.of_twin = self.explorer.twin_sets(self.make_twin, self._seed_of("twin"))
        made = {"fresh": tried} | {
            f"own:{name}": other
            for name, other in self.explorer.others(
                self.classifier, "logits", self._seed_of("others")
            ).items()
        }
        batches_ = zip(told.real.by_batch(), told.fooling.by_batch(), strict=True)
        new = [
            {"kind": "batch", "batch": i, "real": r, "fooling": f}
            for i, (r, f) in enumerate(batches_)
        ]
        new += [
            {"kind": "training", "what": what, **tally.means()}
            for what, tally in (("real", told.real), ("fooling", told.fooling))
        ]
        new += [
            {
                "kind": "search",
                "what": what,
                **search_record(each.best, gate.p_values(each.best.images), want, self.classes),
            }
            for what, each in made.items()
        ]
        ours = [("trained", i, s) for i, s in enumerate(self.trained)] + [
            ("fresh", i, s) for i, s in enumerate(self.fresh)
        ]
        others: list[tuple[str, int | None, FoolingSet]] = [
            (what, None, s) for what, s in self.of_twin.items()
        ]
        others += [
            (what, index, self.explorer.as_set(t.best.images, t.best.targets))
            for what, t in made.items()
            if what != "fresh"
        ]
        rivals = self.explorer.rival_images(self.classifier, "logits", self._seed_of("rivals"))
        others += [(f"own:{name}", index, s) for name, s in rivals.items()]
        sets = [*ours, *others]
        answers = self.explorer.spread(len(sets), lambda i: self._answers(sets[i][2]))
        shown = [
            {"kind": "set", "what": w, "set_round": i, **a}
            for (w, i, _), a in zip(sets, answers, strict=True)
        ]
        new += [*shown, {"kind": "real", "split": "validation", **real}]
        self.records += [{**record, "round": index} for record in new]
        return [s["handled"] for s in shown[: len(ours)] if s["images"]]

    def _answers(self, shown: FoolingSet) -> Record:
        return set_record(
            self.classifier, shown, self.objective, self.classes, self.conditions.confidence
        )

    def _proved(self) -> int | None:
        """The k that holds for every class, at most what was asked for; -1 where there is none."""
        want = self.plan.certify
        if want is None:
            return None
        sure = self.conditions.confidence
        made = self.explorer.once(
            lambda: certify(
                self.classifier, self.data.shape, self.classes, sure, slope_steps=0, most=want
            )
        )
        return -1 if made.smallest is None else made.smallest

    def _keep(
        self, real: float, confident: float, handled: list[float], proved: int | None
    ) -> bool:
        """Compare with the network kept so far, which is shown the new sets first."""
        now = {
            name: tensor.detach().cpu().clone()
            for name, tensor in self.classifier.state_dict().items()
        }
        # what less was asked of is no rival: a network that is still far from the proof may be
        # timid, or have proved little
        if self.kept is not None and self.learner.asked == self.kept.asked:
            self.classifier.load_state_dict(self.kept.network)
            new = (self.trained[-1], self.fresh[-1])
            self.kept.handled += self.explorer.once(
                lambda: [self._answers(s)["handled"] for s in new if len(s)]
            )
            self.classifier.load_state_dict(now)
            more = (proved or 0) - (self.kept.proved or 0)
            if not takes_over(
                harmonic(real, handled), self.kept.score, confident - self.kept.confident, more
            ):
                return False
        self.kept = Kept(now, self.next_round, real, confident, handled, proved, self.learner.asked)
        return True

    def _plan_ahead(self, made: Round) -> None:
        """Whether a round follows: none after the last; one more, to let the learning rate fall,
        after early success."""
        plan = self.plan
        if self.ending or self.next_round + 1 >= plan.rounds:
            self.done = True
            return
        # resisting is half of it: a network that is sure of little, or still getting surer of real
        # images, goes on
        sure = [r.validation_confident for r in (*self.history, made)]
        settled = made.validation_confident >= MIN_REAL_CONFIDENT and plateau(sure, SETTLED)
        proved = plan.certify is None or (made.proved is not None and made.proved >= plan.certify)
        enough = made.fresh_upper_95 <= plan.stop_rate and settled and proved
        flat = plateau([r.harmonic for r in (*self.history, made)], plan.patience)
        self.ending = enough or flat
        self.done = self.ending and plan.network == "fresh"

    def state(self) -> dict[str, Any]:
        """Tensors and plain numbers only, so that `torch.load(weights_only=True)` reads it back.
        Every process must ask for
        it: what is in it of all processes is what each of them holds."""
        return {
            "plan": asdict(self.plan),
            "learner": self.learner.state(),
            "sources": self.peers.gather(self.source.state()),
            "progress": [self.next_round, self.ending, self.done],
            "history": [asdict(r) for r in self.history],
            "trained": [s.state() for s in self.trained],
            "fresh": [s.state() for s in self.fresh],
            "of_twin": None
            if self.of_twin is None
            else {name: s.state() for name, s in self.of_twin.items()},
            "kept": None if self.kept is None else vars(self.kept),
        }

    def load_state(self, state: dict[str, Any], records: Sequence[Record] = ()) -> None:
        """Go on from a state taken between two rounds, by as many processes or others. records:
        those of the rounds before.

        Raises ArgumentError with the differences when it was taken under another plan.
        """
        plan = asdict(self.plan)
        differ = [
            f"{name} was {was!r}, is {plan.get(name)!r}"
            for name, was in state["plan"].items()
            if was != plan.get(name)
        ]
        if differ:
            raise ArgumentError(
                f"a hardening goes on only under the plan it began with: {'; '.join(differ)}"
            )
        self.learner.load(state["learner"])
        self.source.load(state["sources"], self.peers)
        self.next_round, self.ending, self.done = state["progress"]
        self.history = [Round(**r) for r in state["history"]]
        self.trained, self.fresh = (
            [FoolingSet(*s) for s in state[name]] for name in ("trained", "fresh")
        )
        of_twin = state["of_twin"]
        self.of_twin = (
            None if of_twin is None else {name: FoolingSet(*s) for name, s in of_twin.items()}
        )
        self.kept = None if state["kept"] is None else Kept(**state["kept"])
        self.records = [r for r in records if r.get("round", -1) < self.next_round]
