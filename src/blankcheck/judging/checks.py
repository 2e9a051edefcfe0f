"""Tests of the search's strength: evidence in, findings out. Each says in one sentence what it saw and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from blankcheck.judging.evidence import Control, Evidence

PASSED, FAILED, NOT_APPLICABLE = "passed", "failed", "not-applicable"
MIN_REAL_CONFIDENT = 0.9
MIN_CONTROL_RATE = 0.95


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
    """One check. `look` returns (status, sentence)."""

    code: str
    title: str
    what_to_do: str
    mandatory: bool
    look: Callable[[Evidence, Control | None], tuple[str, str]]

    def run(self, evidence: Evidence) -> Finding:
        """The finding for this evidence."""
        control = next((c for c in evidence.controls if c.code == self.code), None)
        status, sentence = self.look(evidence, control)
        return Finding(self.code, self.title, status, sentence, self.what_to_do, self.mandatory)


def _controlled(
    look: Callable[[Evidence, Control], tuple[str, str]],
) -> Callable[[Evidence, Control | None], tuple[str, str]]:
    """Not applicable where the control did not run; else what `look` says."""

    def run(evidence: Evidence, control: Control | None) -> tuple[str, str]:
        if control is None:
            return NOT_APPLICABLE, "Not applicable, because the control was not run."
        if control.why_not:
            return NOT_APPLICABLE, f"Not applicable, because {control.why_not}."
        return look(evidence, control)

    return run


def _real_confident(evidence: Evidence, control: Control | None) -> tuple[str, str]:
    share, confidence = evidence.real.confident, evidence.conditions.confidence
    sentence = f"{share:.1%} of real test images are right with confidence >= {confidence:g}"
    if share >= MIN_REAL_CONFIDENT:
        return PASSED, f"{sentence}."
    return FAILED, f"{sentence}, under {MIN_REAL_CONFIDENT:.0%}: being timid is not being robust."


@_controlled
def _positive_control(evidence: Evidence, control: Control) -> tuple[str, str]:
    sentence = f"The same search fools {control.found} of {control.tries} attempts on {control.detail}"
    good = control.tries > 0 and control.found / control.tries >= MIN_CONTROL_RATE
    return (PASSED, f"{sentence}.") if good else (FAILED, f"{sentence}; it should fool 95 %.")


@_controlled
def _finds_no_more(evidence: Evidence, control: Control) -> tuple[str, str]:
    sentence = f"{control.detail}: {control.found} of {control.tries} attempts that had failed were fooled"
    return (PASSED, f"{sentence}.") if control.found == 0 else (FAILED, f"{sentence}.")


@_controlled
def _gradient_health(evidence: Evidence, control: Control) -> tuple[str, str]:
    sentence = f"{control.found} of {control.tries} kinds of start have finite, non-zero gradients ({control.detail})"
    return (PASSED, f"{sentence}.") if control.found >= min(3, control.tries) else (FAILED, f"{sentence}.")


@_controlled
def _repeatable(evidence: Evidence, control: Control) -> tuple[str, str]:
    if control.found == 0:
        return PASSED, f"Scoring the same {control.tries} images again gave the same answers ({control.detail})."
    return FAILED, f"{control.found} of {control.tries} images got other answers when scored again ({control.detail})."


CHECKS: tuple[Check, ...] = (
    Check("real-confident", "Sure about real images", "Audit a network that is confident on its own data, or lower "
          "--confidence.", True, _real_confident),
    Check("positive-control", "Fools a plain twin", "The search is too weak here: use --preset proof.", True,
          _positive_control),
    Check("more-steps", "Ten times the steps find no more", "Use --preset proof.", True, _finds_no_more),
    Check("more-starts", "Other kinds of start find no more", "Use --preset proof.", False, _finds_no_more),
    Check("gradient-health", "Gradients carry information", "The network hides its gradients: remove rounding, "
          "thresholds or saturation, or judge by gradient-free search.", True, _gradient_health),
    Check("repeatable", "Same image, same answer", "Switch off dropout and added noise, and audit the network that "
          "answers for itself.", False, _repeatable),
)  # fmt: skip


def run_checks(evidence: Evidence) -> tuple[Finding, ...]:
    """All findings, failing ones first, then not applicable, then passed."""
    order = {FAILED: 0, NOT_APPLICABLE: 1, PASSED: 2}
    return tuple(sorted((check.run(evidence) for check in CHECKS), key=lambda f: order[f.status]))
