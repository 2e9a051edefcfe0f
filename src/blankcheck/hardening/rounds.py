"""The loop: each round trains on real and on fooling images, then searches the new network."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from blankcheck.auditing import Twin
from blankcheck.auditing.third_party import ThirdPartyAttack
from blankcheck.certifying import Penalty, Ramp
from blankcheck.classifiers import UnitClassifier
from blankcheck.classifiers.wrapper import devices_of
from blankcheck.data import Data
from blankcheck.errors import ArgumentError, ModelError
from blankcheck.fooling.starts import Real
from blankcheck.hardening.context import SourceContext
from blankcheck.hardening.evaluator import Evaluation, Evaluator
from blankcheck.hardening.exploring import Explorer
from blankcheck.hardening.history import Kept, Record, Round, harmonic, plateau, takes_over
from blankcheck.hardening.metric_sums import Trained
from blankcheck.hardening.plan import HardeningPlan
from blankcheck.hardening.sources import NoImages, source_of
from blankcheck.hardening.trainer import Trainer, Watch
from blankcheck.judging import FILTER, OODTest
from blankcheck.judging.check_rules import MIN_REAL_CONFIDENT
from blankcheck.parallel.peers import ALONE, Peers
from blankcheck.seeds import own_random_numbers, seed_of
from blankcheck.types import Conditions, default_max_lit

SAMPLE, FULL = 500, 5000
"""Most images of a set shown to later networks, when a sample is logged and when all is."""
FULL_ATTEMPTS = 4
"""So many times as many searches where everything is logged."""
SETTLED = 2
"""Rounds without a gain in confidence on real images after which there is none to wait for."""
STARTS_FROM = 1000
"""Real images that the starts of a round are made of."""


class Hardening:
    """Hardens a network in place, round by round. Its whole state can be taken and put back between
    rounds. After the last one, `kept` has the network to use, and `records` what `docs/metrics.md`
    lists.

    Args:
        classifier: the network; its outputs fit the plan's objective.
        data: real images.
        plan: every choice.
        conditions: of a fooling image; default those of an audit.
        seed: of everything random.
        twin: makes a plain network trained on half B, whose fooling images are shown to every
            network of the hardening; or gives None.
        rivals: attacks of other libraries to be logged as well.
        peers: processes that train together and share the searches; all get the same rounds.
    """

    def __init__(
        self,
        classifier: UnitClassifier,
        data: Data,
        plan: HardeningPlan,
        conditions: Conditions | None = None,
        seed: int = 0,
        twin: Callable[[], Twin | None] = lambda: None,
        rivals: Sequence[ThirdPartyAttack] = (),
        peers: Peers = ALONE,
    ) -> None:
        self.classifier, self.data, self.plan, self.seed = classifier, data, plan, seed
        self.peers, classes = peers, len(data.classes)
        want = self.conditions = conditions or Conditions(max_lit=default_max_lit(data.shape))
        # half A only: the audit's judge is fitted on half B
        filter_ = OODTest.fit(
            data.halves[0].images, want.ood_level, most=plan.gate_images, scores=FILTER
        )
        self.train = data.halves[0] if plan.hold_out_twin else data.train
        generator = torch.Generator().manual_seed(seed)
        # what all processes draw alike; one process has one stream for everything
        self.common = generator if peers.size == 1 else torch.Generator().manual_seed(seed)
        if peers.size > 1:
            generator.manual_seed(self._own_seed(-1))
        self.context = SourceContext(
            *(classifier, classes, data.shape, want, plan, filter_, generator),
            real=self._some_real(),
            targets=torch.tensor(data.targets),
            peers=peers,
        )
        self.trainer = Trainer(self.context, self.train, self.common, self._penalty())
        self.source = source_of(self.context)
        full = plan.evaluate == "full"
        self.most, attempts = FULL if full else SAMPLE, FULL_ATTEMPTS if full else 1
        explorer = Explorer(
            *(data.shape, classes, want, filter_),
            (data.validation.images, data.validation.labels),
            plan.fresh_steps,
            plan.fresh_attempts * attempts,
            data.targets,
            rivals,
            peers.spread,
        )
        self.evaluator = Evaluator(classifier, plan, explorer, data.validation, twin)
        self.next_round, self.ending, self.done = 0, False, False
        self.history: list[Round] = []
        self.records: list[Record] = []
        self.kept: Kept | None = None

    def _penalty(self) -> Penalty | None:
        """On what is not proved yet. Raises ModelError for a network that cannot be certified."""
        k, confidence = self.plan.certify, self.conditions.confidence
        if k is None:
            return None
        ramp = Ramp(k, confidence=confidence, weight=self.plan.certify_weight)
        return Penalty(self.classifier, self.data.shape, len(self.data.classes), ramp)

    def rounds(self, watch: Watch = lambda batch, batches_, words: None) -> Iterator[Round]:
        """The rounds that are left."""
        while not self.done:
            began = time.monotonic()
            # the stream of a round is its own, so that going on after a stop equals not stopping
            self.common.manual_seed(self._seed_of("round"))
            if self.peers.size > 1:
                self.context.generator.manual_seed(self._own_seed(self.next_round))
            epochs, told = self._train(watch)
            trained = time.monotonic()
            last = self.ending or self.next_round + 1 >= self.plan.rounds
            with self.trainer.averaged():
                looked = self.evaluator.look(told, self._spares, self._seed_of)
                kept = self._keep(looked)
            self.records += [{**record, "round": self.next_round} for record in looked.records]
            passes = sum(self.peers.all_gather(self.context.passes))
            made = looked.as_round(self.next_round, epochs, told, kept, passes)
            took = trained - began, time.monotonic() - trained
            made = replace(made, training_seconds=took[0], looking_seconds=took[1])
            if last:
                self.done = True
            else:
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
        """Each process decides what to keep and when to end, from numbers that are all the same."""
        told = self.peers.all_gather((made, self.ending, self.done))
        if any(one != told[0] for one in told):
            must = "a network trained by several must answer all alike"
            raise ModelError(f"processes do not agree about a round; {must}")

    def _train(self, watch: Watch) -> tuple[int, Trained]:
        plan, context, index = self.plan, self.context, self.next_round
        context.real, context.anneal, context.passes = self._some_real(), plan.anneal**index, 0
        dropout = self.peers.own_seed(self._seed_of("dropout"))
        pretrain = plan.pretrain if index == 0 else 0
        with own_random_numbers(dropout, devices_of(self.classifier)):
            if pretrain:
                means = self.trainer.train(pretrain, NoImages(), 0, watch).real.means()
                said = {"kind": "training", "what": "pretraining", **means, "round": 0}
                self.records.append(said)
            if pretrain and plan.eased:
                self.trainer.ease(self.evaluator.unsure())
            epochs = plan.epochs_of(plan.rounds - 1 if self.ending else index)
            if self.ending:
                self.trainer.skip_to_last(epochs)
            self.source.begin_round(context)
            if plan.network == "fresh" and index > 0:
                self.trainer.start_again(epochs)
            self.trainer.begin_average()
            told = self.trainer.train(epochs, self.source, self.most, watch)
        return epochs + pretrain, told

    def _some_real(self) -> Real:
        """Real images for starts, drawn at random."""
        index = torch.randperm(len(self.train), generator=self.common)[:STARTS_FROM]
        real = self.train.take(index)
        return real.images, real.labels

    def _keep(self, looked: Evaluation) -> bool:
        """Compare with the network kept so far, which is shown the new sets first."""
        state, asked, kept = self.classifier.state_dict(), self.trainer.asked, self.kept
        now = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
        real, confident = looked.real["accuracy"], looked.real["confident"]
        # what less was asked of is no rival: it may be underconfident, or have proved little
        if kept is not None and asked == kept.asked:
            self.classifier.load_state_dict(kept.network)
            new = [self.evaluator.trained[-1], self.evaluator.fresh[-1]]
            kept.handled += self.evaluator.handled(new)
            self.classifier.load_state_dict(now)
            score, surer = harmonic(real, looked.handled), confident - kept.confident
            more = (looked.proved or 0) - (kept.proved or 0)
            if not takes_over(score, kept.score, surer, more):
                return False
        measured = real, confident, looked.handled, looked.proved
        self.kept = Kept(now, self.next_round, *measured, asked)
        return True

    def _settled(self, confident: float) -> bool:
        """Whether a network that is right and sure of so many validation images is one to stay at:
        resisting is half of it, and one sure of little, or still getting surer, goes on."""
        sure = [*(r.validation_confident for r in self.history), confident]
        return confident >= MIN_REAL_CONFIDENT and plateau(sure, SETTLED)

    def _spares(self, confident: float) -> bool:
        """Whether a search that finds nothing would spare a round. After early success one more
        follows, so that with one left anyway there is none to spare."""
        left = self.plan.rounds - self.next_round - 1
        return not self.ending and left > 1 and self._settled(confident)

    def _plan_ahead(self, made: Round) -> None:
        """After early success one more round follows, to let the learning rate fall."""
        plan, rounds = self.plan, [*self.history, made]
        settled = self._settled(made.validation_confident)
        proved = plan.certify is None or (made.proved is not None and made.proved >= plan.certify)
        enough = made.fresh_upper_95 <= plan.stop_rate and settled and proved
        self.ending = enough or plateau([r.harmonic for r in rounds], plan.patience)
        self.done = self.ending and plan.network == "fresh"

    def state(self) -> dict[str, Any]:
        """Tensors and plain numbers only, so that `torch.load(weights_only=True)` reads it back.

        Every process must ask for it: what is in it of all processes is what each of them holds.
        """
        return {
            "plan": asdict(self.plan),
            "trainer": self.trainer.state(),
            "sources": self.peers.all_gather(self.source.state()),
            "evaluator": self.evaluator.state(),
            "progress": [self.next_round, self.ending, self.done],
            "history": [asdict(r) for r in self.history],
            "kept": None if self.kept is None else vars(self.kept),
        }

    def load_state(self, state: dict[str, Any], records: Sequence[Record] = ()) -> None:
        """Go on from a state taken between two rounds, by as many processes or others.

        Args:
            state: what `state` gave.
            records: those of the rounds before.

        Raises:
            ArgumentError: it was taken under another plan; says the differences.
        """
        plan, before = asdict(self.plan), state["plan"]
        names = [name for name, was in before.items() if was != plan.get(name)]
        differ = [f"{name} was {before[name]!r}, is {plan.get(name)!r}" for name in names]
        if differ:
            words = f"a hardening goes on only under the plan it began with: {'; '.join(differ)}"
            raise ArgumentError(words)
        self.trainer.load(state["trainer"])
        self.source.load(state["sources"], self.peers)
        self.evaluator.load(state["evaluator"])
        self.next_round, self.ending, self.done = state["progress"]
        self.history = [Round(**r) for r in state["history"]]
        self.kept = None if state["kept"] is None else Kept(**state["kept"])
        self.records = [r for r in records if r.get("round", -1) < self.next_round]
