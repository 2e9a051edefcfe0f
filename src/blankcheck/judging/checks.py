"""Tests of the search's strength: evidence in, findings out.

Each says in one sentence what it saw and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass

from blankcheck.judging import check_rules as rules
from blankcheck.judging.check_rules import FAILED, NOT_APPLICABLE, PASSED, Look
from blankcheck.judging.evidence import Evidence

REAL_CONFIDENT, FALSE_ALARMS = "real-confident", "false-alarms"
HARDER = "The search is not at its limit here: use --preset proof, and read the images it finds."
ITSELF = (
    "Switch off dropout, added noise and ensembles, and audit the network that answers for itself."
)
HIDDEN = (
    "The network hides its gradients: remove rounding, thresholds and saturation, or audit the "
    "network underneath."
)


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Args:
        code: of the check.
        title: of the check.
        status: `passed`, `failed` or `not-applicable`.
        finding: what it saw, in a sentence.
        what_to_do: where it failed.
        mandatory: whether RESISTED needs it passed.
        means: what the check shows, whatever it found.
    """

    code: str
    title: str
    status: str
    finding: str
    what_to_do: str
    mandatory: bool
    means: str = ""


@dataclass(frozen=True)
class Check:
    """One check; the fields are those of its finding.

    look: from the evidence and the control of the same code, if any, to (status, sentence).
    """

    code: str
    title: str
    means: str
    what_to_do: str = HARDER
    look: Look = rules.finds_no_more
    mandatory: bool = False

    def run(self, evidence: Evidence) -> Finding:
        """The finding for this evidence."""
        control = next((c for c in evidence.controls if c.code == self.code), None)
        status, finding = self.look(evidence, control)
        told = self.what_to_do, self.mandatory, self.means
        return Finding(self.code, self.title, status, finding, *told)


CHECKS: tuple[Check, ...] = (
    Check(
        REAL_CONFIDENT,
        "Sure about real images",
        "A network that is never sure resists everything and helps nobody.",
        "Audit a network that is about as sure of its own data as a plain one, or lower "
        "--confidence.",
        rules.real_confident,
        True,
    ),
    Check(
        FALSE_ALARMS,
        "Knows real images when it sees them",
        "The third condition means something only where few real images meet it, as real test "
        "images show.",
        "Look at the data: test images that are drawn otherwise than training images, or many that "
        "are nearly equal.",
        rules.false_alarms,
        True,
    ),
    Check(
        "positive-control",
        "Fools a plain twin",
        "A plainly trained network of the same kind is known to be foolable: a search that fails "
        "there, too, is weak.",
        "The search is too weak for this data: use --preset proof.",
        rules.positive_control,
        True,
    ),
    Check(
        "planted-control",
        "Finds what was planted in this network",
        "Patterns are hidden in a copy of this very network: a search that misses them may have "
        "missed others.",
        "The search is too weak for this network: use --preset proof.",
        rules.planted_control,
        True,
    ),
    Check(
        "more-steps",
        "Ten times the steps find no more",
        "If a longer search finds more, its budget was the limit and not the network.",
        mandatory=True,
    ),
    Check(
        "gradient-health",
        "Gradients carry information",
        "The search follows gradients: where they are missing or wrong, a search that fails says "
        "nothing.",
        HIDDEN,
        rules.gradient_health,
        True,
    ),
    Check(
        "more-restarts",
        "More restarts find no more",
        "If fresh random draws find more, too few were tried.",
    ),
    Check(
        "more-starts",
        "Other kinds of start find no more",
        "If other first images lead further, the search began in the wrong places.",
    ),
    Check(
        "penalty-weights",
        "Other penalty weights find no more",
        "No single weight of the penalty on lit features suits every network, so a range of them "
        "is tried.",
    ),
    Check(
        "tighter-limit",
        "A tighter limit finds no more",
        "What is found under a tighter limit was there to be found under the wider one.",
        "A search for sparser images should not find more: use --preset proof.",
    ),
    Check(
        "close-calls",
        "Going on where attempts came close finds no more",
        "The images that came closest are the best places to go on from; even there nothing may be "
        "found.",
    ),
    Check(
        "gradient-free",
        "Searches without gradients find no more",
        "Gradients can hide what is there; searches that only ask for answers do not need them.",
        HIDDEN,
    ),
    Check(
        "structured",
        "Structured images find no more",
        "A network may be sure of bars, frames, stripes or dots of one grey, to which no gradient "
        "leads; so thousands of them are shown to it.",
        "Look at the images: the network takes a simple structure for a class.",
    ),
    Check(
        "transfer",
        "Images made against a twin fool no more",
        "If images made on another network fool this one, its own gradients hide the way to them.",
        HIDDEN,
    ),
    Check(
        "unbounded",
        "Without a limit every image reaches its target",
        "With as many lit features as it takes, every class can be reached, unless the search "
        "cannot move this network.",
        "The search cannot move this network at all: look at gradient-health first.",
        rules.unbounded,
    ),
    Check(
        "repeatable",
        "Same image, same answer",
        "A network that answers at random misleads the search, and lucky images look like "
        "witnesses.",
        ITSELF,
        rules.same_answers,
    ),
    Check(
        "batch-independent",
        "Neighbours in the batch do not matter",
        "An answer must belong to its image: searches score images in batches, users one by one.",
        "Use the statistics of training, not of the batch: set batch norm to evaluation mode.",
        rules.same_answers,
    ),
    Check(
        "watched",
        "Watched or not, the same answers",
        "An audit asks in a way of its own, and what a network does in use must not depend on how "
        "it is asked.",
        "Take whatever looks at gradients, modes, precision, values or counts of calls out of its "
        "forward.",
        rules.watched,
    ),
    Check(
        "best-kept",
        "What was found is what is there",
        "The best image on the way is what an attempt hands back; scored again, it must be as "
        "good.",
        ITSELF,
        rules.best_kept,
    ),
    Check(
        "saturation",
        "No probability is exactly 0 or 1",
        "Where a probability is exactly 0 or 1 nothing is left to follow.",
        "Hand out logits instead of probabilities.",
        rules.saturation,
    ),
    Check(
        "rivals",
        "Other libraries' attacks find no more",
        "Attacks that others wrote have other blind spots.",
    ),
)


def run_checks(evidence: Evidence) -> tuple[Finding, ...]:
    """All findings, failing ones first, then not applicable, then passed."""
    order = (FAILED, NOT_APPLICABLE, PASSED)
    return tuple(
        sorted((check.run(evidence) for check in CHECKS), key=lambda f: order.index(f.status))
    )
