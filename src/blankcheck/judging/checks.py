"""Tests of the search's strength: evidence in, findings out. Each says in one sentence what it saw and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blankcheck.judging import check_rules as rules
from blankcheck.judging.check_rules import FAILED, NOT_APPLICABLE, PASSED
from blankcheck.judging.evidence import Control, Evidence


@dataclass(frozen=True)
class Finding:
    """The result of one check. status: `passed`, `failed` or `not-applicable`. mandatory: RESISTED needs it passed."""

    code: str
    title: str
    status: str
    finding: str
    what_to_do: str
    mandatory: bool


@dataclass(frozen=True)
class Check:
    """One check. `look` returns (status, sentence); its control is the experiment of the same code, None without one."""

    code: str
    title: str
    what_to_do: str
    look: Callable[[Evidence, Control | None], tuple[str, str]]
    mandatory: bool = False

    def run(self, evidence: Evidence) -> Finding:
        """The finding for this evidence."""
        control = next((c for c in evidence.controls if c.code == self.code), None)
        status, sentence = self.look(evidence, control)
        return Finding(self.code, self.title, status, sentence, self.what_to_do, self.mandatory)


HARDER = "The search is not at its limit here: use --preset proof, and read the images it finds."
ITSELF = "Switch off dropout, added noise and ensembles, and audit the network that answers for itself."
HIDDEN = "The network hides its gradients: remove rounding, thresholds and saturation, or audit the network underneath."

CHECKS: tuple[Check, ...] = (
    Check("real-confident", "Sure about real images",
          "Audit a network that is confident on its own data, or lower --confidence.", rules.real_confident, True),
    Check("positive-control", "Fools a plain twin",
          "The search is too weak for this data: use --preset proof.", rules.positive_control, True),
    Check("planted-control", "Finds what was planted in this network",
          "The search is too weak for this network: use --preset proof.", rules.planted_control, True),
    Check("more-steps", "Ten times the steps find no more", HARDER, rules.finds_no_more, True),
    Check("gradient-health", "Gradients carry information", HIDDEN, rules.gradient_health, True),
    Check("more-restarts", "More restarts find no more", HARDER, rules.finds_no_more),
    Check("more-starts", "Other kinds of start find no more", HARDER, rules.finds_no_more),
    Check("penalty-weights", "Other penalty weights find no more", HARDER, rules.finds_no_more),
    Check("tighter-limit", "A tighter limit finds no more",
          "A search for sparser images should not find more: use --preset proof.", rules.finds_no_more),
    Check("close-calls", "Going on where attempts came close finds no more", HARDER, rules.finds_no_more),
    Check("gradient-free", "Searches without gradients find no more", HIDDEN, rules.finds_no_more),
    Check("transfer", "Images made against a twin fool no more", HIDDEN, rules.finds_no_more),
    Check("unbounded", "Without a limit every image reaches its target",
          "The search cannot move this network at all: look at gradient-health first.", rules.unbounded),
    Check("repeatable", "Same image, same answer", ITSELF, rules.same_answers),
    Check("batch-independent", "Neighbours in the batch do not matter",
          "Use the statistics of training, not of the batch: set batch norm to evaluation mode.", rules.same_answers),
    Check("best-kept", "What was found is what is there", ITSELF, rules.best_kept),
    Check("saturation", "No probability is exactly 0 or 1",
          "Hand out logits instead of probabilities.", rules.saturation),
    Check("rivals", "Other libraries' attacks find no more", HARDER, rules.finds_no_more),
)  # fmt: skip


def run_checks(evidence: Evidence) -> tuple[Finding, ...]:
    """All findings, failing ones first, then not applicable, then passed."""
    order = {FAILED: 0, NOT_APPLICABLE: 1, PASSED: 2}
    return tuple(sorted((check.run(evidence) for check in CHECKS), key=lambda f: order[f.status]))
